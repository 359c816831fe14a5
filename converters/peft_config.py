"""adapter_config.json: what its settings do to a weight, and which of them nothing here can honour.

In: the parsed file. Out: rank, scale and start of each module, and one line per setting that is
refused. A setting we do not know is refused by name when it is set: a converter that ignores one
writes a model that loads and is silently wrong. What a setting leaves in the weights file (DoRA
magnitudes, biases, whole modules) is judged there and not by the setting.
Sources: peft/tuners/lora/config.py and layer.py (`update_layer`, `*_init`), tuners/adalora/.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from converters.errors import ConvertError
from converters.hf_folder import Config

REBUILT_INITS = ("pissa", "olora")  # deterministic in the base weight: residual.py repeats them
KINDS = ("LORA", "ADALORA")
_CHANGED_INITS = ("corda", "loftq", "lora_ga", "pissa_niter")
_ADALORA_RANKNUM_EPSILON = 1e-5


_HARMLESS_INITS = ("gaussian", "eva", "orthogonal", "mica")  # of A and B alone: the base stays
_LARGEST = 1e9


def _unrepeatable(value: object) -> bool:
    return isinstance(value, str) and value.lower().startswith(_CHANGED_INITS)


def _unknown_init(value: object) -> bool:
    known = (*_HARMLESS_INITS, *REBUILT_INITS)
    text = value.lower() if isinstance(value, str) else value
    return not (value is None or isinstance(value, bool) or text in known or _unrepeatable(value))


_REFUSED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("fan_in_fan_out", bool, "the base would have to store its weights transposed (Conv1D)"),
    (
        "init_lora_weights",
        _unrepeatable,
        "this initialisation changed the base weights in a way that cannot be repeated from the "
        "base alone; save the adapter with path_initial_model_for_weight_conversion to get plain "
        "LoRA",
    ),
    (
        "init_lora_weights",
        _unknown_init,
        "not an initialisation this version knows; it may have changed the base weights",
    ),
    ("use_qalora", bool, "QALoRA pools the inputs of A"),
    ("use_bdlora", bool, "block-diagonal LoRA is not mapped"),
    ("kasa_config", bool, "KaSA changes the base weights"),
    ("arrow_config", bool, "an Arrow router picks among several adapters at run time"),
    ("monteclora_config", bool, "MonteCLoRA samples its weights"),
    (
        "alora_invocation_tokens",
        bool,
        "aLoRA is active only after its invocation tokens; merged or applied by a runtime that "
        "does not look for them it would change every token",
    ),
)

_KNOWN = frozenset(key for key, _, _ in _REFUSED) | frozenset(
    [
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layer_replication",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_bias",
        "lora_dropout",
        "lora_dtype",
        "lora_ga_config",
        "lorap_emb_lr",
        "lorap_lr_ratio",
        "megatron_config",
        "megatron_core",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "target_parameters",
        "task_type",
        "trainable_token_indices",
        "use_dora",
        "use_rslora",
        "velora_config",
    ]
)
_KNOWN_ADALORA = frozenset(  # the training schedule of AdaLoRA: no effect on the finished pairs
    [
        "beta1",
        "beta2",
        "deltaT",
        "init_r",
        "orth_reg_weight",
        "target_r",
        "tfinal",
        "tinit",
        "total_step",
    ]
)


def kind_of(config: Config) -> str:
    """LORA, ADALORA, ...: upper case, LORA where the file does not say."""
    return str(config.get("peft_type") or "LORA").upper()


def require_numbers(config: Config) -> None:
    """ConvertError unless rank and alpha are numbers."""
    for key in ("r", "lora_alpha"):
        _number(config, key, 8)


def _is_number(value: object) -> bool:
    """A finite one of a size that a rank or an alpha can have."""
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return numeric and abs(float(str(value))) <= _LARGEST


def config_problems(config: Config) -> Iterator[str]:
    """One line per setting that neither an adapter file nor a merged model can honour."""
    kind = kind_of(config)
    if kind not in KINDS:
        yield (
            f"peft_type={config['peft_type']}: known are LORA and ADALORA; "
            "let peft merge it (model.merge_and_unload()) and convert the merged model"
        )
        return
    for key, refused, reason in _REFUSED:
        value = config.get(key)
        if refused(value):
            yield f"{key}={short(value)}: {reason}"
    if config.get("use_dora") and config.get("lora_bias"):
        yield "use_dora with lora_bias: the bias takes part in the norm of the weight"
    known = _KNOWN | _KNOWN_ADALORA if kind == "ADALORA" else _KNOWN
    for key, value in config.items():
        if value and key not in known:
            yield f"{key}={short(value)}: not a setting this version knows the effect of"


def short(value: object) -> str:
    """A value for a message, cut to 60 characters."""
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def start_of(config: Config) -> str:
    """ "pissa" or "olora" if the pairs began as a part of the base weight, else ""."""
    value = config.get("init_lora_weights")  # AdaLoRA has no such start, whatever it says there
    name = value.lower() if isinstance(value, str) and kind_of(config) == "LORA" else ""
    return name if name in REBUILT_INITS else ""


def rank_and_scale(module: str, config: Config) -> tuple[int, float]:
    """Rank and scale PEFT gives a module: r, and alpha / r or alpha / sqrt(r).

    A module that was targeted as a parameter is matched under the parameter's name.
    """
    targets = names_in(config, "target_parameters")
    name = f"{module}.weight"
    if any(f".{name}".endswith(f".{target}") for target in targets):
        return _rank_and_scale(name, config)
    return _rank_and_scale(module, config)


def parameters_of(module: str, config: Config) -> tuple[tuple[str, int, float], ...]:
    """(parameter, rank, scale) of those of a module that target_parameters lists.

    PEFT matches the end of the name (tuners_utils.py, `_inject_parameters`); for transformers 5 it
    writes the bare `gate_up_proj` and `down_proj` itself, with a doubled rank for the first.
    """
    out = []
    for target in names_in(config, "target_parameters"):
        where, _, name = target.rpartition(".")
        if not where or f".{module}".endswith(f".{where}"):
            out.append((name, *_rank_and_scale(f"{module}.{name}", config)))
    return tuple(out)


def strip_base_layer(module: str) -> str:
    """The module itself; PEFT appends .base_layer for each wrapper around it but the last."""
    while module.endswith(".base_layer"):
        module = module.removesuffix(".base_layer")
    return module


def _rank_and_scale(module: str, config: Config) -> tuple[int, float]:
    values = []
    for key, patterns in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        value = _by_pattern(config.get(patterns), module, config.get(key, 8))
        if not _is_number(value):
            raise ConvertError(
                f"adapter_config.json has no usable {key}", module, f"{key}={short(value)}"
            )
        values.append(value)
    rank, alpha = int(values[0]), float(values[1])
    if rank < 1:
        raise ConvertError("adapter_config.json has no usable r", module, f"r={rank}")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def adalora_scale(config: Config) -> float:
    """Scale of AdaLoRA's modules: by the rank they began with, whatever is left of it.

    adalora/layer.py, SVDLinear.forward: scaling / (ranknum + 1e-5); pruning keeps ranknum.
    """
    rank = max(1.0, _number(config, "init_r", 12))
    alpha = _number(config, "lora_alpha", 8)
    return (alpha if alpha > 0 else rank) / (rank + _ADALORA_RANKNUM_EPSILON)


def _number(config: Config, key: str, default: float) -> float:
    value = config.get(key, default)
    if not _is_number(value):
        raise ConvertError(f"adapter_config.json has no usable {key}", "", f"{key}={value!r}")
    return float(value)


def names_in(config: Config, key: str) -> list[str]:
    """A setting that is a list of names; PEFT takes a single name too."""
    value = config.get(key) or []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConvertError(
            f"adapter_config.json has a {key} that is no list of names", "", short(value)
        )
    return value


def layer_ranges(config: Config) -> tuple[tuple[int, int], ...]:
    """layer_replication as (start, stop) pairs."""
    found = config.get("layer_replication") or []
    try:
        return tuple((operator.index(start), operator.index(stop)) for start, stop in found)
    except (TypeError, ValueError) as error:
        raise ConvertError(
            "adapter_config.json has a layer_replication that is no list of ranges",
            "",
            short(found),
        ) from error


def token_indices(config: Config, module: str) -> list[int]:
    """Rows of `module` that trainable_token_indices lists; a bare list is for the embedding."""
    found = config.get("trainable_token_indices") or []
    if isinstance(found, Mapping):
        names = [name for name in found if module == name or module.endswith("." + name)]
        found = found[names[0]] if names else []
    try:
        return [operator.index(index) for index in found]
    except TypeError as error:
        raise ConvertError(
            "adapter_config.json has trainable_token_indices that are no numbers", "", short(found)
        ) from error


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The first pattern that matches the end of the name, at a dot: peft.utils.get_pattern_key."""
    if patterns is not None and not isinstance(patterns, dict):
        raise ConvertError(
            "adapter_config.json has a pattern table that is none", module, short(patterns)
        )
    for pattern, value in (patterns or {}).items():
        try:
            found = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise ConvertError(
                "adapter_config.json has a pattern that is no regular expression", "", str(error)
            ) from error
        if found:
            return value
    return default
