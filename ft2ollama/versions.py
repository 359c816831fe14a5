"""Which versions of a model a server has, and which one each public name is.

Every publication and every rollback is a line in runs/published.jsonl, appended and fsynced after
the name has moved. The server remains the truth on what exists: the log only tells in which order,
from which run, and with which proof. `way_back.py` moves names back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ft2ollama.aliases import Move
from ft2ollama.errors import UsageError
from ft2ollama.ollama_api import Listed, Ollama, check_name
from ft2ollama.ollama_names import canonical_name
from ft2ollama.runs import runs_root

_PREVIOUS = "previous"


@dataclass(frozen=True)
class Version:
    """A tag of a model.  names: public names that are this version now.

    published, run, proof, forced: from the log; empty when another machine published it.
    withdrawn: somebody rolled back from it to an older one, and it was not made public since.
    """

    tag: str
    digest: str
    size: int
    published: str
    names: tuple[str, ...]
    run: str = ""
    proof: str = ""
    forced: str = ""
    withdrawn: bool = False

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
    found.sort(key=lambda version: version.when, reverse=True)
    gone = _withdrawn(lines, [version.digest for version in found])
    return [replace(one, withdrawn=True) if one.digest in gone else one for one in found]


def before(versions: Sequence[Version], now: str | None) -> Version | None:
    """The version published before the one with the digest `now`, but for withdrawn ones."""
    places = [place for place, version in enumerate(versions) if version.digest == now]
    older = versions[places[-1] + 1 :] if places else ()
    return next((version for version in older if not version.withdrawn), None)


def previous_name(name: str) -> str:
    """The alias that keeps what a public name was: `shop:previous`, of `shop:prod` another one."""
    model, _, tag = canonical_name(name).rpartition(":")
    return f"{model}:{_PREVIOUS}" if tag == "latest" else f"{model}:{tag}-{_PREVIOUS}"


def is_previous(name: str) -> bool:
    """Is it such an alias?"""
    tag = name.rpartition(":")[2]
    return tag == _PREVIOUS or tag.endswith(f"-{_PREVIOUS}")


def superfluous(versions: Sequence[Version], keep: int) -> list[Version]:
    """Versions beyond the newest `keep` that no public name is and that no rollback would want."""
    wanted = {version.tag for version in versions[:keep]}
    wanted |= {version.tag for version in versions if version.names}
    for version in versions:
        back = before(versions, version.digest)  # where a rollback would go
        if back and not all(is_previous(name) for name in version.names):
            wanted.add(back.tag)
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
        run=str(line.get("run") or ""),
        proof=str(line.get("proof") or ""),
        forced=str(line.get("forced") or ""),
    )


def lines_of(server: Ollama, name: str) -> list[dict[str, Any]]:
    """The log's lines on one public name of a server, oldest first."""
    public = canonical_name(name)
    lines = _lines(server.host, public.rpartition(":")[0])
    return [line for line in lines if line["name"] == public]


def _withdrawn(lines: Sequence[Mapping[str, Any]], order: Sequence[str]) -> set[str]:
    """Digests that a rollback has left for an older one.  order: digests, newest first."""
    places = {digest: place for place, digest in enumerate(order)}
    gone: set[str] = set()
    for line in lines:
        gone.discard(line["digest"])
        left = line["previous_digest"]
        older = places.get(line["digest"], len(places))
        if line["action"] == "rollback" and older > places.get(left, len(places)):
            gone.add(left)
    return gone


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
