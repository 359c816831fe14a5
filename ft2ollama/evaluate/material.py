"""What `eval` asks: held-out rows of a run or of a file, and questions with expected facts.

In: rows or questions, the run's template and tokenizer.  Out: `Item`s, the same for every model,
and the rendered samples whose loss is measured.

Which rows are taken does not depend on their order: those with the smallest hash. A bigger choice
holds a smaller one, and the same rows are asked again after the data has grown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ft2ollama.data.catalogue import tally
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.questions import Question
from ft2ollama.data.render import Renderer
from ft2ollama.data.samples import Sample
from ft2ollama.data.split import key_of
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.files import sha256_text


@dataclass(frozen=True)
class Item:
    """One reply to ask for.

    messages: the prompt, as a chat request holds it.  limit: tokens of the reply.
    reference: the answer of the data, for rows.  facts: what a right reply holds, for questions.
    """

    place: str
    messages: tuple[Mapping[str, Any], ...]
    limit: int
    reference: str | None = None
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """items: rows, then questions.  samples: of the rows, for the loss.  held: rows there are.

    notes: what was left out, and why.
    """

    items: tuple[Item, ...] = ()
    samples: tuple[Sample, ...] = ()
    held: int = 0
    notes: tuple[str, ...] = field(default=())

    def __add__(self, other: Material) -> Material:
        return Material(
            (*self.items, *other.items),
            (*self.samples, *other.samples),
            self.held + other.held,
            (*self.notes, *other.notes),
        )


def choose_rows(rows: Sequence[Conversation], count: int) -> list[Conversation]:
    """`count` conversations (each once) by the hash of what is said, or all when there are less."""
    by_key = {key_of(row): row for row in rows}
    return [by_key[key] for key in sorted(by_key)[:count]]


def from_rows(
    rows: Sequence[Conversation],
    renderer: Renderer | None,
    system: str,
    *,
    count: int,
    tokens: int,
) -> Material:
    """The chosen rows, rendered for the loss, and their last answers to be asked for.

    renderer: of the training; without it (no base, no tokenizer) there is nothing for a loss.
    system: `default_system`, or "".  tokens: the most a reply may have; it also ends at twice the
    length of the reference and 16 tokens more, so that a model that does not stop costs little.
    """
    chosen, notes = choose_rows(rows, count), []
    samples: list[Sample] = []
    if renderer is not None:
        rendered = renderer.render(chosen)
        samples, used = rendered.samples, set(rendered.rows)
        if left := len(chosen) - len(used):
            notes.append(f"{left} rows left out: {tally(rendered.problems)}")
        chosen = [row for number, row in enumerate(chosen) if number in used]
    tokenizer = renderer.tokenizer if renderer is not None else None
    found = (_item(row, tokenizer, system, tokens) for row in chosen)
    items = [item for item in found if item is not None]
    if loss_only := len(chosen) - len(items):
        notes.append(f"{loss_only} rows not asked for: with tools, or with no answer in words")
    return Material(tuple(items), tuple(samples), len(rows), tuple(notes))


def from_questions(
    questions: Sequence[Question], system: str, *, count: int, tokens: int
) -> Material:
    """`count` of the questions, each in a conversation of its own, chosen as rows are."""
    chosen = sorted(questions, key=lambda question: sha256_text(question.text))[:count]
    items = [
        Item(
            question.place,
            (*_system(system), {"role": "user", "content": question.text}),
            tokens,
            facts=question.expect,
        )
        for question in chosen
    ]
    return Material(tuple(items))


def _item(row: Conversation, tokenizer: Tokenizer | None, system: str, tokens: int) -> Item | None:
    """The prompt before the last answer that is learned; None where that is no plain text."""
    if row.tools or any("tool_calls" in message for message in row.messages):
        return None
    answers = [
        index
        for index, message in enumerate(row.messages)
        if message["role"] == "assistant" and index not in row.unlearned
    ]
    if not answers or not row.messages[answers[-1]]["content"].strip():
        return None
    given = row.messages[: answers[-1]]
    reference = row.messages[answers[-1]]["content"]
    messages = [{"role": one["role"], "content": one["content"]} for one in given]
    if not messages or messages[0]["role"] != "system":
        messages = [*_system(system), *messages]
    if tokenizer is not None:
        tokens = min(tokens, 2 * len(tokenizer.encode(reference)[0]) + 16)
    return Item(row.place, tuple(messages), tokens, reference)


def _system(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": text}] if text else []
