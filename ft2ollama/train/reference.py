"""What the trained model says, written down so that the server can be held to it.

    proof/template.json   the chat template that trained: family, Jinja, Go template, stop, system
    proof/prompts.jsonl   conversations with the prompt's exact text and token ids
    proof/replies.jsonl   greedy replies of base + adapter: text, ids, stopped
    proof/effect.json     places at which it writes what was taught and the base something else

`publish` reads these files; it needs neither torch nor the base model.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ft2ollama.files import write_json, write_jsonl
from ft2ollama.proof import capabilities, expected_prompts, proof_cases
from ft2ollama.runs import Run
from ft2ollama.train.callbacks import Report
from ft2ollama.train.effect import choose_samples, effect, score
from ft2ollama.train.model import load_run, load_trained
from ft2ollama.train.plan import Plan
from ft2ollama.train.proof_rows import REPLY_TOKENS, data_cases, held_out, questions
from ft2ollama.train.speaker import Style, choice, tokens

__all__ = ["REPLY_TOKENS", "greedy", "prompts", "replies", "write_proof"]


def write_proof(plan: Plan, run: Run, *, device: str, report: Report) -> list[Path]:
    """Write the files; returns their paths. The model is loaded for replies and effect alone."""
    names = ("template.json", "prompts.jsonl", "replies.jsonl", "effect.json")
    paths = [run.proof / name for name in names]
    write_json(paths[0], {**asdict(plan.template), "system": plan.system})
    write_jsonl(paths[1], prompts(plan))
    paths[3].unlink(missing_ok=True)
    if not plan.config.proof_replies:
        write_jsonl(paths[2], [])
        return paths[:3]
    report({"event": "phase", "phase": "writing reference replies"})
    samples = choose_samples(plan.train, plan.config.seed)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    before = _base_of_whole(plan, run, samples, dtype, device)
    model = load_run(run, plan.base.folder, dtype).to(device)
    write_jsonl(paths[2], replies(plan, model, report))
    if before is None:
        with model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
            before = score(model, samples)
    bos = plan.template.special_tokens.get("bos_token") or ""
    found = effect(samples, before, score(model, samples), plan.tokenizer, bos=bos)
    write_json(paths[3], found)
    return paths


def _base_of_whole(plan: Plan, run: Run, samples: Any, dtype: torch.dtype, device: str) -> Any:
    """The base's choices where the run holds a whole model: the base is loaded, and let go."""
    if not run.is_whole:
        return None
    return score(load_trained(plan.base.folder, None, dtype).to(device), samples)


def prompts(plan: Plan) -> list[dict[str, Any]]:
    """The cases of the template's abilities and three training conversations."""
    cases = [*proof_cases(capabilities(plan.template.gotmpl)), *data_cases(plan)]
    found = expected_prompts(
        plan.template,
        plan.tokenizer,
        cases,
        system=plan.system,
        thinking=plan.config.enable_thinking,
    )
    return [prompt.as_row() for prompt in found]


def replies(plan: Plan, model: Any, report: Report) -> list[dict[str, Any]]:
    """Greedy replies of the trained model, each as long as its question's limit.

    In float32 on a CPU; on a GPU in bfloat16, because float32 weights would need more room than
    the training itself had.
    """
    stop = {plan.tokenizer.id(word) for word in plan.template.stop}
    asked, found = questions(plan, plan.config.proof_replies), []
    for number, question in enumerate(asked, 1):
        limit = question.pop("limit")
        question.pop("answer", None)
        text = plan.template.render(
            question["messages"],
            tools=question["tools"],
            add_generation_prompt=True,
            thinking=plan.config.enable_thinking,
        )
        prompt, _ = plan.tokenizer.encode(text)
        ids, stopped = greedy(model, prompt, stop, limit)
        found.append(
            {
                **question,
                "text": plan.tokenizer.decode(ids),
                "raw": plan.tokenizer.decode(ids, skip_special_tokens=False),
                "ids": ids,
                "stopped": stopped,
                "held_out": held_out(plan),
            }
        )
        report({"event": "reply", "done": number, "of": len(asked)})
    return found


def greedy(
    model: Any, prompt: list[int], stop: set[int | None], limit: int
) -> tuple[list[int], bool]:
    """(reply ids without the stop token, was a stop token reached) by argmax with a KV cache."""
    found: list[int] = []
    for token in tokens(model, prompt, limit, choice(Style())):
        if token in stop:
            return found, True
        found.append(token)
    return found, False
