"""write_adapter: what llama.cpp does with the file is what peft does with the folder."""

from __future__ import annotations

import shutil

import gguf
import numpy as np
import pytest

import converters
from converters.errors import ConvertError

ADAPTERS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "rank pattern": {"rank_pattern": {"q_proj": 8, r"layers\.1\.mlp\.down_proj": 2}},
    "alpha pattern": {"alpha_pattern": {"k_proj": 32, r"layers\.0\.self_attn\.q_proj": 5}},
    "all of them": {
        "use_rslora": True,
        "rank_pattern": {"v_proj": 8},
        "alpha_pattern": {"up_proj": 3},
    },
    "lm_head": {"target_modules": ["lm_head", "q_proj"]},
    "embedding": {"target_modules": ["embed_tokens", "v_proj"]},
}


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ADAPTERS)
def test_applied_by_llama_cpp_as_by_peft(kind, base, make_adapter, judge, tmp_path):
    adapter = make_adapter(base, **ADAPTERS[kind])
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype="F32")
    converters.check_gguf(tmp_path / "a.gguf")
    ours = judge.runtime(tmp_path / "m.gguf", tmp_path / "a.gguf").after_prompts()
    assert np.abs(ours - judge.hf(base, adapter)).max() < 1e-3


@pytest.mark.oracle
def test_on_a_tied_model_with_llama3_rope(make_base, make_adapter, judge, tmp_path):
    base = make_base(tie_word_embeddings=True, num_key_value_heads=4)
    adapter = make_adapter(base, r=3, lora_alpha=7)
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype="F32")
    ours = judge.runtime(tmp_path / "m.gguf", tmp_path / "a.gguf").after_prompts()
    assert np.abs(ours - judge.hf(base, adapter)).max() < 1e-3


@pytest.mark.parametrize("outtype", ["F32", "F16", "BF16"])
def test_plain_adapter_keeps_its_bytes(outtype, base, make_adapter, tmp_path):
    from safetensors.numpy import load_file

    adapter = make_adapter(base)
    written = converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype=outtype)
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    stored = load_file(adapter / "adapter_model.safetensors")
    assert len(tensors) == len(stored) == written.n_tensors
    key = "base_model.model.model.layers.1.mlp.up_proj.lora_"
    for part in "AB":
        tensor = tensors[f"blk.1.ffn_up.weight.lora_{part.lower()}"]
        wanted = gguf.quantize(stored[f"{key}{part}.weight"], gguf.GGMLQuantizationType[outtype])
        assert tensor.data.tobytes() == wanted.tobytes()


def test_metadata_is_what_the_loader_reads(base, make_adapter, tmp_path):
    adapter = make_adapter(base, lora_alpha=12)
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", name="n", lineage={"run": "r1"})
    values = converters.read_gguf(tmp_path / "a.gguf").values
    assert values["general.type"] == "adapter"
    assert values["general.architecture"] == "llama"
    assert values["adapter.type"] == "lora"
    assert values["adapter.lora.alpha"] == 12.0
    assert values["ft2ollama.run"] == "r1"


def test_a_config_is_base_enough(base, make_adapter, tmp_path):
    adapter = make_adapter(base)
    (tmp_path / "base").mkdir()
    shutil.copy(base / "config.json", tmp_path / "base")
    one = converters.write_adapter(adapter, base, tmp_path / "1.gguf")
    two = converters.write_adapter(adapter, tmp_path / "base", tmp_path / "2.gguf")
    assert one.sha256 == two.sha256


@pytest.mark.oracle
def test_delta_read_back_equals_peft(base, make_adapter, judge, tmp_path):
    """The update recomputed from the file, q rows put back, is peft's get_delta_weight."""
    adapter = make_adapter(base, use_rslora=True, alpha_pattern={"q_proj": 20})
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype="F32")
    file = converters.read_gguf(tmp_path / "a.gguf")
    a = file.dequantize("blk.1.attn_q.weight.lora_a")
    b = file.dequantize("blk.1.attn_q.weight.lora_b")
    ours = file.values["adapter.lora.alpha"] / b.shape[1] * (b @ a)
    ours = ours.reshape(4, 8, 2, 64).swapaxes(1, 2).reshape(64, 64)
    layer = judge.tuned(base, adapter).base_model.model.model.layers[1].self_attn.q_proj
    expected = layer.get_delta_weight("default").detach().numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_quantized_adapters_are_refused(base, make_adapter, tmp_path):
    with pytest.raises(ConvertError, match="Q8_0"):
        converters.write_adapter(make_adapter(base), base, tmp_path / "a.gguf", outtype="Q8_0")
    assert not list(tmp_path.iterdir())
