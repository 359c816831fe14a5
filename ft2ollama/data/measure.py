"""The tokens of a conversation, counted with the model's own template and tokenizer.

In: a conversation.  Out: `Measured` and the problems that only tokens show. The row is rendered
whole, whatever cutoff_len says, so that it can be told what any cutoff_len would cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.problems import BadRow, Problem
from ft2ollama.data.render import IGNORED, Sample, Tokenizer, render
from ft2ollama.template import ChatTemplate

_ANY_LENGTH = 1 << 40

Span = tuple[int, int]


@dataclass(frozen=True)
class Measured:
    """place: of the row.  tokens: of the whole row.  answers: learned [start, end) token spans.

    roles: tokens of each role's texts; `template`: what stands around them.
    """

    place: str
    tokens: int
    answers: tuple[Span, ...]
    roles: Counter[str]

    @property
    def learned(self) -> int:
        """Learned tokens of the whole row."""
        return sum(end - start for start, end in self.answers)

    def lost(self, cutoff: int) -> int:
        """Learned tokens beyond position `cutoff`."""
        return sum(max(0, end - max(start, cutoff)) for start, end in self.answers)

    def hurt(self, cutoff: int) -> int:
        """Answers that do not end before position `cutoff`: they lose their end or everything."""
        return sum(end > cutoff for _, end in self.answers)


@dataclass(frozen=True)
class Model:
    """What turns a conversation into tokens, and how much of it is learned."""

    template: ChatTemplate
    tokenizer: Tokenizer
    cutoff_len: int
    train_on_prompt: bool = False
    mask_history: bool = False
    system: str = ""

    def sample(self, row: Conversation) -> Sample:
        """Token ids and labels of the whole row; raises BadRow."""
        messages = row.messages
        if self.system and messages[0]["role"] != "system":
            messages = ({"role": "system", "content": self.system}, *messages)
        return render(
            messages,
            self.template,
            self.tokenizer,
            cutoff_len=_ANY_LENGTH,
            train_on_prompt=self.train_on_prompt,
            mask_history=self.mask_history,
        )

    def measure(self, row: Conversation) -> tuple[Measured | None, list[Problem]]:
        """Counts, or None with the reason why the row cannot be rendered."""
        try:
            sample = self.sample(row)
        except BadRow as error:
            return None, [error.at(row.place)]
        roles: Counter[str] = Counter()
        for message in row.messages:
            text = message.get("reasoning_content", "") + (message["content"] or "")
            roles[message["role"]] += len(self.tokenizer.encode(text)[0])
        roles["template"] = max(0, len(sample.ids) - roles.total())
        measured = Measured(row.place, len(sample.ids), learned_spans(sample.labels), roles)
        return measured, self._problems(row, measured)

    def _problems(self, row: Conversation, measured: Measured) -> list[Problem]:
        if measured.tokens <= self.cutoff_len:
            return []
        values = {
            "tokens": measured.tokens,
            "cutoff": self.cutoff_len,
            "lost": measured.lost(self.cutoff_len),
            "turns": measured.hurt(self.cutoff_len),
        }
        return [Problem("too-long", row.place, "", values)]


def learned_spans(labels: Sequence[int]) -> tuple[Span, ...]:
    """[start, end) of the runs of tokens that are learned."""
    spans, start = [], -1
    for place, label in enumerate((*labels, IGNORED)):
        if label != IGNORED and start < 0:
            start = place
        elif label == IGNORED and start >= 0:
            spans.append((start, place))
            start = -1
    return tuple(spans)
