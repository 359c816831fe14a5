"""KL divergence of a run's GGUF files from base + adapter in transformers, float32.

    python benchmarks/fidelity.py RUN [POSITIONS]

Positions are spread over the run's reference replies (proof/replies.jsonl), teacher-forced.
llama.cpp (xllamacpp) gives the whole distribution of every file; its defaults hold (float16 KV
cache).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from llama_cpp import LlamaCpp, kl

from ft2ollama.base import resolve_base
from ft2ollama.data.render import Tokenizer
from ft2ollama.export import export
from ft2ollama.files import read_jsonl
from ft2ollama.runs import Run, find_run
from ft2ollama.template import render_jinja
from ft2ollama.train.model import load_trained

FORMS = (("model", "F16"), ("model", "BF16"), ("model", "Q8_0"), ("adapter", "F16"))


def reference(run: Run, folder: Path, positions: int) -> list[tuple[list[int], np.ndarray]]:
    """(ids so far, log-probabilities of the next token) at `positions` places of the replies."""
    jinja = json.loads((run.proof / "template.json").read_text("utf-8"))["jinja"]
    tokenizer = Tokenizer(folder)
    model = load_trained(folder, run.adapter, torch.float32)
    places = []
    for reply in read_jsonl(run.proof / "replies.jsonl"):
        prompt, _ = tokenizer.encode(
            render_jinja(jinja, reply["messages"], add_generation_prompt=True)
        )
        places += [prompt + reply["ids"][:n] for n in range(len(reply["ids"]) + 1)]
    chosen = [places[i * len(places) // positions] for i in range(min(positions, len(places)))]
    found = []
    with torch.inference_mode():
        for ids in chosen:
            logits = model(torch.tensor([ids])).logits[0, -1]
            found.append((ids, logits.log_softmax(-1).double().numpy()))
    return found


def main() -> None:
    """Print a row per form."""
    torch.set_num_threads(1)
    run = find_run(sys.argv[1] if len(sys.argv) > 1 else "latest")
    base = resolve_base(run.record["base"]["ref"])
    wanted = reference(run, base.folder, int(sys.argv[2]) if len(sys.argv) > 2 else 80)
    print("| form | positions | mean KL | max KL | same first choice |")
    print("|---|---|---|---|---|")
    for kind, quant in FORMS:
        path = export(run, base, kind=kind, quant=quant).path
        judge = LlamaCpp(path) if kind == "model" else LlamaCpp(base.gguf, path)
        got = [judge.logprobs(ids, len(want)) for ids, want in wanted]
        values = [kl(want, have) for (_, want), have in zip(wanted, got, strict=True)]
        same = np.mean([w.argmax() == g.argmax() for (_, w), g in zip(wanted, got, strict=True)])
        mean = np.mean(values)
        print(f"| {kind} {quant} | {len(values)} | {mean:.2e} | {max(values):.2e} | {same:.1%} |")


if __name__ == "__main__":
    main()
