"""QLoRA on one GPU: what the machine can do, whether ours is right, ours against TRL and unsloth.

    python benchmarks/train_gpu.py [--shape 7b] [--part ours|peers|all] [--out RESULT.jsonl]
    python benchmarks/train_gpu.py --tiny --here   # the same on a CPU with a tiny model, a minute

One command, under ten minutes on a bare machine with torch, transformers and peft. bitsandbytes,
and for the peers TRL with datasets and unsloth, must be importable; where pip has no index, install
carried wheels first: `pip install --no-index --no-deps --target SITE *.whl`, `PYTHONPATH=SITE`.
Every line below runs in a process of its own with its own time limit (--here: in this one, without
a limit); what it says goes to the JSON lines at once, the tables come last, and what did not run is
in them too. `--part ours` is
ceilings, correctness and ours; `--part peers` is the peers and ours once more, for the noise.

W1: full rows of 2048 tokens, 8 of them a step, where packing cannot help. W2: lengths around 150,
ours packed to the same tokens, the peers padded. Settings: the trainers' defaults, and the best
that their manuals offer (gradient checkpointing off).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from gpu_work import SHAPES, STAGES, Shape, rows

WARM = 5
# (part, seconds allowed, stage or trainer, work, variant)
LINES = (
    ("all", 40, "ceilings", "", ""),
    ("all", 110, "model", "", ""),
    ("ours", 40, "correctness", "", ""),
    ("all", 80, "ours", "W1", "auto"),
    ("ours", 80, "ours", "W1", "all"),
    ("ours", 110, "ours", "W1", "plain"),
    ("ours", 80, "ours", "W2", "auto"),
    ("peers", 110, "trl", "W1", "default"),
    ("peers", 110, "trl", "W1", "off"),
    ("peers", 150, "unsloth", "W1", "default"),
)


def main(given: list[str] | None = None) -> None:
    """Parse, then run as the parent or as one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=[*SHAPES], default="7b")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, for a machine without")
    parser.add_argument("--here", action="store_true", help="all lines in this process")
    parser.add_argument("--part", choices=["ours", "peers", "all"], default="ours")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--folder", default="", help="keeps the model between two commands")
    parser.add_argument("--out", default="")
    parser.add_argument("--line", nargs=3, metavar=("NAME", "WORK", "VARIANT"), default=None)
    options = parser.parse_args(given)
    name = "tiny" if options.tiny else options.shape
    steps = options.steps or (8 if options.tiny else 25)
    if options.line:
        one_line(options.line, SHAPES[name], Path(options.folder), steps)
        return
    folder = Path(options.folder or tempfile.mkdtemp(prefix="train_gpu_"))
    found = []
    for part, limit, *line in LINES:
        if options.part in ("all", part) or part == "all":
            if line[0] == "model" and (folder / "adapter").is_dir():
                continue
            if options.here:
                found.append(run_here(line, SHAPES[name], folder, steps))
            else:
                found.append(run(line, limit, name, folder, steps))
            if options.out:
                with Path(options.out).open("a") as file:
                    file.write(json.dumps(found[-1]) + "\n")
    tables(found, SHAPES[name], steps)


def one_line(line: list[str], shape: Shape, folder: Path, steps: int) -> None:
    """In a process of its own."""
    name, work, variant = line
    if name in STAGES:
        STAGES[name](shape, folder, steps)
        return
    from gpu_trainers import TRAINERS

    TRAINERS[name](shape, folder, steps, work, variant)


def run(line: list[str], limit: int, shape: str, folder: Path, steps: int) -> dict[str, Any]:
    """What a line said, how long it took, and how it ended."""
    command = [sys.executable, __file__, "--shape", shape, "--steps", str(steps)]
    command += ["--folder", str(folder), "--line", *line]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    quiet = {"UNSLOTH_DISABLE_STATISTICS": "1", "TOKENIZERS_PARALLELISM": "false"}
    env = {**os.environ, **offline, **quiet}
    began, end = time.monotonic(), "ok"
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=limit, check=False
        )
        out, errors = done.stdout, done.stderr
        if done.returncode:
            end = (errors.strip().splitlines() or ["no word"])[-1][:200]
    except subprocess.TimeoutExpired as late:
        out = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        end = f"stopped after {limit} s"
    return outcome(line, end, time.monotonic() - began, out)


