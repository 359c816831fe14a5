"""The numbers of a model that memory and time depend on, from its settings alone.

In: config.json (text part of a multimodal model too), a GGUF header, or a size such as 7B.
Out: a `Shape`. Weights are never read, so a model that is not downloaded can be estimated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ft2ollama.errors import UsageError

# Other names of the same settings: transformers' configuration_gpt2.py, configuration_falcon.py.
_ALIASES = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "n_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "intermediate_size": ("n_inner", "ffn_hidden_size"),
}


@dataclass(frozen=True)
class Shape:
    """Sizes of one decoder; widths in features.

    ffn: width of the feed-forward part (of one expert).  experts, active: how many there are and
    how many a token meets, shared ones included; 1 for a dense model.  gated: three feed-forward
    matrices instead of two.  tied: the output layer is the embedding.
    """

    name: str
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool = False
    experts: int = 1
    active: int = 1
    gated: bool = True

    @property
    def q(self) -> int:
        """Width of the queries."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of the keys, and of the values."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[tuple[str, int, int, int], ...]:
        """(name, inputs, outputs, copies) of the linear layers of one block."""
        h, f = self.hidden, self.ffn
        up = (("gate_proj", h, f, self.experts),) if self.gated else ()
        return (
            ("q_proj", h, self.q, 1),
            ("k_proj", h, self.kv, 1),
            ("v_proj", h, self.kv, 1),
            ("o_proj", self.q, h, 1),
            *up,
            ("up_proj", h, f, self.experts),
            ("down_proj", f, h, self.experts),
        )

    @property
    def linear_weights(self) -> int:
        """Weights of all blocks' linear layers: N in docs/estimate.md."""
        return self.layers * sum(i * o * n for _, i, o, n in self.linears)

    @property
    def active_weights(self) -> int:
        """Those of them that one token is multiplied with."""
        return self.layers * sum(
            i * o * (self.active if n > 1 else n) for _, i, o, n in self.linears
        )

    @property
    def head_weights(self) -> int:
        """Weights of the output layer, tied or not."""
        return self.vocab * self.hidden

    @property
    def other_weights(self) -> int:
        """Embedding, an output layer of its own, and norms."""
        norms = (2 * self.layers + 1) * self.hidden
        return self.head_weights * (1 if self.tied else 2) + norms

    @property
    def weights(self) -> int:
        """All of them."""
        return self.linear_weights + self.other_weights


