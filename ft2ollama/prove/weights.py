"""The served tensors against base + adapter, and what became of those that differ.

In: what is served and the reference.  Out: a `Check`. `converters.measure` gives error and dose per
tensor; an error above what the type's rounding explains is a fault, and the usual ways to get it
are tried out on the tensors themselves: rows of q and k in the order of Hugging Face, gate and up
exchanged, norms off by one, everything scaled. A small error all over is what a fine-tune is, so
without an adapter it is only told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ft2ollama.proof_weights import bound
from ft2ollama.prove.findings import WRITE_ANEW, Check, Finding, checked
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served
from ft2ollama.prove.settings import setting_faults

if TYPE_CHECKING:
    from converters import Measured

UNRELATED = 0.5  # relative error from which a tensor is not a trained form of the other
_DOSE = (0.5, 1.5)  # as in proof_weights
_NOT_APPLIED = 0.2


def check_weights(served: Served, reference: Reference) -> Check:
    """Settings first: where they differ the tensors are those of another model."""
    from converters import ConvertError, measure, pooled_dose

    if served.broken:
        fault = Finding("broken-file", "the model's file is damaged", served.unread, WRITE_ANEW)
        return checked("weights", "", [fault])
    try:
        faults = setting_faults(served, reference)
    except ConvertError as error:
        return Check("weights", "unknown", f"{error.what}: {error.why}".splitlines()[0])
    if faults or served.file is None:
        unread = Check("weights", "unknown", f"settings equal; tensors not read, {served.unread}")
        return checked("weights", "", faults) if faults else unread
    beside = served.adapters
    merged = None if beside else reference.adapter
    try:
        found = measure(served.file.path, reference.base.folder, merged)
    except ConvertError as error:
        fault = Finding(
            "other-model", "the file's tensors are not those of the reference",
            f"{error.tensor}: {error.why}" if error.tensor else error.why or error.what, WRITE_ANEW,
        )  # fmt: skip
        return checked("weights", "", [fault])
    if beside and reference.adapter:
        return _judge_beside(served, reference, found, beside[0])
    if beside:
        return _beside_untold(served, reference, found)
    pooled = pooled_dose(found) if merged else None
    return _judge(served, reference, found, None if pooled is None else pooled[0])


def _judge_beside(
    served: Served, reference: Reference, found: list[Measured], adapter: Path
) -> Check:
    """An ADAPTER layer: its own file holds the dose, the model's file is the base."""
    from converters import ConvertError, measure, pooled_dose

    if not served.server.is_local or not adapter.is_file():
        return Check("weights", "unknown", "the ADAPTER file cannot be read")
    try:
        pairs = measure(adapter, reference.base.folder, reference.adapter)
    except ConvertError as error:
        return checked(
            "weights",
            "",
            [Finding("adapter-dose", "the ADAPTER is another one", error.what, WRITE_ANEW)],
        )
    pooled = pooled_dose(pairs)
    return _judge(served, reference, found, None if pooled is None else pooled[0])


def _beside_untold(served: Served, reference: Reference, found: Sequence[Measured]) -> Check:
    judged = _judge(served, reference, found, None)
    if judged.state != "ok":
        return judged
    return Check("weights", "unknown", "the Modelfile has an ADAPTER: name its folder, --adapter")


def _judge(
    served: Served, reference: Reference, found: Sequence[Measured], dose: float | None
) -> Check:
    limits = _limits(reference, found)
    wrong = [one for one in found if one.error > limits[one.name]]
    large = [one for one in wrong if one.error > UNRELATED]
    told = f"{len(found)} tensors equal within the rounding of {served.shown.quantization}"
    if large:
        return checked("weights", "", [_cause(served, reference, found, large)])
    if dose is not None and not _DOSE[0] < dose < _DOSE[1]:
        return checked("weights", "", [_dose_fault(served, dose)])
    if wrong and reference.adapter is None:
        return Check("weights", "unknown", _as_tuned(found, wrong))
    if wrong:
        return checked("weights", "", [_cause(served, reference, found, wrong)])
    if dose is not None:
        told += f", {dose:.0%} of the training in them"
    return Check("weights", "ok", told)


def _as_tuned(found: Sequence[Measured], wrong: Sequence[Measured]) -> str:
    far = max(one.error for one in wrong)
    return (
        f"{len(wrong)} of {len(found)} tensors differ by up to {far:.1%}, as a fine-tune does: "
        "to prove it, give what was trained (the merged folder, or --adapter)"
    )


def _limits(reference: Reference, found: Sequence[Measured]) -> dict[str, float]:
    """What rounding explains; a reference that was a GGUF has been rounded itself."""
    from dataclasses import replace

    from converters import read_gguf

    own = {} if reference.base.gguf is None else read_gguf(reference.base.gguf).tensors
    limits = {}
    for one in found:
        limits[one.name] = bound(one)
        if one.name in own:
            limits[one.name] += bound(replace(one, type=own[one.name].type.name))
    return limits


def _dose_fault(served: Served, dose: float) -> Finding:
    if abs(dose) < _NOT_APPLIED:
        what = "the fine-tune is not in the file: this is the base model"
        how = "the adapter was never merged, and the Modelfile has no ADAPTER"
        return Finding(
            "adapter-not-applied",
            what,
            f"{dose:.0%} of the adapter's update found; {how}",
            WRITE_ANEW,
        )
    hint = "scale is lora_alpha / r, with rsLoRA lora_alpha / sqrt(r)"
    return Finding(
        "adapter-dose",
        f"the fine-tune is in the file {dose:.2f} times",
        f"{dose:.0%} of the adapter's update found, 100% expected; {hint}",
        WRITE_ANEW,
    )


def _cause(
    served: Served, reference: Reference, found: Sequence[Measured], wrong: Sequence[Measured]
) -> Finding:
    """The first of the usual mistakes that explains the wrong tensors."""
    from ft2ollama.prove.mistakes import explain

    worst = max(wrong, key=lambda one: one.error)
    values = f"{len(wrong)} of {len(found)} tensors differ; {worst.name} by {worst.error:.0%}"
    assert served.file is not None
    adapter = None if served.adapters else reference.adapter
    known = explain(served.file, reference.base.folder, adapter, [one.name for one in wrong])
    if known is not None:
        code, what, why = known
        return Finding(code, what, f"{values}; {why}", WRITE_ANEW)
    matrices = [one.error for one in found if "norm" not in one.name]
    if matrices and median(matrices) > UNRELATED:
        return Finding(
            "other-model", "the served weights are those of another model",
            f"{values}, as unrelated weights do", WRITE_ANEW,
        )  # fmt: skip
    return Finding(
        "weights", "some of the served weights are not the reference's", values, WRITE_ANEW
    )
