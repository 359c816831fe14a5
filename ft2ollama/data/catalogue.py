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
from ft2ollama.data.texts_rows import NOTES
from ft2ollama.data.texts_rows import TEXTS as _ROWS
from ft2ollama.errors import DataError
from ft2ollama.language import Language, choose_language

TEXTS: Texts = {**_ROWS, **_RENDER, **_CHECKS}

_SHOWN = 20  # problems printed; the count of all of them is in the message
_SHOWN_OF_A_KIND = 5  # of one code: a file of bad rows must not hide the other mistakes


def sentence(problem: Problem, language: Language) -> tuple[str, str]:
    """What is wrong, with the values, and the fix."""
    what, fix = TEXTS[problem.code][language]
    values = {"place": problem.place, "key": problem.key, **problem.values}
    return what.format_map(values), fix.format_map(values)


def line(problem: Problem, language: Language) -> str:
    """`place: key: what is wrong; what to do`."""
    what, fix = sentence(problem, language)
    between = "；" if language == "zh" else "; "
    where = ": ".join(part for part in (problem.place, problem.key) if part)
    told = f"{where}: {what}" + (f"{between}{fix}" if fix else "")
    return told.encode("utf-8", "backslashreplace").decode()  # a row may hold half a character


def note(code: str, **values: Any) -> str:
    """A sentence of `NOTES` in the user's language."""
    return NOTES[code][choose_language()].format_map(values)


def lines(problems: Sequence[Problem], language: Language) -> list[str]:
    """The first problems of each kind in their order, then how many more of each there are."""
    seen: Counter[str] = Counter()
    shown: list[Problem] = []
    for problem in problems:
        seen[problem.code] += 1
        if seen[problem.code] <= _SHOWN_OF_A_KIND and len(shown) < _SHOWN:
            shown.append(problem)
    left = seen - Counter(problem.code for problem in shown)
    return [line(problem, language) for problem in shown] + [
        _more(code, count, language) for code, count in left.items()
    ]


def _more(code: str, count: int, language: Language) -> str:
    return f"……还有 {count} 处 {code}" if language == "zh" else f"... and {count} more: {code}"


def data_error(problems: Iterable[Problem]) -> DataError:
    """One error that lists the problems in the user's language."""
    listed = list(problems)
    language = choose_language()
    count = len(listed)
    if language == "zh":
        what, fix = (
            f"训练数据有 {count} 个问题",
            "按上面每行的提示修改；或写 bad_rows: drop 去掉这些行",
        )
    else:
        what = f"{count} problem{'s' if count > 1 else ''} in the training data"
        fix = "mend the rows named above, or leave them out with bad_rows: drop"
    return DataError(what, "\n".join(lines(listed, language)), fix)
