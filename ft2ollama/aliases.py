"""Move a public name to a version, and never over somebody else's change.

By rename where the store is on this disk (see `ollama_store.py`), else by copy with read-back. The
caller says what the name pointed at when the decision was made; if that has changed, nothing moves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ft2ollama.errors import JobError, UsageError
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_names import canonical_name
from ft2ollama.ollama_store import Store, find_store

_READ_BACK = 5  # looks at the server after a copy, for a name that is missing for a moment
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Move:
    """previous: the digest that the name had, None when it was new.  way: how it was moved."""

    alias: str
    tag: str
    digest: str
    previous: str | None
    way: Literal["rename", "copy"]


def digest_of(server: Ollama, name: str) -> str | None:
    """What the server says `name` is: its manifest's digest; None when it has none of the name."""
    return server.models().get(canonical_name(name))


def move_alias(
    server: Ollama,
    alias: str,
    tag: str,
    *,
    expected: str | None,
    models: Path | None = None,
) -> Move:
    """Point `alias` at `tag`.  expected: the digest it must have now, None: it must not exist.

    models: the server's OLLAMA_MODELS where the caller knows it. Raises JobError when the name was
    moved meanwhile (nothing is changed then) or does not show the new model afterwards.
    """
    digest = digest_of(server, tag)
    if digest is None:
        raise UsageError(
            f"Ollama at {server.host} has no model {tag!r}",
            f"{alias} cannot point at it",
            f"ft2ollama history {alias}",
        )
    store = _store(server, tag, digest, models)
    if store is None:
        _refuse_conflict(server, alias, digest_of(server, alias), expected)
        server.copy(tag, alias)
        way: Literal["rename", "copy"] = "copy"
    else:
        with store.lock():
            _refuse_conflict(server, alias, digest_of(server, alias), expected)
            _point(store, alias, tag)
        way = "rename"
    _read_back(server, alias, digest)
    return Move(canonical_name(alias), canonical_name(tag), digest, expected, way)


def _store(server: Ollama, tag: str, digest: str, models: Path | None) -> Store | None:
    if not server.is_local:
        return None
    if models is not None and Store(models).digest(tag) == digest.removeprefix("sha256:"):
        store: Store | None = Store(models)
    else:
        store = find_store(tag, digest)
    return store if store is not None and store.is_writable() else None


def _point(store: Store, alias: str, tag: str) -> None:
    try:
        store.point(alias, tag)
    except OSError as error:
        raise JobError(
            f"{alias} could not be moved", f"{error}; it still is what it was", "df -h; ls -l"
        ) from error


def _refuse_conflict(server: Ollama, alias: str, now: str | None, expected: str | None) -> None:
    if now == expected:
        return
    was = _short(expected) if expected else "nothing"
    raise JobError(
        f"{alias} was changed by somebody else meanwhile; it was left as it is",
        f"it was {was} when this began and is {_short(now) if now else 'gone'} now",
        f"ft2ollama history {alias}     # see what it is, then publish again",
    )


def _read_back(server: Ollama, alias: str, digest: str) -> None:
    found = None
    for last in range(_READ_BACK):
        if last:
            time.sleep(_PAUSE_S)
        if (found := digest_of(server, alias)) == digest:
            return
    raise JobError(
        f"{alias} does not show the model it was pointed at",
        f"Ollama at {server.host} says {_short(found) if found else 'there is no such name'}, "
        f"not {_short(digest)}",
        f"ft2ollama history {alias}     # then: ft2ollama rollback {alias}",
    )


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
