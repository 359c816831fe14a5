"""The rows of a plan as samples, and what the user should know of it before training.

In: config, rows, template, tokenizer.  Out: samples, the rows that gave them, the rows left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ft2ollama.config import Config
from ft2ollama.data.catalogue import data_error, note, tally
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.from_config import rules_of
from ft2ollama.data.problems import Dropped, Problem
from ft2ollama.data.render import render_all
from ft2ollama.data.samples import Rendered, Sample
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.families import families
from ft2ollama.template import ChatTemplate

_CUT = "cut-to-length"


@dataclass(frozen=True)
class Rows:
    """samples, the conversations they are of, those left out, and remarks for people."""

    samples: tuple[Sample, ...]
    conversations: tuple[Conversation, ...]
    dropped: tuple[Dropped, ...]
    remarks: tuple[str, ...]


def render_rows(
    config: Config, rows: Sequence[Conversation], template: ChatTemplate, tokenizer: Tokenizer
) -> Rows:
    """Render all rows; raises DataError that lists those that cannot be trained on.

    Under `bad_rows: drop` they are left out; when none is left, the error comes all the same.
    """
    workers = config.preprocessing_num_workers
    found = render_all(rows, template, tokenizer, rules_of(config), workers=workers)
    errors = [problem for problem in found.problems if problem.severity == "error"]
    if errors and config.bad_rows == "error":
        raise data_error(errors, droppable=True)
    if rows and not found.samples:
        raise data_error(found.problems)
    cut = [problem for problem in found.problems if problem.code == _CUT]
    out = [problem for problem in found.problems if problem.code != _CUT]
    told = [("rows-left-out", out), ("rows-cut", cut)]
    return Rows(
        tuple(found.samples),
        tuple(rows[row] for row in dict.fromkeys(found.rows)),
        _dropped(rows, found, out),
        tuple(note(code, count=len(some), kinds=tally(some)) for code, some in told if some),
    )


def _dropped(
    rows: Sequence[Conversation], found: Rendered, problems: Sequence[Problem]
) -> tuple[Dropped, ...]:
    used = set(found.rows)
    left = {row.place: row for number, row in enumerate(rows) if number not in used}
    return tuple(
        Dropped(problem, {"messages": row.messages, "tools": row.tools})
        for problem in problems
        if (row := left.get(problem.place)) is not None
    )


def publish_notes(
    template: ChatTemplate, config: Config, rows: Sequence[Conversation]
) -> tuple[str, ...]:
    """What of the training this version cannot publish: better said before than after."""
    if not template.gotmpl:
        return (
            "the model's own chat template: this version can train with it and export, but "
            f"publish only {', '.join(families())}",
        )
    question = [{"role": "user", "content": "x"}]
    prompts = {
        template.render(question, add_generation_prompt=True, thinking=thinking)
        for thinking in (None, config.enable_thinking)
    }
    notes = []
    if len(prompts) > 1:
        notes.append(
            f"enable_thinking: {str(config.enable_thinking).lower()} changes the prompt in a way "
            "that this version cannot publish"
        )
    if any(row.tools for row in rows):
        notes.append("tools are trained; this version publishes the model without them")
    return tuple(notes)
