"""Rows of the ledger as files for other tools: training conversations, or an evaluation set.

In: a connection.  Out: one JSON object per exchange. What people said counts: a correction replaces
the answer, an answer with a thumb down or rejected in review is left out unless asked for. No
curation: nothing else is removed, and personal data stays (`collect preview --out` is the one that
cleans).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from ft2ollama.files import sha256_text
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.grounding import numbers_in
from ft2ollama.loop.curate.rows import REJECT, Row, load_rows

_CHUNK = 500
_WITH_NUMBER = re.compile(r"[A-Za-z]*\d(?:[A-Za-z\d.,:/-]*[A-Za-z\d])?")
_SHORT = 24  # characters of an answer that is a fact as a whole
_MOST_GOLDEN = 400  # twice what the gate wants; statistics.py


@dataclass(frozen=True)
class Wanted:
    """Which rows. disliked: also those with a thumb down.  since_ms: from then on.

    human: only answers a person wrote, corrected, or said yes to.
    """

    model: str = ""
    since_ms: int = 0
    disliked: bool = False
    human: bool = False


def rows_to_export(connection: Connection, wanted: Wanted) -> Iterator[Row]:
    """Whole exchanges in the order of the ledger, the answer as people want it."""
    one = t.exchange
    old = select(t.supersede.c.old_rid)
    query = select(one.c.rid).where(
        one.c.deleted_ms.is_(None), one.c.task.is_(None), one.c.ts_ms >= wanted.since_ms,
        one.c.rid.not_in(old),
    )  # fmt: skip
    if wanted.model:
        query = query.where(one.c.model == wanted.model)
    rids = list(connection.execute(query.order_by(one.c.seq)).scalars())
    for start in range(0, len(rids), _CHUNK):
        yield from filter(
            lambda row: _is_wanted(row, wanted), load_rows(connection, rids[start : start + _CHUNK])
        )


def _is_wanted(row: Row, wanted: Wanted) -> bool:
    if not row.complete or not row.messages or not (row.answer or row.tool_calls):
        return False
    if row.http_status not in (None, 200):
        return False
    corrected = row.origin == "correction"
    refused = row.said.thumb < 0 or row.said.label == REJECT
    if refused and not corrected and not wanted.disliked:
        return False
    return not wanted.human or row.origin != "model"


def as_messages(row: Row) -> Mapping[str, Any]:
    """OpenAI's form, which `ft2ollama train` reads."""
    answer: dict[str, Any] = {"role": "assistant", "content": row.answer}
    if row.tool_calls:
        answer["tool_calls"] = list(row.tool_calls)
    tools = {"tools": list(row.tools)} if row.tools else {}
    return {"messages": [*row.messages, answer], **tools}


def as_ragas(row: Row) -> Mapping[str, Any]:
    """A SingleTurnSample of RAGAS 0.4; reference: only what a person stands for."""
    sample: dict[str, Any] = {"user_input": row.question, "response": row.answer}
    if row.contexts:
        sample["retrieved_contexts"] = list(row.contexts)
    if row.by_person:
        sample["reference"] = row.answer
    return sample


def as_golden(row: Row) -> Mapping[str, Any] | None:
    """A question for the gate, with the facts that a right answer holds; None where none shows.

    The draft of a person's work: `answer` stands beside it for whoever mends `expect`.
    """
    facts = facts_of(row.answer)
    question = {"question": row.question, "expect": facts, "answer": row.answer}
    return question if facts and len(row.messages) == 1 else None


def facts_of(answer: str) -> list[str]:
    """What of an answer holds a number, as it is written: 30, A1, 0431-55-70, 三十; of a short one
    without any, all of it.
    """
    plain = " ".join(answer.split()).strip(" .。!！")
    codes = _WITH_NUMBER.findall(plain)
    codes = codes or [text for text, _ in numbers_in(plain)]
    short = [plain] if len(plain) <= _SHORT else []
    return [fact for fact in dict.fromkeys(codes or short) if fact and "|" not in fact]


def golden_draft(connection: Connection, wanted: Wanted) -> tuple[list[Mapping[str, Any]], int]:
    """(questions, how many rows gave no fact): a third of what people wrote or liked at most.

    Liked answers come first: those the live model gives, and must not lose. The rest is left for
    training, since a question of the golden set is not trained on.
    """
    rows = list(rows_to_export(connection, replace(wanted, human=True)))
    rows.sort(key=lambda row: (row.origin != "thumbs_up", sha256_text(row.rid)))
    drafted = {row.question_sha256: as_golden(row) for row in reversed(rows)}
    found = [drafted[key] for key in dict.fromkeys(row.question_sha256 for row in rows)]
    good = [one for one in found if one is not None]
    most = min(_MOST_GOLDEN, max(1, len(rows) // 3))
    return good[:most], len(found) - len(good)


FORMATS = {"messages": as_messages, "ragas": as_ragas}
