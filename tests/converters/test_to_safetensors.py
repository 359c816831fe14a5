"""GGUF -> Hugging Face folder: the weights come back in place, and transformers loads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import converters
from converters.errors import ConvertError, Unsupported

LLAMA31 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
BASES = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 32},
    "linear rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    "yarn rope": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
    "llama 3.1 rope": {"rope_parameters": LLAMA31},
    "llama 3.2 rope": {"rope_parameters": {**LLAMA31, "factor": 32.0}},
}


@pytest.mark.oracle
@pytest.mark.parametrize("kind", BASES)
def test_round_trip_is_exact(kind, make_base, judge, tmp_path):
    base = make_base(**BASES[kind])
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.gguf_to_safetensors(tmp_path / "m.gguf", tmp_path / "back")
    before = load_file(base / "model.safetensors")
    after = load_file(tmp_path / "back" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert np.array_equal(weight, after[name]), name
    assert np.array_equal(judge.hf(base), judge.hf(tmp_path / "back"))
    first = json.loads((base / "config.json").read_text())
    again = json.loads((tmp_path / "back" / "config.json").read_text())
    assert first["rope_parameters"].items() <= again["rope_parameters"].items()
    assert again["rms_norm_eps"] == 1e-6
    assert again["rope_theta"] == again["rope_parameters"]["rope_theta"]
    assert again["tie_word_embeddings"] == BASES[kind].get("tie_word_embeddings", False)
    assert (again["bos_token_id"], again["eos_token_id"], again["pad_token_id"]) == (1, 2, 2)


@pytest.mark.oracle
@pytest.mark.parametrize("outtype", ["F16", "BF16", "Q8_0"])
def test_weights_are_the_decoded_ones(outtype, base, tmp_path):
    """Written again in the same type, the folder gives the same tensors: decoding was exact."""
    first = converters.write_model(base, tmp_path / "1.gguf", outtype=outtype)
    converters.gguf_to_safetensors(tmp_path / "1.gguf", tmp_path / "back")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "back" / file).write_bytes((base / file).read_bytes())
    converters.write_model(tmp_path / "back", tmp_path / "2.gguf", outtype=outtype)
    one, two = (converters.read_gguf(tmp_path / f) for f in ("1.gguf", "2.gguf"))
    assert first.n_tensors == len(two.tensors)
    for name in one.tensors:
        assert np.array_equal(one.dequantize(name), two.dequantize(name)), name


def test_progress_and_no_leftovers(base, tmp_path):
    seen = []
    converters.write_model(base, tmp_path / "m.gguf")
    converters.gguf_to_safetensors(
        tmp_path / "m.gguf", tmp_path / "back", progress=lambda *at: seen.append(at)
    )
    size = (tmp_path / "back" / "model.safetensors").stat().st_size
    assert seen[-1] == (size, size)
    names = {p.name for p in (tmp_path / "back").iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}


def test_unknown_rope_factors_are_refused(make_base, tmp_path):
    odd = {**LLAMA31, "factor": 5.0}
    converters.write_model(make_base(rope_parameters=odd), tmp_path / "m.gguf")
    with pytest.raises(Unsupported, match="not one of the published"):
        converters.gguf_to_safetensors(tmp_path / "m.gguf", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_unsound_files_are_refused_before_anything_is_written(base, make_adapter, tmp_path):
    converters.write_adapter(make_adapter(base), base, tmp_path / "a.gguf")
    with pytest.raises(ConvertError):
        converters.gguf_to_safetensors(tmp_path / "a.gguf", tmp_path / "back")
    assert not (tmp_path / "back").exists()
