"""Conversations -> packs of at most `cutoff_len` tokens, by best fit.

In: the length of each conversation.  Out: packs, each a tuple of indices. The longest conversation
is placed first, each into the fullest pack that still has room, which leaves few gaps. It is a pure
function of the lengths: a resumed run has the same packs, and an order that depends on the seed is
left to the trainer's sampler. Documents of a pack never see each other (`attention.py`).
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ft2ollama.config import Config
from ft2ollama.data.render import Sample

_INT32 = 2**31


def best_fit(
    lengths: Sequence[int], capacity: int, most: int | None = None
) -> list[tuple[int, ...]]:
    """Packs of indices; each sums to at most `capacity` tokens and `most` documents.

    Packs and the documents in them stand in the order of the data.  O(n log n).
    """
    if lengths and max(lengths) > capacity:
        raise ValueError(f"a conversation of {max(lengths)} tokens is longer than {capacity}")
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, pack) of packs that take more, sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        found = bisect_left(room, (lengths[index], -1))
        if found == len(room):
            packs.append([index])
            left, pack = capacity - lengths[index], len(packs) - 1
        else:
            left, pack = room.pop(found)
            left -= lengths[index]
            packs[pack].append(index)
        if left > 0 and (most is None or len(packs[pack]) < most):
            insort(room, (left, pack))
    return sorted(tuple(sorted(pack)) for pack in packs)


def most_documents(tokens: int, width: int) -> int:
    """How many documents one call of FlashAttention takes.  width: heads x head size.

    The backward kernel of FlashAttention 2 indexes (tokens + 128 documents) x width with 32 bits.
    """
    return max(1, (_INT32 // width - tokens) // 128)


def pack_rows(rows: Sequence[dict[str, Any]], capacity: int, width: int) -> list[dict[str, Any]]:
    """Rows of one conversation -> rows of several; `documents` holds their lengths."""
    lengths = [len(row["input_ids"]) for row in rows]
    return [
        {
            "input_ids": [token for i in pack for token in rows[i]["input_ids"]],
            "labels": [label for i in pack for label in rows[i]["labels"]],
            "documents": [lengths[i] for i in pack],
        }
        for pack in best_fit(lengths, capacity, most_documents(capacity, width))
    ]


def training_rows(
    config: Config, folder: Path, rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What batches are made of: conversations, or packs of them.  folder: of the base model."""
    return pack_rows(rows, config.cutoff_len, _width(folder)) if config.packs else list(rows)


def rows_per_epoch(config: Config, folder: Path, samples: Sequence[Sample]) -> int:
    """How many rows `training_rows` makes of these conversations."""
    if not config.packs:
        return len(samples)
    lengths = [len(sample.ids) for sample in samples]
    most = most_documents(config.cutoff_len, _width(folder))
    return len(best_fit(lengths, config.cutoff_len, most))


def _width(folder: Path) -> int:
    """Heads x head size of the model in `folder`."""
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    settings = settings.get("text_config", settings)
    heads, hidden = settings["num_attention_heads"], settings["hidden_size"]
    return int(heads * (settings.get("head_dim") or hidden // heads))
