"""The proofs as files of the run: proof.json for programs, proof.md for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ft2ollama.files import write_json, write_text
from ft2ollama.ollama_api import Ollama
from ft2ollama.proof.effect import Choice
from ft2ollama.proof.result import Proof

_SIGNS = {"equal": "yes", "differs": "**NO**", "warning": "see above", "not run": "not run"}
_TAIL = 60  # characters shown before a place


def write_report(
    proof: Proof, folder: Path, *, model: str, server: Ollama, forced: str = "", number: int = 1
) -> list[Path]:
    """Write both files into the run's proof folder; returns their paths.

    number: of the server, when there are several; the second's files are proof-2.json, proof-2.md.
    """
    stem = "proof" if number == 1 else f"proof-{number}"
    head = {
        "model": model,
        "ollama": server.version(),
        "host": server.host,
        "verdict": "equal" if not proof.failures else "forced" if forced else "refused",
        "forced": forced,
        "agreement": round(proof.agreement, 4),
        "identical_replies": proof.identical,
        "failures": proof.failures,
        "warnings": proof.warnings,
    }
    data = {
        **head,
        "lines": [asdict(line) for line in proof.lines()],
        "bar": proof.bar,
        "held_out": proof.held_out,
        "weights": [asdict(check) for check in proof.weights],
        "prompts": [asdict(check) for check in proof.prompts],
        "replies": [asdict(check) for check in proof.replies],
        "effect": asdict(proof.effect) if proof.effect else None,
    }
    write_json(folder / f"{stem}.json", data)
    write_text(folder / f"{stem}.md", "\n".join(_markdown(proof, head)) + "\n")
    return [folder / f"{stem}.json", folder / f"{stem}.md"]


def _markdown(proof: Proof, head: dict[str, Any]) -> Iterator[str]:
    yield f"# Proof of {head['model']} on Ollama {head['ollama']}: {head['verdict']}"
    if head["forced"]:
        yield f"\nPublished in spite of it, because: {head['forced']}"
    for text in (*proof.failures, *proof.warnings):
        yield f"\n```text\n{text}\n```"
    yield from _table(
        ["proof", "compared", "found", "equal"],
        [[one.proof, one.compared, one.found, _SIGNS[one.verdict]] for one in proof.lines()],
    )
    yield "\n## Prompts"
    yield from _table(
        ["conversation", "compared by", "tokens trained", "tokens served", "equal"],
        [
            [c.name, c.method, c.expected_tokens, c.got_tokens, "yes" if c.equal else "**NO**"]
            for c in proof.prompts
        ],
    )
    if proof.replies:
        yield "\n## Replies"
        yield from _table(
            ["question", "from", "trainer (float32)", "Ollama", "agreement", "fault"],
            [
                [c.question, c.place, c.expected, c.got, f"{c.agreement:.0%}", c.problem]
                for c in proof.replies
            ],
        )
    if proof.effect and proof.effect.choices:
        yield "\n## Effect"
        yield from _table(
            ["training row", "text so far", "taught", "base", "Ollama", "base in Ollama"],
            [_choice(one) for one in proof.effect.choices],
        )


def _choice(one: Choice) -> list[str]:
    text = one.text if len(one.text) <= _TAIL else f"…{one.text[-_TAIL:]}"
    return [one.place, text, one.taught, one.base, one.served, one.control or ""]


def _table(columns: list[str], rows: list[list[Any]]) -> Iterator[str]:
    yield "\n| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"


def _cell(value: Any) -> str:
    text = " ".join(str(value).split())
    for char in ("\\", "|", "<", "*", "_", "`"):
        text = text if text == "**NO**" else text.replace(char, f"\\{char}")
    return text
