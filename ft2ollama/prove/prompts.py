"""The prompts that a served model is fed, beside those of the reference's chat template.

In: what is served and the reference.  Out: one `Prompt` per conversation: text and ids on both
sides. The server's ids come from its `context`, its text from `_debug_render_only` (0.11.5 and
newer), else from executing its Go template here, else from decoding the ids. Text and ids are kept
apart on purpose: another template changes the text, another tokenizer only the ids.

BOS is taken off on both sides and counted, so that a wrong BOS is one fault and not one per prompt.
A BOS that is a turn's marker too (SmolLM2's <|im_start|>) stays in the texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ft2ollama.errors import UserError
from ft2ollama.gotemplate import normal_tools, prompt
from ft2ollama.gotemplate.ollama_data import api_messages
from ft2ollama.proof import Tick
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served
from ft2ollama.template import Message

SYSTEM_TEXT = "Answer in one word."
FIRST_QUESTION = "Which city is the capital of France?"
_SYSTEM = {"role": "system", "content": SYSTEM_TEXT}
_HI = {"role": "user", "content": FIRST_QUESTION}
_TALK = [
    _SYSTEM,
    _HI,
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Spain?"},
    {"role": "assistant", "content": "Madrid."},
    {"role": "user", "content": "谢谢！"},
]
_MIXED = '  两个空格　１２３\n\n\n```python\nprint("{{ .Content }}", x[0] < 1)\n```\n'
# Few, because each costs a reading of the prompt by the user's model: one turn tells the format,
# the second whether systems arrive, the third the history, the last whether contents stay as given.
CASES: tuple[tuple[str, list[dict[str, str]]], ...] = (
    ("one turn", [_HI]),
    ("one turn, system", [_SYSTEM, _HI]),
    ("three turns, system", _TALK),
    ("white space, Chinese, code", [{"role": "user", "content": _MIXED}]),
)
TOOLS = normal_tools(
    [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Weather of a city",
                "parameters": {
                    "type": "object",
                    "required": ["city"],
                    "properties": {"city": {"type": "string", "description": "its name"}},
                },
            },
        }
    ]
)


@dataclass(frozen=True)
class Prompt:
    """wanted: of the reference.  got: of the server.  Both without BOS, which is counted apart.

    ids are None where the server does not tell them; `got_bos` is None then too.
    tokens: (wanted, got) numbers, where only numbers can be compared.
    """

    name: str
    messages: Sequence[Message]
    wanted: str
    wanted_ids: tuple[int, ...]
    wanted_bos: int
    got: str
    got_ids: tuple[int, ...] | None
    got_bos: int | None
    tokens: tuple[int, int] | None = None

    @property
    def equal_text(self) -> bool:
        """Whether the two templates write the same."""
        if self.tokens is not None:
            return self.tokens[0] == self.tokens[1]
        return self.got_ids == self.wanted_ids or self.got == self.wanted


def ask_prompts(served: Served, reference: Reference, tick: Tick | None = None) -> list[Prompt]:
    """A `Prompt` for every case that the reference's chat template does not refuse."""
    found = []
    for number, (name, messages) in enumerate(CASES, 1):
        wanted = reference.prompt(_given(served, messages))
        if wanted is not None:
            found.append(_ask(served, reference, name, messages, wanted))
        if tick:
            tick(number, len(CASES))
    return found


def ask_with_tools(served: Served, reference: Reference, bos: int) -> Prompt | None:
    """A question with a tool offered, by text or by number of tokens; None when it is refused.

    bos: how many BOS the server's prompts begin with.
    """
    messages = [_HI]
    wanted = reference.prompt(_given(served, messages), TOOLS)
    if wanted is None:
        return None
    known = [reference.tokenizer.id(reference.bos) if reference.bos else None]
    own_bos, ids = _without(reference.tokenizer.encode(wanted)[0], known)
    text = served.server.prompt_text(served.name, messages, tools=TOOLS)
    tokens = None
    if text is None:
        count = served.server.prompt_tokens(served.name, messages, tools=TOOLS)
        tokens, text = (len(ids), count - bos), executed(served, messages, TOOLS) or ""
    wanted, text = (_plain(one, reference.leading_bos) for one in (wanted, text))
    return Prompt("tools", messages, wanted, ids, own_bos, text, None, None, tokens)


def executed(
    served: Served, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
) -> str | None:
    """The prompt by our own execution of the served Go template; None when it cannot be executed.

    A template of the old kind, with .Prompt and .Response, is executed turn by turn: not here.
    """
    if ".Messages" not in served.shown.template:
        return None
    try:
        return prompt(served.shown.template, _given(served, messages), tools=tools)
    except (UserError, TypeError, ValueError, LookupError):
        return None


def _given(served: Served, messages: Sequence[Message]) -> list[Message]:
    """The conversation as the model is to see it: the Modelfile's MESSAGE and SYSTEM in front."""
    talk: list[Message] = [*served.shown.messages, *messages]
    if served.shown.system and messages[0]["role"] != "system":
        return [{"role": "system", "content": served.shown.system}, *talk]
    return talk


def _ask(
    served: Served, reference: Reference, name: str, messages: Sequence[Message], wanted: str
) -> Prompt:
    ids = served.server.prompt_ids(served.name, messages)
    known = [reference.tokenizer.id(reference.bos) if reference.bos else None]
    wanted_bos, wanted_ids = _without(reference.tokenizer.encode(wanted)[0], known)
    text = served.server.prompt_text(served.name, messages)
    if text is None:
        text = executed(served, api_messages(messages))
    own: tuple[int, tuple[int, ...]] | None = None
    if ids is not None:
        own = _without(ids, [*known, served.value("tokenizer.ggml.bos_token_id")])
    if text is None:
        text = reference.tokenizer.decode(own[1] if own else (), skip_special_tokens=False)
    return Prompt(
        name,
        messages,
        _plain(wanted, reference.leading_bos),
        wanted_ids,
        wanted_bos,
        _plain(text, reference.leading_bos),
        own[1] if own else None,
        own[0] if own else None,
    )


def _plain(text: str, bos: str) -> str:
    while bos and text.startswith(bos):
        text = text.removeprefix(bos)
    return text


def _without(ids: Sequence[int], bos: Sequence[int | None]) -> tuple[int, tuple[int, ...]]:
    """(how many BOS are in front, the rest)."""
    count = next((n for n, one in enumerate(ids) if one not in bos), len(ids))
    return count, tuple(ids[count:])
