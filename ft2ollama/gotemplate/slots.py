"""A rendered probe -> slots: what is printed where, and the literal text in front of it.

In: probes and `render`. Out: `Findings`. A slot is an item (`user`, `thinking`, `callname`...), a
zero-width place (`open assistant`, `after thinking`, `close ROLE`), or `end`. `close ROLE` stands
where the text of the conversation up to that message ends, when it is a prefix of the whole text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate.probe import OPEN, Probe, Render, Unknown, common_prefix, mark

Features = Mapping[str, Any]


def _indented(value: Any, levels: int) -> str:
    """JSON with four blanks per level, as it stands in something `levels` deep."""
    text = json.dumps(value, ensure_ascii=False, indent=4)
    return text.replace("\n", "\n" + "    " * levels)


TOOL_FORMS: dict[str, Callable[[Any], str]] = {
    "tool": lambda tool: json.dumps(tool, ensure_ascii=False),
    "function": lambda tool: json.dumps(tool["function"], ensure_ascii=False),
    "tool4": lambda tool: _indented(tool, 0),
    "tool4 in list": lambda tool: _indented(tool, 1),
    "function4": lambda tool: _indented(tool["function"], 0),
    "function4 in list": lambda tool: _indented(tool["function"], 1),
}


@dataclass(frozen=True)
class Slot:
    """One step of the output.

    kind: what is printed.  message: the index of the message it belongs to.  text: the literal in
    front of it.  features: its place.  start, end: in the rendered text.
    """

    kind: str
    message: int
    start: int
    end: int
    nth: int = 0
    text: str = ""
    features: Features = field(default_factory=dict)


@dataclass
class Findings:
    """What the probes told.

    slots: kind -> all its slots.  present: kind -> (features, was it printed) at each place.
    late_system, late_tools: printed with the last user message.  tools_first: before the system
    prompt.  tool_form: a key of TOOL_FORMS.  call_form: "object" for arguments as one JSON object,
    "pairs" for a text around every key and value.
    """

    slots: dict[str, list[Slot]] = field(default_factory=dict)
    present: dict[str, list[tuple[Features, bool]]] = field(default_factory=dict)
    late_system: bool = False
    late_tools: bool = False
    tools_first: bool = False
    tool_form: str = ""
    call_form: str = ""


class _NoWay(Exception):
    pass


_Seen = list[tuple[Probe, str, list[Slot]]]


def read(render: Render, probes: Iterable[Probe]) -> Findings:
    """Render and take apart every probe that the template does not refuse; raises Unknown."""
    findings, seen, reason = Findings(), _Seen(), ""
    for probe in probes:
        try:
            text = render(probe.messages, tools=probe.tools, thinking=probe.thinking)
            seen.append((probe, text, _items(probe, text, findings)))
        except _NoWay:
            continue
        except UsageError as error:
            reason = error.why or error.what
    if not seen:
        raise Unknown(f"it refuses every conversation of user and assistant messages: {reason}")
    _places(seen, findings)
    ends = [_closes(render, probe, text, items) for probe, text, items in seen]
    broken = {place.kind for found in ends for place in found if place.start < 0}
    sequences = []
    for (probe, text, items), found in zip(seen, ends, strict=True):
        kept = [place for place in found if place.kind not in broken]
        sequences.append((probe, text, _sequence(probe, text, items, kept, findings)))
    _open_assistant(sequences)
    _after(sequences, "thinking")
    _after(sequences, "callargs")
    _after(sequences, "argvalue")
    empty = _empty(sequences)
    for probe, _, slots in sequences:
        _describe(probe, [slot for slot in slots if slot.kind not in empty], findings)
    return findings


# ---------------------------------------------------------------- items


def _items(probe: Probe, text: str, findings: Findings) -> list[Slot]:
    """Every item printed, in the order of the text."""
    items = _tools(probe, text, findings)
    for number, message in enumerate(probe.messages):
        role = message["role"]
        items += _find(text, role, number, message["content"])
        items += _find(text, "thinking", number, message.get("reasoning_content", ""))
        for nth, call in enumerate(message.get("tool_calls", ())):
            items += _call(text, number, nth, call, findings)
    return sorted(items, key=lambda item: item.start)


def _find(text: str, kind: str, message: int, wanted: str, nth: int = 0) -> list[Slot]:
    count = text.count(wanted) if wanted else 0
    if count > 1:
        raise Unknown(f"it prints the {kind} of a message {count} times")
    start = text.find(wanted)
    return [Slot(kind, message, start, start + len(wanted), nth)] if count else []


def _call(
    text: str, message: int, nth: int, call: Mapping[str, Any], findings: Findings
) -> list[Slot]:
    """Name and arguments of a call: nothing, where the template does not print it."""
    if call["id"] in text:
        raise Unknown("it prints the id of a tool call, which Ollama 0.9.3 does not keep")
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    found = _find(text, "callname", message, name, nth)
    if not found:
        return []
    whole = json.dumps(arguments, ensure_ascii=False)
    form = "object" if arguments and whole in text else "pairs"
    if not arguments and findings.call_form != "pairs":
        raise _NoWay
    if findings.call_form not in ("", form):
        raise Unknown("it writes tool calls in more than one form")
    findings.call_form = form
    if form == "object":
        return [*found, *_find(text, "callargs", message, whole, nth)]
    for key, value in arguments.items():
        pair = [*_find(text, "argkey", message, key), *_find(text, "argvalue", message, value)]
        if len(pair) < 2:
            raise Unknown("it writes a tool call in a form of its own")
        found += pair
    return found


def _tools(probe: Probe, text: str, findings: Findings) -> list[Slot]:
    if not probe.tools:
        return []
    for form, write in TOOL_FORMS.items():
        texts = [write(tool) for tool in probe.tools]
        if all(one in text for one in texts) and findings.tool_form in ("", form):
            findings.tool_form = form
            found = [_find(text, "tooldef", 0, one, nth) for nth, one in enumerate(texts)]
            return [item for one in found for item in one]
    if mark("toolname", 1) in text:
        raise Unknown("it writes the schemas of tools in a form of its own")
    raise Unknown("it does not write the tools")


def _places(seen: _Seen, findings: Findings) -> None:
    """Where system prompt and tools stand, as seen in conversations of several turns."""
    for probe, _, items in seen:
        kinds = [item.kind for item in items]
        first_user = kinds.index("user") if "user" in kinds else len(kinds)
        users = sum(message["role"] == "user" for message in probe.messages)
        leading = probe.messages[0]["role"] == "system" and kinds.count("system") == 1
        if users > 1 and leading and kinds.index("system") > first_user:
            findings.late_system = True
        if users > 1 and "tooldef" in kinds and kinds.index("tooldef") > first_user:
            findings.late_tools = True
        if leading and "tooldef" in kinds and kinds.index("tooldef") < kinds.index("system"):
            findings.tools_first = True


# ---------------------------------------------------------------- places of width zero


def _closes(render: Render, probe: Probe, text: str, items: Sequence[Slot]) -> list[Slot]:
    """The end of every message; start -1 where it cannot be told."""
    found = []
    for number, message in enumerate(probe.messages):
        kind, place = f"close {message['role']}", -1
        given = probe.messages[: number + 1]
        try:
            head = render(
                given, tools=probe.tools, add_generation_prompt=False, thinking=probe.thinking
            )
        except UsageError:
            head = None
        ended = max((item.end for item in items if item.message <= number), default=0)
        begun = min((item.start for item in items if item.message > number), default=len(text))
        if head is not None and text.startswith(head) and ended <= len(head) <= begun:
            place = len(head)
        found.append(Slot(kind, number, place, place))
    return found


def _sequence(
    probe: Probe, text: str, items: list[Slot], closes: list[Slot], findings: Findings
) -> list[Slot]:
    """Items and closes in the order of the text, late ones moved to the message they stand in."""
    last_user = max(
        (i for i, message in enumerate(probe.messages) if message["role"] == "user"), default=0
    )
    moved = []
    for item in items:
        if item.kind == "system" and findings.late_system and item.message == 0:
            moved.append(replace(item, kind="late system", message=last_user))
        elif item.kind == "tooldef" and findings.late_tools:
            moved.append(replace(item, message=last_user))
        else:
            moved.append(item)
    order = sorted([*moved, *closes], key=lambda slot: (slot.start, slot.message))
    slots, place = list[Slot](), 0
    for slot in order:
        if slot.start < place:
            raise Unknown("two parts of a message stand in one another")
        if OPEN in text[place : slot.start]:
            raise Unknown(f"it changes what it prints: {text[place : slot.start]!r}")
        slots.append(replace(slot, text=text[place : slot.start]))
        place = slot.end
    number = len(probe.messages) - 1
    return [*slots, Slot("end", number, len(text), len(text), 0, text[place:])]


def _open_assistant(sequences: list[tuple[Probe, str, list[Slot]]]) -> None:
    """Cut what every assistant message begins with from the text in front of its first item."""
    heads: dict[str, list[str]] = {}
    firsts = []
    for _, _, slots in sequences:
        for number, slot in enumerate(slots):
            before = slots[number - 1] if number else None
            starts = before is None or before.message != slot.message
            if slot.kind in ("thinking", "assistant", "callname") and starts:
                previous = before.kind if before else ""
                heads.setdefault(previous, []).append(slot.text)
                firsts.append((slots, slot, previous))
    common = {previous: _whole(common_prefix(texts)) for previous, texts in heads.items()}
    for slots, slot, previous in firsts:
        _cut(slots, slot, common[previous], "open assistant")


def _after(sequences: list[tuple[Probe, str, list[Slot]]], kind: str) -> None:
    """Cut what follows every item of this kind from the text in front of the next slot."""
    pairs = [
        (slots, slots[number + 1])
        for _, _, slots in sequences
        for number, slot in enumerate(slots)
        if slot.kind == kind
    ]
    common = _whole(common_prefix([after.text for _, after in pairs]))
    for slots, after in pairs:
        _cut(slots, after, common, f"after {kind}")


def _empty(sequences: list[tuple[Probe, str, list[Slot]]]) -> set[str]:
    """Places of width zero that never have text of their own."""
    texts: dict[str, set[str]] = {}
    for _, _, slots in sequences:
        for slot in slots:
            if slot.start == slot.end and slot.kind != "end":
                texts.setdefault(slot.kind, set()).add(slot.text)
    return {kind for kind, found in texts.items() if found == {""}}


def _cut(slots: list[Slot], slot: Slot, head: str, kind: str) -> None:
    place = next(number for number, one in enumerate(slots) if one is slot)
    start = slot.start - len(slot.text) + len(head)
    message = slots[place - 1].message if kind.startswith("after") else slot.message
    slots[place : place + 1] = [
        Slot(kind, message, start, start, 0, head),
        replace(slot, text=slot.text[len(head) :]),
    ]


def _whole(text: str) -> str:
    """Without a tag that is only begun."""
    cut = max(text.rfind("<"), text.rfind("["))
    return text[:cut] if cut > max(text.rfind(">"), text.rfind("]")) else text


# ---------------------------------------------------------------- features


def _describe(probe: Probe, slots: list[Slot], findings: Findings) -> None:
    """Add slots with their features, and which items were printed, to the findings."""
    printed = {(slot.kind, slot.message) for slot in slots}
    places = [place_features(probe, number) for number in range(len(probe.messages))]
    previous = ""
    for slot in slots:
        features = {**places[slot.message], "prev": previous, "again": slot.nth > 0}
        kind = "system tooldef" if slot.kind == "tooldef" and features["system"] else slot.kind
        findings.slots.setdefault(kind, []).append(replace(slot, features=features))
        previous = slot.kind
    for number, message in enumerate(probe.messages):
        for kind in _possible(probe, number, message, findings):
            findings.present.setdefault(kind, []).append(
                (places[number], (kind, number) in printed)
            )


def _possible(
    probe: Probe, number: int, message: Mapping[str, Any], findings: Findings
) -> list[str]:
    """The items that could be printed at this message."""
    role = message["role"]
    kinds = (
        [role]
        if message["content"] and not (role == "system" and findings.late_system and number == 0)
        else []
    )
    if message.get("reasoning_content"):
        kinds.append("thinking")
    if findings.late_system and role == "user" and probe.messages[0]["role"] == "system":
        kinds.append("late system")
    return kinds


def place_features(probe: Probe, number: int) -> dict[str, Any]:
    """What a Go template can ask at message `number`."""
    roles = [message["role"] for message in probe.messages]
    message = probe.messages[number]
    query = max((i for i, role in enumerate(roles) if role == "user"), default=0)
    thinking = {None: "unset", True: "on", False: "off"}[probe.thinking]
    return {
        "first": number == 0,
        "last": number == len(roles) - 1,
        "query": number == query,
        "after": number > query,
        "opening": "user" not in roles[:number],
        "system": roles[0] == "system",
        "tools": bool(probe.tools),
        "think": thinking,
        "calls": bool(message.get("tool_calls")),
        "thoughts": bool(message.get("reasoning_content")),
        "content": bool(message["content"]),
    }
