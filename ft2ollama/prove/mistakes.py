"""The usual mistakes of converters, tried out on the tensors that are wrong.

In: a GGUF file, base and adapter, names of wrong tensors.  Out: (code, what, why) of the first
mistake that makes one of them right again. Each undoes the mistake on the file's rows and compares
anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters import GgufFile
from converters.hf_folder import Config
from converters.model_file import trained_weights
from converters.model_tensors import ModelTensors, open_model
from converters.transforms import F32, PermutedRows, Rows, n_rows, rope_row_order

Told = tuple[str, str, str]
_RIGHT = 0.5  # of the error before: a mistake that is undone takes nearly all of it
_MOST_ROWS = 4096


def explain(file: GgufFile, base: Path, adapter: Path | None, wrong: Sequence[str]) -> Told | None:
    """The first mistake that explains; None when none does."""
    model = open_model(base)
    trained = trained_weights(adapter, model, text_only=False)
    rows = ModelTensors(model.arch, trained.config, trained.weights).rows()
    names = [name for name in wrong if name in rows]
    for test in (_unpermuted, _exchanged, _shifted, _scaled):
        if found := test(file, rows, names, model.arch, model.config):
            return found
    return None


def _unpermuted(
    file: GgufFile, rows: Mapping[str, Rows], names: Sequence[str], arch: Any, config: Config
) -> Told | None:
    """Rows of q or k as Hugging Face has them, where llama.cpp wants neighbours to rotate."""
    only = [name for name in names if name.endswith(("attn_q.weight", "attn_k.weight"))]
    if not only or len(only) < len(names):
        return None
    name = only[0]
    heads = config["num_attention_heads"] if "attn_q" in name else arch.n_head_kv(config)
    order = rope_row_order(heads, arch.head_dim(config))
    if not _heals(rows[name], file.rows(name), PermutedRows(file.rows(name), order)):
        return None
    return (
        "rows-not-permuted",
        "the rows of q and k stand in Hugging Face's order, not in llama.cpp's",
        f"with its rows in the other order {name} is right; Ollama's import of a safetensors "
        "adapter does this to q and k",
    )


def _exchanged(
    file: GgufFile, rows: Mapping[str, Rows], names: Sequence[str], arch: Any, config: Config
) -> Told | None:
    """Gate and up, or k and v, in each other's place."""
    for one, other in (("ffn_gate", "ffn_up"), ("attn_k", "attn_v")):
        name = next((name for name in names if one in name), None)
        if name is None or (twin := name.replace(one, other)) not in names:
            continue
        if file.tensors[twin].shape == file.tensors[name].shape and _heals(
            rows[name], file.rows(name), file.rows(twin)
        ):
            return (
                "tensors-exchanged",
                f"{one} and {other} are exchanged",
                f"{twin} of the file is {name} of the reference",
            )
    return None


def _shifted(
    file: GgufFile, rows: Mapping[str, Rows], names: Sequence[str], arch: Any, config: Config
) -> Told | None:
    """Norms without the 1 that Gemma's are stored without."""
    name = next((name for name in names if name.endswith("norm.weight")), None)
    if name is None or any("norm" not in one for one in names):
        return None
    shift = _some(rows[name]) - _some(file.rows(name))
    if abs(abs(float(shift.mean())) - 1) > 0.01 or float(shift.std()) > 0.01:
        return None
    return (
        "norms-shifted",
        "the norms are off by one",
        f"{name} + {shift.mean():.0f} is the reference's: Gemma stores weight - 1",
    )


def _scaled(
    file: GgufFile, rows: Mapping[str, Rows], names: Sequence[str], arch: Any, config: Config
) -> Told | None:
    """A constant factor."""
    if not names:
        return None
    have, want = _some(file.rows(names[0])), _some(rows[names[0]])
    factor = float((have * want).sum() / max(float((want * want).sum()), 1e-30))
    if abs(factor) < 1e-6 or _error(want, have / factor) > _RIGHT * _error(want, have):
        return None
    return (
        "weights-scaled",
        f"weights are scaled by {factor:.3g}",
        f"{names[0]} divided by {factor:.3g} is the reference's",
    )


def _heals(wanted: Rows, have: Rows, mended: Rows) -> bool:
    want = _some(wanted)
    return _error(want, _some(mended)) < _RIGHT * _error(want, _some(have))


def _some(rows: Rows) -> F32:
    return rows.read(0, min(_MOST_ROWS, n_rows(rows.shape)))


def _error(want: F32, have: F32) -> float:
    return float(np.linalg.norm(have - want) / max(float(np.linalg.norm(want)), 1e-30))
