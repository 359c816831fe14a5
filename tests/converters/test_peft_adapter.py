"""Reading PEFT folders: scales, key forms, and every refusal before anything is written."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import converters
from converters.errors import ConvertError, DoesNotFit, NeedsMerge, Unsupported
from converters.peft_adapter import read_adapter
from converters.peft_config import rank_and_scale

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def adapter(base, make_adapter, tmp_path):
    """A plain adapter that the test may spoil."""
    return shutil.copytree(make_adapter(base), tmp_path / "adapter")


def edit_config(adapter, **values):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_tensors(adapter, change):
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.oracle
def test_rank_and_scale_are_what_peft_computes(base, make_adapter, judge):
    adapter = make_adapter(
        base,
        use_rslora=True,
        lora_alpha=9,
        rank_pattern={"q_proj": 8, r"layers\.1\.mlp\.(up|down)_proj": 2, "proj": 5},
        alpha_pattern={"^model.layers.0.self_attn.v_proj": 3, "mlp.gate_proj": 1, "oproj": 77},
    )
    tuned = judge.tuned(base, adapter)
    pairs = read_adapter(adapter).pairs
    seen = 0
    for name, module in tuned.base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            pair = pairs[name]
            assert pair.rank == module.r["default"], name
            assert pair.scale == pytest.approx(module.scaling["default"], rel=1e-12), name
            seen += 1
    assert seen == len(pairs) == 14
    assert len({pair.scale for pair in pairs.values()}) >= 5


def test_defaults_without_patterns():
    assert rank_and_scale("a.q_proj", {"r": 4, "lora_alpha": 8}) == (4, 2.0)
    assert rank_and_scale("a.q_proj", {"r": 4, "lora_alpha": 8, "use_rslora": True}) == (4, 4.0)
    # the pattern must match to the end and begin at a dot
    config = {"r": 4, "lora_alpha": 8, "rank_pattern": {"proj": 2}}
    assert rank_and_scale("a.q_proj", config)[0] == 4
    assert rank_and_scale("a.q_proj", {**config, "rank_pattern": {"q": 2, "a.q": 2}})[0] == 4
    assert rank_and_scale("a.q_proj", {**config, "rank_pattern": {"q_.*": 2, "q_proj": 3}})[0] == 2


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.removeprefix("base_model.model."),
        lambda key: key.replace(".weight", ".default.weight"),
        lambda key: key.replace(".weight", ".my-adapter.weight"),
        lambda key: "base_model.model." + key,
    ],
    ids=["no prefix", "adapter name", "other adapter name", "doubled prefix"],
)
def test_key_forms_give_the_same_file(rename, base, adapter, tmp_path):
    plain = converters.write_adapter(adapter, base, tmp_path / "1.gguf")

    def change(tensors):
        renamed = {rename(key): tensors.pop(key) for key in list(tensors)}
        tensors.update(renamed)

    edit_tensors(adapter, change)
    assert converters.write_adapter(adapter, base, tmp_path / "2.gguf").sha256 == plain.sha256


REFUSED_SETTINGS = {
    "peft_type": "LOHA",
    "use_dora": True,
    "lora_bias": True,
    "modules_to_save": ["lm_head"],
    "trainable_token_indices": [1, 2],
    "target_parameters": ["mlp.experts.gate_up_proj"],
    "fan_in_fan_out": True,
    "use_qalora": True,
    "use_bdlora": {"x": 1},
    "kasa_config": {"x": 1},
    "arrow_config": {"x": 1},
    "monteclora_config": {"x": 1},
    "alora_invocation_tokens": [5],
    "a_setting_of_next_year": {"x": 1},
}
INITS = ["pissa_niter_4", "corda", "loftq", "lora_ga", "next_year", 7]


def refused_both_ways(adapter, base, tmp_path, kind=ConvertError):
    """The two errors, after checking that nothing was written."""
    out, found = tmp_path / "out" / "x.gguf", []
    with pytest.raises(kind) as caught:
        converters.write_adapter(adapter, base, out)
    found.append(caught.value)
    with pytest.raises(kind) as caught:
        converters.write_model(base, out, adapter=adapter)
    found.append(caught.value)
    assert not out.parent.exists()
    assert not any(isinstance(error, NeedsMerge) for error in found)
    return found


@pytest.mark.parametrize(
    ("key", "value"),
    [*REFUSED_SETTINGS.items(), *[("init_lora_weights", init) for init in INITS]],
)
def test_settings_that_no_route_honours(key, value, base, adapter, tmp_path):
    """Among them settings that say something was trained which the file does not hold."""
    edit_config(adapter, **{key: value})
    for error in refused_both_ways(adapter, base, tmp_path, Unsupported):
        assert key in error.why
        assert error.fix


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_inits_that_leave_the_base_alone_are_taken(init, base, adapter):
    edit_config(adapter, init_lora_weights=init)
    converters.check_adapter(adapter, base)
    converters.check_adapter(adapter, base, merged=True)


def test_pissa_without_the_base_weights(base, adapter, tmp_path):
    edit_config(adapter, init_lora_weights="pissa")
    shutil.copy(base / "config.json", tmp_path)
    converters.check_adapter(adapter, base)
    with pytest.raises(NeedsMerge, match="no weights to put them back"):
        converters.check_adapter(adapter, tmp_path)


REFUSED_TENSORS = {
    "bias of A": (f"{Q0}.lora_A.bias", "unknown meaning"),
    "unknown": ("something.else", "unknown meaning"),
    "unknown weight": ("model.layers.0.self_attn.new_proj.weight", "no such module"),
    "second adapter": (f"{Q0}.lora_A.other.weight", "second adapter"),
    "mlx": ("model.layers.0.self_attn.q_proj.lora_a", "MLX key"),
    "half a pair": ("model.layers.0.self_attn.x_proj.lora_A.weight", "lora_B missing"),
    "magnitude of another size": (f"{Q0}.lora_magnitude_vector", r"is \[4, 64\], expected \[64\]"),
    "vision tower": ("model.visual.blocks.0.attn.qkv.lora_A.weight", "--text-only leaves it out"),
    "projector": ("multi_modal_projector.linear_1.weight", "--text-only leaves it out"),
}


@pytest.mark.parametrize("kind", REFUSED_TENSORS)
def test_tensors_that_no_route_takes(kind, base, adapter, tmp_path):
    key, needle = REFUSED_TENSORS[kind]
    edit_tensors(adapter, lambda t: t.update({key: np.zeros((4, 64), np.float32)}))
    for error in refused_both_ways(adapter, base, tmp_path):
        assert re.search(needle, error.why)


MERGED_TENSORS = {
    "norm": ("base_model.model.model.norm.weight", (64,), "norm weights"),
    "saved module": ("base_model.model.lm_head.modules_to_save.weight", (320, 64), "saved whole"),
    "saved weight": ("base_model.model.lm_head.weight", (320, 64), "saved whole"),
}


@pytest.mark.parametrize("kind", MERGED_TENSORS)
def test_tensors_that_only_a_model_file_holds(kind, base, adapter, tmp_path):
    key, shape, needle = MERGED_TENSORS[kind]
    edit_tensors(adapter, lambda t: t.update({key: np.ones(shape, np.float32)}))
    with pytest.raises(NeedsMerge, match=needle):
        converters.write_adapter(adapter, base, tmp_path / "out" / "x.gguf")
    assert not (tmp_path / "out").exists()
    converters.write_model(base, tmp_path / "m.gguf", adapter=adapter, outtype="F32")
    name = {"norm": "output_norm.weight"}.get(kind, "output.weight")
    assert (converters.read_gguf(tmp_path / "m.gguf").dequantize(name) == 1).all()


@pytest.mark.parametrize("merged", [False, True])
def test_text_only_leaves_the_tower_out_and_says_so(merged, base, adapter, tmp_path):
    plain, towered = tmp_path / "1.gguf", tmp_path / "2.gguf"

    def write(out, **options):
        if merged:
            return converters.write_model(base, out, adapter=adapter, **options)
        return converters.write_adapter(adapter, base, out, **options)

    one = write(plain)
    keys = [f"model.visual.blocks.0.attn.qkv.lora_{part}.weight" for part in "AB"]
    edit_tensors(adapter, lambda t: t.update(dict.fromkeys(keys, np.ones((4, 4), np.float32))))
    two = write(towered, text_only=True)
    assert two.sha256 == one.sha256
    assert "2 trained tensors of visual are left out" in " ".join(two.notes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["A", "B"])
def test_numbers_that_are_none(part, bad, base, adapter, tmp_path):
    edit_tensors(adapter, lambda t: t[f"{Q0}.lora_{part}.weight"].__setitem__((1, 2), bad))
    for error in refused_both_ways(adapter, base, tmp_path):
        assert f"q_proj.lora_{part}.weight: not finite" in error.why


def test_mlx_folder(base, adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapters.safetensors")
    with pytest.raises(Unsupported, match="MLX"):
        converters.check_adapter(adapter, base)


@pytest.mark.parametrize("part", ["A", "B"])
def test_half_a_pair(part, base, adapter):
    edit_tensors(adapter, lambda t: t.pop(f"{Q0}.lora_{part}.weight"))
    with pytest.raises(Unsupported, match=f"q_proj: lora_{part} missing"):
        converters.check_adapter(adapter, base)


def test_rank_that_contradicts_the_config(base, adapter):
    edit_config(adapter, rank_pattern={"v_proj": 2})
    with pytest.raises(Unsupported, match=r"rank 4, adapter_config\.json says 2"):
        converters.check_adapter(adapter, base)


@pytest.mark.parametrize(
    "values",
    [
        {"r": None},
        {"r": 0},
        {"lora_alpha": "8"},
        {"lora_alpha": float("nan")},
        {"lora_alpha": 1e300},
        {"alpha_pattern": {"q_proj": 2**70}},
        {"rank_pattern": {"(": 2}},
        {"rank_pattern": [1]},
        {"rank_pattern": {"q_proj": [True]}},
        {"modules_to_save": 7},
        {"target_parameters": [7]},
        {"layer_replication": [[0]]},
        {"layer_replication": 3},
    ],
)
def test_configs_that_make_no_sense(values, base, adapter):
    edit_config(adapter, **values)
    with pytest.raises(ConvertError, match=r"adapter_config\.json has"):
        converters.check_adapter(adapter, base)


def test_pickled_adapter(base, adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(Unsupported, match="pickle"):
        converters.check_adapter(adapter, base)


def test_trained_embedding_copy_is_seen(base, make_adapter, tmp_path):
    """PEFT saves the embeddings with an adapter on them; an unchanged copy is no obstacle."""
    adapter = make_adapter(base, target_modules=["embed_tokens"])
    keys = list(load_file(adapter / "adapter_model.safetensors"))
    copies = [key for key in keys if key.endswith("embed_tokens.base_layer.weight")]
    assert copies, keys
    converters.check_adapter(adapter, base)
    changed = shutil.copytree(adapter, tmp_path / "changed")
    edit_tensors(changed, lambda t: t.__setitem__(copies[0], t[copies[0]] + 1))
    with pytest.raises(NeedsMerge, match="different from the base"):
        converters.check_adapter(changed, base)


def test_embedding_copy_needs_the_base_weights(base, make_adapter, tmp_path):
    adapter = make_adapter(base, target_modules=["embed_tokens"])
    shutil.copy(base / "config.json", tmp_path)
    with pytest.raises(Unsupported, match="give the whole base folder"):
        converters.check_adapter(adapter, tmp_path)


def test_another_base_lists_everything_at_once(adapter, make_base):
    other = make_base(num_hidden_layers=1, intermediate_size=160)
    with pytest.raises(DoesNotFit) as caught:
        converters.check_adapter(adapter, other)
    why = caught.value.why
    assert "model.layers.0.mlp.up_proj: adapter is for a weight [96, 64]" in why
    assert "has [160, 64]" in why
    assert "no such layer" in why
    assert len(why.splitlines()) >= 9


def test_modules_the_base_lacks_name_the_nearest(adapter, base):
    def change(tensors):
        for part in ("A", "B"):
            old = f"{Q0}.lora_{part}.weight"
            tensors[old.replace("q_proj", "qq_proj")] = tensors.pop(old)
            tensors[f"model.extra.0.qkv.lora_{part}.weight"] = np.ones((4, 4), np.float32)

    edit_tensors(adapter, change)
    with pytest.raises(DoesNotFit) as caught:
        converters.check_adapter(adapter, base)
    assert "nearest: model.layers.*.self_attn.q_proj" in caught.value.why
    assert "model.extra.0.qkv: the base has no such module" in caught.value.why


def test_several_problems_are_one_error(base, adapter):
    edit_config(adapter, use_dora=True, use_qalora=True, init_lora_weights="corda")
    edit_tensors(adapter, lambda t: t.pop(f"{Q0}.lora_A.weight"))
    with pytest.raises(Unsupported) as caught:
        converters.check_adapter(adapter, base)
    for needle in ("use_dora", "use_qalora", "init_lora_weights=corda", "lora_A missing"):
        assert needle in caught.value.why


def test_broken_files_are_named(base, adapter):
    weights = adapter / "adapter_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(ConvertError, match="truncated"):
        converters.check_adapter(adapter, base)
    weights.write_bytes(b"\xff" * 100)
    with pytest.raises(ConvertError, match="not a safetensors file"):
        converters.check_adapter(adapter, base)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ConvertError, match="not valid JSON"):
        converters.check_adapter(adapter, base)
