"""The tokenizer.ggml.* keys of a GGUF file, checked against each other and against their types.

llama.cpp src/llama-vocab.cpp reads each with one type, and indexes the arrays by token id.
"""

from __future__ import annotations

from collections.abc import Iterator

from gguf.constants import GGUFValueType as Type

from converters.reader import GgufFile

_PREFIX = "tokenizer.ggml."
_ARRAYS = {"tokens": Type.STRING, "scores": Type.FLOAT32, "token_type": Type.INT32}
_SCALARS = {
    "model": Type.STRING,
    "pre": Type.STRING,
    "add_bos_token": Type.BOOL,
    "add_eos_token": Type.BOOL,
    "add_space_prefix": Type.BOOL,
}


def vocabulary_problems(file: GgufFile) -> Iterator[str]:
    """One line per key with a wrong type or length, or with the id of a token that is not there."""
    tokens = file.values.get(_PREFIX + "tokens")
    count = len(tokens) if isinstance(tokens, list) else 0
    for pair in file.pairs:
        name = pair.key.removeprefix(_PREFIX)
        if name == pair.key:
            continue
        if name in _ARRAYS and (pair.type, pair.item) != (Type.ARRAY, _ARRAYS[name]):
            yield f"{pair.key} is not an array of {_ARRAYS[name].name}"
        elif name in _ARRAYS and isinstance(pair.value, list) and len(pair.value) != count:
            yield f"{pair.key} has {len(pair.value)} items, there are {count} tokens"
        elif name in _SCALARS and pair.type != _SCALARS[name]:
            yield f"{pair.key} is of type {pair.type.name}, the runtime reads {_SCALARS[name].name}"
        elif name.endswith("_token_id"):
            if pair.type != Type.UINT32:
                yield f"{pair.key} is of type {pair.type.name}, the runtime reads UINT32"
            elif isinstance(pair.value, int) and pair.value >= count:
                yield f"{pair.key} is {pair.value}, there are {count} tokens"
