"""Which inputs each expert of a mixture meets: sums of squares by expert, as in an imatrix.

In: a model whose experts are stacked parameters (transformers 5: `gate_up_proj` [E, 2 * inner,
width], gate first, and `down_proj` [E, width, inner]). Out: per layer two inputs, that of gate and
up and that of down, each [E, n_cols] with the tokens the router sent there. The stacks are no
layers that could be watched, so a hook sees what the router chose and computes the input of down
once more; experts cost twice as much in this pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch


class ExpertSums:
    """Running sums of x^2 and counts of tokens, for both parts of the conversations.

    linears: linear -> input; n_cols, n_experts: of each input. Names as the quantizer calls the
    stacks: `<layer>.mlp.experts.{gate,up,down}_proj`.
    """

    def __init__(self, causal: Any) -> None:
        self.linears: dict[str, str] = {}
        self.n_cols: dict[str, int] = {}
        self.n_experts: dict[str, int] = {}
        self._modules = stacks(causal)
        self._sums: dict[str, torch.Tensor] = {}  # [2, E, n_cols]
        self._counts: dict[str, torch.Tensor] = {}  # [2, E]
        self._mask: Any = None
        self._part = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every stack."""
        with ExitStack() as hooks:
            for name, module in self._modules.items():
                handle = module.register_forward_pre_hook(self._hook(name))
                hooks.callback(handle.remove)
            yield

    def start(self, mask: torch.Tensor, part: int) -> None:
        """A new batch. mask: [batch, length], true where a token is."""
        self._mask, self._part = mask.reshape(-1), part

    def arrays(
        self, name: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], list[float]]:
        """Sums of both parts, flat, and the counts of both."""
        first, second = self._sums[name].float().cpu().numpy()
        return first.reshape(-1), second.reshape(-1), self._counts[name].reshape(-1).tolist()

    def _hook(self, name: str) -> Callable[[Any, Any], None]:
        """Arguments of a stack: hidden [tokens, width], the router's choice and its weights."""

        def hook(module: Any, arguments: Any) -> None:
            hidden, chosen = arguments[:2]
            mask = self._mask.to(hidden.device)
            for expert in range(module.gate_up_proj.shape[0]):
                x = hidden[(chosen == expert).any(dim=-1) & mask]
                self._add(f"{name}.gate_proj", module, expert, x)
                self._add(f"{name}.down_proj", module, expert, _inner(module, expert, x))
            self.linears |= {
                f"{name}.{linear}": f"{name}.{owner}"
                for linear, owner in (
                    ("gate_proj", "gate_proj"),
                    ("up_proj", "gate_proj"),
                    ("down_proj", "down_proj"),
                )
            }

        return hook

    def _add(self, name: str, module: Any, expert: int, x: torch.Tensor) -> None:
        """x: [tokens of this expert, n_cols]."""
        import torch

        if name not in self._sums:
            shape = len(module.gate_up_proj), x.shape[-1]
            self.n_experts[name], self.n_cols[name] = shape
            self._sums[name] = torch.zeros((2, *shape), device=x.device)
            self._counts[name] = torch.zeros((2, shape[0]))
        self._sums[name][self._part, expert] += x.float().square().sum(dim=0)
        self._counts[name][self._part, expert] += len(x)


def _inner(module: Any, expert: int, x: torch.Tensor) -> torch.Tensor:
    """What the expert gives its down projection: [tokens, inner]."""
    import torch

    gate, up = torch.nn.functional.linear(x, module.gate_up_proj[expert]).chunk(2, dim=-1)
    inner: torch.Tensor = module.act_fn(gate) * up
    return inner


def stacks(causal: Any) -> dict[str, Any]:
    """Name -> module of every stack of experts in the layout above.

    PEFT wraps a stack once per parameter it tunes; the innermost module is watched, since it is
    called while the tuned parameters are in place, but goes by the name of the checkpoint.
    """
    found = {}
    for name, module in causal.named_modules():
        parameters = [getattr(module, key, None) for key in ("gate_up_proj", "down_proj")]
        if not name.replace(".base_layer", "").endswith(".experts") or hasattr(
            module, "base_layer"
        ):
            continue
        plain = not (getattr(module, "is_transposed", False) or getattr(module, "has_bias", False))
        if plain and all(getattr(p, "ndim", 0) == 3 for p in parameters):
            found[name.replace(".base_layer", "")] = module
    return found
