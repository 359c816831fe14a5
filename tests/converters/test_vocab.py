"""Tokenizers: the ids llama.cpp gives from our file are those of the tokenizer in the folder."""

from __future__ import annotations

import json
import shutil

import pytest

import converters
from converters.errors import ConvertError, DoesNotFit, Unsupported
from converters.pretokenizer import NOTES, recognise
from converters.vocab import read_chat_template, read_vocabulary

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
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + TAIL
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + TAIL
QWEN35 = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
    rf"|\p{{N}}|{CASED_TAIL}"
)
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}|{CASED_TAIL}"
)
DEEPSEEK_V3 = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
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
@pytest.mark.parametrize("name", NOTES)
def test_known_difference_of_the_runtime_is_reported(name, folder, judge, tmp_path):
    """If this fails because the ids agree, llama.cpp has learnt it and the note can go."""
    tokenizer = train(name, folder)
    written = converters.write_model(folder, tmp_path / "m.gguf", outtype="F32")
    assert any("combining marks" in note for note in written.notes)
    ids = judge.runtime(tmp_path / "m.gguf").tokenize(MARKS)
    assert ids != tokenizer.encode(MARKS).ids


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


def test_interleaved_merges_cannot_be_scores(folder):
    model = {
        "vocab": {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4},
        "byte_fallback": True,
        "merges": ["a b", "ab a", "b a", "a ba"],
    }
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}))
    with pytest.raises(Unsupported, match="cannot be written as scores"):
        read_vocabulary(folder, {"vocab_size": 700})


def test_runs_of_spaces_share_a_score(folder):
    """As in Llama's own tokenizer.json, where the merges of the runs are interleaved."""
    runs = ["▁" * n for n in range(1, 5)]
    model = {
        "vocab": {text: i for i, text in enumerate([*runs, "a", "▁a"])},
        "byte_fallback": True,
        "merges": ["▁ a", "▁ ▁", "▁▁ ▁▁", "▁▁ ▁", "▁ ▁▁", "▁▁▁ ▁", "▁ ▁▁▁"],
    }
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}))
    scores = read_vocabulary(folder, {"vocab_size": 700}).tokens.scores
    assert scores[2] == scores[3] < scores[1] < scores[5] == 0


PREPEND = {"type": "Prepend", "prepend": "▁"}
METASPACE = {"type": "Metaspace", "replacement": "▁", "split": False}


@pytest.mark.parametrize(
    ("parts", "settings", "prefix", "noted"),
    [
        ({"normalizer": PREPEND}, {}, True, False),
        ({"normalizer": PREPEND}, {"add_prefix_space": None}, True, False),
        ({"normalizer": PREPEND}, {"add_prefix_space": False}, False, False),
        ({"pre_tokenizer": {**METASPACE, "prepend_scheme": "first"}}, {}, True, True),
        ({"pre_tokenizer": {**METASPACE, "prepend_scheme": "never"}}, {}, False, False),
        ({}, {}, False, False),
    ],
)
def test_leading_space_of_byte_fallback_tokenizers(parts, settings, prefix, noted, folder):
    model = {"vocab": {"a": 0, "b": 1, "ab": 2}, "byte_fallback": True, "merges": ["a b"]}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model, **parts}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    vocabulary = read_vocabulary(folder, {"vocab_size": 700})
    assert vocabulary.add["add_space_prefix"] is prefix
    assert bool(vocabulary.notes()) is noted


def test_types_padding_and_merges(folder):
    train("smollm", folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"] += [
        {"id": 690, "content": "<tool>", "special": False, "normalized": False},
        {"id": 691, "content": "<|looks|>", "special": False, "normalized": False},
        {"id": 692, "content": "▁▁", "special": False, "normalized": False},
    ]
    tokenizer["model"]["merges"][:2] = [["a ", " b"], "c d"]
    tokenizer["model"]["vocab"] = {k: v for k, v in tokenizer["model"]["vocab"].items() if v < 650}
    path.write_text(json.dumps(tokenizer))
    tokens = read_vocabulary(folder, {"vocab_size": 700}).tokens
    assert len(tokens.texts) == len(tokens.types) == 700
    assert (tokens.texts[690], tokens.types[690]) == ("<tool>", 4)
    assert (tokens.texts[691], tokens.types[691]) == ("<|looks|>", 3)
    assert (tokens.texts[692], tokens.types[692]) == ("  ", 4)
    assert (tokens.texts[660], tokens.types[660]) == ("[PAD660]", 5)
    assert (tokens.texts[1], tokens.types[1]) == ("<|im_start|>", 3)
    assert tokens.types[10] == 1
    assert tokens.merges[:2] == ["aĠ Ġb", "c d"]


