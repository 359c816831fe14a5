"""Tokenizers: the ids llama.cpp gives from our file are those of the tokenizer in the folder."""

from __future__ import annotations

import json
import shutil

import pytest
from split_patterns import DEEPSEEK_V3, GPT4O, LLAMA3, QWEN2, QWEN35, TEKKEN
from vocab_runtime import runtime

import converters
from converters.errors import ConvertError, DoesNotFit, Unsupported
from converters.pretokenizer import NOTES, recognise
from converters.pretokenizer_names import PRE_NAMES
from converters.tokenizer_json import parse_tokenizer_json
from converters.vocab import read_chat_template, read_chat_templates, read_vocabulary

MARKS = "Привет мир Ελληνικά עברית العربية हिन्दी ไทย"
HARD = [
    MARKS,
    "Hello, world!",
    " leading and trailing ",
    "  two  spaces   three    four     ",
    "tabs\tand\nnewlines\n\n\n and \r\n",
    "1 12 123 1234 12345 3.14159e-10 1,000,000",
    "don't DON'T we'll WE'LL I'm I'M they've 's 'S",
    "snake_case camelCase SCREAMING kebab-case x=y+z; /* c */ // d",
    "Größe naïve façade Ångström ñandú œuvre",
    "你好，世界！今天天气不错。 中文 English 混合 123",
    "こんにちは カタカナ 한국어 조선말",
    "👋🏽 👨‍👩‍👧‍👦 🇪🇺 ❤️ ✅",
    "full　width １２３ ａｂｃ ½ ² ³ Ⅷ",
    "<|im_start|>user\nhi<|im_end|>\n",
    "\u00a0nbsp \u200b zero \ufeff bom \u3000",
    "!!! ??? ... --- *** ### $$$ %%% ^^^ &&& ((( )))",
    "",
]
FAMILIES = {
    "smollm": ["digits", "bytes+words"],
    "gpt-2": ["bytes+words"],
    "llama-bpe": [LLAMA3, "bytes"],
    "smaug-bpe": [LLAMA3, "bytes"],
    "qwen2": [QWEN2, "bytes"],
    "qwen35": [QWEN35, "bytes"],
    "gpt-4o": [GPT4O, "bytes"],
    "tekken": [TEKKEN, "bytes"],
    "deepseek-v3": [*DEEPSEEK_V3, "bytes"],
}


