"""Hugging Face chat templates, rendered as transformers renders them.

In: the Jinja text, messages, tools, variables.  Out: the text, and where `{% generation %}` blocks
begin and end in it.  Settings are those of transformers 5 (`utils/chat_template_utils.py`): blocks
and the white space before them trimmed, loop controls, a sandbox, `tojson` that leaves Chinese as
it is, values of None left out, a thought under the names `reasoning_content` and `thinking`.

One thing differs on purpose: `strftime_now` gives a fixed date. A training text that holds today's
date cannot be made again tomorrow, and neither the cache nor a resumed run could be trusted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from functools import cache
from typing import Any

from ft2ollama.errors import UsageError

Message = Mapping[str, Any]
Spans = tuple[tuple[int, int], ...]

# Unicode noncharacters: no text that may be exchanged holds them, so they can mark places in it.
BLOCK_START, BLOCK_END = "\ufdd2", "\ufdd3"
# What Llama 3's templates write where there is no clock; one fixed day for every template.
TRAINING_DATE = date(2024, 7, 26)

_HAS_BLOCKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_BLOCK_MARKS = re.compile(f"[{BLOCK_START}{BLOCK_END}]")
_FAULTS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class TemplateRefusal(UsageError):
    """The template does not render a conversation. reason: the template's own words."""

    def __init__(self, reason: str, messages: Sequence[Message]) -> None:
        roles = ", ".join(str(message.get("role")) for message in messages)
        super().__init__(
            "the chat template refuses a conversation",
            f"roles {roles}: {reason}",
            "bring the turns into the order the template asks for, or set `template: chatml`",
        )
        self.reason = reason


def render_jinja(
    jinja: str,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = False,
    special_tokens: Mapping[str, str] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The text of a conversation; raises TemplateRefusal with the template's own message.

    variables: more names for the template, such as `enable_thinking`; `date` is the day that
    `strftime_now` gives.
    """
    text = render_marked(
        jinja,
        messages,
        tools=tools,
        add_generation_prompt=add_generation_prompt,
        special_tokens=special_tokens,
        variables=variables,
    )
    return split_blocks(text)[0]


def render_marked(
    jinja: str,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = False,
    special_tokens: Mapping[str, str] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The same text with the marks of `{% generation %}` blocks in it, for `split_blocks`."""
    import jinja2

    given = {**(special_tokens or {}), **(variables or {})}
    day = given.pop("date", TRAINING_DATE)
    try:
        text = _compile(jinja).render(
            messages=[_plain(message) for message in messages],
            tools=list(tools) or None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            strftime_now=datetime.combine(day, time()).strftime,
            **given,
        )
    except jinja2.TemplateError as error:
        raise TemplateRefusal(error.message or type(error).__name__, messages) from error
    except _FAULTS as error:
        raise TemplateRefusal(f"{type(error).__name__}: {error}", messages) from error
    return str(text)


def has_blocks(jinja: str) -> bool:
    """Does the template say itself, by `{% generation %}`, what the model writes?"""
    return _HAS_BLOCKS.search(jinja) is not None


def split_blocks(text: str) -> tuple[str, Spans]:
    """Take the marks of `{% generation %}` out: (text, [start, end) of every block in it)."""
    if BLOCK_START not in text:
        return text, ()
    pieces, starts, spans, length = [], [], [], 0
    last = 0
    for mark in _BLOCK_MARKS.finditer(text):
        pieces.append(text[last : mark.start()])
        length += mark.start() - last
        last = mark.end()
        if mark.group() == BLOCK_START:
            starts.append(length)
        else:
            spans.append((starts.pop(), length))
    return "".join((*pieces, text[last:])), tuple(spans)


def common_start(one: str, other: str) -> str:
    """The text that both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    differs = next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
    return one[:differs]


def _plain(message: Message) -> dict[str, Any]:
    given = {key: value for key, value in message.items() if value is not None}
    if "reasoning_content" in given:
        given.setdefault("thinking", given["reasoning_content"])
    return given


@cache
def _compile(jinja: str) -> Any:
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_blocks()]
    )
    env.filters["tojson"] = _tojson
    env.globals["raise_exception"] = _raise_exception
    try:
        return env.from_string(jinja)
    except jinja2.TemplateError as error:
        raise TemplateRefusal(f"it is no Jinja: {error}", ()) from error


@cache
def _generation_blocks() -> Any:
    """The tag `{% generation %}`: its text between two marks."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class Blocks(Extension):
        tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_marked")
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _marked(self, caller: Any) -> str:
            return f"{BLOCK_START}{caller()}{BLOCK_END}"

    return Blocks


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)
