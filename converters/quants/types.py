"""The output types we write: their GGML tensor type and the file type llama.cpp names them by.

Ids: gguf-py `constants.GGMLQuantizationType` and `LlamaFileType` (llama.h, enum llama_ftype).
A file type is a mix: `tensor` is what most tensors get, `mix` chooses for the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from gguf.constants import GGMLQuantizationType as Kind
from gguf.constants import LlamaFileType as Id

from converters.errors import ConvertError


@dataclass(frozen=True)
class FileType:
    """A file type: the type most tensors get, and the id in general.file_type."""

    name: str
    tensor: Kind
    id: int


FILE_TYPES = {
    file_type.name: file_type
    for file_type in (
        FileType("F32", Kind.F32, Id.ALL_F32),
        FileType("F16", Kind.F16, Id.MOSTLY_F16),
        FileType("BF16", Kind.BF16, Id.MOSTLY_BF16),
        FileType("Q8_0", Kind.Q8_0, Id.MOSTLY_Q8_0),
        FileType("Q6_K", Kind.Q6_K, Id.MOSTLY_Q6_K),
        FileType("Q5_K_M", Kind.Q5_K, Id.MOSTLY_Q5_K_M),
        FileType("Q5_K_S", Kind.Q5_K, Id.MOSTLY_Q5_K_S),
        FileType("Q5_1", Kind.Q5_1, Id.MOSTLY_Q5_1),
        FileType("Q5_0", Kind.Q5_0, Id.MOSTLY_Q5_0),
        FileType("Q4_K_M", Kind.Q4_K, Id.MOSTLY_Q4_K_M),
        FileType("Q4_K_S", Kind.Q4_K, Id.MOSTLY_Q4_K_S),
        FileType("Q4_1", Kind.Q4_1, Id.MOSTLY_Q4_1),
        FileType("Q4_0", Kind.Q4_0, Id.MOSTLY_Q4_0),
        FileType("IQ4_NL", Kind.IQ4_NL, Id.MOSTLY_IQ4_NL),
        FileType("IQ4_XS", Kind.IQ4_XS, Id.MOSTLY_IQ4_XS),
        FileType("Q3_K_L", Kind.Q3_K, Id.MOSTLY_Q3_K_L),
        FileType("Q3_K_M", Kind.Q3_K, Id.MOSTLY_Q3_K_M),
        FileType("Q3_K_S", Kind.Q3_K, Id.MOSTLY_Q3_K_S),
        FileType("Q2_K", Kind.Q2_K, Id.MOSTLY_Q2_K),
    )
}
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
PLAIN_TYPES = ("F32", "F16", "BF16", "Q8_0")  # one type for all tensors that are not kept in F32
ADAPTER_TYPES = ("F16", "F32", "BF16", "Q8_0")


def file_type(name: str, allowed: tuple[str, ...] = tuple(FILE_TYPES)) -> FileType:
    """The file type of that name (any case, or an alias), or an error that lists what there is."""
    wanted = name.upper()
    found = FILE_TYPES.get(ALIASES.get(wanted, wanted))
    if found is None or found.name not in allowed:
        raise ConvertError(
            f"unknown output type {name!r}",
            "",
            f"this can be written: {', '.join(allowed)}",
            f"--outtype {'Q8_0' if 'Q8_0' in allowed else 'F16'}",
        )
    return found
