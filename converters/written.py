"""What an export leaves behind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TensorReport:
    """How one tensor was encoded, and what that costs on held-out inputs.

    mode: what was kept, `exact`, `imatrix` or `calibrated`. The three figures are the error of the
    layer's output that each leaves, tr(E H E^T) / tr(W H W^T), on up to 256 rows of the tensor.
    """

    tensor: str
    type: str
    mode: str
    exact: float
    imatrix: float
    calibrated: float

    @property
    def kept(self) -> float:
        """The error of the encoding in the file."""
        return {"exact": self.exact, "imatrix": self.imatrix}.get(self.mode, self.calibrated)


@dataclass(frozen=True)
class Written:
    """A finished GGUF file. notes: what the reader of a report should know about it.

    mode: how it was quantized: `exact`, `imatrix` or `calibrated`. report: per tensor that was
    calibrated, in the file's order.
    """

    path: Path
    sha256: str
    size: int
    n_tensors: int
    file_type: str
    architecture: str
    notes: tuple[str, ...] = ()
    mode: str = "exact"
    report: tuple[TensorReport, ...] = ()

    @property
    def calibrated(self) -> str:
        """One line: how many tensors were calibrated, and what that saves on held-out inputs."""
        if not self.report:
            return ""
        chosen = sum(tensor.mode == "calibrated" for tensor in self.report)
        exact = math.fsum(tensor.exact for tensor in self.report)
        saved = 1 - math.fsum(tensor.kept for tensor in self.report) / exact if exact else 0.0
        return (
            f"calibrated: {chosen} of {self.n_tensors} tensors, held-out error -{saved:.0%} "
            "(of the layers' outputs, against mode exact)"
        )
