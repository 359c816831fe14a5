"""In which files of a cycle does the text of a row stand?

In: files, and what is looked for: rids and texts.  Out: the files that hold some of it. A data set
names its rows by rid; a proof repeats prompts and answers, of which personal data may have been
replaced: so what is looked for there is also what the data set says under the rid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.rules import text_in
from ft2ollama.loop.curate.samples import rid_of

_KINDS = (".jsonl", ".json", ".md", ".txt", ".yaml", ".svg")
_CHUNK = 500


@dataclass(frozen=True)
class Wanted:
    """rids, and texts of more than one character: a `7` stands everywhere."""

    rids: frozenset[str]
    texts: frozenset[str]

    @classmethod
    def of(cls, connection: Connection, rids: Sequence[str]) -> Wanted:
        """What these rows say, and what people said of them."""
        one, said, texts = t.exchange, t.feedback, set[str]()
        for start in range(0, len(rids), _CHUNK):
            part = rids[start : start + _CHUNK]
            rows = select(one.c.question, one.c.answer).where(one.c.rid.in_(part))
            texts |= {text for row in connection.execute(rows) for text in row if text}
            words = select(said.c.text).where(said.c.rid.in_(part), said.c.text.is_not(None))
            texts |= set(connection.execute(words).scalars())
        return cls(frozenset(rids), _long(texts))


def text_files(folder: Path) -> list[Path]:
    """Every file below it that is read by people or holds data."""
    return sorted(path for path in folder.rglob("*") if path.suffix in _KINDS)


def holding(paths: Iterable[Path], wanted: Wanted) -> Iterator[Path]:
    """Of these files, those that hold it, in their order, each once."""
    contents = {
        path: path.read_text("utf-8", errors="replace")
        for path in dict.fromkeys(paths)
        if path.suffix in _KINDS and path.is_file()
    }
    learned = (text for content in contents.values() for text in _samples(content, wanted))
    needles = {form for text in wanted.texts | _long(learned) for form in _forms(text)}
    for path, content in contents.items():
        if any(needle in content for needle in needles):
            yield path


def _samples(content: str, wanted: Wanted) -> Iterator[str]:
    """What a data set's lines of these rows say."""
    for line in content.splitlines():
        if '"rid"' not in line:
            continue
        try:
            row: Any = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and rid_of(row) in wanted.rids:
            yield from (text_in(message) for message in row.get("messages", ())
                        if message.get("role") != "system")  # fmt: skip


def _forms(text: str) -> Iterator[str]:
    """A text as it stands in a file: as it is, or in JSON with or without escapes."""
    yield text
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(text)[1:-1]


def _long(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(text.strip() for text in texts if len(text.strip()) > 1)
