"""Everything that can be said about one GGUF file: `python -m converters check FILE [--base BASE]`.

In: a file, and for an adapter perhaps its base (GGUF file or Hugging Face folder). Out: what the
file is, or a ConvertError with every problem found: structure, keys and shapes (check), layout,
key types and values that are no numbers (check_data), and whether the adapter fits the base.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import LlamaFileType

from converters import archs
from converters.check import architecture_of, check_gguf, config_of
from converters.check_data import layout_problems, type_problems, value_problems
from converters.errors import ConvertError, DoesNotFit, foreign
from converters.fit import check_adapter
from converters.hf_folder import read_config
from converters.names import gguf_name, name_map, nearest
from converters.reader import GgufFile, read_gguf
from converters.vocab_keys import vocabulary_problems

_EMBEDDING = "token_embd.weight"
_OUTPUT = "output.weight"


@dataclass(frozen=True)
class Summary:
    """What a sound file is. file_type: llama.cpp's name of general.file_type, "" if unset."""

    kind: str
    architecture: str
    file_type: str
    n_tensors: int
    n_parameters: int
    size: int


@foreign("the file's metadata")
def check_file(
    path: Path,
    base: Path | None = None,
    *,
    values: bool = True,
    threads: int | None = None,
    merged: bool = False,
    text_only: bool = False,
) -> Summary | None:
    """Check a GGUF file, with `base` also whether that adapter fits; ConvertError if not.

    path may also be a PEFT folder, with its base; there is no summary of that, and `merged` and
    `text_only` are those of check_adapter. values=False leaves out reading all tensors for NaN and
    infinity.
    """
    if path.is_dir():
        _check_folder(path, base, merged=merged, text_only=text_only)
        return None
    file = read_gguf(path)
    kind = str(file.values.get("general.type", "model"))
    lines = _structure(file)
    lines += layout_problems(file)
    if kind == "adapter" and base is not None:
        lines += _fit_problems(file, base)
    if values:
        lines += value_problems(file, threads)
    if lines:
        raise ConvertError(f"{path.name} is not a sound {kind} file", "", "\n".join(lines))
    if kind != "adapter" and base is not None:
        raise ConvertError(
            f"{path.name} is a whole model", "", "--base is the base of an adapter", "leave it out"
        )
    return _summary(file, kind)


def _check_folder(adapter: Path, base: Path | None, *, merged: bool, text_only: bool) -> None:
    if base is None:
        raise ConvertError(
            f"{adapter.name} is a folder",
            "",
            "a PEFT folder is checked against its base model",
            "--base FOLDER",
        )
    check_adapter(adapter, base, merged=merged, text_only=text_only)


def _structure(file: GgufFile) -> list[str]:
    """Keys and shapes; when those are right, the types of the keys and the vocabulary."""
    try:
        check_gguf(file.path)
        if file.values.get("general.type", "model") != "model":
            return []
        arch = architecture_of(file)
        extra = {name: file.dequantize(name) for name in arch.EXTRA if name in file.tensors}
        expected = arch.pairs(config_of(file, extra))
    except ConvertError as error:
        listed = type(error) is ConvertError and error.why
        return error.why.splitlines() if listed else [" ".join(str(error).split())]
    return [*type_problems(file, expected), *vocabulary_problems(file)]


def _fit_problems(file: GgufFile, base: Path) -> Iterator[str]:
    """What the runtime's loader would refuse, or worse accept (llama.cpp src/llama-adapter.cpp)."""
    architecture, shapes = _base_shapes(base)
    own = file.values.get("general.architecture")
    if own != architecture:
        yield f"the adapter is for architecture {own}, the base is {architecture}"
        return
    tied = _OUTPUT not in shapes
    for name, info in file.tensors.items():
        weight, _, part = name.rpartition(".")
        if part != "lora_a" or f"{weight}.lora_b" not in file.tensors:
            continue
        if tied and weight in (_OUTPUT, _EMBEDDING):
            yield (
                f"{weight}: the base uses one tensor as embedding and as output layer, and the "
                "adapter changes only one of the two"
            )
        elif weight not in shapes:
            yield f"{weight}: the base has no such tensor{nearest(weight, shapes)}"
        else:
            adapted = _adapted(weight, info.shape, file.tensors[f"{weight}.lora_b"].shape)
            if adapted != shapes[weight]:
                yield (
                    f"{weight}: adapter is for a weight {list(adapted)}, the base has "
                    f"{list(shapes[weight])}"
                )


def _adapted(weight: str, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the weight a pair belongs to, () if the factors do not multiply.

    The embedding is looked up, so its factors change places (adapter_file); experts have a leading
    axis.
    """
    if weight == _EMBEDDING:
        return (a[0], b[0]) if len(a) == len(b) == 2 else ()
    if len(a) != len(b) or len(a) < 2 or a[-2] != b[-1] or a[:-2] != b[:-2]:
        return ()
    return (*a[:-2], b[-2], a[-1])


def _base_shapes(base: Path) -> tuple[str, Mapping[str, tuple[int, ...]]]:
    """(architecture, GGUF name -> shape) of a GGUF file or of a folder's config.json."""
    if base.is_file():
        file = read_gguf(base)
        if file.values.get("general.type", "model") != "model":
            raise DoesNotFit(f"{base.name} is not a model file")
        shapes = {name: info.shape for name, info in file.tensors.items()}
        return str(file.values.get("general.architecture")), shapes
    config = read_config(base)
    arch = archs.find(config)
    names = name_map(arch.NAME, config["num_hidden_layers"])
    shapes = {str(gguf_name(names, name)): shape for name, shape in arch.shapes(config).items()}
    return arch.NAME, shapes


def _summary(file: GgufFile, kind: str) -> Summary:
    number = file.values.get("general.file_type")
    known = {int(member): member.name for member in LlamaFileType}
    name = known.get(number, "") if isinstance(number, int) else ""
    return Summary(
        kind=kind,
        architecture=str(file.values.get("general.architecture")),
        file_type=name.removeprefix("MOSTLY_").removeprefix("ALL_"),
        n_tensors=len(file.tensors),
        n_parameters=sum(math.prod(info.shape) for info in file.tensors.values()),
        size=file.path.stat().st_size,
    )
