"""Which versions of a model a server has, which one each public name is, and the way back.

Every publication and every rollback is a line in runs/published.jsonl, appended and fsynced after
the name has moved. The server remains the truth on what exists: the log only tells in which order,
from which run, and with which proof.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ft2ollama.aliases import Move, move_alias
from ft2ollama.errors import UsageError
from ft2ollama.ollama_api import Listed, Ollama, check_name
from ft2ollama.ollama_names import canonical_name
from ft2ollama.runs import runs_root


@dataclass(frozen=True)
class Version:
    """A tag of a model.  names: public names that are this version now.

    published, run, proof, forced: from the log; empty when another machine published it.
    """

    tag: str
    digest: str
    size: int
    published: str
    names: tuple[str, ...]
    run: str = ""
    proof: str = ""
    forced: str = ""

    @property
    def when(self) -> float:
        """`published` in seconds since 1970, 0 when nobody knows."""
        return datetime.fromisoformat(self.published).timestamp() if self.published else 0.0


def log_path() -> Path:
    """Where the publications made from this folder are written down."""
    return runs_root() / "published.jsonl"


def record_move(server: Ollama, move: Move, *, action: str, **more: Any) -> None:
    """Append a line for a name that has moved.  action: publish or rollback."""
    line = {
        "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
        "action": action,
        "host": server.host,
        "name": move.alias,
        "tag": move.tag,
        "digest": move.digest,
        "previous_digest": move.previous,
        "way": move.way,
        **more,
    }
    path = log_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def history(server: Ollama, name: str) -> list[Version]:
    """Versions of the model that `name` belongs to, newest first; UsageError when there are none.

    A version is a tag that a publication made; a tag that nobody logged is one when its name has
    the form of a run id.
    """
    check_name(name)
    listed = server.listed()
    model = canonical_name(name).rpartition(":")[0]
    ours = [one for one in listed if one.name.rpartition(":")[0] == model]
    lines = _lines(server.host, model)
    made = {str(line["tag"]): line for line in lines if line["action"] == "publish"}
    versions = [one for one in ours if one.name in made or _is_run_id(one.name)]
    if not versions:
        raise _nothing(server, model, listed)
    found = [_version(one, made.get(one.name, {}), ours, versions) for one in versions]
    return sorted(found, key=lambda version: version.when, reverse=True)


def rollback(
    server: Ollama, name: str, *, to: str | None = None, models: Path | None = None
) -> Move:
    """Point `name` at the version published before the one it is now, or at `to`."""
    name = canonical_name(name)
    versions = history(server, name)
    now = server.models().get(name)
    target = _named(versions, name, to) if to else _before(versions, name, now)
    if target.digest == now:
        raise UsageError(
            f"{name} already is {target.tag}", "there is nothing to roll back", f"history {name}"
        )
    move = move_alias(server, name, target.tag, expected=now, models=models)
    record_move(server, move, action="rollback")
    return move


def superfluous(versions: Sequence[Version], keep: int) -> list[Version]:
    """Versions beyond the newest `keep` that no public name is and that no rollback would want."""
    wanted = {version.tag for version in versions[:keep]}
    wanted |= {version.tag for version in versions if version.names}
    for place, version in enumerate(versions[:-1]):
        if version.names:
            wanted.add(versions[place + 1].tag)  # where a rollback would go
    return [version for version in versions if version.tag not in wanted]


def delete_superfluous(server: Ollama, name: str, keep: int) -> list[str]:
    """Delete old versions of `name`'s model; returns the tags that went."""
    gone = []
    for version in superfluous(history(server, name), keep):
        if server.models().get(version.tag) == version.digest:  # not re-made meanwhile
            server.delete(version.tag)
            gone.append(version.tag)
    return gone


def _version(
    one: Listed, line: Mapping[str, Any], ours: Sequence[Listed], versions: Sequence[Listed]
) -> Version:
    tags = {version.name for version in versions}
    names = [other.name for other in ours if other.digest == one.digest and other.name not in tags]
    modified = one.modified.astimezone().isoformat(timespec="seconds") if one.modified else ""
    return Version(
        one.name,
        one.digest,
        one.size,
        str(line.get("time", modified)),
        tuple(sorted(names)),
        *(str(line.get(key) or "") for key in ("run", "proof", "forced")),
    )


def _before(versions: Sequence[Version], name: str, now: str | None) -> Version:
    places = [place for place, version in enumerate(versions) if version.digest == now]
    if places and places[-1] + 1 < len(versions):
        return versions[places[-1] + 1]
    current = f"it is {versions[places[-1]].tag}, the oldest one here" if places else ""
    raise UsageError(
        f"{name} has no version to go back to",
        current or f"what it is now is none of {', '.join(v.tag for v in versions)}",
        f"ft2ollama rollback {name} --to TAG",
    )


def _named(versions: Sequence[Version], name: str, to: str) -> Version:
    wanted = to if ":" in to else f"{name.rpartition(':')[0]}:{to}"
    exact = [version for version in versions if version.tag == wanted]
    found = exact or [version for version in versions if version.tag.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    raise UsageError(
        f"{len(found)} versions are called {to!r}" if found else f"no version {to!r}",
        f"versions: {', '.join(version.tag for version in versions)}",
        f"ft2ollama history {name}",
    )


def _lines(host: str, model: str) -> list[dict[str, Any]]:
    """The log's lines on a model of a server; a line cut by a crash is left out."""
    path, found = log_path(), []
    for text in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line.get("host") == host and str(line.get("name", "")).rpartition(":")[0] == model:
            found.append(line)
    return found


def _is_run_id(name: str) -> bool:
    """Tags that `publish` makes begin with the run's date and time: 20261122-080040-..."""
    stamp = name.rpartition(":")[2][:15]
    return len(stamp) == 15 and stamp[8] == "-" and stamp.replace("-", "", 1).isdigit()


def _nothing(server: Ollama, model: str, listed: Sequence[Listed]) -> UsageError:
    have = sorted({one.name.rpartition(":")[0] for one in listed if _is_run_id(one.name)})
    return UsageError(
        f"Ollama at {server.host} has no version of {model} that ft2ollama published",
        f"it has versions of {', '.join(have)}" if have else "nothing was published to it",
        f"ft2ollama publish {model}",
    )
