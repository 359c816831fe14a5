"""What this machine has, without torch: processor, memory, graphics card, speed.

In: nothing.  Out: plain values. The speeds are timed with numpy in an eighth of a second.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

NATIVE_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # x86 flags; `bf16` is the ARM feature


@dataclass(frozen=True)
class Gpu:
    """name as the driver says it; bytes of memory."""

    name: str
    total: float
    free: float


@dataclass(frozen=True)
class Speed:
    """gemm: float32 multiply-adds as FLOP/s, with the threads numpy has. stream: elements/s of a
    simple operation on arrays in memory."""

    gemm: float
    stream: float


def cores() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> tuple[float, float]:
    """(total, available) bytes of RAM; a container's limit counts where it is lower."""
    import psutil

    found = psutil.virtual_memory()
    limit = _container_limit()
    if limit is not None and limit < found.total:
        used = psutil.Process().memory_info().rss
        return limit, min(float(found.available), limit - used)
    return float(found.total), float(found.available)


def cpu_flags() -> frozenset[str]:
    """Features of the processor as Linux lists them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    fields = [line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(fields[0].split()) if fields else frozenset()


def native_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself."""
    return not cpu_flags().isdisjoint(NATIVE_BF16)


def gpu() -> Gpu | None:
    """The first NVIDIA card the driver shows, or None."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not (tool := shutil.which("nvidia-smi")):
        return None
    query = [tool, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        name, total, free = done.stdout.splitlines()[0].rsplit(",", 2)
        return Gpu(name.strip(), float(total) * 2**20, float(free) * 2**20)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def free_disk(folder: Path) -> float:
    """Bytes free where `folder` is or will be."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return float(shutil.disk_usage(existing).free)


def speed() -> Speed:
    """Time a matrix product and a sum for an eighth of a second; the best of several rounds."""
    import numpy as np

    a = np.ones((768, 768), np.float32)
    long = np.ones(1 << 20, np.float32)
    out = np.empty_like(long)
    np.matmul(a, a)  # starts the library's threads
    gemm = _best(lambda: np.matmul(a, a), 0.1)
    stream = _best(lambda: np.multiply(long, 1.5, out=out), 0.03)
    return Speed(2 * 768**3 / gemm, long.size / stream)


def _best(work: object, budget: float) -> float:
    assert callable(work)
    best, end = float("inf"), time.perf_counter() + budget
    while (began := time.perf_counter()) < end:
        work()
        best = min(best, time.perf_counter() - began)
    return best


def _container_limit() -> float | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        return float(text) if text.isdigit() else None
    return None
