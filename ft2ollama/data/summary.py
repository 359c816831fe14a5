"""The doctor's cheap findings in one line, for a command that does something else.

In: the rows that are about to be trained on.  Out: a line, or "" when there is nothing to say. No
near-duplicates and no tokens: 10,000 rows take about a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.duplicates import exact_pairs, sides
from ft2ollama.data.row_checks import check_row
from ft2ollama.language import Language

_MOST = 20_000  # rows looked at
_KINDS = 4  # kinds of findings named


def summary_line(rows: Sequence[Conversation], command: str, language: Language) -> str:
    """`data: 3 duplicate, 1 mojibake: ft2ollama data check faq.yaml`; command: what shows them."""
    looked_at = list(islice(rows, _MOST))
    found = Counter(problem.code for row in looked_at for problem in check_row(row))
    if copies := len(exact_pairs(sides(row).key for row in looked_at if not row.copy)):
        found["duplicate"] = copies
    if not found:
        return ""
    kinds = [f"{count} {code}" for code, count in found.most_common(_KINDS)]
    more = len(found) - len(kinds)
    if language == "zh":
        rest = f" 等 {len(found)} 类" if more else ""
        return f"数据里值得一看：{'、'.join(kinds)}{rest}；详情：{command}"
    rest = f" and {more} more kinds" if more else ""
    return f"worth a look in the data: {', '.join(kinds)}{rest}; see: {command}"
