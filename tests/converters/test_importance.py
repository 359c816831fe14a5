"""Statistics files and imatrix files; what the export makes of them, judged by llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import llama_quantize
import numpy as np
import pytest
from ggml import quantize as ggml_quantize
from gguf.constants import GGMLQuantizationType as Kind

from converters import ConvertError, quantize, read_gguf, write_model
from converters.calibrated import Candidate, choose, open_calibration
from converters.imatrix import open_importance, read_imatrix, write_imatrix
from converters.importance import (
    Statistics,
    by_tensor,
    packed,
    read_statistics,
    unpacked,
    write_statistics,
)
from converters.quants.feedback import column_blocks, encode_with_feedback, spreads
from converters.quants.types import file_type
from converters.transforms import F32, ArrayRows

INPUTS = {
    "self_attn.q_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "mlp.gate_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
}


def sums(n_cols: int, tokens: int, seed: int) -> F32:
    """Packed sums over correlated inputs."""
    rng = np.random.default_rng(seed)
    blocks = []
    for width in column_blocks(n_cols):
        mix = np.random.default_rng(width).standard_normal((8, width))
        x = rng.standard_normal((tokens, 8)) @ mix + 0.1 * rng.standard_normal((tokens, width))
        blocks.append((x.T @ x).astype(np.float32))
    return packed(blocks)


def write_some(path: Path, *, layers: int = 2, n_cols: int = 64, inner: int = 96) -> Path:
    linears, widths = {}, {}
    for layer in range(layers):
        for name, users in INPUTS.items():
            start = f"model.layers.{layer}."
            linears |= {start + user: start + name for user in users}
            widths[start + name] = inner if "down" in name else n_cols
    write_statistics(
        path,
        linears,
        widths,
        lambda name: (
            sums(widths[name], 500, len(name)),
            sums(widths[name], 200, len(name) + 1),
            (500.0, 200.0),
        ),
    )
    return path


@pytest.fixture
def statistics(tmp_path: Path) -> Path:
    return write_some(tmp_path / "calibration.safetensors")


def test_packing_keeps_every_number() -> None:
    rng = np.random.default_rng(0)
    blocks = []
    for width in column_blocks(576):
        x = rng.standard_normal((width, width)).astype(np.float32)
        blocks.append(x + x.T)
    for found, block in zip(unpacked(packed(blocks), 576), blocks, strict=True):
        np.testing.assert_array_equal(found, block)


def test_what_was_written_is_read(statistics: Path) -> None:
    found = read_statistics(statistics)
    name = "model.layers.1.mlp.gate_proj"
    assert found.linears["model.layers.1.mlp.up_proj"] == name
    assert found.counts(name) == (500, 200)
    (block,) = found.moments(name, "calibration")
    (expected,) = unpacked(sums(64, 500, len(name)), 64)
    np.testing.assert_allclose(block, expected / 500, rtol=1e-6)
    np.testing.assert_array_equal(found.diagonal(name), np.diag(block))
    (held,) = found.moments(name, "held_out")
    np.testing.assert_allclose(held, unpacked(sums(64, 200, len(name) + 1), 64)[0] / 200, rtol=1e-6)


def test_names_become_those_of_the_file(statistics: Path) -> None:
    known = by_tensor(read_statistics(statistics), "llama", 2)
    assert known.knows("blk.0.attn_k.weight")
    assert known.input_of("blk.0.attn_k.weight") == known.input_of("blk.0.attn_v.weight")
    assert known.columns("blk.1.ffn_down.weight") == 96
    assert not known.knows("token_embd.weight")


def test_columns_that_conversion_reorders_stay_exact() -> None:
    """qwen3.5's out_proj: the checkpoint's input order is not the file's."""
    linears = {
        f"model.layers.{layer}.linear_attn.{name}": name
        for layer in range(3)
        for name in ("out_proj", "in_proj_z")
    }
    known = by_tensor(Statistics(Path(), linears, {}, {}), "qwen35", 4)
    assert set(known.inputs.values()) == {"in_proj_z"}


