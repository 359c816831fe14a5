"""Rules that a type and a range cannot say: of one key, and between keys.

In: the value of a key before and after pydantic, or the whole config.  Out: the value, or an error
of type "located" that carries every (place, sentence), so that `load.py` can put each sentence at
its own line of the file. A sentence starts after "key: ".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.config import method_checks
from ft2ollama.config.expects import choices, did_you_mean, kind, shown
from ft2ollama.config.found import Found, located, wrong_type
from ft2ollama.config.running import TRACKERS
from ft2ollama.errors import UsageError
from ft2ollama.ollama_names import check_name

if TYPE_CHECKING:
    from ft2ollama.config.schema import Config

MAY_BE_EMPTY = frozenset({"default_system", "ollama_system", "fsdp"})  # "" = none at all

# Values that LLaMA-Factory has and this version has not, and what to write instead.
REFUSED_VALUES: Mapping[str, Mapping[str, str]] = {
    "stage": {
        "pt": "further pre-training comes with a later version; write sft",
        "rm": "reward models are not trained here; write sft",
        "ppo": "reinforcement learning is not done here; write sft",
        "dpo": "preference training comes with a later version; write sft",
        "kto": "preference training comes with a later version; write sft",
    },
    **method_checks.REFUSED_VALUES,
    "train_sampling_strategy": {
        "batch_rebalance": "its order depends on the number of GPUs; write group_by_length",
    },
    "compute_dtype": {
        "fp16": "its name here is float16",
        "bf16": "its name here is bfloat16",
        "fp32": "its name here is float32",
    },
}

# Options of Ollama's api/types.go: the names PARAMETER takes, and what each one takes.
_WHOLE = (
    "num_keep seed num_predict top_k repeat_last_n num_batch num_gpu main_gpu num_thread "
    "draft_num_predict"
)
_NUMBER = "top_p min_p typical_p temperature repeat_penalty presence_penalty frequency_penalty"
OLLAMA_PARAMETERS: Mapping[str, str] = {
    **dict.fromkeys(_WHOLE.split(), "a whole number"),
    **dict.fromkeys(_NUMBER.split(), "a number"),
    "use_mmap": "true or false",
    "stop": "text or a list of texts",
}
_OBSOLETE = (
    "mirostat mirostat_tau mirostat_eta penalize_newline low_vram f16_kv logits_all vocab_only "
    "use_mlock numa tfs_z"
)
OBSOLETE_PARAMETERS = frozenset(_OBSOLETE.split())


def accept(name: str, value: Any, annotation: Any) -> Any:
    """Before pydantic: refuse what it would bend (true as 1), read lists written with commas."""
    what = kind(annotation)
    if isinstance(value, bool) and what in ("whole", "number"):
        raise wrong_type()
    if isinstance(value, str) and not value.strip() and name not in MAY_BE_EMPTY:
        raise wrong_type()
    if what == "choice":
        return _choice(name, value, choices(annotation))
    if what in ("names", "numbers") and value is not None:
        return _names(value)
    if what == "mapping":
        return _parameters(value) if name == "ollama_parameters" else method_checks.mapping(value)
    return value


def _choice(name: str, value: Any, options: tuple[str, ...]) -> Any:
    """The option in its own spelling; a known value that is not ours yet is refused."""
    if value is False and "no" in options:  # another tool's key, read as YAML
        return "no"
    if not isinstance(value, str):
        return value
    reason = REFUSED_VALUES.get(name, {}).get(value.lower())
    if reason:
        raise located(Found((name,), f"{value} is not possible: {reason}"))
    return next((option for option in options if option.lower() == value.lower()), value)


def _names(value: Any) -> Any:
    """`a, b` -> [a, b]; blanks around a name and empty names go."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple)):
        raise wrong_type()
    stripped = (item.strip() if isinstance(item, str) else item for item in value)
    names = tuple(item for item in stripped if item != "")
    if not names:
        raise wrong_type()
    return names


def _parameters(value: Any) -> Any:
    """Every name known to Ollama, every value of its type; lists become tuples."""
    if value is None:  # `ollama_parameters:` with nothing below it
        return {}
    if not isinstance(value, Mapping):
        raise wrong_type()
    found = [
        Found(("ollama_parameters", str(name)), sentence)
        for name, item in value.items()
        if (sentence := parameter_problem(str(name), item))
    ]
    if found:
        raise located(*found)
    return {
        str(name): tuple(item) if isinstance(item, (list, tuple)) else item
        for name, item in value.items()
    }


