"""One proof for every family: transformers + peft against llama.cpp, on a tiny random model.

Weights have std 0.1, norms and biases are random, so that every mistake is far above rounding.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_settings import SMALL

import converters
from converters.hf_config import complete

EXACT = 1e-5  # of log-probabilities, among the 30 likeliest tokens


def randomize(model: Any, norm_centre: float = 1.0) -> Any:
    """Random weights; norms around `norm_centre` (0 for families that store w - 1)."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name and weight.ndim == 1:
                centre = 1.0 if "linear_attn" in name else norm_centre
                weight.uniform_(centre - 0.5, centre + 0.5)
            elif name.endswith("A_log"):
                weight.uniform_(-1, 1)
            else:
                weight.normal_(0, 0.1)
    return model


@pytest.fixture(scope="session")
def add_tokenizer(base: Path) -> Callable[[Path], None]:
    """add_tokenizer(folder): the tiny Llama's tokenizer files."""

    def add(folder: Path) -> None:
        for file in (*base.glob("tokenizer*"), *base.glob("*.jinja")):
            shutil.copy(file, folder)

    return add


@pytest.fixture(scope="session")
def make_tiny(
    tmp_path_factory: pytest.TempPathFactory, add_tokenizer: Callable[[Path], None], judge: Any
) -> Callable[..., Path]:
    """make_tiny("Qwen3ForCausalLM", head_dim=32) -> folder of a tiny random model, cached."""
    made: dict[str, Path] = {}

    def make(name: str, *, norm_centre: float = 1.0, **settings: Any) -> Path:
        import transformers

        key = json.dumps([name, settings], sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp("tiny")
            cls = getattr(transformers, name)
            with judge.quiet():
                model = cls(cls.config_class(**(SMALL | settings)))
                randomize(model, norm_centre)
                model.save_pretrained(folder)
            add_tokenizer(folder)
            made[key] = folder
        return made[key]

    return make


@dataclass(frozen=True)
class Case:
    """What `prove` compares, on which of the judges' prompts.

    prepare: makes the reference of the transformers model where its plain float32 is not exact
    enough; against the plain one the bound is then `loose`.
    """

    adapter: dict[str, Any] = field(default_factory=dict)
    prompts: tuple[int, ...] = (0, 1, 2)
    bound: float = EXACT
    prepare: Callable[[Any], Any] | None = None
    loose: float = EXACT


@pytest.fixture
def prove(
    judge: Any, make_adapter: Any, tmp_path: Path, record_property: Any
) -> Callable[..., converters.Written]:
    """prove(base, case): base, merged and adapter files predict like transformers and peft."""

    def references(case: Case, *folders: Path) -> list[tuple[np.ndarray, float]]:
        """Log-probabilities, and how near ours must come."""
        model = judge.tuned(*folders)
        plain = judge.logprobs(model)
        if case.prepare is None:
            return [(plain, case.bound)]
        return [(judge.logprobs(case.prepare(model)), case.bound), (plain, case.loose)]

    def compare(case: Case, what: str, expected: Any, *files: Path) -> None:
        ours = judge.runtime(*files).after_prompts()
        for theirs, bound in expected:
            worst = top_difference(ours, theirs, case.prompts)
            record_property(f"{what}, bound {bound:g}", worst)
            assert worst <= bound, (what, worst)

    def run(base: Path, case: Case = Case()) -> converters.Written:
        model, merged, lora = (tmp_path / name for name in ("m.gguf", "t.gguf", "a.gguf"))
        plain = references(case, base)
        written = converters.write_model(base, model, outtype="F32")
        converters.check_gguf(model)
        compare(case, "base", plain, model)

        adapter = make_adapter(base, **case.adapter)
        tuned = references(case, base, adapter)
        assert np.abs(tuned[0][0] - plain[0][0]).max() > 0.05  # the adapter does something
        converters.write_model(base, merged, adapter=adapter, outtype="F32")
        compare(case, "merged", tuned, merged)
        converters.write_adapter(adapter, base, lora, outtype="F32")
        converters.check_gguf(lora)
        compare(case, "adapter", tuned, model, lora)
        return written

    return run


def top_difference(
    ours: np.ndarray, theirs: np.ndarray, prompts: tuple[int, ...] = (0, 1, 2)
) -> float:
    """The largest difference among each prompt's 30 likeliest tokens."""
    return max(
        float(np.abs(ours[i] - theirs[i])[np.argsort(theirs[i])[-30:]].max()) for i in prompts
    )


@pytest.fixture
def write_pairs(tmp_path: Path) -> Callable[..., Path]:
    """write_pairs({module: (a, b)}, alpha=8) -> a PEFT folder with these factors."""

    def write(pairs: dict[str, tuple[np.ndarray, np.ndarray]], **config: Any) -> Path:
        folder = tmp_path / "pairs"
        folder.mkdir()
        tensors = {}
        for module, (a, b) in pairs.items():
            tensors[f"base_model.model.{module}.lora_A.weight"] = a
            tensors[f"base_model.model.{module}.lora_B.weight"] = b
        save_file(tensors, folder / "adapter_model.safetensors")
        settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8} | config
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        return folder

    return write


@pytest.fixture(scope="session")
def randomized() -> Callable[..., Any]:
    """randomized(model, norm_centre=1.0) -> the model with random weights."""
    return randomize


@pytest.fixture(scope="session")
def small_settings() -> dict[str, Any]:
    """The settings of a tiny text model."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def difference() -> Callable[..., float]:
    """difference(ours, theirs): the largest one among each prompt's 30 likeliest tokens."""
    return top_difference


@pytest.fixture(scope="session")
def small_config() -> Callable[..., dict[str, Any]]:
    """small_config("Qwen3ForCausalLM", head_dim=32) -> its config.json, complete."""

    def make(name: str, **settings: Any) -> dict[str, Any]:
        import transformers

        config = getattr(transformers, name).config_class(**(SMALL | settings))
        return complete({**config.to_dict(), "architectures": [name]})

    return make


@pytest.fixture(scope="session")
def archs_case() -> type[Case]:
    """The Case class, for test modules, which cannot import a conftest."""
    return Case
