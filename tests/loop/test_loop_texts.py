"""What cycles say: both languages say the same things, and a reason survives the ledger."""

from __future__ import annotations

import copy
import json
import pickle
import string

import pytest

from ft2ollama.loop import gate, texts
from ft2ollama.loop.tables import CLOSED_STATES
from ft2ollama.loop.texts import Sentence, ended, from_kept, kept, told


def _values(text: str) -> list[str]:
    return sorted(f"{name}:{form}" for _, name, form, _ in string.Formatter().parse(text) if name)


@pytest.mark.parametrize("name", texts.SENTENCES)
def test_both_languages_say_the_same_values(name: str) -> None:
    both = texts.SENTENCES[name]
    assert _values(both["en"]) == _values(both["zh"])
    assert any("\u4e00" <= char <= "\u9fff" for char in both["zh"].format_map(_Any())) or (
        name == "context"
    )


class _Any(dict[str, float]):
    def __missing__(self, key: str) -> float:
        return 1.0


def test_every_state_and_rule_has_words() -> None:
    assert set(CLOSED_STATES) <= texts.STATES.keys()
    model = gate.Artefact("d", "d", 1, 1, 1.0, eval_loss=1.0)
    one = {"q": gate.Scored(1.0, passed=True, well_formed=True)}
    sets = dict.fromkeys(("must_pass", "golden", "fresh", "general", "refusal"), one)
    _, rulings = gate.judge(gate.Contest(model, model, sets, sets))
    assert {ruling.rule for ruling in rulings} == texts.RULES.keys()
    assert all(isinstance(ruling.why, Sentence) for ruling in rulings)
    assert {kind.value for kind in gate.Verdict} <= texts.SENTENCES.keys()


def test_a_reason_is_kept_in_english_and_shown_in_chinese() -> None:
    said = Sentence("wait-since", count=3, wanted=200, days=1.25)
    assert said == "3 new rows, 200 are wanted; last promoted 1.2 days ago"
    assert told(said, "zh") == "只有 3 行新数据，需要 200 行；上次上线在 1.2 天前"
    read = from_kept(json.loads(json.dumps(kept(said))))
    assert told(read, "zh") == told(said, "zh")
    for again in (copy.deepcopy(said), pickle.loads(pickle.dumps(said))):
        assert told(again, "zh") == told(said, "zh")


def test_what_is_no_sentence_stays_as_it_is() -> None:
    assert told("CUDA out of memory", "zh") == "CUDA out of memory"
    assert from_kept(kept("plain")) == "plain"
    assert from_kept({"why": "of a later version", "said": ["unheard-of", {}]}) == (
        "of a later version"
    )


def test_a_verdict_in_words() -> None:
    assert ended("NEEDS_HUMAN: evidence, fresh", "en") == (
        "too few questions to tell: evidence (enough questions to tell), "
        "fresh (better on held-out questions)"
    )
    assert ended("FAIL: speed", "zh") == "没有达到要求：speed (没有变慢)"
    assert ended("train ended with exit code 1", "zh") == "train ended with exit code 1"
    assert ended(None, "zh") == ""
