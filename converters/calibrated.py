"""How each tensor is encoded when the inputs of its layer are known: exact, imatrix or calibrated.

In: the tensors to write and what is known of their inputs. Out: an encoder per tensor and the
figures behind the choice. Calibrated is kept only where it loses less of the layer's output on
inputs that it has not seen; that is measured beforehand on a sample of rows, so that the file can
still be written in one pass. What was kept is then made from all inputs, the held-out ones too.
Plain distance to the weights would be the wrong measure: error feedback makes it larger, while the
error of the output falls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from gguf.constants import GGMLQuantizationType as Kind

from converters.errors import ConvertError
from converters.imatrix import open_importance
from converters.importance import ALL, Importance
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
_EXPERT_RANGES = 32  # so many different experts, if there are
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
    notes = _expert_notes(possible, known)
    if not known:
        return replace(EXACT, notes=notes)
    inputs = _Inputs(importance)
    if calibration.mode == "imatrix":
        return Choice("imatrix", {c.name: inputs.encoder("imatrix", c) for c in known}, notes=notes)
    jobs = ((c, partial(_judge, c, inputs)) for c in known)
    with closing(in_order(jobs, threads or available_threads())) as judged:
        found = list(judged)
    report = tuple(one for _, one in found)
    inputs = _Inputs(importance, ALL)
    kept = {c.name: inputs.encoder(one.mode, c) for c, one in found if one.mode != "exact"}
    return Choice("calibrated", kept, report, notes)


def _expert_notes(candidates: Sequence[Candidate], known: Sequence[Candidate]) -> tuple[str, ...]:
    """A user should know which experts are rounded as if every column counted the same."""
    experts = {candidate.name for candidate in candidates if len(candidate.shape) == 3}
    missing = len(experts - {candidate.name for candidate in known})
    if not missing:
        return ()
    return (
        f"{missing} of {len(experts)} expert tensors are rounded without statistics (mode exact): "
        "the calibration file has none by expert",
    )


def _is_known(candidate: Candidate, importance: Importance) -> bool:
    """Experts see different inputs each; they stay exact where the file does not tell them apart.

    In a file that does, an expert that no token reached has equal weights.
    """
    if not importance.knows(candidate.name):
        return False
    n_experts = candidate.shape[0] if len(candidate.shape) == 3 else 0
    told = importance.experts(candidate.name)
    if n_experts and not told:
        return False
    if told != n_experts:
        raise ConvertError(
            "the calibration file is for another model",
            candidate.name,
            f"its inputs are those of {told} experts there, the tensor has {n_experts}",
            "collect the statistics on this model",
        )
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
    """What the encoders need of a tensor's inputs; the last few stay in memory, for all threads.

    part: which inputs error feedback goes by; what has been judged may use all of them.
    """

    def __init__(self, importance: Importance, part: str = "calibration") -> None:
        self._importance = importance
        self._part = part
        self._lock = Lock()
        self._recent: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def encoder(self, mode: str, candidate: Candidate) -> Encoder:
        """Of a mode but exact."""
        if len(candidate.shape) == 3:
            return partial(self._experts, candidate.name, candidate.shape[1])
        made = {"imatrix": self._with_importance, "calibrated": self._with_feedback}
        return partial(made[mode], candidate.name)

    def _experts(
        self, tensor: str, n_out: int, values: F32, kind: Kind, name: str, start: int
    ) -> Bytes:
        """As llama-quantize --imatrix encodes a stack of experts of `n_out` rows each."""
        importance = self._diagonal(tensor)
        parts = by_expert(start, len(values), n_out)
        return np.concatenate(
            [encode(values[part], kind, name, importance=importance[e]) for e, part in parts]
        )

    def _with_importance(
        self, tensor: str, values: F32, kind: Kind, name: str, start: int
    ) -> Bytes:
        """As llama-quantize --imatrix encodes. name: what an error calls the tensor."""
        del start
        return encode(values, kind, name, importance=self._diagonal(tensor))

    def _with_feedback(self, tensor: str, values: F32, kind: Kind, name: str, start: int) -> Bytes:
        """With error feedback."""
        del start
        diagonal, spread = self._remembered("spread", tensor, self._spreads)
        return encode_with_feedback(values, kind, name, importance=diagonal, spread=spread)

    def held_out(self, name: str) -> list[F32]:
        """The moments that encodings are judged by."""
        return self._importance.moments(name, "held_out")

    def held_out_squares(self, name: str) -> F32:
        """The same of experts: sums of squares, so that an expert counts as often as it is used."""
        return self._importance.held_out_squares(name)

    def _diagonal(self, name: str) -> F32:
        return self._remembered("diagonal", name, self._importance.diagonal)

    def _spreads(self, name: str) -> tuple[F32, list[Spread]]:
        moments = self._importance.moments(name, self._part)
        with one_blas_thread():
            return np.concatenate([np.diag(block) for block in moments]), spreads(moments)

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
    name, kind, label = candidate.name, candidate.type, candidate.label
    if len(candidate.shape) == 3:
        return _judge_experts(candidate, inputs)
    values = sample(candidate.rows())
    moments = inputs.held_out(name)
    energy = output_error(values, moments)
    encoders = {mode: inputs.encoder(mode, candidate) for mode in ("imatrix", "calibrated")}
    made = {"exact": encode(values, kind, label)} | {
        mode: encoder(values, kind, label, 0) for mode, encoder in encoders.items()
    }
    found = {
        mode: _share(output_error(values - _decoded(data, kind, values), moments), energy)
        for mode, data in made.items()
    }
    best = min(found, key=lambda mode: found[mode])  # the first of equals: exact
    return TensorReport(name, kind.name, best, **found)


def _judge_experts(candidate: Candidate, inputs: _Inputs) -> TensorReport:
    """By sums of squares, as that is all that is known; calibrated is then the same as imatrix."""
    squares = inputs.held_out_squares(candidate.name)
    encoder = inputs.encoder("imatrix", candidate)
    energy = exact = imatrix = 0.0
    for start, values in _runs(candidate.rows(), _EXPERT_RANGES):
        experts = (start + np.arange(len(values))) // candidate.shape[1]
        weights = squares[experts]

        def lost(data: Bytes, values: F32 = values, weights: F32 = weights) -> float:
            error = values - _decoded(data, candidate.type, values)
            return float(np.sum(weights * np.square(error), dtype=np.float64))

        energy += float(np.sum(weights * np.square(values), dtype=np.float64))
        exact += lost(encode(values, candidate.type, candidate.label))
        imatrix += lost(encoder(values, candidate.type, candidate.label, start))
    shares = {"exact": _share(exact, energy), "imatrix": _share(imatrix, energy)}
    best = "imatrix" if imatrix < exact else "exact"
    return TensorReport(
        candidate.name, candidate.type.name, best, calibrated=shares["imatrix"], **shares
    )


def by_expert(start: int, count: int, n_out: int) -> list[tuple[int, slice]]:
    """Rows start..start + count of stacked experts: each expert, and where its rows are there."""
    found, row = [], start
    while row < start + count:
        stop = min(start + count, (row // n_out + 1) * n_out)
        found.append((row // n_out, slice(row - start, stop - start)))
        row = stop
    return found


def _decoded(data: Bytes, kind: Kind, values: F32) -> F32:
    return decode(data, kind).reshape(values.shape)


def _share(error: float, energy: float) -> float:
    return error / energy if energy > 0 else 0.0


def sample(rows: Rows) -> F32:
    """All rows of a small tensor, else 256 of them in eight evenly spaced runs: [n, n_cols]."""
    return np.concatenate([values for _, values in _runs(rows)])


def _runs(rows: Rows, ranges: int = _RANGES) -> Iterator[tuple[int, F32]]:
    """The rows that are judged, and the number of the first in each run."""
    total = n_rows(rows.shape)
    if total <= 2 * _SAMPLE:
        yield 0, rows.read(0, total)
        return
    length = _SAMPLE // ranges
    for i in range(ranges):
        start = (total - length) * i // (ranges - 1)
        yield start, rows.read(start, start + length)


def output_error(error: F32, moments: Sequence[F32]) -> float:
    """Squared error of the outputs: tr(E H E^T) over the blocks of columns. error: [n, n_cols]."""
    total, column = 0.0, 0
    for block in moments:
        part = error[:, column : column + len(block)]
        total += float(np.sum((part @ block) * part, dtype=np.float64))
        column += len(block)
    return total
