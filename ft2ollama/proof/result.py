"""All proofs of one model on one server: what failed, what to know, and a line for each proof."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ft2ollama.proof.effect import EffectCheck
from ft2ollama.proof.prompts import PromptCheck
from ft2ollama.proof.replies import ReplyCheck
from ft2ollama.proof_weights import WeightsCheck


@dataclass(frozen=True)
class Line:
    """A proof in the table. verdict: equal, differs, skipped, not run, or a warning."""

    proof: str
    compared: str
    found: str
    verdict: str


@dataclass(frozen=True)
class Proof:
    """All proofs; `failures` is empty when the model may be published.

    bar: what share of the replies has to agree.  held_out: whether their questions are no training
    data.  effect: None when the trainer left nothing to compare.
    """

    prompts: tuple[PromptCheck, ...]
    replies: tuple[ReplyCheck, ...]
    bar: float
    weights: tuple[WeightsCheck, ...] = ()
    effect: EffectCheck | None = None
    held_out: bool = False

    @property
    def agreement(self) -> float:
        """Mean agreement of the replies, 1.0 when there are none."""
        shares = [check.agreement for check in self.replies]
        return sum(shares) / len(shares) if shares else 1.0

    @property
    def identical(self) -> int:
        """How many replies are equal to the last character."""
        return sum(check.got == check.expected for check in self.replies)

    @property
    def failures(self) -> list[str]:
        """Every reason not to publish."""
        found = [
            f"weights {check.file}: {check.difference}"
            for check in self.weights
            if check.equal is False
        ]
        found += [
            f"prompt {check.name!r}: {check.difference}"
            for check in self.prompts
            if not check.equal
        ]
        found += [_of_reply(check) for check in self.replies if check.problem]
        if self.agreement < self.bar:
            found.append(self._disagreement())
        if self.effect and self.effect.failure:
            found.append(f"effect: {self.effect.failure}")
        return found

    @property
    def warnings(self) -> list[str]:
        """What is no reason to refuse, but has to be told."""
        found = [
            f"weights: {check.file} not compared, {check.difference}"
            for check in self.weights
            if check.equal is None
        ]
        if self.effect and self.effect.warning:
            found.append(self.effect.warning)
        return found

    def _disagreement(self) -> str:
        worst = min(self.replies, key=lambda check: check.agreement)
        return (
            f"replies agree to {self.agreement:.0%} with the trainer's, bar {self.bar:.0%}; "
            f"the worst: {_place(worst)}"
        )

    def lines(self) -> list[Line]:
        """A line for every proof, in the order in which they were made."""
        weights = [_weights(check) for check in self.weights]
        stopped = bool(self.failures) and not self.replies and self.effect is None
        return [*weights, self._prompts(stopped), self._replies(stopped), self._effect(stopped)]

    def _prompts(self, stopped: bool) -> Line:
        if not self.prompts:
            why = "stopped at the proof before" if stopped else "the run has no prompts"
            return Line("prompt", "conversations", why, "not run")
        equal = sum(check.equal for check in self.prompts)
        found = f"{equal} of {len(self.prompts)} equal"
        methods = Counter(check.method for check in self.prompts)
        by = ", ".join(f"{count} by {_METHODS.get(name, name)}" for name, count in methods.items())
        return Line(
            "prompt",
            f"{len(self.prompts)} conversations: {by}",
            found,
            "equal" if equal == len(self.prompts) else "differs",
        )

    def _replies(self, stopped: bool) -> Line:
        whose = "held-out" if self.held_out else "training"
        if stopped or not self.replies:
            why = "stopped at the proof before" if stopped else "the run has no reference replies"
            return Line("replies", f"greedy replies to {whose} questions", why, "not run")
        bad = [check for check in self.replies if check.problem]
        problems = f", {len(bad)} with a fault" if bad else ", all end and are clean"
        return Line(
            "replies",
            f"{len(self.replies)} greedy replies to {whose} questions, against float32",
            f"{self.identical} identical, agreement {self.agreement:.0%} (bar {self.bar:.0%})"
            f"{problems}",
            "differs" if bad or self.agreement < self.bar else "equal",
        )

    def _effect(self, stopped: bool) -> Line:
        effect = self.effect
        compared = "words that only the training taught"
        if effect is None:
            why = "stopped at the proof before" if stopped else "the run has nothing to compare"
            return Line("effect", compared, why, "not run")
        if not effect.choices:
            return Line("effect", compared, f"none in {effect.answers} training answers", "warning")
        control = effect.control
        base = f"the base at {control}" if control is not None else f"base not asked: {effect.why}"
        return Line(
            "effect",
            f"{len(effect.choices)} {compared}",
            f"written at {effect.taught} of {len(effect.choices)} places, {base}",
            "differs" if effect.failure else "equal",
        )


_METHODS = {
    "ids": "token ids",
    "count": "number of tokens",
    "count and reply": "number of tokens and reply",
    "text and count": "text",
    "refused": "the server's refusal",
}


def _of_reply(check: ReplyCheck) -> str:
    where = f" ({check.place})" if check.place else ""
    return f"reply to {_short(check.question)!r}{where}: {check.problem}"


def _place(check: ReplyCheck) -> str:
    where = f" ({check.place})" if check.place else ""
    return (
        f"{_short(check.question)!r}{where}, {check.agreement:.0%}\n"
        f"  trained  {_short(check.expected, 70)!r}\n  served   {_short(check.got, 70)!r}"
    )


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _weights(check: WeightsCheck) -> Line:
    verdict = {True: "equal", False: "differs", None: "warning"}[check.equal]
    if check.method == "recomputed":
        dose = f", {check.dose:.0%} of the training in it" if check.dose is not None else ""
        found = f"{check.tensors} tensors within their rounding{dose}"
        compared = f"{check.file} against base + training"
    else:
        by = (
            "same sha256" if check.method == "digest" else f"{check.tensors} tensors, byte for byte"
        )
        found, compared = by, f"what Ollama stores against {check.file}"
    return Line("weights", compared, found if check.equal else check.difference, verdict)
