"""The later steps of a cycle: the new model is registered, asked beside the old one, and judged.

Same promise as in `steps`: each may be called again after a kill.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from ft2ollama.aliases import digest_of
from ft2ollama.candidate import NOBODY, Goods, propose
from ft2ollama.config import load_config
from ft2ollama.demo import register_base
from ft2ollama.export import base_gguf
from ft2ollama.files import write_json
from ft2ollama.loop import exam, swap
from ft2ollama.loop import tables as t
from ft2ollama.loop.crashpoint import crashpoint
from ft2ollama.loop.gate import Contest, Ruling, Verdict, judge
from ft2ollama.loop.goods import goods_of
from ft2ollama.loop.ledger import insert_new
from ft2ollama.loop.place import Place
from ft2ollama.loop.states import Cycle, advance
from ft2ollama.loop.steps import NoGood, Step, check_outputs, config_of, detail_of
from ft2ollama.loop.texts import Sentence, kept
from ft2ollama.publish import public_names
from ft2ollama.runs import Run
from ft2ollama.served import read_template
from ft2ollama.template import ChatTemplate
from ft2ollama.train.bases import named_base

_AFTER = {Verdict.PASS: "APPROVED", Verdict.NEEDS_HUMAN: "NEEDS_HUMAN"}


def register(place: Place, cycle: Cycle) -> Cycle:
    """EXPORTED -> REGISTERED: the version NAME:<cycle>, proved. Raises GateError when it is not.

    A version that a killed start has proved is taken over; one that it has not is made anew.
    """
    check_outputs(place, cycle, "export")
    run = Run(place.training(cycle.run_id))
    alias, tag = public_names(cycle.line, run)
    note = place.folder(cycle.run_id) / "registered.json"
    known = json.loads(note.read_text("utf-8")) if note.is_file() else {}
    if not known or digest_of(place.server, tag) != known["digest"]:
        note.unlink(missing_ok=True)
        if digest_of(place.server, tag) is not None:
            place.server.delete(tag)
        place.say(Sentence("registering", tag=tag))
        propose(goods_of(run, place.server), (alias, tag), [place.server])
        crashpoint("proved")
        known = {"alias": alias, "tag": tag, "digest": digest_of(place.server, tag)}
        write_json(note, known)
        crashpoint("registration written down")
    return advance(place.ledger, cycle, "REGISTERED", known)


def evaluate(place: Place, cycle: Cycle) -> Cycle:
    """REGISTERED -> EVALUATED: both models answer the same questions through Ollama."""
    made = detail_of(place.ledger, cycle.run_id, "REGISTERED")
    if digest_of(place.server, made["tag"]) != made["digest"]:
        raise NoGood(
            f"{made['tag']} is not what was proved, or is gone",
            "somebody removed or remade it",
            "run ft2ollama retrain again: the rows were given back",
        )
    items = _items(place, cycle)
    before = digest_of(place.server, made["alias"])
    old = _champion(place, cycle, made["alias"], before)
    for model in (old, _challenger(place, cycle, made)):
        exam.ask_all(place, cycle.run_id, model, items)
    detail = {
        "champion": old.name, "champion_digest": old.digest, "from_digest": before,
        "untuned": _is_base(place, made["alias"], old.digest), "items": len(items),
    }  # fmt: skip
    return advance(place.ledger, cycle, "EVALUATED", detail)


def decide(place: Place, cycle: Cycle) -> Cycle:
    """EVALUATED -> APPROVED | REJECTED | NEEDS_HUMAN, with a row for every rule."""
    verdict, rulings = judge(_contest(place, cycle), config_of(cycle).gate.bars())
    rows = [_row(cycle.run_id, number, one) for number, one in enumerate(rulings)]
    failed = [one.rule for one in rulings if not one.passed]

    def write(connection: Connection) -> None:
        insert_new(connection, t.gate_result, rows)

    detail = {"verdict": verdict.value, "failed": failed}
    to = _AFTER.get(verdict, "REJECTED")
    error = None if to == "APPROVED" else f"{verdict.value}: {', '.join(failed)}"
    return advance(place.ledger, cycle, to, detail, also=write, error=error)


def intend(place: Place, cycle: Cycle) -> Cycle:
    """APPROVED -> SWAPPING."""
    made = detail_of(place.ledger, cycle.run_id, "REGISTERED")
    judged = detail_of(place.ledger, cycle.run_id, "EVALUATED")
    digests = (judged["from_digest"], made["digest"])
    return swap.intend(place, cycle, made["alias"], made["tag"], digests)


def _items(place: Place, cycle: Cycle) -> list[exam.Asked]:
    dataset = place.folder(cycle.run_id) / "dataset"
    config = config_of(cycle)
    return exam.items_of(place.ledger, cycle.line, dataset, config.reply_tokens, config.sets)


def _challenger(place: Place, cycle: Cycle, made: Mapping[str, Any]) -> exam.Spoken:
    return exam.Spoken(made["tag"], made["digest"], _marks(place, cycle))


def _marks(place: Place, cycle: Cycle) -> tuple[str, str]:
    return _template(place, cycle).thought_marks


def _template(place: Place, cycle: Cycle) -> ChatTemplate:
    return read_template(Run(place.training(cycle.run_id)).proof / "template.json")


def _champion(place: Place, cycle: Cycle, alias: str, digest: str | None) -> exam.Spoken:
    """What the alias is, or the untuned base under NAME:base where there is no alias yet."""
    marks = _marks(place, cycle)
    if digest is not None:
        return exam.Spoken(alias, digest, marks)
    name = _base_name(alias)
    run = Run(place.training(cycle.run_id))
    goods: Goods = goods_of(run, place.server)
    base = named_base(load_config(run.config_file).config)
    place.say(Sentence("against-base", alias=alias, base=name))
    gguf = base_gguf(base, adds_bos=_template(place, cycle).adds_bos)
    register_base(place.server, name, gguf, goods.modelfile, NOBODY)
    return exam.Spoken(name, digest_of(place.server, name) or "", marks)


def _base_name(alias: str) -> str:
    return f"{alias.rpartition(':')[0]}:base"


def _is_base(place: Place, alias: str, digest: str) -> bool:
    """Is it the untuned base, for want of a model or after a rollback to it?"""
    return digest == digest_of(place.server, _base_name(alias))


def _contest(place: Place, cycle: Cycle) -> Contest:
    """The held-out loss is not compared: each cycle holds out rows of its own. Nor are size and
    speed with the base, which may be of another quantization.
    """
    made = detail_of(place.ledger, cycle.run_id, "REGISTERED")
    judged = detail_of(place.ledger, cycle.run_id, "EVALUATED")
    marks, items = _marks(place, cycle), _items(place, cycle)
    old = exam.Spoken(judged["champion"], judged["champion_digest"], marks)
    new = _challenger(place, cycle, made)
    loss = detail_of(place.ledger, cycle.run_id, "TRAINED").get("last_loss")
    before, old_speed = exam.answers(place.ledger, old.digest, items)
    after, new_speed = exam.answers(place.ledger, new.digest, items)
    champion = exam.artefact(place.server, old, old.digest, old_speed)
    finite = loss is None or math.isfinite(loss)
    challenger = exam.artefact(place.server, new, made["digest"], new_speed, finite=finite)
    if judged.get("untuned", judged["from_digest"] is None):
        champion = replace(champion, size_bytes=challenger.size_bytes, tokens_per_s=0.0)
    return Contest(champion, challenger, before, after)


def _row(run_id: str, number: int, one: Ruling) -> dict[str, Any]:
    detail = {**one.detail, **kept(one.why), "hard": one.hard, "number": number}
    return {
        "run_id": run_id, "rule": one.rule, "value": one.value, "threshold": one.threshold,
        "passed": one.passed, "detail": detail,
    }  # fmt: skip


STEPS: Mapping[str, Step] = {
    "EXPORTED": register,
    "REGISTERED": evaluate,
    "EVALUATED": decide,
    "APPROVED": intend,
    "SWAPPING": swap.swap,
}
