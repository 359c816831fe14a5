"""What importers make of a row, what import does not do twice, and what is refused whole."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from import_files import CASES, CUT, openwebui_chat, openwebui_messages
from sqlalchemy import select

from ft2ollama.data.catalogue import TEXTS as DATA_TEXTS
from ft2ollama.errors import DataError, JobError, UsageError
from ft2ollama.loop import tables as t
from ft2ollama.loop.conservation import conservation
from ft2ollama.loop.forget import Choice, forget
from ft2ollama.loop.forget import find as find_rows
from ft2ollama.loop.identity import hmac_user
from ft2ollama.loop.importers import mapped
from ft2ollama.loop.importers.base import ms_of
from ft2ollama.loop.importers.detect import IMPORTERS, find
from ft2ollama.loop.importers.run import Job, Result, import_file
from ft2ollama.loop.importers.texts import TEXTS
from ft2ollama.loop.ledger import Ledger, add_exchanges
from ft2ollama.loop.records import Exchange

BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT2OLLAMA_DATA", str(tmp_path / "data"))


def url_of(ledger: Ledger) -> str:
    return ledger.engine.url.render_as_string(hide_password=False)


def brought(ledger: Ledger, path: Path, name: str = "", **how: Any) -> Result:
    importer = IMPORTERS[name] if name else find([path], "en")[0][0].importer
    return import_file(ledger, path, Job(importer, **how))


def case(ledger: Ledger, name: str, folder: Path) -> list[dict[str, Any]]:
    BY_NAME[name].write(folder / name)
    brought(ledger, folder / name)
    return rows(ledger)


def rows(ledger: Ledger, table: Any = t.exchange) -> list[dict[str, Any]]:
    with ledger.read() as connection:
        order = table.c.seq if "seq" in table.c else next(iter(table.c))
        found = connection.execute(select(table).order_by(order)).mappings().all()
    return [dict(row) for row in found]


def test_openwebui_feedback(ledger: Ledger, tmp_path: Path) -> None:
    one, other = case(ledger, "feedback-history-export-1700000000000.json", tmp_path)
    assert one["contexts"] == [{"text": "30 天内可以退货", "source": "faq.md", "score": 0.83}]
    assert (one["question"], one["answer"], one["thinking"]) == ("退货？", "30 天", "hm")
    assert (one["chat_id"], one["message_id"], one["ts_ms"]) == ("chat-1", "a2", 1700000000000)
    assert (one["user_hmac"], one["origin"]) == (hmac_user("u-li"), "model")
    assert "u-li" not in one["raw"] + other["raw"]
    assert json.loads(one["raw"])["row"]["data"]["reason"] == "accurate_information"
    said = {(row["kind"], row["value"], row["text"]) for row in rows(ledger, t.feedback)
            if row["rid"] == one["rid"]}  # fmt: skip
    assert said == {("thumb", 1.0, None), ("score", 9.0, None),
                    ("comment", None, "accurate_information: 对")}  # fmt: skip


def test_a_chat_brings_history_and_the_current_branch(ledger: Ledger, tmp_path: Path) -> None:
    second = case(ledger, "all-chats-export.json", tmp_path)[1]
    assert [turn["role"] for turn in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"].endswith("30 天")
    assert second["ts_ms"] == 1700000001000


def test_the_chat_after_its_feedback_is_no_second_answer(ledger: Ledger, tmp_path: Path) -> None:
    case(ledger, "feedback-history-export-1700000000000.json", tmp_path)
    BY_NAME["all-chats-export.json"].write(tmp_path / "chats.json")
    result = brought(ledger, tmp_path / "chats.json")
    assert (result.imported, result.duplicate) == (2, 1)


def test_what_the_proxy_heard_is_not_imported_again(ledger: Ledger, tmp_path: Path) -> None:
    heard = Exchange([{"role": "user", "content": "退货？"}], "退货？", "30 天", 5, rid="p1",
                     chat_id="chat-1", message_id="a2")  # fmt: skip
    with ledger.begin() as connection:
        add_exchanges(connection, ("proxy", "x"), [heard])
    case(ledger, "feedback-history-export-1700000000000.json", tmp_path)
    assert rows(ledger)[0]["rid"] == "p1"
    assert len(rows(ledger)) == 2
    assert {row["kind"] for row in rows(ledger, t.feedback) if row["rid"] == "p1"} == {
        "thumb", "score", "comment",
    }  # fmt: skip


def test_a_rating_waits_for_its_whole_answer(ledger: Ledger, tmp_path: Path) -> None:
    case(ledger, "dify_feedback.csv", tmp_path)
    assert {row["message_id"] for row in rows(ledger, t.feedback_waiting)} == {"m1", "m3"}
    case(ledger, "dify-messages.jsonl", tmp_path)
    whole = next(row for row in rows(ledger) if row["message_id"] == "m1")
    assert whole["contexts"] == [{"text": "30 天内", "source": "faq.md", "score": 0.9}]
    values = [row["value"] for row in rows(ledger, t.feedback)
              if row["rid"] == whole["rid"] and row["kind"] == "thumb"]  # fmt: skip
    assert sorted(values) == [-1.0, -1.0, 1.0]
    assert CUT not in {row["answer"] for row in rows(ledger)}


def test_langfuse_joins_retrieval_and_corrections(ledger: Ledger, tmp_path: Path) -> None:
    one = case(ledger, "observations.jsonl", tmp_path)[0]
    assert one["contexts"] == [{"text": "30 天内", "score": 0.7}]
    assert [turn["role"] for turn in one["messages"]] == ["system", "user"]
    assert one["ts_ms"] == 1793527200123
    case(ledger, "scores.jsonl", tmp_path)
    said = {(row["kind"], row["value"], row["text"]) for row in rows(ledger, t.feedback)}
    assert said == {("correction", None, "30 个工作日"), ("thumb", -1.0, None),
                    ("comment", None, "wrong")}  # fmt: skip


def test_anythingllm_has_sources_and_ratings(ledger: Ledger, tmp_path: Path) -> None:
    good, bad = case(ledger, "anythingllm.db", tmp_path)
    assert good["contexts"] == [{"text": "30 天内", "source": "faq.md", "score": 0.8}]
    thumbs = {row["rid"]: row["value"] for row in rows(ledger, t.feedback)}
    assert thumbs == {good["rid"]: 1.0, bad["rid"]: -1.0}
    assert good["user_hmac"] == hmac_user("7")


def test_openai_messages(ledger: Ledger, tmp_path: Path) -> None:
    found = case(ledger, "messages.jsonl", tmp_path)
    assert [turn["role"] for turn in found[0]["messages"]] == ["user"]  # no empty system turn
    assert found[1]["question"] == "多久？"
    assert [turn["content"] for turn in found[2]["messages"]] == ["1?", "old", "2?"]
    assert found[3]["tool_calls"][0]["function"]["name"] == "find"
    assert found[4]["messages"][-1]["role"] == "tool"
    assert found[4]["tools"][0]["function"]["name"] == "find"
    assert {row["origin"] for row in found} == {"human"}
    assert (found[6]["question"], found[6]["context_extractor"]) == ("退货期？", "open-webui")


def test_the_user_says_who_wrote_the_answers(ledger: Ledger, tmp_path: Path) -> None:
    BY_NAME["messages.jsonl"].write(tmp_path / "m.jsonl")
    brought(ledger, tmp_path / "m.jsonl", origin="model")
    assert {row["origin"] for row in rows(ledger)} == {"model"}


def test_two_applications_are_two_sources(ledger: Ledger, tmp_path: Path) -> None:
    BY_NAME["annotations.json"].write(tmp_path / "a.json")
    assert brought(ledger, tmp_path / "a.json").imported == 1
    assert brought(ledger, tmp_path / "a.json", source="b").imported == 1


def test_an_erased_answer_does_not_come_back(ledger: Ledger, tmp_path: Path) -> None:
    case(ledger, "feedback-history-export-1700000000000.json", tmp_path)
    with ledger.read() as connection:
        choice = Choice(user="u-li")
        wanted = find_rows(connection, choice)
    forget(ledger, choice, wanted, "asked")
    BY_NAME["all-chats-export.json"].write(tmp_path / "chats.json")
    for path in tmp_path.glob("*.json"):
        brought(ledger, path)
    assert [row["answer"] for row in rows(ledger) if row["answer"]] == ["免费", "9 点"]
    assert len(rows(ledger, t.feedback)) == 1
    assert conservation(ledger) == []


def test_a_person_is_forgotten_in_rejected_rows_too(ledger: Ledger, tmp_path: Path) -> None:
    case(ledger, "dify_feedback.csv", tmp_path)
    assert len([row for row in rows(ledger, t.import_reject) if row["raw"]]) == 2
    forget(ledger, Choice(user="u-li"), [], "asked")
    assert not [row for row in rows(ledger, t.import_reject) if row["raw"]]
    assert rows(ledger, t.feedback_waiting) == []


def test_nul_and_half_characters(ledger: Ledger, tmp_path: Path) -> None:
    text = '{"messages": [{"role": "user", "content": "a\\u0000b\\ud800"}, '
    text += '{"role": "assistant", "content": "c\\u0000"}]}\n{"a\\u0000'
    (tmp_path / "m.jsonl").write_text(text)
    result = brought(ledger, tmp_path / "m.jsonl", "openai-messages")
    assert (result.imported, result.rejected) == (1, 1)
    assert rows(ledger)[0]["answer"] == "c\ufffd"


def test_a_list_that_breaks_off_is_told(ledger: Ledger, tmp_path: Path) -> None:
    row = {"instruction": "a", "output": "b"}
    (tmp_path / "a.json").write_text(json.dumps([row, {**row, "output": "c"}])[:-1] + ', {"x')
    result = brought(ledger, tmp_path / "a.json", "alpaca")
    assert (result.imported, result.rejected) == (2, 1)
    assert list(result.reasons) == ["json-broken"]


MANY = 1700


def many(path: Path) -> None:
    """MANY rows: 1 in 10 a duplicate of the one before, 1 in 17 without an answer."""
    lines = []
    for number in range(MANY):
        at = number - 1 if number % 10 == 9 else number
        answer = "" if at % 17 == 0 else f"answer {at}"
        row = {"q": f"question {at}?", "a": answer, "id": at, "stars": 1}
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines))


MAP = "question=$.q,answer=$.a,id=$.id,rating=$.stars"
_KILLED = """\
import os, signal, sys
from pathlib import Path
from ft2ollama.loop.importers import mapped, run
from ft2ollama.loop.ledger import Ledger
after, inside = int(sys.argv[3]), sys.argv[4] == "inside"
done = 0
def kill(*_):
    global done
    done += 1
    if done > after:
        os.kill(os.getpid(), signal.SIGKILL)
