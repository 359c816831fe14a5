"""PiSSA and OLoRA starts: taken out of the weight exactly, whatever its shape."""

from __future__ import annotations

import numpy as np
import pytest

from converters.lora import LoraPair
from converters.residual import plain_pair
from converters.transforms import ArrayRows

SHAPES = [(64, 64), (32, 64), (96, 64)]


def taken_out(weight, start, rank, scale):
    """What plain_pair subtracts from the weight, in float64."""
    n_out, n_in = weight.shape
    zero = LoraPair(
        "x", np.zeros((rank, n_in), np.float32), np.zeros((n_out, rank), np.float32), scale
    )
    pair = plain_pair(zero, start, ArrayRows(weight))
    assert (pair.rank, pair.scale, pair.name) == (2 * rank, scale, "x")
    return -scale * (pair.b.astype(np.float64) @ pair.a)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 0.25, 8.0])
def test_pissa_takes_the_largest_singular_part(shape, scale):
    weight = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    u, s, vh = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    expected = u[:, :5] * s[:5] @ vh[:5]
    np.testing.assert_allclose(taken_out(weight, "pissa", 5, scale), expected, atol=3e-8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 0.25, 8.0])
def test_olora_takes_the_first_columns_of_q(shape, scale):
    weight = np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)
    q, r = np.linalg.qr(weight.astype(np.float64))
    expected = scale * q[:, :5] @ r[:5]
    np.testing.assert_allclose(taken_out(weight, "olora", 5, scale), expected, atol=3e-8 * scale)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_the_trained_pair_is_kept(start):
    rng = np.random.default_rng(2)
    weight = rng.normal(0, 0.1, (40, 24)).astype(np.float32)
    a, b = rng.normal(size=(3, 24)).astype(np.float32), rng.normal(size=(40, 3)).astype(np.float32)
    with_pair = plain_pair(LoraPair("x", a, b, 2.0), start, ArrayRows(weight))
    np.testing.assert_array_equal(with_pair.a[:3], a)
    np.testing.assert_array_equal(with_pair.b[:, :3], b)
