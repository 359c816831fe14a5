"""Cross entropy over the learned tokens only: the head is never computed where the loss is masked.

The sum over learned tokens is divided by their number in the whole optimizer step, so the result
does not depend on how the step was cut into micro-batches (transformers #34191). Skipping masked
positions saves most where the head is large: a fifth of SmolLM2-135M's parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ft2ollama.data.render import IGNORED

if TYPE_CHECKING:
    import torch

# Architectures that change the logits after the head; for these the model's own forward is used.
_LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")


def changes_logits(config: Any) -> bool:
    """Does the model do more than `head(hidden)`?"""
    return any(getattr(config, name, None) for name in _LOGIT_CHANGES)


def learned_loss(
    model: Any, inputs: dict[str, torch.Tensor], n_learned: int | torch.Tensor | None
) -> torch.Tensor:
    """Mean cross entropy in nats.  input_ids, attention_mask, labels: [batch, length].

    model: a PEFT model (or a plain causal LM).  n_learned: learned tokens in the optimizer step.
    """
    import torch

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    targets = inputs["labels"][:, 1:]
    mask = targets != IGNORED  # [batch, length - 1]
    if changes_logits(causal.config):
        output = causal(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        logits = output.logits[:, :-1][mask]
    else:
        decoder = getattr(causal, causal.base_model_prefix)
        hidden = decoder(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).last_hidden_state
        logits = causal.get_output_embeddings()(hidden[:, :-1][mask])  # [learned, vocab]
    total = torch.nn.functional.cross_entropy(logits.float(), targets[mask], reduction="sum")
    return total / (mask.sum() if n_learned is None else n_learned)
