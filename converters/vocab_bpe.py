"""Byte-level BPE: tokenizer.json -> token texts, types and merges of GGUF model "gpt2".

Rules: llama.cpp conversion/base.py (get_vocab_base) and gguf-py vocab.py (SpecialVocab).
"""

from __future__ import annotations

from converters.pretokenizer import named, recognise
from converters.token_table import Tokens, TokenTable, added_notes
from converters.tokenizer_json import TokenizerJson

_SPACE, _SPACE_IN_MERGE = " ", chr(ord(" ") + 256)


def byte_level_tokens(tokenizer: TokenizerJson, size: int, pre: str | None) -> Tokens:
    """The table of a byte-level BPE tokenizer, padded to `size` rows with [PADn] UNUSED.

    pre: a name for the pre-tokenizer instead of the one that the file's structure gives.
    """
    table = TokenTable(size)
    table.put(tokenizer.vocab)
    table.put_added(tokenizer.added)
    found = named(pre) if pre else recognise(tokenizer)
    return Tokens(
        "gpt2",
        found.name,
        table.finished(),
        table.types,
        merges=[_merge(part) for part in tokenizer.merges],
        notes=(*found.notes, *added_notes(tokenizer.added, normalizes=False)),
    )


def _merge(pair: tuple[str, str]) -> str:
    """`a b`; a part may hold spaces, which GGUF writes as U+0120."""
    return _SPACE.join(part.replace(_SPACE, _SPACE_IN_MERGE) for part in pair)
