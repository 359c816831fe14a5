"""What transformers does with a folder, the runtime does with the file we make of it."""

from __future__ import annotations

import json
import warnings

import pytest
from vocab_runtime import runtime

from converters.errors import ConvertError
from converters.space_prefix import ALWAYS, FIRST_OFF, FIRST_ON
from converters.vocab import read_vocabulary

PIECES = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
PIECES += ["▁", "h", "i", "x", "▁h", "▁hi", "▁x", "hi", "▁▁", "[INST]"]
MERGES = [["▁", "h"], ["▁", "hi"], ["▁h", "i"], ["▁", "x"], ["h", "i"], ["▁", "▁"]]
CONTROL = {0, 1, 2, len(PIECES) - 1}
PREPEND = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
}
GEMMA = {
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    "pre_tokenizer": {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    },
}
BOS = {"SpecialToken": {"id": "<s>", "type_id": 0}}
EOS = {"SpecialToken": {"id": "</s>", "type_id": 0}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}
TEMPLATE = "{{ bos_token }}{% for m in messages %}[INST]{{ m.content }}{% endfor %}"


def metaspace(scheme):
    """The pre-tokenizer that transformers 5 writes."""
    step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    return {"pre_tokenizer": step}


def write_folder(folder, parts, settings, *, single=None, model_type="llama"):
    """tokenizer.json, tokenizer_config.json and config.json; returns the config."""
    added = [
        {"id": i, "content": PIECES[i], "special": True, "normalized": False}
        | dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
        for i in sorted(CONTROL)
    ]
    specials = {
        text: {"id": text, "ids": [PIECES.index(text)], "tokens": [text]} for text in PIECES[1:3]
    }
    template = {"type": "TemplateProcessing", "special_tokens": specials, "single": single}
    template["pair"] = [TEXT, {"Sequence": {"id": "B", "type_id": 1}}]
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    model |= {"vocab": {text: i for i, text in enumerate(PIECES)}, "merges": MERGES}
    content = {"version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": None}
    content |= {"post_processor": template if single else None, "decoder": None, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(content | parts))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | settings))
    config = {"model_type": model_type, "vocab_size": len(PIECES)}
    (folder / "config.json").write_text(json.dumps(config))
    return config


def load(folder):
    """The tokenizer as a trainer gets it."""
    from transformers import AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoTokenizer.from_pretrained(folder)


LLAMA = {"tokenizer_class": "LlamaTokenizer"}
BARE, PROMPT, MIDDLE, SPACE = "hi x", "<s>[INST]hi x", "hi</s>hi</s> x", " hi"


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("parts", "settings", "prefix", "note", "equal"),
    [
        (PREPEND, {}, True, None, (BARE, PROMPT, MIDDLE, SPACE)),
        (PREPEND, {"add_prefix_space": False}, True, None, (BARE, PROMPT, MIDDLE, SPACE)),
        (GEMMA, {}, False, None, (BARE, PROMPT, MIDDLE, SPACE)),
        (metaspace("never"), {}, False, None, (BARE, PROMPT, MIDDLE, SPACE)),
        (metaspace("first"), {}, True, FIRST_ON, (BARE,)),
        (metaspace("first"), {"chat_template": TEMPLATE}, False, FIRST_OFF, (PROMPT, SPACE)),
        (metaspace("always"), {}, True, ALWAYS, (BARE, PROMPT)),
        (PREPEND, LLAMA, True, FIRST_ON, (BARE,)),  # transformers 5 ignores the normalizer here
        (PREPEND, LLAMA | {"legacy": True}, True, ALWAYS, (BARE, PROMPT)),
        (PREPEND, LLAMA | {"add_prefix_space": False}, False, None, (BARE, PROMPT, MIDDLE, SPACE)),
    ],
)
def test_leading_space(parts, settings, prefix, note, equal, tmp_path):
    """`equal`: where the ids agree; exactly the others are what the note speaks of."""
    config = write_folder(tmp_path, parts, settings)
    vocabulary = read_vocabulary(tmp_path, config)
    assert vocabulary.add["add_space_prefix"] is prefix
    assert vocabulary.notes() == ([note] if note else [])
    theirs, ours = load(tmp_path), runtime(vocabulary, tmp_path / "m.gguf")
    same = [
        text
        for text in (BARE, PROMPT, MIDDLE, SPACE)
        if ours.tokenize(text) == theirs(text, add_special_tokens=False)["input_ids"]
    ]
    assert same == list(equal)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("single", "settings", "bos", "eos"),
    [
        ([TEXT], {}, False, False),
        ([BOS, TEXT], {}, True, False),
        ([BOS, TEXT, EOS], {}, True, True),
        ([TEXT], {"add_bos_token": True}, False, False),  # tokenizer.json decides
        ([BOS, TEXT], {"add_bos_token": False, "add_eos_token": True}, True, False),
    ],
)
def test_what_is_added_automatically(single, settings, bos, eos, tmp_path):
    config = write_folder(tmp_path, PREPEND, settings, single=single)
    vocabulary = read_vocabulary(tmp_path, config)
    assert (vocabulary.add["add_bos_token"], vocabulary.add["add_eos_token"]) == (bos, eos)
    ours = runtime(vocabulary, tmp_path / "m.gguf").tokenize("hi x", add_special=True)
    assert ours == load(tmp_path)("hi x")["input_ids"]
    for wish in (True, False):
        overridden = read_vocabulary(tmp_path, config, add_bos=wish)
        assert overridden.add["add_bos_token"] is wish


