"""Out of memory: what to type, and what the estimate had said.

torch raises OutOfMemoryError on a GPU and a RuntimeError of its allocator on a CPU; Python raises
MemoryError. All become one MachineError whose fix is a command: first the knob that changes nothing
but memory and speed (half the batch, twice the accumulation: the same rows in every step, so that a
run goes on from its last checkpoint), then those that change more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ft2ollama import machine
from ft2ollama.errors import MachineError

_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator",
)
_SHORTEST = 256  # tokens: a smaller cutoff_len is no help any more


@dataclass(frozen=True)
class Load:
    """What a step holds in memory.

    rows: conversations computed at once.  longest: tokens of the longest one.
    predicted: the plan's estimate, of which `peak_gb` and `terms` ({name, gb}) are read.
    """

    rows: int
    accumulation: int
    longest: int
    cutoff_len: int
    device: str
    predicted: Mapping[str, Any] = field(default_factory=dict)
    checkpointing: bool = False
    quantized: bool = False


def is_out_of_memory(error: BaseException) -> bool:
    """Does this error say that memory ran out, on whatever device?"""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, (RuntimeError, OSError)) and any(sign in str(error) for sign in _SIGNS)


def out_of_memory(
    error: BaseException, load: Load, *, command: str, when: str, goes_on: bool
) -> MachineError:
    """command: what resumes the run.  when: `at step 12 of 100`, `while loading the model`.

    goes_on: there is a checkpoint, from which the first knob goes on.
    """
    where = "GPU memory" if load.device != "cpu" else "memory"
    lines = [_first_line(error) or "the system gave no more", _sizes(load)]
    if "peak_gb" in load.predicted:
        said = f"the plan said about {load.predicted['peak_gb']:.1f} GB"
        lines.append(said + _there_is(load.device))
        lines += _terms(load.predicted.get("terms", ()))
    knobs = _knobs(load)
    first = f"{command} {knobs[0][0]}     # {knobs[0][1]}"
    if load.rows > 1 and goes_on:
        first += "; it goes on from the last checkpoint"
    others = [f"     or: {knob}     # {why}" for knob, why in knobs[1:]]
    return MachineError(f"out of {where} {when}", "\n".join(lines), "\n".join([first, *others]))


def _terms(terms: Sequence[Mapping[str, Any]]) -> list[str]:
    """The largest parts of the estimate, in one line."""
    largest = sorted(terms, key=lambda term: -float(term["gb"]))[:4]
    parts = ", ".join(f"{term['name']} {term['gb']:.1f}" for term in largest)
    return [f"most of it: {parts}"] if parts else []


def _sizes(load: Load) -> str:
    rows = "1 conversation" if load.rows == 1 else f"{load.rows} conversations"
    return f"computed at once: {rows} of up to {load.longest:,} tokens"


def _knobs(load: Load) -> list[tuple[str, str]]:
    """(key=value, what it costs), the cheapest first; never empty."""
    found = []
    if load.rows > 1:
        half = load.rows // 2
        twice = load.accumulation * -(-load.rows // half)
        found.append(
            (
                f"per_device_train_batch_size={half} gradient_accumulation_steps={twice}",
                "the same training, less at once",
            )
        )
    if load.device != "cpu" and not load.checkpointing:
        found.append(("gradient_checkpointing=true", "the same training, about a third slower"))
    if load.device != "cpu" and not load.quantized:
        found.append(("quantization_bit=4", "4-bit base weights"))
    shorter = min(load.cutoff_len, load.longest) // 2
    if shorter >= _SHORTEST:
        found.append((f"cutoff_len={shorter}", "longer conversations are left out or cut"))
    return found or [("model_name_or_path=<a smaller model>", "this one does not fit")]


def _there_is(device: str) -> str:
    """`; this machine has 16.0 GB, 2.1 GB of it free`, as far as can be seen."""
    if device != "cpu":
        import torch

        if not torch.cuda.is_available():
            return ""
        free, total = torch.cuda.mem_get_info()
        others = total - free - torch.cuda.memory_reserved()
        return f"; this GPU has {total / 1e9:.1f} GB, other programs use {others / 1e9:.1f} GB"
    whole, available = machine.memory()
    return f"; this machine has {whole / 1e9:.1f} GB, {available / 1e9:.1f} GB free"


def _first_line(error: BaseException) -> str:
    """The sentence that says how much was asked for, without the allocator's advice."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    text = text.rpartition("] ")[2] if text.startswith("[enforce fail") else text
    kept = [part for part in text.split(". ") if "PYTORCH" not in part and "See doc" not in part]
    return ". ".join(kept[:4])
