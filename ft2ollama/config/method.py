"""The keys that say how weights are changed: method, 4-bit base, adapters, tokens, optimizer.

`Config` inherits them; see schema.py for what a key is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict

from ft2ollama.config.field import key

KEYS = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class MethodKeys(BaseModel):
    """Sections "method" and "optimizer" of the config."""

    model_config = KEYS

    stage: Annotated[Literal["sft"], key("method", "choice")] = "sft"
    """Supervised fine-tuning, the one stage of this version."""
    finetuning_type: Annotated[Literal["lora", "freeze", "full"], key("method", "choice")] = "lora"
    """lora trains small matrices beside the frozen weights, freeze some layers of the model itself,
    full all of it. LLaMA-Factory's default: LoRA needs a fraction of the memory and forgets
    less."""

    # --- quantized base
    quantization_bit: Annotated[int | None, key("method", "bits")] = None
    """4 is QLoRA: the frozen base is kept in 4 bits by bitsandbytes, in a quarter of the memory; 8
    keeps it in 8 bits. null, as in LLaMA-Factory, trains on 16 or 32 bits. For lora only."""
    quantization_method: Annotated[Literal["bnb"], key("method", "choice")] = "bnb"
    """The library of a quantized base: bitsandbytes, LLaMA-Factory's default."""
    quantization_type: Annotated[Literal["nf4", "fp4"], key("method", "choice")] = "nf4"
    """The 4-bit grid. nf4 suits weights that are spread like a bell curve, as they are;
    LLaMA-Factory's default."""
    double_quantization: Annotated[bool, key("method", "true or false")] = True
    """true also quantizes the scales of the 4-bit blocks: 0.37 bits per weight less, with hardly
    any loss. LLaMA-Factory's default."""
    qlora_merge_into: Annotated[Literal["base", "quantized"], key("method", "choice")] = "base"
    """Which weights a QLoRA adapter is merged into for the export. base: the original ones.
    quantized: what the 4-bit base stood for, which is what the adapter was trained on; the run
    then holds the whole model, 4 bytes per weight. With export_quant Q8_0 or finer quantized was a
    little better in our measurements, with 4-bit types base."""

    # --- LoRA
    lora_rank: Annotated[int, key("method", "rank", ge=1, le=1024)] = 16
    """Inner size of the LoRA matrices: how much can be learned. LLaMA-Factory has 8; 16 costs
    hardly more time and leaves room for more facts."""
    lora_alpha: Annotated[int | None, key("method", "scale", ge=1)] = None
    """The adapter is multiplied by lora_alpha / lora_rank. null means 2 x lora_rank,
    LLaMA-Factory's rule, so that a change of the rank keeps the scale."""
    lora_rank_pattern: Annotated[
        dict[str, int], key("method", "mapping", example="{down_proj: 32}")
    ] = {}
    """Another rank for some layers, by the end of their name or a regular expression. Empty by
    default: LLaMA-Factory has one rank for all."""
    lora_alpha_pattern: Annotated[
        dict[str, int], key("method", "mapping", example="{down_proj: 64}")
    ] = {}
    """Another lora_alpha for some layers. Where a layer has a rank of its own and lora_alpha is
    null, 2 x that rank is taken."""
    lora_dropout: Annotated[float, key("method", "share", ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs dropped while training. 0.0, LLaMA-Factory's default: short
    runs gain nothing from it."""
    lora_target: Annotated[tuple[str, ...], key("method", "module names", min_length=1)] = ("all",)
    """Which linear layers get an adapter, as a list or with commas between them; `all` is every
    one but the output layer. A name with any of `\\ ^ $ * + ? ( ) [ ] |` in it is a regular
    expression for the whole name. LLaMA-Factory's default: adapters on attention alone learn
    less."""
    additional_target: Annotated[tuple[str, ...] | None, key("method", "module names")] = None
    """Modules that are trained whole beside the adapter, such as `embed_tokens` and `lm_head`
    (peft's modules_to_save). null, as in LLaMA-Factory, trains none. Such a run is exported as a
    merged model."""
    use_rslora: Annotated[bool, key("method", "true or false")] = False
    """true divides lora_alpha by the square root of the rank, which suits ranks from 64 on.
    LLaMA-Factory's default is false."""
    use_dora: Annotated[bool, key("method", "true or false")] = False
    """true also learns the length of each row of the weights (DoRA); slower, sometimes better at
    small ranks. Exported as a merged model. LLaMA-Factory's default is false."""
    pissa_init: Annotated[bool, key("method", "true or false")] = False
    """true starts the adapter from the largest singular vectors of each weight (PiSSA, by the exact
    decomposition) instead of from zero. The export turns it into plain LoRA of twice the rank.
    LLaMA-Factory's default is false."""
    adapter_name_or_path: Annotated[tuple[str, ...] | None, key("method", "paths")] = None
    """Start from adapters: folders of PEFT or of runs, as a list or with commas between them. All
    but the last are merged into the base, the last one is trained further; rank and targets are its
    own. null, as in LLaMA-Factory, starts afresh."""
    create_new_adapter: Annotated[bool, key("method", "true or false")] = False
    """true merges every adapter of adapter_name_or_path into the base and trains a new one on top.
    LLaMA-Factory's default is false."""

    # --- full and freeze
    pure_bf16: Annotated[bool, key("method", "true or false")] = False
    """true keeps the trained weights in bfloat16 as well, in half the memory; small updates are
    rounded away. false, LLaMA-Factory's default, keeps them in float32."""
    freeze_trainable_layers: Annotated[int, key("method", "layers")] = 2
    """With finetuning_type freeze: the last so many layers are trained, or the first so many if
    negative. LLaMA-Factory's default."""
    freeze_trainable_modules: Annotated[
        tuple[str, ...], key("method", "module names", min_length=1)
    ] = ("all",)
    """Which parts of those layers, such as `self_attn` or `mlp`; `all` is all of them.
    LLaMA-Factory's default."""
    freeze_extra_modules: Annotated[tuple[str, ...] | None, key("method", "module names")] = None
    """Modules outside the layers that are trained too, such as `embed_tokens`, `norm`, `lm_head`.
    null, as in LLaMA-Factory, trains none."""

    # --- tokens
    add_tokens: Annotated[tuple[str, ...] | None, key("method", "texts")] = None
    """New words of the vocabulary, as a list or with commas between them. Their rows of the
    embedding start from its mean and are trained. null adds none, as in LLaMA-Factory."""
    add_special_tokens: Annotated[tuple[str, ...] | None, key("method", "texts")] = None
    """The same as control tokens, which are never shown as text. null adds none, as in
    LLaMA-Factory."""

    # --- optimizer
    optim: Annotated[
        Literal[
            "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit",
            "paged_adamw_32bit", "lion_8bit", "lion_32bit", "paged_lion_8bit", "paged_lion_32bit",
            "ademamix", "ademamix_8bit", "adafactor", "rmsprop", "adagrad", "sgd",
        ],
        key("optimizer", "choice"),
    ] = "adamw_torch"  # fmt: skip
    """The optimizer, by transformers' names; 8bit and paged ones are bitsandbytes'. The choice
    hardly matters for LoRA, whose optimizer is small; adafactor or an 8-bit one saves memory in
    full fine-tuning."""
    adam_beta1: Annotated[float, key("optimizer", "share", ge=0, lt=1)] = 0.9
    """How long the mean of the gradients is remembered. 0.9 is transformers' default."""
    adam_beta2: Annotated[float, key("optimizer", "share", ge=0, lt=1)] = 0.999
    """How long their size is remembered. 0.999 is transformers' default."""
    adam_epsilon: Annotated[float, key("optimizer", "number", gt=0, le=1)] = 1e-8
    """Keeps a division from being one by zero. 1e-8 is transformers' default."""
    loraplus_lr_ratio: Annotated[float | None, key("optimizer", "factor", gt=0)] = None
    """LoRA+: matrix B learns so many times faster than matrix A; its authors take 16. null, as in
    LLaMA-Factory, gives both the same rate."""
    loraplus_lr_embedding: Annotated[float, key("optimizer", "per step", gt=0, le=1)] = 1e-6
    """LoRA+: the rate of an adapter on the embedding. 1e-6 is LLaMA-Factory's default."""
    neftune_noise_alpha: Annotated[float | None, key("optimizer", "noise", gt=0)] = None
    """NEFTune: noise on the embeddings while training, 5 to 15 where it is used; chattier answers.
    null, as in transformers, adds none."""
    lr_scheduler_kwargs: Annotated[
        dict[str, int | float | str], key("optimizer", "mapping", example="{num_cycles: 2}")
    ] = {}
    """Settings of the schedule of lr_scheduler_type, by transformers' names: num_cycles, lr_end,
    power, min_lr, min_lr_rate, num_decay_steps, ... Empty by default."""
