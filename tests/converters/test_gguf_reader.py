"""Reading files back, and refusing damaged ones with the reason."""

from __future__ import annotations

import contextlib
import struct
import time

import gguf
import numpy as np
import pytest

import converters
from converters.check_file import check_file
from converters.errors import ConvertError, DoesNotFit


@pytest.fixture(scope="module")
def model(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.gguf"
    converters.write_model(base, path, outtype="Q8_0")
    return path


@pytest.mark.oracle
def test_everything_is_read_as_gguf_py_reads_it(model):
    ours, theirs = converters.read_gguf(model), gguf.GGUFReader(model)
    assert ours.values == {
        key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")
    }
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert (list(info.shape[::-1]), info.type) == (tensor.shape.tolist(), tensor.tensor_type)
        assert (info.offset, info.n_bytes) == (tensor.data_offset, tensor.n_bytes)
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(ours.dequantize(tensor.name), expected.reshape(info.shape))
        rows = ours.rows(tensor.name)
        assert np.array_equal(rows.read(3, 9), expected.reshape(info.shape)[3:9])


@pytest.mark.oracle
@pytest.mark.parametrize("version", [2, 3])
def test_files_of_gguf_py_are_read(version, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("x.u8", 7)
    writer.add_int64("x.i64", -(1 << 40))
    writer.add_float64("x.f64", 0.1)
    writer.add_array("x.list", ["a", "é"])
    writer.add_tensor("t", np.arange(10, dtype=np.float32))
    writer.add_tensor("u", np.arange(64, dtype=np.float16).reshape(2, 32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = bytearray((tmp_path / "x.gguf").read_bytes())
    data[4:8] = struct.pack("<I", version)
    (tmp_path / "x.gguf").write_bytes(data)
    file = converters.read_gguf(tmp_path / "x.gguf")
    assert file.alignment == 64
    assert [file.values[f"x.{k}"] for k in ("u8", "i64", "f64")] == [7, -(1 << 40), 0.1]
    assert file.values["x.list"] == ["a", "é"]
    assert np.array_equal(file.dequantize("u"), np.arange(64).reshape(2, 32))


def test_cut_anywhere_is_an_error_and_not_a_crash(model, tmp_path):
    data = model.read_bytes()
    header = converters.read_gguf(model).data_start
    cut = tmp_path / "cut.gguf"
    for size in [0, 3, 8, 23, 24, 40, 200, header // 2, header - 1, header + 10, len(data) - 100]:
        cut.write_bytes(data[:size])
        with pytest.raises(ConvertError, match="not a readable GGUF file"):
            converters.read_gguf(cut)


def test_random_damage_never_escapes_as_another_error(model, tmp_path):
    data = model.read_bytes()
    random = np.random.default_rng(0)
    end = converters.read_gguf(model).data_start
    path = tmp_path / "bad.gguf"
    started = time.process_time()
    for _ in range(150):
        damaged = bytearray(data)
        for at in random.integers(4, end if random.random() < 0.5 else 400, 3):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(ConvertError):
            converters.check_gguf(path)
    assert time.process_time() - started < 60


@pytest.mark.parametrize(
    ("at", "value", "needle"),
    [
        (0, b"GGML", "does not begin with GGUF"),
        (4, b"\x01", "version 1"),
        (16, b"\xff" * 8, "past the end"),
    ],
)
def test_wrong_heads_are_named(at, value, needle, model, tmp_path):
    data = bytearray(model.read_bytes())
    data[at : at + len(value)] = value
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(ConvertError) as caught:
        converters.read_gguf(tmp_path / "x.gguf")
    assert needle in caught.value.why


def test_missing_file(tmp_path):
    with pytest.raises(ConvertError, match=r"no\.gguf is missing"):
        converters.read_gguf(tmp_path / "no.gguf")


def _rewrite(model, target, drop_keys=(), drop_tensors=(), change=None):
    """A copy of the file without some pairs or tensors, through our own writer."""
    from converters.writer import Tensor, write

    file = converters.read_gguf(model)
    pairs = [pair for pair in file.pairs if pair.key not in drop_keys]
    tensors = [
        Tensor(n, t.shape, t.type, lambda n=n: iter([np.asarray(file.raw(n))]))
        for n, t in file.tensors.items()
        if n not in drop_tensors
    ]
    write(target, [change(pair) if change else pair for pair in pairs], tensors)
    return target


@pytest.mark.parametrize(
    "key",
    [
        "general.architecture",
        "tokenizer.ggml.tokens",
        "llama.block_count",
        "llama.attention.head_count",
    ],
)
def test_missing_keys(key, model, tmp_path):
    with pytest.raises(ConvertError, match=f"{key} is missing"):
        converters.check_gguf(_rewrite(model, tmp_path / "x.gguf", drop_keys=[key]))


def test_missing_tensors_are_all_listed(model, tmp_path):
    drop = ["blk.0.attn_q.weight", "blk.1.ffn_norm.weight", "output_norm.weight"]
    with pytest.raises(ConvertError) as caught:
        converters.check_gguf(_rewrite(model, tmp_path / "x.gguf", drop_tensors=drop))
    assert all(f"{name}: missing" in caught.value.why for name in drop)


def test_metadata_that_contradicts_the_tensors(model, tmp_path):
    from dataclasses import replace

    def shrink(pair):
        if pair.key == "tokenizer.ggml.tokens":
            return replace(pair, value=pair.value[:-1])
        return replace(pair, value=1) if pair.key == "llama.block_count" else pair

    with pytest.raises(ConvertError) as caught:
        converters.check_gguf(_rewrite(model, tmp_path / "x.gguf", change=shrink))
    assert "319 tokens, 320 embedding rows" in caught.value.why
    assert "blk.1.attn_k.weight: not part of this architecture" in caught.value.why


@pytest.mark.parametrize(
    ("key", "value", "needle"),
    [
        ("llama.block_count", 4_000_000_000, "=4000000000: not a number of 1 to 512"),
        ("llama.attention.head_count", 0, "head_count is missing or not a positive number"),
    ],
)
def test_absurd_numbers(key, value, needle, model, tmp_path):
    from dataclasses import replace

    def spoil(pair):
        return replace(pair, value=value) if pair.key == key else pair

    with pytest.raises(ConvertError, match=needle):
        converters.check_gguf(_rewrite(model, tmp_path / "x.gguf", change=spoil))


def test_adapter_with_half_a_pair(base, make_adapter, tmp_path):
    converters.write_adapter(make_adapter(base), base, tmp_path / "a.gguf")
    drop = ["blk.0.attn_q.weight.lora_b"]
    with pytest.raises(ConvertError, match="lora_b is missing"):
        converters.check_gguf(_rewrite(tmp_path / "a.gguf", tmp_path / "x.gguf", (), drop))


def _put(path, target, changes):
    """A copy of the file with bytes changed: {offset: bytes}."""
    data = bytearray(path.read_bytes())
    for at, value in changes.items():
        data[at : at + len(value)] = value
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("outtype", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_and_scales_that_are_no_numbers(outtype, bad, base, tmp_path):
    """One value, or one block's scale, in the middle of two tensors."""
    converters.write_model(base, tmp_path / "m.gguf", outtype=outtype)
    file = converters.read_gguf(tmp_path / "m.gguf")
    kind = np.float32 if outtype in ("F32", "BF16") else np.float16
    raw = np.array([bad], kind).tobytes()
    raw = raw[2:] if outtype == "BF16" else raw
    step = 34 if outtype == "Q8_0" else len(raw)
    names = ("blk.1.ffn_up.weight", "token_embd.weight")
    changes = {file.tensors[name].offset + 7 * step: raw for name in names}
    broken = _put(tmp_path / "m.gguf", tmp_path / "x.gguf", changes)
    with pytest.raises(ConvertError) as caught:
        check_file(broken)
    what = "block scales" if outtype == "Q8_0" else "values"
    assert caught.value.why.splitlines() == [
        f"{name}: 1 {what} are NaN or infinite ({outtype})" for name in reversed(names)
    ]
    check_file(broken, values=False)
    check_file(tmp_path / "m.gguf")


@pytest.mark.oracle
def test_where_the_scales_are_is_what_gguf_py_multiplies_by(tmp_path):
    """Infinity in each place makes gguf-py's values infinite or NaN, for every type we list."""
    from converters.check_data import _SCALES

    for kind, places in _SCALES.items():
        if kind == gguf.GGMLQuantizationType.Q8_1:  # an intermediate of the runtime, never stored
            continue
        size = gguf.GGML_QUANT_SIZES[kind][1]
        for place in places:
            block = np.full(size, 0x11, np.uint8)
            block[place : place + 2] = np.frombuffer(np.float16(np.inf).tobytes(), np.uint8)
            with np.errstate(all="ignore"):
                values = gguf.dequantize(block.reshape(1, -1), kind)
            assert not np.isfinite(values).any(), (kind.name, place)


def _tensor_table(data, name):
    """Where the offset of a tensor stands in the header."""
    at = data.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    n_dims = struct.unpack_from("<I", data, at)[0]
    return at + 4 + 8 * n_dims + 4


def test_tensors_that_overlap_or_leave_gaps(model, tmp_path):
    data = model.read_bytes()
    at = _tensor_table(data, "blk.0.attn_q.weight")
    offset = struct.unpack_from("<Q", data, at)[0]
    for other, needle in ((offset - 32, "overlaps"), (offset + 32, "leaves a gap")):
        broken = _put(model, tmp_path / "x.gguf", {at: struct.pack("<Q", other)})
        with pytest.raises(ConvertError) as caught:
            check_file(broken, values=False)
        assert "blk.0.attn_q.weight" in caught.value.why
        assert needle in caught.value.why


@pytest.mark.parametrize(
    ("key", "change", "needle"),
    [
        (
            "llama.block_count",
            {"type": gguf.GGUFValueType.INT32},
            "INT32, the runtime reads UINT32",
        ),
        ("llama.rope.freq_base", {"type": gguf.GGUFValueType.FLOAT64}, "reads FLOAT32"),
        ("tokenizer.ggml.eos_token_id", {"value": 320}, "is 320, there are 320 tokens"),
        ("tokenizer.ggml.add_bos_token", {"type": gguf.GGUFValueType.UINT8}, "reads BOOL"),
        ("tokenizer.ggml.token_type", {"item": gguf.GGUFValueType.UINT32}, "array of INT32"),
        ("tokenizer.ggml.token_type", {"value": [1] * 319}, "has 319 items, there are 320"),
    ],
)
def test_keys_of_another_type_than_the_runtime_reads(key, change, needle, model, tmp_path):
    from dataclasses import replace

    broken = _rewrite(
        model,
        tmp_path / "x.gguf",
        change=lambda pair: replace(pair, **change) if pair.key == key else pair,
    )
    assert key in converters.read_gguf(broken).values
    with pytest.raises(ConvertError) as caught:
        check_file(broken)
    assert key in caught.value.why
    assert needle in caught.value.why


@pytest.mark.parametrize("target", ["all-linear", ["embed_tokens", "q_proj"]])
def test_adapter_file_fits_its_base(target, base, make_base, make_adapter, tmp_path):
    """Against the folder and against a GGUF of it; not against another width or a tied base."""
    adapter = make_adapter(base, target_modules=target)
    converters.write_adapter(adapter, base, tmp_path / "a.gguf")
    converters.write_model(base, tmp_path / "m.gguf")
    for sound in (base, tmp_path / "m.gguf"):
        summary = check_file(tmp_path / "a.gguf", sound)
        assert summary.kind == "adapter"
    other = make_base(num_attention_heads=8, head_dim=16)
    converters.write_model(other, tmp_path / "o.gguf")
    for wrong in (other, tmp_path / "o.gguf"):
        with pytest.raises(ConvertError, match="adapter file") as caught:
            check_file(tmp_path / "a.gguf", wrong)
        assert "attn_q.weight: adapter is for a weight [64, 64], the base has [128, 64]" in str(
            caught.value
        )


def test_adapter_on_the_embedding_of_a_tied_base(base, make_base, make_adapter, tmp_path):
    """The runtime would abort on it (llama.cpp's graph looks the embedding's pair up twice)."""
    adapter = make_adapter(base, target_modules=["embed_tokens"])
    converters.write_adapter(adapter, base, tmp_path / "a.gguf")
    with pytest.raises(ConvertError, match="adapter file") as caught:
        check_file(tmp_path / "a.gguf", make_base(tie_word_embeddings=True))
    assert "one tensor as embedding and as output layer" in caught.value.why


def test_base_that_is_no_model_and_base_of_a_model(base, make_adapter, tmp_path):
    converters.write_adapter(make_adapter(base), base, tmp_path / "a.gguf")
    converters.write_model(base, tmp_path / "m.gguf")
    with pytest.raises(DoesNotFit, match="not a model file"):
        check_file(tmp_path / "a.gguf", tmp_path / "a.gguf")
    with pytest.raises(ConvertError, match="is a whole model"):
        check_file(tmp_path / "m.gguf", base)