def test_no_trace_of_a_file_that_was_not_finished(tmp_path: Path) -> None:
    def fails(name: str) -> Any:
        raise RuntimeError(name)

    with pytest.raises(RuntimeError):
        write_statistics(tmp_path / "c.safetensors", {"a": "a"}, {"a": 32}, fails)
    assert not list(tmp_path.iterdir())


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with another header."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h: h["__metadata__"].update(format="other"), "format is 'other'"),
        (lambda h: h["__metadata__"].update(linears="[1]"), "attribute"),
        (lambda h: h["__metadata__"].update(columns="{}"), "model.layers"),
        (lambda h: h.pop("model.layers.0.self_attn.q_proj.held_out"), "held_out"),
        (lambda h: h.pop("__metadata__"), "format is None"),
    ],
)
def test_a_damaged_file_is_refused(
    statistics: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    with pytest.raises(ConvertError) as error:
        read_statistics(edited(statistics, change))
    assert says in str(error.value)


def test_imatrix_there_and_back(statistics: Path, tmp_path: Path) -> None:
    known = by_tensor(read_statistics(statistics), "llama", 2)
    out = tmp_path / "imatrix.gguf"
    write_imatrix(out, known)
    found = open_importance(out, "llama", 2)
    assert set(read_imatrix(out).squares) == set(known.inputs)
    for tensor in known.inputs:
        np.testing.assert_allclose(found.diagonal(tensor), known.diagonal(tensor), rtol=1e-6)
    assert not found.is_judged
    # what common/imatrix-loader.cpp asks for
    fields = gguf.GGUFReader(out).fields
    assert {"imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"} <= set(fields)
    assert str(tmp_path).encode() not in out.read_bytes()


def test_an_imatrix_of_llama_imatrix(tmp_path: Path) -> None:
    """Its layout: sums and counts per expert, a count of 0, sums of x besides."""
    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "unused")
    writer.kv_data[0].clear()
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["some.txt"])
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, counts in (("blk.0.attn_q.weight", [1536]), ("blk.0.ffn_up_exps.weight", [10, 0])):
        values = np.arange(1, 1 + 32 * len(counts), dtype=np.float32).reshape(-1, 32)
        writer.add_tensor(f"{name}.in_sum2", values)
        writer.add_tensor(f"{name}.in_sum", values)
        writer.add_tensor(f"{name}.counts", np.array(counts, np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_imatrix(path)
    np.testing.assert_allclose(
        found.diagonal("blk.0.attn_q.weight"), np.arange(1, 33) / 1536, rtol=1e-6
    )
    np.testing.assert_allclose(found.squares["blk.0.ffn_up_exps.weight"][0][0], 0.1)
    np.testing.assert_array_equal(found.squares["blk.0.ffn_up_exps.weight"][1], 1)
    assert (found.experts("blk.0.ffn_up_exps.weight"), found.experts("blk.0.attn_q.weight")) == (
        2,
        0,
    )


@pytest.mark.skipif(not llama_quantize.LIBRARY, reason="LIBLLAMA names no library")
def test_mode_imatrix_is_what_llama_quantize_writes(
    statistics: Path, base: Path, tmp_path: Path
) -> None:
    write_imatrix(tmp_path / "i.gguf", by_tensor(read_statistics(statistics), "llama", 2))
    squares = {name: rows[0] for name, rows in read_imatrix(tmp_path / "i.gguf").squares.items()}
    write_model(base, tmp_path / "full.gguf", outtype="BF16")
    for outtype in ("Q4_0", "Q5_0", "Q4_K_M", "IQ4_NL"):
        quantize(tmp_path / "full.gguf", tmp_path / "ours.gguf", outtype,
                 calibration=tmp_path / "i.gguf")  # fmt: skip
        llama_quantize.llama_quantize(
            tmp_path / "full.gguf", tmp_path / "theirs.gguf", file_type(outtype).id, squares
        )
        ours, theirs = read_gguf(tmp_path / "ours.gguf"), read_gguf(tmp_path / "theirs.gguf")
        for name, info in theirs.tensors.items():
            assert ours.tensors[name].type == info.type, name
            assert np.array_equal(ours.raw(name), theirs.raw(name)), name


def test_mode_imatrix_is_what_libggml_writes(statistics: Path, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    write_model(base, tmp_path / "full.gguf", outtype="F32")
    written = write_model(
        base, tmp_path / "q.gguf", outtype="Q5_0", calibration=statistics, mode="imatrix"
    )
    assert (written.mode, written.report) == ("imatrix", ())
    known = by_tensor(read_statistics(statistics), "llama", 2)
    full, ours = read_gguf(tmp_path / "full.gguf"), read_gguf(tmp_path / "q.gguf")
    for name in known.inputs:
        kind = ours.tensors[name].type
        theirs = ggml_quantize(full.dequantize(name), kind, known.diagonal(name))
        np.testing.assert_array_equal(ours.raw(name), theirs.reshape(-1), err_msg=name)
    assert ours.tensors["blk.1.attn_q.weight"].type == Kind.Q5_0


def test_threads_and_route_do_not_change_the_bytes(
    statistics: Path, base: Path, tmp_path: Path
) -> None:
    """Straight from the folder or through an F32 GGUF, on one thread or three."""
    made = [
        write_model(base, tmp_path / f"{n}.gguf", outtype="Q4_0", calibration=statistics, threads=n)
        for n in (1, 3)
    ]
    write_model(base, tmp_path / "full.gguf", outtype="F32")
    again = quantize(tmp_path / "full.gguf", tmp_path / "again.gguf", "Q4_0",
                     calibration=statistics)  # fmt: skip
    assert made[0].sha256 == made[1].sha256
    assert made[0].report == again.report
    first, second = read_gguf(tmp_path / "1.gguf"), read_gguf(tmp_path / "again.gguf")
    for name in first.tensors:
        assert np.array_equal(first.raw(name), second.raw(name)), name


def test_the_report_says_what_was_kept(statistics: Path, base: Path, tmp_path: Path) -> None:
    written = write_model(base, tmp_path / "q.gguf", outtype="Q4_0", calibration=statistics)
    assert written.mode == "calibrated"
    assert len(written.report) == 14  # seven layers in each of two blocks
    assert all(r.kept == min(r.exact, r.imatrix, r.calibrated) for r in written.report)
    assert "calibrated: 14 of 21 tensors, held-out error -" in written.calibrated


def test_what_was_judged_is_made_from_all_inputs(
    statistics: Path, base: Path, tmp_path: Path
) -> None:
    """The held-out inputs are a quarter of what is known: too many to leave aside in the file."""
    written = write_model(base, tmp_path / "q.gguf", outtype="Q4_0", calibration=statistics)
    write_model(base, tmp_path / "full.gguf", outtype="F32")
    known = by_tensor(read_statistics(statistics), "llama", 2)
    full, ours = read_gguf(tmp_path / "full.gguf"), read_gguf(tmp_path / "q.gguf")
    for one in written.report:
        parts = [known.moments(one.tensor, part)[0] for part in ("calibration", "held_out")]
        moments = (500 * parts[0] + 200 * parts[1]) / np.float32(700)
        (found,) = known.moments(one.tensor, "all")
        np.testing.assert_allclose(found, moments, rtol=1e-4, atol=1e-4)
        assert np.array_equal(
            ours.raw(one.tensor),
            encode_with_feedback(
                full.dequantize(one.tensor), ours.tensors[one.tensor].type,
                importance=np.diag(found), spread=spreads([found]),
            ),
        )  # fmt: skip


def test_what_does_not_help_on_unseen_inputs_is_not_kept(base: Path, tmp_path: Path) -> None:
    """Calibrated on inputs along one line, judged on white ones: exact is best."""
    path = tmp_path / "c.safetensors"
    line = np.ones((64, 64), np.float32)
    name = "model.layers.0.self_attn.q_proj"
    write_statistics(
        path,
        {name: name},
        {name: 64},
        lambda _: (packed([line]), packed([np.eye(64, dtype=np.float32)]), (1.0, 1.0)),
    )
    written = write_model(base, tmp_path / "q.gguf", outtype="Q4_0", calibration=path)
    assert [r.mode for r in written.report] == ["exact"] or written.report[0].mode == "imatrix"
    assert written.report[0].calibrated > written.report[0].exact
    exact = write_model(base, tmp_path / "e.gguf", outtype="Q4_0")
    assert exact.report == ()


@pytest.mark.parametrize(
    ("make", "mode", "says"),
    [
        (lambda p: write_some(p, n_cols=32, inner=48), "auto", "for another model"),
        (lambda p: write_some(p, layers=0), "auto", "for another model"),
        (lambda p: p.write_text("x" * 100), "auto", "not a safetensors file"),
        (lambda p: p.unlink(missing_ok=True), "auto", "cannot be read"),
        (lambda p: write_some(p), "best", "unknown mode"),
    ],
)
def test_wrong_files_and_modes_are_refused(
    base: Path, tmp_path: Path, make: Callable[[Path], object], mode: str, says: str
) -> None:
    path = tmp_path / "c.safetensors"
    make(path)
    with pytest.raises(ConvertError) as error:
        write_model(base, tmp_path / "q.gguf", outtype="Q4_0", calibration=path, mode=mode)
    assert says in str(error.value)
    assert not (tmp_path / "q.gguf").exists()


def test_calibrated_needs_more_than_an_imatrix(
    statistics: Path, base: Path, tmp_path: Path
) -> None:
    write_imatrix(tmp_path / "i.gguf", by_tensor(read_statistics(statistics), "llama", 2))
    common: dict[str, Any] = {"outtype": "Q4_0", "calibration": tmp_path / "i.gguf"}
    with pytest.raises(ConvertError, match="not enough to calibrate"):
        write_model(base, tmp_path / "q.gguf", mode="calibrated", **common)
    assert write_model(base, tmp_path / "q.gguf", **common).mode == "imatrix"
    with pytest.raises(ConvertError, match="needs statistics"):
        write_model(base, tmp_path / "q.gguf", outtype="Q4_0", mode="calibrated")


def test_experts_stay_exact_and_the_user_is_told(statistics: Path) -> None:
    known = open_calibration(statistics, "imatrix", "llama", 2)
    weight = np.ones((2, 32, 64), np.float32)
    experts = Candidate(
        "blk.0.ffn_up_exps.weight", weight.shape, Kind.Q4_0, lambda: ArrayRows(weight), "experts"
    )
    choice = choose(known, [experts])
    assert choice.mode == "exact"
    assert "1 of 1 expert tensors are rounded without statistics" in choice.notes[0]
