"""The alias moves to the new model, and never over somebody else's change.

What is meant is written down first (a row of `deployment` in state intent), then the name moves,
then the server is asked. After a kill the row tells what to look for: the alias is the new model
(done), still the old one (once more), or something else: then a person has to look.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select, update

from ft2ollama.aliases import Move, digest_of, move_alias
from ft2ollama.errors import GateError
from ft2ollama.files import sha256_file
from ft2ollama.loop import exam, regression, states
from ft2ollama.loop import tables as t
from ft2ollama.loop.crashpoint import crashpoint
from ft2ollama.loop.ledger import Ledger, now_ms
from ft2ollama.loop.place import Place, actor
from ft2ollama.loop.statement import write_statement
from ft2ollama.loop.states import Cycle, advance
from ft2ollama.loop.steps import config_of
from ft2ollama.versions import record_move
from ft2ollama.way_back import keep_previous


class Conflict(GateError):
    """The alias is neither what it was nor what it should become."""


def intend(
    place: Place, cycle: Cycle, alias: str, tag: str, digests: tuple[str | None, str]
) -> Cycle:
    """APPROVED -> SWAPPING with the intent. digests: of the alias as it was judged, of the tag."""
    row: dict[str, Any] = {
        "host": place.server.host, "alias": alias, "from_digest": digests[0],
        "to_digest": digests[1], "to_tag": tag, "run_id": cycle.run_id, "action": "publish",
        "state": "intent", "actor": actor(), "ts_ms": now_ms(),
    }  # fmt: skip

    def write(connection: Connection) -> None:
        connection.execute(insert(t.deployment).values(**row))

    return advance(place.ledger, cycle, "SWAPPING", {"alias": alias, "to": tag}, also=write)


def swap(place: Place, cycle: Cycle) -> Cycle:
    """SWAPPING -> PROMOTED. Raises Conflict; the alias then is as somebody else left it."""
    meant = deployment_of(place.ledger, cycle.run_id)
    alias, before, after = meant["alias"], meant["from_digest"], meant["to_digest"]
    now = digest_of(place.server, alias)
    if now not in (before, after):
        raise _conflict(meant, now)
    if digest_of(place.server, meant["to_tag"]) != after:
        raise _gone(meant)
    way = ""
    if now != after:
        keep_previous(place.server, alias, meant["to_tag"])
        crashpoint("previous kept")
        way = move_alias(place.server, alias, meant["to_tag"], expected=before).way
        crashpoint("alias moved")
    if (now := digest_of(place.server, alias)) != after:
        raise _conflict(meant, now)
    _log(place, meant, way)
    written = write_statement(place, cycle, meant)
    crashpoint("statement written")

    def verified(connection: Connection) -> None:
        set_state(connection, cycle.run_id, "verified", way)
        archive_fresh(place, connection, cycle)

    detail = {"digest": after, "statement": sha256_file(written)}
    return advance(place.ledger, cycle, "PROMOTED", detail, also=verified, error=None)


def archive_fresh(place: Place, connection: Connection, cycle: Cycle) -> None:
    """A promoted cycle's held-out questions are asked of its successors too."""
    config, event = config_of(cycle), t.run_event
    dataset = place.folder(cycle.run_id) / "dataset"
    if not (dataset / "fresh.jsonl").is_file():  # somebody has erased it
        return
    taken = select(event.c.ts_ms).where(
        event.c.run_id == cycle.run_id, event.c.to_state == "SNAPSHOTTED"
    )
    regression.archive(
        connection, cycle.line, cycle.run_id,
        exam.as_rows(exam.fresh_items(cycle.line, dataset, config.reply_tokens)),
        most=config.gate.regression_items, now_ms=now_ms(),
        since_ms=connection.execute(taken).scalar_one(),
    )  # fmt: skip


def deployment_of(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """The newest row of a cycle's own deployment, not of a rollback to it."""
    wanted = select(t.deployment).where(_of(run_id))
    with ledger.read() as connection:
        rows = connection.execute(wanted.order_by(t.deployment.c.id.desc())).mappings()
        return dict(rows.first() or {})


def set_state(connection: Connection, run_id: str, state: str, way: str = "") -> None:
    """verified or failed, for an intent of this cycle."""
    values = {"state": state, **({"method": way} if way else {})}
    same = _of(run_id) & (t.deployment.c.state == "intent")
    connection.execute(update(t.deployment).where(same).values(**values))


def _of(run_id: str) -> Any:
    return (t.deployment.c.run_id == run_id) & (t.deployment.c.action == "publish")


def promoted_before(ledger: Ledger, line: str) -> states.Cycle | None:
    """The line's newest promoted cycle."""
    found = states.last_cycles(ledger, line, ("PROMOTED",), 1)
    return found[0] if found else None


def _log(place: Place, meant: dict[str, Any], way: str) -> None:
    """A line in runs/published.jsonl, for `history` and `rollback`; once more after a kill."""
    move = Move(
        meant["alias"], meant["to_tag"], meant["to_digest"], meant["from_digest"],
        "copy" if way == "copy" else "rename",
    )  # fmt: skip
    record_move(place.server, move, action="publish", run=meant["run_id"], proof="equal", forced="")
    crashpoint("move written down")


def _conflict(meant: dict[str, Any], now: str | None) -> Conflict:
    was = (meant["from_digest"] or "nothing")[:12]
    return Conflict(
        f"{meant['alias']} was changed by somebody else; it was left as it is",
        f"it was {was} when the new model was judged, should become {meant['to_digest'][:12]}, "
        f"and is {(now or 'gone')[:12]}",
        f"ft2ollama history {meant['alias']}     # the next retrain is judged against what it is",
    )


def _gone(meant: dict[str, Any]) -> Conflict:
    return Conflict(
        f"{meant['to_tag']} is not what was judged, or is gone",
        f"somebody removed or made it anew; {meant['alias']} was left as it is",
        "run ft2ollama retrain again",
    )
