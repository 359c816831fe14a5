"""What the trained model says, written down so that the server can be held to it.

    proof/template.json   the chat template that trained: family, Jinja, Go template, stop, system
    proof/prompts.jsonl   conversations with the prompt's exact text and token ids
    proof/replies.jsonl   greedy replies of base + adapter: text, ids, stopped

`publish` reads these files; it needs neither torch nor the base model.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ft2ollama.data.conversation import Conversation
from ft2ollama.families import family_cases
from ft2ollama.files import write_json, write_jsonl
from ft2ollama.runs import Run
from ft2ollama.train.callbacks import Report
from ft2ollama.train.model import load_run
from ft2ollama.train.plan import Plan, proof_conversations

REPLY_TOKENS = 48


def write_proof(plan: Plan, run: Run, *, device: str, report: Report) -> list[Path]:
    """Write the three files; returns their paths."""
    paths = [run.proof / name for name in ("template.json", "prompts.jsonl", "replies.jsonl")]
    write_json(paths[0], {**asdict(plan.template), "system": plan.system})
    write_jsonl(paths[1], prompts(plan))
    questions = proof_conversations(plan, plan.config.proof_replies)
    write_jsonl(paths[2], replies(plan, run, questions, device=device, report=report))
    return paths


def prompts(plan: Plan) -> list[dict[str, Any]]:
    """The family's cases and three training conversations: messages, text, ids."""
    cases = family_cases(plan.template.family)
    for row in [row for row in plan.conversations if not _has_tools(row)][:3]:
        cases.append((f"training data, {Path(row.place).name}", list(row.messages[:-1])))
    found = []
    for name, given in cases:
        messages = given
        if plan.system and given[0]["role"] != "system":
            messages = [{"role": "system", "content": plan.system}, *given]
        text = _prompt(plan, messages)
        ids, _ = plan.tokenizer.encode(text)
        found.append({"name": name, "messages": given, "text": text, "ids": ids})
    return found


def _has_tools(row: Conversation) -> bool:
    return bool(row.tools) or any("tool_calls" in message for message in row.messages)


def _prompt(plan: Plan, messages: Any) -> str:
    return plan.template.render(
        messages, add_generation_prompt=True, thinking=plan.config.enable_thinking
    )


def replies(
    plan: Plan, run: Run, questions: list[dict[str, Any]], *, device: str, report: Report
) -> list[dict[str, Any]]:
    """Greedy replies of the trained model, at most REPLY_TOKENS tokens each.

    In float32 on a CPU; on a GPU in bfloat16, because float32 weights would need more room than
    the training itself had.
    """
    if not questions:
        return []
    report({"event": "phase", "phase": "writing reference replies"})
    model = load_run(
        run, plan.base.folder, torch.float32 if device == "cpu" else torch.bfloat16
    ).to(device)
    stop = {plan.tokenizer.id(word) for word in plan.template.stop}
    found = []
    for number, question in enumerate(questions, 1):
        text = _prompt(plan, question["messages"])
        prompt, _ = plan.tokenizer.encode(text)
        ids, stopped = greedy(model, prompt, stop, REPLY_TOKENS)
        found.append(
            {**question, "text": plan.tokenizer.decode(ids), "ids": ids, "stopped": stopped}
        )
        report({"event": "reply", "done": number, "of": len(questions)})
    return found


def greedy(
    model: Any, prompt: list[int], stop: set[int | None], limit: int
) -> tuple[list[int], bool]:
    """(reply ids without the stop token, was a stop token reached) by argmax with a KV cache."""
    found: list[int] = []
    past, ids = None, torch.tensor([prompt], device=model.device)
    for _ in range(limit):
        with torch.inference_mode():
            output = model(input_ids=ids, past_key_values=past, use_cache=True)
        token = int(output.logits[0, -1].argmax())
        if token in stop:
            return found, True
        found.append(token)
        past, ids = output.past_key_values, torch.tensor([[token]], device=model.device)
    return found, False
