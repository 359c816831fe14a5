"""The keys that change how fast a training is and what memory it takes, and hardly anything else.

They are part of `Config` (schema.py inherits them). null leaves the choice to the trainer, which
takes what was measured to help on the device; figures are in benchmarks/RESULTS.md.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from ft2ollama.config.field import key


class SpeedKeys(BaseModel):
    """Switches of the fast paths; each has a test that it computes what the plain path does."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    packing: Annotated[bool, key("speed", "true or false")] = False
    """true joins conversations to rows of up to cutoff_len tokens, and per_device_train_batch_size
    then counts such rows: steps become fewer and larger. Conversations in a row never see each
    other, where LLaMA-Factory's packing lets them. false, LLaMA-Factory's default for sft: a step
    holds the same number of conversations whatever their length."""
    neat_packing: Annotated[bool, key("speed", "true or false")] = False
    """LLaMA-Factory's name for packing without sight of the neighbours, which is the only packing
    here: the same as packing: true."""
    padding_free: Annotated[bool | None, key("speed", "true or false")] = None
    """true lays the conversations of a batch end to end instead of padding them to the longest;
    the batch holds the same ones. null does so on a CPU, where it was measured to be faster, and
    on a GPU with packing only."""
    fused_lora: Annotated[bool | None, key("speed", "true or false")] = None
    """true computes a linear layer and its LoRA pair together, and a norm in one go: less time and
    memory. null
    does so on a CPU, where it was measured to be faster, and not on a GPU, where nobody has
    measured it yet. Has no effect with lora_dropout or DoRA."""
    share_prefix: Annotated[bool | None, key("speed", "true or false")] = None
    """true computes what all conversations of a batch begin with (the same system prompt, the same
    tools) once instead of once for each, with padding_free on a CPU; what is learned stays the
    same. null does so, except with dropout or neftune_noise_alpha, whose chance would then be
    shared too."""
    gradient_checkpointing: Annotated[bool | None, key("speed", "true or false")] = None
    """true computes every layer again in the backward pass instead of keeping its values: less
    memory, a third to a half more time. null does so on a GPU for as many layers as do not fit
    into its free memory, and never on a CPU. LLaMA-Factory does so for all layers, needed or
    not. The result is the same."""
    torch_compile: Annotated[bool, key("speed", "true or false")] = False
    """true compiles each layer with torch.compile, which needs a C++ compiler and a minute or
    more at the start. false, transformers' default: short runs never win the minute back."""
    enable_liger_kernel: Annotated[bool, key("speed", "true or false")] = False
    """true takes Liger's kernels for norms, rotary positions and SwiGLU on a CUDA GPU; needs `pip
    install liger-kernel`. LLaMA-Factory's default is false."""

    @property
    def packs(self) -> bool:
        """Is a row of the training several conversations?"""
        return self.packing or self.neat_packing