def test_special_ids_by_text_then_by_number(folder):
    train("smollm", folder)
    config = {"vocab_size": 700, "pad_token_id": 5, "eos_token_id": [7, 8], "bos_token_id": 9}
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0, 9999]}')
    vocabulary = read_vocabulary(folder, config)
    assert vocabulary.ids == {"bos": 1, "eos": 2, "pad": 5}
    assert vocabulary.end_ids == (2, 0)
    (folder / "tokenizer_config.json").write_text('{"eos_token": {"content": "<|endoftext|>"}}')
    vocabulary = read_vocabulary(folder, config)
    assert vocabulary.ids == {"bos": 9, "eos": 0, "pad": 5, "eot": 2}
    keys = {pair.key: pair.value for pair in vocabulary.pairs()}
    assert keys["tokenizer.ggml.eot_token_id"] == 2
    assert keys["tokenizer.ggml.eos_token_ids"] == (2, 0)


BOS = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
EOS = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}


@pytest.mark.parametrize(
    ("single", "settings", "bos", "eos"),
    [
        ([TEXT], {}, False, False),
        ([BOS, TEXT], {}, True, False),
        ([BOS, TEXT, EOS], {}, True, True),
        ([TEXT], {"add_bos_token": True}, True, False),
        ([BOS, TEXT], {"add_bos_token": False, "add_eos_token": True}, False, True),
    ],
)
def test_what_is_added_automatically(single, settings, bos, eos, folder):
    train("smollm", folder)
    path = folder / "tokenizer.json"
    post = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}}
    byte_level = {"type": "ByteLevel"}
    path.write_text(
        json.dumps(
            json.loads(path.read_text())
            | {"post_processor": {"type": "Sequence", "processors": [byte_level, post]}}
        )
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    add = read_vocabulary(folder, {"vocab_size": 700}).add
    assert (add["add_bos_token"], add["add_eos_token"]) == (bos, eos)
    assert read_vocabulary(folder, {"vocab_size": 49152}).add["add_bos_token"] is False


def test_pre_tokenizer_names_follow_the_structure(tmp_path):
    for name in FAMILIES:
        train(name, tmp_path)
        tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
        assert recognise(tokenizer) == name
        tokenizer["post_processor"] = {"type": "TemplateProcessing", "single": [BOS, TEXT]}
        assert recognise(tokenizer) == name  # a hash of ids would not know it any more


def test_rewritten_smollm_is_still_smollm(tmp_path):
    """transformers drops the digit split when it rebuilds the tokenizer from a GGUF file."""
    train("smollm", tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = tokenizer["pre_tokenizer"]["pretokenizers"][1]
    assert recognise(tokenizer) == "smollm"


def test_unknown_pre_tokenizer_needs_a_name(folder):
    train("smollm", folder)
    path = folder / "tokenizer.json"
    strange = {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": strange}))
    with pytest.raises(Unsupported, match="x\\+") as caught:
        read_vocabulary(folder, {"vocab_size": 700})
    assert "--pre" in caught.value.fix
    assert read_vocabulary(folder, {"vocab_size": 700}, pre="qwen2").tokens.pre == "qwen2"


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
        recognise(tokenizer | change)


def test_template_of_tokenizer_config_wins(folder):
    (folder / "chat_template.jinja").write_text("file")
    assert read_chat_template(folder) == "file"
    (folder / "tokenizer_config.json").write_text('{"chat_template": "config"}')
    assert read_chat_template(folder) == "config"
    named = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert read_chat_template(folder) == "d"


def test_folders_without_a_usable_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConvertError, match="no tokenizer"):
        read_vocabulary(folder, {"vocab_size": 700})
    (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram", "vocab": []}}')
    with pytest.raises(ConvertError, match="not BPE"):
        read_vocabulary(folder, {"vocab_size": 700})
    train("smollm", folder)
    with pytest.raises(DoesNotFit, match="more tokens"):
        read_vocabulary(folder, {"vocab_size": 300})
