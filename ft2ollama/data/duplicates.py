"""Rows that say the same thing: exactly, nearly, or the same question answered otherwise.

In: conversations.  Out: pairs of row numbers, earlier row first.

Nearly means: character 3-grams (words do not exist in Chinese before a segmenter guesses them) with
a Jaccard similarity of at least 0.7 on the question, on the answer, and on both together.
Paraphrases that share a long answer are no duplicates: that is how facts are taught. Rows whose
numbers, dates, ids or negations differ are none either: "7 days" is not "15 days".

MinHash with 64 permutations in 16 bands of 4 finds the candidates (A. Broder, "On the resemblance
and containment of documents", 1997); each is then verified exactly, so there is no false pair, and
few are missed. Work and memory grow linearly with the rows: in a crowded bucket each row is
compared with its neighbours in the order of a hash of the question, not with every other.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ft2ollama.data.conversation import Conversation, Message

Array = npt.NDArray[Any]
NEAR = 0.7  # smallest similarity of question, answer and both
_PERMUTATIONS, _BANDS = 64, 16
_NEIGHBOURS = 8  # rows of one bucket that each row is compared with
_CHUNK = 1 << 15  # characters hashed at once: the arrays stay in the processor's cache
_FACTS = re.compile(
    r"[a-z]*\d[\da-z]*(?:[.:/-]\d+)*|[零〇二三四五六七八九十百千万亿两]+"
    r"|\b(?:not|no|never|none|cannot|without)\b|n't\b|[不没無无未非勿]"
)
_NUMBER = re.compile(r"[\d零〇二三四五六七八九十百千万亿两]")
_ENDS = " .!?。…~"


@dataclass(frozen=True)
class Pair:
    """Row `second` repeats row `first`; similarity is 1.0 for an exact copy."""

    first: int
    second: int
    similarity: float

    @property
    def percent(self) -> int:
        """The similarity as people read it; only an exact copy has 100."""
        return min(99, round(100 * self.similarity)) if self.similarity < 1 else 100


@dataclass(frozen=True)
class Sides:
    """A conversation for comparison, normalised: what is asked, what is answered, what is said to
    the model besides (system prompt and tools).
    """

    question: str
    answer: str
    setting: str = ""

    @property
    def whole(self) -> str:
        """Question and answer in one text."""
        return f"{self.question}\n{self.answer}"

    @property
    def key(self) -> str:
        """All of it in one text: equal for copies alone."""
        return f"{self.setting}\0{self.question}\0{self.answer}"


def normal(text: str) -> str:
    """`text` without what a reader does not see: widths, case, spaces, the full stop at its end."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_ENDS)


def sides(conversation: Conversation) -> Sides:
    """What a conversation asks and answers, over all its turns."""
    asked: list[str] = []
    answered: list[str] = []
    setting: list[str] = []
    for message in conversation.messages:
        kind = {"assistant": answered, "system": setting}.get(message["role"], asked)
        kind.append(spoken(message))
    if conversation.tools:
        setting.append(json.dumps(conversation.tools, ensure_ascii=False, sort_keys=True))
    return Sides(normal("\n".join(asked)), normal("\n".join(answered)), normal("\n".join(setting)))


def spoken(message: Message) -> str:
    """All that a turn says: its thoughts, its text, its calls."""
    calls = [json.dumps(call["function"], ensure_ascii=False, sort_keys=True)
             for call in message.get("tool_calls", ())]  # fmt: skip
    return "\n".join([message.get("reasoning_content", ""), message["content"] or "", *calls])


def same_question(conversation: Conversation, both: Sides) -> tuple[str, str]:
    """(everything before the last answer, the last answer), both normalised.

    both: the sides of the conversation; of a single exchange they say it already.
    """
    *before, last = conversation.messages
    if sum(message["role"] == "assistant" for message in before) == 0:
        return f"{both.setting}\0{both.question}", both.answer
    head = "\n".join(f"{message['role']}: {normal(spoken(message))}" for message in before)
    return f"{both.setting}\0{head}", normal(spoken(last))


