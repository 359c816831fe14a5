"""Bytes of each type against gguf-py and libggml, on ordinary and on awkward numbers."""

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import ConvertError
from converters.jobs import encoded
from converters.quants.layout import decode
from converters.quants.mix import tensor_type
from converters.quants.quantize import encode
from converters.quants.types import file_type
from converters.transforms import ArrayRows

KINDS = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0]
random = np.random.default_rng(0)


def _families() -> dict[str, np.ndarray]:
    """[64, 96] float32 each."""
    normal = random.standard_normal((64, 96)).astype(np.float32)
    halves = np.round(random.uniform(-127, 127, (64, 96))).astype(np.float32) + np.float32(0.5)
    halves[:, 0::32] = 127  # d = 1, so every other element is an exact tie
    below_half = np.full((64, 96), np.nextafter(np.float32(0.5), np.float32(0)), np.float32)
    below_half[:, 0::32] = 127
    f16_ties = np.float16(normal).view(np.uint16).astype(np.uint32)
    ties = np.float16(normal).astype(np.float32)
    next_up = (f16_ties + 1).astype(np.uint16).view(np.float16).astype(np.float32)
    bf16_ties = (normal.view(np.uint32) & 0xFFFF0000 | 0x8000).view(np.float32)
    zeros = normal.copy()
    zeros[::2] = 0
    zeros[1, :32] = -0.0
    tiny = normal * np.float32(1e-30)
    return {
        "normal": normal,
        "small": normal * np.float32(0.02),
        "large": normal * np.float32(5000),
        "ties of Q8_0": halves,
        "just below half": below_half,
        "ties of float16": (ties + next_up) / 2,
        "ties of bfloat16": bf16_ties,
        "zero blocks": zeros,
        "tiny": tiny,
        "float16 subnormals": normal * np.float32(1e-7),
        "mixed exponents": normal * np.exp2(random.integers(-20, 10, normal.shape)).astype("f4"),
        "constant": np.full((64, 96), -3.7, np.float32),
        "outlier": np.where(random.random((64, 96)) > 0.98, normal * 1000, normal).astype("f4"),
    }


FAMILIES = _families()


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_equal_gguf_py(family, kind):
    values = FAMILIES[family]
    assert encode(values, kind).tobytes() == gguf.quantize(values, kind).tobytes()


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_equal_libggml(family, kind):
    xllamacpp = pytest.importorskip("xllamacpp")
    folder = Path(xllamacpp.__file__).parent
    library = ctypes.CDLL(str(next(folder.glob("xllamacpp*.so"))))
    quantize = library.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    values = np.ascontiguousarray(FAMILIES[family])
    out = np.empty(gguf.quants.quant_shape_to_byte_shape(values.shape, kind), np.uint8)
    quantize(
        ctypes.c_int(kind),
        values.ctypes.data_as(ctypes.c_void_p),
        out.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(0),
        ctypes.c_int64(values.shape[0]),
        ctypes.c_int64(values.shape[1]),
        None,
    )
    assert encode(values, kind).tobytes() == out.tobytes()


@pytest.mark.oracle
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(-3e4, 3e4, width=32), min_size=32, max_size=32),
    st.sampled_from(KINDS),
)
def test_any_block_equals_gguf_py(block, kind):
    values = np.array([block], np.float32)
    largest = np.abs(values).max()
    if kind == Kind.Q8_0 and 0 < largest < 1e-36:
        return  # ggml's 1/d overflows there: undefined in C, zeros here (next test)
    assert encode(values, kind).tobytes() == gguf.quantize(values, kind).tobytes()


def test_blocks_too_small_for_a_reciprocal_become_zero():
    values = np.full((1, 32), 1e-40, np.float32)
    assert not encode(values, Kind.Q8_0).any()


@pytest.mark.oracle
@pytest.mark.parametrize("kind", [*KINDS, Kind.Q4_1, Kind.Q4_0, Kind.Q5_1])
def test_decode_is_gguf_py(kind):
    data = gguf.quantize(FAMILIES["normal"], kind)
    ours = decode(np.frombuffer(data.tobytes(), np.uint8), kind)
    assert np.array_equal(ours, gguf.dequantize(data, kind).reshape(-1))


def test_jobs_do_not_change_the_bytes():
    values = np.random.default_rng(4).standard_normal((2500, 1024), np.float32)
    jobs = list(encoded(ArrayRows(values), Kind.Q8_0, "x"))
    assert len(jobs) == 3  # each of a million elements, in pieces
    assert b"".join(job().tobytes() for job in jobs) == encode(values, Kind.Q8_0).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(kind, bad):
    values = FAMILIES["normal"].copy()
    values[3, 4] = bad
    with pytest.raises(ConvertError, match=r"not a finite number \(blk.3.x\)"):
        encode(values, kind, "blk.3.x")


@pytest.mark.parametrize(
    ("kind", "fits", "over"),
    [
        (Kind.F16, 65519.0, 65520.0),
        (Kind.BF16, 3.38e38, 3.4e38),
        (Kind.Q8_0, 65519.0 * 127, 65520.0 * 127),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_too_large_for_the_type(kind, fits, over, sign):
    values = np.zeros((1, 32), np.float32)
    values[0, 5] = sign * fits
    assert np.isfinite(decode(encode(values, kind), kind)).all()
    values[0, 5] = sign * over
    with pytest.raises(ConvertError, match=f"does not fit {kind.name}"):
        encode(values, kind, "w")


@pytest.mark.parametrize(
    ("name", "shape", "outtype", "expected"),
    [
        ("blk.0.attn_q.weight", (64, 64), "Q8_0", "Q8_0"),
        ("token_embd.weight", (320, 64), "Q8_0", "Q8_0"),
        ("blk.0.ffn_down.weight", (64, 80), "Q8_0", "F16"),
        ("blk.0.ffn_down.weight", (64, 80), "BF16", "BF16"),
        ("blk.0.attn_norm.weight", (64,), "F16", "F32"),
        ("blk.0.attn_q.bias", (64,), "BF16", "F32"),
        ("rope_freqs.weight", (32,), "Q8_0", "F32"),
        ("blk.0.attn_q.weight.lora_b", (64, 4), "F16", "F16"),
    ],
)
def test_type_of_each_tensor(name, shape, outtype, expected):
    assert tensor_type(name, shape, outtype).name == expected


def test_unknown_output_type():
    assert file_type("q8_0").name == "Q8_0"
    with pytest.raises(ConvertError, match="Q9_Z"):
        file_type("Q9_Z")
