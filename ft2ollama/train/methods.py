"""Which weights are trained, and in which number format: LoRA, freeze, full.

In: a config and the base's folder.  Out: a model whose trained weights want gradients.

| method | frozen weights | trained weights | arithmetic |
|---|---|---|---|
| LoRA | compute dtype, or 4 or 8 bits | float32 matrices | compute dtype; the matrices in float32 |
| + whole modules | the same | float32 | autocast to the compute dtype |
| freeze, full | compute dtype | float32 | autocast to the compute dtype |

With `pure_bf16` everything is bfloat16 and nothing is cast. float16 needs autocast and a loss scale
in any case (torch's GradScaler, through the Trainer); that path was not measured on a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.train.adapters import adapter_folders, continue_adapter, merge_adapters
from ft2ollama.train.model import attach_lora, load_base
from ft2ollama.train.quantized import quantization

if TYPE_CHECKING:
    from ft2ollama.config import Config

_LAYER = re.compile(r"\.(\d+)\.(\w+)")  # model.layers.7.self_attn.q_proj.weight


def trainable_model(
    config: Config, folder: Path, *, dtype: str, device: str, new_ids: Sequence[int] = ()
) -> Any:
    """The base with what the method trains. new_ids: tokens whose rows have to be learned."""
    model = load_base(
        folder,
        "float32" if _keeps_float32(config) else dtype,
        device,
        quantization=quantization(config),
        attention=config.flash_attn,
    )
    if config.finetuning_type == "lora":
        model = _with_lora(model, config, new_ids)
    else:
        train_parts(model, config)
    _cast_trained(model, "bfloat16" if config.pure_bf16 else "float32")
    return model


def precision(config: Config, dtype: str) -> dict[str, bool]:
    """TrainingArguments' bf16 and fp16: autocast, and for float16 the loss scale."""
    direct = config.finetuning_type != "lora" or bool(config.additional_target)
    casts = direct and not config.pure_bf16
    return {"bf16": dtype == "bfloat16" and casts, "fp16": dtype == "float16"}


def describe(config: Config, dtype: str) -> tuple[str, str]:
    """(method, number formats) in a few words, for the plan."""
    own = "bfloat16" if config.pure_bf16 else "float32"
    if config.finetuning_type == "lora":
        base = quantization(config)
        formats = [str(base), dtype] if base else [dtype]
        return _describe_lora(config), ", ".join([*formats, f"adapter {own}"])
    arithmetic = f", computed in {dtype}" if dtype != own else ""
    return _describe_parts(config), f"{own} where trained{arithmetic}"


def _describe_parts(config: Config) -> str:
    if config.finetuning_type == "full":
        return "full fine-tuning"
    count, modules = config.freeze_trainable_layers, config.freeze_trainable_modules
    parts = [f"the {'last' if count > 0 else 'first'} {abs(count)} layers"]
    parts[0] += f" ({', '.join(modules)})" if modules != ("all",) else ""
    return f"{' and '.join([*parts, *(config.freeze_extra_modules or ())])}, the rest frozen"


def _describe_lora(config: Config) -> str:
    quantized = quantization(config)
    kinds = {"DoRA": config.use_dora, "PiSSA": config.pissa_init, "rsLoRA": config.use_rslora}
    name = " ".join([name for name, used in kinds.items() if used] or ["LoRA"])
    if config.adapter_name_or_path and not config.create_new_adapter:
        text = f"LoRA, further from {config.adapter_name_or_path[-1]}"
    else:
        text = (
            f"{name} rank {config.lora_rank}, alpha {config.resolved_lora_alpha}, "
            f"on {', '.join(config.lora_target)}"
        )
    plus = f", LoRA+ ratio {config.loraplus_lr_ratio:g}" if config.loraplus_lr_ratio else ""
    return ("Q" + text if quantized and text.startswith("LoRA") else text) + plus


def lora_settings(config: Config) -> dict[str, Any]:
    """What attach_lora takes, but the seed."""
    alphas = dict(config.lora_alpha_pattern)
    if config.lora_alpha is None:
        alphas = {name: 2 * rank for name, rank in config.lora_rank_pattern.items()} | alphas
    return {
        "rank": config.lora_rank,
        "alpha": config.resolved_lora_alpha,
        "dropout": config.lora_dropout,
        "target": config.lora_target,
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
        "rank_pattern": dict(config.lora_rank_pattern),
        "alpha_pattern": alphas,
        "modules_to_save": list(config.additional_target or ()) or None,
        "init_lora_weights": "pissa" if config.pissa_init else True,
    }


def train_parts(model: Any, config: Config) -> None:
    """Mark what full and freeze train."""
    if config.finetuning_type == "full":
        model.requires_grad_(True)
        return
    layers = trained_layers(config.freeze_trainable_layers, n_layers(model))
    modules, extra = config.freeze_trainable_modules, config.freeze_extra_modules or ()
    model.requires_grad_(False)
    for name, weight in model.named_parameters(remove_duplicate=False):  # a tied head too
        if _is_trained(name, layers, modules, extra):
            weight.requires_grad_(True)


def trained_layers(count: int, layers: int) -> range:
    """The last `count` of the layers, or the first -count."""
    return range(max(0, layers - count), layers) if count > 0 else range(min(-count, layers))


def n_layers(model: Any) -> int:
    """Layers of the text part."""
    return int(model.config.get_text_config().num_hidden_layers)


def layer_part(name: str) -> tuple[int, str] | None:
    """(layer, first name in it) of a parameter; None outside the layers."""
    found = _LAYER.search(name)
    return (int(found[1]), found[2]) if found else None


def _is_trained(name: str, layers: range, modules: Sequence[str], extra: Iterable[str]) -> bool:
    place = layer_part(name)
    if place is None:
        return not set(name.split(".")).isdisjoint(extra)
    return place[0] in layers and (list(modules) == ["all"] or place[1] in modules)


def _keeps_float32(config: Config) -> bool:
    """Full fine-tuning: float32 from the start, or the base would be rounded before it is cast."""
    return config.finetuning_type == "full" and not config.pure_bf16


def _with_lora(model: Any, config: Config, new_ids: Sequence[int]) -> Any:
    folders = adapter_folders(config.adapter_name_or_path or ())
    if folders and not config.create_new_adapter:
        return continue_adapter(merge_adapters(model, folders[:-1]), folders[-1])
    model = merge_adapters(model, folders)
    settings = lora_settings(config)
    rows = _new_rows(model, new_ids, config.additional_target or ())
    return attach_lora(model, seed=config.seed, trainable_token_indices=rows, **settings)


def _new_rows(
    model: Any, new_ids: Sequence[int], whole: Sequence[str]
) -> dict[str, list[int]] | None:
    """peft's trainable_token_indices: rows of the embedding, and of the head where it has its own.

    Only these rows get an optimizer state: a few kilobytes, where LLaMA-Factory trains both
    matrices whole.
    """
    if not new_ids:
        return None
    ends = [model.get_input_embeddings()]
    if not model.config.get_text_config().tie_word_embeddings:
        ends.append(model.get_output_embeddings())
    names = {
        name.rsplit(".", 1)[-1]: module
        for name, module in model.named_modules()
        if any(module is end for end in ends)
    }
    return {name: list(new_ids) for name in names if name not in whole} or None


def _cast_trained(model: Any, dtype: str) -> None:
    import torch

    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(getattr(torch, dtype))
