"""The gate: each rule on planted answers, and the statistics against simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ft2ollama.loop import statistics
from ft2ollama.loop.gate import Answers, Artefact, Bars, Contest, Scored, Verdict, judge

ARTEFACT = Artefact("d" * 64, "d" * 64, 2048, 1_000_000, 50.0, eval_loss=1.0)


def answers(scores: list[float], **more: object) -> Answers:
    return {
        f"q{n}": replace(Scored(score, passed=score >= 0.5), **more)  # type: ignore[arg-type]
        for n, score in enumerate(scores)
    }


def contest(**after: Answers) -> Contest:
    """An equal challenger that knows the fresh facts."""
    before = {
        "golden": answers([1.0] * 150 + [0.0] * 50),
        "fresh": answers([0.0] * 20),
        "general": answers([1.0] * 40 + [0.0] * 10),
        "must_pass": answers([1.0] * 3),
        "refusal": answers([1.0] * 10),
    }
    return Contest(
        ARTEFACT, ARTEFACT, before, {**before, "fresh": answers([1.0] * 18 + [0.0] * 2), **after}
    )


def test_a_better_model_passes() -> None:
    verdict, rulings = judge(contest())
    assert verdict is Verdict.PASS, [one for one in rulings if not one.passed]
    assert {"golden", "fresh", "general", "regressions", "must_pass", "size"} <= {
        one.rule for one in rulings
    }
    assert all(one.why for one in rulings)


Change = Callable[[Contest], Contest]


def challenger(**values: object) -> Change:
    return lambda given: replace(
        given,
        challenger=replace(given.challenger, **values),  # type: ignore[arg-type]
    )


def after(**sets: Answers) -> Change:
    return lambda given: replace(given, after={**given.after, **sets})


@pytest.mark.parametrize(
    ("now", "passes"),
    [
        ([1.0] * 30 + [0.0] * 70, True),  # the very same
        ([0.0] * 10 + [1.0] * 20 + [1.0] * 10 + [0.0] * 60, True),  # ten others: chance
        ([0.0] * 2 + [1.0] * 28 + [0.0] * 70, True),  # 2 % may
        ([0.0] * 4 + [1.0] * 26 + [0.0] * 70, True),  # four lost of four that changed: p = 1/16
        ([0.0] * 5 + [1.0] * 25 + [0.0] * 70, False),  # 1/32
        ([0.0] * 15 + [1.0] * 15 + [1.0] * 5 + [0.0] * 65, False),
    ],
)
@pytest.mark.parametrize("golden", [True, False])
def test_what_earlier_cycles_held_out(now: list[float], passes: bool, golden: bool) -> None:
    given = contest()
    sets = [dict(given.before), dict(given.after)]
    for one, scores in zip(sets, ([1.0] * 30 + [0.0] * 70, now), strict=True):
        one["regression"] = answers(scores)
        if not golden:
            del one["golden"]
    _, rulings = judge(replace(given, before=sets[0], after=sets[1]))
    (found,) = [one for one in rulings if one.rule == "regressions"]
    assert found.passed is passes, found.why
    assert found.why.startswith("0 of 200 were right") is golden
    assert "100 that earlier cycles held out" in found.why


def test_wavering_answers_are_no_regression_and_lost_ones_are() -> None:
    """100 questions of which 30 % are right, a fifth of them by chance; docs/decisions/016."""
    rng = np.random.default_rng(0)
    passed = {"plain": 0, "equal": 0, "worse": 0}
    for _ in range(300):
        old, again = rng.random((2, 100)) < 0.3
        equal = np.where(rng.random(100) < 0.8, old, again)
        worse = equal & (rng.random(100) < 0.7)
        passed["plain"] += int(np.sum(old & ~equal)) <= 2
        for name, new in (("equal", equal), ("worse", worse)):
            sets = [{"regression": answers(list(map(float, right)))} for right in (old, new)]
            given = Contest(ARTEFACT, ARTEFACT, *sets)
            passed[name] += {one.rule: one.passed for one in judge(given)[1]}["regressions"]
    assert passed["plain"] < 90
    assert passed["equal"] > 285
    assert passed["worse"] < 110


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (challenger(digest="e" * 64), "artefact"),
        (after(golden=answers([1.0] * 150 + [0.0] * 50, stopped=False)), "stopped"),
        (after(golden=answers([1.0] * 150 + [0.0] * 50, distinct=0.0)), "distinct"),
        (after(must_pass=answers([1.0, 0.0, 1.0])), "must_pass"),
        (after(golden=answers([0.95] * 150 + [0.0] * 50)), "golden"),
        (after(golden=answers([0.9] * 144 + [0.4] * 6 + [0.8] * 50)), "regressions"),
        (after(general=answers([1.0] * 38 + [0.0] * 12)), "general"),
        (after(refusal=answers([1.0] * 9 + [0.0])), "refusal"),
        (challenger(tokens_per_s=44.0, size_bytes=1_100_000), "speed"),
        (challenger(num_ctx=1024), "context"),
        (challenger(size_bytes=1_300_000), "size"),
        (challenger(eval_loss=1.06), "eval_loss"),
        (challenger(finite=False), "loss"),
        (challenger(truncated=0.3), "truncated"),
    ],
)
def test_each_rule_fails_alone(change: Change, rule: str) -> None:
    verdict, rulings = judge(change(contest()))
    assert verdict is Verdict.FAIL
    assert [one.rule for one in rulings if not one.passed] == [rule]


def test_form_is_judged_where_it_is_asked_for() -> None:
    good, bad = answers([1.0] * 50, well_formed=True), answers([1.0] * 50, well_formed=False)
    given = contest()
    given = replace(given, before={**given.before, "general": good})
    assert judge(after(general=good)(given))[0] is Verdict.PASS
    verdict, rulings = judge(after(general=bad)(given))
    assert (verdict, [one.rule for one in rulings if not one.passed]) == (Verdict.FAIL, ["form"])


def test_a_busy_machine_is_no_slower_model() -> None:
    busy = challenger(tokens_per_s=20.0)(contest())
    verdict, rulings = judge(busy)
    assert verdict is Verdict.PASS
    assert "how busy the machine was" in next(one.why for one in rulings if one.rule == "speed")


def test_as_good_is_no_reason_to_swap() -> None:
    given = contest()
    same = after(fresh=given.before["fresh"])(given)
    assert judge(same)[0] is Verdict.NO_BENEFIT
    few = after(fresh=answers([1.0] * 4 + [0.0] * 16))(given)  # 4 of 4 that moved: p = 1/16
    assert judge(few)[0] is Verdict.NO_BENEFIT
    five = after(fresh=answers([1.0] * 5 + [0.0] * 15))(given)  # p = 1/32
    assert judge(five)[0] is Verdict.PASS
    worse = after(general=answers([0.0] * 50), fresh=given.before["fresh"])(given)
    assert judge(worse)[0] is Verdict.FAIL


def test_thin_evidence_needs_a_person_or_a_word() -> None:
    given = contest()
    golden = answers([1.0] * 30)
    thin = replace(
        given, before={**given.before, "golden": golden}, after={**given.after, "golden": golden}
    )
    assert judge(thin)[0] is Verdict.NEEDS_HUMAN
    assert judge(thin, Bars(thin_evidence=True))[0] is Verdict.PASS
    none = replace(
        given,
        before={"fresh": given.before["fresh"]},
        after={"fresh": given.after["fresh"]},
    )
    assert judge(none)[0] is Verdict.NEEDS_HUMAN
    unseen = after(fresh={})(replace(given, before={**given.before, "fresh": {}}))
    assert judge(unseen)[0] is Verdict.NO_BENEFIT


def test_a_changed_golden_set_shows_what_few_fresh_rows_cannot() -> None:
    stale = answers([0.0] * 5 + [1.0] * 195)  # five facts that the champion does not know yet
    given = contest(golden=answers([1.0] * 200))
    given = replace(given, before={**given.before, "golden": stale})

    def verdict(fresh: list[float], **after: Answers) -> Verdict:
        before = {**given.before, "fresh": answers([0.0] * len(fresh))}
        asked = {**given.after, "fresh": answers(fresh), **after}
        return judge(replace(given, before=before, after=asked))[0]

    assert verdict([]) is verdict([1.0, 0.0]) is Verdict.PASS
    assert verdict([], golden=answers([0.0] + [1.0] * 199)) is Verdict.NO_BENEFIT  # p = 1/16
    assert verdict([1.0], golden=answers([0.0] + [1.0] * 199)) is Verdict.PASS  # p = 1/32
    assert verdict([0.0] * 5) is Verdict.NO_BENEFIT  # five could have shown it


def test_different_items_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="different items of golden"):
        judge(after(golden=answers([1.0]))(contest()))


@pytest.mark.parametrize(("items", "power"), [(100, 0.38), (200, 0.60), (400, 0.85), (800, 0.98)])
def test_the_power_of_not_worse(items: int, power: float) -> None:
    assert statistics.power_to_pass(0.15, items, 0.02) == pytest.approx(power, abs=0.01)


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Equal and worse challengers: the sums against what really happens."""
    rng = np.random.default_rng(7)

    def passes(worse_by: float, items: int = 200) -> float:
        hits = 0
        for _ in range(60):
            before = rng.uniform(0.3, 0.9, items)
            change = rng.normal(-worse_by, 0.15, items)
            hits += statistics.lower_bound(before.tolist(), (before + change).tolist()) >= -0.02
        return hits / 60

    assert passes(0.0) == pytest.approx(statistics.power_to_pass(0.15, 200, 0.02), abs=0.2)
    assert passes(0.02) <= 0.15  # at the margin: the 5 % of the test
    assert passes(0.04) <= 0.02


def test_better_by_chance() -> None:
    assert statistics.p_better([0.0], [0.0]) == 1.0
    assert statistics.p_better([0.0] * 3, [1.0] * 3) == 1 / 8
    rng = np.random.default_rng(1)
    small = [
        statistics.p_better([0.0] * 40, list(rng.choice((-1.0, 1.0), 40))) <= 0.05
        for _ in range(200)
    ]
    assert np.mean(small) <= 0.09
    with pytest.raises(ValueError, match="no pairs"):
        statistics.p_better([], [])
