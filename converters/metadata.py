"""GGUF key-value pairs: the typed pair itself, and the general.* keys every file carries.

Never a local path, a user name or a guessed hub address: the files are published. Key names and
types: gguf-py `constants.Keys`; which keys a model file needs: llama.cpp conversion/base.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gguf.constants import GGUFValueType

from converters.errors import ConvertError

LINEAGE_PREFIX = "ft2ollama."
QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION in ggml.h


@dataclass(frozen=True)
class KV:
    """One metadata pair. An array has `item` set to the type of its elements."""

    key: str
    type: GGUFValueType
    value: object
    item: GGUFValueType | None = None


def string(key: str, value: str) -> KV:
    """A STRING pair."""
    return KV(key, GGUFValueType.STRING, value)


def u32(key: str, value: int) -> KV:
    """A UINT32 pair."""
    if not 0 <= value < 1 << 32:
        raise ConvertError(f"{key} does not fit the format", "", f"{value} is not a uint32")
    return KV(key, GGUFValueType.UINT32, value)


def f32(key: str, value: float) -> KV:
    """A FLOAT32 pair."""
    return KV(key, GGUFValueType.FLOAT32, float(value))


def boolean(key: str, value: bool) -> KV:
    """A BOOL pair."""
    return KV(key, GGUFValueType.BOOL, value)


def strings(key: str, value: Sequence[str]) -> KV:
    """An array of STRING."""
    return KV(key, GGUFValueType.ARRAY, value, GGUFValueType.STRING)


def booleans(key: str, value: Sequence[bool]) -> KV:
    """An array of BOOL."""
    return KV(key, GGUFValueType.ARRAY, value, GGUFValueType.BOOL)


def i32s(key: str, value: Sequence[int]) -> KV:
    """An array of INT32."""
    return KV(key, GGUFValueType.ARRAY, value, GGUFValueType.INT32)


def f32s(key: str, value: Sequence[float]) -> KV:
    """An array of FLOAT32."""
    return KV(key, GGUFValueType.ARRAY, value, GGUFValueType.FLOAT32)


def general(architecture: str, kind: str, name: str) -> list[KV]:
    """The opening keys. kind: "model" or "adapter". An empty name is left out, not guessed."""
    pairs = [string("general.architecture", architecture), string("general.type", kind)]
    return [*pairs, string("general.name", name)] if name else pairs


def lineage_pairs(lineage: Mapping[str, str], base: str) -> list[KV]:
    """`ft2ollama.<key>` pairs: which run, data and base this file comes from.

    What llama.cpp has keys for is said in these too: the base's name, and the id of the data set.
    Without lineage a file is the base itself and says nothing.
    """
    pairs = [string(LINEAGE_PREFIX + key, value) for key, value in lineage.items()]
    if lineage and base:
        pairs += [u32("general.base_model.count", 1), string("general.base_model.0.name", base)]
    if dataset := lineage.get("dataset.sha256") or lineage.get("data.sha256"):
        version = f"sha256:{dataset}"
        pairs += [u32("general.dataset.count", 1), string("general.dataset.0.version", version)]
    return pairs


def closing(file_type: int) -> list[KV]:
    """The last two keys of every file.

    llama-quantize appends exactly these two at the end, and Ollama (since 0.30) passes an imported
    file through it in COPY mode: with them last already the copy is byte-equal, so the digest in
    Ollama's store is the sha256 of the file we wrote.
    """
    return [
        u32("general.quantization_version", QUANTIZATION_VERSION),
        u32("general.file_type", file_type),
    ]


def require_text(pairs: Sequence[KV]) -> None:
    """Raise ConvertError if a text holds half a surrogate pair, which JSON allows and UTF-8 not."""
    for pair in pairs:
        items = pair.value if isinstance(pair.value, list | tuple) else [pair.value]
        for item in items:
            if isinstance(item, str) and not item.isascii():
                try:
                    item.encode()
                except UnicodeEncodeError as error:
                    raise ConvertError(
                        "a text cannot be written as UTF-8", pair.key, str(error)
                    ) from error


def size_label(n_parameters: int) -> str:
    """`135M`, `1.2B`: two digits, as gguf-py's utility.model_weight_count_rounded_notation."""
    units = ((1e12, "T"), (1e9, "B"), (1e6, "M"))
    scale, unit = next((u for u in units if n_parameters > u[0]), (1e3, "K"))
    scaled = n_parameters / scale
    decimals = max(2 - len(str(round(scaled)).lstrip("0")), 0)
    return f"{scaled:.{decimals}f}{unit}"
