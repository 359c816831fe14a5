"""RAGAS: evaluation samples (EvaluationDataset.to_jsonl and to_csv, ragas 0.4).

In: user_input, retrieved_contexts, response, reference.  Out: the reference, an answer that people
stand for, else the response of a model. A list of turns as user_input keeps its conversation.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft2ollama.data.problems import BadRow
from ft2ollama.loop.importers.base import (
    Head,
    Importer,
    Item,
    Record,
    Sniff,
    contexts_of,
    decoded,
    each,
    exchange,
    first,
    raw_of,
    string,
    text_of,
)  # fmt: skip
from ft2ollama.loop.importers.rows import rows_of

_ROLES = {"human": "user", "user": "user", "ai": "assistant", "assistant": "assistant",
          "tool": "tool", "system": "system"}  # fmt: skip


def _sample(row: Any, place: str) -> Iterator[Item]:
    reference, response = string(row.get("reference")), string(row.get("response"))
    contexts = contexts_of(_list(first(row, "retrieved_contexts", "reference_contexts")))
    made = exchange(
        _asked(row.get("user_input")), reference or response,
        origin="human" if reference else "model", contexts=contexts,
        context_extractor="ragas" if contexts else "", raw=raw_of(row),
    )  # fmt: skip
    yield Record(place, made)


def _asked(given: Any) -> list[dict[str, Any]]:
    value = _list(given) if isinstance(given, str) and given.lstrip().startswith("[{") else given
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise BadRow("no-question")
    turns = [_turn(turn) for turn in value]
    while turns and turns[-1]["role"] != "user":
        turns.pop()  # the answer to the last question is `reference`
    return turns


def _turn(turn: Any) -> dict[str, Any]:
    role = _ROLES[string(first(turn, "type", "role"))]
    return {"role": role, "content": text_of(turn["content"])}


def _list(value: Any) -> Any:
    """A list; in a cell of a CSV it is JSON, or as Python prints it (pandas)."""
    value = decoded(value)
    if isinstance(value, str) and value.startswith("["):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return value


def read(path: Path) -> Iterator[Item]:
    """Samples."""
    return each(rows_of(path), _sample)


def _sniff(head: Head) -> Sniff:
    if "user_input" in head.fields and head.fields & {
        "response",
        "reference",
        "retrieved_contexts",
    }:
        return Sniff(95, "user_input, response, reference")
    return Sniff()


RAGAS = Importer("ragas", _sniff, read)
