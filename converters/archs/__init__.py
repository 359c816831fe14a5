"""Hugging Face architecture name -> the family that knows it.

Adding a family is adding a file with a subclass of `Decoder` and its rows to TABLE. One table of
shapes serves every check: the base against its config, an adapter against its base, a GGUF file
against its own metadata.

The way of a weight: `gather` brings a checkpoint (and `gather_pairs` an adapter) to the family's
canonical tensors, many to one where experts are stacked, one to two where a tensor is split; then
the adapter is merged; then `transform` makes each canonical tensor what the file wants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from converters.archs.gemma2 import GEMMA2
from converters.archs.gemma3 import GEMMA3
from converters.archs.glm4 import GLM4
from converters.archs.granite import GRANITE
from converters.archs.llama import LLAMA
from converters.archs.mistral3 import MISTRAL3
from converters.archs.mixtral import MIXTRAL
from converters.archs.phi3 import PHI3
from converters.archs.qwen2 import QWEN2
from converters.archs.qwen2moe import QWEN2MOE
from converters.archs.qwen3 import QWEN3
from converters.archs.qwen3moe import QWEN3MOE
from converters.archs.qwen35 import QWEN35
from converters.archs.smollm3 import SMOLLM3
from converters.errors import Unsupported
from converters.hf_config import Config
from converters.lora import LoraPair, PairSource
from converters.metadata import KV
from converters.transforms import F32, Rows


class Architecture(Protocol):
    """What a family provides. `config` is complete (converters.hf_config.complete).

    Names are canonical Hugging Face names: those of the text-only class, experts stacked.
    """

    @property
    def NAME(self) -> str:
        """The GGUF architecture, also the prefix of its keys."""

    @property
    def EXTRA(self) -> tuple[str, ...]:
        """GGUF names of tensors that stand for settings and not for weights."""

    def problems(self, config: Config) -> list[str]:
        """Settings of this config that the runtime would not honour."""

    def notes(self, config: Config) -> list[str]:
        """Settings that are honoured only in part, for the report."""

    def pairs(self, config: Config) -> list[KV]:
        """The family's metadata."""

    def shapes(self, config: Config) -> dict[str, tuple[int, ...]]:
        """Every canonical tensor the family has, with its shape."""

    def is_tied(self, config: Config) -> bool:
        """Whether the output layer is the embedding."""

    def gather(self, config: Config, weights: Mapping[str, Rows]) -> dict[str, Rows]:
        """A checkpoint's tensors -> canonical tensors. What is unknown keeps its name."""

    def gather_pairs(
        self, config: Config, pairs: Mapping[str, PairSource]
    ) -> dict[str, PairSource]:
        """The same for LoRA pairs, under the canonical names of their modules."""

    def transform(self, config: Config, name: str, rows: Rows) -> list[tuple[str, Rows]]:
        """What becomes of one canonical tensor in the GGUF file, still under its name."""

    def transform_lora(self, config: Config, pair: LoraPair) -> list[LoraPair]:
        """The same for a LoRA pair."""

    def undo(self, config: Config, name: str, rows: Rows) -> Rows:
        """The inverse of transform; Unsupported where the way back is not known."""

    def extra_tensors(self, config: Config) -> dict[str, F32]:
        """Tensors that the checkpoint lacks, under GGUF names."""

    def config_of(self, values: Mapping[str, object], tensors: Mapping[str, F32]) -> Config:
        """config.json from the metadata and the small extra tensors of a GGUF file."""


TABLE: dict[str, Architecture] = {
    "Gemma2ForCausalLM": GEMMA2,
    "Gemma3ForCausalLM": GEMMA3,
    "Gemma3ForConditionalGeneration": GEMMA3,
    "Glm4ForCausalLM": GLM4,
    "GraniteForCausalLM": GRANITE,
    "LlamaForCausalLM": LLAMA,
    "Ministral3ForCausalLM": MISTRAL3,
    "Mistral3ForConditionalGeneration": MISTRAL3,
    "MistralForCausalLM": LLAMA,
    "MixtralForCausalLM": MIXTRAL,
    "Phi3ForCausalLM": PHI3,
    "Qwen2ForCausalLM": QWEN2,
    "Qwen2MoeForCausalLM": QWEN2MOE,
    "Qwen3ForCausalLM": QWEN3,
    "Qwen3MoeForCausalLM": QWEN3MOE,
    "Qwen3_5ForCausalLM": QWEN35,
    "Qwen3_5ForConditionalGeneration": QWEN35,
    "SmolLM3ForCausalLM": SMOLLM3,
}
BY_GGUF_NAME: dict[str, Architecture] = {
    arch.NAME: arch for arch in TABLE.values() if arch is not MIXTRAL
}


def of_gguf(values: Mapping[str, object]) -> Architecture:
    """The family of a GGUF file's metadata. Mixtral is called llama, and has experts."""
    name = str(values.get("general.architecture"))
    if name == MIXTRAL.NAME and values.get(f"{name}.expert_count"):
        return MIXTRAL
    if name not in BY_GGUF_NAME:
        raise Unsupported(
            f"GGUF architecture {name!r} is not supported",
            "",
            f"supported: {', '.join(sorted(BY_GGUF_NAME))}",
        )
    return BY_GGUF_NAME[name]


def find(config: Config) -> Architecture:
    """The family of a config.json; refuses what the runtime would get wrong."""
    listed = config.get("architectures")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    found = next((TABLE[name] for name in names if name in TABLE), None)
    if found is None:
        raise Unsupported(
            f"architecture {' or '.join(names) or '(none in config.json)'} is not supported",
            "",
            f"supported: {', '.join(sorted(TABLE))}",
        )
    problems = found.problems(config)
    if problems:
        raise Unsupported("this base model cannot be represented in GGUF", "", "\n".join(problems))
    return found
