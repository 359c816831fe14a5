"""write_adapter: what llama.cpp does with the file is what peft does with the folder."""

from __future__ import annotations

import shutil
import subprocess
import sys

import gguf
import numpy as np
import pytest

import converters
from converters.errors import ConvertError

# Rounding of these large pairs, and of what ggml multiplies them with; without the adapter it is 5
BOUNDS = {"F32": 1e-5, "F16": 2e-2, "BF16": 1e-1, "Q8_0": 5e-1}


@pytest.mark.oracle
@pytest.mark.parametrize("outtype", BOUNDS)
def test_every_type_is_applied(outtype, base, make_adapter, judge, tmp_path):
    adapter = make_adapter(base, use_rslora=True, alpha_pattern={"k_proj": 32})
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype=outtype)
    converters.check_gguf(tmp_path / "a.gguf")
    ours = judge.runtime(tmp_path / "m.gguf", tmp_path / "a.gguf").after_prompts()
    assert np.abs(ours - judge.hf(base, adapter)).max() < BOUNDS[outtype]


@pytest.mark.oracle
def test_on_a_tied_model_with_llama3_rope(make_base, make_adapter, judge, tmp_path):
    base = make_base(tie_word_embeddings=True, num_key_value_heads=4)
    adapter = make_adapter(base, r=3, lora_alpha=7)
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype="F32")
    ours = judge.runtime(tmp_path / "m.gguf", tmp_path / "a.gguf").after_prompts()
    assert np.abs(ours - judge.hf(base, adapter)).max() < 1e-3


@pytest.mark.parametrize("outtype", ["F32", "F16", "BF16", "Q8_0"])
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
        kind = "F16" if (outtype, part) == ("Q8_0", "B") else outtype
        wanted = gguf.quantize(stored[f"{key}{part}.weight"], gguf.GGMLQuantizationType[kind])
        assert tensor.data.tobytes() == wanted.tobytes()


def test_metadata_is_what_the_loader_reads(base, make_adapter, tmp_path):
    adapter = make_adapter(base, lora_alpha=12)
    lineage = {"run": "r1", "data.sha256": "ab", "dataset.sha256": "cd"}
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", name="n", lineage=lineage)
    values = converters.read_gguf(tmp_path / "a.gguf").values
    assert values["general.type"] == "adapter"
    assert values["general.architecture"] == "llama"
    assert values["adapter.type"] == "lora"
    assert values["adapter.lora.alpha"] == 12.0
    assert values["ft2ollama.run"] == "r1"
    assert (values["general.base_model.count"], values["general.base_model.0.name"]) == (1, "n")
    assert values["general.dataset.0.version"] == "sha256:cd"


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


def test_q8_0_where_the_rows_allow(base, make_adapter, tmp_path):
    """A's rows are the weight's columns; B's are the rank long, and fall back to F16."""
    adapter = make_adapter(base)
    written = converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype="q8_0")
    kinds = {t.name[-6:]: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    assert kinds == {"lora_a": "Q8_0", "lora_b": "F16"}
    assert "14 of 28 tensors are F16 and not Q8_0: their rows (4 in " in written.notes[0]
    assert written.file_type == "Q8_0"


def test_unknown_output_types_are_refused(base, make_adapter, tmp_path):
    with pytest.raises(ConvertError, match="F16, F32, BF16, Q8_0"):
        converters.write_adapter(make_adapter(base), base, tmp_path / "a.gguf", outtype="Q4_K")
    assert not list(tmp_path.iterdir())


def test_nothing_heavy_is_imported(base, make_adapter, tmp_path):
    """The process stays under a second of CPU; each of these alone would take longer."""
    adapter = make_adapter(base)
    program = (
        "import sys; from converters.__main__ import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'peft', 'numba', 'tokenizers'} & set(sys.modules); "
        "sys.exit(code or str(heavy) if heavy else code)"
    )
    arguments = ["adapter", str(adapter), str(base), str(tmp_path / "a.gguf")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)
    assert (tmp_path / "a.gguf").is_file()
