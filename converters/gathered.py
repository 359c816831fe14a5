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
    shapes = arch.shapes(config)
    pairs = arch.gather_pairs(config, _named_parameters(adapter.pairs, shapes))

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
    """Pairs on fused experts under the name of their parameter.

    PEFT wraps the module once per parameter, so the file says `experts` and `experts.base_layer`
    and not which parameter is meant (tuners_utils.py, `_inject_parameters`); the shape does.
    """
    out: dict[str, PairSource] = {}
    for name, pair in pairs.items():
        if isinstance(pair, StoredPair) and pair.experts:
            module = strip_base_layer(name)
            down = f"{module}.down_proj"
            is_down = shapes.get(f"{down}.weight") == pair.weight_shape
            name = down if is_down else f"{module}.gate_up_proj"
            pair = replace(pair, name=name)
        out[name] = pair
    return out
