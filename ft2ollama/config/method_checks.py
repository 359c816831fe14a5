"""Rules of the keys of method.py: of one key, between keys, and what may surprise.

A sentence starts after "key: "; see checks.py, which calls these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.config.expects import did_you_mean, shown
from ft2ollama.config.found import Found, wrong_type

if TYPE_CHECKING:
    from ft2ollama.config.schema import Config

REGEX = frozenset("\\^$*+?()[]|")  # a lora_target with one of these is a regular expression
FULL_RATE = 1e-4  # full fine-tuning above this learning rate is a LoRA rate taken over

REFUSED_VALUES: Mapping[str, Mapping[str, str]] = {
    "finetuning_type": {
        "qlora": "it is lora on a 4-bit base; write lora, and quantization_bit: 4",
        "oft": "a GGUF file has no place for its matrices; write lora",
        "dora": "it is a kind of lora; write lora, and use_dora: true",
    },
    "quantization_method": {
        "hqq": "only bitsandbytes is used; write bnb",
        "eetq": "only bitsandbytes is used; write bnb",
        "gptq": "only bitsandbytes is used; write bnb, and give the 16-bit model",
        "awq": "only bitsandbytes is used; write bnb, and give the 16-bit model",
    },
    "optim": {
        "adamw_hf": "transformers dropped it; write adamw_torch",
        "adamw": "its name here is adamw_torch",
    },
}

# transformers/optimization.py, `get_*_schedule*`: what each schedule takes.
_SCHEDULES: Mapping[str, frozenset[str]] = {
    "cosine": frozenset({"num_cycles"}),
    "cosine_with_restarts": frozenset({"num_cycles"}),
    "polynomial": frozenset({"lr_end", "power"}),
    "cosine_with_min_lr": frozenset({"num_cycles", "min_lr", "min_lr_rate"}),
    "inverse_sqrt": frozenset({"timescale"}),
    "warmup_stable_decay": frozenset(
        {"num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio",
         "num_cycles"}
    ),
}  # fmt: skip


def mapping(value: Any) -> Any:
    """A mapping of names, before pydantic; `key:` with nothing below it is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise wrong_type()
    return {str(name): item for name, item in value.items()}


def is_regex(target: str) -> bool:
    """Whether a lora_target is a regular expression and no name."""
    return not REGEX.isdisjoint(target)


def _bits(value: int) -> str:
    if value in (4, 8):
        return ""
    return f"bitsandbytes has 4 and 8 bits, not {value}; write 4, or remove the key"


def _targets(value: Collection[str]) -> str:
    if "all" in value and len(value) > 1:
        return "all already covers the others; give all, or the names alone"
    for target in filter(is_regex, value):
        try:
            re.compile(target)
        except re.error as error:
            return f"{shown(target)} is no regular expression: {error}"
    return ""


def _all_alone(value: Collection[str]) -> str:
    if "all" in value and len(value) > 1:
        return "all already covers the others; give all, or the names alone"
    return ""


def _pattern(largest: int) -> Callable[[Mapping[str, int]], str]:
    def rule(value: Mapping[str, int]) -> str:
        for name, number in value.items():
            if not 1 <= number <= largest:
                return f"{name}: must be from 1 to {largest}, not {number}"
            try:
                re.compile(name)
            except re.error as error:
                return f"{shown(name)} is no regular expression: {error}"
        return ""

    return rule


def _new_tokens(value: Collection[str]) -> str:
    twice = next((token for token in value if list(value).count(token) > 1), "")
    return f"{shown(twice)} is given twice" if twice else ""


RULES: Mapping[str, Callable[[Any], str]] = {
    "quantization_bit": _bits,
    "lora_target": _targets,
    "lora_rank_pattern": _pattern(1024),
    "lora_alpha_pattern": _pattern(10**9),
    "freeze_trainable_layers": lambda value: (
        "" if value else "0 trains nothing; write 2 for the last two layers, -2 for the first two"
    ),
    "freeze_trainable_modules": _all_alone,
    "add_tokens": _new_tokens,
    "add_special_tokens": _new_tokens,
}


