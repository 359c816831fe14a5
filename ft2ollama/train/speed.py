"""The fast paths of a training, chosen by config and device and put into the model.

In: the model with its adapter, the config, the rows.  Out: the same model with fused LoRA layers,
attention by document and layers marked for recomputation, the collator that fits it, and notes on
what was chosen. A path is taken by default only on the device where it was measured to help, which
so far is the CPU (benchmarks/RESULTS.md); attention by document is tried on the loaded model first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ft2ollama.config import Config
from ft2ollama.data.render import IGNORED
from ft2ollama.errors import UsageError
from ft2ollama.train import attention
from ft2ollama.train.batches import Collator, PaddingFree
from ft2ollama.train.lora_linear import fuse_lora
from ft2ollama.train.norm import fuse_norms
from ft2ollama.train.recompute import (
    decoder_layers,
    free_for_activations,
    layers_to_recompute,
    measure_kept,
    recompute,
    tokens_at_once,
)

_AGREE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}  # relative difference
_TRIED = (7, 4, 9)  # tokens of the documents that are tried


@dataclass(frozen=True)
class Speed:
    """collator: rows -> batch.  notes: what was chosen and why, for the plan and the log."""

    collator: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
    notes: tuple[str, ...]


def speed_up(model: Any, config: Config, rows: Sequence[dict[str, Any]]) -> Speed:
    """Change `model` in place.  Raises UsageError when a path that was asked for is impossible."""
    on_cpu = _causal(model).device.type == "cpu"
    notes = []
    if config.enable_liger_kernel:
        notes.append(_liger(model, on_cpu))
    if on_cpu if config.fused_lora is None else config.fused_lora:
        fuse_lora(model)
        fuse_norms(model)
    free = (on_cpu or config.packs) if config.padding_free is None else config.padding_free
    if free:
        why = use_documents(model)
        free = not why
        notes += [f"conversations are padded to the longest of a batch: {why}"] if why else []
    share = free and _shares(model, config, on_cpu=on_cpu)
    notes += _recompute(model, config, rows, on_cpu=on_cpu, padding=not free)
    if config.torch_compile:
        for layer in decoder_layers(model):
            layer.compile(dynamic=True)
    pad = _causal(model).config.get_text_config().pad_token_id
    return Speed(PaddingFree(share=share) if free else Collator(pad or 0), tuple(notes))


def use_documents(model: Any) -> str:
    """Switch to attention by document; returns why not, "" if this model computes the same.

    Tried on three short documents: alone and end to end they must give the same hidden states.
    That fails where a model carries state from token to token in another way than by attention.
    """
    causal = _causal(model)
    before = copy.copy(causal.config._attn_implementation)
    attention.register()
    try:
        causal.set_attn_implementation(attention.NAME)
        away = _difference(causal, PaddingFree(), common=0)
    except Exception as error:  # noqa: BLE001 - any failure of a foreign model means: do without
        causal.set_attn_implementation(before)
        return f"this model does not take conversations end to end ({type(error).__name__})"
    if away < _AGREE.get(causal.dtype, 0.0):
        return ""
    causal.set_attn_implementation(before)
    return f"end to end this model computes something else (relative difference {away:.2g})"


def _shares(model: Any, config: Config, *, on_cpu: bool) -> bool:
    """May conversations share their beginning? Tried like `use_documents`, which must be on."""
    if config.share_prefix is False or not on_cpu:
        return False
    causal = _causal(model)
    by_chance = config.neftune_noise_alpha or any(
        isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules()
    )
    if by_chance and config.share_prefix is None:
        return False
    try:
        away = _difference(causal, PaddingFree(share=True), common=_TRIED[0])
    except Exception:  # noqa: BLE001 - any failure of a foreign model means: do without
        return False
    return away < _AGREE.get(causal.dtype, 0.0)


def _difference(causal: Any, collator: PaddingFree, *, common: int) -> float:
    """How far hidden states of documents together are from those of the same documents alone.

    common: tokens that all begin with.
    """
    rows = [_tried(causal, count, common) for count in _TRIED]
    was_training = causal.training
    causal.eval()
    try:
        alone = [_hidden(causal, PaddingFree()([row]), end_to_end=False) for row in rows]
        together = _hidden(causal, collator(rows), end_to_end=True)
    finally:
        causal.train(was_training)
    if together.shape[1] < sum(one.shape[1] for one in alone):  # the beginning stands once
        alone = [alone[0][:, :common], *(one[:, common:] for one in alone)]
    wanted = torch.cat(alone, dim=1).float()
    return float((together.float() - wanted).norm() / wanted.norm())


def _tried(causal: Any, count: int, common: int) -> dict[str, Any]:
    """A document of `count` tokens behind `common` ones: the same, alone or beside others."""
    vocabulary = causal.config.get_text_config().vocab_size
    ids = [(7919 + i * 104729) % vocabulary for i in range(common)]
    ids += [(count * 7919 + i * 104729) % vocabulary for i in range(count + 1)]
    return {"input_ids": ids, "labels": [IGNORED] * (common + 1) + ids[common + 1 :]}


def _hidden(causal: Any, batch: dict[str, Any], *, end_to_end: bool) -> torch.Tensor:
    batch = {k: v.to(causal.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    inputs = {"input_ids": batch["input_ids"]}
    if end_to_end:
        inputs = {name: batch[name] for name in batch if name not in ("labels", "tokens")}
        inputs["attention_mask"] = attention.placeholder_mask(causal.device)
    with torch.no_grad():
        found: torch.Tensor = getattr(causal, causal.base_model_prefix)(**inputs).last_hidden_state
    return found


def _recompute(
    model: Any, config: Config, rows: Sequence[dict[str, Any]], *, on_cpu: bool, padding: bool
) -> list[str]:
    layers = len(decoder_layers(model))
    if config.gradient_checkpointing is not None or on_cpu:
        recompute(model, layers if config.gradient_checkpointing else 0)
        return []
    lengths = [len(row["input_ids"]) for row in rows]
    tokens = tokens_at_once(lengths, config.per_device_train_batch_size, padding=padding)
    count = layers_to_recompute(layers, tokens, measure_kept(model), free_for_activations(model))
    recompute(model, count)
    again = f"{count} of {layers} layers are computed again in the backward pass to save memory"
    return [again] if count else []


def _liger(model: Any, on_cpu: bool) -> str:
    """Liger's kernels, less its loss: ours leaves out more."""
    if on_cpu:
        return "enable_liger_kernel: its kernels need a GPU and are left out"
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
    except ImportError as error:
        raise UsageError(
            "enable_liger_kernel needs a package that is not installed",
            str(error),
            "pip install liger-kernel, or enable_liger_kernel=false",
        ) from error
    options = {"cross_entropy": False, "fused_linear_cross_entropy": False}
    _apply_liger_kernel_to_instance(model=_causal(model), **options)
    return "Liger's kernels compute norms, rotary positions and SwiGLU"


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
