"""Load the base model and attach LoRA.

On a CPU the frozen base is bfloat16 where the CPU multiplies bfloat16 natively (avx512_bf16, amx),
else float32; the adapter is always float32, so small updates are not rounded away.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama import machine
from ft2ollama.config.method_checks import is_regex
from ft2ollama.errors import MachineError, UsageError
from ft2ollama.train.quantized import Quantization, keep_layout, loading

if TYPE_CHECKING:
    import torch

    from ft2ollama.runs import Run

_ATTENTION = {
    "auto": "sdpa",
    "sdpa": "sdpa",
    "disabled": "eager",
    "fa2": "flash_attention_2",
}


def choose_dtype(wanted: str, device: str, *, pure_bf16: bool = False) -> tuple[str, str]:
    """(`float32`, `bfloat16` or `float16`, reason) for the frozen base."""
    if pure_bf16:
        return "bfloat16", "pure_bf16 in the config"
    if wanted == "float16" and device == "cpu":
        dtype, reason = _of_the_cpu()
        return dtype, f"float16 is for GPUs; {reason}"
    if wanted != "auto":
        return wanted, "compute_dtype in the config"
    return _of_the_cpu() if device == "cpu" else _of_the_gpu()


def _of_the_gpu() -> tuple[str, str]:
    import torch

    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16", "the GPU has it"
    return "float16", "this GPU has no bfloat16"


def _of_the_cpu() -> tuple[str, str]:
    flags = machine.cpu_flags()
    found = [flag for flag in machine.NATIVE_BF16 if flag in flags]
    if found:
        return "bfloat16", f"this CPU multiplies it natively ({found[0]})"
    return "float32", "this CPU has no bfloat16 arithmetic"


def load_base(
    folder: Path,
    dtype: str,
    device: str,
    *,
    quantization: Quantization | None = None,
    attention: str = "auto",
) -> Any:
    """The causal LM in `dtype` on `device`, from safetensors only.

    attention: a value of the config's flash_attn. Raises MachineError when it cannot be had.
    """
    import torch
    from transformers import AutoModelForCausalLM

    how: dict[str, Any] = {"dtype": getattr(torch, dtype), "use_safetensors": True}
    how["attn_implementation"] = _ATTENTION[attention]
    if quantization is not None:
        how |= loading(quantization, how["dtype"], device)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, **how)
    except ImportError as error:
        if attention != "fa2":
            raise
        raise MachineError(
            "flash_attn: fa2 needs the package flash-attn and a GPU it was built for",
            str(error).strip().splitlines()[0],
            "flash_attn=auto",
        ) from error
    model.config.use_cache = False
    if quantization is None:
        return model.to(device)
    keep_layout(model)
    return model


def attach_lora(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    target: Sequence[str],
    use_rslora: bool,
    seed: int,
    **more: Any,
) -> Any:
    """A PEFT model with float32 LoRA matrices on `target` (["all"]: every linear but the head).

    more: further settings of peft's LoraConfig. A target that is a regular expression has to match
    a whole module name.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules(target),
        use_rslora=use_rslora,
        task_type="CAUSAL_LM",
        **more,
    )
    try:
        return get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        linear = linear_names(model)
        raise UsageError(
            f"lora_target: {', '.join(target)} names no layer of this model",
            f"its linear layers: {', '.join(linear)}",
            f"lora_target=all, or lora_target={','.join(linear[:2])}",
        ) from error


def target_modules(target: Sequence[str]) -> str | list[str]:
    """peft's target_modules: a text is a regular expression for the whole name, a list has ends."""
    if list(target) == ["all"]:
        return "all-linear"
    if not any(map(is_regex, target)):
        return list(target)
    return "|".join(name if is_regex(name) else rf"(?:.*\.)?{name}" for name in target)


def linear_names(model: Any) -> list[str]:
    """The last parts of the names of all linear layers."""
    import torch

    named = model.named_modules()
    return sorted({n.rsplit(".", 1)[-1] for n, m in named if isinstance(m, torch.nn.Linear)})


def load_trained(folder: Path, adapter: Path | None, dtype: torch.dtype) -> Any:
    """Base + adapter, not merged: the reference every other form is held against.

    adapter: None when `folder` is the trained model itself.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    if adapter is None:
        return model.eval()
    return PeftModel.from_pretrained(model, str(adapter)).eval()


def load_run(run: Run, base: Path, dtype: torch.dtype) -> Any:
    """What a run trained, not merged. base: folder of its base, unused by a run with a model/."""
    if run.is_whole:
        return load_trained(run.model, None, dtype)
    return load_trained(base, run.adapter, dtype)


def choose_device() -> str:
    """`cuda` when torch sees a GPU, else `cpu`."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