def _quantized(config: Config) -> Iterator[Found]:
    """What a quantized base rules out."""
    if config.quantization_bit is None:
        return
    bits = config.quantization_bit
    adapters = config.adapter_name_or_path or ()
    reasons = (
        (config.finetuning_type != "lora", "finetuning_type",
         f"{config.finetuning_type} cannot train weights of {bits} bits; write finetuning_type: "
         "lora, or remove quantization_bit"),
        (config.pissa_init, "pissa_init",
         "it changes the base weights, which are quantized; remove pissa_init or quantization_bit"),
        (config.create_new_adapter, "create_new_adapter",
         "an adapter cannot be merged into quantized weights; remove quantization_bit"),
        (len(adapters) > 1, "adapter_name_or_path",
         "adapters cannot be merged into quantized weights; give one, or remove quantization_bit"),
        (config.use_dora and bits == 8, "use_dora",
         "DoRA needs the weights' lengths, which 8 bits hide; write quantization_bit: 4"),
    )  # fmt: skip
    for wrong, name, sentence in reasons:
        if wrong:
            yield Found((name,), sentence, (name, "quantization_bit"))


_LORA_ONLY = (
    "use_dora", "use_rslora", "pissa_init", "loraplus_lr_ratio", "additional_target",
    "adapter_name_or_path", "create_new_adapter", "lora_rank_pattern", "lora_alpha_pattern",
)  # fmt: skip


def _lora_only(config: Config) -> Iterator[Found]:
    if config.finetuning_type == "lora" or config.quantization_bit is not None:
        return
    for name in _LORA_ONLY:
        if getattr(config, name):
            yield Found(
                (name,),
                f"belongs to finetuning_type lora, not {config.finetuning_type}; remove it",
                (name, "finetuning_type"),
            )


def _adapter_file(config: Config) -> Iterator[Found]:
    """What an adapter GGUF has no place for."""
    if config.export_as != "adapter":
        return
    reasons = {
        "finetuning_type": config.finetuning_type != "lora",
        "use_dora": config.use_dora,
        "additional_target": bool(config.additional_target),
        "add_tokens": bool(config.add_tokens),
        "add_special_tokens": bool(config.add_special_tokens),
        "adapter_name_or_path": config.is_whole,
    }
    name = next((name for name, wrong in reasons.items() if wrong), "")
    if not name:
        return
    yield Found(
        ("export_as",),
        f"adapter has no place for what {name} asks for; write export_as: model",
        ("export_as", name),
    )


def _bf16(config: Config) -> Iterator[Found]:
    if not config.pure_bf16 or config.compute_dtype in ("auto", "bfloat16"):
        return
    yield Found(
        ("pure_bf16",),
        f"true trains in bfloat16, but compute_dtype is {config.compute_dtype}; keep one of the "
        "two",
        ("pure_bf16", "compute_dtype"),
    )


def _new_adapter(config: Config) -> Iterator[Found]:
    if not config.create_new_adapter or config.adapter_name_or_path:
        return
    yield Found(
        ("create_new_adapter",),
        "there is no adapter to merge first; remove it, or give adapter_name_or_path",
        ("create_new_adapter", "adapter_name_or_path"),
    )


def _frozen_tokens(config: Config) -> Iterator[Found]:
    """The rows of new tokens have to be trained."""
    if not config.new_tokens or config.finetuning_type != "freeze":
        return
    if "embed_tokens" in (config.freeze_extra_modules or ()):
        return
    name = "add_tokens" if config.add_tokens else "add_special_tokens"
    yield Found(
        (name,),
        "freeze leaves their rows untrained; write freeze_extra_modules: embed_tokens,lm_head",
        (name, "finetuning_type", "freeze_extra_modules"),
    )


def _merged_modules(config: Config) -> Iterator[Found]:
    """peft's merge writes one of two ends that were trained apart into the weight they share."""
    if not (config.finetuning_type == "lora" and config.is_whole and config.additional_target):
        return
    other = "adapter_name_or_path" if config.adapter_name_or_path else "qlora_merge_into"
    yield Found(
        ("additional_target",),
        f"cannot be merged together with {other}; remove one of the two",
        ("additional_target", other),
    )


