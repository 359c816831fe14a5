"""May the new model take the old one's place?

In: what both models answered on the same items through Ollama, scored, and facts of both artefacts.
Out: a row per rule with value, threshold and verdict, and one verdict over all. Nothing in here
asks a model or reads a clock: the same answers give the same verdict, and `why` can be shown.

The thresholds and what they can see are in docs/loop.md; statistics.py has the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ft2ollama.loop import statistics
from ft2ollama.loop.texts import Sentence

_ALIKE = 0.01  # difference in size of two files of one base and quantization
FEWEST = 5  # items that can show a gain: 4 that all do have p = 1/16


class Verdict(str, Enum):
    """PASS: swap. NO_BENEFIT: as good, so nothing to gain. FAIL: worse. NEEDS_HUMAN: unsure."""

    PASS = "PASS"
    NO_BENEFIT = "NO_BENEFIT"
    FAIL = "FAIL"
    NEEDS_HUMAN = "NEEDS_HUMAN"


@dataclass(frozen=True)
class Scored:
    """One answer to one item.

    score: 0 to 1.  passed: right or wrong.  stopped: the model ended by itself.  distinct: distinct
    4-grams among all of them, 1 where there are fewer.  well_formed: None where no form was asked.
    """

    score: float
    passed: bool
    stopped: bool = True
    distinct: float = 1.0
    well_formed: bool | None = None


Answers = Mapping[str, Scored]  # by item id


@dataclass(frozen=True)
class Artefact:
    """What is known of a served model without asking it anything.

    tokens_per_s: median over the answers.  eval_loss, finite, truncated (share of the training
    rows): of its training; None where that is unknown, as for the untuned base.
    """

    digest: str
    expected_digest: str
    num_ctx: int
    size_bytes: int
    tokens_per_s: float
    eval_loss: float | None = None
    finite: bool = True
    truncated: float = 0.0


@dataclass(frozen=True)
class Contest:
    """Champion and challenger on the same sets. sets: must_pass, golden, fresh, general, refusal,
    and regression, which earlier cycles held out.

    A set that is not there is a set that nobody made; its rule says so and does not fail.
    """

    champion: Artefact
    challenger: Artefact
    before: Mapping[str, Answers]
    after: Mapping[str, Answers]


@dataclass(frozen=True)
class Bars:
    """The thresholds; the defaults are those of docs/loop.md."""

    stopped: float = 0.98
    distinct: float = 0.3
    golden_margin: float = 0.02
    regressions: float = 0.02
    general_margin: float = 0.03
    refusal_margin: float = 0.02
    form_margin: float = 0.01
    speed: float = 0.9
    size: float = 1.2
    loss_growth: float = 0.05
    truncated: float = 0.2
    min_items: int = 200
    thin_evidence: bool = False


@dataclass(frozen=True)
class Ruling:
    """One rule's finding. hard: failing it means FAIL. value, threshold: None where nothing was
    measured; why: a `Sentence`, which texts.told says in words."""

    rule: str
    passed: bool
    why: str
    value: float | None = None
    threshold: float | None = None
    hard: bool = True
    detail: Mapping[str, Any] = field(default_factory=dict)


def judge(contest: Contest, bars: Bars = Bars()) -> tuple[Verdict, list[Ruling]]:
    """Every rule's finding, and the verdict."""
    rulings = [ruling for rule in _RULES for ruling in rule(contest, bars)]
    failed = {ruling.rule for ruling in rulings if not ruling.passed}
    if any(ruling.hard and not ruling.passed for ruling in rulings):
        return Verdict.FAIL, rulings
    if "evidence" in failed:
        return Verdict.NEEDS_HUMAN, rulings
    return (Verdict.NO_BENEFIT if "fresh" in failed else Verdict.PASS), rulings


def _artefact(contest: Contest, bars: Bars) -> Iterator[Ruling]:
    model = contest.challenger
    same = model.digest == model.expected_digest
    yield Ruling(
        "artefact",
        same,
        Sentence("served")
        if same
        else Sentence(
            "served-other", found=model.digest[:12], published=model.expected_digest[:12]
        ),
    )
    answers = [one for each in contest.after.values() for one in each.values()]
    if not answers:
        yield Ruling("stopped", False, Sentence("nothing-asked"))
        return
    stopped = sum(one.stopped for one in answers) / len(answers)
    yield _at_least("stopped", stopped, bars.stopped)
    distinct = sum(one.distinct for one in answers) / len(answers)
    yield _at_least("distinct", distinct, bars.distinct)


