"""What a promotion, a rollback and an erasure leave in the ledger; no model is needed for that."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, select, text, update

from ft2ollama.loop import exam, regression
from ft2ollama.loop import tables as t
from ft2ollama.loop.conservation import conservation
from ft2ollama.loop.curate.dataset import Lineage, record_set_sha256, write_dataset
from ft2ollama.loop.curate.pipeline import Curation, curate
from ft2ollama.loop.curate.rules import Needs
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.curate.store import eval_items, kept_rids, read_inputs, write_verdicts
from ft2ollama.loop.due import cooldown, is_due
from ft2ollama.loop.forget import Choice, find, forget
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback
from ft2ollama.loop.records import Exchange, Feedback
from ft2ollama.loop.rollback import last_rollback
from ft2ollama.loop.settings import Sets, Trigger
from ft2ollama.loop.traces import Wanted, holding

DAY = 86_400_000
SET = "shop/regression"


def rid(n: int) -> str:
    return f"{n:032x}"


def fill(ledger: Ledger, ids: Iterable[int], answer: str = "") -> None:
    """Corrected answers to questions that are not alike."""
    rows, said = [], []
    for n in ids:
        letters = sha256(str(n).encode()).hexdigest()
        question = f"{letters[:12]} {letters[12:20]}?"
        rows.append(Exchange([{"role": "user", "content": question}], question, "I do not know.",
                             n, rid=rid(n), http_status=200, done_reason="stop"))  # fmt: skip
        words = answer or f"It is in aisle {n}."
        said.append(Feedback("correction", n, "test", rid=rid(n), text=words))
    with ledger.begin() as connection:
        add_exchanges(connection, ("proxy", ""), rows)
        add_feedback(connection, said)


def cycle(ledger: Ledger, run_id: str, folder: Path, *, most: int = 200, now: int = 0) -> Curation:
    """A promoted cycle as far as the ledger sees it. now: when its rows were taken."""
    needs = Needs(CurateConfig(fresh_from=1), now_ms=10**6)
    with ledger.begin() as connection:
        given = read_inputs(connection, "shop", needs, 7)
        found = curate(given)
        connection.execute(t.run.insert().values(
            run_id=run_id, line="shop", state="PROMOTED", base_ref="b", base_sha256="0", config={},
            config_sha256="0", code_version="0", seed=7, created_ms=now,
            record_set_sha256=record_set_sha256(row.rid for row in given.new)))  # fmt: skip
        connection.execute(t.run_record.insert(), [
            {"run_id": run_id, "rid": row.rid, "role": "new", "verdict": "pending"}
            for row in given.new
        ])  # fmt: skip
        write_verdicts(connection, run_id, found, now)
        write_dataset(folder / "dataset", found, given, Lineage(run_id))
        asked = exam.fresh_items("shop", folder / "dataset", 16)
        regression.archive(connection, "shop", run_id, exam.as_rows(asked), most=most,
                           since_ms=now, now_ms=now)  # fmt: skip
    assert conservation(ledger) == []
    return found


def verdicts(found: Curation) -> dict[str, str]:
    return {one.rid: one.rule or one.verdict for one in found.verdicts}


def in_set(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return [row["rid"] for row in regression.newest(connection, SET)]


def kept(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return kept_rids(connection, "shop")


def test_what_was_held_out_is_asked_by_later_cycles(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, range(1, 10))
    first = verdicts(cycle(ledger, "a", tmp_path / "a", now=100))
    held = sorted(one for one, verdict in first.items() if verdict == "eval_fresh")
    assert len(held) == 3
    assert sorted(in_set(ledger)) == held
    assert set(kept(ledger)) == set(first) - set(held)
    fresh = exam.fresh_items("shop", tmp_path / "a/dataset", 16)
    (tmp_path / "none/dataset").mkdir(parents=True)
    (tmp_path / "none/dataset/fresh.jsonl").write_text("")
    asked = exam.items_of(ledger, "shop", tmp_path / "none/dataset", 16, Sets())
    assert {one.set_name for one in asked} == {"regression"}
    # The live model has answered them: the very keys under which its answers are.
    keys = [(one.kept_as, one.version, one.item_id, one.rid) for one in fresh]
    assert sorted((o.kept_as, o.version, o.item_id, o.rid) for o in asked) == sorted(keys)

    fill(ledger, range(20, 29))
    second = verdicts(cycle(ledger, "b", tmp_path / "b", most=4, now=200))
    new = {one for one, verdict in second.items() if verdict == "eval_fresh"}
    assert len(new) == 3
    assert new < set(in_set(ledger))
    (left,) = set(in_set(ledger)) - new  # four have room, the newest stay
    assert left in held
    assert set(held) - {left} <= set(kept(ledger))  # the others are trained on from now on


def test_a_question_like_one_that_is_held_out_is_not_trained_on(
    ledger: Ledger, tmp_path: Path
) -> None:
    long = "Bring it back within forty five days with the bill and we will give you the money back."
    fill(ledger, range(1, 7), answer=long)  # few enough to be no phrase of the house
    cycle(ledger, "a", tmp_path / "a", now=100)
    held = in_set(ledger)[0]
    with ledger.read() as connection:
        query = select(t.exchange.c.question).where(t.exchange.c.rid == held)
        question = str(connection.execute(query).scalar())
    with ledger.begin() as connection:
        again = Exchange([{"role": "user", "content": question}], question, long, 300, rid=rid(99),
                         origin="human")  # fmt: skip
        add_exchanges(connection, ("proxy", ""), [again])
    fill(ledger, [50, 51], answer=long)  # other questions, the same answer: no leak
    second = verdicts(cycle(ledger, "b", tmp_path / "b", now=400))
    assert second[rid(99)] == "eval_contamination"
    assert {second[rid(n)] for n in (50, 51)} <= {"keep", "eval_fresh"}
    assert "eval_contamination" not in {
        verdict for one, verdict in second.items() if one in kept(ledger)
    }


def test_a_corrected_answer_leaves_and_is_learned(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, range(1, 10))
    cycle(ledger, "a", tmp_path / "a", now=100)
    one, two, three = in_set(ledger)
    with ledger.begin() as connection:
        add_feedback(connection, [
            Feedback("correction", 50, "test", rid=one, text="It was in aisle 500."),  # before
            Feedback("correction", 150, "test", rid=two, text="It is in aisle 700 now."),
        ])  # fmt: skip
        since = {item.rid: item.since_ms for item in eval_items(connection, "shop")}
        assert eval_items(connection, "other") == []
    assert since == dict.fromkeys((one, two, three), 100)
    fill(ledger, [60])
    cycle(ledger, "b", tmp_path / "b", now=300)
    assert sorted(in_set(ledger)) == sorted((one, three))
    fill(ledger, [61])
    third = cycle(ledger, "c", tmp_path / "c", now=400)
    assert "It is in aisle 700 now." in [s.messages[-1]["content"] for s in third.train]


def answered(ledger: Ledger, run_id: str, rids: Iterable[str | None]) -> None:
    with ledger.begin() as connection:
        for number, one in enumerate(rids):
            connection.execute(t.eval_result.insert().values(
                run_id=run_id, model_ref="m", model_digest="d", set_name="shop/fresh", version=0,
                item_id=f"{run_id}{number}", output=f"said of {one}", scores={}, rid=one,
            ))  # fmt: skip


def outputs(ledger: Ledger) -> dict[str | None, str]:
    with ledger.read() as connection:
        query = select(t.eval_result.c.rid, t.eval_result.c.output)
        return {row.rid: row.output for row in connection.execute(query)}


def test_forgetting_a_row_touches_no_other(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path))
    folder = tmp_path / "cycles/a"
    fill(ledger, range(1, 10))
    cycle(ledger, "a", folder, now=100)
    gone, other, _ = in_set(ledger)
    trained = next(one for one in kept(ledger))
    answered(ledger, "a", [gone, other, None])
    with ledger.read() as connection:
        query = select(t.exchange.c.question).where(t.exchange.c.rid == trained)
        question = str(connection.execute(query).scalar())
    proof = folder / "a/proof"
    proof.mkdir(parents=True)
    (proof / "prompts.jsonl").write_text(json.dumps({"text": question}))
    (proof / "proof.md").write_text("nothing of anybody")
    (folder / "a/model.safetensors").write_text(question)

    def erase(one: str) -> list[str]:
        with ledger.read() as connection:
            rows = find(connection, Choice(rids=(one,)))
        (found,) = forget(ledger, Choice(rids=(one,)), rows, "asked")
        return [file.relative_to(folder).as_posix() for file in found.files]

    assert erase(gone) == ["dataset/fresh.jsonl"]
    # What nobody assigned to a row is an older ft2ollama's: it may be that row's.
    assert outputs(ledger) == {gone: "", other: f"said of {other}", None: ""}
    assert gone not in in_set(ledger)
    assert other in in_set(ledger)
    assert len(exam.items_of(ledger, "shop", tmp_path / "cycles/a/dataset", 16, Sets())) == 3
    with ledger.read() as connection:
        left = [str(row) for row in connection.execute(select(t.eval_item)).all()]
    assert len(left) == 5  # three, and the two of the next version
    assert sum("aisle" in row for row in left) == 4

    assert erase(trained) == ["a/proof/prompts.jsonl", "dataset/train.jsonl"]
    assert outputs(ledger)[other] == f"said of {other}"
    assert conservation(ledger) == []


def test_the_files_in_which_a_text_stands(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Ist <PHONE_1> in „Köln“?"}]
    learned = {"messages": asked, "metadata": {"rid": "r1"}}
    other = {"messages": [{"role": "user", "content": "?!"}], "metadata": {"rid": "r2"}}
    files = {
        "train.jsonl": json.dumps(learned, ensure_ascii=False),
        "other.jsonl": json.dumps(other),
        "escaped.json": json.dumps({"prompt": "<|user|>Ist <PHONE_1> in „Köln“?"}),
        "plain.md": "asked: Ist 0171 in „Köln“?",
        "weights.safetensors": "Ist 0171 in „Köln“?",
        "cut.jsonl": '{"rid": "r1", "mess',
    }
    paths = [tmp_path / name for name in files]
    for path in paths:
        path.write_text(files[path.name], encoding="utf-8")
    wanted = Wanted(frozenset({"r1"}), frozenset({"Ist 0171 in „Köln“?"}))
    found = [path.name for path in holding([*paths, tmp_path / "gone.json"], wanted)]
    assert found == ["train.jsonl", "escaped.json", "plain.md"]


def test_what_a_model_said_of_a_text_goes_too(ledger: Ledger) -> None:
    answered(ledger, "a", ["13800138000", "x"])
    forget(ledger, Choice(text="13800138000"), [], "asked")
    assert outputs(ledger) == {"13800138000": "", "x": "said of x"}


def moved(ledger: Ledger, action: str, digest: str, when: int, **more: Any) -> None:
    row = {"host": "h", "alias": "shop:latest", "to_digest": digest, "to_tag": f"shop:{digest}",
           "run_id": None, "action": action, "state": "verified", "ts_ms": when}  # fmt: skip
    with ledger.begin() as connection:
        connection.execute(t.deployment.insert().values(**row, **more))


def test_after_a_rollback_only_new_rows_count_until_the_cooldown_is_over(ledger: Ledger) -> None:
    trigger = Trigger(rows=4, few=2, days=1, cooldown=3)
    fill(ledger, range(1, 6))
    moved(ledger, "publish", "one", 0)
    moved(ledger, "publish", "two", 1)
    assert is_due(ledger, "shop", trigger, 10).due
    moved(ledger, "rollback", "one", 10, last_seq=5)
    soon = is_due(ledger, "shop", trigger, 20)
    assert (soon.due, soon.pending) == (False, 5)  # retrain without --if-due would begin
    assert soon.why == (
        "shop:latest was rolled back to shop:one; for another 3.0 days only rows count that came "
        "since: 0 of 5, 2 are wanted"
    )
    assert is_due(ledger, "shop", trigger, 10 + 3 * DAY).due
    assert is_due(ledger, "shop", Trigger(rows=4, few=2, cooldown=0), 20).due
    assert is_due(ledger, "other", trigger, 20).due
    fill(ledger, [20])
    assert not is_due(ledger, "shop", trigger, 30).due
    fill(ledger, [21])
    assert is_due(ledger, "shop", trigger, 30).due

    fill(ledger, range(22, 30))
    moved(ledger, "rollback", "zero", 40, last_seq=99)
    assert cooldown(ledger, "shop", trigger, 50) is not None
    moved(ledger, "rollback", "two", 60, last_seq=99)  # forward again to what was promoted last
    assert cooldown(ledger, "shop", trigger, 70) is None


def test_a_rollback_that_was_not_carried_out_holds_nobody_up(ledger: Ledger) -> None:
    moved(ledger, "publish", "one", 0)
    moved(ledger, "rollback", "zero", 1)
    with ledger.begin() as connection:
        assert last_rollback(connection, "shop:latest") is not None
        connection.execute(
            update(t.deployment).where(t.deployment.c.id == 2).values(state="failed")
        )
        assert last_rollback(connection, "shop:latest") is None


def test_a_ledger_of_version_1_gets_its_columns(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        connection.execute(text("DROP INDEX ix_eval_result_rid"))
        connection.execute(text("ALTER TABLE eval_result DROP COLUMN rid"))
        connection.execute(text("ALTER TABLE deployment DROP COLUMN last_seq"))
        connection.execute(update(t.schema_version).values(version=1))
    with Ledger.open(ledger.engine.url.render_as_string(hide_password=False)) as again:
        answered(again, "a", ["x"])
        moved(again, "rollback", "d", 1, last_seq=7)
        names = [index["name"] for index in inspect(again.engine).get_indexes("eval_result")]
        assert names == ["ix_eval_result_rid"]
        with again.read() as connection:
            assert connection.execute(select(t.schema_version.c.version)).scalars().all() == [2]
