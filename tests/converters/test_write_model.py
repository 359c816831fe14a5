"""write_model against transformers, peft, llama.cpp and gguf-py."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

import converters
from converters import metadata
from converters.errors import ConvertError, DoesNotFit, Unsupported

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
BASES = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "no grouping": {"num_key_value_heads": 4},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "llama3 rope": {"rope_parameters": LLAMA3},
    "linear rope": {"rope_parameters": LINEAR},
    "yarn rope": {"rope_parameters": YARN},
    "wide heads": {"head_dim": 32},
    "bfloat16": {"save_dtype": "bfloat16"},
}
ADAPTERS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"q_proj": 8, r"layers\.1\.mlp\.down_proj": 2},
        "alpha_pattern": {"k_proj": 32, "gate_proj": 1, r"layers\.0\.self_attn\.q_proj": 5},
    },
    "patterns and rslora": {
        "use_rslora": True,
        "rank_pattern": {"q_proj": 8},
        "alpha_pattern": {"down_proj": 3},
    },
    "one layer": {"layers_to_transform": [1], "target_modules": ["q_proj", "v_proj"]},
    "lm_head": {"target_modules": ["lm_head", "k_proj"]},
    "embedding": {"target_modules": ["embed_tokens", "k_proj"]},
    "eva, which leaves the base alone": {"init_lora_weights": "eva"},
}


@pytest.mark.oracle
@pytest.mark.parametrize("kind", BASES)
def test_f32_file_predicts_like_transformers(kind, make_base, judge, tmp_path):
    base = make_base(**BASES[kind])
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.check_gguf(tmp_path / "m.gguf")
    ours = judge.runtime(tmp_path / "m.gguf").after_prompts()
    assert np.abs(ours - judge.hf(base)).max() < 1e-3


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ADAPTERS)
def test_merged_file_predicts_like_peft(kind, base, make_adapter, judge, tmp_path):
    adapter = make_adapter(base, **ADAPTERS[kind])
    converters.write_model(base, tmp_path / "m.gguf", adapter=adapter, outtype="F32")
    expected = judge.hf(base, adapter)
    assert np.abs(expected - judge.hf(base)).max() > 0.05  # the adapter does something
    ours = judge.runtime(tmp_path / "m.gguf").after_prompts()
    assert np.abs(ours - expected).max() < 1e-3


@pytest.mark.oracle
@pytest.mark.parametrize("outtype", ["F32", "F16", "BF16", "Q8_0"])
def test_every_tensor_is_the_encoded_reference(outtype, make_base, make_adapter, judge, tmp_path):
    """The reference: peft's merged float32 weights, encoded by gguf-py."""
    base = make_base(tie_word_embeddings=True)
    adapter = make_adapter(base, use_rslora=True)
    converters.write_model(base, tmp_path / "m.gguf", adapter=adapter, outtype=outtype)
    expected = _gguf_weights(judge.tuned(base, adapter).merge_and_unload())
    seen = {t.name: t for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert len(seen) == len(expected)
    for name, weight in expected.items():
        tensor = seen[name]
        wanted = gguf.GGMLQuantizationType[outtype if weight.ndim > 1 else "F32"]
        assert tensor.tensor_type == wanted, name
        ours = gguf.dequantize(tensor.data, wanted).reshape(weight.shape)
        reference = gguf.dequantize(gguf.quantize(weight, wanted), wanted).reshape(weight.shape)
        # merging sums in another order than torch does: one rounding step of the type at most
        step = {"F32": 1e-6, "F16": 1e-3, "BF16": 8e-3, "Q8_0": 1 / 127}[wanted.name]
        assert np.abs(ours - reference).max() <= step * np.abs(weight).max(), name


def _gguf_weights(merged) -> dict[str, np.ndarray]:
    """A transformers model's weights under GGUF names, q and k permuted the textbook way."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    out = {}
    for name, weight in merged.state_dict().items():
        if name == "lm_head.weight":
            continue
        array = weight.numpy()
        heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
        if heads:
            array = array.reshape(heads, 2, -1, 64).swapaxes(1, 2).reshape(array.shape)
        out[names.get_name(name, (".weight",))] = array
    return out


@pytest.mark.oracle
@pytest.mark.parametrize("outtype", ["F32", "F16", "BF16", "Q8_0"])
def test_unmerged_bytes_equal_gguf_py(outtype, base, tmp_path):
    """Without an adapter nothing is summed, so the bytes must be equal, not close."""
    from safetensors.numpy import load_file

    converters.write_model(base, tmp_path / "m.gguf", outtype=outtype)
    weights = load_file(base / "model.safetensors")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    seen = {t.name: t for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert len(seen) == len(weights)
    for hf_name, array in weights.items():
        tensor = seen[names.get_name(hf_name, (".weight",))]
        heads = {"q_proj": 4, "k_proj": 2}.get(hf_name.split(".")[-2])
        if heads:
            array = array.reshape(heads, 2, -1, 64).swapaxes(1, 2).reshape(array.shape)
        wanted = gguf.GGMLQuantizationType[outtype if array.ndim > 1 else "F32"]
        assert tensor.tensor_type == wanted
        assert gguf.quantize(array, wanted).tobytes() == tensor.data.tobytes(), hf_name


def test_result_describes_the_file(base, tmp_path):
    seen = []
    written = converters.write_model(
        base, tmp_path / "m.gguf", progress=lambda done, total: seen.append((done, total))
    )
    data = (tmp_path / "m.gguf").read_bytes()
    assert (written.sha256, written.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (written.file_type, written.architecture, written.n_tensors) == ("Q8_0", "llama", 21)
    assert seen[-1] == (len(data), len(data))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf"]


def test_order_is_the_one_ollama_copies_unchanged(base, tmp_path):
    converters.write_model(base, tmp_path / "m.gguf", lineage={"run": "7", "data": "abc"})
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    assert list(reader.fields)[-2:] == ["general.quantization_version", "general.file_type"]
    assert reader.fields["ft2ollama.run"].contents() == "7"
    assert "general.base_model.count" not in reader.fields  # it has no name
    names = [t.name for t in reader.tensors]
    assert names[:3] == ["output.weight", "output_norm.weight", "token_embd.weight"]
    assert names[3:12] == sorted(n for n in names if n.startswith("blk.0."))
    assert all(t.data_offset % 32 == 0 for t in reader.tensors)


def test_rows_of_odd_length_fall_back_with_a_note(make_base, tmp_path):
    base = make_base(intermediate_size=80)
    written = converters.write_model(base, tmp_path / "m.gguf", outtype="Q8_0")
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.ffn_up.weight"] == "Q8_0"
    assert "2 of 16 tensors become F16" in written.notes[0]


def test_metadata_names_no_path_and_no_user(base, make_adapter, tmp_path):
    adapter = make_adapter(base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)  # the trap is set
    converters.write_model(base, tmp_path / "m.gguf", adapter=adapter)
    converters.write_adapter(adapter, base, tmp_path / "a.gguf")
    for file in ("m.gguf", "a.gguf"):
        for pair in converters.read_gguf(tmp_path / file).pairs:
            if isinstance(pair.value, str):
                assert str(base.parent) not in pair.value
                assert str(Path.home()) not in pair.value
            assert not pair.key.startswith("general.base_model")
        assert "general.name" not in converters.read_gguf(tmp_path / file).values


def test_name_and_template_are_written(base, tmp_path):
    converters.write_model(base, tmp_path / "m.gguf", name="Mine", chat_template="{{ x }}")
    values = converters.read_gguf(tmp_path / "m.gguf").values
    assert values["general.name"] == "Mine"
    assert values["tokenizer.chat_template"] == "{{ x }}"


@pytest.mark.oracle
@pytest.mark.parametrize("count", [999, 134_515_008, 999_999_999, 1_235_814_400, 70_553_706_496])
def test_size_label_is_the_usual_one(count):
    assert metadata.size_label(count) == gguf.utility.model_weight_count_rounded_notation(count)


def _copy(base: Path, target: Path, **config: object) -> Path:
    shutil.copytree(base, target)
    settings = json.loads((target / "config.json").read_text()) | config
    (target / "config.json").write_text(json.dumps(settings))
    return target


@pytest.mark.parametrize(
    ("config", "needle"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"rope_parameters": {**YARN, "truncate": False}}, "truncate=False"),
        ({"rope_parameters": {**YARN, "attention_factor": 1.5}}, "attention_factor=1.5"),
        ({"rope_parameters": {**YARN, "beta_fast": 3.0}}, "beta_fast=3.0"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "no high_freq_factor"),
        ({"head_dim": 15}, "head_dim=15"),
        ({"vocab_size": None}, "no vocab_size"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type=dynamic"),
    ],
)
def test_bases_the_runtime_would_get_wrong(config, needle, base, tmp_path):
    broken = _copy(base, tmp_path / "base", **config)
    with pytest.raises(Unsupported, match=needle):
        converters.write_model(broken, tmp_path / "out" / "m.gguf")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scaling", [LLAMA3, YARN, LINEAR])
def test_older_spelling_of_the_rope_settings(scaling, make_base, tmp_path):
    """Before transformers 5: rope_theta and rope_scaling, whose type was once called `type`."""
    base = make_base(rope_parameters={**scaling, "rope_theta": 5000.0})
    config = json.loads((base / "config.json").read_text())
    old = _copy(base, tmp_path / "base")
    rest = {k: v for k, v in scaling.items() if k not in ("rope_type", "rope_theta")}
    config |= {"rope_theta": 5000.0, "rope_scaling": {**rest, "type": scaling["rope_type"]}}
    del config["rope_parameters"]
    (old / "config.json").write_text(json.dumps(config))
    one = converters.write_model(base, tmp_path / "1.gguf")
    assert converters.write_model(old, tmp_path / "2.gguf").sha256 == one.sha256


def test_sliding_window_is_noted(base, tmp_path):
    windowed = _copy(
        base, tmp_path / "base", architectures=["MistralForCausalLM"], sliding_window=64
    )
    written = converters.write_model(windowed, tmp_path / "m.gguf")
    assert "sliding_window=64" in written.notes[0]


def test_base_that_contradicts_its_config(base, tmp_path):
    broken = _copy(base, tmp_path / "base", num_hidden_layers=3, intermediate_size=128)
    with pytest.raises(ConvertError) as caught:
        converters.write_model(broken, tmp_path / "m.gguf")
    assert "model.layers.2.mlp.up_proj.weight: missing" in caught.value.why
    assert "[96, 64], config.json says [128, 64]" in caught.value.why


def test_saved_copy_of_a_tied_output_layer(make_base, tmp_path):
    from safetensors.numpy import load_file, save_file

    base = make_base(tie_word_embeddings=True)
    plain = converters.write_model(base, tmp_path / "1.gguf")
    doubled = _copy(base, tmp_path / "base")
    weights = load_file(doubled / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].copy()
    save_file(weights, doubled / "model.safetensors")
    assert converters.write_model(doubled, tmp_path / "2.gguf").sha256 == plain.sha256
    weights["lm_head.weight"][0, 0] += 1
    save_file(weights, doubled / "model.safetensors")
    with pytest.raises(ConvertError, match="says they are tied"):
        converters.write_model(doubled, tmp_path / "3.gguf")


def test_tokenizer_larger_than_the_embedding(base, tmp_path):
    broken = _copy(base, tmp_path / "base")
    tokenizer = json.loads((broken / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 320, "content": "<new>", "special": True})
    (broken / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DoesNotFit, match="more tokens than"):
        converters.write_model(broken, tmp_path / "m.gguf")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_numbers(bad, base, tmp_path):
    from safetensors.numpy import load_file, save_file

    broken = _copy(base, tmp_path / "base")
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = bad
    save_file(weights, broken / "model.safetensors")
    with pytest.raises(ConvertError) as caught:
        converters.write_model(broken, tmp_path / "m.gguf")
    assert "up_proj" in caught.value.tensor
    assert not list(tmp_path.glob("m.gguf*"))


def test_sharded_base_gives_the_same_file(base, tmp_path):
    from safetensors.numpy import load_file, save_file

    sharded = _copy(base, tmp_path / "base")
    weights = load_file(sharded / "model.safetensors")
    (sharded / "model.safetensors").unlink()
    parts = {"a.safetensors": {}, "b.safetensors": {}}
    for i, (name, array) in enumerate(weights.items()):
        parts[list(parts)[i % 2]][name] = array
    for file, tensors in parts.items():
        save_file(tensors, sharded / file)
    weight_map = {name: file for file, tensors in parts.items() for name in tensors}
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    one = converters.write_model(base, tmp_path / "1.gguf")
    two = converters.write_model(sharded, tmp_path / "2.gguf")
    assert one.sha256 == two.sha256
    index.write_text(json.dumps({"weight_map": {"x": "../base/a.safetensors"}}))
    with pytest.raises(ConvertError, match="outside its folder"):
        converters.write_model(sharded, tmp_path / "3.gguf")
