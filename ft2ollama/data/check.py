"""The data doctor: data sets in, a report on each and every problem out.

Nothing is changed and nothing is dropped here. A problem is an error when the row cannot be trained
on, else a warning. Without a model, characters, answers, tools, copies and leaks are checked; with
one also tokens. One pass over the rows and one over their fingerprints: 100,000 rows of 300
characters take about half a minute on one core.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from ft2ollama.data.answer_checks import script
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.leakage import held_out_leaks, proof_leaks
from ft2ollama.data.measure import Measured, Model
from ft2ollama.data.problems import Problem
from ft2ollama.data.questions import Question
from ft2ollama.data.repeats import repeats
from ft2ollama.data.row_checks import check_row

Progress = Callable[[int, int], None]
_LEFT_OUT = ("dropped-too-long",)  # warnings of rows that training leaves out
_FEW = 20  # rows below which no length is unusual
_LONG, _SHORT = 30, 2  # an unusual answer: so many medians, so many characters


@dataclass(frozen=True)
class DataSet:
    """One set as it was read. rows: of the file.  problems: of rows that gave no conversation, and
    warnings of the reader.
    """

    name: str
    rows: int
    conversations: tuple[Conversation, ...]
    problems: tuple[Problem, ...] = ()
    part: Literal["train", "validation"] = "train"


@dataclass(frozen=True)
class SetReport:
    """Counts of one set. roles: characters per role; tokens: per role, `template` what the chat
    template adds, empty without a model. longest: characters, or tokens with a model.
    """

    name: str
    part: str
    rows: int
    usable: int
    roles: Counter[str]
    tokens: Counter[str]
    learned: int
    longest: int
    scripts: Counter[str]

    @property
    def dropped(self) -> int:
        """Rows that cannot be trained on."""
        return self.rows - self.usable


@dataclass(frozen=True)
class Report:
    """What the doctor found. measured: a length for each usable row of each set, with a model."""

    sets: tuple[SetReport, ...]
    problems: tuple[Problem, ...]
    measured: tuple[tuple[Measured, ...], ...] = field(default=(), repr=False)

    @property
    def errors(self) -> int:
        """Problems that make a row useless."""
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def warnings(self) -> int:
        """Problems to look at."""
        return len(self.problems) - self.errors


def examine(
    sets: Sequence[DataSet],
    *,
    questions: Sequence[Question] = (),
    model: Model | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Check everything. questions: of proof_prompts.

    progress: called with rows done and rows in all.
    """
    total = sum(len(one.conversations) for one in sets)
    reports, problems, measured, done = [], [], [], 0
    for one in sets:
        checked = _Checked(one, model)
        for _ in checked.rows():
            done += 1
            if not done % 200:
                progress(done, total)
        reports.append(checked.report())
        problems += checked.problems
        measured.append(tuple(checked.measured))
    train = [row for one in sets if one.part == "train" for row in one.conversations]
    held_out = [row for one in sets if one.part == "validation" for row in one.conversations]
    problems += repeats(train)
    problems += held_out_leaks(train, held_out)
    problems += proof_leaks(train, questions)
    return Report(tuple(reports), tuple(problems), tuple(measured))


class _Checked:
    """The running counts of one set."""

    def __init__(self, one: DataSet, model: Model | None) -> None:
        self._set, self._model = one, model
        self._control = frozenset(model.control) if model else frozenset()
        self._roles: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._scripts: Counter[str] = Counter()
        self._useless = 0
        self._answers: list[tuple[int, int, Conversation]] = []
        self._longest = 0
        self.problems = list(one.problems)
        self.measured: list[Measured] = []

    def rows(self) -> Iterator[Conversation]:
        """Check and count every row; each is handed on when it is done."""
        if self._model is None:
            for row in self._set.conversations:
                self._longest = max(self._longest, self._add(row))
                yield row
            return
        for row, measured, found in self._model.measure(self._set.conversations):
            self._add(row)
            self._count(measured, found)
            yield row

    def _add(self, row: Conversation) -> int:
        """Check one row's texts; its characters."""
        self.problems += check_row(row, self._control)
        size = 0
        for number, message in enumerate(row.messages):
            length = len(message["content"] or "")
            self._roles[message["role"]] += length
            size += length
            if message["role"] == "assistant" and length:
                self._answers.append((length, number + 1, row))
        self._scripts[script(row.messages[-1]["content"] or "")] += 1
        return size

    def _count(self, measured: Measured | None, found: Sequence[Problem]) -> None:
        """Tokens of one row; a row that the renderer leaves out is not usable."""
        self.problems += found
        if measured is None:
            self._useless += 1
            return
        left_out = any(p.severity == "error" or p.code in _LEFT_OUT for p in found)
        self._useless += left_out
        self._tokens += measured.roles
        self._longest = max(self._longest, measured.tokens)
        self.measured.append(measured)

    def report(self) -> SetReport:
        """The counts; finds answers of unusual length on the way."""
        self.problems += _unusual(self._answers)
        return SetReport(
            self._set.name,
            self._set.part,
            self._set.rows,
            len(self._set.conversations) - self._useless,
            self._roles,
            self._tokens,
            sum(measured.learned for measured in self.measured),
            self._longest,
            self._scripts,
        )


def _unusual(answers: Sequence[tuple[int, int, Conversation]]) -> Iterable[Problem]:
    """Answers far longer or shorter than the others of their set."""
    if len(answers) < _FEW:
        return
    middle = int(median(length for length, _, _ in answers))
    for length, number, row in answers:
        values = {"size": f"{length:,}", "median": f"{middle:,}"}
        if length > max(_LONG * middle, 2000):
            yield Problem("answer-long", row.place, f"turns[{number}]", values, "warning")
        elif length <= _SHORT and middle > 40:
            text = row.messages[number - 1]["content"].strip()
            values["text"] = text
            yield Problem("answer-short", row.place, f"turns[{number}]", values, "warning")
