"""Byte-level BPE: tokenizer.json -> token texts, types and merges of GGUF model "gpt2".

Rules: llama.cpp conversion/base.py (get_vocab_base) and gguf-py vocab.py (SpecialVocab).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gguf.constants import TokenType

from converters.errors import ConvertError, DoesNotFit
from converters.hf_folder import Config
from converters.pretokenizer import recognise

_SPACE, _SPACE_IN_MERGE = " ", chr(ord(" ") + 256)
_LOOKS_SPECIAL = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
_KNOWN_SPECIAL = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")


@dataclass(frozen=True)
class Tokens:
    """Token table: one text and type (and score) per embedding row."""

    model: str
    pre: str
    texts: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()
    add_space_prefix: bool | None = None
    note: str = ""

    def id_of(self, text: str) -> int | None:
        """The first id with that text."""
        return self.texts.index(text) if text in self.texts else None


def byte_level_tokens(tokenizer: Config, size: int, pre: str | None) -> Tokens:
    """The table of a byte-level BPE tokenizer, padded to `size` rows with [PADn] UNUSED."""
    model = tokenizer.get("model", {})
    if model.get("type") not in (None, "BPE") or "merges" not in model:
        raise ConvertError(
            "the tokenizer is not BPE", "", f"tokenizer.json has model type {model.get('type')!r}"
        )
    texts, types = padded_table(size)
    fill(texts, types, model["vocab"], size)
    fill_added(texts, types, tokenizer.get("added_tokens") or [], size)
    name = pre or recognise(tokenizer)
    return Tokens("gpt2", name, texts, types, merges=[_merge(entry) for entry in model["merges"]])


def padded_table(size: int) -> tuple[list[str], list[int]]:
    """`size` rows that no text maps to."""
    return [f"[PAD{i}]" for i in range(size)], [int(TokenType.UNUSED)] * size


def fill(texts: list[str], types: list[int], vocab: dict[str, int], size: int) -> None:
    """Put the ordinary tokens in."""
    check_size(max(vocab.values(), default=-1), size)
    for text, id_ in vocab.items():
        texts[id_] = text
        types[id_] = int(TokenType.NORMAL)


def fill_added(texts: list[str], types: list[int], added: Sequence[Config], size: int) -> None:
    """Put the added tokens in: CONTROL where they steer the model, else USER_DEFINED."""
    check_size(max((int(token["id"]) for token in added), default=-1), size)
    for token in added:
        text, id_ = str(token["content"]), int(token["id"])
        control = bool(token.get("special")) or _looks_special(text)
        texts[id_] = text if control else text.replace("\u2581", " ")
        types[id_] = int(TokenType.CONTROL if control else TokenType.USER_DEFINED)


def check_size(highest: int, size: int) -> None:
    """Every id needs an embedding row."""
    if highest >= size:
        raise DoesNotFit(
            "the tokenizer has more tokens than the model has embedding rows",
            "token_embd.weight",
            f"highest token id {highest}, vocab_size {size}",
            "model.resize_token_embeddings(len(tokenizer)) before training, and save both again",
        )


def _looks_special(text: str) -> bool:
    return text in _KNOWN_SPECIAL or any(
        text.startswith(start) and text.endswith(end) for start, end in _LOOKS_SPECIAL
    )


def _merge(entry: str | list[str]) -> str:
    """`a b`; the pair form may hold spaces inside a part, which GGUF writes as U+0120."""
    if isinstance(entry, str):
        return entry
    return _SPACE.join(part.replace(_SPACE, _SPACE_IN_MERGE) for part in entry)
