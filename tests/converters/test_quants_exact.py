"""Bytes of every quantized type against libggml's, without and with importance of the columns."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from ggml import quantize
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_inputs import KINDS, N_COLS, families, importances, many, many_importance

from converters.errors import ConvertError
from converters.quants.fallbacks import RELATIVE_ERROR
from converters.quants.layout import decode
from converters.quants.quantize import encode
from converters.quants.search import VARIABLE
from converters.reader import read_gguf

GOLDEN = json.loads((Path(__file__).parent / "golden" / "quants.json").read_text())
FAMILIES = families(16)
IMPORTANCES: dict[str, np.ndarray | None] = {"none": None, **importances(N_COLS)}
with_importance = pytest.mark.parametrize("importance", IMPORTANCES)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def different(values: np.ndarray, kind: Kind, importance: np.ndarray | None) -> str:
    """How many blocks are not libggml's; "" if all are."""
    theirs = quantize(values, kind, importance)
    ours = encode(values, kind, importance=importance).reshape(theirs.shape)
    bad = (ours != theirs).any(axis=1)
    return f"{bad.sum()} of {len(bad)} blocks, first {bad.argmax()}" if bad.any() else ""


@pytest.mark.oracle
@every_kind
@with_importance
def test_awkward_numbers(kind, importance):
    pytest.importorskip("xllamacpp")
    found = {
        name: different(values, kind, IMPORTANCES[importance]) for name, values in FAMILIES.items()
    }
    assert {name: text for name, text in found.items() if text} == {}


@pytest.mark.oracle
@every_kind
@pytest.mark.parametrize("label", ["", " importance"])
def test_a_hundred_thousand_blocks(kind, label):
    """The digests are of libggml's bytes; it would take ten times as long to make them here."""
    values = many(100_352, GGML_QUANT_SIZES[kind][0])
    importance = many_importance() if label else None
    digest = hashlib.sha256(encode(values, kind, importance=importance).tobytes()).hexdigest()
    assert digest == GOLDEN[kind.name + label], "other bytes than libggml's"


@pytest.mark.oracle
@every_kind
def test_real_weights(kind, smollm2_gguf):
    """Tensors of SmolLM2-135M, as they are in its Q4_1 file: many exact ties."""
    pytest.importorskip("xllamacpp")
    file = read_gguf(smollm2_gguf)
    names = ["blk.3.ffn_down.weight", "blk.7.attn_v.weight", "blk.29.attn_output.weight"]
    values = np.concatenate([file.dequantize(name).reshape(-1, N_COLS)[:400] for name in names])
    assert different(values, kind, None) == ""
    assert different(values, kind, IMPORTANCES["spread"]) == ""


@pytest.mark.oracle
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-3e4, 3e4, width=32), min_size=1, max_size=256),
    st.sampled_from(KINDS),
    st.booleans(),
)
def test_any_block(numbers, kind, weighed):
    pytest.importorskip("xllamacpp")
    values = np.resize(np.array(numbers, np.float32), (1, 256))
    importance = importances(256)["spread"] if weighed else None
    assert different(values, kind, importance) == ""


@every_kind
@pytest.mark.parametrize("importance", ["none", "some zero"])
def test_numpy_and_numba_agree(kind, importance, monkeypatch):
    pytest.importorskip("numba")
    values = np.concatenate([family[:4] for family in FAMILIES.values()])
    found = []
    for name in ("numpy", "numba"):
        monkeypatch.setenv(VARIABLE, name)
        found.append(encode(values, kind, importance=IMPORTANCES[importance]).tobytes())
    assert found[0] == found[1]


@every_kind
@pytest.mark.parametrize("importance", ["none", "spread"])
def test_pieces_do_not_change_the_bytes(kind, importance):
    values, given_ = FAMILIES["heavy tails"], IMPORTANCES[importance]
    whole = encode(values, kind, importance=given_).tobytes()
    pieces = [encode(values[i : i + 5], kind, importance=given_) for i in range(0, len(values), 5)]
    assert len(pieces) == 4
    assert b"".join(piece.tobytes() for piece in pieces) == whole


def test_each_expert_has_its_own_importance():
    values = FAMILIES["normal"].reshape(4, 4, N_COLS)
    each = np.stack([IMPORTANCES["spread"], IMPORTANCES["ones"]] * 2)
    whole = encode(values, Kind.Q4_K, importance=each).tobytes()
    assert whole == b"".join(
        encode(expert, Kind.Q4_K, importance=own).tobytes()
        for expert, own in zip(values, each, strict=True)
    )


@every_kind
def test_decoded_error_is_that_of_the_type(kind):
    values = np.random.default_rng(5).standard_normal((256, N_COLS)).astype(np.float32)
    back = decode(encode(values, kind), kind).reshape(values.shape)
    error = float(np.sqrt(((back - values) ** 2).mean()))
    assert error == pytest.approx(RELATIVE_ERROR[kind], rel=0.02)


@every_kind
@pytest.mark.parametrize("family", ["below 1e-30", "denormal", "zero"])
def test_tiny_blocks_decode_to_zero(kind, family):
    assert not decode(encode(FAMILIES[family], kind), kind).any()


@every_kind
def test_importance_matters(kind):
    values = FAMILIES["normal"]
    same = np.array_equal(
        encode(values, kind), encode(values, kind, importance=IMPORTANCES["spread"])
    )
    assert same == (kind == Kind.Q8_0)


@every_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(kind, bad):
    values = FAMILIES["normal"].copy()
    values[3, 4] = bad
    with pytest.raises(ConvertError, match=r"not a finite number \(blk.3.x\)"):
        encode(values, kind, "blk.3.x")


@every_kind
@pytest.mark.parametrize("size", [3e8, 1e20, 3e38])
@pytest.mark.parametrize("importance", ["none", "spread"])
def test_too_large_for_the_type(kind, size, importance):
    values = FAMILIES["positive"] / FAMILIES["positive"].max() * np.float32(size)
    with pytest.raises(ConvertError, match=rf"does not fit {kind.name} \(w\)"):
        encode(values, kind, "w", importance=IMPORTANCES[importance])


@pytest.mark.parametrize(
    ("importance", "why"),
    [
        (np.ones(N_COLS - 32, np.float32), "another tensor"),
        (np.full(N_COLS, np.nan, np.float32), "not usable"),
        (np.full(N_COLS, -1, np.float32), "not usable"),
    ],
)
def test_importance_is_checked(importance, why):
    with pytest.raises(ConvertError, match=why):
        encode(FAMILIES["normal"], Kind.Q4_K, "w", importance=importance)


def test_rows_must_divide_into_blocks():
    with pytest.raises(ConvertError, match="blocks of Q4_K"):
        encode(np.ones((2, 288), np.float32), Kind.Q4_K, "w")