def test_a_bos_that_nobody_names_cannot_be_added(tmp_path):
    """llama.cpp would stop the process at the first text."""
    config = write_folder(tmp_path, PREPEND, {"bos_token": None})
    assert "bos" not in read_vocabulary(tmp_path, config).ids
    with pytest.raises(ConvertError, match="adds a bos token"):
        read_vocabulary(tmp_path, config, add_bos=True)


def test_the_template_that_transformers_takes(tmp_path):
    config = write_folder(tmp_path, PREPEND, {"chat_template": "config"})
    assert read_vocabulary(tmp_path, config).chat_template == load(tmp_path).chat_template
    (tmp_path / "chat_template.jinja").write_text("line\r\nfile")
    assert read_vocabulary(tmp_path, config).chat_template == load(tmp_path).chat_template
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates/rag.jinja").write_text("rag")
    vocabulary = read_vocabulary(tmp_path, config)
    found = {"default": vocabulary.chat_template, **vocabulary.named_templates}
    assert found == load(tmp_path).chat_template == {"default": "line\nfile", "rag": "rag"}


@pytest.mark.parametrize("broken", ["5", '[{"name": "../x", "template": "t"}]', '"\\ud800"', "[7]"])
def test_broken_templates(broken, tmp_path):
    config = write_folder(tmp_path, PREPEND, {"chat_template": json.loads(broken)})
    with pytest.raises(ConvertError, match="chat template"):
        read_vocabulary(tmp_path, config)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ConvertError, match=r"chat_template\.jinja"):
        read_vocabulary(tmp_path, config)


@pytest.mark.oracle
def test_added_tokens_with_white_space_and_runs(tmp_path):
    """Flags the runtime does not have are noted; runs of U+2581 come about by merging."""
    config = write_folder(tmp_path, GEMMA, {})
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    flags = dict.fromkeys(("special", "normalized", "lstrip", "rstrip", "single_word"), False)
    run = PIECES.index("▁▁")
    content["added_tokens"].append({"id": run, "content": "▁▁", **flags})
    content["added_tokens"].append({"id": len(PIECES), "content": "<t>", **flags, "rstrip": True})
    path.write_text(json.dumps(content))
    config["vocab_size"] += 1
    vocabulary = read_vocabulary(tmp_path, config)
    assert any("'<t>'" in note and "white space" in note for note in vocabulary.notes())
    theirs, ours = load(tmp_path), runtime(vocabulary, tmp_path / "m.gguf")
    for text in ("hi  x", "   x", "hi     hi"):
        assert ours.tokenize(text) == theirs(text, add_special_tokens=False)["input_ids"], text
    assert ours.tokenize("<t> x") != theirs("<t> x", add_special_tokens=False)["input_ids"]
