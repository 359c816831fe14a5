"""The quality rules, in order: what is wrong with a row by itself, and what shows it.

In: a row and the config.  Out: (rule, evidence) of the first rule that stops it, or None. A rule is
a line of `RULES`: its name, the function, and whom it stops: everybody, answers that no person
stands for, or answers that a model gave and nobody liked. Evidence is short and holds no personal
data; the first rule wins, so that every dropped row is counted once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from ft2ollama.data.answer_checks import check_answer, script
from ft2ollama.data.character_checks import check_characters
from ft2ollama.data.row_checks import LIKE_CONTROL
from ft2ollama.loop.curate.grounding import coverage, ungrounded
from ft2ollama.loop.curate.pii import scrubber
from ft2ollama.loop.curate.rows import REJECT, Row
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.scores import distinct_4

Evidence = Mapping[str, Any]
Check = Callable[[Row, "Needs"], Evidence | None]
_SHOWN = 60  # characters of a text in evidence

# What Open WebUI asks the same model besides; its RAG prompt begins like them and is none of them.
_TASKS = re.compile(
    r"### Task:\s*(?:Generate a concise|Generate 1-3 broad tags|(?:Suggest|Predict) 3-5"
    r"|Analyze the chat history|You are an autocompletion|Generate a detailed prompt)"
    r"|\s*You are an autocompletion system|Create a concise, 3-5 word (?:title|phrase)"
)
_ERRORS = re.compile(  # an answer that begins so; one that tells about errors does not
    r"\W*(?:(?:很?抱歉|sorry)[,，]?\s*|(?:error|错误)[:：]\s*)?(?:\*\*ERROR\*\*|ERROR:"
    r"|\{\s*\"error\"\s*:|Traceback \(most recent call last\)|Internal Server Error"
    r"|(?:HTTP|status(?: code)?):? ?5\d\d\b|Connection (?:refused|reset|timed out|error)"
    r"|model \S{1,60} not found|CUDA (?:error|out of memory)|(?:context length|rate limit) exceeded"
    r"|(?:服务器?|系统|网络)(?:内部)?(?:错误|异常|繁忙)|请求(?:超时|失败))",
    re.IGNORECASE,
)
_SENTINELS = re.compile(
    r"not found in the (?:dataset|context|documents?|knowledge)|(?:context|documents?|information"
    r" provided) (?:does|do)(?: not|n['’]t) (?:contain|mention|provide|include|answer)"
    r"|I (?:do not|don['’]t) (?:know|have (?:enough|that|any) information)"
    r"|^(?:很?抱歉[,，]?)?\s?我?(?:不知道|不清楚|无法(?:回答|确定|从)|没有找到|未找到)"
    r"|(?:资料|文档|上下文|知识库|信息|内容)(?:中|里)?(?:并)?(?:没有|未|不)(?:提及|提到|包含|找到|说明|涉及|相关)",
    re.IGNORECASE,
)
_BROKEN = frozenset({"mojibake", "replacement-character", "private-character", "control-character"})
_ANSWER_RULES = {
    "foreign-identity": "foreign_identity",
    "echo": "garbage",
    "dialogue-in-answer": "garbage",
    "cut-at-source": "truncated_source",
    "open-code-fence": "unfinished",
    "unfinished": "unfinished",
}
_LETTERS = {"zh": "han", "en": "latin", "ja": "kana", "ko": "hangul", "ru": "cyrillic",
            "ar": "arabic", "hi": "devanagari", "th": "thai"}  # fmt: skip


@dataclass(frozen=True)
class Needs:
    """What rules look at beside the row. now_ms: of the run, not of the clock, so that the same run
    judges alike twice.  tokens: length of a conversation, when a tokenizer is at hand.
    """

    config: CurateConfig
    now_ms: int = 0
    cutoff_len: int = 0
    tokens: Callable[[Row], int] | None = None


def judge(row: Row, needs: Needs) -> tuple[str, Evidence] | None:
    """The first rule that stops a row, and why."""
    for rule in RULES:
        if rule.stops == "model" and row.origin != "model":
            continue
        if rule.stops == "unchecked" and row.by_person:
            continue
        evidence = rule.check(row, needs)
        if evidence is not None:
            return rule.name, evidence
    return None


def is_refusal(answer: str) -> bool:
    """Does an answer say that it cannot answer?"""
    return bool(_SENTINELS.search(answer[:200])) or any(
        code == "refusal" for code, _ in check_answer("", answer)
    )


def sources(row: Row) -> list[str]:
    """What the answer may rest on: question, contexts, and what others than the model said."""
    said = [row.question, *(text_in(m) for m in row.messages if m.get("role") != "assistant")]
    return [*said, *(one for one in row.contexts if not any(one in text for text in said))]


def text_in(message: Mapping[str, Any]) -> str:
    """The text of a message; of a list of parts, their texts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, (list, tuple)) else ()
    return "\n".join(str(p["text"]) for p in parts if isinstance(p, Mapping) and p.get("text"))