if inside:  # in the middle of a transaction
    real = run._reject
    def reject(*args):
        if args[3].seen >= after * run.BATCH:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*args)
    run._reject = reject
with Ledger.open(sys.argv[1]) as ledger:
    job = run.Job(mapped.importer(mapped.parse_map(sys.argv[5])), label=sys.argv[5])
    run.import_file(ledger, Path(sys.argv[2]), job, on_rows=(lambda _: None) if inside else kill)
"""


@pytest.mark.parametrize(("after", "where"), [(0, "after"), (1, "inside"), (2, "after")])
def test_a_killed_import_goes_on(ledger: Ledger, tmp_path: Path, after: int, where: str) -> None:
    many(tmp_path / "many.jsonl")
    args = [url_of(ledger), str(tmp_path / "many.jsonl"), str(after), where, MAP]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *args], check=False)
    assert killed.returncode == -signal.SIGKILL
    job = Job(mapped.importer(mapped.parse_map(MAP)), label=MAP)
    result = import_file(ledger, tmp_path / "many.jsonl", job)
    batches = after + (where == "after")
    assert result.resumed == 500 * batches
    (batch,) = rows(ledger, t.import_batch)
    counts = {name: batch[name] for name in ("seen", "imported", "duplicate", "rejected")}
    distinct = {n - 1 if n % 10 == 9 else n for n in range(MANY)}
    wanted = sum(n % 17 != 0 for n in distinct)
    without = sum((n - 1 if n % 10 == 9 else n) % 17 == 0 for n in range(MANY))
    assert counts == {"seen": MANY, "imported": wanted, "rejected": without,
                      "duplicate": MANY - wanted - without}  # fmt: skip
    assert len(rows(ledger)) == wanted == len(rows(ledger, t.feedback))
    again = import_file(ledger, tmp_path / "many.jsonl", job)
    assert (again.imported, again.duplicate, again.rejected) == (0, MANY - without, without)
    assert conservation(ledger) == []


def test_two_imports_of_a_file_at_once(ledger: Ledger, tmp_path: Path) -> None:
    many(tmp_path / "many.jsonl")
    job = Job(mapped.importer(mapped.parse_map(MAP)), label=MAP)

    def meanwhile(_: int) -> None:
        import_file(ledger, tmp_path / "many.jsonl", job)

    with pytest.raises(JobError, match="another process"):
        import_file(ledger, tmp_path / "many.jsonl", job, on_rows=meanwhile)
    (batch,) = rows(ledger, t.import_batch)
    assert (batch["state"], batch["seen"]) == ("done", MANY)
    assert conservation(ledger) == []


def test_dry_run_counts_and_writes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    many(tmp_path / "many.jsonl")
    job = Job(mapped.importer(mapped.parse_map(MAP)), label=MAP)
    dry = import_file(ledger, tmp_path / "many.jsonl", job, dry_run=True)
    assert rows(ledger) == rows(ledger, t.import_batch) == rows(ledger, t.source) == []
    real = import_file(ledger, tmp_path / "many.jsonl", job)
    for name in ("seen", "imported", "duplicate", "rejected"):
        assert getattr(dry, name) == getattr(real, name)


def test_map(ledger: Ledger, tmp_path: Path) -> None:
    row = {"q": {"text": "退货？"}, "docs": [{"content": "30 天内", "title": "faq"}], "u": "li",
           "replies": ["no", {"a b": "30 天"}], "when": "2026-11-01T00:00:00Z", "note": "ok",
           "stars": 4}  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps([row, {"q": 1}]))
    text = ("question=$.q.text, answer=$.replies[-1]['a b'], contexts=docs, time=$.when, user=$.u,"
            "rating=stars,comment=note")  # fmt: skip
    importer = mapped.importer(mapped.parse_map(text))
    result = import_file(ledger, tmp_path / "x.json", Job(importer, label=text))
    (one,) = rows(ledger)
    assert (one["answer"], one["origin"], one["ts_ms"]) == ("30 天", "model", 1793491200000)
    assert one["contexts"] == [{"text": "30 天内", "source": "faq"}]
    assert {(row["kind"], row["value"]) for row in rows(ledger, t.feedback)} == {
        ("score", 4.0), ("comment", None),
    }  # fmt: skip
    assert (result.rejected, list(result.reasons)) == (1, ["no-question"])


@pytest.mark.parametrize(
    ("text", "words"),
    [("question=$.q", "answer are wanted"), ("qestion=$.q,answer=$.a", "question"),
     ("question=$.q,answer=$..a", "no path"), ("question,answer=$.a", "no path")],
)  # fmt: skip
def test_a_map_that_is_none(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        mapped.parse_map(text)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(1700000000, 1700000000000), (1700000000123, 1700000000123), ("1700000000", 1700000000000),
     (1700000000.5, 1700000000500), (1700000000123456, 1700000000123), ("", 0), (None, 0),
     ("2023-11-14T22:13:20Z", 1700000000000), ("2023-11-14 22:13:20", 1700000000000),
     ("2023-11-15T06:13:20.5+08:00", 1700000000500), ("yesterday", 0), (True, 0), (-1, 0)],
)  # fmt: skip
def test_times(value: Any, wanted: int) -> None:
    assert ms_of(value) == wanted


def test_files_that_are_refused_whole_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,rating,model_id,chat_id,message_id,comment\n1,1,m,c,x,ok\n")
    (tmp_path / "b.csv").write_bytes(
        "question,answer\n多久？,三十天，可以退货。\n".encode("gb18030")
    )
    (tmp_path / "c.jsonl").write_text('{"foo": 1}\n')
    (tmp_path / "d.jsonl").write_text('{"instruction": "a", "output": "b", "conversations": []}\n')
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError) as error:
        find([tmp_path], "en")
    told = str(error.value)
    for words in ("Export as JSON", "iconv -f GB18030", "no known format (fields: foo)",
                  "could be alpaca (instruction, output) or sharegpt (conversations)",
                  "--as alpaca or --as sharegpt"):  # fmt: skip
        assert words in told
    with pytest.raises(DataError, match="4"):
        find([tmp_path], "zh")
    (found,), _ = find([tmp_path / "d.jsonl"], "en", IMPORTERS["alpaca"])
    assert found.importer.name == "alpaca"


def test_anythingllm_csv_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,workspace,prompt,response,sent_at,rating\n1,w,a,b,1,GOOD\n")
    with pytest.raises(DataError, match=r"storage/anythingllm\.db"):
        find([tmp_path / "c.csv"], "en")


def test_texts_are_whole() -> None:
    assert not set(TEXTS) & set(DATA_TEXTS)
    assert all(set(text) == {"en", "zh"} for text in TEXTS.values())


def test_a_chat_whose_parents_run_in_a_circle(ledger: Ledger, tmp_path: Path) -> None:
    messages = openwebui_messages()
    messages["u1"]["parentId"] = "a4"
    (tmp_path / "c.json").write_text(json.dumps([openwebui_chat(messages, "a4")]))
    result = brought(ledger, tmp_path / "c.json")
    assert (result.imported, list(result.reasons)) == (0, ["openwebui-circle"])
