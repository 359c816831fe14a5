"""The file against base + adapter, and the stored file against the exported one."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from defects import another_base, in_four_bits, move_rows, with_alpha

from converters import read_gguf, write_adapter, write_model
from ft2ollama.base import Base
from ft2ollama.files import sha256_file
from ft2ollama.ollama_api import Ollama
from ft2ollama.proof import Proof
from ft2ollama.proof_weights import compare_files, prove_weights, recompute_weights
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


# ---------------------------------------------------------------- what the exporter could do wrong


@pytest.fixture(scope="module")
def adapter(tiny: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on every linear layer, as large as a training makes it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(tiny.folder)
        tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
        torch.manual_seed(1)
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        folder = tmp_path_factory.mktemp("adapter")
        tuned.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("quant", ["F16", "Q4_0"])
@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("none", ""),
        ("adapter not applied", ""),
        ("scale doubled", ""),
        ("another base", "tensors are not base"),
        ("base in four bits", ""),
        ("rows not permuted", "blk.0.attn_q.weight"),
        ("gate and up exchanged", "tensors are not base"),
        ("truncated", "ends at byte"),
    ],
)
def test_defects_of_an_export_are_found(
    tiny: Base, adapter: Path, tmp_path: Path, defect: str, words: str, quant: str
) -> None:
    base, used, out = tiny.folder, adapter, tmp_path / "model.gguf"
    if defect == "another base":
        rng = np.random.default_rng(0)
        base = another_base(
            tiny, tmp_path / "b", lambda _, w: w + rng.normal(0, w.std(), w.shape).astype(w.dtype)
        )
    if defect == "base in four bits":
        base = another_base(tiny, tmp_path / "b", in_four_bits)
    if defect == "scale doubled":
        used = with_alpha(adapter, 16, tmp_path / "a")
    write_model(base, out, adapter=None if defect == "adapter not applied" else used, outtype=quant)
    if defect == "rows not permuted":
        move_rows(out, "blk.0.attn_q.weight")
    if defect == "gate and up exchanged":
        move_rows(out, "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight")
    if defect == "truncated":
        os.truncate(out, out.stat().st_size - 2000)
    check = recompute_weights(out, tiny.folder, adapter)
    if defect == "base in four bits" and quant.startswith("Q4"):
        return  # rounding to four bits explains as much
    assert check.equal == (defect == "none"), check
    assert bool(check.difference) == (defect != "none")
    if words:
        assert re.search(words, check.difference), check.difference
    if defect == "none":
        assert check.dose == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("alpha", "dose"), [(8, 1), (16, 2), (1, 0.125)])
def test_the_dose_in_an_adapter_file(
    tiny: Base, adapter: Path, tmp_path: Path, alpha: int, dose: float
) -> None:
    out = tmp_path / "adapter.gguf"
    write_adapter(with_alpha(adapter, alpha, tmp_path / "a"), tiny.folder, out)
    check = recompute_weights(out, tiny.folder, adapter)
    assert check.dose == pytest.approx(dose, abs=1e-3)
    assert check.equal == (dose == 1)
