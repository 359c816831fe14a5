"""Two prompts or texts -> their first difference, so that a person sees it.

Blanks are shown as ·, line breaks as ⏎, tabs as ⇥, other characters that nobody sees by their code
point; both sides begin with what they have in common, and ▸ stands where they part.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_BEFORE, _AFTER = 20, 36  # characters shown: with the ids a line of 100
_IDS = 4
_SEEN = {" ": "·", "\n": "⏎", "\t": "⇥"}
_PART = "▸"


def marked(text: str) -> str:
    """The text in one line, with a sign for every character that is not seen."""
    return "".join(_SEEN.get(char) or _visible(char) for char in text)


def _visible(char: str) -> str:
    hidden = unicodedata.category(char) in ("Cc", "Cf", "Co", "Cn", "Zs", "Zl", "Zp", "Mn")
    return f"<U+{ord(char):04X}>" if hidden else char


def text_difference(trained: str, served: str) -> str:
    """Lines for people; "" when the texts are equal."""
    if trained == served:
        return ""
    place = _parts_at(trained, served)
    return "\n".join(
        [
            f"first difference at character {place + 1}",
            f"  trained  {_around(trained, place)}",
            f"  served   {_around(served, place)}",
        ]
    )


def ids_difference(
    trained: Sequence[int], served: Sequence[int], decode: Decode | None = None
) -> str:
    """Lines for people; "" when the token ids are equal.

    decode: token ids -> text, control tokens included; without it only the ids are shown.
    """
    if list(trained) == list(served):
        return ""
    place = _parts_at(trained, served)
    head = f"{len(trained)} tokens trained, {len(served)} served; "
    return "\n".join(
        [
            f"{head}first difference at token {place + 1}",
            f"  trained  {_tokens(trained, place, decode)}",
            f"  served   {_tokens(served, place, decode)}",
        ]
    )


def _parts_at(one: Sequence[object], other: Sequence[object]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _around(text: str, place: int) -> str:
    before, after = text[max(0, place - _BEFORE) : place], text[place : place + _AFTER]
    start = "…" if place > _BEFORE else ""
    end = "…" if len(text) > place + _AFTER else ""
    return (
        f"{start}{marked(before)}{_PART}{marked(after)}{end}"
        if after
        else (f"{start}{marked(before)}{_PART}(ends here)")
    )


def _tokens(ids: Sequence[int], place: int, decode: Decode | None) -> str:
    few = " ".join(map(str, ids[place : place + _IDS]))
    more = " …" if len(ids) > place + _IDS else ""
    if decode is None:
        return f"[{few}{more}]"
    before, after = decode(ids[:place]), decode(ids[place:])
    text = f"{marked(before[-_BEFORE:])}{_PART}"
    text = f"…{text}" if len(before) > _BEFORE else text
    if not ids[place:]:
        return f"{text}(ends here)"
    rest = f"{marked(after[:_AFTER])}{'…' if len(after) > _AFTER else ''}"
    return f"{text}{rest}  ids [{few}{more}]"
