"""A model GGUF -> a Hugging Face folder with float32 weights.

The way back for bases that exist only as GGUF: transformers can read them too, but needs minutes of
CPU for what is one pass over the file. Writes model.safetensors, config.json and
generation_config.json; the tokenizer is the caller's. The weights come last, so a folder with
model.safetensors is complete.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

from converters.check import architecture_of, check_gguf, config_of
from converters.errors import foreign
from converters.hf_folder import Config
from converters.names import gguf_name, name_map
from converters.reader import GgufFile, read_gguf
from converters.transforms import F32, Rows, chunks
from converters.writer import Progress, replacing

_ALIGN = 8  # the safetensors header is padded with spaces to this


@foreign("the file's metadata")
def gguf_to_safetensors(
    gguf_path: Path, out_dir: Path, *, progress: Progress | None = None
) -> None:
    """Dequantize a model GGUF into a folder transformers loads."""
    check_gguf(gguf_path)
    file = read_gguf(gguf_path)
    extra = {n: file.dequantize(n) for n in architecture_of(file).EXTRA if n in file.tensors}
    config = config_of(file, extra)
    tensors = _hf_rows(file, config)
    out_dir.mkdir(parents=True, exist_ok=True)
    special = _special_ids(file)
    _write_json(
        out_dir / "config.json", {**config, **special, "dtype": "float32", "torch_dtype": "float32"}
    )
    _write_json(out_dir / "generation_config.json", special)
    _write_weights(out_dir / "model.safetensors", tensors, progress)


def _hf_rows(file: GgufFile, config: Config) -> dict[str, Rows]:
    """Every tensor under its Hugging Face name, rows in checkpoint order."""
    arch = architecture_of(file)
    names = name_map(arch.NAME, config["num_hidden_layers"])
    return {
        name: arch.undo(config, name, file.rows(str(gguf_name(names, name))))
        for name in sorted(arch.shapes(config))
    }


def _special_ids(file: GgufFile) -> Config:
    out = {}
    for hf, gguf in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        value = file.values.get(f"tokenizer.ggml.{gguf}_token_id")
        if isinstance(value, int):
            out[f"{hf}_token_id"] = value
    return out


def _write_json(path: Path, value: Config) -> None:
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    with replacing(path, len(text)) as out:
        out.write(text.encode())


def _write_weights(path: Path, tensors: dict[str, Rows], progress: Progress | None) -> None:
    head = _header(tensors)
    total = len(head) + sum(4 * math.prod(rows.shape) for rows in tensors.values())
    with replacing(path, total) as out:
        done = out.write(head)
        for chunk in _all_chunks(tensors):
            done += out.write(chunk.reshape(-1).view("u1").data)
            if progress:
                progress(done, total)


def _all_chunks(tensors: dict[str, Rows]) -> Iterator[F32]:
    for rows in tensors.values():
        yield from chunks(rows)


def _header(tensors: dict[str, Rows]) -> bytes:
    """Length and JSON: dtype, shape and range of each tensor (safetensors README, "Format")."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, rows in tensors.items():
        end = at + 4 * math.prod(rows.shape)
        entries[name] = {"dtype": "F32", "shape": list(rows.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // _ALIGN) * _ALIGN)
    return struct.pack("<Q", len(text)) + text
