"""Control tokens in the text of the data are found, and refused or put between guards.

In: a message, a list of tools.  Out: the same with DATA_START and DATA_END around every text that
looks like a control token, so that `Tokenizer.encode_guarded` can tell it from the template's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from ft2ollama.chat_jinja import BLOCK_END, BLOCK_START, TemplateRefusal
from ft2ollama.data.problems import BadRow
from ft2ollama.data.tokenizer import DATA_END, DATA_START
from ft2ollama.template import ChatTemplate

_NOT_TEXT = {"role", "type"}  # keys whose values templates compare, never write as free text
_MARKS = re.compile(f"[{DATA_START}{DATA_END}{BLOCK_START}{BLOCK_END}\ufdd4\ufdd5]")


def control_tokens(template: ChatTemplate, special: tuple[str, ...]) -> tuple[str, ...]:
    """What no text of the data may become: the special tokens, and what begins and ends turns.

    DeepSeek's <｜User｜> is an added token that is not marked special, yet it begins a turn. Tokens
    that answers may well hold, <think> or <tool_call>, are none of them.
    """
    user = {"role": "user", "content": "x"}
    talk = [user, {"role": "assistant", "content": "x"}, user]
    try:
        text = template.render(talk)
    except TemplateRefusal:
        text = ""
    headers = re.findall(r"<[|｜][^<>|｜\s]+[|｜]>|<[a-z]+_of_turn>", text)
    return tuple(dict.fromkeys((*special, *template.stop, *headers)))


def guarded(value: Any, control: tuple[str, ...], key: str, as_text: bool) -> Any:
    """`value` with guards around control tokens; raises BadRow for one unless `as_text`.

    Values without any are returned as they are.
    """
    if isinstance(value, str):
        return _guarded_text(value, control, key, as_text)
    if isinstance(value, Mapping):
        for name in value:  # a name is no free text: it is never turned into one
            _guarded_text(name, control, f"{key}.{name}", False)
        return {
            name: item if name in _NOT_TEXT else guarded(item, control, f"{key}.{name}", as_text)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        found = [guarded(item, control, f"{key}[{n}]", as_text) for n, item in enumerate(value, 1)]
        return tuple(found) if isinstance(value, tuple) else found
    return value


def unguarded(text: str) -> str:
    """The text without guards."""
    return text.replace(DATA_START, "").replace(DATA_END, "")


def _guarded_text(text: str, control: tuple[str, ...], key: str, as_text: bool) -> str:
    if _MARKS.search(text):
        raise BadRow("noncharacter", key)
    found = _pattern(control).search(text)
    if found is None:
        return text
    if not as_text:
        raise BadRow("control-token", key, token=found.group())
    return _pattern(control).sub(lambda m: f"{DATA_START}{m.group()}{DATA_END}", text)


@cache
def _pattern(control: tuple[str, ...]) -> re.Pattern[str]:
    ordered = sorted(control, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or "(?!)")