def _must_pass(contest: Contest, bars: Bars) -> Iterator[Ruling]:
    answers = contest.after.get("must_pass")
    if not answers:
        yield _absent("must_pass")
        return
    wrong = sorted(item for item, one in answers.items() if not one.passed)
    right = 1 - len(wrong) / len(answers)
    why = (
        Sentence("wrong", items=", ".join(wrong[:5]))
        if wrong
        else Sentence("all-right", count=len(answers))
    )
    yield Ruling("must_pass", not wrong, why, right, 1.0, detail={"wrong": wrong})


def _golden(contest: Contest, bars: Bars) -> Iterator[Ruling]:
    pairs = _pairs(contest, "golden")
    if not pairs:
        yield _absent("golden")
        yield Ruling("evidence", bars.thin_evidence, Sentence("no-set", name="golden"), 0,
                     bars.min_items, hard=False)  # fmt: skip
        return
    before, after = _scores(pairs)
    bound = statistics.lower_bound(before, after)
    spread = statistics.spread(before, after)
    power = statistics.power_to_pass(spread, len(pairs), bars.golden_margin)
    yield Ruling(
        "golden",
        bound >= -bars.golden_margin,
        Sentence("golden", old=_mean(before), new=_mean(after), bound=bound),
        bound,
        -bars.golden_margin,
        detail={"items": len(pairs), "power": round(power, 3)},
    )
    enough = len(pairs) >= bars.min_items
    yield Ruling(
        "evidence",
        enough or bars.thin_evidence,
        Sentence(
            "evidence" if enough else "evidence-thin",
            count=len(pairs),
            power=power,
            wanted=bars.min_items,
        ),
        len(pairs),
        bars.min_items,
        hard=False,
    )


def _regressions(contest: Contest, bars: Bars) -> Iterator[Ruling]:
    """What was right and is wrong now: of the golden set, and of what earlier cycles held out.

    Those nobody taught, so both models get some right by chance: there more than the share fails
    only where the losses outnumber the gains beyond chance (sign test, p < 0.05).
    """
    golden, held = _pairs(contest, "golden"), _pairs(contest, "regression")
    lost, gone = _flips(golden), _flips(held)
    shares = [len(wrong) / len(pairs) if pairs else 0.0
              for wrong, pairs in ((lost, golden), (gone, held))]  # fmt: skip
    values: dict[str, Any] = {"lost": len(lost), "count": len(golden)}
    chance = 1.0
    if held:
        before, after = ([float(pair[n].passed) for pair in held.values()] for n in (0, 1))
        chance = statistics.p_better(after, before)
        won = len(_flips({item: (new, old) for item, (old, new) in held.items()}))
        values |= {"held": len(held), "gone": len(gone), "won": won, "chance": chance}
    if golden or held:
        names = {(True, False): "regressions", (False, True): "regressions-held"}
        yield Ruling(
            "regressions",
            shares[0] <= bars.regressions and (shares[1] <= bars.regressions or chance >= 0.05),
            Sentence(names.get((bool(golden), bool(held)), "regressions-both"), **values),
            max(shares),
            bars.regressions,
            detail={"items": lost, "held_out": gone},
        )


def _flips(pairs: Mapping[str, tuple[Scored, Scored]]) -> list[str]:
    return sorted(item for item, (old, new) in pairs.items() if old.passed and not new.passed)


def _fresh(contest: Contest, bars: Bars) -> Iterator[Ruling]:
    """Does it know more? Fewer than five items cannot show it however they are answered, so then
    the golden set counts with them: whoever changes a fact changes its golden question.
    """
    fresh, golden = _pairs(contest, "fresh"), _pairs(contest, "golden")
    pooled = bool(golden) and len(fresh) < FEWEST
    pairs = [*fresh.values(), *(golden.values() if pooled else ())]
    if not pairs:
        yield Ruling("fresh", False, Sentence("no-fresh"), hard=False)
        return
    before, after = [old.score for old, _ in pairs], [new.score for _, new in pairs]
    gain, chance = _mean(after) - _mean(before), statistics.p_better(before, after)
    values = {"old": _mean(before), "new": _mean(after), "count": len(pairs), "chance": chance}
    yield Ruling(
        "fresh",
        gain > 0 and chance < 0.05,
        Sentence("fresh-pooled", fresh=len(fresh), **values)
        if pooled
        else Sentence("fresh", **values),
        chance,
        0.05,
        hard=False,
        detail={"gain": round(gain, 4), "items": len(pairs), "fresh": len(fresh)},
    )


