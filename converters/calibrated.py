"""How each tensor is encoded when the inputs of its layer are known: exact, imatrix or calibrated.

In: the tensors to write and what is known of their inputs. Out: an encoder per tensor and the
figures behind the choice. Calibrated is kept only where it loses less of the layer's output on
inputs that it has not seen; that is measured beforehand on a sample of rows, so that the file can
still be written in one pass. Plain distance to the weights would be the wrong measure: error
feedback makes it larger, while the error of the output falls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from gguf.constants import GGMLQuantizationType as Kind

from converters.errors import ConvertError
from converters.importance import Importance, open_importance
from converters.jobs import Bytes, Encoder, available_threads, in_order, one_blas_thread
from converters.quants.feedback import FEEDBACK_TYPES, Spread, encode_with_feedback, spreads
from converters.quants.layout import decode
from converters.quants.quantize import encode
from converters.transforms import F32, Rows, n_rows
from converters.writer import canonical_order
from converters.written import TensorReport

T = TypeVar("T")

MODES = ("auto", "exact", "imatrix", "calibrated")
_SAMPLE, _RANGES = 256, 8  # rows that are judged, in so many runs of neighbours
_KEPT = 8  # inputs whose factors stay in memory: q, k and v come one after the other


@dataclass(frozen=True)
class Candidate:
    """A tensor that may be calibrated. rows: opens it; label: what errors call it."""

    name: str
    shape: tuple[int, ...]
    type: Kind
    rows: Callable[[], Rows]
    label: str


@dataclass(frozen=True)
class Choice:
    """Encoders by tensor name (absent: exact), and the figures of those that were judged."""

    mode: str
    encoders: Mapping[str, Encoder]
    report: tuple[TensorReport, ...] = ()
    notes: tuple[str, ...] = ()


EXACT = Choice("exact", {})


@dataclass(frozen=True)
class Calibration:
    """What is known, and the mode that follows from it."""

    mode: str
    importance: Importance | None = None

    @property
    def is_exact(self) -> bool:
        """Whether nothing is to be used."""
        return self.mode == "exact"


def open_calibration(path: Path | None, mode: str, architecture: str, n_blocks: int) -> Calibration:
    """The calibration file and the mode. auto: the best that the file allows.

    path: statistics or an imatrix, see importance. ConvertError if the mode needs more than that.
    """
    if mode not in MODES:
        raise ConvertError(f"unknown mode {mode!r}", "", f"modes: {', '.join(MODES)}", "mode auto")
    if path is None or mode == "exact":
        if mode in ("imatrix", "calibrated"):
            raise ConvertError(
                f"mode {mode} needs statistics of the layers' inputs",
                "",
                "no file was given",
                "--calibration FILE, or mode exact",
            )
        return Calibration("exact")
    importance = open_importance(path, architecture, n_blocks)
    if mode == "auto":
        mode = "calibrated" if importance.is_judged else "imatrix"
    if mode == "calibrated" and not importance.is_judged:
        raise ConvertError(
            "this file is not enough to calibrate",
            "",
            f"{path.name} has no second moments, or none of held-out inputs",
            "mode imatrix, or collect statistics from two conversations or more",
        )
    return Calibration(mode, importance)


def choose(
    calibration: Calibration, candidates: Iterable[Candidate], threads: int | None = None
) -> Choice:
    """An encoder per tensor. Takes some seconds per billion weights in mode calibrated."""
    importance = calibration.importance
    if importance is None:
        return EXACT
    ordered = sorted(candidates, key=lambda c: canonical_order(c.name))
    possible = [candidate for candidate in ordered if candidate.type in FEEDBACK_TYPES]
    known = [candidate for candidate in possible if _is_known(candidate, importance)]
    notes = _expert_notes(possible)
    if not known:
        return replace(EXACT, notes=notes)
    inputs = _Inputs(importance)
    if calibration.mode == "imatrix":
        encoders = {c.name: partial(inputs.with_importance, c.name) for c in known}
        return Choice("imatrix", encoders, notes=notes)
    jobs = ((c, partial(_judge, c, inputs)) for c in known)
    with closing(in_order(jobs, threads or available_threads())) as judged:
        report = tuple(found for _, found in judged)
    made = {"imatrix": inputs.with_importance, "calibrated": inputs.with_feedback}
    kept = {r.tensor: partial(made[r.mode], r.tensor) for r in report if r.mode in made}
    return Choice("calibrated", kept, report, notes)


def _expert_notes(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """llama-quantize would weight experts by an imatrix; a user should know that we do not."""
    experts = sum(len(candidate.shape) == 3 for candidate in candidates)
    if not experts:
        return ()
    return (f"{experts} expert tensors are rounded without the statistics (mode exact)",)


def _is_known(candidate: Candidate, importance: Importance) -> bool:
    """Experts see different inputs each; they stay exact unless told apart, which no file does."""
    if len(candidate.shape) != 2 or not importance.knows(candidate.name):
        return False
    n_cols = importance.columns(candidate.name)
    if n_cols != candidate.shape[-1]:
        raise ConvertError(
            "the calibration file is for another model",
            candidate.name,
            f"its inputs have {n_cols} columns there, the tensor {candidate.shape[-1]}",
            "collect the statistics on this model",
        )
    return True


class _Inputs:
    """What the encoders need of a tensor's inputs; the last few stay in memory, for all threads."""

    def __init__(self, importance: Importance) -> None:
        self._importance = importance
        self._lock = Lock()
        self._recent: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def with_importance(self, tensor: str, values: F32, kind: Kind, name: str) -> Bytes:
        """As llama-quantize --imatrix encodes. name: what an error calls the tensor."""
        return encode(values, kind, name, importance=self._diagonal(tensor))

    def with_feedback(self, tensor: str, values: F32, kind: Kind, name: str) -> Bytes:
        """With error feedback."""
        spread = self._remembered("spread", tensor, self._spreads)
        return encode_with_feedback(
            values, kind, name, importance=self._diagonal(tensor), spread=spread
        )

    def held_out(self, name: str) -> list[F32]:
        """The moments that encodings are judged by."""
        return self._importance.moments(name, "held_out")

    def _diagonal(self, name: str) -> F32:
        return self._remembered("diagonal", name, self._importance.diagonal)

    def _spreads(self, name: str) -> list[Spread]:
        with one_blas_thread():
            return spreads(self._importance.moments(name, "calibration"))

    def _remembered(self, what: str, name: str, make: Callable[[str], T]) -> T:
        key = what, self._importance.input_of(name)
        with self._lock:
            if key not in self._recent:
                self._recent[key] = make(name)
            self._recent.move_to_end(key)
            while len(self._recent) > _KEPT:
                self._recent.popitem(last=False)
            found: T = self._recent[key]
            return found


