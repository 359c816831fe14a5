"""How long the conversations are: measured where model and data are at hand, else assumed.

In: conversations, and a function that gives a conversation's tokens. Out: `Rows`. Large data sets
are measured on evenly spaced conversations, because an estimate must not take longer than a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

SAMPLE = 200  # conversations that are rendered and tokenized; a second of work at most
ASSUMED_LEARNED = 0.6  # share of learned tokens in instruction data (Alpaca has 0.6)


@dataclass(frozen=True)
class Rows:
    """count: conversations.  lengths: tokens of the measured ones, ascending.  learned: share of
    tokens with a label.  how: a sentence for people; known: False when there was no data."""

    count: int
    lengths: tuple[int, ...]
    learned: float
    how: str
    known: bool = True

    @property
    def mean(self) -> float:
        """Tokens of a conversation."""
        return sum(self.lengths) / len(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest one that was measured."""
        return self.lengths[-1]

    def longer_than(self, tokens: int) -> int:
        """How many conversations a cutoff_len of `tokens` would lose."""
        share = sum(length > tokens for length in self.lengths) / len(self.lengths)
        return round(share * self.count)

    def cut(self, tokens: int) -> Rows:
        """The conversations of at most `tokens`; at least one is left."""
        kept = tuple(length for length in self.lengths if length <= tokens) or (tokens,)
        return Rows(
            max(1, self.count - self.longer_than(tokens)), kept, self.learned, self.how, self.known
        )


def measure(
    conversations: Sequence[Any], tokens: Callable[[Any], tuple[int, int] | None], how: str
) -> Rows | None:
    """Rows of the conversations; `tokens` gives (all, learned) of one, or None if it is unusable.

    Returns None when none is usable.
    """
    step = max(1, -(-len(conversations) // SAMPLE))
    looked_at = conversations[::step]
    found = [pair for row in looked_at if (pair := tokens(row)) is not None]
    if not found:
        return None
    total = sum(pair[0] for pair in found)
    count = round(len(conversations) * len(found) / len(looked_at))
    if step > 1:
        how += f", measured on {len(looked_at)} of {len(conversations):,}"
    if len(found) < len(looked_at):
        how += f"; {1 - len(found) / len(looked_at):.0%} are too long or unusable: see data check"
    lengths = tuple(sorted(pair[0] for pair in found))
    return Rows(count, lengths, sum(pair[1] for pair in found) / total, how)


def by_characters(messages: Sequence[Any]) -> tuple[int, int]:
    """(tokens, learned tokens) guessed from the text: 4 letters a token, 1.5 Chinese characters.

    messages: mappings with role and content.
    """
    learned = total = 0
    for message in messages:
        text = str(message.get("content") or "")
        wide = sum(ord(letter) >= 0x2E80 for letter in text)
        tokens = round(wide / 1.5 + (len(text) - wide) / 4) + 4  # 4: the template's own
        total += tokens
        learned += tokens if message.get("role") == "assistant" else 0
    return max(1, total), learned


def assumed(cutoff_len: int) -> Rows:
    """Without data: full rows of cutoff_len."""
    how = f"no data: every conversation is taken as {cutoff_len:,} tokens (cutoff_len)"
    return Rows(0, (cutoff_len,), ASSUMED_LEARNED, how, known=False)
