"""Broken tokenizer files: a ConvertError each, with everything that is wrong, never a traceback."""

from __future__ import annotations

import json
import random
import struct

import pytest

from converters.errors import ConvertError, DoesNotFit, Unsupported
from converters.sentencepiece_file import read_sentencepiece
from converters.tokenizer_json import parse_tokenizer_json
from converters.vocab import read_vocabulary

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
END = {"vocab_size": 300, "eos_token_id": 2}


def sound():
    """A small byte-level tokenizer.json."""
    vocab = {"a": 0, "b": 1, "ab": 2, "1a": 3}
    return {
        "added_tokens": [{"id": 4, "content": "<x>", "special": True}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["a b", ["1", "a"]][:1]},
    }


def changed(path, value):
    """The sound file with one thing replaced: path is like "model.vocab"."""
    out = sound()
    *parents, last = path.split(".")
    node = out
    for name in parents:
        node = node[int(name)] if name.isdigit() else node[name]
    node[last] = value
    return out


def load(content, folder, config=END):
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return read_vocabulary(folder, config)


def test_the_sound_file_is_read(tmp_path):
    assert load(sound(), tmp_path).tokens.texts[:5] == ["a", "b", "ab", "1a", "<x>"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model", None, "not BPE"),
        ("model", [], "not BPE"),
        ("model.type", "Unigram", "not BPE"),
        ("model.type", {"x": 1}, "not BPE"),
        ("model.end_of_word_suffix", "</w>", "marks words"),
        ("model.vocab", None, "not a table"),
        ("model.vocab", [], "not a table"),
        ("model.vocab", {}, "not a table"),
        ("model.vocab", {"a": "0"}, "no token id: 'a'"),
        ("model.vocab", {"a": True}, "no token id: 'a'"),
        ("model.vocab", {"a": -1}, "no token id: 'a'"),
        ("model.vocab", {"a": 0.5}, "no token id: 'a'"),
        ("model.vocab", {"a": 10**30}, "no token id: 'a'"),
        ("model.vocab", {"a": 0, "b": 0, "ab": 0}, "share their id with another: 'b', 'ab'"),
        ("model.vocab", {"a": 0, "\ud800": 1}, "not Unicode text"),
        ("model.merges", None, "merges is missing"),
        ("model.merges", {}, "merges is missing"),
        ("model.merges", ["a b c"], "1 merges are not two tokens"),
        ("model.merges", [["a"], 7, None, ["a", 2], ["", "a"]], "5 merges are not two tokens"),
        ("model.merges", ["a c", "b a"], "does not have: 'a + c', 'b + a'"),
        ("added_tokens", {}, "added_tokens is not a list"),
        ("added_tokens", [7], "1 added tokens without"),
        ("added_tokens", [{"id": 4, "content": ""}], "1 added tokens without"),
        ("added_tokens", [{"id": "4", "content": "x"}], "1 added tokens without"),
        ("added_tokens", [{"id": -4, "content": "x"}], "1 added tokens without"),
        ("added_tokens", [{"id": 4, "content": "\udfff"}], "1 added tokens without"),
        ("added_tokens.0.id", 7, "<x> (7, not 4)"),
        ("added_tokens.0.id", 0, "id of another token: '<x> (0)'"),
        ("added_tokens.0.content", "ab", "ab (4, not 2)"),
        ("pre_tokenizer", [], "pre_tokenizer is not an object"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": 5}, "not known"),
        ("pre_tokenizer", {"type": "Split", "pattern": 5}, "not known"),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": 5}}, "not known"),
        ("pre_tokenizer.type", ["x"], "not known"),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}, "not known"),
        ("normalizer", {"type": ["NFC"]}, "not known"),
    ],
)
def test_broken_tokenizer_json(path, value, said, tmp_path):
    with pytest.raises(ConvertError) as caught:
        load(changed(path, value), tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize("single", [[BYTES], {"a": 1}, None, [], [5]])
def test_strange_templates_add_nothing(single, tmp_path):
    template = {"type": "TemplateProcessing", "single": single}
    add = load(changed("post_processor", template), tmp_path).add
    assert add == {"add_bos_token": False, "add_eos_token": False}


def test_everything_wrong_is_said_at_once():
    content = changed("model.merges", ["a c", "x"])
    content["added_tokens"][0]["id"] = 9
    with pytest.raises(ConvertError) as caught:
        parse_tokenizer_json(content)
    assert len(caught.value.why.splitlines()) == 3


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model": ' * 30000, "\x00", "null", "NaN"])
def test_files_that_are_no_object(text, tmp_path):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ConvertError):
        read_vocabulary(tmp_path, END)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(json.dumps(sound()).encode()[:-1] + b"\xff}")
    with pytest.raises(ConvertError, match="not valid JSON"):
        read_vocabulary(tmp_path, END)


