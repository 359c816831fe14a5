"""Hugging Face architecture name -> the module that knows its family.

Adding a family is adding a module with these functions and its rows to TABLE. One table of shapes
serves every check: the base against its config, an adapter against its base, a GGUF file against
its own metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from converters.archs import llama
from converters.errors import Unsupported
from converters.hf_folder import Config
from converters.lora import LoraPair
from converters.metadata import KV
from converters.transforms import F32, Rows


class Architecture(Protocol):
    """What a family module provides. Names are Hugging Face tensor names."""

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
        """Every tensor the family has, with its shape."""

    def is_tied(self, config: Config) -> bool:
        """Whether the output layer is the embedding."""

    def transform(self, config: Config, name: str, rows: Rows) -> list[tuple[str, Rows]]:
        """What becomes of one weight in the GGUF file, still under Hugging Face names."""

    def transform_lora(self, config: Config, pair: LoraPair) -> list[LoraPair]:
        """The same for a LoRA pair."""

    def undo(self, config: Config, name: str, rows: Rows) -> Rows:
        """The inverse of transform."""

    def extra_tensors(self, config: Config) -> dict[str, F32]:
        """Tensors that the checkpoint lacks, under GGUF names."""

    def config_of(self, values: Mapping[str, object], tensors: Mapping[str, F32]) -> Config:
        """config.json from the metadata and the small extra tensors of a GGUF file."""


TABLE: dict[str, Architecture] = {
    "LlamaForCausalLM": llama,
    "MistralForCausalLM": llama,
}
BY_GGUF_NAME: dict[str, Architecture] = {module.NAME: module for module in TABLE.values()}


def find(config: Config) -> Architecture:
    """The family of a config.json; refuses what the runtime would get wrong."""
    names = [str(name) for name in config.get("architectures") or []]
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