def run_here(line: list[str], shape: Shape, folder: Path, steps: int) -> dict[str, Any]:
    """The same in this process."""
    began, end, out = time.monotonic(), "ok", io.StringIO()
    try:
        with redirect_stdout(out):
            one_line(line, shape, folder, steps)
    except Exception as error:  # noqa: BLE001 - the other lines must still run
        end = f"{type(error).__name__}: {error}"[:200]
    return outcome(line, end, time.monotonic() - began, out.getvalue())


def outcome(line: list[str], end: str, took: float, out: str) -> dict[str, Any]:
    """A line's result; said on stderr too."""
    said = [json.loads(one[7:]) for one in out.splitlines() if one.startswith("RESULT ")]
    print(f"{' '.join(line)}: {end}, {took:.0f} s", file=sys.stderr, flush=True)
    return {"line": line, "end": end, "seconds": round(took, 1), "said": said}


# --- tables
def tables(found: list[dict[str, Any]], shape: Shape, steps: int) -> None:
    """Ceilings, correctness, trainers."""
    print("| measured | value | limit | |\n|---|---|---|---|")
    ceiling = 0.0
    for one in found:
        if one["line"][0] not in STAGES:
            continue
        for said in one["said"]:
            bad = "" if said["value"] <= said.get("limit", float("inf")) else "WRONG"
            print(f"| {said['what']} | {said['value']:.4g} | {said.get('limit', '')} | {bad} |")
            if said["what"].startswith("bf16 product"):
                ceiling = said["value"] * 1e12
        if one["end"] != "ok":
            print(f"| {one['line'][0]} | - | | {one['end']} |")
    trainers = [one for one in found if one["line"][0] not in STAGES]
    print(
        "\n| trainer | work | setting | tokens/s | of the ceiling, useful FLOP "
        "| peak GB: allocated, reserved, used | first loss | from ours: median, largest | |"
    )
    print("|---" * 9 + "|")
    curves = {tuple(one["line"]): losses(one) for one in trainers}
    for one in trainers:
        print(trainer_row(one, curves, shape, steps, ceiling))


def losses(one: dict[str, Any]) -> list[float]:
    """The learning curve of a trainer."""
    return [said["loss"] for said in one["said"] if "loss" in said]


def trainer_row(
    one: dict[str, Any], curves: dict[Any, list[float]], shape: Shape, steps: int, ceiling: float
) -> str:
    """A row of the table."""
    name, work, variant = one["line"]
    taken = [said["seconds"] for said in one["said"] if "seconds" in said][min(WARM, steps - 2) :]
    if not taken:
        return f"| {name} | {work} | {variant} | - | - | - | - | - | {one['end']} |"
    data = rows(shape, work, steps)
    tokens = sum(len(row["input_ids"]) for row in data)
    rate = tokens / steps / statistics.median(taken)
    useful = rate * shape.flop_per_token(tokens / len(data), 0.6, 0.0)
    peak = next((said for said in one["said"] if "allocated_gb" in said), {})
    memory = " ".join(f"{peak[key]:.1f}" for key in peak) or "-"
    curve, other = curves[tuple(one["line"])], curves.get(("ours", work, "auto"), [])
    away = [abs(a - b) for a, b in zip(curve, other, strict=False)] or [float("nan")]
    share = f"{100 * useful / ceiling:.0f} %" if ceiling else "-"
    end = "" if one["end"] == "ok" else one["end"]
    from_ours = f"{statistics.median(away):.4f} {max(away):.4f}"
    cells = (name, work, variant, f"{rate:,.0f}", share, memory, f"{curve[0]:.4f}", from_ours, end)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
