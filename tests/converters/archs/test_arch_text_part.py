"""The text part of multimodal models, with an adapter that was trained on the whole."""

from __future__ import annotations

import numpy as np
import pytest

import converters
from converters.errors import ConvertError

pytestmark = pytest.mark.oracle
VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 16,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.5,
}
LINEAR = {
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
# name -> (class, text settings, vision settings, centre of norms, bound)
MODELS = {
    "ministral3": (
        "Mistral3ForConditionalGeneration",
        {"model_type": "ministral3", "head_dim": 16, "rope_parameters": YARN},
        {"model_type": "pixtral", **VISION},
        1.0,
        1e-5,
    ),
    "mistral small 3": (
        "Mistral3ForConditionalGeneration",
        {"model_type": "mistral", "head_dim": 32, "sliding_window": None},
        {"model_type": "pixtral", **VISION},
        1.0,
        1e-5,
    ),
    "gemma3": (  # the bound: GELU from a float16 table
        "Gemma3ForConditionalGeneration",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16, "num_hidden_layers": 6},
        {"model_type": "siglip_vision_model", **VISION},
        0.0,
        2e-3,
    ),
    "qwen3.5": (
        "Qwen3_5ForConditionalGeneration",
        {"head_dim": 32, "num_hidden_layers": 4, **LINEAR},
        {"depth": 1, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 64},
        0.0,
        5e-5,
    ),
}
LANGUAGE = r".*language_model.*(q_proj|v_proj|down_proj|out_proj)"


@pytest.fixture(scope="module")
def whole(judge, add_tokenizer, randomized, small_settings, tmp_path_factory):
    """whole(kind) -> (folder, model): a tiny multimodal model, saved."""
    import transformers

    def make(kind):
        name, text, vision, centre, _ = MODELS[kind]
        folder = tmp_path_factory.mktemp("whole")
        cls = getattr(transformers, name)
        tied = {"tie_word_embeddings": name.startswith("Gemma")}
        with judge.quiet():
            config = cls.config_class(
                text_config={**small_settings, **text, **tied}, vision_config=vision, **tied
            )
            model = randomized(cls(config), centre).eval()
            model.save_pretrained(folder)
        add_tokenizer(folder)
        return folder, model

    return make


def tune(model, folder, judge, target):
    """A random LoRA adapter on the model, saved; returns the tuned model."""
    import torch
    from peft import LoraConfig, get_peft_model

    with judge.quiet():
        tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=target))
        with torch.no_grad():
            for name, weight in tuned.named_parameters():
                if "lora_" in name:
                    weight.normal_(0, 0.1)
        tuned.save_pretrained(folder)
    return tuned.eval()


@pytest.mark.parametrize("kind", MODELS)
def test_text_part_predicts_like_the_whole(kind, whole, judge, difference, tmp_path):
    (folder, model), bound = whole(kind), MODELS[kind][-1]
    plain = judge.logprobs(model)
    tuned = judge.logprobs(tune(model, tmp_path / "adapter", judge, LANGUAGE))
    assert np.abs(tuned - plain).max() > 0.05
    m, t, a = (tmp_path / name for name in ("m.gguf", "t.gguf", "a.gguf"))
    written = converters.write_model(folder, m, outtype="F32")
    converters.write_model(folder, t, adapter=tmp_path / "adapter", outtype="F32")
    converters.write_adapter(tmp_path / "adapter", folder, a, outtype="F32")
    for file in (m, t, a):
        converters.check_gguf(file)
    assert any("vision" in note for note in written.notes)
    assert difference(judge.runtime(m).after_prompts(), plain) <= bound
    assert difference(judge.runtime(t).after_prompts(), tuned) <= bound
    assert difference(judge.runtime(m, a).after_prompts(), tuned) <= bound


def test_an_adapter_on_the_vision_part_is_refused(whole, judge, tmp_path):
    """llama.cpp's own script drops such pairs without a word."""
    folder, model = whole("gemma3")
    tune(model, tmp_path / "adapter", judge, r".*(vision_tower|language_model).*q_proj")
    with pytest.raises(ConvertError, match="adapter") as caught:
        converters.write_adapter(tmp_path / "adapter", folder, tmp_path / "a.gguf")
    assert "vision_tower" in caught.value.why
    assert not (tmp_path / "a.gguf").exists()
