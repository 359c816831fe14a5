"""Two checks that read headers: is a base what its config says, is a GGUF file whole.

Each collects every problem before it raises, because the user mends them in one go. Weights are
read only to compare embeddings that were saved twice. Adapters are checked in fit.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from converters import archs
from converters.archs import Architecture
from converters.errors import ConvertError, foreign
from converters.hf_folder import Config
from converters.names import gguf_name, name_map, nearest
from converters.reader import GgufFile, TensorInfo, read_gguf
from converters.transforms import F32, Rows, equal_rows

_OUTPUT = "lm_head"
_EMBEDDING = "model.embed_tokens"


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
    if embedding is not None and equal_rows(output, embedding):
        return []
    return [f"{_OUTPUT}.weight: differs from the embedding, and config.json says they are tied"]


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
