"""Rows as the ledger would give them, for tests of curation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ft2ollama.loop.curate.contamination import EvalItem
from ft2ollama.loop.curate.pipeline import Curation, Inputs, curate
from ft2ollama.loop.curate.rows import Row, Said
from ft2ollama.loop.curate.rules import Needs
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.records import question_key

PROMPT = (
    "### Task:\nRespond to the user query using the provided context.\n<context>\n{}\n</context>"
)


def row(seq: int, question: str, answer: str, contexts: Sequence[str] = (), **more: Any) -> Row:
    """A row as the proxy captures it from Open WebUI, with its contexts in the system prompt."""
    said = "\n".join(f'<source id="{n}">{text}</source>' for n, text in enumerate(contexts, 1))
    system = [{"role": "system", "content": PROMPT.format(said)}] if contexts else []
    values: dict[str, Any] = {
        "rid": f"r{seq}", "ts_ms": seq, "said_ms": seq, "question": question, "answer": answer,
        "question_sha256": question_key(question), "contexts": tuple(contexts),
        "messages": (*system, {"role": "user", "content": question}),
    }  # fmt: skip
    return Row(seq, **{**values, **more})


def thumb(value: int) -> dict[str, Any]:
    """Fields of a row that somebody liked or did not."""
    return {"said": Said(thumb=value), "origin": "thumbs_up" if value > 0 else "model"}


def run(
    new: Sequence[Row],
    *,
    old: Sequence[Row] = (),
    items: Sequence[EvalItem] = (),
    seed: int = 1,
    **config: Any,
) -> Curation:
    """Curate rows."""
    needs = Needs(CurateConfig(**config), now_ms=1000)
    return curate(Inputs(new=new, needs=needs, seed=seed, old=old, items=items))


def rules(curation: Curation) -> dict[str, str]:
    """rid -> rule, or the verdict of a row that stays."""
    return {one.rid: one.rule or one.verdict for one in curation.verdicts}


def trained(curation: Curation) -> str:
    """Everything that is trained on, in one text."""
    return "\n".join(str(sample.record) for sample in (*curation.train, *curation.val))
