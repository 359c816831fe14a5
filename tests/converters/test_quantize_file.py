"""quantize: an existing GGUF in another type, as llama-quantize would write it."""

from __future__ import annotations

from dataclasses import replace

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

import converters
from converters import metadata, writer
from converters.errors import ConvertError, Unsupported
from converters.jobs import encoded
from converters.transforms import ArrayRows
from converters.writer import Tensor


@pytest.fixture(scope="module")
def wide(make_base):
    """Rows of 256, so that every type fits."""
    return make_base(hidden_size=256, intermediate_size=512, tie_word_embeddings=True)


@pytest.mark.parametrize("outtype", ["F32", "BF16", "Q8_0"])
def test_over_a_float_file_gives_the_file_of_one_pass(outtype, wide, tmp_path):
    """Same bytes, same metadata in the same order, same digest."""
    lineage = {"run": "7"}
    converters.write_model(wide, tmp_path / "f.gguf", outtype="F32", lineage=lineage)
    direct = converters.write_model(wide, tmp_path / "d.gguf", outtype=outtype, lineage=lineage)
    again = converters.quantize(tmp_path / "f.gguf", tmp_path / "q.gguf", outtype)
    assert again.sha256 == direct.sha256
    assert (again.file_type, again.architecture) == (outtype, "llama")


@pytest.mark.oracle
def test_types_we_only_read_are_dequantized_as_gguf_py_does(smollm2_gguf, tmp_path):
    """Q4_1 -> Q8_0, and the F32 norms byte by byte."""
    with pytest.raises(Unsupported, match="quantized already") as refused:
        converters.quantize(smollm2_gguf, tmp_path / "q.gguf", "Q8_0")
    assert "--allow-requantize" in refused.value.fix
    assert not list(tmp_path.iterdir())
    converters.quantize(smollm2_gguf, tmp_path / "q.gguf", "Q8_0", allow_requantize=True)
    converters.check_gguf(tmp_path / "q.gguf")
    source = {t.name: t for t in gguf.GGUFReader(smollm2_gguf).tensors}
    seen = gguf.GGUFReader(tmp_path / "q.gguf").tensors
    assert [t.name for t in seen] == sorted(source, key=writer.canonical_order)
    kinds = {t.tensor_type for t in seen}
    assert kinds == {Kind.Q8_0, Kind.F32}
    for tensor in seen[:40]:
        before = source[tensor.name]
        expected = before.data
        if before.tensor_type != tensor.tensor_type:
            values = gguf.dequantize(before.data, before.tensor_type)
            expected = gguf.quantize(values, tensor.tensor_type)
        assert np.array_equal(tensor.data, expected), tensor.name


def test_metadata_keeps_its_order_and_names_the_new_type(smollm2_gguf, tmp_path):
    converters.quantize(smollm2_gguf, tmp_path / "q.gguf", "Q8_0", allow_requantize=True)
    set_anew = ("general.quantization_version", "general.file_type")
    before = [p for p in converters.read_gguf(smollm2_gguf).pairs if p.key not in set_anew]
    after = converters.read_gguf(tmp_path / "q.gguf").pairs
    assert list(after[:-2]) == before
    assert [(p.key, p.value) for p in after[-2:]] == list(zip(set_anew, (2, 7), strict=True))


def test_same_type_is_a_copy_and_needs_no_permission(wide, tmp_path):
    first = converters.write_model(wide, tmp_path / "1.gguf", outtype="Q8_0")
    assert converters.quantize(tmp_path / "1.gguf", tmp_path / "2.gguf", "Q8_0") == replace(
        first, path=tmp_path / "2.gguf"
    )


def _file(path, pairs=(), arrays=(), kind=Kind.F32):
    pairs = [metadata.string("general.architecture", "llama"), *pairs]
    tensors = [
        Tensor(n, a.shape, kind, lambda n=n, a=a: encoded(ArrayRows(a), kind, n)) for n, a in arrays
    ]
    writer.write(path, pairs, tensors)
    return path


@pytest.mark.parametrize(
    ("pairs", "needle", "fix"),
    [
        ([metadata.string("general.type", "adapter")], "not a model file", "adapter"),
        ([metadata.string("general.type", "imatrix")], "not a model file", "model GGUF"),
        ([metadata.u32("split.count", 3)], "one of 3 parts", "llama-gguf-split --merge"),
    ],
)
def test_files_that_are_not_whole_models(pairs, needle, fix, tmp_path):
    source = _file(tmp_path / "x.gguf", pairs)
    with pytest.raises(Unsupported, match=needle) as caught:
        converters.quantize(source, tmp_path / "y.gguf", "Q8_0")
    assert fix in caught.value.fix
    assert not (tmp_path / "y.gguf").exists()


def test_layout_keys_of_the_input_are_dropped_and_bytes_that_are_no_text_survive(tmp_path):
    """general.alignment tells how the input was padded; a vocabulary may hold any bytes."""
    pairs = [
        metadata.u32("general.alignment", 32),
        metadata.u32("split.count", 0),
        metadata.strings("tokenizer.ggml.tokens", ["a", b"\xff\xfe".decode("utf-8", "replace")]),
    ]
    path = _file(tmp_path / "x.gguf", pairs)
    data = path.read_bytes().replace("\ufffd\ufffd".encode(), b"\xff\xfe\xff\xfe\xff\xfe")
    path.write_bytes(data)
    converters.quantize(path, tmp_path / "y.gguf", "F16")
    keys = [pair.key for pair in converters.read_gguf(tmp_path / "y.gguf").pairs]
    assert keys[:2] == ["general.architecture", "tokenizer.ggml.tokens"]
    assert b"\xff\xfe\xff\xfe\xff\xfe" in (tmp_path / "y.gguf").read_bytes()


def test_experts_are_read_by_rows_and_not_whole(tmp_path):
    experts = np.random.default_rng(0).standard_normal((3, 700, 1024), np.float32)
    name = "blk.0.ffn_up_exps.weight"
    source = _file(tmp_path / "x.gguf", [], [(name, experts)])
    seen = []
    converters.quantize(
        source, tmp_path / "y.gguf", "Q8_0", progress=lambda done, _: seen.append(done)
    )
    assert len(seen) > 3  # more pieces than experts
    file = converters.read_gguf(tmp_path / "y.gguf")
    assert file.tensors[name].shape == experts.shape
    expected = gguf.quantize(experts, Kind.Q8_0)
    assert file.raw(name).tobytes() == expected.tobytes()


def test_values_that_are_no_numbers_leave_no_file(tmp_path):
    values = np.ones((2, 32), np.float32)
    source = _file(tmp_path / "x.gguf", [], [("blk.0.attn_q.weight", values)])
    data = bytearray(source.read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    source.write_bytes(data)
    with pytest.raises(ConvertError, match="not a finite number"):
        converters.quantize(source, tmp_path / "y.gguf", "Q8_0")
    assert [p.name for p in tmp_path.iterdir()] == ["x.gguf"]
