"""What the gate asks: sets of questions frozen in the ledger, and this cycle's fresh rows.

In: files, the curated data set, a served model.  Out: items, answers with their scores as rows of
eval_result (kept one by one, found again by the model's digest), and the `Contest` of the gate.

A score is 1 or 0 where facts are expected, else chrF / 100 against the reference. An item's id is
the hash of what is asked and wanted: an item that stays the same keeps its answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import Connection, func, select

from ft2ollama.aliases import digest_of
from ft2ollama.data.load import load_dataset
from ft2ollama.data.questions import load_questions
from ft2ollama.errors import JobError
from ft2ollama.evaluate.columns import Reply, Said, score
from ft2ollama.evaluate.material import Item, Material, from_questions, from_rows
from ft2ollama.files import read_jsonl, sha256_file, sha256_text
from ft2ollama.loop import tables as t
from ft2ollama.loop.crashpoint import crashpoint
from ft2ollama.loop.curate.samples import rid_of
from ft2ollama.loop.curate.store import REGRESSION, add_version
from ft2ollama.loop.gate import Answers, Artefact, Scored
from ft2ollama.loop.ledger import Ledger, insert_new
from ft2ollama.loop.place import Place
from ft2ollama.loop.records import canonical, question_key
from ft2ollama.loop.settings import SETS, Sets
from ft2ollama.loop.texts import Sentence
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.scores import stop_reached
from ft2ollama.thoughts import split_thought

_DEFAULT_NUM_CTX = 4096  # Ollama's, where a Modelfile says nothing
_GOOD_CHRF = 50.0  # from here on, with the right numbers, an answer in other words counts as right


@dataclass(frozen=True)
class Asked:
    """One item of a set. set_name: must_pass, golden, fresh, regression, general, refusal.

    kept_as: its key in eval_result with version.  rid: the exchange that was held out.
    """

    set_name: str
    kept_as: str
    version: int
    item_id: str
    item: Item
    rid: str = ""


@dataclass(frozen=True)
class Spoken:
    """How a model is asked. marks: round its thoughts.  name, digest: which one."""

    name: str
    digest: str
    marks: tuple[str, str]


def freeze(connection: Connection, line: str, sets: Sets, tokens: int, now_ms: int) -> None:
    """Put every file that is new or changed into the ledger, as a new version of its set."""
    for name in SETS:
        path = getattr(sets, name)
        if path is not None:
            _freeze(connection, f"{line}/{name}", path, tokens, now_ms)


def _freeze(connection: Connection, name: str, path: Path, tokens: int, now_ms: int) -> None:
    note = f"file sha256 {sha256_file(path)}"
    versions = t.eval_set
    known = connection.execute(
        select(versions.c.version, versions.c.note)
        .where(versions.c.name == name)
        .order_by(versions.c.version)
    ).all()
    from_files = [text for _, text in known if str(text).startswith("file sha256 ")]
    if from_files and from_files[-1] == note:
        return  # later versions only lack what was retired
    rows = {_id(item): _columns(item) for item in read_items(path, tokens).items}
    version = known[-1][0] + 1 if known else 1
    listed = [{"item_id": key, **rows[key]} for key in sorted(rows)]
    add_version(connection, name, version, listed, now_ms=now_ms, note=note)


def read_items(path: Path, tokens: int, system: str = "") -> Material:
    """The items of a file of questions with facts, or of a data set with answers."""
    if _holds_questions(path):
        questions = load_questions(path, facts=True)
        return from_questions(questions, system, count=len(questions), tokens=tokens)
    rows = load_dataset([str(path)], path.parent).conversations
    return from_rows(rows, None, system, count=len(rows), tokens=tokens)


def _holds_questions(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and "question" in row and "expect" in row


def _columns(item: Item) -> dict[str, Any]:
    question = str(item.messages[-1]["content"])
    return {
        "question_sha256": question_key(question),
        "prompt": {"messages": [dict(one) for one in item.messages], "limit": item.limit},
        "reference": item.reference,
        "keyfacts": list(item.facts) or None,
    }


def _id(item: Item) -> str:
    asked = [[dict(one) for one in item.messages], item.limit, item.reference, list(item.facts)]
    return sha256_text(canonical(asked))[:24]


def items_of(ledger: Ledger, line: str, dataset: Path, tokens: int, sets: Sets) -> list[Asked]:
    """Everything that both models are asked: the newest version of each set that the config names,
    what earlier cycles held out, and fresh rows.

    What earlier cycles held out has the key that it had then: the live model has answered it.
    """
    named = [name for name in SETS if getattr(sets, name) is not None]
    with ledger.read() as connection:
        found = [_within(one, tokens) for name in named for one in _frozen(connection, line, name)]
        kept = [
            replace(_within(one, tokens), kept_as=f"{line}/fresh", version=0)
            for one in _frozen(connection, line, REGRESSION)
        ]
    fresh = fresh_items(line, dataset, tokens)
    now = {one.item_id for one in fresh}
    return [*found, *(one for one in kept if one.item_id not in now), *fresh]


def fresh_items(line: str, dataset: Path, tokens: int) -> list[Asked]:
    """The rows that a cycle held out; each with the exchange it is."""
    path = dataset / "fresh.jsonl"
    if not path.stat().st_size:
        return []
    rids = [rid_of(row) for row in read_jsonl(path)]
    return [
        Asked("fresh", f"{line}/fresh", 0, _id(item), item, rids[_line_of(item) - 1])
        for item in read_items(path, tokens).items
    ]


def _line_of(item: Item) -> int:
    """The number of its line, from 1; a place is FILE:LINE."""
    return int(item.place.rpartition(":")[2])


def as_rows(asked: Iterable[Asked]) -> dict[str, dict[str, Any]]:
    """rid -> columns of eval_item."""
    return {one.rid: {"item_id": one.item_id, **_columns(one.item)} for one in asked}


def _within(one: Asked, tokens: int) -> Asked:
    """The question with the limit that the config gives now, which is not that of long ago."""
    item = replace(one.item, limit=tokens)
    return replace(one, item=item, item_id=_id(item))


def _frozen(connection: Connection, line: str, name: str) -> Iterator[Asked]:
    kept_as, item = f"{line}/{name}", t.eval_item
    newest = select(func.max(t.eval_set.c.version)).where(t.eval_set.c.name == kept_as)
    version = connection.execute(newest).scalar()
    here = (item.c.set_name == kept_as) & (item.c.version == version)
    for row in connection.execute(select(item).where(here).order_by(item.c.item_id)).mappings():
        prompt = row["prompt"]
        asked = Item(
            row["item_id"], tuple(prompt["messages"]), prompt["limit"], row["reference"],
            tuple(row["keyfacts"] or ()),
        )  # fmt: skip
        yield Asked(name, kept_as, row["version"], row["item_id"], asked, row["rid"] or "")


def ask_all(place: Place, run_id: str, model: Spoken, items: Sequence[Asked]) -> None:
    """Ask for what is not answered yet; each answer is a row before the next one is asked for.

    Raises JobError when the name is another model at the end than at the beginning.
    """
    known = _answered(place.ledger, model.digest)
    waiting = [one for one in items if _key(one) not in known]
    place.say(Sentence("asking", model=model.name, waiting=len(waiting), count=len(items)))
    for one in waiting:
        reply = score(one.item, _say(place.server, model, one.item))
        row = {
            "run_id": run_id, "model_ref": model.name, "model_digest": model.digest,
            "set_name": one.kept_as, "version": one.version, "item_id": one.item_id,
            "output": reply.said.text, "scores": _scores(reply),
            "ms": round(reply.said.seconds * 1000, 1), "rid": one.rid or None,
        }  # fmt: skip
        with place.ledger.begin() as connection:
            insert_new(connection, t.eval_result, [row])
        crashpoint("answer kept")
    if digest_of(place.server, model.name) != model.digest:
        raise JobError(
            f"{model.name} was changed by somebody else while it was asked",
            "its answers are not those of one model",
            "run the same command again",
        )


def _say(server: Ollama, model: Spoken, item: Item) -> Said:
    options = {**quiet_options(server.is_local), "num_predict": item.limit}
    reply = server.chat(model.name, item.messages, options=options)
    _, text = split_thought(reply.text, model.marks)
    stopped = stop_reached(reply.done_reason)
    return Said(text, stopped, reply.reply_tokens, reply.reply_seconds)


def _scores(reply: Reply) -> dict[str, Any]:
    """As kept in eval_result.scores; tokens and seconds are of the writing alone."""
    if reply.right is not None:
        value, passed = float(reply.right), reply.right
    else:
        value = (reply.chrf or 0.0) / 100
        close = (reply.chrf or 0.0) >= _GOOD_CHRF and bool(reply.numbers)
        passed = bool(reply.exact) or close
    return {
        "score": round(value, 6), "passed": passed, "stopped": reply.said.stopped,
        "distinct": round(reply.distinct, 4), "well_formed": _well_formed(reply),
        "tokens": reply.said.tokens, "seconds": round(reply.said.seconds, 4),
    }  # fmt: skip


def _well_formed(reply: Reply) -> bool | None:
    """Is the reply JSON? None where the reference is none."""
    if not (reply.item.reference or "").lstrip().startswith(("{", "[")):
        return None
    try:
        json.loads(reply.item.reference or "")
    except ValueError:
        return None
    try:
        json.loads(reply.said.text)
    except ValueError:
        return False
    return True


def _key(one: Asked) -> tuple[str, int, str]:
    return one.kept_as, one.version, one.item_id


def _answered(ledger: Ledger, digest: str) -> dict[tuple[str, int, str], Mapping[str, Any]]:
    result = t.eval_result
    wanted = select(result).where(result.c.model_digest == digest)
    with ledger.read() as connection:
        rows = connection.execute(wanted).mappings().all()
    return {(row["set_name"], row["version"], row["item_id"]): row["scores"] for row in rows}


def answers(
    ledger: Ledger, digest: str, items: Sequence[Asked]
) -> tuple[dict[str, Answers], float]:
    """(set -> item -> scored answer, median tokens/s) of a model that was asked everything."""
    known = _answered(ledger, digest)
    found: dict[str, dict[str, Scored]] = {}
    speeds = []
    for one in items:
        kept = known[_key(one)]
        names = ("score", "passed", "stopped", "distinct", "well_formed")
        found.setdefault(one.set_name, {})[one.item_id] = Scored(**{n: kept[n] for n in names})
        if kept["seconds"]:
            speeds.append(kept["tokens"] / kept["seconds"])
    return dict(found), median(speeds) if speeds else 0.0


def artefact(
    server: Ollama, model: Spoken, expected: str, speed: float, **training: Any
) -> Artefact:
    """What the server tells of a model. training: fields of `Artefact` that come from a run."""
    listed = {one.name: one for one in server.listed()}
    shown = server.show(model.name)
    one = next(value for name, value in listed.items() if value.digest == model.digest)
    return Artefact(
        digest=digest_of(server, model.name) or "",
        expected_digest=expected,
        num_ctx=int(shown.parameters.get("num_ctx", _DEFAULT_NUM_CTX)),
        size_bytes=one.size,
        tokens_per_s=speed,
        **training,
    )
