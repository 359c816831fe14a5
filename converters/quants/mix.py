"""Which tensor gets which type. Rules: llama.cpp conversion/base.py, prepare_tensors."""

from __future__ import annotations

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from converters.quants.types import file_type


def tensor_type(name: str, shape: tuple[int, ...], outtype: str) -> GGMLQuantizationType:
    """The type of one tensor in a file of type `outtype`. shape: numpy order.

    Norms, biases and everything one-dimensional stay F32: they are a few kilobytes, and the
    runtime's operators read them as F32. A row that is no multiple of the block becomes F16.
    """
    if len(shape) < 2 or name.endswith("_norm.weight") or not name.endswith(_QUANTIZABLE):
        return GGMLQuantizationType.F32
    wanted = file_type(outtype).tensor
    block, _ = GGML_QUANT_SIZES[wanted]
    return wanted if shape[-1] % block == 0 else GGMLQuantizationType.F16


_QUANTIZABLE = (".weight", ".lora_a", ".lora_b")
