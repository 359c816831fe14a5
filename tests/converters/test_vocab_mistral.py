"""Real vocabularies: the SentencePiece models and the tekken files that Mistral publishes.

The wheel is only unpacked, not installed (transformers behaves differently beside it).
"""

from __future__ import annotations

import base64
import json
import os
import zipfile
from itertools import pairwise

import pytest
from hypothesis import given, settings
from vocab_runtime import runtime
from vocab_texts import plain, texts

from converters.pretokenizer import NOTES
from converters.vocab import read_vocabulary
from ft2ollama.errors import UserError
from ft2ollama.paths import cache_dir
from ft2ollama.pypi import Wheel, fetch_wheels

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

WHEEL = Wheel(
    "mistral_common",
    "1.12.0",
    sha256="fa4504b66c30c0201ae4578c0340c5ee2abd22151c271532f62e373b985a53cf",
    size=6580267,
)
MODELS = ("tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3")
FIRST = 40000
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.fixture(scope="module")
def wheel():
    """The wheel, opened; fetched once into the cache."""
    try:
        (path,) = fetch_wheels([WHEEL], cache_dir())
    except UserError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with zipfile.ZipFile(path) as archive:
        yield archive


def data(wheel, name):
    return wheel.read(f"mistral_common/data/{name}")


def same_ids(ours, theirs, strategy, *, change=str):
    """Both give the same ids on texts of the strategy."""

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(strategy.map(change))
    def check(text):
        assert ours(text) == theirs(text)

    check()


@pytest.mark.parametrize("name", MODELS)
def test_sentencepiece_models(name, wheel, tmp_path):
    from sentencepiece import SentencePieceProcessor

    (tmp_path / "tokenizer.model").write_bytes(data(wheel, name))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(NAMES))
    model = SentencePieceProcessor(model_proto=data(wheel, name))
    found = read_vocabulary(tmp_path, {"vocab_size": model.vocab_size() + 3})
    assert found.notes() == []
    kinds = [model.is_control(i) * 3 or model.is_byte(i) * 6 for i in range(model.vocab_size())]
    written = found.tokens.types[: model.vocab_size()]
    assert [kind if kind in (3, 6) else 0 for kind in written] == kinds
    same_ids(runtime(found, tmp_path / "m.gguf").tokenize, model.encode, texts())


def test_scores_recovered_from_merges(wheel, tmp_path):
    """The form without tokenizer.model, with the merges that transformers derives."""
    from sentencepiece import SentencePieceProcessor
    from tokenizers import Tokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    model = SentencePieceProcessor(model_proto=data(wheel, MODELS[1]))
    rows = range(model.vocab_size())
    scores = {model.id_to_piece(i): model.get_score(i) for i in rows}
    control = {model.id_to_piece(i): i for i in rows if model.is_control(i)}
    vocab = {text: i for i, text in enumerate(scores)}
    merges = [list(pair) for pair in generate_merges(vocab, scores, set(control))]
    bpe = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    content = {
        "version": "1.0",
        "added_tokens": added(control),
        "normalizer": {"type": "Sequence", "normalizers": [prepend, replace]},
        "model": bpe | {"vocab": vocab, "merges": merges},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(NAMES))
    found = read_vocabulary(tmp_path, {"vocab_size": len(vocab)})
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ours = runtime(found, tmp_path / "m.gguf").tokenize
    same_ids(ours, lambda text: tokenizer.encode(text).ids, texts("[INST]", "</s>"))


def test_tekken(wheel, tmp_path):
    """As byte-level BPE; without what its note names the ids are the same."""
    from tokenizers import Tokenizer

    content = tekken(json.loads(data(wheel, "tekken_240718.json")))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(NAMES))
    found = read_vocabulary(tmp_path, {"vocab_size": FIRST + 1000})
    assert found.tokens.pre == "tekken"
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ours = runtime(found, tmp_path / "m.gguf").tokenize
    theirs = lambda text: tokenizer.encode(text).ids  # noqa: E731
    same_ids(ours, theirs, texts("[INST]", "</s>"), change=plain)
    assert found.notes() == [NOTES["tekken"]]


def tekken(source):
    """tekken.json as a tokenizer.json: ranks become merges, the special tokens come first."""
    special = source["config"]["default_num_special_tokens"]
    kept = source["vocab"][:FIRST]  # a prefix of a BPE vocabulary is one, and is read sooner
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in kept}
    shown = shown_bytes()
    merges = [
        ["".join(shown[byte] for byte in part) for part in last_pair(token, ranks)]
        for token in ranks
        if len(token) > 1
    ]
    named = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    names = {text: i for i, text in enumerate(named)}
    names |= {f"<SPECIAL_{i}>": i for i in range(len(named), special)}
    vocab = {
        "".join(shown[byte] for byte in token): rank + special for token, rank in ranks.items()
    }
    split = {"type": "Split", "pattern": {"Regex": source["config"]["pattern"]}}
    split |= {"behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps = [split, level | {"use_regex": False}]
    bpe = {"type": "BPE", "ignore_merges": True, "vocab": names | vocab, "merges": merges}
    return {
        "version": "1.0",
        "added_tokens": added(names),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "model": bpe,
    }


def added(names):
    flags = dict.fromkeys(("normalized", "lstrip", "rstrip", "single_word"), False)
    return [{"id": i, "content": text, "special": True, **flags} for text, i in names.items()]


def last_pair(token, ranks):
    """The two tokens that a token is made of: merge its bytes by rank until two are left."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
        at = joined.index(min(joined))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def shown_bytes():
    """How byte-level text shows each byte: printable Latin-1 as itself, the rest from U+0100 on."""
    alphabet = {}
    for byte in range(256):
        printable = 33 <= byte <= 126 or (161 <= byte <= 255 and byte != 173)
        alphabet[byte] = chr(byte) if printable else None
    others = iter(range(256, 512))
    return {byte: char or chr(next(others)) for byte, char in alphabet.items()}
