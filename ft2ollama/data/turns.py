"""Conversation -> for every learned answer the text that inference sees, and what of it is learned.

In: a conversation and the chat template.  Out: `Draft`s: texts with the answers in them.

At inference the model gets the turns before an answer, rendered with the generation prompt, and
goes on from there until its stop token. So the text of a learned turn is that prompt, then the
answer as the template writes it, up to and with the stop token; nothing after it is kept. Most
templates only ever add to what they wrote: then the text of an early turn is a prefix of that of a
later one, and one sample teaches both. Others rewrite (Qwen3 takes the thoughts out of the history,
Mistral moves the system prompt to the last question): then the early turn is a sample of its own.

Where the rendered turn does not begin with the prompt, three things are understood, and all else is
refused: a prompt that opens a thought (DeepSeek R1, QwQ: the thought, or none, is put in and
closed), a context that the template writes otherwise once it is answered (Mistral), and templates
that leave thoughts out of messages (they are put in front of the answer between <think> tags).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ft2ollama.chat_jinja import TemplateRefusal, common_start, has_blocks, split_blocks
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.guards import guarded, unguarded
from ft2ollama.data.problems import BadRow
from ft2ollama.data.tokenizer import DATA_START
from ft2ollama.template import ChatTemplate

Span = tuple[int, int]
Turn = Mapping[str, Any]

_OTHER = "\ue000"  # an answer that no answer of the data begins like


@dataclass(frozen=True)
class Answer:
    """A turn in a text. start: where generation begins; end: after the stop token.

    learned: what of it the loss sees; empty for a turn that the data weighs with 0.
    """

    number: int
    start: int
    end: int
    learned: tuple[Span, ...]


@dataclass(frozen=True)
class Draft:
    """A text to be encoded; it ends with the stop token of the last of its answers."""

    text: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Talk:
    """A conversation made ready for its template.

    messages: as they are learned.  past: the same as they stand before a later answer.  shift:
    messages put in front of the data's.
    """

    messages: tuple[Turn, ...]
    past: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...]
    unlearned: frozenset[int]
    shift: int
    template: ChatTemplate
    control: tuple[str, ...]
    thinking: bool | None
    plain: Talk | None = None  # the same without guards, where there are any

    @property
    def learned(self) -> list[int]:
        """Indexes of the assistant turns that are learned."""
        return [number for number in self.assistant if number not in self.unlearned]

    @property
    def assistant(self) -> list[int]:
        """Indexes of all assistant turns."""
        return [n for n, message in enumerate(self.messages) if message["role"] == "assistant"]

    def key(self, number: int) -> str:
        """A message's name in a problem, counted from 1 as the data has it."""
        return f"messages[{number + 1 - self.shift}]"

    def prompt(self, number: int) -> str:
        """What the server renders before it generates message `number`."""
        return self.template.render(
            self.past[:number],
            tools=self.tools,
            add_generation_prompt=True,
            thinking=self.thinking,
        )

    def turn(self, number: int) -> tuple[str, tuple[Span, ...]]:
        """The text up to and with message `number`, and its `{% generation %}` blocks."""
        return self.rendered([*self.past[:number], self.messages[number]])

    def rendered(self, messages: Sequence[Turn]) -> tuple[str, tuple[Span, ...]]:
        """The text of messages, and its `{% generation %}` blocks."""
        marked = self.template.render_marked(messages, tools=self.tools, thinking=self.thinking)
        return split_blocks(marked)

    @property
    def stop(self) -> re.Pattern[str]:
        """A stop token that the template wrote, not the data."""
        return _stop_pattern(self.template.stop)


@cache
def _stop_pattern(stop: tuple[str, ...]) -> re.Pattern[str]:
    words = sorted(stop, key=len, reverse=True)
    return re.compile(f"(?<!{DATA_START})(?:{'|'.join(map(re.escape, words))})")


