"""Whole files against llama-quantize, where a build of llama.cpp is (LIBLLAMA=.../libllama.so)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf_shapes import Shapes
from llama_quantize import LIBRARY, llama_quantize, write_bf16
from test_quants_mix import GOLDEN, MIXES, case

from converters.quants.mix import ModelFacts, plan
from converters.quants.quantize import encode
from converters.quants.types import FILE_TYPES
from converters.reader import read_gguf

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not LIBRARY, reason="LIBLLAMA names no build of llama.cpp"),
]


@pytest.mark.parametrize("name", GOLDEN)
def test_every_tensor_is_llama_quantizes(name, tmp_path):
    shapes, facts = case(name)
    random = np.random.default_rng(11)
    weights = {
        tensor: bf16(random.standard_normal(shape).astype(np.float32) * np.float32(0.02))
        for tensor, shape in shapes.items()
    }
    source = tmp_path / "source.gguf"
    write_bf16(source, facts.arch, _metadata(facts, shapes), weights)
    columns = {
        tensor: random.random((*shape[:-2], shape[-1]), np.float32) + np.float32(1e-3)
        for tensor, shape in shapes.items()
        if len(shape) > 1
    }
    for mix in MIXES:
        for importance in (None, columns):
            out = tmp_path / "out.gguf"
            llama_quantize(source, out, FILE_TYPES[mix].id, importance)
            compare(out, mix, weights, facts, importance)


def compare(
    theirs: Path,
    mix: str,
    weights: dict[str, np.ndarray],
    facts: ModelFacts,
    importance: dict[str, np.ndarray] | None,
) -> None:
    file = read_gguf(theirs)
    shapes = {name: values.shape for name, values in weights.items()}
    kinds = plan(mix, shapes, facts, with_importance=importance is not None)
    assert list(file.tensors) == list(kinds)
    for name, kind in kinds.items():
        assert file.tensors[name].type == kind, (mix, name)
        own = importance.get(name) if importance else None
        ours = encode(weights[name], kind, name, importance=own)
        assert np.array_equal(ours, file.raw(name)), (mix, name, kind.name)


def bf16(values: np.ndarray) -> np.ndarray:
    """Cut to what bfloat16 holds."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _metadata(facts: ModelFacts, shapes: Shapes) -> dict[str, int]:
    width = shapes["token_embd.weight"][1]
    found = {
        "block_count": facts.n_layer,
        "context_length": 128,
        "embedding_length": width,
        "feed_forward_length": 2 * width,
        "attention.head_count": facts.n_head,
        "attention.head_count_kv": facts.n_head_kv,
    }
    if facts.n_expert:
        found |= {"expert_count": facts.n_expert, "expert_used_count": 2}
        found |= {"expert_feed_forward_length": 2 * width}
        found |= {"expert_shared_feed_forward_length": 2 * width}
    if facts.arch == "phi3":
        found |= {"rope.dimension_count": 8, "rope.scaling.original_context_length": 128}
        found |= {"attention.sliding_window": 0}
    return found
