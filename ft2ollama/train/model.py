"""Load the base model and attach LoRA.

On a CPU the frozen base is bfloat16 where the CPU multiplies bfloat16 natively (avx512_bf16, amx),
else float32; the adapter is always float32, so small updates are not rounded away.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.errors import UsageError

if TYPE_CHECKING:
    import torch

_NATIVE_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # x86 flags; `bf16` is the ARM feature


def choose_dtype(wanted: str, device: str) -> tuple[str, str]:
    """(`float32` or `bfloat16`, reason) for the frozen base."""
    if wanted != "auto":
        return wanted, "compute_dtype in the config"
    if device != "cpu":
        import torch

        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bfloat16", "the GPU has it") if native else ("float32", "this GPU has no bfloat16")
    flags = _cpu_flags()
    found = [flag for flag in _NATIVE_BF16 if flag in flags]
    if found:
        return "bfloat16", f"this CPU multiplies it natively ({found[0]})"
    return "float32", "this CPU has no bfloat16 arithmetic"


def load_base(folder: Path, dtype: str, device: str) -> Any:
    """The causal LM in `dtype` on `device`, from safetensors only."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), use_safetensors=True, attn_implementation="sdpa"
    )
    model.config.use_cache = False
    return model.to(device)


def attach_lora(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    target: Sequence[str],
    use_rslora: bool,
    seed: int,
) -> Any:
    """A PEFT model with float32 LoRA matrices on `target` (["all"]: every linear but the head)."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear" if list(target) == ["all"] else list(target),
        use_rslora=use_rslora,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        linear = sorted(
            {
                name.rsplit(".", 1)[-1]
                for name, module in model.named_modules()
                if isinstance(module, torch.nn.Linear)
            }
        )
        raise UsageError(
            f"lora_target: {', '.join(target)} names no layer of this model",
            f"its linear layers: {', '.join(linear)}",
            f"lora_target=all, or lora_target={','.join(linear[:2])}",
        ) from error


def load_trained(folder: Path, adapter: Path, dtype: torch.dtype) -> Any:
    """Base + adapter, not merged: the reference every other form is held against."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    return PeftModel.from_pretrained(model, str(adapter)).eval()


def choose_device() -> str:
    """`cuda` when torch sees a GPU, else `cpu`."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    fields = [line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))]
    return set(fields[0].split()) if fields else set()
