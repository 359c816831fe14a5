"""How many threads torch and numpy get, and how they wait. Must run before they are imported.

GNU OpenMP's workers spin while they wait for each other, and so do OpenBLAS's. When another process
wants the same cores, they steal the time that the work itself needs: a second thread then makes a
training step and an export several times slower (figures in benchmarks/RESULTS.md). So the workers
are told to sleep, and small or busy machines work on one thread.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from ft2ollama import machine

_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Threads:
    """count: threads for torch; why: the reason, for the plan."""

    count: int
    why: str


def choose_threads(wanted: int | None) -> Threads:
    """The config's `num_threads`, or one on two cores and fewer, else the idle cores."""
    if wanted:
        return Threads(wanted, "num_threads in the config")
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return Threads(int(os.environ["OMP_NUM_THREADS"]), "OMP_NUM_THREADS")
    import psutil

    cores = machine.cores()
    physical = min(cores, psutil.cpu_count(logical=False) or cores)
    if physical <= 2:
        return Threads(
            1, f"{cores} cores: a second thread loses more on a busy machine than it wins"
        )
    busy = min(physical - 1, round(os.getloadavg()[0]))
    return Threads(max(1, physical - busy), f"{physical} cores, load {os.getloadavg()[0]:.1f}")


def set_threads(threads: Threads) -> None:
    """Make the workers sleep while they wait, and set their number."""
    for name, value in _PASSIVE.items():
        os.environ.setdefault(name, value)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads.count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads.count)
