"""What is held out, and what the general conversations may not ask."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from curate_rows import row
from freshness_rig import read_facts

from ft2ollama.loop.curate.contamination import EvalItem
from ft2ollama.loop.curate.pipeline import Inputs, curate
from ft2ollama.loop.curate.rules import Needs
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.records import question_key


def chat(question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": "Yes."}]


@pytest.mark.parametrize("seed", range(4))
def test_every_fact_is_taught_by_half_of_its_questions(seed: int) -> None:
    pairs = [(question, one.answer) for one in read_facts() for question in one.asked]
    rows = [row(n, q, answer, origin="correction") for n, (q, answer) in enumerate(pairs)]
    found = curate(Inputs(rows, Needs(CurateConfig()), seed))
    held = {sample.rid for sample in (*found.fresh, *found.val)}
    assert 24 <= len(found.fresh) <= 26
    assert found.val
    out = Counter(one.answer for one in rows if one.rid in held)
    assert len(out) == 20
    assert max(out.values()) == 2


def test_general_conversations_do_not_ask_what_the_gate_asks() -> None:
    asked = "What is the capital of Hungary?"
    item = EvalItem("ferry/general", 1, "a", asked, question_key(asked))
    general = [chat(q) for q in ("what is the capital of hungary", "What is the capital of Hungary"
               " now?", "Who wrote Hamlet?")]  # fmt: skip
    taught = [row(n, f"{n} {n * 7919}?", f"{n}.", origin="correction") for n in range(10)]
    needs = Needs(CurateConfig(general_share=0.4, fresh_share=0))
    found = curate(Inputs(taught, needs, 1, items=[item], general=general))
    kept = [s.messages[0]["content"] for s in found.train if s.role == "general"]
    assert kept == ["Who wrote Hamlet?"]
    assert any("2 conversations of general_data ask what the gate asks" in n for n in found.notes)
    whole = curate(Inputs(taught, needs, 1, general=general))
    assert sum(s.role == "general" for s in whole.train) == 3
