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


@pytest.mark.parametrize("outtype", ["F32", "BF16", "Q8_0", "Q4_K_M"])
def test_over_a_float_file_gives_the_file_of_one_pass(outtype, wide, tmp_path):
    """Same bytes, same metadata in the same order, same digest."""
    lineage = {"run": "7"}
    converters.write_model(wide, tmp_path / "f.gguf", outtype="F32", lineage=lineage)
    direct = converters.write_model(wide, tmp_path / "d.gguf", outtype=outtype, lineage=lineage)
    again = converters.quantize(tmp_path / "f.gguf", tmp_path / "q.gguf", outtype)
    assert again.sha256 == direct.sha256
    assert (again.file_type, again.architecture) == (outtype, "llama")


READ_ONLY = (Kind.Q4_1, Kind.Q5_0, Kind.TQ1_0, Kind.TQ2_0, Kind.MXFP4)  # gguf-py writes these


@pytest.fixture
def quantized(tmp_path):
    """A file of tensors that gguf-py quantized, one per type, and a norm."""
    random = np.random.default_rng(0)
    arrays = {
        f"blk.{n}.ffn_up.weight": random.standard_normal((40, 512), np.float32) for n in range(5)
    }
    tensors = [
        Tensor(name, array.shape, kind, lambda a=array, k=kind: iter([gguf.quantize(a, k)]))
        for (name, array), kind in zip(arrays.items(), READ_ONLY, strict=True)
    ]
    norm = np.ones(512, np.float32)
    kind = Kind.F32
    tensors.append(
        Tensor("output_norm.weight", (512,), kind, lambda: encoded(ArrayRows(norm), kind, "n"))
    )
    pairs = [
        metadata.string("general.architecture", "llama"),
        metadata.u32("general.quantization_version", 1),
        metadata.u32("general.file_type", 3),
        metadata.string("ft2ollama.run", "7"),
        metadata.strings("tokenizer.ggml.tokens", ["a", "b"]),
    ]
    writer.write(tmp_path / "in.gguf", pairs, tensors)
    return tmp_path / "in.gguf"


@pytest.mark.oracle
def test_types_we_only_read_are_dequantized_as_gguf_py_does(quantized, tmp_path):
    with pytest.raises(Unsupported, match="quantized already") as refused:
        converters.quantize(quantized, tmp_path / "q.gguf", "Q8_0")
    assert "5 tensors" in refused.value.why
    assert "--allow-requantize" in refused.value.fix
    assert not (tmp_path / "q.gguf").exists()
    converters.quantize(quantized, tmp_path / "q.gguf", "Q8_0", allow_requantize=True)
    seen = {t.name: t for t in gguf.GGUFReader(tmp_path / "q.gguf").tensors}
    for before in gguf.GGUFReader(quantized).tensors:
        tensor = seen[before.name]
        expected = before.data
        if before.tensor_type != Kind.F32:
            values = gguf.dequantize(before.data, before.tensor_type)
            expected = gguf.quantize(values, Kind.Q8_0)
            assert tensor.tensor_type == Kind.Q8_0
        assert np.array_equal(tensor.data, expected), tensor.name


def test_metadata_keeps_its_order_and_names_the_new_type(quantized, tmp_path):
    """The order in which llama-quantize writes it: what names the type comes last."""
    converters.quantize(quantized, tmp_path / "q.gguf", "Q8_0", allow_requantize=True)
    pairs = converters.read_gguf(tmp_path / "q.gguf").pairs
    assert [(pair.key, pair.value) for pair in pairs] == [
        ("general.architecture", "llama"),
        ("ft2ollama.run", "7"),
        ("tokenizer.ggml.tokens", ["a", "b"]),
        ("general.quantization_version", 2),
        ("general.file_type", 7),
    ]


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


def test_an_architecture_we_do_not_know_is_refused_by_name(tmp_path):
    """Its convolutions would be rounded too, and the runtime would not load the file."""
    source = tmp_path / "x.gguf"
    pairs = [metadata.string("general.architecture", "rwkv7")]
    writer.write(source, pairs, [])
    with pytest.raises(Unsupported, match="'rwkv7' is not supported") as caught:
        converters.quantize(source, tmp_path / "y.gguf", "Q8_0")
    assert "qwen3moe" in caught.value.why
    assert "llama-quantize" in caught.value.fix
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
