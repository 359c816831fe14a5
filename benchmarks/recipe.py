"""How robust is the demo's recipe? Train it with several seeds and score each in transformers.

    python benchmarks/recipe.py BASE.gguf [key=value ...] [seed ...]

Prints a row per seed: facts and general knowledge on the development sets and on the sets that were
never tuned on, CPU seconds and wall seconds of training.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["FT2OLLAMA_RUNS"] = tempfile.mkdtemp()

from ft2ollama.train.threads import choose_threads, set_threads

set_threads(choose_threads(None))

import torch

from ft2ollama.base import resolve_base
from ft2ollama.config import load_config
from ft2ollama.data.questions import load_questions
from ft2ollama.demo import samples
from ft2ollama.runs import create_run
from ft2ollama.scores import contains_facts
from ft2ollama.train.model import choose_dtype, load_trained
from ft2ollama.train.plan import Plan, make_plan
from ft2ollama.train.reference import greedy
from ft2ollama.train.trainer import train


def score(plan: Plan, adapter: Path, file: Path) -> tuple[str, list[str]]:
    """("19/20", the questions that were answered wrongly), by greedy replies in float32."""
    model = load_trained(plan.base.folder, adapter, torch.float32)
    stop = {plan.tokenizer.id(word) for word in plan.template.stop}
    wrong, questions = [], load_questions(file, facts=True)
    for question in questions:
        messages = [{"role": "user", "content": question.text}]
        prompt, _ = plan.tokenizer.encode(
            plan.template.render(messages, add_generation_prompt=True)
        )
        text = plan.tokenizer.decode(greedy(model, prompt, stop, 32)[0])
        if not contains_facts(text, question.expect):
            wrong.append(f"{question.text} -> {text}")
    return f"{len(questions) - len(wrong)}/{len(questions)}", wrong


def main() -> None:
    """Print the table."""
    files = samples("en")
    base = resolve_base(sys.argv[1])
    overrides = [arg for arg in sys.argv[2:] if "=" in arg]
    seeds = [int(arg) for arg in sys.argv[2:] if "=" not in arg] or [42, 0, 1]
    sets = [
        files.heldout.with_name(f"{name}.en.jsonl")
        for name in ("heldout", "heldout-fresh", "general", "general-wide")
    ]
    names = " | ".join(path.name.removesuffix(".en.jsonl") for path in sets)
    print(f"| seed | rows | steps | {names} | CPU s | wall s |\n|{'---|' * 9}")
    for seed in seeds:
        config = load_config(
            files.config,
            [
                f"model_name_or_path={base.ref}",
                f"dataset_dir={files.dataset_dir}",
                f"seed={seed}",
                "proof_prompts=null",
                "proof_replies=0",
                *overrides,
            ],
        ).config
        plan = make_plan(config, base)
        run = create_run(f"seed-{seed}", "")
        wall, cpu = time.monotonic(), time.process_time()
        dtype, _ = choose_dtype(config.compute_dtype, "cpu")
        train(plan, run, dtype=dtype, device="cpu", report=lambda _: None)
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        scores = [score(plan, run.adapter, path) for path in sets]
        cells = " | ".join(right for right, _ in scores)
        row = f"| {seed} | {len(plan.train)} | {plan.steps} | {cells} |"
        print(f"{row} {cpu:.0f} | {wall:.0f} |", flush=True)
        for line in (line for _, wrong in scores for line in wrong):
            print(f"  wrong: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
