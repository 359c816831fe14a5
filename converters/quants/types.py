"""The output types we write: their GGML tensor type and the file type llama.cpp names them by.

Ids: gguf-py `constants.GGMLQuantizationType` and `LlamaFileType` (llama.h, enum llama_ftype).
"""

from __future__ import annotations

from dataclasses import dataclass

from gguf.constants import GGMLQuantizationType, LlamaFileType

from converters.errors import ConvertError


@dataclass(frozen=True)
class FileType:
    """A file type: the type most tensors get, and the id in general.file_type."""

    name: str
    tensor: GGMLQuantizationType
    id: int


FILE_TYPES = {
    file_type.name: file_type
    for file_type in (
        FileType("F32", GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
        FileType("F16", GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
        FileType("BF16", GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
        FileType("Q8_0", GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    )
}
ADAPTER_TYPES = ("F16", "F32", "BF16", "Q8_0")


def file_type(name: str, allowed: tuple[str, ...] = tuple(FILE_TYPES)) -> FileType:
    """The file type of that name (any case), or an error that lists what there is."""
    found = FILE_TYPES.get(name.upper())
    if found is None or found.name not in allowed:
        raise ConvertError(
            f"unknown output type {name!r}",
            "",
            f"this can be written: {', '.join(allowed)}",
            f"--outtype {allowed[-1] if 'Q8_0' in allowed else 'F16'}",
        )
    return found
