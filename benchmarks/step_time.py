"""Seconds per optimizer step of the demo's training: weight type x threads x how OpenMP waits.

    python benchmarks/step_time.py BASE.gguf [BUSY]

BUSY: how many other processes keep a core busy meanwhile (default 0). Every row is a process of its
own, because the waiting policy is read when torch is loaded. The median of 6 steps after 2.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

STEPS, WARM = 8, 2
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
SPINNING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "infinite"}
DEFAULT: dict[str, str] = {}
ROWS = (
    ("float32", 1, "sleep", PASSIVE),
    ("bfloat16", 1, "sleep", PASSIVE),
    ("bfloat16", 2, "sleep", PASSIVE),
    ("bfloat16", 2, "default", DEFAULT),
)


def measure(ref: str, dtype: str) -> None:
    """In a process of its own: print the median wall and CPU seconds of a step."""
    import torch

    from ft2ollama.base import resolve_base
    from ft2ollama.config import load_config
    from ft2ollama.demo import samples
    from ft2ollama.runs import create_run
    from ft2ollama.train.plan import make_plan
    from ft2ollama.train.trainer import train

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    files, base = samples("en"), resolve_base(ref)
    keys = [f"model_name_or_path={base.ref}", f"dataset_dir={files.dataset_dir}"]
    keys += ["proof_prompts=null", "proof_replies=0", f"max_steps={STEPS}"]
    plan = make_plan(load_config(files.config, keys).config, base)
    marks = [(time.monotonic(), time.process_time())]

    def report(event: dict[str, object]) -> None:
        if event["event"] == "step":
            marks.append((time.monotonic(), time.process_time()))

    train(plan, create_run("step", ""), dtype=dtype, device="cpu", report=report)
    steps = list(zip(marks[1 + WARM :], marks[WARM:-1], strict=True))
    wall = statistics.median(after[0] - before[0] for after, before in steps)
    cpu = statistics.median(after[1] - before[1] for after, before in steps)
    print(f"{wall:.2f} {cpu:.2f}")


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Other processes that want a core each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 3:
        measure(sys.argv[1], sys.argv[3])
        return
    others = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print(f"load before: {os.getloadavg()[0]:.1f}; other busy processes: {others}")
    print(
        "| weights | threads | waiting threads | wall s/step | CPU s/step |\n|---|---|---|---|---|"
    )
    for dtype, threads, name, policy in ROWS:
        env = {k: v for k, v in os.environ.items() if k not in SPINNING}
        env |= {"OMP_NUM_THREADS": str(threads), "FT2OLLAMA_RUNS": tempfile.mkdtemp(), **policy}
        with busy(others):
            command = [sys.executable, __file__, sys.argv[1], "0", dtype]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        wall, cpu = done.stdout.split()[-2:]
        print(f"| {dtype} | {threads} | {name} | {wall} | {cpu} |", flush=True)


if __name__ == "__main__":
    main()
