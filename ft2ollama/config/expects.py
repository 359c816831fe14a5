"""What a key expects, in words: for error messages and for docs/config.md, so the two agree.

In: a pydantic field.  Out: "a whole number from 1 to 1024", and how a wrong value is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Kind = Literal[
    "switch", "whole", "number", "text", "path", "names", "numbers", "mapping", "choice"
]  # fmt: skip
_KINDS: dict[Any, Kind] = {
    bool: "switch",
    int: "whole",
    float: "number",
    str: "text",
    Path: "path",
    tuple: "names",
    dict: "mapping",
    Literal: "choice",
}
_WORDS: dict[str, str] = {
    "switch": "true or false",
    "whole": "a whole number",
    "number": "a number",
    "text": "text",
    "path": "a path",
    "names": "a name or a list of names",
    "numbers": "a list of numbers such as 0.7,0.3",
    "mapping": "a mapping such as {temperature: 0.2}",
}


def nullable(annotation: Any) -> bool:
    """Whether null is a value of this type."""
    return NoneType in get_args(annotation)


def _inner(annotation: Any) -> Any:
    """`int | None` -> int."""
    if get_origin(annotation) in (Union, UnionType):
        return next(part for part in get_args(annotation) if part is not NoneType)
    return annotation


def kind(annotation: Any) -> Kind:
    """Which of the nine kinds of value a key holds."""
    inner = _inner(annotation)
    if get_origin(inner) is tuple and get_args(inner)[0] is not str:
        return "numbers"
    return _KINDS[get_origin(inner) or inner]


def choices(annotation: Any) -> tuple[str, ...]:
    """The values of a choice; none for another kind."""
    inner = _inner(annotation)
    return get_args(inner) if get_origin(inner) is Literal else ()


def expects(field: FieldInfo) -> str:
    """What a key takes: type, then range or choices."""
    options = choices(field.annotation)
    if options:
        return options[0] if len(options) == 1 else "one of " + ", ".join(options)
    return _WORDS[kind(field.annotation)] + _range(field.metadata)


def _range(metadata: Iterable[Any]) -> str:
    """The limits of pydantic's ge, gt, le and lt, in words."""
    limit = {
        name: getattr(item, name)
        for item in metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(item, name)
    }
    if "ge" in limit and "le" in limit:
        return f" from {limit['ge']} to {limit['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    parts = [f"{words[name]} {limit[name]}" for name in words if name in limit]
    return ", " + " and ".join(parts) if parts else ""


def shown(value: Any) -> str:
    """A wrong value as its writer knows it: text in quotes, null, true; long text is cut."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, (dict, list, tuple)):
        what = "mapping" if isinstance(value, dict) else "list"
        return f"a {what}" if value else f"an empty {what}"
    return f"{value:g}" if isinstance(value, float) else str(value)[:60]


def spelled(value: Any) -> str:
    """A right value as it would be written in YAML."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value) if isinstance(value, (str, Path)) else shown(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or "": case, camelCase, hyphens and spaces do not count."""
    known = sorted(known)
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word.strip())
    plain = re.sub(r"[\s-]+", "_", plain).lower()
    near = get_close_matches(plain, known, n=1, cutoff=0.72)
    return plain if plain in known else "".join(near)
