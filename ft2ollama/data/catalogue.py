"""Problems in words: what is wrong with the values, and what to do, in English and Chinese.

In: a `Problem`.  Out: two sentences, a line, or one error for many rows. The texts stand beside
the code that finds the problems: reading (`texts_rows`), rendering (`texts_render`), checking
(`texts_checks`). Both languages name the same values; a test walks them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ft2ollama.data.problems import Problem, Texts
from ft2ollama.data.texts_checks import TEXTS as _CHECKS
from ft2ollama.data.texts_render import TEXTS as _RENDER
from ft2ollama.data.texts_rows import NOTES, REASONS
from ft2ollama.data.texts_rows import TEXTS as _ROWS
from ft2ollama.errors import DataError
from ft2ollama.language import Language, choose_language

TEXTS: Texts = {**_ROWS, **_RENDER, **_CHECKS}

_BETWEEN: dict[Language, str] = {"en": "; ", "zh": "；"}
_MORE: dict[Language, str] = {
    "en": "... and {count} more like the one at {place}",
    "zh": "……与 {place} 相同的还有 {count} 处",
}
_SHOWN = 20  # problems printed; the count of all of them is in the message
_SHOWN_OF_A_KIND = 5  # of one code: a file of bad rows must not hide the other mistakes


def sentence(problem: Problem, language: Language) -> tuple[str, str]:
    """What is wrong, with the values, and the fix."""
    what, fix = TEXTS[problem.code][language]
    values = {"place": problem.place, "key": problem.key, **problem.values}
    if language == "zh" and "reason" in values:
        values["reason"] = REASONS.get(str(values["reason"]), values["reason"])
    return what.format_map(values), fix.format_map(values)


def line(problem: Problem, language: Language, *, with_fix: bool = True) -> str:
    """`place: key: what is wrong; what to do`."""
    what, fix = sentence(problem, language)
    between = "" if what.endswith("？") else " " if what.endswith("?") else _BETWEEN[language]
    where = ": ".join(part for part in (problem.place, problem.key) if part)
    told = f"{where}: {what}" + (f"{between}{fix}" if fix and with_fix else "")
    return told.encode("utf-8", "backslashreplace").decode()  # a row may hold half a character


def lines(problems: Sequence[Problem], language: Language) -> list[str]:
    """The first problems of each kind in their order, then how many more of each there are.

    The first of a kind says what to do; the others would only repeat it.
    """
    seen: Counter[str] = Counter()
    shown: dict[str, Problem] = {}
    told: list[str] = []
    for problem in problems:
        seen[problem.code] += 1
        if seen[problem.code] <= _SHOWN_OF_A_KIND and len(told) < _SHOWN:
            told.append(line(problem, language, with_fix=seen[problem.code] == 1))
            shown.setdefault(problem.code, problem)
    more = {code: count - _SHOWN_OF_A_KIND for code, count in seen.items()}
    return told + [
        _MORE[language].format(count=more[code], place=first.place)
        for code, first in shown.items()
        if more[code] > 0
    ]


def tally(problems: Iterable[Problem]) -> str:
    """How many there are of each kind, and where the first is: `8 text-wanted (a.jsonl:4)`."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for problem in problems:
        counts[problem.code] += 1
        first.setdefault(problem.code, problem.place)
    return ", ".join(f"{count} {code} ({first[code]})" for code, count in counts.items())


def note(code: str, **values: Any) -> str:
    """A sentence of `NOTES` in the user's language."""
    return NOTES[code][choose_language()].format_map(values)


def data_error(problems: Iterable[Problem], *, droppable: bool = False) -> DataError:
    """One error that lists the problems in the user's language.

    droppable: whether `bad_rows: drop` would help.
    """
    listed = list(problems)
    language = choose_language()
    count = len(listed)
    if language == "zh":
        what, fix, drop = (
            f"训练数据有 {count} 个问题",
            "按上面的提示修改",
            "；或写 bad_rows: drop 去掉这些行",
        )
    else:
        what = f"{count} problem{'s' if count > 1 else ''} in the training data"
        fix, drop = "mend what is named above", ", or leave the rows out with bad_rows: drop"
    told = lines(listed, language)
    if count == 1:
        told = [line(listed[0], language, with_fix=False)]
        fix = sentence(listed[0], language)[1]
    return DataError(what, "\n".join(told), fix + (drop if droppable else ""))