def _shown(text: str) -> str:
    """The beginning of a text as evidence, without personal data."""
    line = " ".join(scrubber(text)(text[: 4 * _SHOWN]).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _erased(row: Row, needs: Needs) -> Evidence | None:
    return {} if row.deleted else None


def _no_consent(row: Row, needs: Needs) -> Evidence | None:
    if row.consent == "none":
        return {"consent": row.consent}
    over = row.expires_ms is not None and row.expires_ms <= needs.now_ms
    return {"expired_ms": row.expires_ms} if over else None


def _background_task(row: Row, needs: Needs) -> Evidence | None:
    if row.task:
        return {"task": row.task}
    last = text_in(row.messages[-1]) if row.messages else row.question
    found = _TASKS.match(last.lstrip()) or _TASKS.match(row.question.lstrip())
    return {"prompt": _shown(found[0])} if found else None


def _rejected(row: Row, needs: Needs) -> Evidence | None:
    return {"label": REJECT} if row.said.label == REJECT else None


def _low_rating(row: Row, needs: Needs) -> Evidence | None:
    if row.origin == "correction" or row.said.label:
        return None
    if row.said.thumb < 0:
        return {"thumb": row.said.thumb}
    least, score = needs.config.min_score, row.said.score
    return {"score": score} if least is not None and score is not None and score < least else None


def _incomplete(row: Row, needs: Needs) -> Evidence | None:
    if not row.complete:
        return {"complete": False}
    if row.http_status not in (None, 200):
        return {"http_status": row.http_status}
    ended = row.done_reason in ("", "stop", "tool_calls")
    return None if ended else {"done_reason": row.done_reason}


def _no_text(row: Row, needs: Needs) -> Evidence | None:
    if row.answer.strip():
        return None
    return {"tool_calls": len(row.tool_calls)} if row.tool_calls else {"answer": ""}


def _media(row: Row, needs: Needs) -> Evidence | None:
    for message in row.messages:
        content = message.get("content")
        parts = content if isinstance(content, (list, tuple)) else ()
        if message.get("images") or any(
            isinstance(part, Mapping) and part.get("type", "text") != "text" for part in parts
        ):
            return {"found": "image or sound"}
    return None


def _length(row: Row, needs: Needs) -> Evidence | None:
    config, question, answer = needs.config, len(row.question.strip()), len(row.answer.strip())
    if not config.min_question <= question <= config.max_question:
        return {"question": question}
    least = 1 if row.by_person else config.min_answer
    if not least <= answer <= config.max_answer:
        return {"answer": answer}
    return None


def _too_long(row: Row, needs: Needs) -> Evidence | None:
    if needs.tokens is None or not needs.cutoff_len:
        return None
    count = needs.tokens(row)
    return {"tokens": count} if count > needs.cutoff_len else None


def _error_text(row: Row, needs: Needs) -> Evidence | None:
    found = _ERRORS.match(row.answer[:300])
    return {"text": _shown(found[0])} if found else None


def _refusal(row: Row, needs: Needs) -> Evidence | None:
    return {"text": _shown(row.answer)} if is_refusal(row.answer) else None


def _characters(row: Row, needs: Needs) -> Evidence | None:
    for text in (row.question, row.answer):
        for code, values in check_characters(text):
            if code in _BROKEN:
                near = values.get("text") or values.get("near", "")
                return {"found": code, "text": _shown(str(near))}
    found = LIKE_CONTROL.search(row.answer)
    return {"found": "control-token", "text": found[0].strip()} if found else None


def _of_answer(name: str) -> Check:
    """A rule that the data doctor has already."""

    def check(row: Row, needs: Needs) -> Evidence | None:
        for code, values in _findings(row):
            if _ANSWER_RULES.get(code) == name:
                return {"found": code, "text": _shown(str(values.get("text", "")))}
        return None

    return check


def _truncated(row: Row, needs: Needs) -> Evidence | None:
    for text in (*map(text_in, row.messages), *row.contexts):
        if "litellm_truncated" in text:
            return {"found": "cut-at-source", "text": "litellm_truncated"}
    return _of_answer("truncated_source")(row, needs)


def _findings(row: Row) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    return _checked(row.question, row.answer)


@lru_cache(maxsize=8)  # several rules ask for the same row in turn
def _checked(question: str, answer: str) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    return tuple(check_answer(question, answer))


def _repetition(row: Row, needs: Needs) -> Evidence | None:
    if len(row.answer) < 60:
        return None
    share = distinct_4(row.answer)
    return {"distinct_4": round(share, 2)} if share < needs.config.min_distinct else None


def _language(row: Row, needs: Needs) -> Evidence | None:
    allowed = {_LETTERS[name] for name in needs.config.languages}
    for text in (row.question, row.answer) if allowed else ():
        written = script(text)
        if written not in allowed and written != "none":
            return {"script": written}
    return None


def _other_language(row: Row, needs: Needs) -> Evidence | None:
    for code, values in _findings(row):
        if code.startswith("answered-in-"):
            return {"found": code, "text": _shown(str(values["text"]))}
    return None


def _no_ground(row: Row, needs: Needs) -> Evidence | None:
    """A model's answer with nothing to rest on but the question is the model's own opinion."""
    grounds = row.contexts or any(m.get("role") == "tool" for m in row.messages)
    return None if grounds else {"contexts": 0}


def _numbers(row: Row, needs: Needs) -> Evidence | None:
    if not row.contexts:
        return None
    missing = ungrounded(row.answer, sources(row))
    return {"missing": [_shown(item) for item in missing[:5]]} if missing else None


def _coverage(row: Row, needs: Needs) -> Evidence | None:
    share = coverage(row.answer, "\n".join(sources(row)))
    return {"coverage": round(share, 2)} if share < needs.config.min_coverage else None


@dataclass(frozen=True)
class Rule:
    """A line of the table. needs: what of a row it looks at.

    stops: all | unchecked (answers no person wrote, corrected or approved) | model (nor liked).
    """

    name: str
    check: Check
    needs: str
    stops: Literal["all", "unchecked", "model"] = "all"


RULES: tuple[Rule, ...] = (
    Rule("erased", _erased, "deleted_ms"),
    Rule("no_consent", _no_consent, "consent, expires_ms"),
    Rule("background_task", _background_task, "task, messages"),
    Rule("rejected", _rejected, "labels"),
    Rule("low_rating", _low_rating, "thumbs, scores"),
    Rule("incomplete", _incomplete, "complete, http_status, done_reason"),
    Rule("no_text", _no_text, "answer, tool_calls"),
    Rule("media", _media, "messages"),
    Rule("truncated_source", _truncated, "answer, messages, contexts"),
    Rule("length", _length, "question, answer"),
    Rule("too_long", _too_long, "tokens"),
    Rule("error_text", _error_text, "answer", "unchecked"),
    Rule("broken_text", _characters, "question, answer"),
    Rule("garbage", _of_answer("garbage"), "question, answer", "unchecked"),
    Rule("repetition", _repetition, "answer", "unchecked"),
    Rule("refusal", _refusal, "answer", "model"),
    Rule("foreign_identity", _of_answer("foreign_identity"), "answer", "unchecked"),
    Rule("unfinished", _of_answer("unfinished"), "answer", "unchecked"),
    Rule("language", _language, "question, answer"),
    Rule("other_language", _other_language, "question, answer", "unchecked"),
    Rule("ungrounded", _no_ground, "contexts", "model"),
    Rule("ungrounded_number", _numbers, "answer, contexts, question", "unchecked"),
    Rule("off_context", _coverage, "answer, contexts", "model"),
)