def facts(text: str) -> tuple[str, ...]:
    """Numbers, dates, ids and negations of a normalised text, sorted: where these differ, two
    texts say different things, however alike they look.
    """
    return tuple(sorted(_FACTS.findall(text)))


def numbers(text: str) -> set[str]:
    """The numbers, dates and ids among the facts of a normalised text."""
    return {word for word in facts(text) if _NUMBER.search(word)}


def exact_pairs(keys: Iterable[str]) -> list[Pair]:
    """Each key that was there before, with the first row that had it."""
    first: dict[bytes, int] = {}
    found = []
    for number, key in enumerate(keys):
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        before = first.setdefault(digest, number)
        if before != number:
            found.append(Pair(before, number, 1.0))
    return found


def near_pairs(
    count: int,
    sides_of: Callable[[int], Sides],
    *,
    left: int | None = None,
    smallest: float = NEAR,
) -> list[Pair]:
    """For each row that nearly repeats an earlier one, the first found of these.

    sides_of: the row of a number below `count`; it is asked for several times.
    left: compare only rows from `left` on with rows before it. Exact copies are pairs as well.
    """
    if count < 2:
        return []
    marks = _marks(map(sides_of, range(count)))
    look = lru_cache(maxsize=4096)(lambda row: _grams_of(sides_of(row)))
    found: list[Pair] = []
    done = -1
    for first, second in _candidates(marks, left):
        if second == done:
            continue
        similarity = _similar(look(first), look(second), smallest)
        if similarity:
            found.append(Pair(first, second, similarity))
            done = second
    return found


def jaccard(one: frozenset[str] | set[str], other: frozenset[str] | set[str]) -> float:
    """Size of the intersection over size of the union."""
    shared = len(one & other)
    return shared / ((len(one) + len(other) - shared) or 1)


def grams(text: str) -> frozenset[str]:
    """The character 3-grams of a text; a shorter text is its own only gram."""
    return frozenset(text[i : i + 3] for i in range(max(1, len(text) - 2)))


_Grams = tuple[frozenset[str], frozenset[str], frozenset[str]]


def _grams_of(row: Sides) -> _Grams:
    return grams(row.whole), grams(row.question), grams(row.answer)


def _similar(one: _Grams, other: _Grams, smallest: float) -> float:
    """Similarity of the whole, or 0 when that or one of the two sides is too small."""
    if min(jaccard(mine, theirs) for mine, theirs in zip(one, other, strict=True)) < smallest:
        return 0.0
    return jaccard(one[0], other[0])


class _Marks(NamedTuple):
    """whole: MinHash signatures, uint32 [rows, 64].  question: of the question, uint32 [rows, 16].

    guards: hashes of what must be equal, uint64 [rows].
    """

    whole: Array
    question: Array
    guards: Array


def _marks(rows: Iterable[Sides]) -> _Marks:
    """Fingerprints of all rows, computed for some thousand characters at once."""
    whole, question, guards = [], [], []
    for chunk in _chunks(rows):
        whole.append(_signatures([_padded(row.whole) for row in chunk], _PERMUTATIONS))
        question.append(_signatures([_padded(row.question) for row in chunk], _BANDS))
        guards += [
            hash((facts(row.question), facts(row.answer), row.setting)) & (2**64 - 1)
            for row in chunk
        ]
    return _Marks(np.concatenate(whole), np.concatenate(question), np.array(guards, np.uint64))


def _chunks(rows: Iterable[Sides]) -> Iterator[list[Sides]]:
    chunk: list[Sides] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row.question) + len(row.answer)
        if size > _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _padded(text: str) -> str:
    return text if len(text) > 2 else f"{text:3}"


