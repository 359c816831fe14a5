"""A GGUF file's metadata and tensor list, for people and for programs.

Names and texts come from whoever made the file, so what is not printable is shown escaped: a
terminal would obey it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from converters.reader import GgufFile

_SHOWN = 6  # items of an array


def as_lines(file: GgufFile) -> Iterator[str]:
    """`key = value` per pair, then name, shape and type per tensor."""
    for pair in file.pairs:
        value = pair.value
        if isinstance(value, list) and len(value) > _SHOWN:
            shown = f"[{', '.join(map(repr, value[:_SHOWN]))}, ... {len(value)}]"
        else:
            shown = repr(value)
        yield f"{_plain(pair.key)} = {shown}"
    for info in file.tensors.values():
        yield f"{_plain(info.name)}  {list(info.shape)}  {info.type.name}"


def as_json(file: GgufFile) -> dict[str, object]:
    """Everything, arrays in full; floats that JSON has no form for become text."""
    metadata = {
        pair.key: {
            "type": pair.type.name + (f"[{pair.item.name}]" if pair.item is not None else ""),
            "value": _json(pair.value),
        }
        for pair in file.pairs
    }
    tensors = [
        {
            "name": info.name,
            "shape": list(info.shape),
            "type": info.type.name,
            "offset": info.offset,
            "bytes": info.n_bytes,
        }
        for info in file.tensors.values()
    ]
    head = {"version": file.version, "alignment": file.alignment, "data_start": file.data_start}
    return {**head, "metadata": metadata, "tensors": tensors}


def _plain(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _json(value: object) -> object:
    if isinstance(value, list):
        return [_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
