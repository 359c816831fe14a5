"""A PEFT folder -> everything that was trained, by the weight it belongs to, and what we refuse.

In: adapter_config.json and adapter_model.safetensors. Out: low-rank pairs that are read when asked
for, weights and biases saved whole, trained token rows, and the list of problems. The list is
complete before anything is raised: a tensor dropped or a setting ignored gives a model that loads
and is silently wrong. Whether an adapter file can say what was found, or only a merged model,
is decided in fit.py.
File keys follow peft/utils/save_and_load.py, the names of the parts peft/tuners/lora/layer.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.errors import ConvertError, Unsupported
from converters.hf_folder import Config, read_json
from converters.lora import LoraPair, PairSource
from converters.peft_config import (
    KINDS,
    adalora_scale,
    config_problems,
    kind_of,
    layer_ranges,
    names_in,
    parameters_of,
    rank_and_scale,
    require_numbers,
    start_of,
    strip_base_layer,
    token_indices,
)
from converters.safetensors_file import StoredRows, open_file
from converters.transforms import Rows, chunks, equal_rows

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_ADAPTER_NAME = r"(?:\.(?!weight$|bias$)[^.]+)?"
_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_(?:embedding_)?[AB]|lora_E|lora_magnitude_vector)"
    + _ADAPTER_NAME
    + r"(?P<end>\.weight|\.bias)?"
)
_TOKENS = re.compile(r"(?P<module>.+)\.token_adapter\.trainable_tokens_delta" + _ADAPTER_NAME)
_WHOLE = re.compile(
    r"(?P<module>.+?)"
    r"(?P<where>(?:\.token_adapter)?\.base_layer|\.original_module|\.modules_to_save(?:\.[^.]+)?)?"
    r"\.(?P<end>weight|bias)"
)
_FUSED = re.compile(r".+\.experts(?:\.base_layer)*")
_OTHER_TOWERS = re.compile(
    r"(?:.+\.)?(visual|vision_tower|vision_model|vision_encoder|multi_modal_projector|mm_projector"
    r"|audio_tower|audio_model|embed_vision|embed_audio)\..+"
)
_MLX = re.compile(r".+\.lora_[ab]")


@dataclass(frozen=True)
class StoredPair:
    """A pair on disk. For an embedding both factors lie transposed.

    singular: AdaLoRA's lora_E [r, 1]. experts: how many lie in one pair (`target_parameters` on
    fused experts: a [E * r, n_in], b [n_out, r * E]); 0 for a plain pair. parameters: which of its
    module's parameters it may belong to, as (name, rank, scale): the file does not say, the base's
    shapes do (gathered.py).
    """

    name: str
    a: StoredRows
    b: StoredRows
    scale: float
    embedding: bool
    singular: StoredRows | None = None
    experts: int = 0
    parameters: tuple[tuple[str, int, float], ...] = ()

    @property
    def rank(self) -> int:
        """The rank the tensors have, of one expert."""
        return self.a.shape[0] // max(1, self.experts)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[n_out, n_in] of the weight the pair belongs to ([vocabulary, width] of an embedding).

        Of fused experts [E, n_out, n_in].
        """
        if self.embedding:
            return self.a.shape[1], self.b.shape[0]
        stack = (self.experts,) if self.experts else ()
        return (*stack, self.b.shape[0], self.a.shape[1])

    def load(self) -> LoraPair:
        """Read both factors: a [r, n_in], b [n_out, r], float32; of experts with a leading axis.

        The order of fused experts is PEFT's (lora/layer.py, ParamWrapper.get_delta_factors):
        expert after expert in A's rows, rank after rank in B's columns.
        """
        a, b = self.a.all(), self.b.all()
        if self.embedding:
            return LoraPair(self.name, b.T, a.T, self.scale)
        if self.experts:
            a = a.reshape(self.experts, self.rank, -1)
            b = b.reshape(len(b), self.rank, self.experts).transpose(2, 0, 1)
            return LoraPair(self.name, a, b, self.scale)
        if self.singular is not None:
            a = a * self.singular.all()
        return LoraPair(self.name, a, b, self.scale)


@dataclass(frozen=True)
class Tokens:
    """Embedding rows trained one by one. indices: [n], rows: [n, width]."""

    indices: tuple[int, ...]
    rows: StoredRows


@dataclass(frozen=True)
class Bias:
    """The bias of B [n_out], and the scale it shares with the pair."""

    rows: StoredRows
    scale: float


@dataclass(frozen=True)
class Adapter:
    """What the folder holds: pairs and what goes with them by module, whole tensors by name.

    problems: lines that no route can mend. start: "pissa" or "olora" if the pairs began as parts
    of the base's weights. magnitudes: DoRA's, [n_out] ([width] of an embedding). trained: copies
    that replace a module (modules_to_save). own: parameters of the base itself, saved because
    they changed (biases, resized embeddings) or stand beside a pair; a tied end shares these and
    not the copies. notes: what was left out because the caller said so.
    """

    pairs: Mapping[str, PairSource]
    alpha: float
    problems: tuple[str, ...]
    start: str = ""
    magnitudes: Mapping[str, Rows] = field(default_factory=dict)
    biases: Mapping[str, Bias] = field(default_factory=dict)
    trained: Mapping[str, Rows] = field(default_factory=dict)
    own: Mapping[str, Rows] = field(default_factory=dict)
    tokens: Mapping[str, Tokens] = field(default_factory=dict)
    replication: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()


