"""Can an adapter become a LoRA GGUF for this base, and if not, can it be merged into it?

Every problem is collected before anything is raised, because the user mends them in one go. An
adapter file holds low-rank pairs on weights that exist, and nothing else (llama.cpp
src/llama-adapter.cpp; it accepts norms and ignores them): what is more than that needs the merged
model, and the error says so. Weights are read only to compare tensors that were saved whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from converters import archs
from converters.archs import Architecture
from converters.check import require_whole
from converters.errors import NeedsMerge, foreign
from converters.gathered import gathered
from converters.hf_folder import Config, read_config
from converters.lora import PairSource
from converters.peft_adapter import (
    Adapter,
    grouped,
    read_adapter,
    require_finite,
)
from converters.safetensors_file import has_weights, open_folder
from converters.trained import (
    EMBEDDING,
    OUTPUT,
    cannot_be_exported,
    is_for_another_base,
    layer_order,
    replicated,
    trained_model,
    unknown_module,
)
from converters.transforms import Rows, equal_rows


@foreign("the adapter or model folder")
def check_adapter(
    adapter: Path, base: Path, *, merged: bool = False, text_only: bool = False
) -> None:
    """Raise unless the whole adapter can be applied to this base.

    merged: as a part of a model file; otherwise as a LoRA GGUF beside the base.
    """
    config = read_config(base)
    arch = archs.find(config)
    read = gathered(read_adapter(adapter, text_only=text_only), arch, config)
    if merged:
        weights = arch.gather(config, open_folder(base))
        require_whole(arch, config, weights)
        trained_model(read, arch, config, weights)
    else:
        require_fit(read, arch, config, stored_weights(base, arch, config))
    require_finite(adapter)


def stored_weights(base: Path, arch: Architecture, config: Config) -> dict[str, Rows]:
    """The base's canonical weights, or nothing if the folder holds only a config."""
    return arch.gather(config, open_folder(base)) if has_weights(base) else {}


def require_fit(
    adapter: Adapter, arch: Architecture, config: Config, weights: Mapping[str, Rows]
) -> None:
    """Raise unless a LoRA GGUF can say all of the adapter.

    Unsupported: no route takes it. NeedsMerge: a merged model can say it. DoesNotFit: it was
    trained on another base.
    """
    order = layer_order(adapter.replication, config["num_hidden_layers"])
    shapes = arch.shapes(replicated(config, order) if order else config)
    shapes = {name: weights[name].shape if name in weights else s for name, s in shapes.items()}
    shapes |= {name: rows.shape for name, rows in adapter.own.items() if name in shapes}
    tied = arch.is_tied(config)
    misfits: dict[str, list[str]] = {}
    for module, pair in adapter.pairs.items():
        problem = _misfit(pair, f"{module}.weight", shapes, tied=tied)
        if problem:
            misfits.setdefault(problem, []).append(module)
    for name in (*adapter.own, *adapter.trained):
        if name not in shapes and not (tied and name == OUTPUT):
            misfits.setdefault(unknown_module(name, shapes), []).append(name)
    merge = list(_merge_only(adapter, weights, tied=tied))
    lines = [*adapter.problems, *merge, *grouped(misfits)]
    if adapter.problems:
        raise cannot_be_exported(lines)
    if misfits:
        raise is_for_another_base(lines)
    if lines:
        raise NeedsMerge(
            "this adapter cannot be exported as an adapter file",
            "",
            "\n".join(lines),
            "merge it into the model: python -m converters model BASE OUT --adapter ADAPTER",
        )


def _misfit(
    pair: PairSource, name: str, shapes: Mapping[str, tuple[int, ...]], *, tied: bool
) -> str:
    if tied and name in (OUTPUT, EMBEDDING):
        return ""  # reported as tied already
    if name not in shapes:
        return unknown_module(name, shapes)
    if pair.weight_shape != shapes[name]:
        return (
            f"adapter is for a weight {list(pair.weight_shape)}, the base has {list(shapes[name])}"
        )
    if pair.embedding != (name == EMBEDDING):
        return "embedding factors on a module that is no embedding, or the reverse"
    return ""


def _merge_only(adapter: Adapter, weights: Mapping[str, Rows], *, tied: bool) -> Iterator[str]:
    """What an adapter file has no place for."""
    if adapter.replication:
        yield "layer_replication: the trained model has more layers than the base"
    for name in (OUTPUT, EMBEDDING):
        if tied and name.removesuffix(".weight") in adapter.pairs:
            yield (
                f"{name}: the base uses one tensor as embedding and as output layer, "
                "and the runtime would apply the pair to both or to none"
            )
    if adapter.start and not weights:
        yield (
            f"init_lora_weights={adapter.start} took the pairs out of the base's weights, "
            "and the base folder has no weights to put them back"
        )
    found: dict[str, list[str]] = {
        "DoRA rescales whole weight rows; a LoRA pair cannot say that": list(adapter.magnitudes),
        "a bias on B has no place in a LoRA pair": list(adapter.biases),
        "trained token rows are not a low-rank pair": list(adapter.tokens),
    }
    for name, rows in (*adapter.own.items(), *adapter.trained.items()):
        reason = _whole_reason(name, rows, weights)
        if reason:
            found.setdefault(reason, []).append(name)
    yield from grouped(found)


def _whole_reason(name: str, rows: Rows, weights: Mapping[str, Rows]) -> str:
    """PEFT saves embeddings beside LoRA on them: harmless while they are the base's own."""
    original = weights.get(name) or (weights.get(EMBEDDING) if name == OUTPUT else None)
    if original is None and not weights and name in (EMBEDDING, OUTPUT):
        return (
            "saved whole, and without the base's weights it cannot be compared; "
            "give the whole base folder, or save the adapter with save_embedding_layers=False"
        )
    if original is not None and original.shape != rows.shape:
        return f"resized from {list(original.shape)} to {list(rows.shape)}"
    if original is not None and equal_rows(rows, original):
        return ""
    if name.endswith(".bias"):
        return "trained biases have no place in a LoRA pair"
    if "norm" in name:
        return "norm weights that were trained whole: the runtime would ignore them"
    return "saved whole and different from the base, so it was trained"
