"""Curation with a ledger, SQLite and PostgreSQL: snapshots, verdicts, history, conservation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from ft2ollama.data.load import load_dataset
from ft2ollama.loop import tables as t
from ft2ollama.loop.conservation import conservation
from ft2ollama.loop.curate.dataset import Lineage, record_set_sha256, verify, write_dataset
from ft2ollama.loop.curate.pipeline import Curation, Inputs, curate
from ft2ollama.loop.curate.rules import Needs
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.curate.store import (
    add_version,
    eval_items,
    kept_rids,
    pending_rids,
    read_inputs,
    write_verdicts,
)
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback, mark_deleted
from ft2ollama.loop.records import Exchange, Feedback, question_key

PROXY = ("proxy", "http://127.0.0.1:11434")
PROMPT = "Use these documents.\n<context>\n{}\n</context>\n\n{}"


def captured(n: int, question: str, answer: str, *docs: str, **more: Any) -> Exchange:
    """An exchange as the proxy writes it."""
    said = "\n".join(f'<source id="{k}">{doc}</source>' for k, doc in enumerate(docs, 1))
    content = PROMPT.format(said, question) if docs else question
    values = {"rid": f"{n:032x}", "ts_ms": n, "contexts": [{"text": doc} for doc in docs],
              "http_status": 200, "done_reason": "stop"}  # fmt: skip
    return Exchange([{"role": "user", "content": content}], question, answer,
                    **{**values, **more})  # fmt: skip


def rid(n: int) -> str:
    return f"{n:032x}"


def fill(ledger: Ledger, rows: Iterable[Exchange], said: Iterable[Feedback] = ()) -> None:
    with ledger.begin() as connection:
        add_exchanges(connection, PROXY, list(rows))
        add_feedback(connection, list(said))


def inputs(ledger: Ledger, line: str = "shop", **config: Any) -> Inputs:
    with ledger.engine.connect() as connection:
        return read_inputs(connection, line, Needs(CurateConfig(**config), now_ms=10**6), 7)


def cycle(ledger: Ledger, run_id: str, state: str, line: str = "shop", **config: Any) -> Curation:
    """A run from its snapshot to its end, as the state machine does it."""
    given = inputs(ledger, line, **config)
    found = curate(given)
    with ledger.begin() as connection:
        connection.execute(t.run.insert().values(
            run_id=run_id, line=line, state=state, base_ref="b", base_sha256="0", config={},
            config_sha256="0", code_version="0", seed=7, created_ms=1,
            record_set_sha256=record_set_sha256(row.rid for row in given.new)))  # fmt: skip
        pending = [{"run_id": run_id, "rid": row.rid, "role": "new", "verdict": "pending"}
                   for row in given.new]  # fmt: skip
        if pending:
            connection.execute(t.run_record.insert(), pending)
    for _ in range(2):  # a crash after the verdicts: written again, nothing changes
        with ledger.begin() as connection:
            write_verdicts(connection, run_id, found, 5)
    return found


def pending(ledger: Ledger, line: str = "shop") -> list[str]:
    with ledger.engine.connect() as connection:
        return pending_rids(connection, line)


def correction(n: int, words: str, when: int) -> Feedback:
    return Feedback("correction", when, "open-webui", rid=rid(n), text=words)


ALL = {"fresh_share": 0.0, "val_share": 0.0, "grounded_cap": 1.0}


def test_a_rejected_run_gives_its_rows_back_and_a_promoted_one_keeps_them(ledger: Ledger) -> None:
    doc = "退货期为30天。"
    rows = [captured(1, "退货期是多久？", "退货期为30天。", doc), captured(2, "?", "x"),
            captured(3, "发货呢？", "不知道", doc)]  # fmt: skip
    fill(ledger, rows, [correction(3, "3天发货", 9)])
    assert pending(ledger) == [rid(1), rid(2), rid(3)]
    cycle(ledger, "a", "REJECTED", **ALL)
    assert pending(ledger) == [rid(1), rid(2), rid(3)]
    found = cycle(ledger, "b", "PROMOTED", **ALL)
    assert pending(ledger) == []
    assert pending(ledger, "other") == [rid(1), rid(2), rid(3)]
    assert found.counts == {"pending": 3, "kept": 2, "eval_fresh": 0, "dropped": {"length": 1},
                            "superseded": 0}  # fmt: skip
    with ledger.engine.connect() as connection:
        assert kept_rids(connection, "shop") == [rid(1), rid(3)]
        here = select(t.run_record).where(t.run_record.c.run_id == "b")
        written = {row["rid"]: row for row in connection.execute(here).mappings()}
    row, kept = written[rid(2)], written[rid(3)]["samples"]
    assert (row["verdict"], row["rule"], row["evidence"]) == ("drop", "length", {"question": 1})
    assert len(kept) == 3
    assert conservation(ledger) == []


def test_rows_without_a_place_wait_for_the_next_run(ledger: Ledger) -> None:
    doc = "The depot opens at {} o'clock and is run by {} with great care."
    towns = ("Aarhus", "Bergen", "Cork", "Dijon", "Evora")
    rows = [captured(n, f"Who runs depot {town}?", f"It is run by {town} with great care.",
                     doc.format(n, town)) for n, town in enumerate(towns, 1)]  # fmt: skip
    fill(ledger, [*rows, captured(9, "Who pays the freight?", "We do", origin="human")])
    found = cycle(ledger, "a", "PROMOTED", fresh_share=0.0, grounded_cap=0.4)
    assert found.counts["dropped"] == {"grounded_cap": 3}
    assert pending(ledger) == [rid(1), rid(2), rid(3)]
    assert conservation(ledger) == []
    again = cycle(ledger, "b", "PROMOTED", **ALL)
    assert again.counts["kept"] == 3
    assert sorted({one.rid for one in again.train if one.role == "replay"}) == [
        rid(4), rid(5), rid(9)]  # fmt: skip
    assert pending(ledger) == []
    assert conservation(ledger) == []


def test_a_new_answer_retires_the_old_one_everywhere(ledger: Ledger) -> None:
    fill(ledger, [captured(1, "谁负责仓库？", "王伟", origin="human"),
                  captured(2, "谁负责发票？", "李强", origin="human")])  # fmt: skip
    items = [
        {"item_id": name, "question_sha256": question_key(asked),
         "prompt": {"question": asked}, "reference": answer}
        for name, asked, answer in (("i1", "谁负责仓库？", "王伟"), ("i2", "谁负责物流？", "张三"))
    ]  # fmt: skip
    cycle(ledger, "a", "PROMOTED", **ALL)
    with ledger.begin() as connection:
        add_version(connection, "golden", 1, items, now_ms=2)
    fill(ledger, [captured(3, "请问谁负责仓库?", "赵敏", origin="human"),
                  captured(4, "谁负责物流", "张三", origin="human")])  # fmt: skip
    found = cycle(ledger, "b", "PROMOTED", **ALL)
    verdicts = {one.rid: (one.role, one.rule or one.verdict) for one in found.verdicts}
    assert verdicts == {rid(1): ("replay", "superseded"), rid(2): ("replay", "keep"),
                        rid(3): ("new", "keep"), rid(4): ("new", "eval_contamination")}  # fmt: skip
    assert "王伟" not in str([sample.record for sample in found.train])
    with ledger.engine.connect() as connection:
        pairs = connection.execute(select(t.supersede.c.old_rid, t.supersede.c.new_rid)).all()
        assert [tuple(pair) for pair in pairs] == [(rid(1), rid(3))]
        assert [(one.version, one.item_id, one.since_ms) for one in eval_items(connection)] == [
            (2, "i2", 2)]  # fmt: skip
    assert conservation(ledger) == []


def history(ledger: Ledger) -> Inputs:
    """A ledger with all sorts of rows and a promoted run, and what is given to the next."""
    doc = "部门 {} 的负责人是{}，分机号是 {}，办公室在 {} 楼，负责处理客户的各种咨询和投诉。"
    names = [f"{a}{b}" for a in "王李张刘陈" for b in "伟敏强芳军丽"]
    rows, said = [], []
    for n, name in enumerate(names * 4, 1):
        context = doc.format(n, name, 1000 + n, n % 30 + 1)
        rows.append(captured(n, f"部门 {n} 的负责人是谁？分机号是多少？",
                             f"负责人是{name}，分机号是 {1000 + n}，负责处理客户的咨询和投诉。",
                             context, doc.format(n + 500, names[n % 7], n + 3000, 3)))  # fmt: skip
        if n % 5 == 0:
            said.append(Feedback("thumb", n, "x", rid=rid(n), value=1 if n % 10 else -1))
        if n % 7 == 0:
            said.append(correction(n, f"负责人是{names[n % 11]}，电话 138{n:08d}。", 500 + n))
    half = len(rows) // 2
    fill(ledger, rows[:half])
    fill(ledger, rows[:10])  # seen before: PostgreSQL leaves gaps in its numbers
    cycle(ledger, "a", "PROMOTED", **ALL)
    fill(ledger, rows[half:], said)
    answer = "负责人是王伟，分机号是 1001，负责处理客户的咨询和投诉"
    near = [captured(1000 + n, "部门 1 的负责人是谁？分机号是多少？",
                     answer + "。！~呀呢"[n % 5] * (n // 5), doc.format(1, "王伟", 1001, 2))
            for n in range(40)]  # fmt: skip
    asked = product(
        ("退款", "发票", "物流", "会员", "密码", "积分", "保修", "优惠券", "地址", "合同"),
        ("怎么申请", "在哪里查看", "多久能到账", "可以修改吗", "如何取消", "要什么材料"),
    )
    fill(ledger, near)
    fill(ledger, [captured(2000 + n, f"{what}{how}？", f"{what}请联系客服 {n} 号，{how}。",
                           origin="human") for n, (what, how) in enumerate(asked)])  # fmt: skip
    return inputs(ledger)


def test_both_databases_and_any_process_make_the_same_data_set(
    ledger: Ledger, tmp_path: Path
) -> None:
    given = history(ledger)
    found = curate(given)
    first = write_dataset(tmp_path / "one", found, given, Lineage("run", 1))
    with Ledger.open(tmp_path / "other.db") as other:
        again = history(other)
        second = write_dataset(tmp_path / "two", curate(again), again, Lineage("other", 2))
    assert first == second
    assert verify(tmp_path / "one") == verify(tmp_path / "two") == []
    for name in ("train", "val", "fresh"):
        one, two = ((tmp_path / part / f"{name}.jsonl").read_bytes() for part in ("one", "two"))
        assert one == two
    counts = found.counts["dropped"]
    assert counts["near_dup"] > 5
    assert counts["low_rating"] > 2
    ids = set()
    url = ledger.engine.url.render_as_string(hide_password=False)
    for salt in ("0", "1"):
        folder = tmp_path / salt
        subprocess.run(
            [sys.executable, "-m", "ft2ollama", "-q", "collect", "preview", "--line", "shop",
             "--seed", "7", "--out", str(folder)],
            env={**os.environ, "FT2OLLAMA_LEDGER": url, "PYTHONHASHSEED": salt},
            check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        ids.add(json.loads((folder / "dataset.manifest.json").read_text("utf-8"))["id"])
    assert ids == {first}
    with ledger.begin() as connection:
        add_feedback(connection, [Feedback("thumb", 9999, "x", rid=rid(1039), value=-1)])
    given = inputs(ledger)
    assert write_dataset(tmp_path / "three", curate(given), given, Lineage()) != first


def test_training_reads_the_files(ledger: Ledger, tmp_path: Path) -> None:
    given = history(ledger)
    found = curate(given)
    write_dataset(tmp_path, found, given, Lineage())
    for name in ("train", "val", "fresh"):
        path = tmp_path / f"{name}.jsonl"
        rows = path.read_text("utf-8").splitlines()
        loaded = load_dataset((str(path),), tmp_path)
        assert len(loaded.conversations) == len(rows) > 0
        assert loaded.problems == loaded.warnings == ()
        assert "13800000" not in path.read_text("utf-8")
    made = json.loads((tmp_path / "dataset.manifest.json").read_text("utf-8"))
    assert made["files"][0]["samples"] == len(found.train)
    assert made["counts"] == found.counts
    assert made["pii"]["phone"] > 0
    (tmp_path / "val.jsonl").write_text("{}\n")
    (tmp_path / "fresh.jsonl").unlink()
    assert verify(tmp_path) == [
        "val.jsonl: changed since it was written", "fresh.jsonl: not there"]  # fmt: skip


def test_general_data_joins(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "general.jsonl"
    path.write_text("".join(f'{{"prompt": "Count to {n}", "response": "1 to {n}"}}\n'
                            for n in range(50)))  # fmt: skip
    fill(ledger, [captured(n, f"问题 {n * 997} 是什么？", f"答案是 {n}", origin="human")
                  for n in range(1, 61)])  # fmt: skip
    found = curate(inputs(ledger, general_data=path, **ALL))
    roles = [sample.role for sample in found.train]
    assert roles.count("general") == 9  # 5 % of 189
    assert roles.index("general") >= 120


def _run(ledger: Ledger) -> None:
    fill(ledger, [captured(1, "谁负责仓库？", "王伟", origin="human"), captured(2, "?", "x")])
    cycle(ledger, "a", "PROMOTED", **ALL)
    assert conservation(ledger) == []


BROKEN = {
    "a curated run has a verdict for every row": "UPDATE run_record SET verdict = 'pending'",
    "a dropped row names its rule": "UPDATE run_record SET rule = NULL",
    "a kept row has samples": "UPDATE run_record SET samples = NULL",
    "a run judges the rows it took": "DELETE FROM run_record WHERE rule IS NOT NULL",
    "a row is new in one promoted run of a line": (
        "INSERT INTO run SELECT 'b', line, state, attempt, parent_run, base_ref, base_sha256, "
        "config, config_sha256, NULL, code_version, seed, created_ms, error FROM run; "
        "INSERT INTO run_record SELECT 'b', rid, role, verdict, rule, evidence, samples "
        "FROM run_record"
    ),
    "an import keeps every row it rejected": (
        "INSERT INTO import_batch (source_id, importer, importer_version, seen, imported, "
        "duplicate, rejected, state, started_ms) SELECT id, 'x', 1, 3, 2, 0, 1, 'done', 1 "
        "FROM source"
    ),
    "a superseded row has a successor that is not itself": (
        "INSERT INTO supersede SELECT rid, rid, 'x', 1 FROM exchange"
    ),
    "an erased row has no text": "UPDATE exchange SET deleted_ms = 1",
}


@pytest.mark.parametrize("promise", BROKEN)
def test_broken_promises_are_found(ledger: Ledger, promise: str) -> None:
    _run(ledger)
    with ledger.begin() as connection:
        for statement in BROKEN[promise].split("; "):
            connection.execute(text(statement))
    assert promise in {one.promise for one in conservation(ledger)}


def test_an_erased_row_is_nowhere(ledger: Ledger) -> None:
    _run(ledger)
    with ledger.begin() as connection:
        mark_deleted(connection, rid(1), 3)
    assert {one.promise for one in conservation(ledger)} == {"an erased row is listed as erased"}
    with ledger.begin() as connection:
        connection.execute(t.erasure.insert().values(rid=rid(1), ts_ms=3, reason="x", runs=["a"]))
    assert conservation(ledger) == []
    assert inputs(ledger).old == []


def test_a_row_erased_between_snapshot_and_curation_is_dropped(ledger: Ledger) -> None:
    fill(ledger, [captured(1, "谁负责仓库？", "王伟", origin="human")])
    taken = pending(ledger)
    with ledger.begin() as connection:
        mark_deleted(connection, rid(1), 3)
    with ledger.engine.connect() as connection:
        given = read_inputs(connection, "shop", Needs(CurateConfig()), 7, rids=taken)
    assert curate(given).counts["dropped"] == {"erased": 1}


def test_a_thumb_down_after_training_takes_the_row_out_of_history(ledger: Ledger) -> None:
    doc = "退货期为30天，运费由本公司承担。"
    fill(ledger, [captured(1, "退货期是多久？", "退货期为30天。", doc),
                  captured(2, "谁负责仓库？", "王伟", origin="human")])  # fmt: skip
    cycle(ledger, "a", "PROMOTED", **ALL)
    fill(ledger, [], [Feedback("thumb", 9, "x", rid=rid(1), value=-1)])
    found = cycle(ledger, "b", "PROMOTED", **ALL)
    assert {one.rid: one.rule for one in found.verdicts} == {rid(1): "low_rating", rid(2): ""}
    assert conservation(ledger) == []


def test_the_state_of_a_run_decides(ledger: Ledger) -> None:
    _run(ledger)
    with ledger.begin() as connection:
        connection.execute(update(t.run).values(state="FAILED"))
    assert pending(ledger) == [rid(1), rid(2)]
    assert conservation(ledger) == []