NO_ADAPTER = Adapter({}, 0.0, ())


def read_adapter(folder: Path, *, text_only: bool = False) -> Adapter:
    """Read the config and the headers; no weights. Raises only when the files are unreadable.

    text_only: leave out the tensors of vision and audio towers, and say so in the notes.
    """
    config = read_json(folder / "adapter_config.json")
    _require_peft_files(folder, config)
    require_numbers(config)
    problems = list(config_problems(config))
    if kind_of(config) not in KINDS:
        return Adapter({}, 0.0, tuple(problems))
    found = _Found(tuple(names_in(config, "modules_to_save")))
    _sort_keys(found, open_file(folder / WEIGHTS), text_only=text_only)
    problems += [*_config_without_tensors(config, found), *grouped(found.leftovers)]
    pairs, magnitudes, biases = {}, {}, {}
    for module, parts in sorted(found.parts.items()):
        if kind_of(config) == "ADALORA" and _pruned_away(parts):
            continue
        problem = _pair_problem(module, parts, config)
        if problem:
            problems.append(problem)
            continue
        pair = pairs[module] = _pair(module, parts, config)
        if "lora_magnitude_vector" in parts:
            magnitudes[module] = parts["lora_magnitude_vector"]
        if "lora_B.bias" in parts:
            biases[module] = Bias(parts["lora_B.bias"], pair.scale)
    tokens = {}
    for module, rows in found.tokens.items():
        tokens[module] = Tokens(tuple(token_indices(config, module)), rows)
    if not (found.parts or found.trained or found.own or tokens):
        problems.append(f"{WEIGHTS} holds no LoRA pair")
    return Adapter(
        pairs,
        float(config.get("lora_alpha", 8)),
        tuple(problems),
        start_of(config),
        magnitudes,
        biases,
        found.trained,
        found.own,
        tokens,
        layer_ranges(config),
        tuple(found.notes),
    )


def _require_peft_files(folder: Path, config: Config) -> None:
    if (folder / WEIGHTS).is_file():
        return
    if (folder / "adapters.safetensors").is_file() or "lora_parameters" in config:
        raise Unsupported(
            "this is an MLX adapter, not a PEFT adapter",
            "",
            "adapters.safetensors and lora_parameters are mlx-lm's names; its factors lie "
            "transposed and its scale is not alpha / r",
            "mlx_lm.fuse --model BASE --adapter-path FOLDER --save-path merged, "
            "then python -m converters model merged OUT",
        )
    if (folder / "adapter_model.bin").is_file():
        raise Unsupported(
            "the adapter is a pickle file",
            "",
            "adapter_model.bin can run code when it is opened",
            "save it again with peft: model.save_pretrained(folder)",
        )


@dataclass
class _Found:
    """The tensors of the file by what they are. leftovers: message -> names."""

    modules_to_save: tuple[str, ...]
    parts: dict[str, dict[str, StoredRows]] = field(default_factory=dict)
    trained: dict[str, StoredRows] = field(default_factory=dict)
    own: dict[str, StoredRows] = field(default_factory=dict)
    tokens: dict[str, StoredRows] = field(default_factory=dict)
    leftovers: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def refuse(self, message: str, name: str) -> None:
        self.leftovers.setdefault(message, []).append(name)


def _sort_keys(found: _Found, tensors: Mapping[str, StoredRows], *, text_only: bool) -> None:
    left_out: dict[str, list[str]] = {}
    for key, rows in tensors.items():
        name = key
        while name.startswith(_PREFIX):
            name = name[len(_PREFIX) :]
        tower = _OTHER_TOWERS.fullmatch(name)
        if tower and text_only:
            left_out.setdefault(tower[1], []).append(name)
        elif tower:
            found.refuse(
                f"part of {tower[1]}, which a text model does not have; --text-only leaves it out",
                name,
            )
        else:
            _sort_key(found, name, rows)
    for part, names in left_out.items():
        found.notes.append(f"{len(names)} trained tensors of {part} are left out (--text-only)")


def _sort_key(found: _Found, name: str, rows: StoredRows) -> None:
    """Put one tensor where it belongs."""
    if match := _PART.fullmatch(name):
        part = match["part"] + (".bias" if match["end"] == ".bias" else "")
        parts = found.parts.setdefault(match["module"], {})
        if part in parts:
            found.refuse("a second adapter in the same file", name)
        elif part.endswith(".bias") and part != "lora_B.bias":
            found.refuse("a tensor of unknown meaning", name)
        else:
            parts[part] = rows
    elif match := _TOKENS.fullmatch(name):
        found.tokens[match["module"]] = rows
    elif _MLX.fullmatch(name):
        found.refuse("an MLX key; save the adapter with peft", name)
    elif match := _WHOLE.fullmatch(name):
        _sort_whole(found, match, rows)
    else:
        found.refuse("a tensor of unknown meaning", name)


