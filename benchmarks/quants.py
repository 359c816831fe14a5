"""Throughput of quantizing: ours (numba), ours (NumPy) and libggml, per type, on one core.

    python benchmarks/quants.py [MODEL.gguf] [--elements N] [--repeat N]

Million weights per CPU second of the process, the best of `repeat` rounds; the three take turns, so
that what else the machine does falls on all of them. Without a model the weights are normally
distributed. The bytes are compared in passing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import ggml
from quant_inputs import KINDS, N_COLS

from converters.quants.quantize import encode
from converters.quants.search import VARIABLE
from converters.reader import read_gguf


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", help="GGUF file to take weights from")
    parser.add_argument("--elements", type=int, default=1 << 20)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    values = weights(options.model, options.elements)
    importance = np.exp(np.random.default_rng(1).standard_normal(N_COLS)).astype(np.float32)
    print("| type | ours, numba | ours, NumPy | libggml | numba / libggml |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        for label, given in (("", None), (" + importance", importance)):
            runs = {
                "numba": ours(values, kind, given, "numba"),
                "numpy": ours(values[: len(values) // 8], kind, given, "numpy"),
                "ggml": lambda kind=kind, given=given: ggml.quantize(values, kind, given),
            }
            assert np.array_equal(runs["numba"](), runs["ggml"]().reshape(-1)), kind
            best = fastest(runs, options.repeat)
            numba, ggml_ = values.size / best["numba"] / 1e6, values.size / best["ggml"] / 1e6
            numpy_ = values.size / 8 / best["numpy"] / 1e6
            print(
                f"| {kind.name}{label} | {numba:.1f} | {numpy_:.1f} | {ggml_:.1f} "
                f"| {numba / ggml_:.1f} |",
                flush=True,
            )


def weights(model: Path | None, count: int) -> np.ndarray:
    """[count / N_COLS, N_COLS] float32."""
    if model is None:
        normal = np.random.default_rng(0).standard_normal(count // N_COLS * N_COLS) * 0.02
        return normal.astype(np.float32).reshape(-1, N_COLS)
    file = read_gguf(model)
    found: list[np.ndarray] = []
    for name, info in file.tensors.items():
        if len(info.shape) == 2 and name.startswith("blk.") and sum(map(len, found)) < count:
            found.append(file.dequantize(name).reshape(-1))
    return np.concatenate(found)[: count // N_COLS * N_COLS].reshape(-1, N_COLS)


def ours(
    values: np.ndarray, kind: int, importance: np.ndarray | None, backend: str
) -> Callable[[], np.ndarray]:
    """A call of our encoder on the given backend."""

    def run() -> np.ndarray:
        os.environ[VARIABLE] = backend
        return encode(values, kind, importance=importance)

    return run


def fastest(runs: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """CPU seconds of the quickest call of each, in turns."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeat):
        for name, run in runs.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return best


if __name__ == "__main__":
    main()
