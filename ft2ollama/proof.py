"""Does the server run what was trained? Proofs over the files the trainer and the exporter left.

0. Weights proof: the file is base + adapter, and the server stores that file (proof_weights.py).
1. Prompt proof: for every conversation of proof/prompts.jsonl the server's prompt has the token ids
   that the training template gave. By ids where the server shows them (`context` of /api/generate),
   else by text (`_debug_render_only`, Ollama >= 0.11.5), else by their number.
2. Reply check: greedy replies of the server against those of base + adapter in float32: the stop
   token is reached where the reference reached it, no template token is in the text, and the texts
   agree. Rounding to 8 bits may turn an open-ended text at some word, so agreement is the mean
   share of the common beginning, and the bar depends on the type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ft2ollama.files import write_json, write_text
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.proof_weights import WeightsCheck

# Faithful exports of a 135 M model reached 1.00 as F16 and 0.94 to 1.00 as Q8_0, open prompts among
# them (benchmarks/RESULTS.md). Below Q8_0 a greedy reply may part early and still be good: the bar
# only catches a broken file. The bars leave room for models whose replies are longer.
AGREEMENT = {
    "F32": 0.9, "F16": 0.9, "BF16": 0.7, "Q8_0": 0.6, "Q6_K": 0.5,
    "Q5_K_M": 0.4, "Q5_K_S": 0.4, "Q5_1": 0.4, "Q5_0": 0.4,
    "Q4_K_M": 0.3, "Q4_K_S": 0.3, "Q4_1": 0.3, "Q4_0": 0.3, "IQ4_NL": 0.3, "IQ4_XS": 0.3,
    "Q3_K_L": 0.2, "Q3_K_M": 0.2, "Q3_K_S": 0.2, "Q2_K": 0.1,
}  # fmt: skip

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class PromptCheck:
    """One conversation: `equal` by `method` (ids, text or count)."""

    name: str
    method: str
    equal: bool
    expected_tokens: int
    got_tokens: int
    difference: str = ""


@dataclass(frozen=True)
class ReplyCheck:
    """One question: the two replies and what was found."""

    question: str
    expected: str
    got: str
    agreement: float
    stopped: bool
    problem: str = ""


@dataclass(frozen=True)
class Proof:
    """All proofs; `failures` is empty when the model may be published."""

    prompts: tuple[PromptCheck, ...]
    replies: tuple[ReplyCheck, ...]
    bar: float
    weights: tuple[WeightsCheck, ...] = ()

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
        found += [
            f"reply to {check.question!r}: {check.problem}"
            for check in self.replies
            if check.problem
        ]
        if self.agreement < self.bar:
            found.append(
                f"replies agree to {self.agreement:.0%} with the trainer's, bar {self.bar:.0%}"
            )
        return found


def prove_prompts(
    server: Ollama, model: str, prompts: Sequence[Mapping[str, Any]], tick: Tick | None = None
) -> list[PromptCheck]:
    """Compare the server's prompt with the trainer's for every conversation."""
    checks = []
    for number, prompt in enumerate(prompts, 1):
        checks.append(_prove_prompt(server, model, prompt))
        if tick:
            tick(number, len(prompts))
    return checks


def check_replies(
    server: Ollama,
    model: str,
    replies: Sequence[Mapping[str, Any]],
    special: Sequence[str],
    tick: Tick | None = None,
) -> list[ReplyCheck]:
    """Ask the server the trainer's questions, greedily, and compare."""
    options = {**quiet_options(server.is_local), "num_predict": -1}
    checks = []
    for number, reference in enumerate(replies, 1):
        limit = (
            len(reference["ids"]) + 1
            if not reference["stopped"]
            else 2 * len(reference["ids"]) + 32
        )
        answer = server.chat(
            model, reference["messages"], options={**options, "num_predict": limit}
        )
        checks.append(compare_reply(reference, answer.text, answer.done_reason == "stop", special))
        if tick:
            tick(number, len(replies))
    return checks


