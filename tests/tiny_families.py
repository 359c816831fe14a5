"""Tiny random models whose greedy replies can be compared to the token through a text-only API.

Every printable character is one token, and the output layer is zero for all other tokens, so a
reply is letters and digits and its text says which tokens it was. Weights have std 0.1; the last
norm is large, so that the likeliest token is clearly ahead of the next.
"""

from __future__ import annotations

import string
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_settings import SMALL

ALPHABET = string.ascii_letters + string.digits
PROMPTS = ("XQ7ZK42", "P", "W9B5HQ0Z2XK8VJ3MFT6RY1UGLCN4DAES7QX2KZ9H")
STEPS = 12
MARGIN = 0.05  # nat; the runtime keeps keys and values in float16, which costs about a tenth of it
_SMALL: Mapping[str, Any] = {
    **SMALL,
    "vocab_size": 260,
    "bos_token_id": 257,
    "eos_token_id": 258,
    "pad_token_id": 258,
}
_LAST_NORM = 9.0


@dataclass(frozen=True)
class Family:
    """A class of transformers, its settings, and those of the adapter on it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    adapter: Mapping[str, Any] = field(default_factory=dict)


_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "tie_word_embeddings": True}
_GRANITE = {
    "attention_multiplier": 0.2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "logits_scaling": 2.0,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.5,
}
_ATTENTION = {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
FAMILIES = {
    "llama": Family("LlamaForCausalLM"),
    "qwen2": Family("Qwen2ForCausalLM"),
    "qwen3": Family("Qwen3ForCausalLM", {"head_dim": 32}),
    # its scale of attention depends on the number of layers: the runtime knows 26, 42 and 46
    "gemma2": Family(
        "Gemma2ForCausalLM", {**_GEMMA, "sliding_window": 16, "num_hidden_layers": 26}
    ),
    "phi3": Family("Phi3ForCausalLM"),
    "granite": Family("GraniteForCausalLM", _GRANITE),
    "glm4": Family("Glm4ForCausalLM", {"head_dim": 16}),
    "mixtral": Family(
        "MixtralForCausalLM",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
        _ATTENTION,
    ),
    "qwen2moe": Family("Qwen2MoeForCausalLM", {**_MOE, "shared_expert_intermediate_size": 48}),
    "qwen3moe": Family(
        "Qwen3MoeForCausalLM", {**_MOE, "norm_topk_prob": True, "head_dim": 32}, _ATTENTION
    ),
    "smollm3": Family("SmolLM3ForCausalLM", {"num_hidden_layers": 4}),
    "mistral3": Family("Ministral3ForCausalLM", {"head_dim": 32, "rope_parameters": _YARN}),
}


def make_base(family: Family, folder: Path) -> Path:
    """Save the family's random model and the tokenizer into `folder`."""
    import torch
    import transformers

    tokenizer = save_tokenizer(folder)
    kept = torch.tensor(tokenizer.convert_tokens_to_ids(list(ALPHABET)))
    cls = getattr(transformers, family.name)
    torch.manual_seed(0)
    with quiet(), torch.no_grad():
        model = cls(cls.config_class(**{**_SMALL, **family.settings}))
        centre = 0.0 if "Gemma" in family.name else 1.0  # Gemma stores w - 1
        for name, weight in model.named_parameters():
            if "norm" in name and weight.ndim == 1:
                weight.uniform_(centre - 0.5, centre + 0.5)
            else:
                weight.normal_(0, 0.1)
        model.model.norm.weight += _LAST_NORM
        output = model.get_output_embeddings().weight
        output[[i for i in range(len(output)) if i not in set(kept.tolist())]] = 0
        model.save_pretrained(folder)
    return folder


def make_adapter(base: Path, settings: Mapping[str, Any], folder: Path) -> Path:
    """A PEFT folder with random factors, for all linear layers unless `settings` say otherwise."""
    import torch
    from peft import LoraConfig, get_peft_model

    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **settings}
    with quiet(), torch.no_grad():
        model = get_peft_model(_load(base), LoraConfig(**options))
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.1)
        model.save_pretrained(folder)
    return folder


def replies(base: Path, adapter: Path | None = None, *, head_norms: bool = True) -> list[str]:
    """Greedy replies of transformers (and peft) to PROMPTS, as far as they are clear.

    A reply ends before the first token that leads by less than MARGIN. head_norms=False computes a
    Qwen3 that lacks the norms of q and k.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    with quiet(), torch.no_grad():
        model = _load(base)
        if not head_norms:
            for layer in model.model.layers:
                layer.self_attn.q_norm = layer.self_attn.k_norm = torch.nn.Identity()
        if adapter:
            model = PeftModel.from_pretrained(model, adapter)
        return [_reply(model.eval(), tokenizer, prompt) for prompt in PROMPTS]


def _reply(model: Any, tokenizer: Any, prompt: str) -> str:
    import torch

    ids = tokenizer(prompt)["input_ids"]
    assert len(ids) == len(prompt)
    for _ in range(STEPS):
        logprobs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        best = logprobs.topk(2)
        if best.values[0] - best.values[1] < MARGIN:
            break
        ids.append(int(best.indices[0]))
    return str(tokenizer.decode(ids))[len(prompt) :]


def _load(base: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def save_tokenizer(folder: Path) -> Any:
    """Byte-level BPE with SmolLM's structure, and no merge among printable characters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*letters, *special, "ĠĠ"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "Ġ")]))
    tokenizer.add_special_tokens(special)
    digits = pre_tokenizers.Digits(individual_digits=True)
    letters_only = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters_only])
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
        pad_token=special[2],
    )
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    fast.save_pretrained(folder)
    return fast


@contextmanager
def quiet() -> Iterator[None]:
    """torch and peft warn about themselves; the suite turns warnings into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
