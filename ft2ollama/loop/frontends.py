"""What chat front-ends put around a question: retrieved text, and tasks of their own.

In: the text of the user's message as the front-end sent it.  Out: the question alone and the
retrieved pieces, or the name of the task. The templates are those of Open WebUI 0.12
(config.py DEFAULT_RAG_TEMPLATE, DEFAULT_*_PROMPT_TEMPLATE), AnythingLLM, Dify, RAGFlow and
LangChain. Every parser is anchored to the whole template: their instructions contain examples such
as `<source id="1">` and an empty `<context></context>`, which are not context.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Split:
    """A user's message taken apart.

    question: without the front-end's text.  contexts: [{"text", "source"?}].  extractor: which
    template it was, "" when it was none: then the question is the whole text.
    """

    question: str
    contexts: tuple[dict[str, Any], ...] = ()
    extractor: str = ""


_TASKS = {
    "title": r"Generate a concise.{0,80}title",
    "tags": r"Generate 1-3 broad tags",
    "follow_ups": r"(?:Predict|Suggest) 3-5 (?:useful|relevant) (?:messages|follow-up)",
    "queries": r"Analyze the chat history to determine the necessity",
    "image_prompt": r"Generate a detailed prompt for am? image generation",
    "autocomplete": r"You are an autocompletion system",
    "emoji": r"Your task is to reflect the speaker's likely facial expression",
    "merge": r"You have been provided with a set of responses from various models",
}
_TASK_OF = {
    name: re.compile(rf"\s*(?:### Task:\s*)?{start}", re.DOTALL) for name, start in _TASKS.items()
}


def background_task(text: str) -> str:
    """The task a front-end gave the model for itself, "" when a person asked.

    Open WebUI's template of retrieved context starts with `### Task:` too and is none.
    """
    return next((name for name, start in _TASK_OF.items() if start.match(text)), "")


def split_context(text: str, system: str = "") -> Split:
    """Take the retrieved text out of the user's message, or find it in the system prompt.

    AnythingLLM, Dify and RAGFlow put it into the system prompt; the question is then untouched.
    """
    for name, parser in _IN_USER.items():
        if found := parser(text):
            return Split(found[0], tuple(found[1]), name)
    for name, in_system in _IN_SYSTEM.items():
        if pieces := in_system(system):
            return Split(text, tuple(pieces), name)
    return Split(text)


_Pieces = list[dict[str, Any]]

_SOURCE = re.compile(r"<source\b([^>]*)>(.*?)</source>", re.DOTALL)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_QUERY = re.compile(r"<user_query>\s*(.*?)\s*</user_query>\s*$", re.DOTALL)


def _openwebui(text: str) -> tuple[str, _Pieces] | None:
    """`### Task: ... <context>\n<source id="1" name="x">...</source>\n</context>\n\nquestion`."""
    pieces, after = _sources(text)
    query = _QUERY.search(after)
    question = query.group(1) if query else after.strip()
    return (question, pieces) if pieces and question else None


def _sources(text: str) -> tuple[_Pieces, str]:
    """The sources of Open WebUI's template, and what follows it."""
    if not text.lstrip().startswith("### Task:"):
        return [], ""
    _, opened, rest = text.rpartition("<context>\n")
    inside, closed, after = rest.rpartition("</context>")
    if not opened or not closed:
        return [], ""
    return [_source(attributes, body) for attributes, body in _SOURCE.findall(inside)], after


def _source(attributes: str, body: str) -> dict[str, Any]:
    known = dict(_ATTRIBUTE.findall(attributes))
    piece: dict[str, Any] = {"text": body.strip()}
    if name := known.get("name") or known.get("id"):
        piece["source"] = name
    return piece


_LANGCHAIN = (
    re.compile(
        r"\s*Use the following pieces of (?:retrieved )?context to answer.{0,400}?\n"
        r"\s*(?:Context:\s*)?(?P<context>.+)\n\s*Question:\s*(?P<question>.+?)"
        r"(?:\n\s*(?:Helpful )?Answer:\s*)?$",
        re.DOTALL,
    ),
    re.compile(
        r"\s*Context:\s*\n(?P<context>.+)\n\s*Question:\s*(?P<question>.+?)"
        r"(?:\n\s*Answer:\s*)?$",
        re.DOTALL,
    ),
    re.compile(
        r"\s*(?:<指令>.*?</指令>\s*)?(?:<已知信息>|已知信息[:：]\s*)(?P<context>.+?)"
        r"(?:</已知信息>)?\s*[、，]?\s*(?:<问题>|问题(?:是)?[:：])\s*(?P<question>.+?)(?:</问题>)?\s*$",
        re.DOTALL,
    ),
)


def _langchain(text: str) -> tuple[str, _Pieces] | None:
    for form in _LANGCHAIN:
        if found := form.match(text):
            body = found["context"].strip()
            pieces = [{"text": piece.strip()} for piece in body.split("\n\n") if piece.strip()]
            return found["question"].strip(), pieces
    return None


_CHUNK = re.compile(r"\[CONTEXT (\d+)\]:\n(.*?)\n\[END CONTEXT \1\]", re.DOTALL)


def _anythingllm(system: str) -> _Pieces:
    """`...\nContext:\n[CONTEXT 0]:\n...\n[END CONTEXT 0]` at the end of the system prompt."""
    _, found, rest = system.partition("\nContext:\n")
    return [{"text": body.strip()} for _, body in _CHUNK.findall(rest)] if found else []


def _dify(system: str) -> _Pieces:
    """Its first `<context></context>` is a word of its instruction; the second pair is filled."""
    parts = system.split("<context>")
    if len(parts) < 3 or not parts[1].startswith("</context>") or "</context>" not in parts[2]:
        return []
    body = parts[2].partition("</context>")[0].strip()
    return [{"text": body}] if body else []


_RAGFLOW = re.compile(
    r"Here is the knowledge base:\s*(.+?)\s*The above is the knowledge base\.", re.DOTALL
)


def _ragflow(system: str) -> _Pieces:
    found = _RAGFLOW.search(system)
    return [{"text": found.group(1)}] if found else []


_IN_USER: dict[str, Callable[[str], tuple[str, _Pieces] | None]] = {
    "open-webui": _openwebui,
    "langchain": _langchain,
}
_IN_SYSTEM: dict[str, Callable[[str], _Pieces]] = {
    "open-webui": lambda system: _sources(system)[0],
    "anythingllm": _anythingllm,
    "dify": _dify,
    "ragflow": _ragflow,
}
