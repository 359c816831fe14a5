"""The tokens of conversations, counted with the model's own template and tokenizer.

In: conversations.  Out: a `Measured` each and the problems that only tokens show. Rows are rendered
whole, whatever cutoff_len says, so that it can be told what any cutoff_len would cost; what becomes
of a row that is too long is asked of the renderer itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.problems import Problem
from ft2ollama.data.render import IGNORED, Renderer, Rules, Sample
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.template import ChatTemplate

_ANY_LENGTH = 1 << 40
_BATCH = 256  # rows encoded at once

Span = tuple[int, int]


@dataclass(frozen=True)
class Measured:
    """tokens: of the longest sample of a row.  answers: learned [start, end) token spans.

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


@dataclass(frozen=True)
class Model:
    """What turns conversations into tokens. rules: as training has them."""

    template: ChatTemplate
    tokenizer: Tokenizer
    rules: Rules

    @cached_property
    def _whole(self) -> Renderer:
        return Renderer(self.template, self.tokenizer, replace(self.rules, cutoff_len=_ANY_LENGTH))

    @cached_property
    def _limited(self) -> Renderer:
        return Renderer(self.template, self.tokenizer, self.rules)

    @property
    def control(self) -> tuple[str, ...]:
        """Tokens that no text of the data may hold."""
        return self._whole.control

    def samples(self, row: Conversation) -> tuple[list[Sample], list[Problem]]:
        """Token ids and labels of a row, uncut; more than one where the template rewrites turns."""
        found = self._whole.render([row])
        return found.samples, found.problems

    def measure(
        self, rows: Iterable[Conversation]
    ) -> Iterator[tuple[Conversation, Measured | None, list[Problem]]]:
        """Each row with its counts, or None and the reason why it cannot be rendered."""
        left = iter(rows)
        while batch := list(islice(left, _BATCH)):
            yield from self._measure(batch)

    def _measure(
        self, rows: Sequence[Conversation]
    ) -> Iterator[tuple[Conversation, Measured | None, list[Problem]]]:
        found = self._whole.render(rows)
        samples: list[list[Sample]] = [[] for _ in rows]
        for number, sample in zip(found.rows, found.samples, strict=True):
            samples[number].append(sample)
        problems: dict[str, list[Problem]] = {}
        for problem in found.problems:
            problems.setdefault(problem.place, []).append(problem)
        for row, made, roles in zip(rows, samples, self._roles(rows), strict=True):
            if not made:
                yield row, None, problems.get(row.place, [])
                continue
            measured = _measured(row.place, made, roles)
            too_long = measured.tokens > self.rules.cutoff_len
            yield row, measured, self._limited.render([row]).problems if too_long else []

    def _roles(self, rows: Sequence[Conversation]) -> Iterator[Counter[str]]:
        """Tokens of what each role says, by itself."""
        texts = [
            message.get("reasoning_content", "") + (message["content"] or "")
            for row in rows
            for message in row.messages
        ]
        sizes = iter([len(encoded.ids) for encoded in self.tokenizer.encode_all(texts)])
        for row in rows:
            roles: Counter[str] = Counter()
            for message in row.messages:
                roles[message["role"]] += next(sizes)
            yield roles


def _measured(place: str, samples: Sequence[Sample], roles: Counter[str]) -> Measured:
    tokens = max(len(sample.ids) for sample in samples)
    roles["template"] = max(0, tokens - roles.total())
    answers = [span for sample in samples for span in learned_spans(sample.labels)]
    return Measured(place, tokens, tuple(answers), roles)


def learned_spans(labels: Sequence[int]) -> list[Span]:
    """[start, end) of the runs of tokens that are learned."""
    spans, start = [], -1
    for place, label in enumerate((*labels, IGNORED)):
        if label != IGNORED and start < 0:
            start = place
        elif label == IGNORED and start >= 0:
            spans.append((start, place))
            start = -1
    return spans
