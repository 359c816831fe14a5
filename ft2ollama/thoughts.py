"""A model's text while it is written: what is thought, what is answered, what may be shown yet.

In: the text so far and the marks round a thought.  Out: thought and answer, whole or what is new.
"""

from __future__ import annotations

from collections.abc import Iterator

from ft2ollama.ollama_chat import Thought

_BROKEN = "\N{REPLACEMENT CHARACTER}"  # what a decoder writes for the first bytes of a character


class Unfolding:
    """Hands out each piece of a growing text once. begun: the prompt has opened a thought."""

    def __init__(self, marks: tuple[str, str], *, begun: bool = False) -> None:
        self._marks, self._begun = marks, begun
        self.thought = self.answer = ""

    def news(self, text: str, *, unfinished: bool = False) -> Iterator[str | Thought]:
        """What `text` adds to the texts before it."""
        shown = text.rstrip(_BROKEN) if unfinished else text
        thought, answer = split_thought(
            shown, self._marks, begun=self._begun, unfinished=unfinished
        )
        if piece := thought[len(self.thought) :]:
            yield Thought(piece)
        if piece := answer[len(self.answer) :]:
            yield piece
        self.thought, self.answer = thought, answer


def split_thought(
    text: str, marks: tuple[str, str], *, begun: bool = False, unfinished: bool = False
) -> tuple[str, str]:
    """(thought, answer), without the marks and the white space that stands round them.

    begun: the prompt has opened the thought already.  unfinished: more text will come, so an end
    that could be the beginning of a mark is held back.
    """
    first, last = (mark.strip() for mark in marks)
    if not begun:
        head = text.lstrip()
        if unfinished and len(head) < len(first) and first.startswith(head):
            return "", ""
        if not head.startswith(first):
            return "", text
        text = head[len(first) :]
    thought, mark, answer = text.partition(last)
    if not mark and unfinished:
        thought = _without_beginning_of(last, thought)
    return thought.strip(), answer.lstrip()


def _without_beginning_of(mark: str, text: str) -> str:
    ends = range(min(len(mark), len(text)), 0, -1)
    return text[: len(text) - next((n for n in ends if text.endswith(mark[:n])), 0)]
