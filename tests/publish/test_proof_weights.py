"""The stored file against the exported one, on a real Ollama."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from converters import read_gguf
from ft2ollama.files import sha256_file
from ft2ollama.ollama_api import Ollama
from ft2ollama.proof import Proof
from ft2ollama.proof_weights import compare_files, prove_weights
from ft2ollama.pypi import SMOLLM2_GGUF_SHA256


@pytest.mark.ollama
def test_what_is_stored_is_what_was_sent(ollama: Ollama, smol: str, smollm2_gguf: Path) -> None:
    (check,) = prove_weights(ollama, smol, [(smollm2_gguf, SMOLLM2_GGUF_SHA256)])
    assert (check.method, check.equal) == ("digest", True)


@pytest.mark.ollama
def test_other_weights_are_found_out(
    ollama: Ollama, smol: str, smollm2_gguf: Path, tmp_path: Path
) -> None:
    name = "blk.3.ffn_up.weight"
    other = tmp_path / "other.gguf"
    shutil.copy(smollm2_gguf, other)
    with other.open("r+b") as file:
        file.seek(read_gguf(other).tensors[name].offset + 1000)
        file.write(b"\xff\xfe")
    checks = prove_weights(ollama, smol, [(other, sha256_file(other))])
    assert Proof((), (), 0.0, checks).failures == [f"weights other.gguf: {name}: its bytes differ"]
    missing = prove_weights(
        ollama, smol, [(smollm2_gguf, SMOLLM2_GGUF_SHA256), (other, sha256_file(other))]
    )
    assert missing[0].difference == "2 file(s) sent, 1 stored"  # the adapter is not there


def test_files_are_compared_whatever_their_order(smollm2_gguf: Path, tmp_path: Path) -> None:
    """As llama-quantize rewrites them: same content, other bytes."""
    import gguf

    source = read_gguf(smollm2_gguf)
    writer = gguf.GGUFWriter(tmp_path / "rewritten.gguf", "llama")
    for pair in reversed(source.pairs):
        if pair.key not in ("general.architecture",):
            writer.add_key_value(pair.key, pair.value, pair.type, sub_type=pair.item)
    for name, info in sorted(source.tensors.items()):
        rows = source.raw(name).reshape(*info.shape[:-1], -1) if len(info.shape) > 1 else None
        data = source.dequantize(name) if rows is None else rows
        writer.add_tensor(name, data, raw_dtype=info.type if rows is not None else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rewritten = tmp_path / "rewritten.gguf"
    assert sha256_file(rewritten) != SMOLLM2_GGUF_SHA256
    check = compare_files(smollm2_gguf, rewritten)
    assert (check.equal, check.tensors, check.difference) == (True, len(source.tensors), "")
