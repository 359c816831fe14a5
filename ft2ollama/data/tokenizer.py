"""Text -> token ids with the places of characters; text of the data never becomes a control token.

In: the folder of a tokenizer.json.  Out: `Encoded` (ids and how to find a character's token).

Where a text from the data holds the characters of a control token, such as <|im_end|>, a second
tokenizer encodes it: the same file in which every control token goes by a name that no text can
hold. The tokens that the template wrote are put down by those names, and all else is plain text, in
the very pipeline of the first (normalizer, split, merges, prefix spaces).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

# Noncharacters of Unicode, like those of chat_jinja: no text that may be exchanged holds them.
DATA_START, DATA_END = "\ufdd0", "\ufdd1"
_NAME = "\ufdd4{}\ufdd5"


class Encoded:
    """Token ids of a text and the token of each character.

    runs: for a text that was rewritten before it was encoded, (start in the text given, start in
    the text encoded) of every piece of it; a piece is either as it was or stands for one token.
    """

    def __init__(self, encoding: Any, runs: Sequence[tuple[int, int]] = ()) -> None:
        self._encoding = encoding
        self._given = [given for given, _ in runs]
        self._encoded = [encoded for _, encoded in runs]

    @property
    def ids(self) -> list[int]:
        """The token ids."""
        found: list[int] = self._encoding.ids
        return found

    def token_at(self, char: int) -> int | None:
        """The token that holds the character; None for white space that no token holds."""
        found: int | None = self._encoding.char_to_token(_moved(char, self._given, self._encoded))
        return found

    def begins_at(self, token: int) -> int:
        """The place of the token's first character in the text given."""
        return _moved(self._encoding.token_to_chars(token)[0], self._encoded, self._given)

    @staticmethod
    def joined(parts: Sequence[Encoded], starts: Sequence[int]) -> Encoded:
        """Texts that stand one after the other; starts: where each begins."""
        return _Joined(parts, starts)


class _Joined(Encoded):
    """Parts of a text that were encoded apart."""

    def __init__(self, parts: Sequence[Encoded], starts: Sequence[int]) -> None:
        self._parts = parts
        self._chars = list(starts)
        self._tokens = [0]
        for part in parts:
            self._tokens.append(self._tokens[-1] + len(part.ids))

    @property
    def ids(self) -> list[int]:
        return [token for part in self._parts for token in part.ids]

    def token_at(self, char: int) -> int | None:
        part = bisect_right(self._chars, char) - 1
        found = self._parts[part].token_at(char - self._chars[part])
        return None if found is None else found + self._tokens[part]

    def begins_at(self, token: int) -> int:
        part = bisect_right(self._tokens, token) - 1
        return self._parts[part].begins_at(token - self._tokens[part]) + self._chars[part]


class _After(Encoded):
    """A text encoded behind an anchor, without the anchor."""

    def __init__(self, whole: Encoded, tokens: int, chars: int) -> None:
        self._whole, self._skipped, self._chars = whole, tokens, chars

    @property
    def ids(self) -> list[int]:
        return self._whole.ids[self._skipped :]

    def token_at(self, char: int) -> int | None:
        found = self._whole.token_at(char + self._chars)
        return None if found is None else max(0, found - self._skipped)

    def begins_at(self, token: int) -> int:
        return self._whole.begins_at(token + self._skipped) - self._chars


def _moved(place: int, starts: Sequence[int], others: Sequence[int]) -> int:
    """A place in one text as a place in the other, by the runs of both."""
    if not starts:
        return place
    run = bisect_right(starts, place) - 1
    end = others[run + 1] - 1 if run + 1 < len(others) else None
    moved = others[run] + place - starts[run]
    return moved if end is None else max(others[run], min(moved, end))


