"""RMS norm with a frozen weight as one autograd function: fewer passes over memory, less kept.

In: a model.  Out: the same model, with the norms switched that compute `x / rms(x) * weight` in the
way of transformers' LlamaRMSNorm (float32 inside, rounded before the weight); each is tried on
random numbers first, so a norm that adds 1 to its weight, as Gemma's does, stays as it is.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch


def fuse_norms(model: Any) -> int:
    """Switch what can be switched; returns how many norms that were."""
    fused = 0
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and _fits(module):
            module.forward = partial(_forward, module, module.forward)
            fused += 1
    return fused


def _fits(module: Any) -> bool:
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if weight is None or epsilon is None or weight.requires_grad or weight.ndim != 1:
        return False
    x = torch.randn(3, len(weight), generator=torch.Generator().manual_seed(0))
    x = x.to(device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        wanted, found = module(x).float(), RmsNorm.apply(x, weight, epsilon).float()
    return float((wanted - found).norm()) <= 1e-2 * float(wanted.norm())


def _forward(module: Any, plain: Any, x: torch.Tensor) -> Any:
    if x.dtype != module.weight.dtype or module.weight.requires_grad:
        return plain(x)
    return RmsNorm.apply(x, module.weight, module.variance_epsilon)


class RmsNorm(torch.autograd.Function):  # type: ignore[misc]
    """x: [..., n], weight: [n], frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """x / rms(x) in float32, rounded, times weight."""
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
        inverse = square.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, inverse)
        ctx.weight = weight
        return (x * inverse).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """The gradient of x: what changes the length of x is taken out."""
        x, inverse = ctx.saved_tensors
        scaled = (grad * ctx.weight).float()
        unit = x * inverse
        along = (unit * scaled).mean(-1, keepdim=True)
        return scaled.addcmul_(unit, along, value=-1).mul_(inverse).to(x.dtype), None, None