def compare_reply(
    reference: Mapping[str, Any], got: str, stopped: bool, special: Sequence[str]
) -> ReplyCheck:
    """Agreement is the share of the reference that `got` begins with, in characters."""
    expected = str(reference["text"])
    got = got if reference["stopped"] else got[: len(expected)]
    same = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b),
        min(len(expected), len(got)),
    )
    longest = max(len(expected), len(got))
    leaked = [token for token in special if token in got]
    problem = ""
    if leaked:
        problem = f"holds the template token {leaked[0]}"
    elif not got.strip() and expected.strip():
        problem = "is empty"
    elif reference["stopped"] and not stopped:
        problem = "does not end where the trainer's reply ends"
    return ReplyCheck(
        str(reference["question"]),
        expected,
        got,
        same / longest if longest else 1.0,
        stopped,
        problem,
    )


def write_report(
    proof: Proof, folder: Path, *, model: str, server: Ollama, forced: str = ""
) -> list[Path]:
    """proof/report.json and proof/report.md in the run folder."""
    head = {
        "model": model,
        "ollama": server.version(),
        "host": server.host,
        "verdict": "equal" if not proof.failures else "forced" if forced else "refused",
        "forced": forced,
        "agreement": round(proof.agreement, 4),
        "identical_replies": proof.identical,
        "failures": proof.failures,
    }
    data = {
        **head,
        "weights": [asdict(check) for check in proof.weights],
        "prompts": [asdict(check) for check in proof.prompts],
        "replies": [asdict(check) for check in proof.replies],
    }
    write_json(folder / "report.json", data)
    write_text(folder / "report.md", _markdown(proof, head))
    return [folder / "report.json", folder / "report.md"]


def _prove_prompt(server: Ollama, model: str, prompt: Mapping[str, Any]) -> PromptCheck:
    name, expected = str(prompt["name"]), list(prompt["ids"])
    got = server.prompt_ids(model, prompt["messages"])
    if got is not None:
        difference = _first_difference(expected, got)
        return PromptCheck(name, "ids", expected == got, len(expected), len(got), difference)
    text = server.prompt_text(model, prompt["messages"])
    if text is not None:
        equal = text == prompt["text"]
        difference = "" if equal else f"trained {prompt['text']!r}, served {text!r}"
        return PromptCheck(name, "text", equal, len(expected), len(expected), difference)
    count = server.prompt_tokens(model, prompt["messages"])
    raw = server.prompt_tokens(model, prompt["messages"], raw_text=prompt["text"])
    difference = "" if count == raw else f"{raw} tokens trained, {count} served"
    return PromptCheck(name, "count", count == raw, raw, count, difference)


def _first_difference(expected: Sequence[int], got: Sequence[int]) -> str:
    if list(expected) == list(got):
        return ""
    place = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b),
        min(len(expected), len(got)),
    )
    trained, served = list(expected[place : place + 4]), list(got[place : place + 4])
    return (
        f"{len(expected)} tokens trained, {len(got)} served; first difference at token "
        f"{place + 1}: {trained} trained, {served} served"
    )


def _markdown(proof: Proof, head: Mapping[str, Any]) -> str:
    lines = [
        f"# Proof of {head['model']} on Ollama {head['ollama']}: {head['verdict']}",
        "",
        *(f"- {failure}" for failure in proof.failures),
        "",
        *(f"Weights: {check.file}: {_weights(check)}." for check in proof.weights),
        "",
        "| prompt | compared by | tokens trained | tokens served | equal |",
        "|---|---|---|---|---|",
        *(
            f"| {c.name} | {c.method} | {c.expected_tokens} | {c.got_tokens} "
            f"| {'yes' if c.equal else 'NO'} |"
            for c in proof.prompts
        ),
        "",
        f"Replies: {proof.identical} of {len(proof.replies)} identical, mean agreement "
        f"{proof.agreement:.1%}, bar {proof.bar:.0%}.",
        "",
        "| question | trainer (float32) | Ollama | agreement |",
        "|---|---|---|---|",
        *(
            f"| {_cell(c.question)} | {_cell(c.expected)} | {_cell(c.got)} | {c.agreement:.0%} |"
            for c in proof.replies
        ),
    ]
    return "\n".join(lines) + "\n"


def _weights(check: WeightsCheck) -> str:
    if check.equal is None:
        return f"not compared, {check.difference}"
    if not check.equal:
        return check.difference
    if check.method == "recomputed":
        dose = f", {check.dose:.3f} of the training in it" if check.dose is not None else ""
        return f"{check.tensors} tensors are base + adapter within their rounding{dose}"
    by = "its sha256" if check.method == "digest" else f"{check.tensors} tensors, byte for byte"
    return f"stored as it was exported, by {by}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
