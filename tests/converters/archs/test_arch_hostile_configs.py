"""A config.json that says nonsense is refused in a sentence, whatever it says."""

from __future__ import annotations

import copy
import math

import pytest
from published_models import MODELS

from converters import archs
from converters.errors import ConvertError
from converters.hf_config import complete
from converters.names import gguf_name, name_map

NONSENSE = [
    None,
    "x",
    -1,
    0,
    1,
    3,
    1.5,
    True,
    [],
    {},
    [None],
    {"a": []},
    10**30,
    math.nan,
    math.inf,
]


def use(config) -> None:
    """What an export computes from the settings before it opens the weights."""
    whole = complete(config)
    arch = archs.find(whole)
    shapes = arch.shapes(whole)
    names = name_map(arch.NAME, whole["num_hidden_layers"])
    assert all(gguf_name(names, name) for name in shapes)
    arch.pairs(whole)
    arch.notes(whole)
    arch.extra_tensors(whole)
    for name in list(shapes)[:40]:
        arch.row_order(whole, name.removesuffix(".weight"))


def places(settings, path=()):
    """Every key of the settings, nested ones too."""
    for key, value in settings.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


@pytest.mark.parametrize("name", MODELS)
def test_nonsense_is_refused_or_harmless(name):
    cls, kind, settings, _ = MODELS[name]
    good = copy.deepcopy({"architectures": [cls], "model_type": kind, **settings})
    text = good.get("text_config", good)
    text["num_hidden_layers"] = 4  # the same questions, answered faster
    for key in ("layer_types", "no_rope_layers"):
        if key in text:
            text[key] = text[key][:4]
    use(good)
    refused = 0
    for path in places(good):
        for value in NONSENSE:
            bad = copy.deepcopy(good)
            inner = bad
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            try:
                use(bad)
            except ConvertError:
                refused += 1
    assert refused > 50


def test_counts_that_would_loop_for_ever_are_refused():
    cls, kind, settings, _ = MODELS["Llama-3.1-8B"]
    config = {"architectures": [cls], "model_type": kind, **settings, "num_hidden_layers": 10**9}
    with pytest.raises(ConvertError) as caught:
        archs.find(complete(config))
    assert "num_hidden_layers=1000000000: not a number of 1 to 512" in caught.value.why


@pytest.mark.parametrize("name", MODELS)
def test_nonsense_in_the_metadata_of_a_file_is_refused_or_harmless(name):
    cls, kind, settings, _ = MODELS[name]
    config = complete(copy.deepcopy({"architectures": [cls], "model_type": kind, **settings}))
    config["num_hidden_layers"] = 4
    config.pop("no_rope_layers", None), config.pop("layer_types", None)
    arch = archs.find(config)
    good = {pair.key: pair.value for pair in arch.pairs(config)}
    refused = 0
    for key in good:
        for value in NONSENSE:
            try:
                back = arch.config_of({**good, key: value}, {})
                arch.shapes({**back, "vocab_size": 320})
            except ConvertError:
                refused += 1
    assert refused > 50
    again = arch.config_of(good, arch.extra_tensors(config))
    plain = {key for key in arch.shapes({**again, "vocab_size": 320}) if "lm_head" not in key}
    assert plain == {key for key in arch.shapes(config) if "lm_head" not in key}
