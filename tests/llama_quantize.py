"""llama-quantize itself, as a function of a locally built libllama: the judge of whole files.

No package on PyPI exports llama_model_quantize, so this needs a build of llama.cpp; give its
libllama.so in the environment variable LIBLLAMA. `golden/mixes.json` was made through it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

LIBRARY = os.environ.get("LIBLLAMA", "")


class _Params(ctypes.Structure):
    """llama_model_quantize_params of llama.h (build 11434)."""

    _fields_ = (
        ("nthread", ctypes.c_int32),
        ("ftype", ctypes.c_int),
        ("output_tensor_type", ctypes.c_int),
        ("token_embedding_type", ctypes.c_int),
        ("allow_requantize", ctypes.c_bool),
        ("quantize_output_tensor", ctypes.c_bool),
        ("only_copy", ctypes.c_bool),
        ("pure", ctypes.c_bool),
        ("keep_split", ctypes.c_bool),
        ("dry_run", ctypes.c_bool),
        ("imatrix", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p),
        ("tt_overrides", ctypes.c_void_p),
        ("prune_layers", ctypes.c_void_p),
        ("max_buf_size", ctypes.c_size_t),
    )


class _Importance(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.POINTER(ctypes.c_float)),
        ("size", ctypes.c_size_t),
    )


_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_quiet = _Log(lambda level, text, data: None)


def llama_quantize(
    source: Path, out: Path, file_type: int, importance: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write `out` as llama-quantize would; importance: per tensor name, flat float32."""
    library = ctypes.CDLL(LIBRARY)
    library.llama_log_set(_quiet, None)
    library.llama_model_quantize_default_params.restype = _Params
    params = library.llama_model_quantize_default_params()
    params.nthread = 1
    params.ftype = file_type
    if importance is not None:
        entries = (_Importance * (len(importance) + 1))()
        for entry, (name, values) in zip(entries, importance.items(), strict=False):
            entry.name = name.encode()
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            entry.size = values.size
        params.imatrix = ctypes.addressof(entries)
    code = library.llama_model_quantize(
        str(source).encode(), str(out).encode(), ctypes.byref(params)
    )
    assert code == 0, f"llama_model_quantize failed on {source}"


def write_bf16(
    path: Path, arch: str, facts: Mapping[str, int], tensors: Mapping[str, np.ndarray]
) -> None:
    """A GGUF with just enough metadata for llama-quantize; matrices in BF16, the rest in F32."""
    writer = gguf.GGUFWriter(path, arch)
    for key, value in facts.items():
        writer.add_uint32(f"{arch}.{key}", value)
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    for name, values in tensors.items():
        bf16 = values.ndim > 1 and "_norm" not in name and "ffn_gate_inp" not in name
        kind = gguf.GGMLQuantizationType.BF16 if bf16 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