def _schedule(config: Config) -> Iterator[Found]:
    """Settings that the schedule does not have would end in a traceback after the loading."""
    takes = _SCHEDULES.get(config.lr_scheduler_type, frozenset())
    known = ", ".join(sorted(takes)) or "none"
    wrong = next((name for name in config.lr_scheduler_kwargs if name not in takes), "")
    sentence = ""
    if wrong:
        near = did_you_mean(wrong, takes)
        hint = f"; did you mean {near}?" if near else f"; it takes: {known}"
        sentence = f"{config.lr_scheduler_type} takes no {wrong}{hint}"
    elif config.lr_scheduler_type == "warmup_stable_decay" and (
        "num_decay_steps" not in config.lr_scheduler_kwargs
    ):
        sentence = "warmup_stable_decay needs num_decay_steps; write {num_decay_steps: 10}"
    elif config.lr_scheduler_type == "cosine_with_min_lr" and (
        len({"min_lr", "min_lr_rate"}.intersection(config.lr_scheduler_kwargs)) != 1
    ):
        sentence = "cosine_with_min_lr needs min_lr or min_lr_rate; write {min_lr_rate: 0.1}"
    if not sentence:
        return
    given = "lr_scheduler_kwargs" if config.lr_scheduler_kwargs else "lr_scheduler_type"
    yield Found((given,), sentence, ("lr_scheduler_kwargs", "lr_scheduler_type"))


def _plus(config: Config) -> Iterator[Found]:
    """peft's LoRA+ builds its own groups, which these optimizers cannot take."""
    if config.loraplus_lr_ratio is None or config.optim != "adafactor":
        return
    yield Found(
        ("loraplus_lr_ratio",),
        "adafactor sets its own rates; write optim: adamw_torch",
        ("loraplus_lr_ratio", "optim"),
    )


TOGETHER: tuple[Callable[[Config], Iterator[Found]], ...] = (
    _quantized, _lora_only, _adapter_file, _bf16, _new_adapter, _frozen_tokens, _merged_modules,
    _schedule, _plus,
)  # fmt: skip


def remarks(config: Config) -> Iterator[str]:
    """What is allowed and yet may surprise."""
    if config.finetuning_type != "lora" and config.learning_rate > FULL_RATE:
        yield (
            f"learning_rate: {config.learning_rate:g} is a rate for LoRA; finetuning_type "
            f"{config.finetuning_type} usually takes 1e-5"
        )
    if config.adapter_name_or_path and not config.create_new_adapter:
        yield (
            f"adapter_name_or_path: rank, alpha and targets are those of "
            f"{config.adapter_name_or_path[-1]}, not of this config"
        )
    if config.quantization_bit is not None and not config.is_whole:
        yield (
            f"quantization_bit: {config.quantization_bit}: the adapter is trained on rounded "
            "weights and exported on the original ones; qlora_merge_into: quantized exports it on "
            "what it was trained on"
        )
    if config.pissa_init and config.compute_dtype != "float32":
        yield (
            "pissa_init: the base is rounded to compute_dtype after the adapter was taken out of "
            "it, the export does not round; compute_dtype: float32 leaves no difference"
        )


_QUANTIZED_KEYS = ("quantization_method", "quantization_type", "double_quantization")


def qlora_remark(config: Config, path: Path | None, given: Collection[str]) -> str:
    """Why a config looks like QLoRA and trains on 16 bits; "" when it does not look so.

    Told by the keys of quantization, by `qlora` in the config's file or folder name (LLaMA-Factory
    keeps its examples in train_qlora/), in the end of output_dir or in run_name.
    `quantization_bit: null` in the file says that 16 bits are meant.
    """
    if config.finetuning_type != "lora" or "quantization_bit" in given:
        return ""
    names = {
        "the config's path": "/".join(path.absolute().parts[-2:]) if path else "",
        "output_dir": "/".join(config.output_dir.parts[-3:]) if config.output_dir else "",
        "run_name": config.run_name or "",
    }
    hints = [name for name in _QUANTIZED_KEYS if name in given]
    hints += [f"{name} ({text})" for name, text in names.items() if "qlora" in text.lower()]
    if not hints:
        return ""
    return (
        f"this looks like QLoRA, by {', '.join(hints)}, but without quantization_bit it trains a "
        "LoRA on a 16-bit base; add quantization_bit: 4 for QLoRA, or quantization_bit: null to "
        "keep it so"
    )
