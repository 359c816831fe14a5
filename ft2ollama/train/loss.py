"""Cross entropy over the learned tokens only: the head is never computed where the loss is masked.

The sum over learned tokens is divided by their number in the whole optimizer step, so the result
does not depend on how the step was cut into micro-batches (transformers #34191). Skipping masked
positions saves most where the head is large: a fifth of SmolLM2-135M's parameters. The gradient is
made in the forward pass, some rows at a time, so the logits are never held whole; where the model
changes its logits, or trains its head, torch makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ft2ollama.data.render import IGNORED
from ft2ollama.estimate.job import CHUNK_BYTES

if TYPE_CHECKING:
    import torch

# Architectures that change the logits after the head; for these the model's own forward is used.
_LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")


def changes_logits(config: Any) -> bool:
    """Does the model do more than `head(hidden)`?"""
    return any(getattr(config, name, None) for name in _LOGIT_CHANGES)


def learned_loss(
    model: Any, inputs: dict[str, Any], n_learned: int | torch.Tensor | None
) -> torch.Tensor:
    """Mean cross entropy in nats of a batch made by `Collator` or `PaddingFree`.

    model: a PEFT model (or a plain causal LM).  n_learned: learned tokens in the optimizer step;
    None takes those of this batch.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    labels = inputs["labels"][:, 1:]
    fed = {name: value for name, value in inputs.items() if name not in ("labels", "tokens")}
    if "cu_seq_lens_q" in fed:
        from ft2ollama.train.attention import placeholder_mask

        fed["attention_mask"] = placeholder_mask(labels.device)
    mask = labels != IGNORED  # [batch, length - 1], or [1, length] without padding
    targets = labels[mask]
    total = _total(causal, fed, mask, targets)
    return total / (targets.numel() if n_learned is None else n_learned)


def _total(
    causal: Any, fed: dict[str, Any], mask: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Sum of the cross entropies of the tokens chosen by `mask`."""
    import torch

    length = mask.shape[1]
    if changes_logits(causal.config):
        # By the class: who calls this may have put a loss in the place of the object's forward.
        logits = type(causal).forward(causal, **fed).logits[:, :length][mask]
        return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
    decoder = getattr(causal, causal.base_model_prefix)
    hidden = decoder(**fed).last_hidden_state[:, :length][mask]
    head = causal.get_output_embeddings()
    if type(head) is torch.nn.Linear and head.bias is None and not head.weight.requires_grad:
        return head_loss(hidden, head.weight, targets)
    return torch.nn.functional.cross_entropy(head(hidden).float(), targets, reduction="sum")


def head_loss(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of cross entropies of a frozen head.  hidden: [n, h], weight: [vocab, h]."""
    import torch

    class HeadLoss(torch.autograd.Function):  # type: ignore[misc]
        """The gradient of `hidden` is made chunk by chunk while the logits are at hand."""

        @staticmethod
        def forward(ctx: Any, hidden: torch.Tensor) -> torch.Tensor:
            rows = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
            grads, total = [], hidden.new_zeros((), dtype=torch.float32)
            for part, target in zip(hidden.split(rows), targets.split(rows), strict=True):
                # log_softmax, in the place of the scores: one exp, and no second array of this size
                scores = (part @ weight.t()).float()
                scores -= scores.amax(-1, keepdim=True)
                wanted = scores.gather(1, target[:, None])
                sums = scores.exp_().sum(-1, keepdim=True)
                total = total + (sums.log() - wanted).sum()
                if ctx.needs_input_grad[0]:
                    grad = scores.div_(sums)
                    grad[torch.arange(len(target)), target] -= 1
                    grads.append(grad.to(weight.dtype) @ weight)
            ctx.grad = torch.cat(grads) if grads else None
            return total

        @staticmethod
        def backward(ctx: Any, outer: torch.Tensor) -> torch.Tensor:
            return ctx.grad * outer.to(ctx.grad.dtype)

    total: torch.Tensor = HeadLoss.apply(hidden)
    return total
