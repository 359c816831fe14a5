"""Does an answer say only what it was given? The hard rule: its numbers, dates and addresses.

In: an answer and its sources.  Out: what stands in none of them, and the share of its 3-grams that
do. The share alone cannot tell a right paraphrase (measured: 0.17) from an invention ("30 days,
free of charge": 0.20); numbers can, and they are what a business gets wrong most dearly.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from ft2ollama.data.duplicates import grams, normal

_URL = re.compile(
    r"(?:https?://|www\.)[^\s，。；、）)】」》<>\"'|]+|[\w.+-]+@[\w-]+\.[\w.-]+", re.I
)
_MARKS = re.compile(
    r"\[(?:\d+(?:\s*[,，-]\s*\d+)*|(?:citation|source|来源|资料)\s*:?\s*\d+)\]|【\d+】"
)
_LIST = re.compile(
    r"(?:^|(?<=[。；;：:]))[ \t]*(?:[-*•]\s*)?(?:第?\d{1,2}[.)、．)](?!\d)|[(（]\d{1,2}[)）])", re.M
)
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?")
_DIGITS = "零一二三四五六七八九"
# A single Chinese digit is a number only before a unit: 一般, 一些 and 万一 are words.
_UNITS = "天日月年周号个件次元块折倍人名位小时分钟秒岁楼层公斤克米吨%％度级期步条项章页"
_CHINESE = re.compile(
    f"(?<![万千百])[零〇一二两三四五六七八九十百千万亿]{{2,}}|[一二两三四五六七八九十](?=[{_UNITS}])"
)
_WEIGHTS = {"十": 10, "百": 100, "千": 1000}


def ungrounded(answer: str, sources: Iterable[str]) -> list[str]:
    """Numbers, dates and addresses of `answer` that stand in no source, as they are written."""
    given = [unicodedata.normalize("NFKC", source) for source in sources]
    text = without_citations(unicodedata.normalize("NFKC", answer))
    low = "\n".join(given).casefold()
    missing = [
        url for url in (found.rstrip(".,;:!?") for found in _URL.findall(text))
        if url.casefold() not in low
    ]  # fmt: skip
    known = {value for source in given for _, value in numbers_in(source)}
    plain = _LIST.sub(" ", _URL.sub(" ", text))
    missing += [written for written, value in numbers_in(plain) if value not in known]
    return list(dict.fromkeys(missing))


def numbers_in(text: str) -> list[tuple[str, Decimal]]:
    """(as written, value) of each number: 1,200 is 1200, 三十 is 30, a date is three numbers."""
    found = [(written, Decimal(written.replace(",", ""))) for written in _NUMBER.findall(text)]
    for written in _CHINESE.findall(text):
        value = chinese_number(written)
        if value is not None:
            found.append((written, value))
    return found


def chinese_number(text: str) -> Decimal | None:
    """三十五 is 35, 二〇二六 is 2026, 一万二 is 12000; None for a word like 千万."""
    text = text.replace("两", "二").replace("〇", "零")
    if all(char in _DIGITS for char in text):
        try:
            return Decimal("".join(str(_DIGITS.index(char)) for char in text))
        except InvalidOperation:
            return None
    if not any(char in _DIGITS for char in text) and text[0] != "十":
        return None
    total = section = digit = 0
    last = 1
    for char in text:
        if char in _DIGITS:
            digit = _DIGITS.index(char)
            last = 1 if char == "零" else last
        elif char in _WEIGHTS:
            last = _WEIGHTS[char]
            section, digit = section + (digit or 1) * last, 0
        else:
            last = 10_000 if char == "万" else 100_000_000
            total, section, digit = (total + section + digit) * last, 0, 0
    return Decimal(total + section + (digit * last // 10 if last > 10 else digit))


def coverage(answer: str, source: str) -> float:
    """Share of the answer's character 3-grams that stand in a source, 0 to 1."""
    wanted, given = grams(normal(without_citations(answer))), _normal(source)
    return sum(gram in given for gram in wanted) / len(wanted)


_normal = lru_cache(maxsize=4096)(normal)  # the same context is given to many rows


def without_citations(text: str) -> str:
    """The text without [1], 【2】 and the like."""
    return _MARKS.sub("", text)


def has_citations(text: str) -> bool:
    """Does the text cite its contexts by number?"""
    return bool(_MARKS.search(text))