def parameter_problem(name: str, value: Any) -> str:
    """What is wrong with one PARAMETER; "" when nothing is."""
    if name == "num_ctx":
        return "has its own key here; write num_ctx outside ollama_parameters"
    if name in OBSOLETE_PARAMETERS:
        return "Ollama no longer uses it; remove it"
    if name not in OLLAMA_PARAMETERS:
        near = did_you_mean(name, OLLAMA_PARAMETERS)
        return "Ollama has no such parameter" + (f"; did you mean {near}?" if near else "")
    takes = OLLAMA_PARAMETERS[name]
    return "" if _FITS[takes](value) else f"must be {takes}, not {shown(value)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "a whole number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "a number": _is_number,
    "true or false": lambda value: isinstance(value, bool),
    "text or a list of texts": lambda value: (
        isinstance(value, str)
        or (isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value))
    ),
}


def check_field(name: str, value: Any) -> Any:
    """After pydantic: the rules of single keys; the value, perhaps in its final form."""
    if isinstance(value, Path):
        return value.expanduser()
    rule = _RULES.get(name) or method_checks.RULES.get(name)
    sentence = rule(value) if rule and value is not None else ""
    if sentence:
        raise located(Found((name,), sentence))
    return value


def _rule_val_size(value: float) -> str:
    if value >= 1 and value != int(value):
        return f"is a share below 1 or a whole count of conversations, not {value:g}"
    return ""


def _rule_ollama_name(value: str) -> str:
    try:
        check_name(value)
    except UsageError as error:
        return f"{error.what}: {error.why}; {error.fix}"
    return ""


def _rule_plain(value: str) -> str:
    """A word that can be a folder name, in any script."""
    if re.search(r'[\s/\\:*?"<>|\x00-\x1f]', value) or value.startswith("."):
        return f'is part of a folder name: no blanks, slashes or :*?"<>| in it, not {shown(value)}'
    return ""


def _rule_report_to(value: tuple[str, ...]) -> str:
    for name in value:
        if name == "all":
            return f"name the trackers that you use: {', '.join(TRACKERS)}, or none"
        if name not in (*TRACKERS, "none"):
            near = did_you_mean(name, (*TRACKERS, "none"))
            what = f"did you mean {near}?" if near else f"there are {', '.join(TRACKERS)} and none"
            return f"{name} is no tracker; {what}"
    return "none stands beside other names; keep one of the two" if set(value) > {"none"} else ""


_RULES: Mapping[str, Callable[[Any], str]] = {
    "report_to": _rule_report_to,
    "max_steps": lambda value: "" if value else "must be -1 (no limit) or at least 1, not 0",
    "val_size": _rule_val_size,
    "ollama_name": _rule_ollama_name,
    "run_name": _rule_plain,
    "template": _rule_plain,
}


def check_together(config: Config) -> None:
    """After all keys are right: rules between them."""
    found = [one for rule in _TOGETHER if (one := rule(config))]
    found += [one for rule in method_checks.TOGETHER for one in rule(config)]
    if found:
        raise located(*found)


def _evaluation(config: Config) -> Found | None:
    if not (config.eval_dataset and config.val_size):
        return None
    return Found(
        ("eval_dataset",),
        f"{', '.join(config.eval_dataset)} and val_size {config.val_size:g} say the same thing "
        "twice; keep one of the two",
        ("eval_dataset", "val_size"),
    )


def _weights(config: Config) -> Found | None:
    probs, sets = config.interleave_probs, config.dataset
    if probs is None:
        return None
    if config.mix_strategy == "concat":
        sentence = "concat takes all of each data set; write mix_strategy: interleave_over"
    elif len(probs) != len(sets):
        sentence = f"has {len(probs)} weights for {len(sets)} data sets; write one for each"
    else:
        return None
    return Found(("interleave_probs",), sentence, ("interleave_probs", "mix_strategy", "dataset"))


