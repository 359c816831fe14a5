"""A base and an adapter -> the weights of the trained model, tensor by tensor, as lazy rows.

This is the route for everything PEFT can do to a base that stays a model of the same family: pairs
(plain, DoRA, AdaLoRA, PiSSA, OLoRA), biases, modules trained whole, token rows, more tokens, copied
layers, and an output layer that is no longer the embedding. The reference is PEFT's unmerged
forward, which is what was trained: `merge_and_unload` differs from it on tied models, where it
writes the update of one end into the weight that both ends share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from converters.archs import Architecture
from converters.dora import DoraRows
from converters.errors import DoesNotFit, Unsupported
from converters.hf_folder import Config
from converters.lora import LoraPair, PairSource
from converters.merge import AddedRows, MergedRows, ReplacedRows
from converters.names import nearest
from converters.peft_adapter import (
    Adapter,
    Bias,
    Tokens,
    grouped,
    numberless,
)
from converters.residual import plain_pair
from converters.transforms import ArrayRows, Rows, equal_rows

EMBEDDING = "model.embed_tokens.weight"
OUTPUT = "lm_head.weight"
MakeRows = Callable[[], Rows]
_BIAS_SETTINGS = (
    "attention_bias",
    "mlp_bias",
    "qkv_bias",
)  # transformers' names for biases on the linears
_ONE_PER_LAYER = ("layer_types", "no_rope_layers")


class Weights(Mapping[str, Rows]):
    """Tensor name -> rows, made anew at each look-up so that a loaded pair lives no longer."""

    def __init__(self, makers: Mapping[str, MakeRows]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> Rows:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True)
class Trained:
    """The trained model: its config.json, its weights under Hugging Face names.

    vocabulary: rows of the embedding, before and after.
    """

    config: Config
    weights: Weights
    vocabulary: tuple[int, int]
    notes: tuple[str, ...] = ()


def trained_model(
    adapter: Adapter, arch: Architecture, config: Config, base: Mapping[str, Rows]
) -> Trained:
    """Apply a gathered adapter to the base's canonical, whole weights (check.require_whole).

    Raises Unsupported for what no GGUF of this family can hold, DoesNotFit for another base.
    """
    build = _Build(adapter, arch, config, base)
    build.copy_layers()
    tied = arch.is_tied(config)
    if tied:
        build.rows[OUTPUT] = build.rows[EMBEDDING]
    build.unsupported += _start_problems(adapter, tied=tied)
    build.put_whole(tied=tied)
    build.put_tokens(tied=tied)
    for module, pair in adapter.pairs.items():
        build.put_pair(module, pair)
    if tied:
        build.settle_output()
    vocabulary = build.settle_vocabulary()
    build.settle_biases()
    build.require_fit()
    return Trained(build.config, Weights(build.rows), vocabulary, (*adapter.notes, *build.notes))


class _Build:
    """The tensors so far, and what does not fit."""

    def __init__(
        self,
        adapter: Adapter,
        arch: Architecture,
        config: Config,
        base: Mapping[str, Rows],
    ) -> None:
        self.adapter, self.arch = adapter, arch
        self.config = dict(config)
        self.rows: dict[str, MakeRows] = {
            name: partial(_itself, base[name]) for name in arch.shapes(config)
        }
        self.unsupported = list(adapter.problems)
        self.misfits: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def misfit(self, message: str, name: str) -> None:
        self.misfits.setdefault(message, []).append(name)

    def copy_layers(self) -> None:
        """layer_replication: peft/tuners/lora/model.py, `_prepare_model`."""
        if not self.adapter.replication:
            return
        order = layer_order(self.adapter.replication, self.config["num_hidden_layers"])
        if not order:
            self.unsupported.append("layer_replication names layers the base does not have")
            return
        old = self.rows
        self.config = replicated(self.config, order)
        self.rows = {}
        for name in self.arch.shapes(self.config):
            source = name
            if name.startswith("model.layers."):
                number, _, rest = name.removeprefix("model.layers.").partition(".")
                source = f"model.layers.{order[int(number)]}.{rest}"
            if source not in old:
                self.unsupported.append(f"layer_replication: {name} has no counterpart {source}")
            else:
                self.rows[name] = old[source]
        self.notes.append(f"layer_replication: {len(order)} layers out of {max(order) + 1}")

    def put_whole(self, *, tied: bool) -> None:
        """Tensors saved whole. The base's own embedding is both ends of a tied model."""
        own = dict(self.adapter.own)
        if tied and EMBEDDING in own:
            own.setdefault(OUTPUT, own[EMBEDDING])
        elif tied and OUTPUT in own:
            own.setdefault(EMBEDDING, own[OUTPUT])
        for name, stored in (*own.items(), *self.adapter.trained.items()):
            if name not in self.rows:
                self.misfit(self._unknown(name), name)
                continue
            shape = self.rows[name]().shape
            same = stored.shape[1:] == shape[1:] if name in (EMBEDDING, OUTPUT) else False
            if stored.shape != shape and not same:
                self.misfit(f"saved as {list(stored.shape)}, the base has {list(shape)}", name)
            else:
                self.rows[name] = partial(_itself, stored)

    def put_tokens(self, *, tied: bool) -> None:
        """trainable_token_indices: rows replaced; a tied output layer follows the embedding."""
        found = {f"{module}.weight": tokens for module, tokens in self.adapter.tokens.items()}
        if tied and EMBEDDING in found and not (OUTPUT in found and found[OUTPUT].indices):
            found[OUTPUT] = found[EMBEDDING]
        for name, tokens in found.items():
            if name not in self.rows:
                self.misfit(self._unknown(name), name)
                continue
            shape = self.rows[name]().shape
            problem = _tokens_problem(tokens, shape)
            if problem:
                self.misfit(problem, name)
            else:
                self.rows[name] = partial(_replaced, self.rows[name], tokens)

    def put_pair(self, module: str, pair: PairSource) -> None:
        """A low-rank update, with DoRA's magnitudes and the bias of B where there are any."""
        name = f"{module}.weight"
        problem = self._pair_misfit(pair, name)
        if problem:
            self.misfit(problem, module)
            return
        start = start_of_pair(self.adapter, module, pair)
        magnitude = self.adapter.magnitudes.get(module)
        self.rows[name] = partial(_merged, self.rows[name], pair, start, magnitude)
        if module in self.adapter.biases:
            self._put_bias(module, self.adapter.biases[module])

    def _pair_misfit(self, pair: PairSource, name: str) -> str:
        if name not in self.rows:
            return self._unknown(name)
        shape = self.rows[name]().shape
        if pair.weight_shape != shape:
            return f"adapter is for a weight {list(pair.weight_shape)}, the base has {list(shape)}"
        if pair.embedding != (name == EMBEDDING):
            return "embedding factors on a module that is no embedding, or the reverse"
        return ""

    def _put_bias(self, module: str, bias: Bias) -> None:
        """lora_bias. A family with optional biases gets them switched on, zero elsewhere."""
        name = f"{module}.bias"
        if name not in self.rows:
            widened = self.config | dict.fromkeys(_BIAS_SETTINGS, True)
            if name not in self.arch.shapes(widened):
                self.misfit_bias(module)
                return
        self.rows[name] = partial(_added, self.rows.get(name), bias)

    def misfit_bias(self, module: str) -> None:
        """A bias the runtime has no place for."""
        self.unsupported.append(
            f"{module}: lora_bias trained a bias, and this architecture reads none there"
        )

    def settle_output(self) -> None:
        """Untie the output layer if it is no longer the embedding."""
        touched = {EMBEDDING, OUTPUT} & (
            set(self.adapter.trained)
            | {f"{name}.weight" for name in (*self.adapter.pairs, *self.adapter.tokens)}
            | (set(self.adapter.own) if {EMBEDDING, OUTPUT} <= set(self.adapter.own) else set())
        )
        if not touched or self.misfits or equal_rows(self.rows[EMBEDDING](), self.rows[OUTPUT]()):
            del self.rows[OUTPUT]
            return
        self.config["tie_word_embeddings"] = False
        self.notes.append(
            "the base uses one tensor as embedding and output layer; training made them differ, "
            "so the file holds both"
        )

    def settle_vocabulary(self) -> tuple[int, int]:
        """Rows of the embedding before and after; the config gets the new number."""
        ends = [self.rows[name]().shape[0] for name in (EMBEDDING, OUTPUT) if name in self.rows]
        if len(set(ends)) > 1:
            self.unsupported.append(
                f"the vocabulary was resized, and only one end was saved (embedding {ends[0]} "
                f"rows, output layer {ends[1]}): save again with save_embedding_layers=True"
            )
        old, new = int(self.config["vocab_size"]), ends[0]
        if old != new:
            self.notes.append(f"vocabulary resized from {old} to {new} rows")
            self.config["vocab_size"] = new
        return old, new

    def settle_biases(self) -> None:
        """Switch on the biases that were put, and fill the others of that setting with zeros."""
        for setting in _BIAS_SETTINGS:
            widened = self.config | {setting: True}
            missing = self.arch.shapes(widened).keys() - self.arch.shapes(self.config).keys()
            if not missing & self.rows.keys():
                continue
            self.config = widened
            for name in missing - self.rows.keys():
                zeros = np.zeros(self.arch.shapes(widened)[name], np.float32)
                self.rows[name] = partial(ArrayRows, zeros)
            self.notes.append(f"{setting}: the adapter gives the model biases")

    def require_fit(self) -> None:
        """Raise everything that was found, at once; also what the runtime would not honour."""
        self.unsupported += self.arch.problems(self.config)
        odd = self.rows.keys() ^ self.arch.shapes(self.config).keys()
        self.unsupported += [f"{name}: not a part of this architecture" for name in sorted(odd)]
        lines = [*self.unsupported, *grouped(self.misfits)]
        if self.unsupported:
            raise cannot_be_exported(lines)
        if lines:
            raise is_for_another_base(lines)

    def _unknown(self, name: str) -> str:
        return unknown_module(name, self.arch.shapes(self.config))