def make_talk(
    conversation: Conversation,
    template: ChatTemplate,
    *,
    control: tuple[str, ...] = (),
    system: str = "",
    thinking: bool | None = None,
    special_as_text: bool = False,
) -> Talk:
    """The messages as the template takes them; raises BadRow for what it would leave out.

    control: the control tokens that no text of the data may become.  thinking False takes the
    thoughts out of the data, as LLaMA-Factory's `enable_thinking: false` does.
    """
    messages: list[Turn] = list(conversation.messages)
    shift = int(bool(system) and messages[0]["role"] != "system")
    if shift:
        messages.insert(0, {"role": "system", "content": system})
    talk = Talk(
        tuple(messages),
        tuple(messages),
        conversation.tools,
        frozenset(number + shift for number in conversation.unlearned),
        shift,
        template,
        control,
        thinking,
    )
    _refuse_what_is_left_out(talk)
    ready = tuple(_ready(message, talk) for message in messages)
    past = tuple(_ready(message, talk, past=True) for message in messages)

    def safe(turns: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(
            guarded(turn, control, talk.key(number), special_as_text)
            for number, turn in enumerate(turns)
        )

    tools = guarded(talk.tools, control, "tools", special_as_text)
    done = replace(talk, messages=safe(ready), past=safe(past), tools=tools)
    same = tools == talk.tools and done.messages == ready
    return done if same else replace(done, plain=replace(talk, messages=ready, past=past))


def drafts(talk: Talk, *, only_last: bool = False, weightless: bool = False) -> list[Draft]:
    """The texts of the learned turns, earliest first; one that another begins with is part of it.

    only_last: `mask_history`.  weightless: turns of weight 0 too, with nothing learned of them.
    Raises BadRow.
    """
    wanted = talk.learned[-1:] if only_last else talk.learned
    if not wanted:
        raise BadRow("nothing-learned")
    numbers = [n for n in talk.assistant if n <= wanted[-1]] if weightless else wanted
    return _joined([_draft(talk, number) for number in numbers], set(wanted))


def _joined(texts: Sequence[Draft], wanted: set[int]) -> list[Draft]:
    """Drafts of one answer each -> as few as hold them all."""
    found: list[Draft] = []
    for draft in reversed(texts):
        whole = found[-1] if found else None
        if whole is not None and whole.text.startswith(draft.text):
            found[-1] = Draft(whole.text, (*draft.answers, *whole.answers))
        elif draft.answers[-1].number in wanted:
            found.append(draft)
    return found[::-1]


def _draft(talk: Talk, number: int) -> Draft:
    try:
        return _text_of(talk, number)
    except TemplateRefusal as error:
        raise BadRow("template-refuses", reason=error.reason) from error


def _text_of(talk: Talk, number: int) -> Draft:
    prompt = talk.prompt(number)
    thought, _ = _apart(talk.messages[number], talk.template)
    turn, blocks = talk.turn(number)
    if talk.plain is not None:
        _check_guards(talk.plain, number, prompt, turn)
    if turn.startswith(prompt):
        begins = len(prompt)
        put_in = _left_out(thought, turn[begins:], talk.template)
    else:
        turn, blocks, put_in, begins = _met(talk, number, prompt, turn, blocks)
    text = prompt + put_in + turn[begins:]
    start = len(prompt)
    end, text = _end(talk, number, text, start + len(put_in))
    moved = start + len(put_in) - begins
    if number in talk.unlearned:
        learned: tuple[Span, ...] = ()
    elif has_blocks(talk.template.jinja_for(talk.tools)):
        placed = [(low + moved, high + moved) for low, high in blocks]
        learned = _in_blocks(talk, number, text, (start, end), placed)
    else:
        learned = ((start, end),)
    return Draft(text[:end], (Answer(number, start, end, learned),))


def _check_guards(plain: Talk, number: int, prompt: str, turn: str) -> None:
    """The guards must not have changed what the template writes (trimming, comparing)."""
    same = unguarded(prompt) == plain.prompt(number)
    if not same or unguarded(turn) != plain.turn(number)[0]:
        raise BadRow("control-token-unclear", plain.key(number))


def _met(
    talk: Talk, number: int, prompt: str, turn: str, blocks: tuple[Span, ...]
) -> tuple[str, tuple[Span, ...], str, int]:
    """Join a prompt and a turn that does not begin with it.

    Returns (turn, its blocks, what goes between, where in the turn the answer begins).
    """
    thought, rest = _apart(talk.messages[number], talk.template)
    opens, closes = talk.template.thought_marks
    if thought and _closed(prompt, talk.template):
        raise BadRow("thought-closed", talk.key(number))
    context = talk.past[:number]
    other, _ = talk.rendered([*context, {"role": "assistant", "content": _OTHER}])
    before = common_start(turn, other)
    begun = prompt[len(before) :].strip() if prompt.startswith(before) else ""
    if begun and (begun == opens.strip() or _closed(begun, talk.template)):
        turn, blocks = talk.rendered([*context, rest])
        put_in = thought + closes if begun == opens.strip() else ""
        return turn, blocks, put_in, len(common_start(turn, other))
    same = len(common_start(before[::-1], prompt[::-1]))
    asked = str(context[-1].get("content", "")).strip()
    if asked and asked in before[len(before) - same :]:
        return turn, blocks, "", len(before)
    raise BadRow("prompt-rewritten", talk.key(number))


def _left_out(thought: str, answer: str, template: ChatTemplate) -> str:
    """The thought as it stands before an answer, where the template takes it out of every turn."""
    opens, closes = template.thought_marks
    return f"{opens}{thought}{closes}" if thought and thought not in answer else ""


def _closed(prompt: str, template: ChatTemplate) -> bool:
    """Does the generation prompt end with an empty thought?"""
    opens, closes = (mark.strip() for mark in template.thought_marks)
    return re.search(f"{re.escape(opens)}\\s*{re.escape(closes)}\\s*\\Z", prompt) is not None


def _end(talk: Talk, number: int, text: str, start: int) -> tuple[int, str]:
    """(place after the stop token, text); a missing stop token is added where the next turn's
    header is one."""
    found = talk.stop.search(text, start)
    if found is None:
        header = talk.template.next_header[bool(talk.messages[number].get("tool_calls"))]
        if not header:
            raise BadRow("no-stop", talk.key(number), stop=", ".join(talk.template.stop))
        return len(text) + len(header), text + header
    rest = text[found.end() :]
    for word in (*talk.control, *talk.template.stop) if rest.strip() else ():
        rest = rest.replace(word, "")
    if rest.strip():
        raise BadRow("text-after-stop", talk.key(number), text=rest.strip()[:60])
    return found.end(), text


def _in_blocks(
    talk: Talk, number: int, text: str, answer: Span, blocks: Sequence[Span]
) -> tuple[Span, ...]:
    """The part of an answer inside `{% generation %}` blocks, and its stop token in any case."""
    start, end = answer
    found = [(max(start, a), min(end, b)) for a, b in blocks if a < end and b > start]
    found = [(a, b) for a, b in found if a < b]
    stop = talk.stop.search(text, start)
    if not found:
        raise BadRow("no-block", talk.key(number))
    if stop is not None and found[-1][1] < end:
        found.append((max(stop.start(), found[-1][1]), end))
    return tuple(found)


def _refuse_what_is_left_out(talk: Talk) -> None:
    """A template that does not know tools renders them as nothing: training would be on gaps."""
    can, messages = talk.template.abilities, talk.messages
    if talk.tools and not can.tools:
        raise BadRow("template-without", "tools", part="tools")
    for number, message in enumerate(messages):
        if message.get("tool_calls") and not can.tool_calls:
            raise BadRow("template-without", talk.key(number), part="tool_calls")
        if message["role"] == "tool" and not can.tool_results:
            raise BadRow("template-without", talk.key(number), part="role: tool")


def _ready(message: Turn, talk: Talk, *, past: bool = False) -> Turn:
    """past: it stands before a later answer. Where the template takes thoughts out of earlier
    answers, it never gets them: a client sends back the answer without (DeepSeek R1's template
    would leave the empty lines after a thought)."""
    if message["role"] != "assistant":
        return message
    found, can = dict(message), talk.template.abilities
    written = can.call_thoughts if found.get("tool_calls") else can.thoughts
    if talk.thinking is False:
        found = dict(_apart(found, talk.template)[1])
    elif found.get("reasoning_content") and not written:
        opens, closes = talk.template.thought_marks
        thought = found.pop("reasoning_content").strip("\n")
        if past and not can.past_thoughts:
            return _with_arguments(found, talk)
        if not found["content"]:  # a template begins a call on a line of its own
            closes = closes.removesuffix("\n")
        found["content"] = f"{opens}{thought}{closes}{found['content']}"
    return _with_arguments(found, talk)


def _with_arguments(message: dict[str, Any], talk: Talk) -> dict[str, Any]:
    """Arguments of tool calls as the template wants them."""
    if not message.get("tool_calls") or not talk.template.abilities.arguments_as_text:
        return message
    return message | {"tool_calls": [_with_text(call) for call in message["tool_calls"]]}


def _apart(message: Turn, template: ChatTemplate) -> tuple[str, Turn]:
    """(thought, the message without it); the thought may stand in the content between its marks."""
    rest = {key: value for key, value in message.items() if key != "reasoning_content"}
    thought = str(message.get("reasoning_content") or "")
    for opens, closes in (template.thought_marks, ("<think>", "</think>")):
        before, found, after = str(rest.get("content", "")).partition(closes.strip())
        if found and before.lstrip().startswith(opens.strip()):
            thought = thought or before.lstrip()[len(opens.strip()) :]
            rest["content"] = after.lstrip()
    return thought.strip("\n"), rest


def _with_text(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    text = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}
