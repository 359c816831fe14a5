"""SentencePiece vocabularies: tokenizer.model, or the BPE-with-byte-fallback form of one.

Out: GGUF model "llama": texts, scores, types. Rules: llama.cpp conversion/base.py
(_create_vocab_sentencepiece).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from gguf.constants import TokenType

from converters.errors import Unsupported
from converters.sentencepiece_file import SentencePieceModel
from converters.token_table import Tokens, TokenTable, added_notes
from converters.tokenizer_json import AddedToken, Merge, TokenizerJson, steps_of

SPACE = "\u2581"
_PAD_SCORE = -10000.0
_ADDED_SCORE = -1000.0
_NEVER_MERGED = -1e6  # below minus the rank of any merge
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_KEPT = (int(TokenType.UNKNOWN), int(TokenType.CONTROL), int(TokenType.BYTE))
_ORIGINAL = "put the original tokenizer.model beside tokenizer.json"


def sentencepiece_tokens(
    model: SentencePieceModel, added: Sequence[AddedToken], size: int
) -> Tokens:
    """The table of a tokenizer.model with the folder's added tokens, padded to `size` rows."""
    table = TokenTable(size)
    table.check_size([len(model.pieces) - 1])
    scores = [_PAD_SCORE] * size
    for id_, piece in enumerate(model.pieces):
        user_defined = piece.kind == TokenType.USER_DEFINED
        table.texts[id_] = _as_written(piece.text) if user_defined else piece.text
        table.types[id_] = piece.kind
        scores[id_] = piece.score
    table.check_size(token.id for token in added)
    new = [token for token in added if table.types[token.id] not in _KEPT]
    _put_added(table, new)
    for token in new:
        scores[token.id] = _ADDED_SCORE
    texts = table.finished()
    _require_bytes(texts)
    return Tokens(
        "llama",
        "default",
        texts,
        table.types,
        scores,
        add_space_prefix=model.add_dummy_prefix,
        notes=(*_model_notes(model), *added_notes(new, normalizes=False)),
    )


def _put_added(table: TokenTable, added: Sequence[AddedToken]) -> None:
    table.put_added(added)
    for token in added:
        if table.types[token.id] == TokenType.USER_DEFINED:
            table.texts[token.id] = _as_written(token.text)


def _as_written(text: str) -> str:
    """The runtime looks for user-defined tokens before it turns spaces into U+2581."""
    return text.replace(SPACE, " ")


def _require_bytes(texts: Sequence[str]) -> None:
    missing = set(_BYTES).difference(texts)
    if missing:
        raise Unsupported(
            "the SentencePiece vocabulary has no token for some bytes",
            "",
            f"{len(missing)} of 256 are missing, {min(missing)} first: the runtime stops at a "
            "character that it cannot write in bytes",
        )


def _model_notes(model: SentencePieceModel) -> Iterator[str]:
    if model.normalizes:
        yield "this tokenizer normalizes Unicode before it cuts the text; the runtime does not"
    if model.remove_extra_whitespaces:
        yield "this tokenizer drops repeated spaces before it cuts the text; the runtime does not"


def byte_fallback_tokens(tokenizer: TokenizerJson, size: int) -> Tokens:
    """A converted SentencePiece BPE: scores are recovered from the order of the merges.

    llama.cpp joins the neighbouring pair whose joined text has the highest score, the BPE model the
    pair with the lowest merge rank; minus the rank of a token's first merge makes them the same.
    """
    _require_sentencepiece(tokenizer)
    table = TokenTable(size)
    table.put(tokenizer.vocab)
    by_merging = {a + b for a, b in tokenizer.merges}
    looked_for = [token for token in tokenizer.added if not _only_merged(token, by_merging)]
    _put_added(table, looked_for)
    for text, id_ in tokenizer.vocab.items():
        if _BYTE.fullmatch(text):
            table.types[id_] = int(TokenType.BYTE)
    unknown = tokenizer.vocab.get(tokenizer.unknown or "<unk>")
    if unknown is not None:
        table.types[unknown] = int(TokenType.UNKNOWN)
    texts = table.finished()
    _require_bytes(texts)
    ranks = _ranks(tokenizer.merges, {token.text for token in looked_for}, tokenizer.vocab)
    scores = [float(-ranks[text]) if text in ranks else _NEVER_MERGED for text in texts]
    normalizes = any(
        node.get("type") == "Prepend" for node in steps_of(tokenizer.normalizer, "normalizers")
    )
    notes = added_notes(tokenizer.added, normalizes=normalizes)
    return Tokens("llama", "default", texts, table.types, scores, notes=notes)


