"""How surprised a model is by a reply: is this what it could have said?

In: a model folder, an adapter, prompts with somebody's replies.  Out: for each the mean surprise
per token (nats) of that reply, and of the model's own greedy one. A quantized copy words an answer
otherwise after some tokens, so texts part although both are good; but the reference finds what its
copy says about as likely as what it would say itself, and garbage not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft2ollama.train.reference import greedy


@dataclass(frozen=True)
class Asked:
    """ids of a prompt and of the reply that was given to it."""

    prompt: Sequence[int]
    reply: Sequence[int]


@dataclass(frozen=True)
class Surprise:
    """given, own: nats per token.  ids: the model's own reply.  stopped: it ended by itself."""

    given: float
    own: float
    ids: tuple[int, ...]
    stopped: bool


def surprises(
    folder: Path, adapter: Path | None, asked: Sequence[Asked], stop: set[int | None], limit: int
) -> list[Surprise]:
    """In float32 on the CPU. limit: tokens of an own reply."""
    import torch
    import transformers

    from ft2ollama.train.model import load_trained

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = load_trained(folder, adapter, torch.float32)
    found = []
    for one in asked:
        ids, stopped = greedy(model, list(one.prompt), stop, limit)
        found.append(
            Surprise(
                _mean(model, one.prompt, one.reply), _mean(model, one.prompt, ids), tuple(ids),
                stopped,
            )
        )  # fmt: skip
    return found


def _mean(model: Any, prompt: Sequence[int], reply: Sequence[int]) -> float:
    """Nats per token of `reply`; 0 for an empty one."""
    import torch

    if not reply:
        return 0.0
    ids = torch.tensor([[*prompt, *reply]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
    losses = torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :])
    return float(losses)
