"""A model's weights as the tensors of its GGUF file: names, shapes, and rows that are opened late.

In: the family, its config and the weights, trained or not. Out: what `write_model` writes and
`preview` only counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from gguf.constants import GGMLQuantizationType

from converters import archs
from converters.archs import Architecture
from converters.calibrated import Candidate
from converters.check import require_whole
from converters.hf_folder import Config, read_config
from converters.jobs import Encoder, Job, encoded
from converters.model_facts import facts_of
from converters.names import gguf_name, name_map
from converters.quants.mix import ModelFacts, Plan
from converters.safetensors_file import open_folder
from converters.transforms import ArrayRows, Rows
from converters.writer import Tensor


@dataclass(frozen=True)
class _Made:
    """A tensor of the output file. label: what errors call it; rows: opens it."""

    shape: tuple[int, ...]
    label: str
    rows: Callable[[], Rows]


@dataclass(frozen=True)
class ModelTensors:
    """Weights under Hugging Face names, seen as GGUF tensors."""

    arch: Architecture
    config: Config
    weights: Mapping[str, Rows]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """GGUF name -> shape of every tensor of the output file."""
        return {name: made.shape for name, made in self._made.items()}

    @property
    def n_weights(self) -> int:
        """Weights of the whole model."""
        return sum(map(math.prod, self.shapes().values()))

    def facts(self) -> ModelFacts:
        """What the choice of types depends on."""
        values = {pair.key: pair.value for pair in self.arch.pairs(self.config)}
        return facts_of({**values, "general.architecture": self.arch.NAME})

    def tensors(self, kinds: Plan, encoders: Mapping[str, Encoder]) -> list[Tensor]:
        """Every tensor of the output file. kinds: GGUF name -> type; encoders: where not exact.

        The rows are opened when their turn comes, so that a loaded pair lives only while its jobs
        do.
        """
        return [
            Tensor(
                name,
                made.shape,
                kinds[name],
                partial(_jobs, made, kinds[name], encoders.get(name)),
            )
            for name, made in self._made.items()
        ]

    def rows(self) -> dict[str, Rows]:
        """GGUF name -> the tensor's rows in float32."""
        return {name: made.rows() for name, made in self._made.items()}

    def candidates(self, kinds: Plan) -> Iterator[Candidate]:
        """What may be calibrated."""
        for name, made in self._made.items():
            yield Candidate(name, made.shape, kinds[name], made.rows, made.label)

    @cached_property
    def _made(self) -> dict[str, _Made]:
        names = name_map(self.arch.NAME, self.config["num_hidden_layers"])
        made: dict[str, _Made] = {}
        for hf_name in self.weights:
            for part, rows in self._parts(hf_name).items():
                name = gguf_name(names, part)
                assert name is not None, part  # the family's shapes list only mapped names
                made[name] = _Made(rows.shape, part, partial(self._part, hf_name, part))
        for name, array in self.arch.extra_tensors(self.config).items():
            made[name] = _Made(array.shape, name, partial(ArrayRows, array))
        return made

    def _part(self, hf_name: str, part: str) -> Rows:
        return self._parts(hf_name)[part]

    def _parts(self, hf_name: str) -> dict[str, Rows]:
        return dict(self.arch.transform(self.config, hf_name, self.weights[hf_name]))


def open_model(base: Path) -> ModelTensors:
    """The weights of a Hugging Face folder, which has to hold what its config.json says.

    Reads headers only. Raises Unsupported for a family that is not known, ConvertError for tensors
    that are missing, misshaped or unknown.
    """
    config = read_config(base)
    arch = archs.find(config)
    weights = arch.gather(config, open_folder(base))
    require_whole(arch, config, weights)
    return ModelTensors(arch, config, weights)


def _jobs(made: _Made, kind: GGMLQuantizationType, encoder: Encoder | None) -> Iterator[Job]:
    return encoded(made.rows(), kind, made.label, encoder)