def train(name, folder, corpus=HARD):
    """A byte-level BPE tokenizer.json of one family's structure, over the hard strings."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=name in ("llama-bpe", "tekken")))
    steps = []
    for step in FAMILIES[name]:
        if step.startswith("bytes"):
            words = step == "bytes+words"
            steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words))
        elif step == "digits":
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        else:
            steps.append(pre_tokenizers.Split(Regex(step), behavior="isolated"))
    if name.startswith("qwen"):
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*corpus, *corpus, "12 123 1234 12 123"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer


@pytest.fixture
def folder(make_base, tmp_path):
    """A model folder with 700 embedding rows whose tokenizer the test replaces."""
    base = make_base(vocab_size=700, hidden_size=32)
    return shutil.copytree(base, tmp_path / "base")


@pytest.mark.oracle
@pytest.mark.parametrize("name", FAMILIES)
def test_llama_cpp_tokenizes_like_tokenizers(name, folder, judge, tmp_path):
    tokenizer = train(name, folder)
    converters.write_model(folder, tmp_path / "m.gguf", outtype="F32")
    assert converters.read_gguf(tmp_path / "m.gguf").values["tokenizer.ggml.pre"] == name
    runtime = judge.runtime(tmp_path / "m.gguf")
    for text in [text for text in HARD if name not in NOTES or text != MARKS]:
        assert runtime.tokenize(text) == tokenizer.encode(text).ids, text


@pytest.mark.oracle
@pytest.mark.parametrize("source", ["tokenizer.model", "tokenizer.json"])
def test_sentencepiece(source, folder, judge, tmp_path):
    """The model itself, and the BPE-with-byte-fallback form that transformers makes of it."""
    model = _train_sentencepiece(folder)
    if source == "tokenizer.json":
        _as_byte_fallback_json(model, folder)
        (folder / "tokenizer.model").unlink()
    converters.write_model(folder, tmp_path / "m.gguf", outtype="F32")
    values = converters.read_gguf(tmp_path / "m.gguf").values
    assert values["tokenizer.ggml.model"] == "llama"
    assert values["tokenizer.ggml.tokens"][:3] == ["<unk>", "<s>", "</s>"]
    assert values["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    runtime = judge.runtime(tmp_path / "m.gguf")
    for text in [text for text in HARD if "<|" not in text]:
        assert runtime.tokenize(text) == model.encode(text), text


def _train_sentencepiece(folder):
    import sentencepiece

    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(line for text in HARD * 3 for line in text.splitlines()))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=600,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.98,
        minloglevel=2,
    )
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def _as_byte_fallback_json(model, folder):
    """vocabulary and merges as transformers' SentencePiece conversion derives them."""
    pieces = [model.id_to_piece(i) for i in range(model.vocab_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for i, piece in enumerate(pieces):
        splits = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        known = [s for s in splits if s[0] in vocab and s[1] in vocab]
        merges += [(-model.get_score(i), vocab[a], vocab[b], [a, b]) for a, b in known]
    tokenizer = {
        "added_tokens": [
            {"id": i, "content": pieces[i], "special": True, "normalized": False} for i in range(3)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": vocab,
            "merges": [merge[-1] for merge in sorted(merges)],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
END = {"vocab_size": 700, "eos_token_id": 2}


def byte_fallback(texts, merges, **parts):
    """The content of a tokenizer.json whose vocabulary is the bytes and then these texts."""
    vocab = {text: i for i, text in enumerate([*BYTES, *texts])}
    return {"model": {"vocab": vocab, "byte_fallback": True, "merges": merges}, **parts}


@pytest.mark.parametrize(
    ("texts", "merges"),
    [
        (["a", "b", "ab", "ba", "aba"], ["a b", "ab a", "b a", "a ba"]),
        (["a", "b", "c", "ab", "bc", "abc"], ["b c", "a b", "ab c"]),  # a + bc is none
    ],
)
def test_merges_that_cannot_be_scores(texts, merges, folder):
    (folder / "tokenizer.json").write_text(json.dumps(byte_fallback(texts, merges)))
    with pytest.raises(Unsupported, match="cannot be written as scores"):
        read_vocabulary(folder, END)


def test_byte_fallback_needs_its_bytes(folder):
    content = byte_fallback(["a"], [])
    del content["model"]["vocab"]["<0x41>"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(Unsupported, match="bytes") as caught:
        read_vocabulary(folder, END)
    assert "<0x41>" in caught.value.why


def test_runs_of_spaces_share_a_score(folder):
    """As in Llama's own tokenizer.json, where the merges of the runs are interleaved."""
    runs = ["▁" * n for n in range(1, 5)]
    merges = ["▁ a", "▁ ▁", "▁▁ ▁▁", "▁▁ ▁", "▁ ▁▁", "▁▁▁ ▁", "▁ ▁▁▁"]
    content = byte_fallback([*runs, "a", "▁a"], merges)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    scores = read_vocabulary(folder, END).tokens.scores[256:]
    assert scores[2] == scores[3] < scores[1] < scores[5] == 0


def test_types_padding_and_merges(folder):
    train("smollm", folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab = tokenizer["model"]["vocab"]
    n = len(vocab)
    vocab.update({"a ": n, " b": n + 1, "a  b": n + 2, f"[PAD{n + 7}]": n + 3})
    tokenizer["model"]["merges"][:0] = [["a ", " b"]]
    tokenizer["added_tokens"] += [
        {"id": n + 4 + i, "content": text, "special": False, "normalized": False}
        for i, text in enumerate(("<tool>", "<|looks|>", "▁▁"))
    ]
    path.write_text(json.dumps(tokenizer))
    tokens = read_vocabulary(folder, {"vocab_size": 720}).tokens
    assert len(tokens.texts) == len(tokens.types) == 720
    pads = [f"[[PAD{n + 7}]]", f"[PAD{n + 8}]"]
    assert tokens.texts[n + 4 : n + 9] == ["<tool>", "<|looks|>", "▁▁", *pads]
    assert tokens.types[n + 3 : n + 9] == [1, 4, 3, 4, 5, 5]
    assert (tokens.texts[1], tokens.types[1]) == ("<|im_start|>", 3)
    assert tokens.types[10] == 1
    assert tokens.merges[0] == "aĠ Ġb"
    assert tokens.merges[1] == " ".join(tokenizer["model"]["merges"][1])


BOS = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
EOS = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}


def test_pre_tokenizer_names_follow_the_structure(tmp_path):
    for name in FAMILIES:
        train(name, tmp_path)
        tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
        assert recognise(parse_tokenizer_json(tokenizer)).name == name
        tokenizer["post_processor"] = {"type": "TemplateProcessing", "single": [BOS, TEXT]}
        found = recognise(parse_tokenizer_json(tokenizer))
        assert found.name == name  # a hash of ids would not know it any more


def test_rewritten_smollm_is_still_smollm(tmp_path):
    """transformers drops the digit split when it rebuilds the tokenizer from a GGUF file."""
    train("smollm", tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = tokenizer["pre_tokenizer"]["pretokenizers"][1]
    assert recognise(parse_tokenizer_json(tokenizer)).name == "smollm"


def test_unknown_pre_tokenizer_needs_a_name(folder):
    train("smollm", folder)
    path = folder / "tokenizer.json"
    strange = {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": strange}))
    with pytest.raises(Unsupported, match="x\\+") as caught:
        read_vocabulary(folder, {"vocab_size": 700})
    assert "--pre" in caught.value.fix
    assert read_vocabulary(folder, {"vocab_size": 700}, pre="qwen2").tokens.pre == "qwen2"
    with pytest.raises(ConvertError, match="quen2") as caught:
        read_vocabulary(folder, {"vocab_size": 700}, pre="quen2")
    assert "--pre qwen2" in caught.value.fix


@pytest.mark.oracle
def test_llama_cpp_loads_every_name(folder, tmp_path):
    """Each name that --pre takes is one that the runtime of the tests knows."""
    train("smollm", folder)
    for name in PRE_NAMES:
        vocabulary = read_vocabulary(folder, {"vocab_size": 700}, pre=name)
        assert runtime(vocabulary, tmp_path / "m.gguf").tokenize("a")


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
        {"pre_tokenizer": {"type": "Digits", "individual_digits": False}},
        {"pre_tokenizer": None},
    ],
)
def test_near_misses_are_not_recognised(change, folder):
    train("gpt-2", folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    with pytest.raises(Unsupported, match="pre-tokenizer"):
        recognise(parse_tokenizer_json(tokenizer | change))


def test_chat_templates(folder):
    settings = folder / "tokenizer_config.json"
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    settings.write_text(json.dumps({"chat_template": named, "eos_token": "<|im_end|>"}))
    assert read_chat_templates(folder) == {"rag": "r", "default": "d"}
    keys = {pair.key: pair.value for pair in read_vocabulary(folder, END).pairs()}
    assert keys["tokenizer.chat_template"] == "d"
    assert keys["tokenizer.chat_template.rag"] == "r"
    assert keys["tokenizer.chat_templates"] == ["rag"]
    only = read_vocabulary(folder, END, chat_template="mine")
    assert (only.chat_template, only.named_templates) == ("mine", {})
    (folder / "chat_template.jinja").write_text("file")
    assert read_chat_template(folder) == "file"


def test_folders_without_a_usable_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConvertError, match="no tokenizer"):
        read_vocabulary(folder, {"vocab_size": 700})
    (folder / "tekken.json").write_text("{}")
    with pytest.raises(ConvertError, match=r"tekken\.json alone"):
        read_vocabulary(folder, {"vocab_size": 700})
    (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram", "vocab": []}}')
    with pytest.raises(ConvertError, match="not BPE"):
        read_vocabulary(folder, {"vocab_size": 700})
    train("smollm", folder)
    with pytest.raises(DoesNotFit, match="more tokens"):
        read_vocabulary(folder, {"vocab_size": 300})
