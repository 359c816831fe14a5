"""Seconds of a LoRA step on the CPU: ours, plain transformers + peft, TRL's SFTTrainer.

    python benchmarks/train_cpu.py BASE.gguf [--trl PYTHON] [--steps 10] [--work demo,long]
                                             [--only "NAME;NAME"] [--out RESULT.jsonl]

Every trainer is a process that does one step when it is told to; they take turns step by step, so
all see the same moods of a shared machine. Same token ids and labels, same order of rows (grouped
by length, which saves the padded ones most of their padding), same LoRA and initial values, same
optimizer, rate and schedule. The first two steps are not counted. --trl is a Python that has TRL;
without it TRL is left out. Work: `demo` is samples/assistant (31 tokens a row), `long` is made of
Python's own documentation (up to 400 tokens), both batches of 8.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

for name, value in {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

WARM, BATCH, SEED = 2, 8, 42
RATE, RANK, ALPHA = 1e-3, 16, 32
TRAINERS = {  # name: (kind, weights, settings as they are said in the table)
    "ours": ("ours", "bfloat16", "as shipped"),
    "ours, nothing shared": ("ours-apart", "bfloat16", "share_prefix=false"),
    "ours, float32": ("ours", "float32", "compute_dtype=float32"),
    "peft": ("peft", "float32", "Trainer's defaults"),
    "peft, bfloat16": ("peft", "bfloat16", "bfloat16 weights"),
    "TRL": ("trl", "float32", "SFTConfig's defaults: bf16 autocast, gradient checkpointing"),
    "TRL, best": ("trl-best", "bfloat16", "bfloat16 weights, no checkpointing, no autocast"),
}


def main() -> None:
    """Parse, then run as the parent or as one of the trainers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("--trl", default="")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--work", default="demo,long")
    parser.add_argument("--only", default="")
    parser.add_argument("--out", default="")
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "DTYPE", "FOLDER"), default=None)
    options = parser.parse_args()
    if options.worker:
        kind, dtype, folder = options.worker
        {"ours": run_ours, "ours-apart": run_ours, "peft": run_peft}.get(kind, run_trl)(
            Path(folder), dtype, options.steps, kind
        )
        return
    chosen = [name for name in TRAINERS if options.only == "" or name in options.only.split(";")]
    if not options.trl:
        chosen = [name for name in chosen if not name.startswith("TRL")]
    with tempfile.TemporaryDirectory() as folder:
        for work in options.work.split(","):
            measure(work, Path(folder) / work, chosen, options)


# --- the work
def prepare(work: str, base: str, folder: Path, steps: int) -> int:
    """Write rows.json (ids and labels in order), data.json (text) and base.txt; returns tokens."""
    from transformers.trainer_pt_utils import get_length_grouped_indices

    from ft2ollama.base import resolve_base
    from ft2ollama.config import load_config
    from ft2ollama.demo import samples
    from ft2ollama.train.batches import rows
    from ft2ollama.train.plan import make_plan

    folder.mkdir(parents=True)
    found, shipped = resolve_base(base), samples("en")
    talks = json.loads((shipped.dataset_dir / "assistant" / "train.en.json").read_text("utf-8"))
    if work == "long":
        talks = list(documentation(BATCH * steps))
    settings = [f"model_name_or_path={found.ref}", "proof_prompts=null", "proof_replies=0"]
    settings += [f"dataset_dir={folder}", "dataset=data.json", f"seed={SEED}"]
    settings += [f"learning_rate={RATE}", f"lora_rank={RANK}", f"lora_alpha={ALPHA}"]
    settings += [f"per_device_train_batch_size={BATCH}", f"max_steps={steps}", "num_train_epochs=1"]
    if "train_sampling_strategy" in type(load_config(shipped.config).config).model_fields:
        settings.append("train_sampling_strategy=sequential")

    def plan(ordered: list[Any]) -> Any:
        (folder / "data.json").write_text(json.dumps(ordered))
        return make_plan(load_config(shipped.config, settings).config, found)

    lengths = [len(sample.ids) for sample in plan(talks).train]
    random.seed(SEED)
    order = get_length_grouped_indices(lengths, BATCH)
    taken = [talks[i] for i in order][: BATCH * steps]
    made = rows(plan(taken).train)
    (folder / "rows.json").write_text(json.dumps(made))
    (folder / "settings.json").write_text(json.dumps([str(shipped.config), settings]))
    (folder / "base.txt").write_text(f"{found.folder}\n{found.ref}")
    return sum(len(row["input_ids"]) for row in made)