def _only_merged(token: AddedToken, by_merging: set[str]) -> bool:
    """Runs of U+2581 are looked for as such, which no text has, and come about by merging."""
    unseen = SPACE in token.text and not token.normalized and not token.special
    return unseen and token.text in by_merging


def _require_sentencepiece(tokenizer: TokenizerJson) -> None:
    """Only what SentencePiece does before it cuts: spaces become U+2581, one may come first."""
    steps = [
        *steps_of(tokenizer.normalizer, "normalizers"),
        *steps_of(tokenizer.pre_tokenizer, "pretokenizers"),
    ]
    strange = [node for node in steps if not _usual(node, tokenizer.vocab)]
    if strange or tokenizer.ignore_merges:
        raise Unsupported(
            "this byte-fallback tokenizer does more than SentencePiece does",
            "",
            "\n".join(str(node)[:200] for node in strange) or "ignore_merges",
        )


def _usual(node: Mapping[str, object], vocab: Mapping[str, int]) -> bool:
    kind = node.get("type")
    if kind == "Prepend":
        return node.get("prepend") == SPACE
    if kind == "Replace":
        return node.get("pattern") == {"String": " "} and node.get("content") == SPACE
    if kind == "Metaspace":  # cuts before each space, unless told not to
        whole = not node.get("split", True) or not any(SPACE in text[1:] for text in vocab)
        return whole and node.get("replacement", SPACE) == SPACE
    return kind == "Split" and node.get("pattern") == {"String": " "}  # there are none any more


def _ranks(merges: Sequence[Merge], added: set[str], vocab: Mapping[str, int]) -> dict[str, int]:
    """Rank of each token: that of its first merge. Tokens whose merges interleave share one.

    Merges that touch an added token are left out: those are cut out of the text beforehand.
    """
    spans: dict[str, tuple[int, int]] = {}
    for rank, (a, b) in enumerate(merges):
        if a + b not in added:
            spans[a + b] = (spans.get(a + b, (rank, rank))[0], rank)
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
                _ORIGINAL,
            )
        ranks[text] = shared
        end = max(end, last)
    _require_all_splits(merges, added, vocab)
    return ranks


def _run(text: str) -> bool:
    """Whether the text is one character repeated.

    Llama's runs of spaces all had one score in SentencePiece, which joins them from the left; a
    shared score restores that.
    """
    return len(set(text)) == 1


def _require_all_splits(merges: Sequence[Merge], added: set[str], vocab: Mapping[str, int]) -> None:
    """The runtime joins any two tokens whose text is a token: each such pair must be a merge."""
    known = set(merges)
    apart = (
        f"{text[:at]!r} and {text[at:]!r}"
        for text in vocab
        if text not in added and not _BYTE.fullmatch(text)
        for at in range(1, len(text))
        if text[:at] in vocab
        and text[at:] in vocab
        and (text[:at], text[at:]) not in known
        and text[:at] not in added
        and text[at:] not in added
    )
    found = list(islice(apart, 3))
    if found:
        raise Unsupported(
            "the merges of this tokenizer cannot be written as scores",
            "",
            f"{', '.join(found)} are never joined in training, and always at run time",
            _ORIGINAL,
        )
