"""An adapter under the base's own names: canonical modules, single and fused experts as stacks.

PEFT names modules as the class that was trained does, which is not always the class of the
checkpoint or of the GGUF family. A family's `gather_pairs` and `gather` translate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from converters.archs import Architecture
from converters.hf_folder import Config
from converters.lora import PairSource
from converters.peft_adapter import Adapter, StoredPair
from converters.peft_config import strip_base_layer
from converters.transforms import Rows


def gathered(adapter: Adapter, arch: Architecture, config: Config) -> Adapter:
    """The same adapter under canonical names. What has no place is a problem, never dropped."""
    named = _named_parameters(adapter.pairs, arch.shapes(config))
    pairs = arch.gather_pairs(config, named)

    def renamed(module: str, rows: Rows) -> str:
        """Canonical name of a module; itself where the family leaves it out."""
        name = next(iter(arch.gather(config, {f"{module}.weight": rows})), f"{module}.weight")
        return name.removesuffix(".weight")

    magnitudes = {renamed(name, rows): rows for name, rows in adapter.magnitudes.items()}
    biases = {renamed(name, bias.rows): bias for name, bias in adapter.biases.items()}
    return replace(
        adapter,
        pairs=pairs,
        problems=(*adapter.problems, *_problems(adapter, arch, config, pairs)),
        magnitudes=magnitudes,
        biases=biases,
        trained=arch.gather(config, adapter.trained),
        own=arch.gather(config, adapter.own),
        tokens={renamed(name, tokens.rows): tokens for name, tokens in adapter.tokens.items()},
    )


def _problems(
    adapter: Adapter, arch: Architecture, config: Config, pairs: Mapping[str, PairSource]
) -> Iterator[str]:
    """What the translation would lose."""
    for name, rows in (*adapter.trained.items(), *adapter.own.items()):
        if not arch.gather(config, {name: rows}):
            yield f"{name}: not a part of the text model"
    sources = {id(pair) for pair in pairs.values()}
    for module in {*adapter.magnitudes, *adapter.biases}:
        if id(adapter.pairs[module]) not in sources:
            yield f"{module}: DoRA or a bias of B on experts is not mapped"
    if adapter.start and any(len(pair.weight_shape) > 2 for pair in pairs.values()):
        yield f"init_lora_weights={adapter.start} on experts is not mapped"


def _named_parameters(
    pairs: Mapping[str, PairSource], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, PairSource]:
    """Pairs on fused experts under the name of their parameter; unchanged where none fits.

    PEFT wraps the module once per parameter, so the file says `experts` and `experts.base_layer`.
    """
    out: dict[str, PairSource] = {}
    for name, pair in pairs.items():
        fitting = _of_parameter(pair, shapes) if isinstance(pair, StoredPair) else pair
        out[name if fitting is pair else fitting.name] = fitting
    return out


def _of_parameter(pair: StoredPair, shapes: Mapping[str, tuple[int, ...]]) -> StoredPair:
    module = strip_base_layer(pair.name)
    for name, rank, scale in pair.parameters:
        n, n_out, n_in = _parameter_shape(module, name, shapes)
        if pair.a.shape == (n * rank, n_in) and pair.b.shape == (n_out, rank * n):
            return replace(pair, name=f"{module}.{name}", scale=scale, experts=n)
    return pair


def _parameter_shape(
    module: str, name: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """[E, n_out, n_in] of the fused parameter; gate_up_proj is gate and up on one another."""
    fused = name == "gate_up_proj"
    found = shapes.get(f"{module}.{'gate_proj' if fused else name}.weight", ())
    if len(found) != 3:
        return 0, 0, 0
    return found[0], found[1] * (2 if fused else 1), found[2]
