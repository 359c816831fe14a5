"""Back to an earlier version: where `rollback` goes, and the name that keeps the way open.

NAME:previous is kept beside NAME:latest: it is set to what NAME:latest is right before that moves,
so that no kill loses it and a model that nobody versioned (made by hand, then replaced) can still
be gone back to. After a rollback it is where the next one would go; without such it is removed.
It counts as no version. NAME:base, where a first cycle registered it, is the oldest of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ft2ollama.aliases import Move, digest_of, move_alias
from ft2ollama.errors import UsageError
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_names import canonical_name
from ft2ollama.versions import Version, before, history, lines_of, previous_name, record_move


@dataclass(frozen=True)
class Way:
    """alias shall become tag, which has `digest`.  now: the digest that alias has."""

    alias: str
    tag: str
    digest: str
    now: str | None


def rollback(
    server: Ollama, name: str, *, to: str | None = None, models: Path | None = None
) -> Move:
    """Point `name` at what it was before, or at `to`. Raises UsageError where there is no way."""
    return go(server, find_way(server, name, to), models=models)


def find_way(server: Ollama, name: str, to: str | None = None) -> Way:
    """Where a rollback of `name` goes: to `to`, else to what the name was before.

    That is NAME:previous while the name is as ft2ollama left it, else the version published before
    it; versions that were rolled back from before are passed over, and the base comes last.
    """
    name = canonical_name(name)
    versions, have = history(server, name), server.models()
    now = have.get(name)
    if to:
        target: str | None = _named(versions, server, name, to)
    else:
        target = _kept(server, name, now) or _back(versions, server, name, now)
    if target is None:
        at_base = now is not None and (base := _base(server, name)) and have[base] == now
        raise _no_way(versions, name, now, at_base=bool(at_base))
    if have[target] == now:
        raise UsageError(
            f"{name} already is {target}", "there is nothing to roll back", f"history {name}"
        )
    return Way(name, target, have[target], now)


def go(server: Ollama, way: Way, *, models: Path | None = None) -> Move:
    """Move the name, write it down, and make NAME:previous what a next rollback would go to."""
    lonely = way.now is not None and not _others(server, way.alias, way.now)
    if lonely and way.tag == previous_name(way.alias):
        raise _would_be_lost(way)
    if lonely:
        keep_previous(server, way.alias, way.tag, models=models)
    move = move_alias(server, way.alias, way.tag, expected=way.now, models=models)
    record_move(server, move, action="rollback")
    if not lonely:
        open_way(server, way.alias, models=models)
    return move


def keep_previous(server: Ollama, name: str, to: str, *, models: Path | None = None) -> None:
    """Point NAME:previous at what `name` is; called right before `name` moves on to `to`.

    Where `name` is that model already, nothing changes: the way back stays what it was.

    A name that does not exist yet comes after the untuned base, if that is there.
    """
    now = digest_of(server, name)
    if now is not None and now == digest_of(server, to):
        return
    tag = canonical_name(name) if now else _base(server, name)
    if tag is not None:
        _point(server, previous_name(name), tag, models)


def open_way(server: Ollama, name: str, *, models: Path | None = None) -> None:
    """After a rollback: NAME:previous is where the next one would go."""
    kept, now = previous_name(name), digest_of(server, name)
    target = _back(history(server, name), server, name, now)
    if target is not None:
        _point(server, kept, target, models)
    elif digest_of(server, kept) is not None:
        server.delete(kept)


def _point(server: Ollama, alias: str, tag: str, models: Path | None) -> None:
    now = digest_of(server, alias)
    if now != digest_of(server, tag):
        move_alias(server, alias, tag, expected=now, models=models)


def _kept(server: Ollama, name: str, now: str | None) -> str | None:
    """NAME:previous, or the tag that it is, unless somebody has moved `name` by other means."""
    kept = previous_name(name)
    digest, lines = digest_of(server, kept), lines_of(server, name)
    moved = now is not None and lines and lines[-1]["digest"] != now
    if digest in (None, now) or moved:
        return None
    return next(iter(_others(server, name, digest)), kept)


def _back(versions: Sequence[Version], server: Ollama, name: str, now: str | None) -> str | None:
    """The version published before, else the base."""
    if now not in {version.digest for version in versions}:
        return None
    version = before(versions, now)
    return version.tag if version else _base(server, name)


def _base(server: Ollama, name: str) -> str | None:
    """NAME:base, the untuned base that a first cycle was held against."""
    tag = f"{canonical_name(name).rpartition(':')[0]}:base"
    return tag if digest_of(server, tag) is not None else None


def _others(server: Ollama, name: str, digest: str | None) -> list[str]:
    """Other tags of the model that are the same as `digest`, versions first."""
    alias = canonical_name(name)
    model = alias.rpartition(":")[0]
    same = [
        tag
        for tag, other in server.models().items()
        if other == digest and tag.rpartition(":")[0] == model
        and tag not in (alias, previous_name(name))
    ]  # fmt: skip
    return sorted(same, key=lambda tag: (not tag.rpartition(":")[2][:1].isdigit(), tag))


def _named(versions: Sequence[Version], server: Ollama, name: str, to: str) -> str:
    model = name.rpartition(":")[0]
    wanted = to if ":" in to else f"{model}:{to}"
    tags = [version.tag for version in versions]
    known = [*tags, *filter(None, [_base(server, name)])]
    kept = previous_name(name)
    exact = [tag for tag in (*known, kept) if tag == wanted and digest_of(server, tag)]
    found = exact or [tag for tag in known if tag.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    raise UsageError(
        f"{len(found)} versions are called {to!r}" if found else f"no version {to!r}",
        f"versions: {', '.join(known)}",
        f"ft2ollama history {name}",
    )


def _would_be_lost(way: Way) -> UsageError:
    model = way.alias.rpartition(":")[0]
    return UsageError(
        f"{way.alias} is a model that has no other name",
        "a rollback would lose it",
        f"ollama cp {way.alias} {model}:mine     # then roll back",
    )


def _no_way(
    versions: Sequence[Version], name: str, now: str | None, *, at_base: bool
) -> UsageError:
    places = [place for place, version in enumerate(versions) if version.digest == now]
    fix = f"ft2ollama rollback {name} --to {versions[0].tag}"
    if at_base:
        why = "it is the untuned base, before which there was nothing"
    elif not places:
        why = f"what it is now is none of {', '.join(v.tag for v in versions)}"
    elif older := [version.tag for version in versions[places[-1] + 1 :]]:
        why = f"the older ones were rolled back from: {', '.join(older)}"
        fix = f"ft2ollama rollback {name} --to {older[0]}"
    else:
        why = f"it is {versions[places[-1]].tag}, the oldest one here"
        if len(versions) == 1:
            fix = "ft2ollama publish NAME --run RUN     # another run; ft2ollama runs lists them"
    return UsageError(f"{name} has no version to go back to", why, fix)
