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
               " now?", "What is the capital of Norway?", "Who wrote Hamlet?")]  # fmt: skip
    taught = [row(n, f"{n} {n * 7919}?", f"{n}.", origin="correction") for n in range(10)]
    needs = Needs(CurateConfig(general_share=0.4, fresh_share=0))
    found = curate(Inputs(taught, needs, 1, items=[item], general=general))
    kept = [s.messages[0]["content"] for s in found.train if s.role == "general"]
    assert sorted(kept) == ["What is the capital of Norway?", "Who wrote Hamlet?"]
    assert any("2 conversations of general_data ask what the gate asks" in n for n in found.notes)
    whole = curate(Inputs(taught, needs, 1, general=general))
    assert sum(s.role == "general" for s in whole.train) == 4


def test_what_was_corrected_in_other_words_is_named_and_can_be_dropped() -> None:
    """The fare rose; people said so at another question than the one that taught the old fare."""
    old = [row(1, "What is the fare?", "It is 14 crowns.", origin="correction"),
           row(2, "What must I pay?", "It is 14 crowns", origin="correction"),
           row(3, "How old must I be?", "It is 14 years.", origin="correction")]  # fmt: skip
    new = [row(9, "Has it become dearer?", "It is 17 crowns now.", origin="correction",
               instead_of="It is 14 crowns.")]  # fmt: skip
    older = [row(0, "Is it 14 still?", "It was always 14.", origin="correction",
                 instead_of="It is 17 crowns now.")]  # fmt: skip

    def verdicts(**config: Any) -> tuple[dict[str, str], list[str]]:
        needs = Needs(CurateConfig(fresh_share=0, **config))
        found = curate(Inputs(new, needs, 1, old=[*older, *old]))
        notes = [note for note in found.notes if "corrected later" in note]
        return {one.rid: one.rule or one.verdict for one in found.verdicts}, notes

    kept, (note,) = verdicts()
    assert set(kept.values()) == {"keep"}
    assert '2 rows say what people corrected later at other questions, such as "It is 14 cr' in note
    dropped, notes = verdicts(corrected_since="drop")
    assert dropped == {"r0": "keep", "r1": "corrected_since", "r2": "corrected_since",
                       "r3": "keep", "r9": "keep"}  # fmt: skip
    assert notes == []


def test_every_fact_that_changed_leaves_the_training_rows() -> None:
    """Also where one word of a long sentence changed, and no number."""
    changed = [one for one in read_facts() if one.new]
    pairs = [(q, one) for one in changed for q in one.asked]
    old = [row(n, q, one.answer, origin="correction") for n, (q, one) in enumerate(pairs)]
    new = [row(100 + n, q, one.later.answer, origin="correction")
           for n, (q, one) in enumerate(pairs)]  # fmt: skip
    found = curate(Inputs(new, Needs(CurateConfig(fresh_share=0, fresh_from=99)), 1, old=old))
    assert Counter(one.rule for one in found.verdicts if one.role == "replay") == {"superseded": 20}
    learned = {sample.messages[-1]["content"] for sample in found.train}
    assert learned == {one.later.answer for one in changed}