def _judge(candidate: Candidate, inputs: _Inputs) -> TensorReport:
    name, kind = candidate.name, candidate.type
    values = sample(candidate.rows())
    moments = inputs.held_out(name)
    energy = output_error(values, moments)
    found = {
        mode: _share(output_error(values - _decoded(data, kind, values), moments), energy)
        for mode, data in (
            ("exact", encode(values, kind, candidate.label)),
            ("imatrix", inputs.with_importance(name, values, kind, candidate.label)),
            ("calibrated", inputs.with_feedback(name, values, kind, candidate.label)),
        )
    }
    best = min(found, key=lambda mode: found[mode])  # the first of equals: exact
    return TensorReport(name, kind.name, best, **found)


def _decoded(data: Bytes, kind: Kind, values: F32) -> F32:
    return decode(data, kind).reshape(values.shape)


def _share(error: float, energy: float) -> float:
    return error / energy if energy > 0 else 0.0


def sample(rows: Rows) -> F32:
    """All rows of a small tensor, else 256 of them in eight evenly spaced runs: [n, n_cols]."""
    total = n_rows(rows.shape)
    if total <= 2 * _SAMPLE:
        return rows.read(0, total)
    length = _SAMPLE // _RANGES
    starts = [(total - length) * i // (_RANGES - 1) for i in range(_RANGES)]
    return np.concatenate([rows.read(start, start + length) for start in starts])


def output_error(error: F32, moments: Sequence[F32]) -> float:
    """Squared error of the outputs: tr(E H E^T) over the blocks of columns. error: [n, n_cols]."""
    total, column = 0.0, 0
    for block in moments:
        part = error[:, column : column + len(block)]
        total += float(np.sum((part @ block) * part, dtype=np.float64))
        column += len(block)
    return total