def test_deep_sequences_are_not_followed(tmp_path):
    node = {"type": "ByteLevel", "add_prefix_space": False}
    for _ in range(200):
        node = {"type": "Sequence", "pretokenizers": [node]}
    with pytest.raises(Unsupported, match="not known"):
        load(changed("pre_tokenizer", node), tmp_path)


@pytest.mark.parametrize("size", [None, 0, -5, "300", 10**12, True, 2.5])
def test_sizes_nobody_can_use(size, tmp_path):
    with pytest.raises(ConvertError, match="vocab_size"):
        load(sound(), tmp_path, END | {"vocab_size": size})


def test_more_tokens_than_rows(tmp_path):
    with pytest.raises(DoesNotFit, match="more tokens") as caught:
        load(sound(), tmp_path, END | {"vocab_size": 4})
    assert "highest token id 4, vocab_size 4" in caught.value.why
    assert "resize_token_embeddings" in caught.value.fix


def test_texts_that_llama_cpp_would_take_for_one(tmp_path):
    """It reads up to a NUL, and stops the process at two tokens of the same text."""
    content = sound()
    content["model"]["vocab"] |= {"c\0d": 4, "c": 5}
    content["added_tokens"] = []
    with pytest.raises(ConvertError, match="same text") as caught:
        load(content, tmp_path)
    assert "ids 4 and 5 are both 'c'" in caught.value.why


def number(value):
    """A protobuf varint."""
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(tag, value):
    """A protobuf field: bytes, a float or an int."""
    if isinstance(value, bytes):
        return number(tag << 3 | 2) + number(len(value)) + value
    if isinstance(value, float):
        return number(tag << 3 | 5) + struct.pack("<f", value)
    return number(tag << 3) + number(value)


def sentencepiece(pieces, *, kind=2, trainer=b"", normalizer=b""):
    """The bytes of a tokenizer.model; pieces: (text, score, type)."""
    out = b"".join(
        field(1, field(1, text.encode()) + field(2, float(score)) + field(3, type_))
        for text, score, type_ in pieces
    )
    return out + field(2, field(3, kind) + trainer) + field(3, field(4, 0) + normalizer)


PIECES = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3), *[(text, 0, 6) for text in BYTES]]
PIECES += [("a", -1, 1), ("ab", -2, 1), ("▁▁", -3, 4)]


def load_model(data, folder, config=END):
    (folder / "tokenizer.model").write_bytes(data)
    return read_vocabulary(folder, config | {"bos_token_id": 1})


