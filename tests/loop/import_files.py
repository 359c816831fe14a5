"""Files as other tools export them, written from their schemas, each with the verdict of every row.

A verdict is the answer that is imported, a tuple (answer, feedback) with it, "said" for a row that
is only feedback, or `No(code)`.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CUT = "超" * 500 + "..."
LITELLM_CUT = "a" * 700 + "... (litellm_truncated skipped 5000 chars. Set X) ..." + "b" * 1300
ANYTHINGLLM_SYSTEM = (
    "Given the following conversation, relevant context, and a follow up question, reply with an "
    "answer to the current question the user is asking. Return only your response to the question "
    "given the above conversation and nothing more."
)


@dataclass(frozen=True)
class No:
    """Rejected. feedback: how many things were said nevertheless."""

    code: str
    feedback: int = 0


@dataclass(frozen=True)
class Case:
    """A file. importer: as it is detected.  verdicts: of every row, in order."""

    name: str
    importer: str
    write: Callable[[Path], None]
    verdicts: Sequence[Any]


def _json(value: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")  # type: ignore[return-value]


def _jsonl(*rows: Any) -> Callable[[Path], None]:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return lambda path: path.write_text(text, encoding="utf-8")  # type: ignore[return-value]


def _csv(head: Sequence[str], *rows: Sequence[str], bom: bool = False) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
            csv.writer(file).writerows([head, *rows])

    return write


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def _openai() -> Case:
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "?"}]
    parts = [{"type": "text", "text": "多久"}, {"type": "text", "text": "？"}]
    call = {"id": "c1", "type": "function",
            "function": {"name": "find", "arguments": '{"q": "退货"}'}}  # fmt: skip
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
    rag = ("### Task:\nRespond to the user query using the provided context.\n<context>\n"
           '<source id="1" name="faq.md">30 天</source>\n</context>\n\n退货期？')  # fmt: skip
    write = _jsonl(
        {"messages": [turn("system", ""), turn("user", "a?"), turn("assistant", "A")]},
        {"messages": [turn("user", parts), turn("assistant", "30 天")]},
        {"messages": [turn("user", "1?"), turn("assistant", "old", weight=0), turn("user", "2?"),
                      turn("assistant", "new", weight=1)], "split": "TRAIN"},
        {"messages": [turn("user", "1?"), turn("assistant", "never", weight=0)]},
        {"messages": [turn("user", picture), turn("assistant", "cat")]},
        {"messages": [turn("user", "find"), turn("assistant", None, tool_calls=[call]),
                      turn("tool", "[]", tool_call_id="c1"), turn("assistant", "nothing")],
         "tools": tools},
        {"input": {"messages": [turn("user", "b?")]},
         "preferred_output": [turn("assistant", "good")],
         "non_preferred_output": [turn("assistant", "bad")]},
        {"messages": [turn("user", "### Task:\nGenerate a concise, 3-5 word title"),
                      turn("assistant", "Title")]},
        {"messages": [turn("user", rag), turn("assistant", "30 天 [1]")]},
        {"messages": [turn("user", "nobody answers")]},
        {"messages": [turn("system", ""), turn("user", "a?"), turn("assistant", "A")]},
    )  # fmt: skip
    verdicts = ["A", "30 天", "new", No("all-unlearned"), No("content-part"), "", "nothing", "good",
                No("background-task"), "30 天 [1]", No("answer-missing"), "duplicate"]  # fmt: skip
    return Case("messages.jsonl", "openai-messages", write, verdicts)


def openwebui_chat(messages: dict[str, Any], current: str, **more: Any) -> dict[str, Any]:
    return {"id": "chat-1", "title": "t", **more,
            "chat": {"history": {"currentId": current, "messages": messages}}}  # fmt: skip


def openwebui_messages() -> dict[str, Any]:
    source = {"source": {"id": "f1", "name": "faq.md"}, "document": ["30 天内可以退货"],
              "metadata": [{"name": "faq.md", "page": 1}], "distances": [0.83]}  # fmt: skip
    return {
        "u1": {"id": "u1", "parentId": None, "childrenIds": ["a1", "a2"], **turn("user", "退货？")},
        "a1": {"id": "a1", "parentId": "u1", "childrenIds": [], "model": "biz:latest",
               **turn("assistant", "7 天"), "done": True},
        "a2": {"id": "a2", "parentId": "u1", "childrenIds": ["u2"], "model": "biz:latest",
               **turn("assistant", '<details type="reasoning" done="true">\n<summary>Thought'
                      "</summary>\n> hm\n</details>\n30 天"),
               "timestamp": 1700000000, "sources": [source], "done": True},
        "u2": {"id": "u2", "parentId": "a2", "childrenIds": ["a3", "a4"], **turn("user", "运费？")},
        "a3": {"id": "a3", "parentId": "u2", "childrenIds": [], **turn("assistant", "免"),
               "done": False},
        "a4": {"id": "a4", "parentId": "u2", "childrenIds": [], **turn("assistant", "免费"),
               "timestamp": 1700000001000, "annotation": {"rating": 1}},
    }  # fmt: skip


def _openwebui_feedback() -> Case:
    def row(message: str, rating: int, **more: Any) -> dict[str, Any]:
        chat = openwebui_chat(openwebui_messages(), "a4")
        return {"id": f"f-{message}", "user_id": "u-li", "version": 0, "type": "rating",
                "data": {"rating": rating, "model_id": "biz:latest", "comment": "对",
                         "details": {"rating": 9}, "reason": "accurate_information"},
                "meta": {"message_id": message, "chat_id": "chat-1"},
                "snapshot": {"chat": {**chat, "chat": chat["chat"]}},
                "created_at": 1700000000, "updated_at": 1700000000, **more}  # fmt: skip

    write = _json([row("a2", 1), row("a1", -1), row("gone", -1), row("a2", 1, snapshot=None)])
    verdicts = [("30 天", 3), ("7 天", 3), No("openwebui-no-message", 3),
                No("openwebui-no-snapshot", 0)]  # fmt: skip
    return Case("feedback-history-export-1700000000000.json", "openwebui", write, verdicts)


def _openwebui_chats(name: str, *, lines: bool) -> Case:
    chat = openwebui_chat(openwebui_messages(), "a4", user_id="u-li", created_at=1700000000)
    nested = openwebui_chat(
        {"q": {"id": "q", "parentId": None, **turn("user", "营业时间？")},
         "r": {"id": "r", "parentId": "q", **turn("assistant", "9 点")},
         "e": {"id": "e", "parentId": "q", **turn("assistant", ""), "error": {"content": "x"},
               "annotation": {"rating": -1}},
         "q2": {"id": "q2", "parentId": "r", **turn("user", "周日？")},
         "s": {"id": "s", "parentId": "q2", **turn("assistant", "休"), "done": False}},
        "s", user_id="u-li",
    )  # fmt: skip
    nested = {**nested, "id": "chat-2", "chat": {"chat": nested["chat"]}}
    rows = [chat, nested, {"id": "chat-3", "chat": {}}]
    write = _jsonl(*rows) if lines else _json(rows)
    verdicts = [No("other-branch"), "30 天", No("other-branch"), ("免费", 1), "9 点",
                No("answer-error", 1), No("answer-unfinished"),
                No("openwebui-no-history")]  # fmt: skip
    return Case(name, "openwebui", write, verdicts)


def _dify() -> list[Case]:
    head = ["feedback_id", "app_name", "app_id", "conversation_id", "message_id", "user_query",
            "ai_response", "feedback_rating", "feedback_rating_raw", "feedback_comment",
            "feedback_date", "message_date", "from_end_user_id"]  # fmt: skip

    def rated(message: str, answer: str, raw: str = "like", comment: str = "") -> list[str]:
        thumb = "👍" if raw == "like" else "👎"
        return ["f", "App", "1", "c1", message, "退货期？", answer, thumb, raw, comment,
                "2026-11-01 10:00:00", "2026-11-01 09:00:00", "u-li"]  # fmt: skip

    feedback = [rated("m1", CUT, "dislike", "太长"), rated("m2", "30 天"), rated("m3", "")]
    as_json = {
        "export_info": {"data_source": "dify_feedback_export"},
        "feedback_data": [dict(zip(head, row, strict=True)) for row in feedback],
    }
    verdicts = [No("dify-cut", 2), ("30 天", 1), No("no-answer", 1)]
    piece = {"position": 1, "document_name": "faq.md", "segment_id": "s", "score": 0.9,
             "content": "30 天内"}  # fmt: skip
    message = {"id": "m1", "conversation_id": "c1", "inputs": {}, "query": "退货期？",
               "answer": "长" * 600, "feedback": {"rating": "like"},
               "retriever_resources": [piece], "created_at": 1700000000}  # fmt: skip
    failed = {**message, "id": "m2", "status": "error", "error": "quota", "feedback": None}
    rating = {"id": "f9", "message_id": "m1", "rating": "dislike", "content": "no",
              "from_source": "user", "created_at": "2026-11-01T00:00:00"}  # fmt: skip
    notes = [
        {"id": "1", "question": "a?", "answer": "A", "hit_count": 0, "created_at": 1700000000},
        {"id": "2", "question": "b?", "answer": "", "hit_count": 0, "created_at": 1700000000},
    ]
    return [
        Case("annotations.csv", "dify-annotations",
             _csv(["问题", "答案"], ["多少？", "'-5 元"], ["引号？", "'很好'"], bom=True),
             ["-5 元", "'很好'"]),
        Case("annotations-en.csv", "dify-annotations",
             _csv(["Question", "Answer"], ["how?", "so,\nlike this"]), ["so,\nlike this"]),
        Case("annotations.json", "dify-annotations", _json({"data": notes}),
             ["A", No("no-answer")]),
        Case("dify_feedback.csv", "dify-feedback", _csv(head, *feedback, bom=True), verdicts),
        Case("dify_feedback.json", "dify-feedback", _json(as_json), verdicts),
        Case("dify-messages.jsonl", "dify-api", _jsonl(message, failed, rating),
             [("长" * 600, 1), No("answer-error"), "said"]),
    ]  # fmt: skip


def _write_anythingllm(path: Path) -> None:
    rows = [
        ("退货？", {"text": "30 天", "type": "query", "sources": [
            {"text": "30 天内", "title": "faq.md", "score": 0.8}]}, 1, 1700000000000),
        ("坏？", {"text": "不", "sources": []}, 0, 1700000000000),
        ("空？", {"text": "", "sources": []}, None, "2026-11-01 10:00:00"),
    ]  # fmt: skip
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE workspace_chats (id INTEGER PRIMARY KEY, workspaceId INTEGER, "
            "prompt TEXT, response TEXT, include BOOLEAN, user_id INTEGER, thread_id INTEGER, "
            "api_session_id TEXT, createdAt DATETIME, feedbackScore BOOLEAN)"
        )
        for prompt, response, score, when in rows:
            connection.execute(
                "INSERT INTO workspace_chats (workspaceId, prompt, response, include, user_id, "
                "createdAt, feedbackScore) VALUES (1, ?, ?, 1, 7, ?, ?)",
                (prompt, json.dumps(response, ensure_ascii=False), when, score),
            )
        connection.execute("INSERT INTO workspace_chats (workspaceId, prompt, response) "
                           "VALUES (1, 'broken?', 'no json')")  # fmt: skip
        connection.commit()


def _anythingllm() -> list[Case]:
    lump = [turn("system", ANYTHINGLLM_SYSTEM), turn("user", "Anna?"), turn("assistant", "a"),
            turn("user", "Bert?"), turn("assistant", "b")]  # fmt: skip
    context = "\nContext:\n[CONTEXT 0]:\n30 天内\n[END CONTEXT 0]\n"
    alpaca = {"instruction": ANYTHINGLLM_SYSTEM + context, "input": "退货？",
              "output": "30 天"}  # fmt: skip
    chat = {"id": 1, "prompt": "退货？", "response": "30 天", "sent_at": 1700000000000,
            "rating": "GOOD", "username": "anna", "workspace": "Shop"}  # fmt: skip
    return [
        Case("anythingllm.db", "anythingllm", _write_anythingllm,
             [("30 天", 1), ("不", 1), No("no-answer"), No("row-shape")]),
        Case("lumped.jsonl", "anythingllm",
             _jsonl({"messages": lump}, {"messages": lump[:3]}), [No("anythingllm-lump"), "a"]),
        Case("alpaca-context.json", "anythingllm", _json([alpaca]), ["30 天"]),
        Case("chats.json", "anythingllm", _json([chat, {**chat, "id": 2, "rating": "--"}]),
             [("30 天", 1), "30 天"]),
    ]  # fmt: skip


def _langfuse() -> list[Case]:
    common = {"traceId": "t1", "startTime": "2026-11-01T10:00:00.123Z", "userId": "li"}
    asked = {"messages": [turn("system", "s"), turn("user", "退货？")]}
    answer = {**common, "id": "o1", "type": "GENERATION", "input": asked, "model": "qwen",
              "output": turn("assistant", "30 天"), "level": "DEFAULT"}  # fmt: skip
    found = {**common, "id": "o2", "type": "RETRIEVER", "input": "退货？",
             "output": [{"page_content": "30 天内", "score": 0.7}]}  # fmt: skip
    failed = {**answer, "id": "o3", "traceId": "t2", "level": "ERROR", "output": None}
    scores = [
        {"id": "s1", "traceId": "t1", "observationId": "o1", "name": "correction", "value": 0,
         "stringValue": "30 个工作日", "dataType": "CORRECTION",
         "timestamp": "2026-11-02T00:00:00Z"},
        {"id": "s2", "traceId": "t1", "observationId": None, "name": "user-feedback", "value": -1,
         "stringValue": None, "comment": "wrong", "timestamp": "2026-11-02T00:00:00Z"},
        {"id": "s3", "traceId": "t9", "observationId": None, "name": "quality", "value": 0.5,
         "stringValue": None, "timestamp": "2026-11-02T00:00:00Z"},
        {"id": "s4", "traceId": None, "observationId": None, "name": "x", "value": 1,
         "stringValue": None},
    ]  # fmt: skip
    items = [
        {"id": "i1", "status": "ACTIVE", "input": "a?", "expectedOutput": {"answer": "A"},
         "datasetId": "d", "createdAt": "2026-11-01T00:00:00Z"},
        {"id": "i2", "status": "ARCHIVED", "input": "b?", "expectedOutput": "B", "datasetId": "d"},
    ]  # fmt: skip
    cells = [[json.dumps(row[name], ensure_ascii=False) if isinstance(row[name], dict | list)
              else str(row[name]) for name in ("id", "traceId", "type", "input", "output")]
             for row in (answer, found)]  # fmt: skip
    return [
        Case("observations.jsonl", "langfuse", _jsonl(answer, found, failed),
             ["30 天", No("langfuse-no-generation"), No("answer-error")]),
        Case("scores.jsonl", "langfuse", _jsonl(*scores),
             ["said", No("no-answer-here"), No("no-answer-here"), No("feedback-nameless")]),
        Case("items.json", "langfuse", _json(items), ["A", No("langfuse-archived")]),
        Case("observations.csv", "langfuse",
             _csv(["id", "traceId", "type", "input", "output"], *cells),
             ["30 天", No("langfuse-no-generation")]),
    ]  # fmt: skip


def _others() -> list[Case]:
    spend = {"request_id": "r1", "call_type": "acompletion", "startTime": 1700000000.5,
             "model": "ollama/q", "end_user": "li", "status": "success",
             "messages": [turn("user", "退货？")],
             "response": {"choices": [{"message": turn("assistant", "30 天")}]}}  # fmt: skip
    litellm = _jsonl(
        spend, {**spend, "request_id": "r2", "messages": [turn("user", LITELLM_CUT)]},
        {**spend, "request_id": "r3", "messages": {}, "response": {}},
        {**spend, "request_id": "r4", "call_type": "aembedding"},
        {**spend, "request_id": "r5", "status": "failure"},
    )  # fmt: skip
    session = {"id": "s1", "chat_id": "c1", "name": "n", "create_time": 1700000000000, "messages": [
        turn("assistant", "Hi! I am your assistant"), turn("user", "退货？", id="x"),
        turn("assistant", "30 天 ##0$$", id="x", thumbup=True), turn("user", "天气？", id="y"),
        turn("assistant", "The answer you are looking for is not found in the dataset!", id="y"),
        turn("user", "错？", id="z"), turn("assistant", "**ERROR**: timeout", id="z")],
        "reference": [{"chunks": [{"content": "30 天内", "document_name": "faq.md",
                                   "similarity": 0.8}]}, {}, {}]}  # fmt: skip
    ragas = [
        {"user_input": "a?", "retrieved_contexts": ["c1"], "response": "r", "reference": "gold"},
        {"user_input": "b?", "response": "model's"},
        {"user_input": [{"type": "human", "content": "1?"}, {"type": "ai", "content": "x"},
                        {"type": "human", "content": "2?"}], "reference": "two"},
        {"user_input": "c?", "response": ""},
    ]  # fmt: skip
    return [
        Case("spend.jsonl", "litellm", litellm, ["30 天", No("litellm-cut"), No("litellm-no-text"),
                                                 No("litellm-no-chat"), No("answer-error")]),
        Case("sessions.json", "ragflow", _json({"code": 0, "data": [session]}),
             [("30 天 ##0$$", 1), No("ragflow-not-found"), No("answer-error")]),
        Case("ragas.jsonl", "ragas", _jsonl(*ragas), ["gold", "model's", "two", No("no-answer")]),
        Case("ragas.csv", "ragas", _csv(["user_input", "retrieved_contexts", "reference"],
                                        ["a?", "['c1', 'c2']", "gold"]), ["gold"]),
        Case("alpaca.json", "alpaca", _json([{"instruction": "a", "input": "b", "output": "c"},
                                             {"instruction": "a", "input": "", "output": ""}]),
             ["c", No("text-empty")]),
        Case("sharegpt.jsonl", "sharegpt", _jsonl({"conversations": [
            {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"},
            {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]}), ["b", "d"]),
        Case("pairs.csv", "pairs", _csv(["question", "answer"], ["a", "b"], ["c", ""]),
             ["b", No("row-no-format")]),
    ]  # fmt: skip


CASES = [
    _openai(), _openwebui_feedback(), _openwebui_chats("all-chats-export.json", lines=False),
    _openwebui_chats("chats-all.ndjson", lines=True), *_dify(), *_anythingllm(), *_langfuse(),
    *_others(),
]  # fmt: skip
