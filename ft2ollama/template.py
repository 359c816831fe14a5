"""Chat template -> what the trainer renders and what Ollama is told to render.

One object, `ChatTemplate`, serves both sides: `render` makes the training text with the Jinja
template; `gotmpl`, `stop` and `system` go into the Modelfile, the Jinja text goes into the GGUF.

Any template can be trained with. The stop words of the model's own are found by rendering: the
special token that it writes after an answer. A template that writes none (GLM) ends an answer by
the header of the next turn, which is then learned in its place. What Ollama is told of it is found
later, by `served`, because that takes seconds and most commands do not need it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

from ft2ollama.chat_jinja import (
    TRAINING_DATE,
    Message,
    TemplateRefusal,
    common_start,
    render_jinja,
    render_marked,
)
from ft2ollama.errors import UsageError
from ft2ollama.families import Family, families

__all__ = ["ChatTemplate", "Message", "choose_template", "families", "render_jinja"]

# How a thought stands in front of an answer; the last is also what templates without any get, as
# LLaMA-Factory writes them.
_THOUGHT_MARKS = (
    ("<|channel>thought\n", "\n<channel|>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<think>\n", "\n</think>\n\n"),
)
# Of the model's own template; a family has its own in family.toml.
_PARAMETERS: Mapping[str, tuple[Any, str]] = {
    "repeat_penalty": (
        1.0,
        "Ollama before 0.32.10 defaults to 1.1, which the model was not trained under",
    ),
    "temperature": (
        0.0,
        "taught facts are to be repeated, not sampled; raise it for creative use",
    ),
}
_CALL_ID = "a1B2c3D4e"  # Mistral's templates ask for nine letters or digits
_MARKS = {name: f"{name} mark\ue000" for name in ("system", "user", "answer")}
_TOOL = {
    "type": "function",
    "function": {
        "name": "mark3",
        "description": "mark4",
        "parameters": {"type": "object", "properties": {"mark5": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class Abilities:
    """What of a conversation the template writes.

    thoughts: of plain answers.  call_thoughts: beside tool calls (Gemma 4 writes only these).
    past_thoughts: those in the content of earlier answers, which DeepSeek R1 takes out.
    arguments_as_text: how it wants those of a tool call.
    """

    system: bool
    tools: bool
    tool_calls: bool
    tool_results: bool
    thoughts: bool
    call_thoughts: bool
    past_thoughts: bool
    arguments_as_text: bool


@dataclass(frozen=True)
class ChatTemplate:
    """The template of one model: how it was trained and how Ollama must build the prompt.

    family: "" for the model's own.  gotmpl: Ollama's template; "" until `served` has found it.
    refusal: why there is none, with the first difference.  explain: what Ollama cannot do of it.
    adds_bos: the text begins with the BOS token, which Ollama adds by itself and gotmpl leaves out.
    capabilities: of "tools" and "thinking", what Ollama serves.
    stop: every token that ends an answer, the one that is learned first.
    next_header: what ends an answer, and what ends a tool call, where the template writes no end
    itself; added to the text and learned.
    named: further templates of the model; `tool_use` renders conversations with tools.
    date: the day that `strftime_now` gives, as YYYY-MM-DD.
    """

    family: str
    jinja: str
    gotmpl: str
    stop: tuple[str, ...]
    parameters: Mapping[str, tuple[Any, str]]
    system: str = ""
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    next_header: tuple[str, str] = ("", "")
    named: Mapping[str, str] = field(default_factory=dict)
    date: str = TRAINING_DATE.isoformat()
    adds_bos: bool = False
    capabilities: tuple[str, ...] = ()
    explain: tuple[str, ...] = ()
    refusal: str = ""

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
        thinking: bool | None = None,
    ) -> str:
        """The text; raises TemplateRefusal when the template refuses the conversation.

        thinking: None leaves it to the template; else its variables `enable_thinking` (Qwen3,
        SmolLM3, GLM) and `thinking` (Granite, DeepSeek V3.1) are set.
        """
        return render_jinja(
            self.jinja_for(tools),
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            special_tokens=self.special_tokens,
            variables=self._variables(thinking),
        )

    def render_marked(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        thinking: bool | None = None,
    ) -> str:
        """The text with the marks of `{% generation %}` blocks (chat_jinja.split_blocks)."""
        return render_marked(
            self.jinja_for(tools),
            messages,
            tools=tools,
            special_tokens=self.special_tokens,
            variables=self._variables(thinking),
        )

    def jinja_for(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """The template of conversations with or without tools, chosen as transformers chooses."""
        return self.named.get("tool_use", self.jinja) if tools else self.jinja

    @cached_property
    def abilities(self) -> Abilities:
        """What the template writes, found by rendering conversations of marks."""
        return _abilities(self)

    @property
    def thought_marks(self) -> tuple[str, str]:
        """What stands before and after a thought."""
        return next((m for m in _THOUGHT_MARKS if m[0].strip() in self.jinja), _THOUGHT_MARKS[-1])

    def _variables(self, thinking: bool | None) -> dict[str, Any]:
        given: dict[str, Any] = {"date": date.fromisoformat(self.date)}
        return given if thinking is None else given | dict.fromkeys(_THINKING, thinking)


_THINKING = ("enable_thinking", "thinking")


def choose_template(
    wanted: str | None,
    model_jinja: str | None,
    special_tokens: Mapping[str, str],
    *,
    named: Mapping[str, str] | None = None,
    added: Sequence[str] = (),
    eos: Sequence[str] = (),
) -> ChatTemplate:
    """The family the config names, or the model's own template.

    special_tokens: bos_token and its like, for the template.  named: the model's other templates.
    added: the special tokens of the vocabulary; one of them has to end an answer.
    eos: tokens that end a generation by the model's own settings.
    """
    known = families()
    if wanted is not None:
        if wanted not in known:
            raise UsageError(
                f"template: no family {wanted!r}",
                f"families: {', '.join(known)}",
                "leave `template` out to train with the model's own chat template",
            )
        return _of_family(known[wanted], special_tokens)
    if not model_jinja:
        raise UsageError(
            "the model brings no chat template",
            "tokenizer_config.json has no chat_template and there is no chat_template.jinja",
            f"set `template:` to one of {', '.join(known)}",
        )
    own = ChatTemplate(
        "",
        model_jinja,
        "",
        (),
        _PARAMETERS,
        special_tokens=dict(special_tokens),
        named=dict(named or {}),
    )
    return _with_stop(own, added, eos)


def _of_family(family: Family, special: Mapping[str, str]) -> ChatTemplate:
    return ChatTemplate(
        family.name,
        family.jinja,
        family.gotmpl,
        family.stop,
        family.parameters,
        special_tokens=dict(special),
    )


def _with_stop(template: ChatTemplate, added: Sequence[str], eos: Sequence[str]) -> ChatTemplate:
    """The template with its stop words; UsageError when it ends an answer with no token."""
    end, header = _end_after(template, _plain_answer, added, eos)
    if not (end or header):
        raise UsageError(
            "the chat template ends an answer with no token of its own",
            f"after an answer comes {_after_answer(template)[:80]!r}: the model could not learn "
            "to stop",
            "set `template: chatml` to train with that format, or give the model a chat template",
        )
    call_end, call_header = "", ""
    if template.abilities.tool_calls:
        call_end, call_header = _end_after(template, _call, added, (end, *eos))
    stop = dict.fromkeys(word for word in (end or header, call_end or call_header, *eos) if word)
    values = {**template.__dict__, "stop": tuple(stop), "next_header": (header, call_header)}
    values.pop("abilities", None)
    return ChatTemplate(**values)


def _end_after(
    template: ChatTemplate, answer: Any, added: Sequence[str], eos: Sequence[str]
) -> tuple[str, str]:
    """(the token that ends `answer`, "") or ("", the token that begins the next turn)."""
    last, then, mark = answer(template)
    tail = last.rpartition(mark)[2]
    following = then.rpartition(mark)[2]
    special = _any_of(added)
    own = special.findall(tail)
    both = special.findall(common_start(tail, following))
    if answer is _call:  # a call may be closed by tokens of its own before the turn ends
        own = [token for token in own if token in eos][:1] or own[-1:]
        both = [token for token in both if token in own]
    if both or own:
        known = [token for token in both if token in eos]
        return (known or both[-1:] or own)[0], ""
    header = special.match(following.lstrip())
    return "", header.group() if header else ""


def _any_of(words: Sequence[str]) -> re.Pattern[str]:
    ordered = sorted(words, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or "(?!)")


def _plain_answer(template: ChatTemplate) -> tuple[str, str, str]:
    user = {"role": "user", "content": _MARKS["user"]}
    talk = [user, {"role": "assistant", "content": _MARKS["answer"]}]
    try:
        return template.render(talk), template.render([*talk, user]), _MARKS["answer"]
    except TemplateRefusal:  # a template of its own for conversations with tools
        tools = [_TOOL]
        last, then = template.render(talk, tools=tools), template.render([*talk, user], tools=tools)
        return last, then, _MARKS["answer"]


def _after_answer(template: ChatTemplate) -> str:
    last, _, mark = _plain_answer(template)
    return last.rpartition(mark)[2]


def _call(template: ChatTemplate) -> tuple[str, str, str]:
    text = template.abilities.arguments_as_text
    talk = _tool_talk(arguments_as_text=text)
    tools = [_TOOL]
    try:
        then = template.render(talk[:3], tools=tools)
    except TemplateRefusal:
        then = ""
    return template.render(talk[:2], tools=tools), then, "mark6"


def _tool_talk(*, arguments_as_text: bool) -> list[Message]:
    arguments: Any = '{"mark5": "mark6"}' if arguments_as_text else {"mark5": "mark6"}
    call = {
        "type": "function",
        "id": _CALL_ID,
        "function": {"name": "mark3", "arguments": arguments},
    }
    return [
        {"role": "user", "content": _MARKS["user"]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "mark7", "name": "mark3", "tool_call_id": _CALL_ID},
    ]


def _abilities(template: ChatTemplate) -> Abilities:
    def text(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        try:
            return template.render(messages, tools=tools, thinking=None)
        except TemplateRefusal:
            return ""

    system = {"role": "system", "content": _MARKS["system"]}
    user = {"role": "user", "content": _MARKS["user"]}
    thought = {"role": "assistant", "content": _MARKS["answer"], "reasoning_content": "mark8"}
    tools = [_TOOL]
    as_object = _tool_talk(arguments_as_text=False)
    as_text = _tool_talk(arguments_as_text=True)
    called = text(as_object[:2], tools)
    takes_objects = "mark3" in called.partition(_MARKS["user"])[2] and "mark6" in called
    takes_text = not takes_objects and "mark6" in text(as_text[:2], tools)
    talk = as_text if takes_text else as_object
    inside = "mark8".join(template.thought_marks) + _MARKS["answer"]
    called_after = [user, {**talk[1], "reasoning_content": "mark8"}]
    return Abilities(
        system=_MARKS["system"] in text([system, user]),
        tools="mark4" in text([user], tools),
        tool_calls=takes_objects or takes_text,
        tool_results="mark7" in text(talk, tools),
        thoughts="mark8" in text([user, thought]),
        call_thoughts="mark8" in text(called_after, tools),
        past_thoughts="mark8" in text([user, {"role": "assistant", "content": inside}, user]),
        arguments_as_text=takes_text,
    )
