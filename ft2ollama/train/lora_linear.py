"""One autograd function for frozen linear layers and their LoRA pairs.

    y = x W^T + bias + scale (x A^T) B^T

In: a PEFT model.  Out: the same model, whose LoRA layers run `LoraLinear` wherever it computes what
PEFT computes: one active adapter, no dropout, no DoRA, no bias on the LoRA pair, a frozen base. Of
such a layer it keeps x and x A^T for the backward pass and nothing else; PEFT's own forward makes a
float32 copy of x, a product, a scaled product and a sum, and keeps some of them. The small products
add into the large one's result. A 4-bit base (bitsandbytes) is dequantized in both passes.

Layers that get the same x (q, k and v; gate and up) are computed together: their A matrices stand
in one product, and their gradients for x add up inside the products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def fuse_lora(model: Any) -> int:
    """Give every LoRA layer that allows it the fused forward; returns how many that were."""
    from peft.tuners.lora.layer import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    chosen = {id(module): module for module in layers if can_fuse(module)}
    groups = [*_siblings(model, chosen), *([module] for module in chosen.values())]
    done: set[int] = set()
    for members in groups:
        if not done.intersection(map(id, members)):
            done.update(map(id, members))
            shared = _Shared(members)
            for number, module in enumerate(members):
                module.forward = partial(_forward, shared, number, module.forward)
    return len(done)


def _siblings(model: Any, chosen: dict[int, Any]) -> list[list[Any]]:
    """Groups of layers of one parent that are called with the same input."""
    groups = []
    for parent in model.modules():
        for names in _TOGETHER:
            members = [getattr(parent, name, None) for name in names]
            if all(id(member) in chosen for member in members):
                groups.append(members)
    return groups


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


class _Shared:
    """Layers that are called one after the other with the same x: the first call computes all."""

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = members
        self._x: torch.Tensor | None = None
        self._outputs: dict[int, torch.Tensor] = {}

    def output(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """What member `number` gives for x."""
        if x is not self._x or number not in self._outputs:
            self._outputs = dict(enumerate(self._compute(x)))
            self._x = x
        found = self._outputs.pop(number)
        if not self._outputs:
            self._x = None
        return found

    def _compute(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        bases = [module.get_base_layer() for module in self.members]
        names = [module.active_adapters[0] for module in self.members]
        pairs = list(zip(self.members, names, strict=True))
        found: tuple[torch.Tensor, ...] = LoraLinear.apply(
            x,
            [base.weight for base in bases],
            [base.bias for base in bases],
            [module.scaling[name] for module, name in pairs],
            *(module.lora_A[name].weight for module, name in pairs),
            *(module.lora_B[name].weight for module, name in pairs),
        )
        return found


def _forward(
    shared: _Shared, number: int, plain: Callable[..., Any], x: torch.Tensor, *args: Any, **kw: Any
) -> Any:
    """PEFT's forward where the fused one does not apply: merged, switched off, under autocast."""
    unusual = args or kw or torch.is_autocast_enabled(x.device.type)
    if unusual or any(_switched(module) for module in shared.members):
        return plain(x, *args, **kw)
    return shared.output(number, x)


def _switched(module: Any) -> bool:
    state = getattr(module.get_base_layer().weight, "quant_state", None)
    packed = getattr(state, "packing_format_for_cpu", False)
    return bool(module.disable_adapters or module.merged or packed)


class LoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """n layers on one x.  x: [..., n_in], weights: [n_out, n_in] each (or 4 bit); out: n tensors.

    pairs: the A matrices [rank, n_in] of all layers, then their B matrices [n_out, rank].
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor | None],
        scales: Sequence[float],
        *pairs: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """y of every layer: [..., n_out]."""
        count = len(weights)
        ranks = [a.shape[0] for a in pairs[:count]]
        rows = x.reshape(-1, x.shape[-1])
        a = torch.cat([one.to(x.dtype) for one in pairs[:count]])
        inner = list((rows @ a.t()).split(ranks, dim=1))
        small = [one.to(x.dtype) for one in pairs[count:]]
        outputs = []
        for weight, bias, scale, h, b in zip(weights, biases, scales, inner, small, strict=True):
            h.mul_(scale)
            bias = None if bias is None else bias.to(x.dtype)
            y = torch.nn.functional.linear(rows, dequantized(weight, x.dtype), bias)
            y.addmm_(h, b.t())
            outputs.append(y.view(*x.shape[:-1], y.shape[-1]))
        ctx.save_for_backward(rows, a, *inner, *small)
        ctx.weights, ctx.scales, ctx.kinds = weights, scales, [one.dtype for one in pairs]
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """Gradients of x, of every A and of every B."""
        count, (rows, a, *saved) = len(ctx.weights), ctx.saved_tensors
        inner, small = saved[:count], saved[count:]
        flat = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        g_inner = torch.cat(
            [(g @ b).mul_(scale) for g, b, scale in zip(flat, small, ctx.scales, strict=True)], 1
        )
        dx = _gradient_of_x(ctx, flat, g_inner, a) if ctx.needs_input_grad[0] else None
        ranks = [h.shape[1] for h in inner]
        da = (g_inner.t() @ rows).split(ranks)
        db = [(h.t() @ g).t() for h, g in zip(inner, flat, strict=True)]
        made = [one.to(kind) for one, kind in zip((*da, *db), ctx.kinds, strict=True)]
        return None if dx is None else dx.view(*grads[0].shape[:-1], -1), None, None, None, *made


def _gradient_of_x(
    ctx: Any, flat: Sequence[torch.Tensor], g_inner: torch.Tensor, a: torch.Tensor
) -> torch.Tensor:
    """[tokens, n_in]: every product adds into the first one's result."""
    dx = flat[0] @ dequantized(ctx.weights[0], flat[0].dtype)
    for g, weight in zip(flat[1:], ctx.weights[1:], strict=True):
        dx.addmm_(g, dequantized(weight, g.dtype))
    return dx.addmm_(g_inner, a)


def dequantized(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The [n_out, n_in] matrix of a linear layer, whether stored in 4 bits or as it is."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight.to(dtype)
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state).to(dtype)