def _sort_whole(found: _Found, match: re.Match[str], rows: StoredRows) -> None:
    """A resized embedding in modules_to_save lies there three times; two are the trained copy."""
    tensor, where = f"{match['module']}.{match['end']}", match["where"] or ""
    saved = any(f".{name}." in f".{tensor}" for name in found.modules_to_save)
    if where.startswith(".modules_to_save") or (saved and not where):
        slot = found.trained
    else:
        slot = found.own
    if tensor in slot and not equal_rows(slot[tensor], rows):
        found.refuse("saved twice with different values", match.string)
    slot[tensor] = rows


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


def _config_without_tensors(config: Config, found: _Found) -> Iterator[str]:
    """Settings that say something was trained which the file does not hold."""
    any_part = {part for parts in found.parts.values() for part in parts}
    if config.get("use_dora") and "lora_magnitude_vector" not in any_part:
        yield "use_dora=True, and the file has no lora_magnitude_vector"
    if config.get("lora_bias") and "lora_B.bias" not in any_part:
        yield "lora_bias=True, and the file has no bias of B"
    names = [f".{name}." for name in (*found.trained, *found.parts)]
    for module in found.modules_to_save:
        if not any(f".{module}." in name for name in names):
            yield f"modules_to_save lists {module}, and the file does not hold it"
    for target in names_in(config, "target_parameters"):
        where, _, name = target.rpartition(".")
        end = f".{where}" if where else ".experts"
        if not any(f".{strip_base_layer(module)}".endswith(end) for module in found.parts):
            yield f"target_parameters lists {target}, and the file has no pair on {name}"
    if config.get("trainable_token_indices") and not found.tokens:
        yield "trainable_token_indices is set, and the file has no token rows"


def _pair_problem(module: str, parts: Mapping[str, StoredRows], config: Config) -> str:
    kind = "lora_embedding_" if any("embedding" in part for part in parts) else "lora_"
    wanted = [kind + "A", kind + "B", *(["lora_E"] if kind_of(config) == "ADALORA" else [])]
    missing = [part for part in wanted if part not in parts]
    if missing:
        return f"{module}: {' and '.join(missing)} missing"
    a, b = parts[kind + "A"].shape, parts[kind + "B"].shape
    if len(a) != 2 or len(b) != 2 or 0 in a or 0 in b or a[0] != b[1]:
        return f"{module}: A {list(a)} and B {list(b)} are not a low-rank pair"
    for part, shape in (
        ("lora_magnitude_vector", b[:1]),
        ("lora_B.bias", b[:1]),
        ("lora_E", (a[0], 1)),
    ):
        if part in parts and parts[part].shape != shape:
            return f"{module}: {part} is {list(parts[part].shape)}, expected {list(shape)}"
    if _FUSED.fullmatch(module):
        return ""
    rank = a[0] if kind_of(config) == "ADALORA" else rank_and_scale(module, config)[0]
    if rank != a[0]:
        return f"{module}: the tensors have rank {a[0]}, adapter_config.json says {rank}"
    return ""


def _pruned_away(parts: Mapping[str, StoredRows]) -> bool:
    """AdaLoRA may leave a module no direction at all: A [0, n_in], B [n_out, 0]."""
    a, b = (parts[part].shape if part in parts else () for part in ("lora_A", "lora_B"))
    return len(a) == 2 and len(b) == 2 and a[0] == b[1] == 0


def _pair(module: str, parts: Mapping[str, StoredRows], config: Config) -> StoredPair:
    embedding = "lora_embedding_A" in parts
    kind = "lora_embedding_" if embedding else "lora_"
    a, b = parts[kind + "A"], parts[kind + "B"]
    if _FUSED.fullmatch(module):
        parameters = parameters_of(strip_base_layer(module), config)
        return StoredPair(module, a, b, 1.0, embedding=False, parameters=parameters)
    if kind_of(config) == "ADALORA":
        return StoredPair(module, a, b, adalora_scale(config), embedding, parts["lora_E"])
    return StoredPair(module, a, b, rank_and_scale(module, config)[1], embedding)


def require_finite(folder: Path) -> None:
    """ConvertError if a tensor of the adapter holds NaN or infinity; reads all of them once."""
    lines = [rows.name for rows in open_file(folder / WEIGHTS).values() if not _finite(rows)]
    if lines:
        raise ConvertError(
            "the adapter holds NaN or infinity",
            "",
            "\n".join(grouped({"not finite": lines})),
            "the training run diverged: train again with a lower learning rate, "
            "or export an earlier checkpoint",
        )


def _finite(rows: StoredRows) -> bool:
    """One sum per chunk is NaN or infinite if an element is; only then all are looked at."""
    if 0 in rows.shape:
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return all(np.isfinite(c.sum()) or bool(np.isfinite(c).all()) for c in chunks(rows))
