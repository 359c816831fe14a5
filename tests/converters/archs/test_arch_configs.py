"""Published models are accepted, every tensor has a GGUF name, the sizes are the published ones."""

from __future__ import annotations

import math

import pytest
from published_models import MODELS

from converters import archs
from converters.errors import Unsupported
from converters.hf_config import DEFAULTS, complete
from converters.names import gguf_name, name_map


def config_json(name):
    cls, kind, settings, _ = MODELS[name]
    return complete({"architectures": [cls], "model_type": kind, **settings})


@pytest.mark.parametrize("name", MODELS)
def test_published_models_are_accepted(name):
    config = config_json(name)
    arch = archs.find(config)
    shapes = arch.shapes(config)
    names = name_map(arch.NAME, config["num_hidden_layers"])
    mapped = [gguf_name(names, tensor) for tensor in shapes]
    assert None not in mapped
    assert len(set(mapped)) == len(mapped)
    keys = [pair.key for pair in arch.pairs(config)]
    assert len(set(keys)) == len(keys)
    millions = sum(math.prod(size) for size in shapes.values()) / 1e6
    assert millions == pytest.approx(MODELS[name][3], rel=0.002)


def test_notes_say_what_is_left_out():
    def notes(name):
        config = config_json(name)
        return " ".join(archs.find(config).notes(config))

    assert "vision" in notes("gemma-3-4b")
    assert "mtp" in notes("Qwen3.5-9B")
    assert "4096" in notes("Phi-4-mini")
    assert notes("Qwen2.5-0.5B") == notes("Llama-3.1-8B") == notes("gemma-2-2b") == ""


def test_gemma3_4b_says_what_the_runtime_would_guess():
    config = config_json("gemma-3-4b")
    values = {
        pair.key.removeprefix("gemma3."): pair.value for pair in archs.find(config).pairs(config)
    }
    assert values["attention.sliding_window_pattern"] == [(i + 1) % 6 > 0 for i in range(34)]
    assert (values["rope.scaling.type"], values["rope.scaling.factor"]) == ("linear", 8.0)
    assert (values["rope.freq_base"], values["rope.freq_base_swa"]) == (1e6, 1e4)
    assert (values["attention.head_count"], values["attention.key_length"]) == (8, 256)


@pytest.mark.parametrize("name", ["DeepseekV3ForCausalLM", "Gemma3nForConditionalGeneration"])
def test_unknown_families_are_refused_by_name(name):
    with pytest.raises(Unsupported, match=name) as caught:
        archs.find({"architectures": [name]})
    for known in archs.TABLE:
        assert known in caught.value.why


def test_a_quantized_checkpoint_is_refused():
    config = {**config_json("Llama-3.1-8B"), "quantization_config": {"quant_method": "fp8"}}
    with pytest.raises(Unsupported) as caught:
        archs.find(config)
    assert "start from the float checkpoint" in caught.value.why


def test_the_text_part_wins_and_defaults_fill_the_rest():
    config = complete(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "hidden_size": 1,
            "text_config": {
                "architectures": None,
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "num_attention_heads": 16,
            },
        }
    )
    assert config["architectures"] == ["Gemma3ForConditionalGeneration"]
    assert (config["hidden_size"], config["num_attention_heads"]) == (2560, 16)
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (262208, True)


def test_defaults_are_those_of_transformers():
    """Every default we fill in is what the configuration class has."""
    from transformers import CONFIG_MAPPING

    for kind, settings in DEFAULTS.items():
        config = CONFIG_MAPPING[kind]()
        for key, value in settings.items():
            assert getattr(config, key) == value, (kind, key)