def cannot_be_exported(lines: list[str]) -> Unsupported:
    """The error for an adapter that no route can take."""
    return Unsupported(
        "this adapter cannot be exported",
        "",
        "\n".join(lines),
        "if peft can merge it: model.merge_and_unload().save_pretrained(FOLDER), then "
        "python -m converters model FOLDER OUT; else train with plain LoRA",
    )


def is_for_another_base(lines: list[str]) -> DoesNotFit:
    """The error for an adapter whose modules or shapes are another model's."""
    return DoesNotFit(
        "this adapter does not fit this base model",
        "",
        "\n".join(lines),
        "give the base model the adapter was trained on",
    )


def unknown_module(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Why `name` (with .weight or .bias) is not one of the base's tensors."""
    module = numberless(name.rpartition(".")[0])
    known = {numberless(other.rpartition(".")[0]) for other in shapes}
    if module in known:
        return (
            "the base has no such layer"
            if numberless(name) in map(numberless, shapes)
            else (f"the base has no {name.rpartition('.')[2]} there")
        )
    return f"the base has no such module{nearest(module, known)}"


def layer_order(ranges: tuple[tuple[int, int], ...], n_layers: int) -> list[int]:
    """Old number of each new layer; empty if a range is not one of the base's."""
    if not all(0 <= start < stop <= n_layers for start, stop in ranges):
        return []
    return [number for start, stop in ranges for number in range(start, stop)]


def replicated(config: Config, order: list[int]) -> Config:
    """config.json of the model whose layer i is layer order[i]."""
    out = config | {"num_hidden_layers": len(order)}
    for key in _ONE_PER_LAYER:
        if isinstance(config.get(key), list):
            out[key] = [config[key][number] for number in order]
    return out


def _start_problems(adapter: Adapter, *, tied: bool) -> Iterator[str]:
    """PiSSA and OLoRA change the base's weight in place, and with it all that share the weight."""
    if adapter.start and adapter.replication:
        yield f"init_lora_weights={adapter.start}: copied layers share weights (layer_replication)"
    lone = OUTPUT.removesuffix(".weight") in adapter.pairs and OUTPUT not in adapter.own
    if adapter.start and tied and lone:
        yield (
            f"init_lora_weights={adapter.start} on a tied output layer changed the embedding too; "
            "save the adapter with save_embedding_layers=True"
        )


def _tokens_problem(tokens: Tokens, shape: tuple[int, ...]) -> str:
    if len(shape) != 2 or tokens.rows.shape != (len(tokens.indices), shape[-1]):
        return f"token rows {list(tokens.rows.shape)} for {len(tokens.indices)} indices"
    if any(not 0 <= index < shape[0] for index in tokens.indices):
        return f"token indices up to {max(tokens.indices)}, the base has {shape[0]} rows"
    return ""


def _itself(rows: Rows) -> Rows:
    return rows


def _replaced(source: MakeRows, tokens: Tokens) -> Rows:
    return ReplacedRows(source(), np.array(tokens.indices, np.intp), tokens.rows)


def _added(source: MakeRows | None, bias: Bias) -> Rows:
    return AddedRows(source() if source else None, bias.rows, bias.scale)


def _merged(source: MakeRows, pair: PairSource, start: str, magnitude: Rows | None) -> Rows:
    rows: Rows = MergedRows(source(), partial(plain, pair, start, source))
    return rows if magnitude is None else DoraRows(rows, magnitude, pair.embedding)


def start_of_pair(adapter: Adapter, module: str, pair: PairSource) -> str:
    """The start to undo: none on embeddings, nor where the weight was saved as it was left."""
    return "" if pair.embedding or f"{module}.weight" in adapter.own else adapter.start


def plain(pair: PairSource, start: str, base: MakeRows) -> LoraPair:
    """The pair as an update of the untouched base weight."""
    return plain_pair(pair.load(), start, base()) if start else pair.load()
