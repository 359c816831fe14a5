"""What a request that says nothing of thinking gets, and how that becomes what was trained.

Ollama >= 0.30 turns the switch on for such requests where the model can think (server/routes.go
ChatHandler); before, it was unset. A training may have meant another default: `enable_thinking:
false`, or a template that does not think unless it is told to (Granite). Where the two differ, the
model is served by a Go template without the switch: every request gets the training's default, and
one that asks for thoughts is refused by the server.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate import derive
from ft2ollama.ollama_api import Ollama
from ft2ollama.template import ChatTemplate, Message

WITHOUT_SWITCH = (
    "this Ollama thinks where a request says nothing of it, and the training did not: the model is "
    "served without the switch, requests with think: true are refused"
)
_HELLO: tuple[Message, ...] = ({"role": "user", "content": "Hello"},)


def thinks_unasked(server: Ollama, model: str) -> bool:
    """Does this server turn thinking on in a request that does not mention it?

    False where it cannot show its prompts: up to 0.11.4, which do not.
    """
    if "thinking" not in server.show(model).capabilities:
        return False
    unset, on, off = (server.prompt_text(model, _HELLO, think=one) for one in (None, True, False))
    return unset is not None and unset == on != off


def differs(template: ChatTemplate, thinking: bool | None) -> bool:
    """Is the training's default another prompt than that with thinking on?

    thinking: the training's `enable_thinking`.
    """
    default, on = (
        template.render(_HELLO, add_generation_prompt=True, thinking=one)
        for one in (thinking, True)
    )
    return default != on


def without_switch(template: ChatTemplate, thinking: bool | None) -> ChatTemplate:
    """The template with a Go template that always builds the training's default prompt.

    Raises UsageError where none is found.
    """

    def render(messages: Any, *, thinking: bool | None = None, **options: Any) -> str:
        options.setdefault("add_generation_prompt", True)
        return template.render(messages, thinking=default, **options)

    default = thinking
    try:
        found = derive(
            render,
            special_tokens=template.special_tokens,
            ends=template.stop,
            without=frozenset({"thinking"}),
        )
    except UsageError as error:
        raise UsageError(
            "this Ollama thinks where a request says nothing of it; the training did not",
            f"no template without the switch was found: {error.why}",
            "train with `enable_thinking: true`, or publish to Ollama up to 0.24",
        ) from error
    return replace(
        template,
        gotmpl=found.gotmpl,
        system=found.system,
        capabilities=tuple(sorted(found.capabilities)),
    )
