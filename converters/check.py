"""Two checks that read headers: does an adapter fit a base, is a GGUF file whole.

Each collects every problem before it raises, because the user mends them in one go. Weights are
read only to compare embeddings that were saved twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from converters import archs
from converters.archs import Architecture
from converters.errors import ConvertError, DoesNotFit, Unsupported, foreign
from converters.hf_folder import Config, read_config
from converters.lora import PairSource
from converters.names import gguf_name, name_map, nearest
from converters.peft_adapter import Adapter, grouped, numberless, read_adapter
from converters.reader import GgufFile, TensorInfo, read_gguf
from converters.safetensors_file import has_weights, open_folder
from converters.transforms import F32, Rows, chunks

_OUTPUT = "lm_head"
_EMBEDDING = "model.embed_tokens"


@foreign("the adapter or model folder")
def check_adapter(adapter: Path, base: Path) -> None:
    """Raise unless every tensor and setting of the adapter can be applied to this base."""
    config = read_config(base)
    arch = archs.find(config)
    read_fitting(adapter, arch, config, stored_weights(base, arch, config))


def stored_weights(base: Path, arch: Architecture, config: Config) -> dict[str, Rows]:
    """The base's canonical weights, or nothing if the folder holds only a config."""
    return arch.gather(config, open_folder(base)) if has_weights(base) else {}


def read_fitting(
    folder: Path, arch: Architecture, config: Config, weights: Mapping[str, Rows]
) -> Adapter:
    """The adapter with its pairs under canonical names; raises as require_fit does."""
    adapter = read_adapter(folder)
    adapter = replace(adapter, pairs=arch.gather_pairs(config, adapter.pairs))
    require_fit(adapter, arch, config, weights)
    return adapter


def require_fit(
    adapter: Adapter, arch: Architecture, config: Config, weights: Mapping[str, Rows]
) -> None:
    """Unsupported if we cannot represent the adapter, DoesNotFit if it is for another base."""
    shapes = {
        name: weights[name].shape if name in weights else shape
        for name, shape in arch.shapes(config).items()
    }
    tied = arch.is_tied(config)
    unsupported = [*adapter.problems, *_tied_problems(adapter, tied=tied)]
    misfits: dict[str, list[str]] = {}
    for module, pair in adapter.pairs.items():
        problem = _misfit(module, pair, shapes, tied=tied)
        if problem:
            misfits.setdefault(problem, []).append(module)
    lines = [*unsupported, *grouped(misfits), *_copy_problems(adapter, weights)]
    if not lines:
        return
    kind = Unsupported if len(lines) > len(list(grouped(misfits))) else DoesNotFit
    raise kind(
        "this adapter cannot be exported"
        if kind is Unsupported
        else "this adapter does not fit this base model",
        "",
        "\n".join(lines),
        "train with plain LoRA on linear layers (use_dora: false, bias: none, no modules_to_save)"
        if kind is Unsupported
        else "give the base model the adapter was trained on",
    )


def _tied_problems(adapter: Adapter, *, tied: bool) -> Iterator[str]:
    for module in (_OUTPUT, _EMBEDDING):
        if tied and module in adapter.pairs:
            yield (
                f"{module}: the base uses one tensor as embedding and as output layer, "
                "and the adapter changes only one of the two"
            )


def _misfit(
    module: str, pair: PairSource, shapes: Mapping[str, tuple[int, ...]], *, tied: bool
) -> str:
    name = module + ".weight"
    if tied and module in (_OUTPUT, _EMBEDDING):
        return ""  # reported as tied already
    if name not in shapes:
        return _unknown_module(module, shapes)
    if pair.weight_shape != shapes[name]:
        return (
            f"adapter is for a weight {list(pair.weight_shape)}, the base has {list(shapes[name])}"
        )
    if pair.embedding != (module == _EMBEDDING):
        return "embedding factors on a module that is no embedding, or the reverse"
    return ""


