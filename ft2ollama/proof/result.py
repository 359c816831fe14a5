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
    """A proof in the table. verdict: equal, differs, warning or not run."""

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
            why = _STOPPED if stopped else "the run has no prompts"
            return Line("prompt", "conversations", why, "not run")
        equal, count = sum(check.equal for check in self.prompts), len(self.prompts)
        methods = Counter(_METHODS.get(check.method, check.method) for check in self.prompts)
        by = ", ".join(f"{number} by {name}" for name, number in methods.items())
        by = f"equal by {next(iter(methods))}" if len(methods) == 1 else f"equal: {by}"
        verdict = "equal" if equal == count else "differs"
        return Line("prompt", f"{count} conversations", f"{equal} of {count} {by}", verdict)

    def _replies(self, stopped: bool) -> Line:
        whose = "held-out" if self.held_out else "training"
        if stopped or not self.replies:
            why = _STOPPED if stopped else "the run has no reference replies"
            return Line("replies", "questions", why, "not run")
        bad = sum(bool(check.problem) for check in self.replies)
        return Line(
            "replies",
            f"{len(self.replies)} {whose} questions",
            f"{self.identical} identical, agreement {self.agreement:.0%} (bar {self.bar:.0%})"
            f"{f'; {bad} at fault' if bad else ''}",
            "differs" if bad or self.agreement < self.bar else "equal",
        )

    def _effect(self, stopped: bool) -> Line:
        effect = self.effect
        compared = "words only the training taught"
        if effect is None:
            why = _STOPPED if stopped else "the run has nothing to compare"
            return Line("effect", compared, why, "not run")
        if not effect.choices:
            return Line("effect", compared, f"none in {effect.answers} training answers", "warning")
        control = effect.control
        base = f"base not asked: {effect.why}" if control is None else f"the base: {control}"
        return Line(
            "effect",
            f"{len(effect.choices)} {compared}",
            f"{effect.taught} of {len(effect.choices)} written ({base})",
            "differs" if effect.failure else "equal",
        )


_STOPPED = "not run after a failure above"
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
        dose = f" ({check.dose:.0%})" if check.dose is not None else ""
        found = f"base + training{dose}, rounded"
        name, compared = "weights", f"{check.tensors} tensors of {check.file}"
        compared = compared if check.tensors else check.file
    else:
        found = "is that file" if check.method == "digest" else "has its tensors, byte for byte"
        name, compared = "stored", f"what Ollama keeps of {check.file}"
    return Line(name, compared, found if check.equal else check.difference, verdict)