def _kept(
    name: str, margin: Callable[[Bars], float]
) -> Callable[[Contest, Bars], Iterator[Ruling]]:
    """The rule that the mean of a set falls by no more than a margin."""

    def rule(contest: Contest, bars: Bars) -> Iterator[Ruling]:
        pairs = _pairs(contest, name)
        if not pairs:
            yield _absent(name)
            return
        before, after = _scores(pairs)
        change = _mean(after) - _mean(before)
        yield Ruling(
            name,
            change >= -margin(bars) - 1e-9,
            Sentence("mean", old=_mean(before), new=_mean(after), count=len(pairs)),
            change,
            -margin(bars),
        )

    return rule


def _form(contest: Contest, bars: Bars) -> Iterator[Ruling]:
    def share(sets: Mapping[str, Answers]) -> tuple[float, int]:
        asked = [one.well_formed for each in sets.values() for one in each.values()
                 if one.well_formed is not None]  # fmt: skip
        return (sum(asked) / len(asked) if asked else 1.0), len(asked)

    (old, _), (new, count) = share(contest.before), share(contest.after)
    if not count:
        yield _absent("form", Sentence("no-form"))
        return
    kept = new >= old - bars.form_margin - 1e-9
    why = Sentence("form", old=old, new=new)
    yield Ruling("form", kept, why, new - old, -bars.form_margin)


def _serving(contest: Contest, bars: Bars) -> Iterator[Ruling]:
    """Both were asked at different times: of files alike a difference in speed is the machine's."""
    old, new = contest.champion, contest.challenger
    grown = new.size_bytes / max(1, old.size_bytes)
    if old.tokens_per_s and new.tokens_per_s:
        ratio = new.tokens_per_s / old.tokens_per_s
        alike = abs(grown - 1) <= _ALIKE
        why = Sentence("speed-alike" if alike else "speed", value=ratio)
        yield Ruling("speed", alike or ratio >= bars.speed, why, ratio, bars.speed)
    context = Sentence("context", old=old.num_ctx, new=new.num_ctx)
    yield Ruling("context", new.num_ctx >= old.num_ctx, context, new.num_ctx, old.num_ctx)
    yield Ruling("size", grown <= bars.size, Sentence("size", times=grown), grown, bars.size)


def _training(contest: Contest, bars: Bars) -> Iterator[Ruling]:
    old, new = contest.champion, contest.challenger
    yield Ruling("loss", new.finite, Sentence("finite" if new.finite else "diverged"))
    cut = Sentence("truncated", share=new.truncated)
    yield Ruling("truncated", new.truncated <= bars.truncated, cut, new.truncated, bars.truncated)
    if old.eval_loss is not None and new.eval_loss is not None:
        most = old.eval_loss * (1 + bars.loss_growth)
        why = Sentence("eval-loss", old=old.eval_loss, new=new.eval_loss)
        yield Ruling("eval_loss", new.eval_loss <= most, why, new.eval_loss, most)


_RULES = (
    _artefact,
    _must_pass,
    _golden,
    _regressions,
    _fresh,
    _kept("general", lambda bars: bars.general_margin),
    _kept("refusal", lambda bars: bars.refusal_margin),
    _form,
    _serving,
    _training,
)


def _pairs(contest: Contest, name: str) -> dict[str, tuple[Scored, Scored]]:
    """item -> (champion's, challenger's); both must have answered every item of the set."""
    before, after = contest.before.get(name, {}), contest.after.get(name, {})
    if before.keys() != after.keys():
        raise ValueError(f"the models were asked different items of {name}")
    return {item: (before[item], after[item]) for item in sorted(before)}


def _scores(pairs: Mapping[str, tuple[Scored, Scored]]) -> tuple[list[float], list[float]]:
    return [old.score for old, _ in pairs.values()], [new.score for _, new in pairs.values()]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _at_least(rule: str, value: float, bar: float) -> Ruling:
    return Ruling(rule, value >= bar, Sentence(rule, value=value), value, bar)


def _absent(name: str, why: str = "") -> Ruling:
    return Ruling(name, True, why or Sentence("no-set", name=name), hard=False)