def _signatures(texts: Sequence[str], permutations: int) -> Array:
    """MinHash signatures, uint32 [texts, permutations]; every text has at least 3 characters."""
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(data, np.uint32).astype(np.uint64)
    mixed = (points[:-2] * _MIX[0] + points[1:-1] * _MIX[1] + points[2:] * _MIX[2]) * _MIX[3]
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    ends = np.cumsum(sizes)[:-1]
    inside = np.ones(len(mixed), bool)
    inside[ends - 1] = inside[ends - 2] = False  # grams that reach into the next text
    hashes = (mixed >> np.uint64(32)).astype(np.uint32)[inside]
    starts = np.concatenate([[0], np.cumsum(sizes - 2)[:-1]])
    marks = np.empty((len(texts), permutations), np.uint32)
    for column, (flip, factor) in enumerate(_PERMUTE[:permutations]):
        marks[:, column] = np.minimum.reduceat((hashes ^ flip) * factor, starts)
    return marks


def _candidates(marks: _Marks, left: int | None) -> Iterator[tuple[int, int]]:
    """Pairs that share a band and the guard, by second row, the likeliest first row first."""
    count = len(marks.whole)
    found: list[Array] = []
    for band in range(_BANDS):
        keys = marks.guards.copy()
        for column in range(band * 4, band * 4 + 4):
            keys = (keys ^ marks.whole[:, column]) * _MIX[3]
            keys ^= keys >> np.uint64(29)
        found.append(_neighbours(keys, marks.question[:, band]))
    codes = np.unique(np.concatenate(found))
    first, second = codes // count, codes % count
    if left is not None:
        crossing = (first < left) & (second >= left)
        first, second = first[crossing], second[crossing]
    alike = _share_of_equal(marks.whole, first, second)
    asked = _share_of_equal(marks.question, first, second)
    # Both limits are 3 to 4 standard errors below what a similarity of 0.7 gives.
    likely = (alike > 0.45) & (asked > 0.3)
    order = np.lexsort((first[likely], -alike[likely], second[likely]))
    yield from zip(first[likely][order].tolist(), second[likely][order].tolist(), strict=True)


def _share_of_equal(marks: Array, first: Array, second: Array) -> npt.NDArray[np.float32]:
    """What MinHash says of the similarity of each pair, float32 [pairs]."""
    share = np.empty(len(first), np.float32)
    for start in range(0, len(first), 1 << 16):
        part = slice(start, start + (1 << 16))
        share[part] = (marks[first[part]] == marks[second[part]]).mean(axis=1)
    return share


def _neighbours(keys: Array, questions: Array) -> Array:
    """first * rows + second for rows of equal key; of a crowded bucket those that stand near each
    other when it is sorted by a hash of the question, and each with the bucket's first.
    """
    count = len(keys)
    order = np.lexsort((questions, keys))
    ranked = keys[order]
    new = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    begins = np.maximum.accumulate(np.where(new, np.arange(count), 0))
    pairs = [(order[begins], order)]
    for step in range(1, min(_NEIGHBOURS, count - 1) + 1):
        same = ranked[:-step] == ranked[step:]
        if not same.any():
            break
        pairs.append((order[:-step][same], order[step:][same]))
    one = np.concatenate([pair[0] for pair in pairs])
    other = np.concatenate([pair[1] for pair in pairs])
    differ = one != other
    one, other = one[differ], other[differ]
    codes: Array = np.minimum(one, other) * count + np.maximum(one, other)
    return codes


def _odd(bits: int, count: int) -> list[int]:
    rng = np.random.default_rng(1)
    return [int(number) | 1 for number in rng.integers(1 << (bits - 4), 1 << (bits - 1), count)]


_MIX = np.array(_odd(64, 4), np.uint64)
_PERMUTE = tuple(
    (np.uint32(flip), np.uint32(factor))
    for flip, factor in zip(_odd(32, 64), _odd(32, 128)[64:], strict=True)
)
