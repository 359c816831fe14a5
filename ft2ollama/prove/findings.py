"""What a look at a model in Ollama brings: a row per check, three lines per fault.

In: nothing.  Out: `Check` and `Finding`, and the order in which faults explain garbage: a file that
computes nonsense before a prompt that the model was never taught, that before an answer that does
not end, and what makes a model worse but not unreadable last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "wrong", "unknown"]

# Stands for the command that writes the model's file anew; `examine` knows it.
WRITE_ANEW = "write the file anew from the reference"
FIXED = "fixed.gguf"  # what a file is called that was mended

# One code per fault; the first explains garbage best.
ORDER = (
    "broken-file",
    "does-not-run",
    "other-model",  # another architecture, other shapes, unrelated weights
    "rope",  # rotations of another base: no position is what it was
    "rows-not-permuted",
    "tensors-exchanged",
    "norms-shifted",
    "weights-scaled",
    "weights",
    "setting",
    "other-vocabulary",
    "special-tokens-split",
    "tokenizer",
    "no-template",
    "escapes-in-template",
    "wrong-template",
    "no-answer-header",
    "history-lost",
    "template",
    "bos-doubled",
    "bos-missing",
    "penalty",
    "temperature",
    "stop-missing",
    "wrong-end",
    "stop-cuts",
    "adapter-not-applied",
    "adapter-dose",
    "context-short",
    "reply-cut",
    "system-lost",
    "default-system-lost",
    "tools-lost",
    "tools-differ",
    "bos-extra",
    "replies",
)


@dataclass(frozen=True)
class Finding:
    """A fault in three lines. code: one of ORDER.

    what: what is wrong.  why: the values that show it.  fix: something to paste.
    """

    code: str
    what: str
    why: str
    fix: str


def set_key(path: Path | None, key: str, value: object) -> str:
    """The command that copies a model's file and mends one of its settings."""
    script = f"gguf-set-metadata {FIXED} {key} {str(value).lower()} --force"
    return f"cp {path or 'your-model.gguf'} {FIXED} && {script}     # then the Modelfile below"


@dataclass(frozen=True)
class Check:
    """A row of the table.  note: what was looked at, or why it could not be."""

    name: str
    state: State
    note: str
    findings: tuple[Finding, ...] = ()


def by_weight(checks: Sequence[Check]) -> list[Finding]:
    """All faults, what explains garbage best first."""
    found = [finding for check in checks for finding in check.findings]
    return sorted(found, key=lambda finding: ORDER.index(finding.code))


def checked(name: str, note: str, findings: Sequence[Finding]) -> Check:
    """A row: `wrong` with its first fault as the note, else `ok`."""
    if findings:
        first = min(findings, key=lambda finding: ORDER.index(finding.code))
        return Check(name, "wrong", first.what, tuple(findings))
    return Check(name, "ok", note)
