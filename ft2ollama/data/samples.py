"""What rendering gives: samples of token ids and labels, and problems of rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ft2ollama.data.problems import Problem

IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True)
class Sample:
    """ids: tokens of a text; labels: the same, IGNORED where nothing is learned.

    Both are arrays of 32-bit integers: 8 bytes a token, a fifth of what tuples take;
    `numpy.frombuffer(sample.ids, numpy.int32)` shares them.
    """

    ids: array[int]
    labels: array[int]

    @property
    def learned(self) -> int:
        """How many tokens the loss sees."""
        return len(self.labels) - self.labels.count(IGNORED)


@dataclass(frozen=True)
class Rules:
    """How conversations become samples: the config's keys of the same names.

    thinking: `enable_thinking`.  system: `default_system`.  ollama_tools: tools and calls as Ollama
    hands them to a template, see tools.as_ollama_gives.
    """

    cutoff_len: int
    cutoff_policy: Literal["drop", "truncate", "error"] = "drop"
    train_on_prompt: bool = False
    mask_history: bool = False
    thinking: bool | None = None
    special_tokens_in_text: Literal["error", "text"] = "error"
    system: str = ""
    ollama_tools: bool = False


@dataclass
class Rendered:
    """samples; rows: for each the index of its conversation; problems, in the order of the rows.

    A conversation gives no sample (it has a problem), one, or more where its template rewrites
    earlier turns.
    """

    samples: list[Sample] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, row: int, samples: Iterable[Sample]) -> None:
        """The samples of one more conversation."""
        for sample in samples:
            self.samples.append(sample)
            self.rows.append(row)
