"""SentencePiece vocabularies: tokenizer.model, or the BPE-with-byte-fallback form of one.

Out: GGUF model "llama": texts, scores, types. Rules: llama.cpp conversion/base.py
(_create_vocab_sentencepiece).
"""

from __future__ import annotations

import re
from pathlib import Path

from gguf.constants import TokenType

from converters.errors import Unsupported
from converters.hf_folder import Config, read_optional_json
from converters.vocab_bpe import Tokens, check_size, fill, fill_added, padded_table

_SPACE = "\u2581"
_PAD_SCORE = -10000.0
_ADDED_SCORE = -1000.0
_NEVER_MERGED = -1e6  # below minus the rank of any merge
_METASPACE_NOTE = (
    "this tokenizer puts a space before a text only where none is and only at its very start; the "
    "runtime puts one always, and after each special token: such prompts get other token ids"
)
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def sentencepiece_tokens(base: Path, settings: Config, size: int) -> Tokens:
    """The table of a tokenizer.model, with the folder's added tokens, padded to `size` rows."""
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor()
    model.LoadFromFile(str(base / "tokenizer.model"))
    texts, types = padded_table(size)
    scores = [_PAD_SCORE] * size
    check_size(model.vocab_size() - 1, size)
    for id_ in range(model.vocab_size()):
        texts[id_] = model.IdToPiece(id_)
        scores[id_] = model.GetScore(id_)
        types[id_] = _piece_type(model, id_)
    _add_tokens(texts, types, scores, _added(base, settings))
    first = model.EncodeAsPieces("a")[:1]
    return Tokens(
        "llama",
        "default",
        texts,
        types,
        scores,
        add_space_prefix=bool(first) and first[0].startswith(_SPACE),
    )


def _piece_type(model: object, id_: int) -> int:
    kinds = (
        ("IsUnknown", TokenType.UNKNOWN),
        ("IsControl", TokenType.CONTROL),
        ("IsUnused", TokenType.UNUSED),
        ("IsByte", TokenType.BYTE),
    )
    return int(next((kind for test, kind in kinds if getattr(model, test)(id_)), TokenType.NORMAL))


def _added(base: Path, settings: Config) -> list[Config]:
    """Tokens added after training; which of the three files has them depends on who saved."""
    plain = [
        {"content": text, "id": id_, "special": False}
        for text, id_ in read_optional_json(base / "added_tokens.json").items()
    ]
    decoder = settings.get("added_tokens_decoder") or {}
    listed = read_optional_json(base / "tokenizer.json").get("added_tokens") or []
    return plain + [{**entry, "id": int(id_)} for id_, entry in decoder.items()] + listed


def _add_tokens(
    texts: list[str], types: list[int], scores: list[float], added: list[Config]
) -> None:
    known = (int(TokenType.UNKNOWN), int(TokenType.CONTROL), int(TokenType.BYTE))
    new = [
        token
        for token in added
        if int(token["id"]) >= len(types) or types[int(token["id"])] not in known
    ]
    fill_added(texts, types, new, len(texts))
    for token in new:
        scores[int(token["id"])] = _ADDED_SCORE


def byte_fallback_tokens(tokenizer: Config, size: int, pre: str | None) -> Tokens:
    """A converted SentencePiece BPE: scores are recovered from the order of the merges.

    llama.cpp joins the neighbouring pair whose joined text has the highest score, the BPE model the
    pair with the lowest merge rank; minus the rank of a token's first merge makes them the same.
    """
    model = tokenizer["model"]
    texts, types = padded_table(size)
    fill(texts, types, model["vocab"], size)
    fill_added(texts, types, tokenizer.get("added_tokens") or [], size)
    unknown = model["vocab"].get(model.get("unk_token") or "<unk>")
    for id_, text in enumerate(texts):
        if _BYTE.fullmatch(text):
            types[id_] = int(TokenType.BYTE)
    if unknown is not None:
        types[unknown] = int(TokenType.UNKNOWN)
    ranks = _ranks(model["merges"])
    scores = [float(-ranks[text]) if text in ranks else _NEVER_MERGED for text in texts]
    prefix, note = _space_prefix(tokenizer)
    return Tokens(
        "llama", pre or "default", texts, types, scores, add_space_prefix=prefix, note=note
    )


def _ranks(merges: list[str] | list[list[str]]) -> dict[str, int]:
    """Rank of each token: that of its first merge. Tokens whose merges interleave share one."""
    spans: dict[str, tuple[int, int]] = {}
    for rank, merge in enumerate(merges):
        text = "".join(merge.split(" ", 1)) if isinstance(merge, str) else "".join(merge)
        spans[text] = (spans.get(text, (rank, rank))[0], rank)
    ranks: dict[str, int] = {}
    end, shared, head = -1, 0, ""
    for text, (first, last) in spans.items():  # in the order of `first`
        if first > end:
            shared, head = first, text
        elif not (_run(text) and _run(head)):
            raise Unsupported(
                "the merges of this tokenizer cannot be written as scores",
                "",
                f"the merges that give {text!r} are interleaved with another token's",
                "put the original tokenizer.model beside tokenizer.json",
            )
        ranks[text] = shared
        end = max(end, last)
    return ranks


def _run(text: str) -> bool:
    """Whether the text is one character repeated.

    Llama's runs of spaces all had one score in SentencePiece, which joins them from the left; a
    shared score restores that.
    """
    return len(set(text)) == 1


def _space_prefix(tokenizer: Config) -> tuple[bool, str]:
    """Whether a text gets a leading space, and a note where the runtime does it differently."""
    normalizer = tokenizer.get("normalizer") or {}
    if any(s.get("type") == "Prepend" for s in normalizer.get("normalizers", [normalizer])):
        return True, ""
    pre = tokenizer.get("pre_tokenizer") or {}
    for step in pre.get("pretokenizers", [pre]):
        if step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never":
            return True, _METASPACE_NOTE
    return False, ""
