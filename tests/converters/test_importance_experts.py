"""Experts are weighted by what each of them meets: the bytes of llama-quantize --imatrix."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import llama_quantize
import numpy as np
import pytest
import tiny_families
from ggml import quantize as ggml_quantize
from gguf.constants import GGMLQuantizationType as Kind

from converters import ConvertError, quantize, read_gguf, write_model
from converters.calibrated import Calibration, Candidate, by_expert, choose
from converters.imatrix import read_imatrix, write_imatrix
from converters.importance import ByTensor, by_tensor, read_statistics, write_statistics
from converters.quants.types import file_type
from converters.transforms import F32, ArrayRows

LAYER = "model.layers.0.mlp.experts."
UP, DOWN = "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"


def write_experts(
    path: Path, n_experts: int, widths: dict[str, int], layers: int = 1, held: int = 2
) -> Path:
    """Statistics of random inputs; expert 1 was never reached. held: seed of the held-out ones."""
    linears, n_cols = {}, {}
    for layer in range(layers):
        start = LAYER.replace("0", str(layer))
        linears |= {
            start + "gate_proj": start + "gate_proj",
            start + "up_proj": start + "gate_proj",
        }
        linears[start + "down_proj"] = start + "down_proj"
        n_cols |= {start + name: width for name, width in widths.items()}
    counts = np.array([[40, 0, 7, 90, 3, 5, 8, 9][:n_experts]] * 2, np.float32)

    def arrays(name: str) -> tuple[F32, F32, list[float]]:
        shape = n_experts, n_cols[name]
        first, second = (
            (np.random.default_rng(seed).gamma(0.3, 1, shape) * row[:, None]).astype(np.float32)
            for seed, row in zip((2, held), counts, strict=True)
        )
        return first.reshape(-1), second.reshape(-1), counts.reshape(-1).tolist()

    write_statistics(path, linears, n_cols, arrays, dict.fromkeys(n_cols, n_experts))
    return path


def weights(n_experts: int, n_rows: int, n_cols: int) -> F32:
    values = np.random.default_rng(5).standard_normal((n_experts, n_rows, n_cols))
    return (values * 0.02).astype(np.float32)


def candidate(weight: F32, kind: Kind = Kind.Q4_K, name: str = UP) -> Candidate:
    return Candidate(name, weight.shape, kind, lambda: ArrayRows(weight), "experts")


def known(path: Path, mode: str, **given: Any) -> Calibration:
    made = write_experts(path / "c.safetensors", 4, {"gate_proj": 256, "down_proj": 256}, **given)
    return Calibration(mode, by_tensor(read_statistics(made), "qwen3moe", 1))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    found = known(tmp_path, "imatrix").importance
    assert isinstance(found, ByTensor)
    assert (found.experts(UP), found.columns(DOWN)) == (4, 256)
    assert found.input_of(UP) == found.input_of("blk.0.ffn_gate_exps.weight")
    squares = found.diagonal(UP)
    np.testing.assert_array_equal(squares[1], 1)  # as llama-quantize: nothing is known
    sums = np.random.default_rng(2).gamma(0.3, 1, (4, 256))
    np.testing.assert_allclose(squares[[0, 2, 3]], sums[[0, 2, 3]], rtol=1e-6)
    assert found.statistics.counts(LAYER + "gate_proj") == (137, 137)


def test_as_an_imatrix_and_back(tmp_path: Path) -> None:
    found = known(tmp_path, "imatrix").importance
    assert isinstance(found, ByTensor)
    write_imatrix(tmp_path / "i.gguf", found)
    again = read_imatrix(tmp_path / "i.gguf")
    for tensor in (UP, DOWN):
        assert again.experts(tensor) == 4
        np.testing.assert_allclose(again.diagonal(tensor), found.diagonal(tensor), rtol=1e-6)


@pytest.mark.parametrize("cuts", [(0, 64), (0, 5, 15, 16, 33, 64)])
def test_every_expert_gets_its_own_weights(cuts: tuple[int, ...], tmp_path: Path) -> None:
    """Wherever the rows are cut, the bytes are libggml's of one expert after the other."""
    pytest.importorskip("xllamacpp")
    calibration, weight = known(tmp_path, "imatrix"), weights(4, 16, 256)
    choice = choose(calibration, [candidate(weight)])
    assert (choice.mode, choice.notes) == ("imatrix", ())
    rows = ArrayRows(weight)
    made = [
        choice.encoders[UP](rows.read(low, high), Kind.Q4_K, "", low)
        for low, high in itertools.pairwise(cuts)
    ]
    assert calibration.importance
    squares = calibration.importance.diagonal(UP)
    theirs = [ggml_quantize(one, Kind.Q4_K, own) for one, own in zip(weight, squares, strict=True)]
    np.testing.assert_array_equal(np.concatenate(made), np.concatenate(theirs).reshape(-1))


