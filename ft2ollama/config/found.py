"""A problem that a rule found, and the pydantic errors that carry it to `load.py`."""

from __future__ import annotations

from typing import NamedTuple

from pydantic_core import PydanticCustomError


class Found(NamedTuple):
    """One problem: where (key, or key and item), the sentence, and the keys that took part."""

    place: tuple[str | int, ...]
    sentence: str
    keys: tuple[str, ...] = ()


def located(*found: Found) -> PydanticCustomError:
    """The error type that `load.py` takes apart again."""
    text = "; ".join(f"{'.'.join(map(str, one.place))}: {one.sentence}" for one in found)
    return PydanticCustomError("located", "{text}", {"text": text, "found": found})


def wrong_type() -> PydanticCustomError:
    """The error type that `load.py` words as "must be ..., not ..."."""
    return PydanticCustomError("wrong_type", "wrong type")