def documentation(count: int) -> Iterator[dict[str, str]]:
    """Alpaca rows: what a function of Python's library does, in the words of its docstring."""
    names = "argparse collections csv datetime decimal email.message functools heapq inspect io"
    names += " ipaddress json logging mailbox os pathlib random shutil socket statistics string"
    names += " subprocess tarfile textwrap threading typing unittest.case urllib.parse zipfile"
    found = {}
    for name in names.split():
        module = __import__(name, fromlist=["x"])
        for owner in [module, *(c for _, c in inspect.getmembers(module, inspect.isclass))]:
            for member, thing in inspect.getmembers(owner, callable):
                text = inspect.getdoc(thing) or ""
                if len(text) > 120 and text.isascii() and not member.startswith("__"):
                    found[text[:1500]] = f"What does {member} of Python's {name} do?"
    pairs = sorted(found.items())
    random.Random(SEED).shuffle(pairs)
    assert len(pairs) >= count
    for text, question in pairs[:count]:
        yield {"instruction": question, "input": "", "output": text}


# --- one trainer
def gate(step: int, loss: float) -> None:
    """Tell what the last step took, wait for the word to go on."""
    global _began
    now = (time.monotonic(), time.process_time())
    if _began is None:
        print("READY", flush=True)
    else:
        told = {"step": step, "loss": loss, "wall": now[0] - _began[0], "cpu": now[1] - _began[1]}
        print("STEP " + json.dumps(told | {"gb": peak_gb()}), flush=True)
    sys.stdin.readline()
    _began = (time.monotonic(), time.process_time())


_began: tuple[float, float] | None = None


def peak_gb() -> float:
    """The most memory this process ever held."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def run_ours(folder: Path, dtype: str, steps: int, kind: str) -> None:
    """`ft2ollama train`, less the command line."""
    import torch
    import transformers

    from ft2ollama.base import resolve_base
    from ft2ollama.config import load_config
    from ft2ollama.runs import create_run
    from ft2ollama.train.plan import make_plan
    from ft2ollama.train.trainer import train

    os.environ["FT2OLLAMA_RUNS"] = tempfile.mkdtemp()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    config, settings = json.loads((folder / "settings.json").read_text())
    settings += ["share_prefix=false"] if kind == "ours-apart" else []
    base = resolve_base((folder / "base.txt").read_text().split("\n")[1])
    plan = make_plan(load_config(Path(config), settings).config, base)
    if "train_sampling_strategy=sequential" not in settings:
        transformers.Trainer._get_train_sampler = _sequential

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            gate(event["step"], event["loss"])

    gate(0, 0.0)
    train(plan, create_run("bench", ""), dtype=dtype, device="cpu", report=report)


def _sequential(trainer: Any, dataset: Any = None) -> Any:
    from torch.utils.data import SequentialSampler

    return SequentialSampler(dataset if dataset is not None else trainer.train_dataset)


def lora_model(folder: Path, dtype: str) -> Any:
    """The base with peft's adapter, whose initial values are the same everywhere."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    base = (folder / "base.txt").read_text().split("\n")[0]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
    model.config.use_cache = False
    torch.manual_seed(SEED)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, lora)


def common(steps: int) -> dict[str, Any]:
    """Arguments that decide what is learned, the same for all."""
    return {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": BATCH,
        "max_steps": steps, "learning_rate": RATE, "lr_scheduler_type": "cosine",
        "max_grad_norm": 1.0, "weight_decay": 0.0, "warmup_steps": 0, "seed": SEED,
        "logging_steps": 1, "save_strategy": "no", "report_to": [], "use_cpu": True,
        "disable_tqdm": True,
    }  # fmt: skip


