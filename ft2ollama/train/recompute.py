"""Which layers are computed again in the backward pass: only those whose values do not fit.

In: the model, the tokens of a micro-batch and the free memory.  Out: some decoder layers marked for
transformers' own gradient checkpointing (non-reentrant). What one layer keeps is counted, not
guessed: a short forward pass with torch's hooks on saved tensors sees every byte, whatever the
architecture, the adapter and the fused parts. At dropout 0 recomputing changes no bit of the
result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

PROBE_TOKENS = 64
MARGIN = 0.10  # of the free memory: fragments, libraries' workspaces
_ADAM = 12  # bytes per trained value: its gradient and two moments in float32


@dataclass(frozen=True)
class Kept:
    """Bytes a token leaves in memory until its backward pass.

    layer: of one decoder layer computed normally.  border: of one that is computed again.
    """

    layer: float
    border: float


def decoder_layers(model: Any) -> list[Any]:
    """The layers that can be computed again, in their order."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def measure_kept(model: Any, tokens: int = PROBE_TOKENS) -> Kept:
    """Count the bytes that a forward pass of `tokens` tokens saves for the backward pass."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = getattr(causal, causal.base_model_prefix)
    device, hidden = causal.device, causal.config.get_text_config().hidden_size
    own = {weight.untyped_storage().data_ptr() for weight in causal.state_dict().values()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.arange(tokens, device=device)[None] % causal.config.get_text_config().vocab_size
    was_training = causal.training
    causal.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        kept_alive = decoder(input_ids=ids).last_hidden_state
    causal.train(was_training)
    layers = max(1, len(decoder_layers(model)))
    del kept_alive
    width = next(causal.parameters()).element_size()
    return Kept(sum(seen.values()) / tokens / layers, float(hidden * width))


def layers_to_recompute(layers: int, tokens: int, kept: Kept, free: float) -> int:
    """How many of `layers` must be computed again so that `tokens` fit into `free` bytes.

    One recomputed layer is whole again during its backward pass.
    """
    if layers * tokens * kept.layer <= free:
        return 0
    saved = tokens * max(kept.layer - kept.border, 1e-9)
    missing = (layers + 1) * tokens * kept.layer - free
    return min(layers, max(1, math.ceil(missing / saved)))


def recompute(model: Any, count: int) -> None:
    """Mark the first `count` decoder layers; 0 marks none."""
    layers = decoder_layers(model)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if count <= 0:
        causal.gradient_checkpointing_disable()
        return
    causal.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in layers[count:]:
        layer.gradient_checkpointing = False


def free_for_activations(model: Any) -> float:
    """Bytes of the GPU that the values of a step may take, gradients and Adam's state set aside."""
    free, _ = torch.cuda.mem_get_info()
    free += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return float(free * (1 - MARGIN) - trained * _ADAM)


def tokens_at_once(lengths: Sequence[int], rows: int, *, padding: bool) -> int:
    """Tokens of the largest micro-batch of `rows` rows."""
    longest = sorted(lengths, reverse=True)[:rows]
    return rows * longest[0] if padding else sum(longest)
