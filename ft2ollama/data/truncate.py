"""Conversations longer than `cutoff_len`, under `cutoff_policy: truncate`.

In: a draft or a conversation, and its lengths in tokens.  Out: a draft that fits, or None.

Whole turns go from the end until the rest fits: what is kept ends with a complete answer and its
stop token, and is the very beginning of what was there. Where not even the first exchange fits, the
middle of the user's text goes (its beginning and end say most often what is asked); the answer
stays whole. An answer is never cut: a model that learns half answers stops in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ft2ollama.data.problems import BadRow
from ft2ollama.data.turns import Draft, Talk, drafts

_LEFT_OUT = "\n…\n"
_LEAST = 32  # characters of a question; less than that asks nothing


def whole_turns(
    draft: Draft, ends: Sequence[int], limit: int, *, only_last: bool = False
) -> Draft | None:
    """The draft up to its last answer that ends within `limit` tokens.

    ends: for each answer how many tokens the text up to its end has.  only_last: `mask_history`,
    the last answer that is kept is the one learned.
    """
    fitting = [answer for answer, end in zip(draft.answers, ends, strict=True) if end <= limit]
    if not fitting:
        return None
    return Draft(draft.text[: fitting[-1].end], tuple(fitting[-1:] if only_last else fitting))


def shortened(talk: Talk, limit: int, length: Callable[[Draft], int]) -> Draft | None:
    """The first exchange with the longest text of its user cut in the middle, or None.

    length: tokens of a draft.  The longest text that fits is found by halving.
    """
    first = talk.learned[0]
    users = [n for n in range(first) if talk.messages[n]["role"] == "user"]
    if not users or first != talk.assistant[0]:
        return None
    asked = max(users, key=lambda n: len(talk.messages[n]["content"]))
    low, high, found = _LEAST, len(talk.messages[asked]["content"]) - 1, None
    while low <= high:
        middle = (low + high) // 2
        draft = _with_question(talk, asked, middle, first)
        if length(draft) <= limit:
            found, low = draft, middle + 1
        else:
            high = middle - 1
    return found


def _with_question(talk: Talk, asked: int, characters: int, answer: int) -> Draft:
    text = talk.messages[asked]["content"]
    half = characters // 2
    short = text[: characters - half] + _LEFT_OUT + text[len(text) - half :]
    messages = list(talk.messages[: answer + 1])
    messages[asked] = {**messages[asked], "content": short}
    if talk.plain is not None:
        raise BadRow("control-token-unclear", talk.key(asked))
    cut = replace(talk, messages=tuple(messages), past=tuple(messages))
    return drafts(cut)[0]
