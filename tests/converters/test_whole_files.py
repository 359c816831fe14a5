"""Whole files against llama-quantize: real checkpoints, with and without an adapter, by any route.

Ours go from the checkpoint to the type in one pass. Theirs are quantized by llama.cpp from our F32
or BF16 file, which the other tests prove. Runs where a build of llama.cpp is (LIBLLAMA).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from llama_quantize import LIBRARY, llama_quantize
from tiny_families import FAMILIES, make_adapter, quiet, save_tokenizer

import converters
from converters.quants.types import FILE_TYPES
from converters.reader import GgufFile

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not LIBRARY, reason="LIBLLAMA names no build of llama.cpp"),
]
TYPES = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "Q4_0", "Q3_K_M", "Q2_K")
WIDE = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
BASES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {"num_hidden_layers": 6}),
    "qwen2": ("Qwen2ForCausalLM", {"num_hidden_layers": 8, "tie_word_embeddings": True}),
    "qwen3moe": ("Qwen3MoeForCausalLM", {**EXPERTS, "norm_topk_prob": True, "head_dim": 32}),
    "gemma3": (
        "Gemma3ForCausalLM",
        {
            "head_dim": 64,
            "query_pre_attn_scalar": 64,
            "num_hidden_layers": 6,
            "tie_word_embeddings": True,
        },
    ),
    "phi3": ("Phi3ForCausalLM", {}),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """make("phi3") -> a bfloat16 checkpoint whose rows are multiples of 256, and an adapter."""

    def run(kind: str) -> tuple[Path, Path]:
        import torch
        import transformers

        folder = tmp_path_factory.mktemp(kind)
        name, settings = BASES[kind]
        cls = getattr(transformers, name)
        torch.manual_seed(0)
        with quiet(), torch.no_grad():
            model = cls(cls.config_class(**{**WIDE, **settings}))
            for key, weight in model.named_parameters():
                if "norm" in key:
                    weight.uniform_(-0.5, 0.5) if kind == "gemma3" else weight.uniform_(0.5, 1.5)
                elif key.endswith("bias"):
                    weight.normal_(0, 0.1)
            model.to(torch.bfloat16).save_pretrained(folder / "base")
        save_tokenizer(folder / "base")
        options = dict(FAMILIES[kind].adapter) if kind in FAMILIES else {}
        return folder / "base", make_adapter(folder / "base", options, folder / "adapter")

    return run


@pytest.mark.parametrize("kind", BASES)
def test_all_routes_end_in_the_same_file(
    kind: str,
    make: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """checkpoint -> type; F32 (and BF16) file -> type by ours; the same by llama-quantize."""
    base, adapter = make(kind)
    ours, again, theirs = (tmp_path / f"{name}.gguf" for name in ("ours", "again", "theirs"))
    for tuned, stored in ((None, "F32"), (None, "BF16"), (adapter, "F32")):
        source = tmp_path / "source.gguf"
        converters.write_model(base, source, adapter=tuned, outtype=stored)
        for outtype in TYPES:
            direct = converters.write_model(base, ours, adapter=tuned, outtype=outtype)
            second = converters.quantize(source, again, outtype)
            llama_quantize(source, theirs, FILE_TYPES[outtype].id)
            what = f"{'merged' if tuned else 'base'} {stored} {outtype}"
            record_property(what, compare(ours, theirs, f"{kind} {what}"))
            assert direct.sha256 == second.sha256 == sha256(theirs), what
            assert not any("bits per weight" in note for note in direct.notes)  # no fallbacks


@pytest.mark.parametrize("kind", BASES)
def test_the_same_with_an_imatrix(
    kind: str,
    make: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """A file as llama-imatrix writes it, read by our side; theirs gets the means in memory."""
    base, adapter = make(kind)
    source, exact, ours, again, theirs, known = (tmp_path / f"{i}.gguf" for i in range(6))
    converters.write_model(base, source, adapter=adapter, outtype="F32")
    importance = write_imatrix(known, converters.read_gguf(source))
    for outtype in TYPES:
        plain = converters.write_model(base, exact, adapter=adapter, outtype=outtype)
        direct = converters.write_model(
            base, ours, adapter=adapter, outtype=outtype, calibration=known
        )
        second = converters.quantize(source, again, outtype, calibration=known)
        llama_quantize(source, theirs, FILE_TYPES[outtype].id, importance)
        record_property(outtype, compare(ours, theirs, f"{kind} {outtype}"))
        assert direct.sha256 == second.sha256 == sha256(theirs), outtype
        assert (direct.sha256 != plain.sha256) == (outtype != "Q8_0")  # which takes no importance


def write_imatrix(path: Path, model: GgufFile) -> dict[str, np.ndarray]:
    """Random sums for every matrix of a block, experts each; returns their means, by name."""
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["text"])
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 512)
    means = {}
    for name, info in model.tensors.items():
        if name.startswith("blk.") and len(info.shape) > 1 and "ffn_gate_inp" not in name:
            n_sets = info.shape[0] if len(info.shape) == 3 else 1
            sums = random.gamma(0.5, 100.0, (n_sets, info.shape[-1])).astype(np.float32)
            count = np.float32(random.integers(100, 1000))
            writer.add_tensor(f"{name}.in_sum2", sums)
            writer.add_tensor(f"{name}.counts", np.full((n_sets, 1), count, np.float32))
            means[name] = (sums / count).reshape(-1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return means


def compare(ours: Path, theirs: Path, what: str) -> int:
    """The number of tensors; their names, types and bytes are the same."""
    one, two = converters.read_gguf(ours), converters.read_gguf(theirs)
    assert list(one.tensors) == list(two.tensors), what
    differing = [name for name in one.tensors if not same_tensor(one, two, name)]
    assert not differing, (what, len(one.tensors), differing)
    assert one.values == two.values, what
    return len(one.tensors)


def same_tensor(one: GgufFile, two: GgufFile, name: str) -> bool:
    kinds = one.tensors[name].type, two.tensors[name].type
    return kinds[0] == kinds[1] and np.array_equal(one.raw(name), two.raw(name))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