def _streaming(config: Config) -> Found | None:
    if not config.streaming or config.max_samples or config.max_steps > 0:
        return None
    return Found(
        ("streaming",),
        "true must know where to stop; add max_samples or max_steps",
        ("streaming", "max_samples", "max_steps"),
    )


def _mask(config: Config) -> Found | None:
    if not (config.mask_history and config.train_on_prompt):
        return None
    return Found(
        ("mask_history",),
        "true leaves earlier turns out and train_on_prompt: true learns them; keep one of the two",
        ("mask_history", "train_on_prompt"),
    )


def _warmup(config: Config) -> Found | None:
    if not (config.warmup_ratio and config.warmup_steps):
        return None
    return Found(
        ("warmup_ratio",),
        f"{config.warmup_ratio:g} and warmup_steps {config.warmup_steps} say the same thing twice; "
        "keep one of the two",
        ("warmup_ratio", "warmup_steps"),
    )


def _constant(config: Config) -> Found | None:
    if config.lr_scheduler_type != "constant":
        return None
    name = "warmup_steps" if config.warmup_steps else "warmup_ratio"
    if not getattr(config, name):
        return None
    return Found(
        ("lr_scheduler_type",),
        f"constant has no warm-up, but {name} is {getattr(config, name):g}; "
        "write constant_with_warmup",
        ("lr_scheduler_type", "warmup_ratio", "warmup_steps"),
    )


def _held_out(config: Config) -> Found | None:
    if config.max_samples is None or config.val_size < 1:
        return None
    most = config.max_samples * len(config.dataset)
    if config.val_size < most:
        return None
    return Found(
        ("val_size",),
        f"{config.val_size:g} leaves nothing to train on: max_samples allows {most} "
        f"conversation{'s' if most > 1 else ''}",
        ("val_size", "max_samples", "dataset"),
    )


def _best(config: Config) -> Found | None:
    """The best checkpoint must have been saved when it was measured."""
    measured = config.eval_strategy or "epoch"
    saved, keys = config.resolved_save_strategy, ("load_best_model_at_end", "save_strategy")
    needing = [
        name for name in ("load_best_model_at_end", "early_stopping_steps") if getattr(config, name)
    ] + (["save_strategy"] if config.save_strategy == "best" else [])
    if needing and measured == "no":
        text = "needs the held-out loss; write eval_strategy: epoch, or steps"
        return Found((needing[0],), text, (needing[0], "eval_strategy"))
    if not config.load_best_model_at_end or saved in ("best", "eval"):
        return None
    if saved != measured:
        text = f"needs checkpoints where the loss is measured; write save_strategy: {measured}"
        return Found(("load_best_model_at_end",), text, (*keys, "eval_strategy"))
    if saved == "steps" and config.eval_steps and config.save_steps % config.eval_steps:
        text = f"save_steps must be a multiple of eval_steps; write save_steps: {config.eval_steps}"
        return Found(("load_best_model_at_end",), text, (*keys, "save_steps", "eval_steps"))
    return None


def _engines(config: Config) -> Found | None:
    if not (config.deepspeed and config.sharded):
        return None
    text = "DeepSpeed and FSDP do the same thing; keep one of deepspeed and fsdp"
    return Found(("fsdp",), text, ("fsdp", "deepspeed"))


_TOGETHER: tuple[Callable[[Config], Found | None], ...] = (
    _evaluation, _weights, _streaming, _mask, _warmup, _constant, _held_out, _best, _engines,
)  # fmt: skip


def remarks(config: Config) -> tuple[str, ...]:
    """What is allowed and yet may surprise: a key that has no effect beside another."""
    found = list(method_checks.remarks(config))
    if config.trust_remote_code:
        found.append("trust_remote_code: true is ignored: code from a download is never run")
    if config.max_steps > 0:
        found.append(f"max_steps: {config.max_steps} ends the run; num_train_epochs does not count")
    if 0 < config.max_steps <= config.warmup_steps:
        found.append(
            f"warmup_steps: {config.warmup_steps} is the whole run of max_steps "
            f"{config.max_steps}; the learning rate only rises"
        )
    if config.fsdp_config and not config.sharded:
        found.append("fsdp_config has no effect without fsdp")
    if config.save_only_model:
        found.append("save_only_model: a run cannot go on from such checkpoints; Ctrl-C saves all")
    return tuple(found)