def _unknown_module(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    known = {numberless(other.removesuffix(".weight")) for other in shapes}
    if numberless(name) in known:
        return "the base has no such layer"
    return f"the base has no such module{nearest(numberless(name), known)}"


def _copy_problems(adapter: Adapter, weights: Mapping[str, Rows]) -> Iterator[str]:
    """PEFT saves the embeddings beside LoRA on them; harmless while they are the base's own."""
    for module, copy in adapter.copies.items():
        original = weights.get(module + ".weight") or weights.get(_EMBEDDING + ".weight")
        if original is None:
            yield (
                f"{module}: saved whole, and without the base's weights it cannot be compared; "
                "give the whole base folder, or save the adapter with save_embedding_layers=False"
            )
        elif copy.shape != original.shape:
            yield f"{module}: resized from {list(original.shape)} to {list(copy.shape)}"
        elif not _equal(copy, original):
            yield f"{module}: saved whole and different from the base, so it was trained"


def require_whole(arch: Architecture, config: Config, weights: Mapping[str, Rows]) -> list[str]:
    """The base's tensor names in use; raises if tensors are missing, misshaped or unknown."""
    expected = arch.shapes(config)
    lines = [f"{name}: missing" for name in expected if name not in weights]
    for name, rows in weights.items():
        if name in expected and rows.shape != expected[name]:
            lines.append(f"{name}: {list(rows.shape)}, config.json says {list(expected[name])}")
        elif name == _OUTPUT + ".weight" and arch.is_tied(config):
            lines += _tied_output_problem(rows, weights)
        elif name not in expected and not name.endswith("rotary_emb.inv_freq"):
            lines.append(f"{name}: not part of this architecture{nearest(name, expected)}")
    if lines:
        raise ConvertError("the base's weights do not match its config.json", "", "\n".join(lines))
    return list(expected)


def _tied_output_problem(output: Rows, weights: Mapping[str, Rows]) -> list[str]:
    """A saved copy of a tied output layer is redundant; a different one contradicts the config."""
    embedding = weights.get(_EMBEDDING + ".weight")
    if embedding is not None and _equal(output, embedding):
        return []
    return [f"{_OUTPUT}.weight: differs from the embedding, and config.json says they are tied"]


def _equal(one: Rows, other: Rows) -> bool:
    return one.shape == other.shape and all(map(np.array_equal, chunks(one), chunks(other)))


@foreign("the file's metadata")
def check_gguf(path: Path) -> None:
    """Raise unless the file is sound GGUF with the pairs and tensors its architecture needs."""
    file = read_gguf(path)
    lines = list(_missing_keys(file))
    kind = file.values.get("general.type", "model")
    if not lines:
        lines = list(_adapter_lines(file) if kind == "adapter" else _model_lines(file))
    if lines:
        raise ConvertError(f"{path.name} is not a sound {kind} file", "", "\n".join(lines))


def _missing_keys(file: GgufFile) -> Iterator[str]:
    needed = ["general.architecture"]
    if file.values.get("general.type", "model") == "adapter":
        needed += ["adapter.type", "adapter.lora.alpha"]
    else:
        needed += ["tokenizer.ggml.model", "tokenizer.ggml.tokens"]
    for key in needed:
        if key not in file.values:
            yield f"{key} is missing"


def _model_lines(file: GgufFile) -> Iterator[str]:
    expected, arch = expected_shapes(file), architecture_of(file)
    for name, shape in expected.items():
        info = file.tensors.get(name)
        if info is None:
            yield f"{name}: missing"
        elif info.shape != shape:
            yield f"{name}: {list(info.shape)}, the metadata says {list(shape)}"
    for name in file.tensors:
        if name not in expected and name not in arch.EXTRA:
            yield f"{name}: not part of this architecture"
    tokens, embedding = file.values["tokenizer.ggml.tokens"], file.tensors.get("token_embd.weight")
    n_tokens = len(tokens) if isinstance(tokens, list) else 0
    if embedding is not None and n_tokens != embedding.shape[0]:
        yield f"{n_tokens} tokens, {embedding.shape[0]} embedding rows"


def _adapter_lines(file: GgufFile) -> Iterator[str]:
    for name, info in file.tensors.items():
        base, _, part = name.rpartition(".")
        other = {"lora_a": "lora_b", "lora_b": "lora_a"}.get(part)
        partner = file.tensors.get(f"{base}.{other}")
        if other is None:
            yield f"{name}: not a LoRA tensor"
        elif partner is None:
            yield f"{name}: {other} is missing"
        elif part == "lora_a" and base != "token_embd.weight" and not _multiply(info, partner):
            yield f"{base}: A {list(info.shape)} and B {list(partner.shape)} do not multiply"


def _multiply(a: TensorInfo, b: TensorInfo) -> bool:
    """a: [r, n_in], b: [n_out, r], both with a leading axis for stacked experts."""
    same_stack = len(a.shape) > 1 and a.shape[:-2] == b.shape[:-2]
    return same_stack and a.shape[-2] == b.shape[-1]


def architecture_of(file: GgufFile) -> Architecture:
    """The family module of a GGUF file."""
    return archs.of_gguf(file.values)


def config_of(file: GgufFile, extra: Mapping[str, F32]) -> Config:
    """The config.json a model GGUF describes. extra: tensors that stand for settings."""
    config = architecture_of(file).config_of(file.values, extra)
    if config["num_hidden_layers"] > len(file.tensors):
        raise ConvertError(
            f"{config['num_hidden_layers']} blocks, and only {len(file.tensors)} tensors"
        )
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ConvertError(f"{file.path.name} has no such tensor", "token_embd.weight")
    config["vocab_size"] = embedding.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    config["attention_bias"] = config["qkv_bias"] = "blk.0.attn_q.bias" in file.tensors
    config["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors
    return config


def expected_shapes(file: GgufFile) -> dict[str, tuple[int, ...]]:
    """GGUF name -> shape for every tensor the file's own metadata calls for."""
    config, arch = config_of(file, {}), architecture_of(file)
    names = name_map(arch.NAME, config["num_hidden_layers"])
    return {str(gguf_name(names, name)): shape for name, shape in arch.shapes(config).items()}
