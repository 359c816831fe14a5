"""Chat template -> what the trainer renders and what Ollama is told to render.

One object, `ChatTemplate`, serves both sides: `render` makes the training text with the Jinja
template; `gotmpl`, `stop` and `system` go into the Modelfile, the Jinja text goes into the GGUF.

Families live in `modelfiles/<family>/`. A model's own template belongs to a family when its marker
tokens are there and it renders every case exactly as the family's `chat.jinja` does, a default
system prompt aside. Jinja settings are those of transformers (`chat_template_utils.py`,
`_compile_jinja_template`): trim_blocks, lstrip_blocks, loop controls, a sandbox.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from ft2ollama.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Message = Mapping[str, Any]
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


@dataclass(frozen=True)
class ChatTemplate:
    """The template of one model: how it was trained and how Ollama must build the prompt."""

    family: str
    jinja: str
    gotmpl: str
    stop: tuple[str, ...]
    parameters: Mapping[str, tuple[Any, str]]
    system: str = ""
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The prompt text; raises UsageError when the template refuses the conversation."""
        return render_jinja(
            self.jinja,
            messages,
            add_generation_prompt=add_generation_prompt,
            special_tokens=self.special_tokens,
        )


def render_jinja(
    jinja: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    special_tokens: Mapping[str, str] | None = None,
) -> str:
    """Render a Hugging Face chat template."""
    import jinja2

    try:
        text = _compile(jinja).render(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            **(special_tokens or {}),
        )
        return str(text)
    except jinja2.TemplateError as error:
        roles = ", ".join(str(message.get("role")) for message in messages)
        raise UsageError(
            "the chat template refuses a conversation",
            f"roles {roles}: {error}",
            "bring the turns into the order the template asks for, or set `template: chatml`",
        ) from error


@cache
def families() -> dict[str, Family]:
    """Every family folder, by name."""
    return {path.parent.name: _load_family(path) for path in sorted(_root().glob("*/family.toml"))}


def choose_template(
    wanted: str | None, model_jinja: str | None, special_tokens: Mapping[str, str]
) -> ChatTemplate:
    """The family the config names, or the one that the model's own template belongs to."""
    known = families()
    if wanted is not None:
        if wanted not in known:
            raise UsageError(
                f"template: no family {wanted!r}",
                f"families: {', '.join(known)}",
                "leave `template` out to train with the model's own chat template",
            )
        return _as_template(known[wanted], known[wanted].jinja, "", special_tokens)
    if not model_jinja:
        raise UsageError(
            "the model brings no chat template",
            "tokenizer_config.json has no chat_template and there is no chat_template.jinja",
            f"set `template:` to one of {', '.join(known)}",
        )
    differences = []
    for family in known.values():
        system, difference = _belongs(model_jinja, family, special_tokens)
        if difference is None:
            return _as_template(family, model_jinja, system, special_tokens)
        differences.append(f"{family.name}: {difference}")
    raise UsageError(
        "no family of modelfiles/ builds the same prompt as the model's own chat template",
        "\n".join(differences),
        "set `template: chatml` to train with that family instead",
    )


def _belongs(jinja: str, family: Family, special: Mapping[str, str]) -> tuple[str, str | None]:
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


def _as_template(
    family: Family, jinja: str, system: str, special: Mapping[str, str]
) -> ChatTemplate:
    return ChatTemplate(
        family.name, jinja, family.gotmpl, family.stop, family.parameters, system, dict(special)
    )


def _root() -> Path:
    """modelfiles/ in the wheel, or in the checkout."""
    inside = Path(__file__).parent / "_modelfiles"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "modelfiles"


def _load_family(path: Path) -> Family:
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


@cache
def _compile(jinja: str) -> Any:
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env.from_string(jinja)
