"""MESSAGE lines: a conversation that Ollama puts before every other, as an example.

In: a .jsonl file, a message a line. Out: (role, content) pairs, and a published version that has
them. The proofs compare prompts and replies without them, because that is what was trained; so a
version is proved first and then made again from itself, with nothing but the examples added.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

from ft2ollama.errors import DataError, JobError
from ft2ollama.ollama_api import Ollama

Example = tuple[str, str]

_FIX = 'a line each: {"role": "user", "content": "..."}, then the same with "assistant", in turns'


def read_examples(path: Path | None) -> tuple[Example, ...]:
    """Messages of user and assistant in turns; DataError with every bad line."""
    if path is None:
        return ()
    if not path.is_file():
        raise DataError("ollama_messages: no such file", str(path.absolute()), "check the path")
    found: list[Example] = []
    wrong: list[str] = []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if line.strip():
            message = _message(line)
            found += [] if message is None else [message]
            wrong += [f"{path}:{number}: {line.strip()[:60]}"] if message is None else []
    if wrong:
        raise DataError("ollama_messages: not a message", "\n".join(wrong), _FIX)
    roles = [role for role, _ in found]
    turns = [role for role, _ in zip(cycle(("user", "assistant")), roles, strict=False)]
    if not found or roles != turns or roles[-1] != "assistant":
        raise DataError(
            "ollama_messages: not turns of user and assistant",
            f"{path}: {', '.join(roles) or 'no message'}",
            _FIX,
        )
    return tuple(found)


def add_examples(server: Ollama, tag: str, examples: Sequence[Example]) -> None:
    """Give a version its examples and read it back: all else has to be what it was."""
    before = server.show(tag)
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in examples]
    server.create(tag, from_=tag, messages=messages)
    after = server.show(tag)
    # `details` names the version as its own parent now, `modelfile` has the MESSAGE lines.
    may = {key: getattr(before, key) for key in ("messages", "modelfile", "details")}
    same = replace(after, **may)
    if [(one["role"], one["content"]) for one in after.messages] != list(examples):
        raise _changed(tag, "its messages are not those that were sent")
    if same != before:
        names = [key for key, value in vars(before).items() if getattr(same, key) != value]
        raise _changed(tag, f"{', '.join(names)} changed with them")


def _changed(tag: str, why: str) -> JobError:
    return JobError(
        f"{tag} did not take the examples of ollama_messages as they are",
        why,
        "leave ollama_messages out, and send the examples with each request",
    )


def _message(line: str) -> Example | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or row.get("role") not in ("user", "assistant"):
        return None
    content = row.get("content")
    return (row["role"], content) if isinstance(content, str) and content else None