def shape_of_config(settings: Mapping[str, Any], name: str) -> Shape:
    """A Shape from config.json's object; raises UsageError naming what it lacks."""
    from converters.hf_config import complete

    flat = complete(settings)

    def number(key: str, default: int | None = None) -> int:
        found = (flat.get(one) for one in (key, *_ALIASES.get(key, ())))
        value = next((one for one in found if isinstance(one, int)), default)
        if value is None or value < 1:
            raise UsageError(
                f"the size of {name} cannot be told from its config.json",
                f"{key} is {flat.get(key)!r}",
                "ft2ollama estimate --params 7B --layers 28 --hidden 3584",
            )
        return value

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    experts = _count(flat, "num_experts", "n_routed_experts", "num_local_experts")
    ffn = number("intermediate_size", 4 * hidden)
    shared = 0
    if experts > 1:
        ffn = number("moe_intermediate_size", ffn)
        width = flat.get("shared_expert_intermediate_size") or 0
        shared = round(width / ffn) + _count(flat, "n_shared_experts", least=0)
    return Shape(
        name=name,
        hidden=hidden,
        ffn=ffn,
        layers=number("num_hidden_layers"),
        heads=heads,
        kv_heads=number("num_key_value_heads", heads),
        head_dim=number("head_dim", hidden // heads),
        vocab=number("vocab_size"),
        tied=bool(flat.get("tie_word_embeddings", False)),
        experts=experts + shared,
        active=_count(flat, "num_experts_per_tok", "moe_topk") + shared if experts > 1 else 1,
        gated=flat.get("model_type") not in ("gpt2", "falcon", "gpt_neox", "opt", "bloom", "phi"),
    )


def _count(flat: Mapping[str, Any], *keys: str, least: int = 1) -> int:
    found = (flat.get(key) for key in keys)
    return next((value for value in found if isinstance(value, int) and value > 0), least)


def shape_of_gguf(path: Path) -> Shape:
    """A Shape from a GGUF file's header (keys: gguf's docs/gguf.md, "LLM")."""
    from converters import read_gguf
    from converters.errors import ConvertError

    try:
        file = read_gguf(path)
    except ConvertError as error:
        raise UsageError(f"{path} is not a whole GGUF file", error.what, "check the file") from None
    values = file.values
    arch = str(values.get("general.architecture", ""))

    def number(key: str, default: int | None = None) -> int:
        value = values.get(f"{arch}.{key}", default)
        if isinstance(value, list):
            value = value[0] if value else default
        if not isinstance(value, int) or value < 1:
            raise UsageError(
                f"the size of {path.name} cannot be told from its header",
                f"{arch}.{key} is {value!r}",
                "ft2ollama estimate --params 7B --layers 28 --hidden 3584",
            )
        return value

    hidden, heads = number("embedding_length"), number("attention.head_count")
    experts = number("expert_count", 1) if values.get(f"{arch}.expert_count") else 1
    tokens = values.get("tokenizer.ggml.tokens")
    return Shape(
        name=path.stem,
        hidden=hidden,
        ffn=number("expert_feed_forward_length" if experts > 1 else "feed_forward_length"),
        layers=number("block_count"),
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        head_dim=number("attention.key_length", hidden // heads),
        vocab=len(tokens) if isinstance(tokens, list) else number("vocab_size"),
        tied="output.weight" not in file.tensors,
        experts=experts,
        active=number("expert_used_count", 1) if experts > 1 else 1,
    )


# Sizes people name, as a stand-in for a model whose config.json is not at hand:
# the published config.json of SmolLM2, Qwen2.5, Llama 3.
TYPICAL = (
    Shape("SmolLM2-135M", 576, 1536, 30, 9, 3, 64, 49152, tied=True),
    Shape("Qwen2.5-0.5B", 896, 4864, 24, 14, 2, 64, 151936, tied=True),
    Shape("Qwen2.5-1.5B", 1536, 8960, 28, 12, 2, 128, 151936, tied=True),
    Shape("Llama-3.2-3B", 3072, 8192, 28, 24, 8, 128, 128256, tied=True),
    Shape("Qwen2.5-7B", 3584, 18944, 28, 28, 4, 128, 152064),
    Shape("Llama-3.1-8B", 4096, 14336, 32, 32, 8, 128, 128256),
    Shape("Qwen2.5-14B", 5120, 13824, 48, 40, 8, 128, 152064),
    Shape("Qwen2.5-32B", 5120, 27648, 64, 40, 8, 128, 152064),
    Shape("Llama-3.1-70B", 8192, 28672, 80, 64, 8, 128, 128256),
)


def shape_of_size(
    params: str, *, layers: int | None = None, hidden: int | None = None, vocab: int | None = None
) -> Shape:
    """The typical model nearest in size, with what is given in its place.

    The feed-forward width is then set so that the weights come to `params` ("7B", "500M").
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MB])\s*", params, re.IGNORECASE)
    if not found or not float(found[1]):
        raise UsageError(
            f"--params {params}: is no model size", "a number and M or B", "--params 7B"
        )
    wanted = float(found[1]) * (1e9 if found[2].upper() == "B" else 1e6)
    near = min(TYPICAL, key=lambda one: abs(one.weights / wanted - 1) + abs(wanted / one.weights))
    heads = near.heads if hidden is None else max(1, hidden // near.head_dim)
    made = replace(
        near,
        name=params.strip().upper(),
        layers=layers or near.layers,
        hidden=hidden or near.hidden,
        heads=heads,
        kv_heads=min(heads, near.kv_heads),
        vocab=vocab or near.vocab,
    )
    bare = replace(made, ffn=0).weights
    ffn = 256 * round((wanted - bare) / (3 * made.hidden * made.layers) / 256)
    if ffn < 256:
        raise UsageError(
            f"--params {params}: smaller than its own embedding and attention",
            f"{made.layers} layers of {made.hidden} and {made.vocab:,} tokens are "
            f"{bare / 1e9:.2f} B weights already",
            "give --layers, --hidden and --vocab as the model's config.json has them",
        )
    return replace(made, ffn=ffn)
