"""The template families of `modelfiles/`, and whether a model's own template is of one.

A model's template belongs to a family when its marker tokens are there and it renders every case
exactly as the family's `chat.jinja` does, a default system prompt aside. Never by model name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ft2ollama.chat_jinja import Message, render_jinja
from ft2ollama.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MARK = "\ue000the system prompt\ue001"  # private use: no template holds it


@dataclass(frozen=True)
class Family:
    """One folder of modelfiles/. parameters: name -> (value, reason)."""

    name: str
    markers: tuple[str, ...]
    jinja: str
    gotmpl: str
    stop: tuple[str, ...]
    parameters: Mapping[str, tuple[Any, str]]
    cases: tuple[Mapping[str, Any], ...]


@cache
def families() -> dict[str, Family]:
    """Every family folder, by name."""
    return {path.parent.name: _load(path) for path in sorted(_root().glob("*/family.toml"))}


def family_cases(name: str) -> list[tuple[str, list[Message]]]:
    """(name, messages) of the conversations a family is proved with; none for an unknown one."""
    family = families().get(name)
    return [(case["name"], case["messages"]) for case in family.cases] if family else []


def belongs(jinja: str, family: Family, special: Mapping[str, str]) -> tuple[str, str | None]:
    """(default system prompt, None) when `jinja` is of the family, else ("", difference)."""
    lacking = [marker for marker in family.markers if marker not in jinja]
    if lacking:
        return "", f"the template does not hold {', '.join(lacking)}"

    def own(messages: Sequence[Message]) -> str:
        return render_jinja(jinja, messages, add_generation_prompt=True, special_tokens=special)

    def theirs(messages: Sequence[Message]) -> str:
        return render_jinja(family.jinja, messages, add_generation_prompt=True)

    try:
        system = _default_system(own, theirs)
        for case in family.cases:
            messages = list(case["messages"])
            given = (
                messages
                if messages[0]["role"] == "system" or not system
                else ([{"role": "system", "content": system}, *messages])
            )
            if own(messages) != theirs(given):
                return "", f"case {case['name']!r}: {own(messages)!r} is not {theirs(given)!r}"
    except UsageError as error:
        return "", error.why
    return system, None


def _default_system(
    own: Callable[[Sequence[Message]], str], theirs: Callable[[Sequence[Message]], str]
) -> str:
    """The system prompt that a template adds when the conversation has none."""
    user = {"role": "user", "content": "x"}
    head, tail = theirs([{"role": "system", "content": _MARK}, user]).split(_MARK)
    text = own([user])
    if text != theirs([user]) and text.startswith(head) and text.endswith(tail):
        return text[len(head) : len(text) - len(tail)]
    return ""


def _root() -> Path:
    """modelfiles/ in the wheel, or in the checkout."""
    inside = Path(__file__).parent / "_modelfiles"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "modelfiles"


def _load(path: Path) -> Family:
    folder, data = path.parent, tomllib.loads(path.read_text("utf-8"))
    cases = (folder / "cases.jsonl").read_text("utf-8").splitlines()
    return Family(
        name=folder.name,
        markers=tuple(data["markers"]),
        jinja=(folder / "chat.jinja").read_text("utf-8"),
        gotmpl=(folder / "template.gotmpl").read_text("utf-8"),
        stop=tuple(data["stop"]),
        parameters={
            name: (item["value"], item["reason"])
            for name, item in data.get("parameters", {}).items()
        },
        cases=tuple(json.loads(line) for line in cases if line.strip()),
    )
