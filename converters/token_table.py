"""The token table of a GGUF file: one text and one type per row of the embedding.

llama.cpp stops the process when two rows have the same text (src/llama-vocab.cpp, the assertion
after reading the tokens), so every table ends in `finished`, which refuses that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gguf.constants import TokenType

from converters.errors import ConvertError, DoesNotFit
from converters.tokenizer_json import MAX_ROWS, AddedToken, is_id

# What llama.cpp's converter treats as steering the model, marked special or not
# (conversion/base.py, does_token_look_special).
_LOOKS_SPECIAL = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
_KNOWN_SPECIAL = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")


@dataclass(frozen=True)
class Tokens:
    """What a GGUF file says about the tokens: `texts`, `types` (and `scores`) have a row each.

    model: "gpt2" (byte-level BPE) or "llama" (SentencePiece). notes: known differences between the
    runtime's tokenizer and this one.
    """

    model: str
    pre: str
    texts: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()
    add_space_prefix: bool | None = None
    notes: tuple[str, ...] = ()
    ids: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", {text: id_ for id_, text in enumerate(self.texts)})

    def id_of(self, text: str) -> int | None:
        """The id of that text."""
        return self.ids.get(text)


class TokenTable:
    """Rows being filled; a row nobody fills becomes `[PADn]`, which no text maps to."""

    def __init__(self, size: int) -> None:
        if not is_id(size) or size == 0:
            raise ConvertError(
                "config.json has no usable vocab_size", "", f"{size!r}, at most {MAX_ROWS}"
            )
        self.texts: list[str | None] = [None] * size
        self.types = [int(TokenType.UNUSED)] * size

    def put(self, vocab: Mapping[str, int]) -> None:
        """The ordinary tokens."""
        self.check_size(vocab.values())
        for text, id_ in vocab.items():
            self.texts[id_] = text
            self.types[id_] = int(TokenType.NORMAL)

    def put_added(self, added: Iterable[AddedToken]) -> None:
        """The added tokens: CONTROL where they steer the model, else USER_DEFINED."""
        added = list(added)
        self.check_size(token.id for token in added)
        for token in added:
            self.texts[token.id] = token.text
            self.types[token.id] = int(_type(token))

    def check_size(self, ids: Iterable[int]) -> None:
        """Every id needs an embedding row."""
        highest, size = max(ids, default=-1), len(self.texts)
        if highest >= size:
            raise DoesNotFit(
                "the tokenizer has more tokens than the model has embedding rows",
                "token_embd.weight",
                f"highest token id {highest}, vocab_size {size}",
                "model.resize_token_embeddings(len(tokenizer)) before training, save both again",
            )

    def finished(self) -> list[str]:
        """The texts with the holes filled; ConvertError if two rows have the same."""
        rows: dict[str, int] = {}
        twice = []
        for id_, text in enumerate(self.texts):
            seen = text and text.split("\0", 1)[0]  # the runtime reads up to a NUL
            if seen and rows.setdefault(seen, id_) != id_:
                twice.append(f"ids {rows[seen]} and {id_} are both {seen!r}")
        if twice:
            why = "\n".join(twice[:3]) + ("\n..." if len(twice) > 3 else "")
            raise ConvertError("two tokens have the same text", "", why, "rename or drop one")
        return [
            self._pad(id_, rows) if text is None else text for id_, text in enumerate(self.texts)
        ]

    @staticmethod
    def _pad(id_: int, taken: Mapping[str, int]) -> str:
        text = f"[PAD{id_}]"
        while text in taken:
            text = f"[{text}]"
        return text


def _type(token: AddedToken) -> TokenType:
    return (
        TokenType.CONTROL
        if token.special or _looks_special(token.text)
        else (TokenType.USER_DEFINED)
    )


def _looks_special(text: str) -> bool:
    return text in _KNOWN_SPECIAL or any(
        text.startswith(start) and text.endswith(end) for start, end in _LOOKS_SPECIAL
    )


def added_notes(added: Iterable[AddedToken], *, normalizes: bool) -> tuple[str, ...]:
    """Added tokens that `tokenizers` looks for in another way than the runtime does.

    The runtime finds the bare text anywhere. normalizes: the normalizer changes ordinary text.
    """
    found = []
    added = list(added)
    stripping = [token.text for token in added if token.lstrip or token.rstrip]
    if stripping:
        found.append(
            f"white space beside {_some(stripping)} belongs to the token in training; the runtime "
            "keeps it as text (llama.cpp does the same as training only for a model whose name "
            'contains "phi-3")'
        )
    words = [token.text for token in added if token.single_word]
    if words:
        found.append(f"{_some(words)} count only as whole words in training, anywhere at run time")
    late = [token.text for token in added if token.normalized and not token.special]
    if normalizes and late:
        found.append(
            f"{_some(late)} are looked for in the normalized text in training, "
            "where a leading space belongs to them, in the plain text at run time"
        )
    return tuple(found)


def _some(texts: Sequence[str]) -> str:
    shown = ", ".join(repr(text) for text in texts[:3])
    return shown + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
