"""Everything PEFT can save: a LoRA GGUF that is right, or a refusal and a merged model that is.

Each row is made by peft itself on a tiny model with random trained values. The reference is peft's
own unmerged forward of the saved folder (float32), because that is what was trained: on tied models
`merge_and_unload` writes the update of one end into the weight that both ends share. The judge is
llama.cpp on F32 files: the largest difference of the 30 likeliest next tokens' log-probabilities.
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
from tiny_settings import SMALL

import converters
from converters.errors import ConvertError, NeedsMerge, Unsupported
from converters.peft_adapter import read_adapter

PROMPTS = ([5], [11, 200, 3, 77, 150, 42, 99], [i * 37 % 300 for i in range(40)])
TOLERANCE = 1e-5
TIED = {"tie_word_embeddings": True}
BIASED = {"attention_bias": True, "mlp_bias": True}
QV = {"target_modules": ["q_proj", "v_proj"]}
# peft takes these residuals in float32: 1e-6 off the exact ones, ours 1e-8 (test_residual.py)
FLOAT32_START = 5e-5


@dataclass(frozen=True)
class Row:
    """base: config overrides. config: LoraConfig arguments. beside: "" if an adapter file can say
    it, else what the refusal must name. new_tokens: rows the training added to the embedding."""

    config: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    beside: str = ""
    new_tokens: int = 0
    save: dict[str, Any] = field(default_factory=dict)
    kind: str = "LoraConfig"
    note: str = ""
    bound: float = TOLERANCE
    model: str = "LlamaForCausalLM"


MOE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "head_dim": 32,
}
QWEN_MOE: dict[str, Any] = {"model": "Qwen3MoeForCausalLM", "base": MOE}
MIXTRAL: dict[str, Any] = {
    "model": "MixtralForCausalLM",
    "base": {"num_local_experts": 4, "num_experts_per_tok": 2},
}
EXACT = {
    "plain": Row(),
    "plain, tied": Row(base=TIED),
    "plain, biased base": Row(base=BIASED),
    "rslora": Row({"use_rslora": True}),
    "rank_pattern": Row({"rank_pattern": {"q_proj": 8, r"layers\.1\.mlp\.down_proj": 2}}),
    "alpha_pattern": Row({"alpha_pattern": {"k_proj": 32, r"layers\.0\.self_attn\.q_proj": 5}}),
    "rslora and both patterns": Row(
        {"use_rslora": True, "rank_pattern": {"v_proj": 8}, "alpha_pattern": {"up_proj": 3}}
    ),
    "layers_to_transform": Row(QV | {"layers_to_transform": [1]}),
    "lm_head": Row({"target_modules": ["lm_head", "q_proj"]}),
    "embed_tokens": Row({"target_modules": ["embed_tokens", "v_proj"]}),
    "target_parameters on a linear": Row(
        {"target_modules": ["k_proj"], "target_parameters": ["self_attn.q_proj.weight"]}
    ),
    "bias=all where there are none": Row(QV | {"bias": "all"}),
    "pissa": Row(QV | {"init_lora_weights": "pissa"}, note="twice the rank", bound=FLOAT32_START),
    "pissa, rslora": Row({"init_lora_weights": "pissa", "use_rslora": True}, bound=FLOAT32_START),
    "olora": Row({"init_lora_weights": "olora"}, note="twice the rank"),
    "olora, rslora, ranks": Row(
        {"init_lora_weights": "olora", "use_rslora": True, "rank_pattern": {"k_proj": 9}}
    ),
    "adalora": Row(
        {"init_r": 4, "target_r": 2, "total_step": 9, "target_modules": ["q_proj", "up_proj"]},
        kind="AdaLoraConfig",
    ),
    "qwen2": Row(model="Qwen2ForCausalLM"),
    "moe router": Row({"target_modules": ["q_proj", "gate"]}, **QWEN_MOE),
    "fused experts": Row(
        QV | {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
        **QWEN_MOE,
    ),
    "fused experts, one parameter": Row(
        QV | {"target_parameters": ["mlp.experts.down_proj"]}, **QWEN_MOE
    ),
    "fused experts, patterns, rslora": Row(
        QV
        | {
            "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
            "rank_pattern": {"down_proj": 3},
            "alpha_pattern": {"gate_up_proj": 5},
            "use_rslora": True,
        },
        **QWEN_MOE,
    ),
    "all linears of a moe": Row(**QWEN_MOE),
    "all linears of mixtral": Row(**MIXTRAL),
}
MERGED = {
    "dora": Row({"use_dora": True}, beside="DoRA"),
    "dora, rslora, patterns, biased base": Row(
        {"use_dora": True, "use_rslora": True, "rank_pattern": {"v_proj": 8}},
        base=BIASED,
        beside="DoRA",
    ),
    "dora on both ends": Row(
        {"use_dora": True, "target_modules": ["embed_tokens", "lm_head", "k_proj"]}, beside="DoRA"
    ),
    "dora and pissa": Row(
        QV | {"use_dora": True, "init_lora_weights": "pissa"}, beside="DoRA", bound=FLOAT32_START
    ),
    "pissa on lm_head": Row(
        {"target_modules": ["lm_head", "q_proj"], "init_lora_weights": "pissa"},
        beside="saved whole",
        bound=FLOAT32_START,
    ),
    "olora on lm_head, tied": Row(
        {"target_modules": ["lm_head", "q_proj"], "init_lora_weights": "olora"},
        base=TIED,
        beside="as embedding and as output",
        bound=FLOAT32_START,
    ),
    "lora_bias": Row(QV | {"lora_bias": True}, base=BIASED, beside="bias on B"),
    "lora_bias where the base has none": Row(
        {"lora_bias": True, "target_modules": ["k_proj", "up_proj"]},
        beside="bias on B",
        note="gives the model biases",
    ),
    "bias=all": Row(QV | {"bias": "all"}, base=BIASED, beside="trained biases"),
    "bias=lora_only": Row(QV | {"bias": "lora_only"}, base=BIASED, beside="trained biases"),
    "norms": Row(
        QV | {"modules_to_save": ["norm", "input_layernorm", "post_attention_layernorm"]},
        beside="norm weights that were trained whole",
    ),
    "whole mlp": Row(QV | {"modules_to_save": ["mlp"]}, beside="saved whole"),
    "whole lm_head": Row(QV | {"modules_to_save": ["lm_head"]}, beside="saved whole"),
    "whole embed_tokens": Row(QV | {"modules_to_save": ["embed_tokens"]}, beside="saved whole"),
    "whole embed_tokens, tied": Row(
        QV | {"modules_to_save": ["embed_tokens"]},
        base=TIED,
        beside="saved whole",
        note="holds both",
    ),
    "whole both, tied": Row(
        QV | {"modules_to_save": ["embed_tokens", "lm_head"]}, base=TIED, beside="saved whole"
    ),
    "whole both, kept tied": Row(
        QV | {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        base=TIED,
        beside="saved whole",
    ),
    "new tokens, both ends whole": Row(
        QV | {"modules_to_save": ["embed_tokens", "lm_head"]},
        new_tokens=8,
        beside=r"resized from \[320, 64\] to \[328, 64\]",
        note="vocabulary resized from 320 to 328",
    ),
    "new tokens, embedding whole, tied": Row(
        QV | {"modules_to_save": ["embed_tokens"]}, base=TIED, new_tokens=8, beside="resized"
    ),
    "new tokens, untrained": Row(QV, new_tokens=8, beside="resized", note="adapter folder's"),
    "new tokens, untrained, tied": Row(QV, base=TIED, new_tokens=8, beside="resized"),
    "new tokens, trained rows, tied": Row(
        QV | {"trainable_token_indices": [320, 327]}, base=TIED, new_tokens=8, beside="resized"
    ),
    "new tokens, pairs on both ends": Row(
        {"target_modules": ["embed_tokens", "lm_head"]}, new_tokens=8, beside="resized"
    ),
    "new tokens, pairs on the embedding, tied": Row(
        {"target_modules": ["embed_tokens", "q_proj"]},
        base=TIED,
        new_tokens=8,
        beside="resized",
    ),
    "token rows": Row(QV | {"trainable_token_indices": [5, 200, 11]}, beside="token rows"),
    "token rows, tied": Row(
        QV | {"trainable_token_indices": [5, 200, 11]}, base=TIED, beside="token rows"
    ),
    "token rows of both ends, tied": Row(
        QV | {"trainable_token_indices": {"embed_tokens": [5, 200], "lm_head": [3]}},
        base=TIED,
        beside="token rows",
        note="holds both",
    ),
    "lm_head, tied": Row(
        {"target_modules": ["lm_head", "q_proj"]}, base=TIED, beside="as embedding and as output"
    ),
    "embed_tokens, tied": Row(
        {"target_modules": ["embed_tokens", "q_proj"]}, base=TIED, beside="as embedding"
    ),
    "both ends, tied": Row(
        {"target_modules": ["embed_tokens", "lm_head"]}, base=TIED, beside="as embedding"
    ),
    "both ends, kept tied": Row(
        {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True},
        base=TIED,
        beside="as embedding",
    ),
    "layer_replication": Row(
        QV | {"layer_replication": [[0, 2], [0, 1], [1, 2]]},
        beside="more layers",
        note="4 layers out of 2",
    ),
    "dora, qwen2": Row({"use_dora": True}, beside="DoRA", model="Qwen2ForCausalLM"),
    "bias=all, qwen2": Row(QV | {"bias": "all"}, beside="biases", model="Qwen2ForCausalLM"),
    "lora_bias, qwen2": Row(QV | {"lora_bias": True}, beside="bias on", model="Qwen2ForCausalLM"),
    "whole embed_tokens, tied qwen2": Row(
        QV | {"modules_to_save": ["embed_tokens"]},
        base=TIED,
        beside="saved whole",
        model="Qwen2ForCausalLM",
    ),
    "whole router and norms": Row(
        QV | {"modules_to_save": ["gate", "norm"]},
        beside="saved whole",
        **QWEN_MOE,
    ),
}
REFUSED = {
    "loha": (Row({"r": 4, "target_modules": ["q_proj"]}, kind="LoHaConfig"), "peft_type=LOHA"),
    "lokr": (Row({"r": 4, "target_modules": ["q_proj"]}, kind="LoKrConfig"), "peft_type=LOKR"),
    "vera": (Row({"r": 4, "target_modules": ["q_proj"]}, kind="VeraConfig"), "peft_type=VERA"),
    "ia3": (
        Row({"target_modules": ["k_proj"], "feedforward_modules": []}, kind="IA3Config"),
        "peft_type=IA3",
    ),
    "alora": (Row(QV | {"alora_invocation_tokens": [5]}), "aLoRA is active only after"),
    "pissa_niter": (Row(QV | {"init_lora_weights": "pissa_niter_4"}), "cannot be repeated"),
    "lora_bias, no place for it": (
        Row({"target_modules": ["o_proj"], "lora_bias": True}, model="Qwen2ForCausalLM"),
        "reads none there",
    ),
    "olora on lm_head, tied, not saved": (
        Row(
            {"target_modules": ["lm_head", "q_proj"], "init_lora_weights": "olora"},
            base=TIED,
            save={"save_embedding_layers": False},
        ),
        "changed the embedding too",
    ),
    "olora and copied layers": (
        Row(QV | {"init_lora_weights": "olora", "layer_replication": [[0, 2], [1, 2]]}),
        "copied layers share weights",
    ),
    "new tokens, one end saved": (
        Row({"target_modules": ["embed_tokens"]}, new_tokens=8),
        "only one end was saved",
    ),
}


@pytest.fixture(scope="session")
def tune(
    make_base: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, judge: Any
) -> Callable[[Row], tuple[Path, Path]]:
    """tune(row) -> base folder, adapter folder with random trained values."""
    made: dict[str, Path] = {}

    def tiny(row: Row) -> Path:
        if row.model == "LlamaForCausalLM":
            return make_base(**row.base)
        key = f"{row.model} {row.base}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp("base")
            with judge.quiet():
                _save_tiny(row, made[key])
            for file in make_base().glob("tokenizer*"):
                shutil.copy(file, made[key])
        return made[key]

    def make(row: Row) -> tuple[Path, Path]:
        import peft
        import torch

        base, folder = tiny(row), tmp_path_factory.mktemp("adapter")
        plain = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
        settings = (plain if "Lora" in row.kind else {}) | row.config
        with judge.quiet():
            torch.manual_seed(1)
            config = getattr(peft, row.kind)(**settings)
            tuned = peft.get_peft_model(_resized(base, row.new_tokens), config)
            with torch.no_grad():
                for name, weight in tuned.named_parameters():
                    if weight.requires_grad:
                        _shake(name, weight)
            tuned.save_pretrained(folder, **row.save)
            if row.new_tokens:
                _save_tokenizer(base, folder, row.new_tokens)
        return base, folder

    return make


def _save_tiny(row: Row, folder: Path) -> None:
    import torch
    import transformers

    cls = getattr(transformers, row.model)
    torch.manual_seed(0)
    model = cls(cls.config_class(**(SMALL | row.base)))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
            else:
                weight.normal_(0, 0.1)
    model.save_pretrained(folder)


def _shake(name: str, weight: Any) -> None:
    """A trained value: far from its start, and of a size its kind may have."""
    import torch

    if weight.ndim == 1 and ("norm" in name or "magnitude" in name):
        weight.mul_(torch.empty_like(weight).uniform_(0.6, 1.4))
    elif "tokens_delta" in name or "modules_to_save" in name:
        weight.add_(torch.randn_like(weight) * 0.1)
    else:
        weight.normal_(0, 0.1)


def _resized(base: Path, new_tokens: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if new_tokens:
        model.resize_token_embeddings(model.config.vocab_size + new_tokens, mean_resizing=False)
    return model


def _save_tokenizer(base: Path, folder: Path, new_tokens: int) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([f"<new{i}>" for i in range(new_tokens)], special_tokens=True)
    tokenizer.save_pretrained(folder)


def _prompts(row: Row) -> list[list[int]]:
    return [*PROMPTS, [5, 327, 11, 320]] if row.new_tokens else [*PROMPTS]


def _expected(judge: Any, base: Path, adapter: Path | None, row: Row) -> np.ndarray:
    """Log-probabilities of peft on the saved folder: [prompts, vocabulary]."""
    import peft
    import torch

    with judge.quiet(), torch.no_grad():
        model = _resized(base, row.new_tokens)
        if adapter:
            model = peft.PeftModel.from_pretrained(model, adapter)
        model.eval()
        rows = [model(torch.tensor([ids])).logits[0, -1] for ids in _prompts(row)]
        return torch.stack(rows).double().log_softmax(-1).numpy()


def _largest_difference(ours: np.ndarray, expected: np.ndarray) -> float:
    likeliest = np.argsort(expected, axis=1)[:, -30:]
    return float(np.abs(np.take_along_axis(ours - expected, likeliest, 1)).max())


def _runtime(judge: Any, row: Row, n_vocab: int, model: Path, adapter: Path | None) -> np.ndarray:
    runtime = judge.runtime(model, adapter)
    return np.stack([runtime.logprobs(ids, n_vocab) for ids in _prompts(row)])


@pytest.mark.oracle
@pytest.mark.parametrize("kind", EXACT | MERGED)
def test_row(kind, tune, judge, tmp_path, record_property):
    row = (EXACT | MERGED)[kind]
    base, adapter = tune(row)
    expected = _expected(judge, base, adapter, row)
    without = _expected(judge, base, None, Row())
    assert _largest_difference(without, expected[: len(without), : without.shape[1]]) > 0.05
    n_vocab = expected.shape[1]

    if row.beside:
        with pytest.raises(NeedsMerge, match=row.beside) as caught:
            converters.write_adapter(adapter, base, tmp_path / "a" / "a.gguf")
        assert "python -m converters model" in caught.value.fix
        assert not (tmp_path / "a").exists()
    else:
        converters.write_model(base, tmp_path / "base.gguf", outtype="F32")
        written = converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype="F32")
        converters.check_gguf(tmp_path / "a.gguf")
        assert row.note in " ".join(written.notes)
        ours = _runtime(judge, row, n_vocab, tmp_path / "base.gguf", tmp_path / "a.gguf")
        record_property("adapter", _largest_difference(ours, expected))
        assert _largest_difference(ours, expected) <= row.bound

    converters.check_adapter(adapter, base, merged=True)
    written = converters.write_model(base, tmp_path / "m.gguf", adapter=adapter, outtype="F32")
    converters.check_gguf(tmp_path / "m.gguf")
    assert row.note in " ".join(written.notes) or not row.beside
    ours = _runtime(judge, row, n_vocab, tmp_path / "m.gguf", None)
    record_property("model", _largest_difference(ours, expected))
    assert _largest_difference(ours, expected) <= row.bound


@pytest.mark.oracle
@pytest.mark.parametrize("kind", REFUSED)
def test_row_that_no_route_takes(kind, tune, tmp_path):
    row, needle = REFUSED[kind]
    base, adapter = tune(row)
    with pytest.raises(Unsupported) as beside:
        converters.write_adapter(adapter, base, tmp_path / "x" / "a.gguf")
    with pytest.raises(Unsupported, match=needle) as merged:
        converters.write_model(base, tmp_path / "x" / "m.gguf", adapter=adapter)
    assert isinstance(beside.value, NeedsMerge) or needle in str(beside.value)
    assert not isinstance(merged.value, NeedsMerge)
    assert merged.value.fix
    assert not (tmp_path / "x").exists()


def test_new_tokens_without_their_texts(tune, tmp_path):
    base, adapter = tune(MERGED["new tokens, untrained"])
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, bare)
    with pytest.raises(ConvertError, match="their texts are not known") as caught:
        converters.write_model(base, tmp_path / "m.gguf", adapter=bare)
    assert "save_pretrained" in caught.value.fix
    assert not (tmp_path / "m.gguf").exists()


def test_new_tokens_are_in_the_file(tune, tmp_path):
    base, adapter = tune(MERGED["new tokens, both ends whole"])
    converters.write_model(base, tmp_path / "m.gguf", adapter=adapter)
    values = converters.read_gguf(tmp_path / "m.gguf").values
    assert values["tokenizer.ggml.tokens"][320:] == [f"<new{i}>" for i in range(8)]
    assert values["llama.vocab_size"] == 328


@pytest.mark.oracle
def test_adalora_after_its_pruning(make_base, judge, tmp_path):
    """Pruned modules keep the scale of their first rank, and the file has fewer directions."""
    import torch
    from peft import AdaLoraConfig, get_peft_model

    base = make_base()
    schedule = {"init_r": 4, "target_r": 2, "total_step": 6, "tinit": 1, "tfinal": 1, "deltaT": 1}
    config = AdaLoraConfig(target_modules=["q_proj", "up_proj"], lora_alpha=9, **schedule)
    with judge.quiet():
        torch.manual_seed(3)
        tuned = get_peft_model(judge.tuned(base), config)
        optimizer = torch.optim.Adam([p for p in tuned.parameters() if p.requires_grad], lr=0.1)
        ids = torch.tensor([PROMPTS[2]])
        for step in range(1, 7):
            tuned(ids, labels=ids).loss.backward()
            optimizer.step()
            tuned.base_model.update_and_allocate(step)
            optimizer.zero_grad()
        tuned.save_pretrained(tmp_path / "adapter")
    ranks = {pair.rank for pair in read_adapter(tmp_path / "adapter").pairs.values()}
    assert min(ranks) < 4
    expected = judge.hf(base, tmp_path / "adapter")
    assert np.abs(expected - judge.hf(base)).max() > 0.05
    converters.write_model(base, tmp_path / "base.gguf", outtype="F32")
    converters.write_adapter(tmp_path / "adapter", base, tmp_path / "a.gguf", outtype="F32")
    ours = judge.runtime(tmp_path / "base.gguf", tmp_path / "a.gguf").after_prompts()
    assert _largest_difference(ours, expected) <= TOLERANCE


@pytest.mark.oracle
def test_pissa_converted_by_peft_is_plain_lora(make_base, judge, tmp_path):
    """peft's own conversion on saving: the file says true and has twice the rank."""
    import torch
    from peft import LoraConfig, get_peft_model

    base = make_base()
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], init_lora_weights="pissa")
    with judge.quiet():
        tuned = get_peft_model(judge.tuned(base), config)
        tuned.save_pretrained(tmp_path / "start")
        with torch.no_grad():
            for name, weight in tuned.named_parameters():
                if "lora_" in name:
                    weight.add_(torch.randn_like(weight) * 0.1)
        expected = judge.logprobs(tuned.eval())
        adapter = tmp_path / "converted"
        tuned.save_pretrained(
            adapter, path_initial_model_for_weight_conversion=str(tmp_path / "start")
        )
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 8
    converters.write_model(base, tmp_path / "base.gguf", outtype="F32")
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype="F32")
    ours = judge.runtime(tmp_path / "base.gguf", tmp_path / "a.gguf").after_prompts()
    assert _largest_difference(ours, expected) <= FLOAT32_START
