"""A rollback of a loop's model: it moves like any, and the loop is told.

In: the way back as `way_back` finds it.  Out: a row of `deployment`, intent first and verified when
the name has moved, so that a kill in between is known afterwards. The row is the cooldown: until it
is over `retrain --if-due` counts only rows that came since (`due.py`), because the old ones have
just made a model that somebody did not want.

The rows of the version that was left stay judged: its cycle was promoted, and rolling forward must
not need them twice. They are part of the history that the next cycle trains on, so what was wrong
in them has to be corrected or forgotten.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from ft2ollama.aliases import Move, digest_of
from ft2ollama.loop import tables as t
from ft2ollama.loop.crashpoint import crashpoint
from ft2ollama.loop.ledger import Ledger, now_ms
from ft2ollama.loop.place import actor
from ft2ollama.ollama_api import Ollama
from ft2ollama.versions import record_move
from ft2ollama.way_back import Way, go, open_way


def is_of_a_loop(ledger: Ledger, alias: str) -> bool:
    """Did a cycle ever move this name?"""
    wanted = select(t.deployment.c.id).where(t.deployment.c.alias == alias).limit(1)
    with ledger.read() as connection:
        return connection.execute(wanted).first() is not None


def roll_back(ledger: Ledger, server: Ollama, way: Way) -> Move:
    """Move the name, with the intent written down before. Raises what `way_back.go` raises."""
    settle(ledger, server, way.alias)
    row = t.deployment
    with ledger.begin() as connection:
        intent = insert(row).values(**_intent(connection, server, way)).returning(row.c.id)
        number = connection.execute(intent).scalar_one()
    crashpoint("rollback intended")
    try:
        move = go(server, way)
    except Exception:
        settle(ledger, server, way.alias, log=False)
        raise
    crashpoint("rolled back")
    with ledger.begin() as connection:
        done = update(row).where(row.c.id == number).values(state="verified", method=move.way)
        connection.execute(done)
    return move


def settle(ledger: Ledger, server: Ollama, alias: str, *, log: bool = True) -> None:
    """What became of a rollback that was killed? The server says it.

    log: write the move once more into runs/published.jsonl, where the kill may have lost it.
    """
    row = t.deployment
    open_ones = select(row).where(row.c.alias == alias, _is_intent())
    with ledger.read() as connection:
        meant = connection.execute(open_ones.order_by(row.c.id.desc())).mappings().first()
    if meant is None:
        return
    moved = digest_of(server, alias) == meant["to_digest"]
    if moved and log:
        move = Move(alias, meant["to_tag"], meant["to_digest"], meant["from_digest"], "rename")
        record_move(server, move, action="rollback")
        open_way(server, alias)
    state = "verified" if moved else "failed"
    with ledger.begin() as connection:
        connection.execute(
            update(row).where(row.c.alias == alias, _is_intent()).values(state=state)
        )


def last_rollback(connection: Connection, alias: str) -> dict[str, Any] | None:
    """The newest move of the name, if that is a rollback to another version than the newest one.

    A promotion ends a cooldown, and so does going forward again to what was promoted last.
    """
    row = t.deployment
    counts = row.c.state.in_(("applied", "verified")) | _is_intent()
    rows = connection.execute(
        select(row).where(row.c.alias == alias, counts).order_by(row.c.id.desc())
    ).mappings().all()  # fmt: skip
    promoted = next((one for one in rows if one["action"] == "publish"), None)
    if not rows or rows[0]["action"] != "rollback":
        return None
    forward = promoted is not None and promoted["to_digest"] == rows[0]["to_digest"]
    return None if forward else dict(rows[0])


def _is_intent() -> Any:
    return (t.deployment.c.action == "rollback") & (t.deployment.c.state == "intent")


def _intent(connection: Connection, server: Ollama, way: Way) -> dict[str, Any]:
    """The row; run_id is the cycle that made the version gone back to, if one did."""
    row = t.deployment
    made = select(row.c.run_id).where(row.c.to_digest == way.digest, row.c.action == "publish")
    newest = connection.execute(select(func.max(t.exchange.c.seq))).scalar()
    return {
        "host": server.host, "alias": way.alias, "from_digest": way.now, "to_digest": way.digest,
        "to_tag": way.tag, "run_id": connection.execute(made.limit(1)).scalar(),
        "action": "rollback", "state": "intent", "actor": actor(), "ts_ms": now_ms(),
        "last_seq": newest or 0,
    }  # fmt: skip


def advice(ledger: Ledger, way: Way) -> list[str]:
    """What to know after a rollback, by the settings of the newest cycle."""
    with ledger.read() as connection:
        made = select(t.run.c.config, t.run.c.run_id).join(
            t.deployment, t.deployment.c.run_id == t.run.c.run_id
        )
        newest = connection.execute(
            made.where(t.deployment.c.alias == way.alias).order_by(t.run.c.created_ms.desc())
        ).first()  # fmt: skip
        if newest is None or last_rollback(connection, way.alias) is None:
            return []
    # A cycle that began before there was such a key waits as long as the default says.
    days = newest.config["retrain"]["trigger"].get("cooldown", 7)
    return [
        f"for {days:g} days retrain --if-due counts only rows that come from now on; retrain alone "
        "does not wait",
        "the next model learns the old rows again: correct or forget what was wrong in them first",
    ]
