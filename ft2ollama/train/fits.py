"""Does the method fit the model? Told before anything is loaded, all problems at once.

In: the config and the base's folder.  Out: one `Misfit` per key that names what the model has not.
The model is built without weights (on torch's meta device), which takes a fraction of a second; its
own module names decide, so nothing is assumed about a family. peft itself lets a misspelt
lora_target pass as long as another one fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.config.expects import did_you_mean
from ft2ollama.config.method_checks import is_regex
from ft2ollama.errors import ConfigError
from ft2ollama.train.adapters import adapter_folders
from ft2ollama.train.methods import layer_part, n_layers
from ft2ollama.train.model import linear_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ft2ollama.config import Config


@dataclass(frozen=True)
class Misfit:
    """A key of the config, what is wrong with it, and what to write instead."""

    key: str
    sentence: str
    fix: str


def require_fit(config: Config, folder: Path, origins: Mapping[str, str]) -> None:
    """Raise ConfigError with a line for every misfit. origins: key -> "train.yaml:5"."""
    found = misfits(config, folder)
    if not found:
        return
    lines = [f"{origins.get(one.key, 'default')}: {one.key}: {one.sentence}" for one in found]
    count = "1 key" if len(found) == 1 else f"{len(found)} keys"
    raise ConfigError(
        f"{count} of the config {'does' if len(found) == 1 else 'do'} not fit the model",
        "\n".join(lines),
        found[0].fix,
    )


def misfits(config: Config, folder: Path) -> list[Misfit]:
    """Every key that names what this model has not."""
    model = empty_model(folder)
    if config.finetuning_type == "lora":
        return [*_targets(config, model), *_patterns(config, model), *_whole(config, model),
                *_adapters(config, folder)]  # fmt: skip
    if config.finetuning_type == "freeze":
        return [*_layers(config, model), *_modules(config, model)]
    return []


def empty_model(folder: Path) -> Any:
    """The model without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))


def _targets(config: Config, model: Any) -> Iterator[Misfit]:
    if config.lora_target == ("all",) or _continues(config):
        return
    linear = linear_names(model)
    names = [name for name, _ in model.named_modules()]
    for target in config.lora_target:
        if any(_matches(target, name) for name in names):
            continue
        near = did_you_mean(target, linear)
        hint = f"did you mean {near}?" if near else f"its linear layers: {', '.join(linear)}"
        yield Misfit(
            "lora_target",
            f"{target} names no layer of this model; {hint}",
            f"lora_target={near}" if near else f"lora_target=all, or lora_target={linear[0]}",
        )


def _patterns(config: Config, model: Any) -> Iterator[Misfit]:
    """peft: a pattern has to match the end of a name, at a dot (get_pattern_key)."""
    names = [name for name, _ in model.named_modules()]
    for key in ("lora_rank_pattern", "lora_alpha_pattern"):
        for pattern in getattr(config, key):
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
                linear = ", ".join(linear_names(model))
                yield Misfit(
                    key, f"{pattern} matches no layer of this model: {linear}", f"{key}={{}}"
                )


def _whole(config: Config, model: Any) -> Iterator[Misfit]:
    names = [name for name, _ in model.named_modules()]
    for wanted in config.additional_target or ():
        if not any(_matches(wanted, name) for name in names):
            known = _outside(model)
            near = did_you_mean(wanted, known)
            hint = f"did you mean {near}?" if near else f"such as {', '.join(known)}"
            yield Misfit(
                "additional_target",
                f"{wanted} names no module of this model; {hint}",
                f"additional_target={near or known[0]}",
            )


def _adapters(config: Config, folder: Path) -> Iterator[Misfit]:
    """An adapter that is trained further, or merged, has to be one for this base."""
    import converters

    for path in adapter_folders(config.adapter_name_or_path or ()):
        try:
            converters.check_adapter(path, folder, merged=True)
        except converters.ConvertError as error:
            yield Misfit(
                "adapter_name_or_path",
                f"{path.name} is no adapter for this base: {error.what}",
                "give the base it was trained on as model_name_or_path",
            )


def _layers(config: Config, model: Any) -> Iterator[Misfit]:
    count, layers = config.freeze_trainable_layers, n_layers(model)
    if abs(count) > layers:
        yield Misfit(
            "freeze_trainable_layers",
            f"{count}: this model has {layers} layers",
            f"freeze_trainable_layers={layers if count > 0 else -layers}, or finetuning_type=full",
        )


def _modules(config: Config, model: Any) -> Iterator[Misfit]:
    parts = {part[1] for name, _ in model.named_parameters() if (part := layer_part(name))}
    wanted = () if config.freeze_trainable_modules == ("all",) else config.freeze_trainable_modules
    yield from _unknown("freeze_trainable_modules", wanted, sorted(parts), "part of its layers")
    extra = config.freeze_extra_modules or ()
    yield from _unknown("freeze_extra_modules", extra, _outside(model), "module outside them")


def _unknown(key: str, wanted: Iterable[str], known: list[str], what: str) -> Iterator[Misfit]:
    for name in wanted:
        if name not in known:
            near = did_you_mean(name, known)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
            yield Misfit(key, f"{name} is no {what}; {hint}", f"{key}={near or known[0]}")


def _outside(model: Any) -> list[str]:
    """Last names of the modules with weights outside the layers; the head also where it is tied."""
    named = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    return sorted({name.split(".")[-2] for name in named if layer_part(name) is None})


def _matches(target: str, name: str) -> bool:
    if is_regex(target):
        return re.fullmatch(target, name) is not None
    return name == target or name.endswith(f".{target}")


def _continues(config: Config) -> bool:
    return bool(config.adapter_name_or_path) and not config.create_new_adapter
