"""A PEFT LoRA folder -> LoRA pairs with their exact scales, and everything we must refuse.

In: adapter_config.json and adapter_model.safetensors. Out: pairs that are read when asked for, and
the list of problems. The list is complete before anything is raised: converters that drop a tensor
or ignore a setting here give a model that loads and is silently wrong.
Scale and rank of a module follow peft/tuners/lora/model.py (`_create_and_replace`) and
layer.py (`update_layer`); file keys follow peft/utils/save_and_load.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.errors import ConvertError, Unsupported
from converters.hf_folder import Config, read_json
from converters.lora import LoraPair, PairSource
from converters.safetensors_file import StoredRows, open_file

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KEY = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_(?:embedding_)?[AB])"
    r"(?:\.(?!weight$|bias$)[^.]+)?(?:\.weight)?"
)
_EMBEDDING_COPY = re.compile(r"((?:.+\.)?(?:embed_tokens|lm_head))(?:\.base_layer)?\.weight")
_LEFTOVERS = (  # the first pattern that is found in a key names its kind
    ("lora_magnitude_vector", "DoRA magnitudes"),
    (r"lora_B(\..+)?\.bias", "LoRA biases"),
    (r"modules_to_save", "a module that was trained whole (modules_to_save)"),
    (r"norm[^.]*\.weight", "norm weights that were trained whole"),
    (r"\.bias", "biases that were trained"),
    (r"\.weight", "weights that were trained or saved whole"),
    ("", "a tensor of unknown meaning"),
)


@dataclass(frozen=True)
class StoredPair:
    """A pair on disk. For an embedding the file holds both factors transposed."""

    name: str
    a: StoredRows
    b: StoredRows
    scale: float
    embedding: bool

    @property
    def rank(self) -> int:
        """The rank the tensors have."""
        return self.a.shape[0] if self.a.shape else 0

    @property
    def weight_shape(self) -> tuple[int, int]:
        """[n_out, n_in] of the weight the pair belongs to ([vocabulary, width] of an embedding)."""
        if self.embedding:
            return self.a.shape[1], self.b.shape[0]
        return self.b.shape[0], self.a.shape[1]

    def load(self) -> LoraPair:
        """Read both factors: a [r, n_in], b [n_out, r], float32."""
        a, b = self.a.all(), self.b.all()
        return (
            LoraPair(self.name, b.T, a.T, self.scale)
            if self.embedding
            else LoraPair(self.name, a, b, self.scale)
        )


@dataclass(frozen=True)
class Adapter:
    """What the folder holds. `copies`: embedding weights PEFT saved beside the pairs."""

    pairs: Mapping[str, PairSource]
    alpha: float
    problems: tuple[str, ...]
    copies: dict[str, StoredRows] = field(default_factory=dict)


def read_adapter(folder: Path) -> Adapter:
    """Read the config and the headers; no weights. Raises only when the files are unreadable."""
    config = read_json(folder / "adapter_config.json")
    if not (folder / WEIGHTS).is_file() and (folder / "adapter_model.bin").is_file():
        raise Unsupported(
            "the adapter is a pickle file",
            "",
            "adapter_model.bin can run code when it is opened",
            "save it again with peft: model.save_pretrained(folder)",
        )
    if not _is_number(config.get("r", 8)) or not _is_number(config.get("lora_alpha", 8)):
        raise ConvertError(
            "adapter_config.json has no usable rank and alpha",
            "",
            f"r={config.get('r')!r}, lora_alpha={config.get('lora_alpha')!r}",
        )
    factors, copies, leftovers = _sort_keys(open_file(folder / WEIGHTS))
    problems = [*_config_problems(config), *leftovers]
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        return Adapter({}, 0.0, tuple(problems))
    pairs = {}
    for module, parts in sorted(factors.items()):
        problem = _pair_problem(module, parts, config)
        if problem:
            problems.append(problem)
        else:
            pairs[module] = _pair(module, parts, config)
    if not factors:
        problems.append(f"{WEIGHTS} holds no LoRA pair")
    return Adapter(pairs, float(config.get("lora_alpha", 8)), tuple(problems), copies)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _sort_keys(
    tensors: Mapping[str, StoredRows],
) -> tuple[dict[str, dict[str, StoredRows]], dict[str, StoredRows], list[str]]:
    factors: dict[str, dict[str, StoredRows]] = {}
    copies: dict[str, StoredRows] = {}
    leftovers: dict[str, list[str]] = {}
    for key, rows in tensors.items():
        name = key
        while name.startswith(_PREFIX):
            name = name[len(_PREFIX) :]
        if match := _KEY.fullmatch(name):
            parts = factors.setdefault(match["module"], {})
            if match["part"] in parts:
                leftovers.setdefault("a second adapter in the same file", []).append(name)
            parts[match["part"]] = rows
        elif copy := _EMBEDDING_COPY.fullmatch(name):
            copies[copy[1]] = rows
        else:
            kind = next(kind for pattern, kind in _LEFTOVERS if re.search(pattern, name))
            leftovers.setdefault(kind, []).append(name)
    return factors, copies, list(grouped(leftovers))


def grouped(names_of: Mapping[str, list[str]]) -> Iterator[str]:
    """One line per (message, names that differ only in their numbers)."""
    for message, names in names_of.items():
        alike: dict[str, list[str]] = {}
        for name in names:
            alike.setdefault(numberless(name), []).append(name)
        for pattern, members in alike.items():
            where = members[0] if len(members) == 1 else f"{pattern} ({len(members)} tensors)"
            yield f"{where}: {message}"


def numberless(name: str) -> str:
    """`model.layers.3.mlp` -> `model.layers.*.mlp`: what the layers have in common."""
    return re.sub(r"\d+", "*", name)


def _residual_init(value: object) -> bool:
    return isinstance(value, str) and value.lower().startswith(
        ("pissa", "olora", "corda", "loftq", "lora_ga")
    )


_REFUSED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("use_dora", bool, "DoRA rescales whole weight rows; a LoRA pair cannot say that"),
    ("bias", lambda v: v not in (None, "none"), "trained biases have no place in a LoRA pair"),
    ("lora_bias", bool, "a bias on B has no place in a LoRA pair"),
    ("modules_to_save", bool, "modules trained whole are not LoRA pairs"),
    ("trainable_token_indices", bool, "trained tokens are not LoRA pairs"),
    ("layer_replication", bool, "the trained model has more layers than the base"),
    ("target_parameters", bool, "LoRA on bare parameters (fused experts) is not mapped"),
    ("fan_in_fan_out", bool, "the base stores its weights transposed (Conv1D)"),
    (
        "init_lora_weights",
        _residual_init,
        "this initialisation changes the base weights, so the pairs do not fit the original base; "
        "save with path_initial_model_for_weight_conversion to get plain LoRA",
    ),
    ("use_qalora", bool, "QALoRA pools the inputs of A"),
    ("use_bdlora", bool, "block-diagonal LoRA is not mapped"),
    ("kasa_config", bool, "KaSA changes the base weights"),
    ("arrow_config", bool, "an Arrow router picks among several adapters at run time"),
    ("monteclora_config", bool, "MonteCLoRA samples its weights"),
    ("alora_invocation_tokens", bool, "aLoRA is active only after its invocation tokens"),
)

_KNOWN = frozenset(key for key, _, _ in _REFUSED) | frozenset(
    [
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_dtype",
        "lora_ga_config",
        "lorap_emb_lr",
        "lorap_lr_ratio",
        "megatron_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
        "velora_config",
    ]
)


def _config_problems(config: Config) -> Iterator[str]:
    kind = config.get("peft_type", "LORA")
    if str(kind).upper() != "LORA":
        yield f"peft_type={kind}: only LORA adapters are low-rank pairs"
    for key, refused, reason in _REFUSED:
        value = config.get(key)
        if refused(value):
            yield f"{key}={_short(value)}: {reason}"
    for key, value in config.items():
        if value and key not in _KNOWN:
            yield f"{key}={_short(value)}: not a setting this version knows the effect of"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _pair_problem(module: str, parts: Mapping[str, StoredRows], config: Config) -> str:
    kind = "lora_embedding_" if any("embedding" in part for part in parts) else "lora_"
    missing = [part for part in (kind + "A", kind + "B") if part not in parts]
    if missing:
        return f"{module}: {' and '.join(missing)} missing"
    a, b = parts[kind + "A"].shape, parts[kind + "B"].shape
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or a[0] == 0:
        return f"{module}: A {list(a)} and B {list(b)} are not a low-rank pair"
    rank, _ = rank_and_scale(module, config)
    if rank != a[0]:
        return f"{module}: the tensors have rank {a[0]}, adapter_config.json says {rank}"
    return ""


def _pair(module: str, parts: Mapping[str, StoredRows], config: Config) -> StoredPair:
    embedding = "lora_embedding_A" in parts
    kind = "lora_embedding_" if embedding else "lora_"
    _, scale = rank_and_scale(module, config)
    return StoredPair(module, parts[kind + "A"], parts[kind + "B"], scale, embedding)


def rank_and_scale(module: str, config: Config) -> tuple[int, float]:
    """Rank and scale PEFT gives a module: r, and alpha / r or alpha / sqrt(r)."""
    rank = int(_by_pattern(config.get("rank_pattern"), module, config.get("r", 8)))
    alpha = float(_by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8)))
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The first pattern that matches the end of the name, at a dot: peft.utils.get_pattern_key."""
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