def test_they_are_kept_only_where_they_help(tmp_path: Path) -> None:
    weight = weights(4, 300, 256)
    like, unlike = (
        choose(known(tmp_path, "calibrated", held=seed), [candidate(weight)]) for seed in (2, 3)
    )
    (good,), (bad,) = like.report, unlike.report
    assert (good.mode, list(like.encoders)) == ("imatrix", [UP])
    assert good.imatrix < 0.8 * good.exact
    assert (bad.mode, list(unlike.encoders)) == ("exact", [])
    assert bad.exact < bad.imatrix


def test_another_number_of_experts_is_another_model(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="for another model") as error:
        choose(known(tmp_path, "imatrix"), [candidate(weights(8, 4, 256))])
    assert "4 experts there, the tensor has 8" in error.value.why


def test_rows_by_expert() -> None:
    assert by_expert(3, 4, 5) == [(0, slice(0, 2)), (1, slice(2, 4))]
    assert by_expert(10, 5, 5) == [(2, slice(0, 5))]


@pytest.mark.skipif(not llama_quantize.LIBRARY, reason="LIBLLAMA names no library")
@pytest.mark.parametrize("outtype", ["Q4_K_M", "Q5_K_M", "Q3_K_M", "Q2_K", "Q4_0", "IQ4_NL"])
def test_whole_files_are_those_of_llama_quantize(outtype: str, tmp_path: Path) -> None:
    from dataclasses import replace

    family = tiny_families.FAMILIES["qwen3moe"]
    wide = {**family.settings, "hidden_size": 256, "moe_intermediate_size": 256}
    folder = tiny_families.make_base(replace(family, settings=wide), tmp_path / "base")
    write_model(folder, tmp_path / "full.gguf", outtype="BF16")
    write_experts(tmp_path / "c.safetensors", 4, {"gate_proj": 256, "down_proj": 256}, layers=2)
    found = by_tensor(read_statistics(tmp_path / "c.safetensors"), "qwen3moe", 2)
    squares = {name: found.diagonal(name).reshape(-1) for name in found.inputs}
    ours = quantize(tmp_path / "full.gguf", tmp_path / "ours.gguf", outtype,
                    calibration=tmp_path / "c.safetensors", mode="imatrix")  # fmt: skip
    llama_quantize.llama_quantize(
        tmp_path / "full.gguf", tmp_path / "theirs.gguf", file_type(outtype).id, squares
    )
    assert not any("without statistics" in note for note in ours.notes)
    mine, theirs = read_gguf(tmp_path / "ours.gguf"), read_gguf(tmp_path / "theirs.gguf")
    plain = quantize(tmp_path / "full.gguf", tmp_path / "plain.gguf", outtype).path
    for name, info in theirs.tensors.items():
        assert mine.tensors[name].type == info.type, name
        assert np.array_equal(mine.raw(name), theirs.raw(name)), name
    assert not np.array_equal(mine.raw(UP), read_gguf(plain).raw(UP))
