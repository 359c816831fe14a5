"""The few facts about a model that the choice of tensor types depends on, from its metadata.

In: GGUF keys and values, of a file that is read or of one that is about to be written. Out:
`ModelFacts`. One source for both, so that exporting a folder and quantizing a file of the same
model choose alike.
"""

from __future__ import annotations

from collections.abc import Mapping

from converters.quants.mix import ModelFacts


def facts_of(values: Mapping[str, object]) -> ModelFacts:
    """What is absent counts as 0; of one number per layer the first counts.

    So does llama.cpp (src/llama-quant.cpp asks for the head counts of layer 0).
    """
    arch = str(values.get("general.architecture", ""))

    def number(key: str) -> int:
        value = values.get(f"{arch}.{key}", 0)
        if isinstance(value, list):
            value = value[0] if value else 0
        return value if isinstance(value, int) else 0

    n_head = number("attention.head_count")
    return ModelFacts(
        arch=arch,
        n_layer=number("block_count"),
        n_head=n_head,
        n_head_kv=number("attention.head_count_kv") or n_head,
        n_expert=number("expert_count"),
    )
