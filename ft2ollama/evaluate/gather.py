"""Where the rows and questions of `eval` come from: a run's own config, or files.

In: a run's config, what the user named.  Out: `Material` and, in words, where it is from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.from_config import read_parts, reading_of
from ft2ollama.data.load import load_dataset
from ft2ollama.data.questions import Question, load_questions
from ft2ollama.data.render import Renderer
from ft2ollama.data.split import key_of
from ft2ollama.errors import UsageError, UserError
from ft2ollama.evaluate.material import Material, from_questions, from_rows
from ft2ollama.runs import Run

if TYPE_CHECKING:
    from ft2ollama.config import Config


@dataclass(frozen=True)
class Wanted:
    """What the user named; None takes the run's own.  rows: the most of rows and of questions."""

    data: str | None = None
    questions: Path | None = None
    rows: int = 8
    tokens: int = 64


@dataclass(frozen=True)
class Gathered:
    """rows_of, questions_of: where they come from, for people."""

    material: Material
    rows_of: str
    questions_of: str


def gather(run: Run, config: Config, renderer: Renderer | None, wanted: Wanted) -> Gathered:
    """Read and choose. Raises UserError when there is nothing to ask, or a named file is bad."""
    system = config.default_system or ""
    rows, rows_of, notes = _rows(run, config, wanted)
    questions, questions_of = _questions(config, wanted)
    asked = from_rows(rows, renderer, system, count=wanted.rows, tokens=wanted.tokens)
    asked += from_questions(questions, system, count=wanted.rows, tokens=wanted.tokens)
    if not asked.items and not asked.samples:
        raise UsageError(
            f"there is nothing to measure run {run.id} on",
            "; ".join([*notes, *asked.notes]) or "no row was held out, no question has facts",
            "ft2ollama eval --data rows.jsonl     # rows that were not trained on",
        )
    return Gathered(replace(asked, notes=(*notes, *asked.notes)), rows_of, questions_of)


def _rows(
    run: Run, config: Config, wanted: Wanted
) -> tuple[Sequence[Conversation], str, tuple[str, ...]]:
    """(the rows to choose from, where they come from, remarks)."""
    if wanted.data is not None:
        reading = replace(reading_of(config), max_samples=None)
        rows = load_dataset([wanted.data], config.dataset_dir, reading=reading).conversations
        return rows, wanted.data, _trained_on(config, rows)
    if not (config.val_size or config.eval_dataset):
        return (), "", ()
    try:
        loaded, parts = read_parts(config)
    except UserError as error:
        return (), "", (f"the held-out rows cannot be read: {error.what}",)
    held = [row for rows in parts.validation.values() for row in rows]
    known = run.stage_record("train").get("inputs", {}).get("data")
    changed = known is not None and known != loaded.sha256
    note = "the data has changed since the training: some of these rows may be trained on"
    name = ", ".join(config.eval_dataset or ()) or f"val_size {config.val_size:g}"
    return held, name, (note,) if changed else ()


def _trained_on(config: Config, rows: Sequence[Conversation]) -> tuple[str, ...]:
    """A remark when rows of a named file stand in the training data, word for word."""
    try:
        _, parts = read_parts(config)
    except UserError:
        return ()
    trained = {key_of(row) for row in parts.train}
    count = sum(key_of(row) in trained for row in rows)
    if not count:
        return ()
    return (f"{count} of {len(rows)} rows were trained on: they show memory, not learning",)


def _questions(config: Config, wanted: Wanted) -> tuple[list[Question], str]:
    if wanted.questions is not None:
        return load_questions(wanted.questions, facts=True), str(wanted.questions)
    path = config.proof_prompts
    if path is None or not path.is_file():
        return [], ""
    found = [question for question in load_questions(path) if question.expect]
    return found, str(path) if found else ""
