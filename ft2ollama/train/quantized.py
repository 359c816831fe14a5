"""A frozen base in 4 or 8 bits by bitsandbytes, and the weights it stands for.

Every linear layer but the output layer is quantized while it is loaded; embeddings, norms and the
head stay in the compute dtype. peft's `prepare_model_for_kbit_training` is not used: it casts those
to float32, which costs 2.2 GB and a float32 head at 7B, and LoRA freezes the base anyway.

The packed weights are stored in the compute dtype, as FSDP needs it to shard them with the rest.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft2ollama.errors import MachineError

if TYPE_CHECKING:
    import torch

    from ft2ollama.config import Config


@dataclass(frozen=True)
class Quantization:
    """bits: 4 or 8.  grid: nf4 or fp4, and double: quantized scales; both for 4 bits only."""

    bits: int
    grid: str
    double: bool

    def __str__(self) -> str:
        if self.bits == 8:
            return "8-bit base"
        return f"4-bit base ({self.grid}{', double quantization' if self.double else ''})"


def quantization(config: Config) -> Quantization | None:
    """What the config asks for."""
    if config.quantization_bit is None:
        return None
    return Quantization(
        config.quantization_bit, config.quantization_type, config.double_quantization
    )


def require_bitsandbytes() -> None:
    """MachineError where the library has no wheel, or is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MachineError(
            "quantization_bit needs the package bitsandbytes",
            "it is not installed; it comes with ft2ollama on Linux x86-64 only",
            "pip install bitsandbytes, or quantization_bit=null for a 16-bit LoRA",
        )


def loading(wanted: Quantization, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` that quantize while loading."""
    import torch
    from transformers import BitsAndBytesConfig

    require_bitsandbytes()
    if wanted.bits == 8:
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=wanted.grid,
            bnb_4bit_use_double_quant=wanted.double,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=dtype,
        )
    place: Any = torch.cuda.current_device() if device == "cuda" else device
    return {"quantization_config": settings, "device_map": {"": place}}


def keep_layout(model: Any) -> None:
    """Keep the packed weights as they are, also while evaluating on a CPU.

    On CPUs with bfloat16 arithmetic bitsandbytes (0.50) repacks a 4-bit layer at the first forward
    pass in eval mode, in place; the backward pass and the dequantizer then read another layout.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def weights_behind(model: Any) -> dict[str, torch.Tensor]:
    """Name of each quantized layer of the base -> the float32 weight it computes with.

    model: a peft model or a causal LM; names as in the checkpoint, without `.weight`.
    """
    from bitsandbytes import functional
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    found: dict[str, torch.Tensor] = {}
    for name, module in causal.named_modules():
        key = name.removesuffix(".base_layer")
        weight: Any = getattr(module, "weight", None)
        if isinstance(module, Linear4bit):
            found[key] = functional.dequantize_4bit(weight.data, weight.quant_state).float().cpu()
        elif isinstance(module, Linear8bitLt):
            scales = module.state.SCB if module.state.SCB is not None else weight.SCB
            found[key] = (weight.data.float() * scales.float()[:, None] / 127).cpu()
    return found