def turns() -> Any:
    """A callback that takes part in the turns."""
    from transformers import TrainerCallback

    class Turns(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            gate(0, 0.0)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                gate(state.global_step, float(logs["loss"]))

    return Turns()


def run_peft(folder: Path, dtype: str, steps: int, _: str) -> None:
    """transformers' Trainer on a peft model, padding each batch to its longest row."""
    from transformers import Trainer, TrainingArguments

    from ft2ollama.train.batches import Collator

    class Plain(Trainer):
        _get_train_sampler = _sequential

    rows = json.loads((folder / "rows.json").read_text())
    arguments = TrainingArguments(remove_unused_columns=False, **common(steps))
    trainer = Plain(
        lora_model(folder, dtype), arguments, data_collator=Collator(0), train_dataset=rows
    )
    trainer.add_callback(turns())
    trainer.train()


def run_trl(folder: Path, dtype: str, steps: int, kind: str) -> None:
    """TRL's SFTTrainer on the same ids and labels."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    class Sequential(SFTTrainer):
        _get_train_sampler = _sequential

    best = {"gradient_checkpointing": False, "bf16": False} if kind == "trl-best" else {}
    arguments = SFTConfig(
        dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, **best, **common(steps)
    )
    base = (folder / "base.txt").read_text().split("\n")[0]
    trainer = Sequential(
        lora_model(folder, dtype),
        arguments,
        train_dataset=Dataset.from_list(json.loads((folder / "rows.json").read_text())),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    trainer.add_callback(turns())
    trainer.train()


# --- the parent
def measure(work: str, folder: Path, chosen: list[str], options: argparse.Namespace) -> None:
    """Run the chosen trainers in turns and print their table."""
    tokens = prepare(work, options.base, folder, options.steps)
    print(f"\n{work}: {options.steps} steps of {BATCH} rows, {tokens} tokens; ", end="")
    print(f"load before: {os.getloadavg()[0]:.1f}, threads: {os.environ['OMP_NUM_THREADS']}\n")
    running = {name: start(name, folder, options) for name in chosen}
    steps: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    try:
        for process in running.values():
            wait_until_ready(process)
        for _ in range(options.steps):
            for name, process in list(running.items()):
                told = turn(process)
                if told is None:
                    print(f"{name} ended early; see {folder.name} {name} above", file=sys.stderr)
                    del running[name]
                else:
                    steps[name].append(told)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    table({name: found for name, found in steps.items() if found}, tokens / options.steps)
    if options.out:
        with Path(options.out).open("a") as file:
            for name, found in steps.items():
                file.write(json.dumps({"work": work, "trainer": name, "steps": found}) + "\n")


def start(name: str, folder: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    """A trainer's process."""
    kind, dtype, _ = TRAINERS[name]
    python = options.trl if kind.startswith("trl") else sys.executable
    command = [python, __file__, options.base, "--steps", str(options.steps)]
    root = str(Path(__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [*command, "--worker", kind, dtype, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        stderr=subprocess.PIPE if not os.environ.get("BENCH_DEBUG") else None,
    )  # fmt: skip


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    """It has loaded, and does nothing until it is told to: so never two of them compute at once."""
    assert process.stdout
    for line in process.stdout:
        if line == "READY\n":
            return


def turn(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """One step: what it took; None at an early end."""
    assert process.stdin
    assert process.stdout
    with suppress(BrokenPipeError):
        process.stdin.write("go\n")
        process.stdin.flush()
    for line in process.stdout:
        if line.startswith("STEP "):
            return dict(json.loads(line[5:]))
    return None


def table(steps: dict[str, list[dict[str, Any]]], tokens: float) -> None:
    """Medians after the first steps, ratios to ours, and how far the losses are from ours.

    Two ratios: of all counted steps together, which is what a training costs, and of the medians,
    which leave out the batches that hold rows of very different length.
    The losses are held against ours with the same weights: bfloat16 rounds.
    """
    ours = steps.get("ours") or next(iter(steps.values()))
    first = [step["cpu"] for step in ours[WARM:]]
    print("| trainer | settings | wall s/step | CPU s/step | tokens per CPU s |"
          " CPU, ours = 1: all steps, median | peak GB | loss at step 1, 2, last |"
          " difference: first, median, largest |")  # fmt: skip
    print("|---" * 9 + "|")
    for name, found in steps.items():
        wall, cpu = (
            statistics.median(step[unit] for step in found[WARM:]) for unit in ("wall", "cpu")
        )
        ratios = (
            sum(step["cpu"] for step in found[WARM:]) / sum(first),
            cpu / statistics.median(first),
        )
        same = "ours, float32" if TRAINERS[name][1] == "float32" else "ours"
        other = steps.get(same, ours)
        away = [abs(a["loss"] - b["loss"]) for a, b in zip(found, other, strict=False)]
        losses = " ".join(f"{found[i]['loss']:.4f}" for i in (0, 1, -1))
        print(
            f"| {name} | {TRAINERS[name][2]} | {wall:.2f} | {cpu:.2f} | {tokens / cpu:.0f} | "
            f"{ratios[0]:.2f}, {ratios[1]:.2f} | {found[-1]['gb']:.2f} | {losses} | "
            f"{away[0]:.4f} {statistics.median(away):.4f} {max(away):.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