class Tokenizer:
    """tokenizer.json of a model folder, read by the `tokenizers` library itself."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Loaded

        self.file = folder / "tokenizer.json"
        self._tokenizer = _bare(Loaded.from_file(str(self.file)))
        added = self._tokenizer.get_added_tokens_decoder()
        self.special = tuple(token.content for token in added.values() if token.special)
        self._by_names: dict[tuple[str, ...], Any] = {}

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """ids and character offsets; the template has written every special token itself."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_all(self, texts: Sequence[str]) -> list[Encoded]:
        """Every text; special tokens in it are recognised."""
        found = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [Encoded(encoding) for encoding in found]

    def encode_guarded(self, text: str, control: tuple[str, ...]) -> Encoded:
        """A text in which DATA_START and DATA_END enclose what only looks like a control token."""
        names = {token: _NAME.format(number) for number, token in enumerate(control)}
        pieces, runs, length = [], [], 0
        for start, inside, is_token in _pieces(text, control):
            piece = names[inside] if is_token else inside
            runs.append((start, length))
            pieces.append(piece)
            length += len(piece)
        encoding = self._renamed(names).encode("".join(pieces), add_special_tokens=False)
        return Encoded(encoding, runs)

    def encode_after(self, text: str, control: tuple[str, ...]) -> Encoded:
        """A text that stands after another, whose tokens it must not change.

        SentencePiece puts a space before the first word of a text; behind a line break it does not.
        """
        anchor = "" if self._adds_nothing_in_front else "\n"
        whole = self.encode_guarded(anchor + text, control)
        tokens = self.encode(anchor)[0] if anchor else []
        if whole.ids[: len(tokens)] != tokens:
            return self.encode_guarded(text, control)
        return _After(whole, len(tokens), len(anchor))

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of `ids`."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def id(self, token: str) -> int | None:
        """The id of a token written in full."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def text(self, token: int) -> str | None:
        """The token of an id, as the vocabulary writes it."""
        found: str | None = self._tokenizer.id_to_token(token)
        return found

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @cached_property
    def _adds_nothing_in_front(self) -> bool:
        """Is a text at the start encoded as the same text elsewhere? (no SentencePiece prefix)."""
        anchor, word = self.encode("\n")[0], self.encode("word")[0]
        return self.encode("\nword")[0] == [*anchor, *word]

    def _renamed(self, names: Mapping[str, str]) -> Any:
        """The tokenizer in which each token of `names` goes by its name."""
        from tokenizers import Tokenizer as Loaded

        key = tuple(names)
        if key not in self._by_names:
            content = json.loads(self.file.read_text("utf-8"))
            vocab = content["model"].get("vocab")
            for token in content["added_tokens"]:
                name = names.get(token["content"])
                if name and isinstance(vocab, dict) and token["content"] in vocab:
                    vocab[name] = vocab.pop(token["content"])
                token["content"] = name or token["content"]
            renamed = Loaded.from_str(json.dumps(content | {"post_processor": None}))
            self._by_names[key] = _bare(renamed)
        return self._by_names[key]


def _bare(tokenizer: Any) -> Any:
    """Without what changes ids or places afterwards: the template writes every token itself.

    The post-processor of byte-level tokenizers takes the space off a token's place, and a token
    that reaches over the end of the prompt would not be seen.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None
    return tokenizer


def _pieces(text: str, control: Sequence[str]) -> Iterator[tuple[int, str, bool]]:
    """(start, text, is it a control token) of every piece; guards are left out, "" in their place.

    A control token between guards is plain text.
    """
    words = "|".join(re.escape(token) for token in sorted(control, key=len, reverse=True))
    guards = f"{DATA_START}(?P<data>{words or '(?!)'}){DATA_END}|[{DATA_START}{DATA_END}]"
    last = 0
    for match in re.finditer(f"{guards}|(?P<token>{words or '(?!)'})", text):
        if match.start() > last:
            yield last, text[last : match.start()], False
        if match["token"]:
            yield match.start(), match["token"], True
        elif match["data"]:
            yield match.start(), "", False
            yield match.start("data"), match["data"], False
            yield match.end() - 1, "", False
        else:
            yield match.start(), "", False
        last = match.end()
    if last < len(text):
        yield last, text[last:], False