def test_a_sound_model(tmp_path):
    vocabulary = load_model(sentencepiece(PIECES), tmp_path)
    assert vocabulary.tokens.texts[259:263] == ["a", "ab", "  ", "[PAD262]"]
    assert vocabulary.tokens.types[258:263] == [6, 1, 1, 4, 5]
    assert vocabulary.tokens.scores[260] == -2
    assert vocabulary.add == dict.fromkeys(("add_bos_token", "add_space_prefix"), True) | {
        "add_eos_token": False
    }
    assert vocabulary.notes() == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "holds no pieces"),
        (b"IQ== 0\nIg== 1\n" * 100, "not a SentencePiece model"),  # tiktoken's format
        (sentencepiece(PIECES)[:-9], "not a SentencePiece model"),
        (sentencepiece(PIECES, kind=1), "not of type BPE"),
        (sentencepiece(PIECES, trainer=field(24, 1)), "spaces at the end"),
        (sentencepiece([*PIECES, ("x", float("nan"), 1)]), "score NaN"),
        (sentencepiece([*PIECES, ("x", 0, 9)]), "no sound score or type"),
        (sentencepiece([*PIECES, ("ab", 0, 1)]), "ids 260 and 262 are both 'ab'"),
        (sentencepiece(PIECES[:40]), "no token for some bytes"),
        (field(1, field(1, b"\xff\xfe")) + sentencepiece(PIECES), "not a SentencePiece model"),
        (field(1, 5) + sentencepiece(PIECES), "a number where a message should be"),
        (b"\x0b", "unknown wire type 3"),
        (b"\xff" * 20, "longer than 64 bits"),
        (field(1, b"x")[:1] + number(1 << 60), "longer than the file"),
    ],
)
def test_broken_models(data, said, tmp_path):
    with pytest.raises(ConvertError) as caught:
        load_model(data, tmp_path)
    assert said in str(caught.value)


def test_what_the_runtime_leaves_out_is_noted(tmp_path):
    folded = sentencepiece(PIECES, normalizer=field(2, b"map") + field(4, 1))
    notes = load_model(folded, tmp_path).notes()
    assert ["Unicode" in notes[0], "repeated spaces" in notes[1]] == [True, True]


def test_added_tokens_of_all_three_files(tmp_path):
    (tmp_path / "added_tokens.json").write_text('{"<one>": 262}')
    decoder = {"263": {"content": "<two>", "special": True}, "1": {"content": "<s>"}, "x": 5}
    settings = {"added_tokens_decoder": decoder, "bos_token": "<s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokens = load_model(sentencepiece(PIECES), tmp_path).tokens
    assert (tokens.texts[262:264], tokens.types[262:264]) == (["<one>", "<two>"], [4, 3])
    assert (tokens.texts[1], tokens.types[1], tokens.scores[262]) == ("<s>", 3, -1000)
    (tmp_path / "added_tokens.json").write_text('{"<one>": "x"}')
    with pytest.raises(ConvertError, match="broken"):
        load_model(sentencepiece(PIECES), tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"<one>": 300}')
    with pytest.raises(DoesNotFit):
        load_model(sentencepiece(PIECES), tmp_path)


def test_which_of_two_files_counts(tmp_path):
    """tokenizer.json is what trainers load; the model counts only where it says the same."""
    texts = [text for text, _, _ in PIECES]
    vocab = {text: i for i, text in enumerate(texts)}
    model = {"vocab": vocab, "merges": [], "byte_fallback": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    assert load_model(sentencepiece(PIECES), tmp_path).tokens.scores[260] == -2
    assert load_model(sentencepiece(PIECES[:-1]), tmp_path).tokens.scores[260] < -1e5
    assert load_model(b"text", tmp_path).tokens.scores[260] < -1e5
    assert load(sound(), tmp_path).tokens.model == "gpt2"


def test_random_damage_never_gives_a_traceback(tmp_path):
    """200 seeded changes to a byte of a tokenizer.json or a tokenizer.model."""
    draw = random.Random(7)
    files = {
        "tokenizer.json": json.dumps(sound()).encode(),
        "tokenizer.model": sentencepiece(PIECES),
    }
    refused = 0
    for _ in range(100):
        for name, data in files.items():
            damaged = bytearray(data)
            for _ in range(draw.randint(1, 3)):
                damaged[draw.randrange(len(damaged))] = draw.randrange(256)
            (tmp_path / name).write_bytes(damaged[: draw.choice((len(damaged), None, -5))])
            try:
                read_vocabulary(tmp_path, END)
            except ConvertError:
                refused += 1
            (tmp_path / name).unlink()
    assert refused > 100


def test_the_message_of_a_broken_model_says_what_to_do(tmp_path):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"\x0b")
    with pytest.raises(ConvertError) as caught:
        read_sentencepiece(path)
    assert "tokenizer.json" in caught.value.fix
