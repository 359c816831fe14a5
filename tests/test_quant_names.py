"""The GGUF types are named in four places, for four layers; they have to be the same."""

from __future__ import annotations

from converters.quants.types import ADAPTER_TYPES, FILE_TYPES, PLAIN_TYPES
from ft2ollama.proof import AGREEMENT
from ft2ollama.quant_choice import QUANTS, UNCALIBRATED


def test_every_type_that_can_be_written_can_be_named_and_judged() -> None:
    assert set(QUANTS["model"]) == set(FILE_TYPES) == set(AGREEMENT)
    assert set(QUANTS["adapter"]) == set(ADAPTER_TYPES)
    assert set(UNCALIBRATED) == set(PLAIN_TYPES)
