"""A model's chat template, as a function -> the Go template that builds the same prompts.

Tried from the richest to the plainest: tools and thoughts, one of them, text alone. A try counts
when its Go template, executed by `engine`, equals the chat template on every case of `cases` that
the chat template does not refuse; the first that does is taken, and what it lacks (tools, thoughts)
is refused by Ollama itself ("does not support tools"). Where probing finds none, the Go templates
of known families are compared in the same way; a name or a likeness never decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import Any

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate.cases import (
    parallel_cases,
    text_cases,
    think_cases,
    thought_cases,
    tool_cases,
)
from ft2ollama.gotemplate.contents import contents, tells_thoughts
from ft2ollama.gotemplate.emit import emit
from ft2ollama.gotemplate.lexer import parse
from ft2ollama.gotemplate.ollama_data import prompt
from ft2ollama.gotemplate.probe import (
    Message,
    Probe,
    Render,
    Unknown,
    conversation,
    mark,
    text_probes,
    thought_probes,
    tool_probes,
    with_system,
)
from ft2ollama.gotemplate.result import Difference, GoTemplate, notes, stop_words
from ft2ollama.gotemplate.slots import read
from ft2ollama.gotemplate.tags import thinking_tags

_KINDS = ({"tools", "thinking"}, {"tools"}, {"thinking"}, set[str]())
_TRIES = [(frozenset(kinds), late) for kinds in _KINDS for late in (True, False)]
_THOUGHTS_IN_ANSWERS = "an old answer that still holds <think> is printed otherwise"
_ANSWERS_IN_A_ROW = "several answers of tools in a row are printed otherwise"
_ONE_SYSTEM = "a system message after the first one does not stand where the chat template puts it"


def derive(
    render: Render,
    *,
    special_tokens: Mapping[str, str] = MappingProxyType({}),
    ends: Sequence[str] = (),
    families: Mapping[str, str] = MappingProxyType({}),
    without: frozenset[str] = frozenset(),
) -> GoTemplate:
    """The Go template of a chat template; UsageError with the difference where none is equal.

    render: the chat template.  special_tokens: bos_token is read.  ends: texts of all eos and eot
    tokens.  families: name -> Go template, to fall back to.  without: capabilities not to try.
    """
    own, adds_bos = without_bos(render, special_tokens.get("bos_token", ""))
    reasons: list[str] = []
    for capabilities, late_systems in _TRIES:
        if capabilities & without:
            continue
        name = " and ".join(sorted(capabilities)) or "text"
        try:
            found = _try(own, capabilities, late_systems, ends)
        except Unknown as reason:
            if late_systems:
                reasons.append(f"without {name}: {reason}" if capabilities else str(reason))
            continue
        if not late_systems:
            reasons[-1] = _ONE_SYSTEM
        explain = (*reasons, *found.explain)
        return replace(found, adds_bos=adds_bos, explain=explain)
    for name, gotmpl in families.items():
        system = default_system(own, list(text_probes()))
        equal, difference = compare(own, gotmpl, system, cases_for(frozenset()))
        if equal and not difference:
            found = GoTemplate(gotmpl, tuple(ends), system, adds_bos, way="family", family=name)
            return replace(found, cases=equal, explain=tuple(reasons))
    raise UsageError(
        "no Go template was found that builds the same prompts as the chat template",
        reasons[-1],
        "publish to Ollama 0.30 or newer, which executes the chat template itself",
    )


def without_bos(render: Render, bos: str) -> tuple[Render, bool]:
    """`render` without the BOS token in front, and whether it was there.

    A token that begins later turns too (SmolLM2's BOS is <|im_start|>) is part of the template.
    """
    adds = bool(bos) and _begins_with_once(render, bos)

    def own(
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        thinking: bool | None = None,
    ) -> str:
        text = render(
            messages, tools=tools, add_generation_prompt=add_generation_prompt, thinking=thinking
        )
        return text.removeprefix(bos) if adds else text

    return own, adds


def _begins_with_once(render: Render, bos: str) -> bool:
    for roles in ("uau", "u"):
        try:
            text = render(conversation(roles))
        except UsageError:
            continue
        return text.startswith(bos) and text.count(bos) == 1
    return False


def compare(
    render: Render,
    gotmpl: str,
    system: str,
    cases: Iterable[tuple[str, Probe]],
    *,
    joins_tools: bool = True,
) -> tuple[int, Difference | None]:
    """How many cases were equal before the first difference; refused ones are passed over."""
    parsed, equal = parse(gotmpl), 0
    for name, case in cases:
        try:
            wanted = render(case.messages, tools=case.tools, thinking=case.thinking)
        except UsageError:
            continue
        got = prompt(
            parsed,
            case.messages,
            system=system,
            tools=case.tools,
            thinking=case.thinking,
            joins_tools=joins_tools,
        )
        if got != wanted:
            return equal, Difference(name, wanted, got)
        equal += 1
    return equal, None


def cases_for(capabilities: frozenset[str]) -> Iterator[tuple[str, Probe]]:
    """The cases that a template of these capabilities must pass."""
    yield from text_cases()
    if "thinking" in capabilities:
        yield from thought_cases()
    if "tools" in capabilities:
        yield from tool_cases(thoughts="thinking" in capabilities)


def _try(
    render: Render, capabilities: frozenset[str], late_systems: bool, ends: Sequence[str]
) -> GoTemplate:
    probes = list(_probes(capabilities, late_systems))
    tags = "thinking" in capabilities and tells_thoughts(render)
    if "thinking" in capabilities and not (tags or _prints_thoughts(render, probes)):
        raise Unknown("it does not print thoughts")
    system = default_system(render, [probe for probe in probes if not probe.thinking])
    if system:
        probes = [with_system(probe) for probe in probes]
    findings = read(render, probes)
    printed = contents(render, tools="tools" in capabilities, thinking="thinking" in capabilities)
    gotmpl = emit(findings, printed, tags=tags)
    if "thinking" in capabilities and not all(thinking_tags(gotmpl)):
        raise Unknown("Ollama would not find the tags around its thoughts")
    equal, difference = compare(render, gotmpl, system, cases_for(capabilities))
    if difference:
        raise Unknown(str(difference))
    if not equal:
        raise Unknown("it refuses every case")
    if "tools" in capabilities and not _answers_tools(render):
        raise Unknown("it refuses every conversation with a tool call")
    old, difference = compare(render, gotmpl, system, think_cases())
    limits = [f"{_THOUGHTS_IN_ANSWERS}; {difference}"] * bool(difference)
    if "tools" in capabilities:
        _, difference = compare(render, gotmpl, system, parallel_cases(), joins_tools=False)
        limits += [f"{_ANSWERS_IN_A_ROW}; {difference}"] * bool(difference)
    return GoTemplate(
        gotmpl,
        stop_words(findings, ends),
        system,
        capabilities=capabilities,
        cases=equal + old,
        explain=(*limits, *notes(gotmpl, system, findings)),
    )


def _answers_tools(render: Render) -> bool:
    for _, case in tool_cases(thoughts=False):
        if any(message["role"] == "tool" for message in case.messages):
            try:
                render(case.messages, tools=case.tools)
            except UsageError:
                continue
            return True
    return False


def default_system(render: Render, probes: Sequence[Probe]) -> str:
    """The system prompt that the template adds by itself, if it is one in every conversation."""
    wanted, found = mark("system", 0), ""
    bare = [probe for probe in probes if probe.messages[0]["role"] != "system"]
    for probe in bare:
        try:
            given = render(probe.messages, tools=probe.tools, thinking=probe.thinking)
            marked = render(
                ({"role": "system", "content": wanted}, *probe.messages),
                tools=probe.tools,
                thinking=probe.thinking,
            )
        except UsageError:
            continue
        head, _, tail = marked.partition(wanted)
        if not (given.startswith(head) and given.endswith(tail)):
            return ""
        middle = given[len(head) : len(given) - len(tail)]
        if not middle or (found and middle != found):
            return ""
        found = middle
    return found


def _probes(capabilities: frozenset[str], late_systems: bool) -> Iterator[Probe]:
    parts = [text_probes(late_systems=late_systems)]
    if "thinking" in capabilities:
        parts.append(thought_probes())
    if "tools" in capabilities:
        parts.append(tool_probes("thinking" in capabilities))
    return chain.from_iterable(parts)


def _prints_thoughts(render: Render, probes: Iterable[Probe]) -> bool:
    for probe in probes:
        try:
            text = render(probe.messages, tools=probe.tools, thinking=probe.thinking)
        except UsageError:
            continue
        if mark("thinking", 1)[:-2] in text or any(
            message.get("reasoning_content", "\0") in text for message in probe.messages
        ):
            return True
    return False
