"""One autograd function for a frozen linear layer and its LoRA pair.

    y = x W^T + bias + scale (x A^T) B^T

In: a PEFT model.  Out: the same model, whose LoRA layers run `LoraLinear` wherever it computes what
PEFT computes: one active adapter, no dropout, no DoRA, no bias on the LoRA pair, a frozen base. Of
such a layer it keeps x and x A^T for the backward pass and nothing else; PEFT's own forward makes a
float32 copy of x, a product, a scaled product and a sum, and keeps some of them. The small products
add into the large one's result. A 4-bit base (bitsandbytes) is dequantized in both passes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch


def fuse_lora(model: Any) -> int:
    """Give every LoRA layer that allows it the fused forward; returns how many that were."""
    from peft.tuners.lora.layer import LoraLayer

    fused = 0
    for module in model.modules():
        if isinstance(module, LoraLayer) and can_fuse(module):
            module.forward = partial(_forward, module, module.forward)
            fused += 1
    return fused


def can_fuse(module: Any) -> bool:
    """Does `LoraLinear` compute what this PEFT layer computes?"""
    names = list(module.active_adapters)
    if len(names) != 1 or set(module.lora_A) != set(names) or module.lora_variant:
        return False
    base, name = module.get_base_layer(), names[0]
    return (
        isinstance(base, torch.nn.Linear)  # bitsandbytes' Linear4bit is one too
        and type(base).__name__ in ("Linear", "Linear4bit")
        and not base.weight.requires_grad
        and (base.bias is None or not base.bias.requires_grad)
        and isinstance(module.lora_dropout[name], torch.nn.Identity)
        and module.lora_A[name].bias is None
        and module.lora_B[name].bias is None
    )


def keep_trainable(model: Any) -> None:
    """Keep bitsandbytes from rearranging 4-bit weights on a CPU when a model is only evaluated.

    On a CPU with avx512_bf16 the first evaluation does so for good, rounds the scales, and from
    then on the layer gives no gradient (bitsandbytes 0.50, nn/modules.py, Linear4bit.forward).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _forward(module: Any, plain: Callable[..., Any], x: torch.Tensor, *args: Any, **kw: Any) -> Any:
    """PEFT's forward where the fused one does not apply: merged, switched off, under autocast."""
    base = module.get_base_layer()
    packed = getattr(getattr(base.weight, "quant_state", None), "packing_format_for_cpu", False)
    unusual = args or kw or module.disable_adapters or module.merged or packed
    if unusual or torch.is_autocast_enabled(x.device.type):
        return plain(x, *args, **kw)
    name = module.active_adapters[0]
    return LoraLinear.apply(
        x,
        base.weight,
        base.bias,
        module.lora_A[name].weight,
        module.lora_B[name].weight,
        module.scaling[name],
    )


class LoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """x: [..., n_in], weight: [n_out, n_in] (or 4 bit), a: [rank, n_in], b: [n_out, rank]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """y: [..., n_out]."""
        rows = x.reshape(-1, x.shape[-1])
        a_used, b_used = a.to(x.dtype), b.to(x.dtype)
        inner = (rows @ a_used.t()).mul_(scale)
        bias = None if bias is None else bias.to(x.dtype)
        y = torch.nn.functional.linear(rows, dequantized(weight, x.dtype), bias)
        y.addmm_(inner, b_used.t())
        ctx.save_for_backward(rows, inner, a_used, b_used)
        ctx.weight, ctx.scale, ctx.kinds = weight, scale, (a.dtype, b.dtype)
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Gradients of x, a and b."""
        rows, inner, a, b = ctx.saved_tensors
        g = grad.reshape(-1, grad.shape[-1])
        g_inner = (g @ b).mul_(ctx.scale)  # [tokens, rank]
        dx = None
        if ctx.needs_input_grad[0]:
            dx = g @ dequantized(ctx.weight, g.dtype)
            dx.addmm_(g_inner, a)
            dx = dx.view(*grad.shape[:-1], dx.shape[-1])
        da = (g_inner.t() @ rows).to(ctx.kinds[0])
        db = (inner.t() @ g).t().to(ctx.kinds[1])
        return dx, None, None, da, db, None


def dequantized(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The [n_out, n_in] matrix of a linear layer, whether stored in 4 bits or as it is."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight.to(dtype)
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state).to(dtype)
