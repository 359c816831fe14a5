"""Compiled kernels: where they are kept, who is told beforehand, what is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from converters.errors import ConvertError
from converters.quants.search import VARIABLE, backend

ROOT = Path(__file__).parents[2]
ENCODE = """
import sys, numpy as np
from gguf.constants import GGMLQuantizationType as Kind
from converters.quants.quantize import encode
from converters.quants.search import seconds_to_compile
before = seconds_to_compile([Kind.Q8_0])
data = encode(np.arange(64, dtype=np.float32).reshape(2, 32), Kind.Q8_0)
print(before > 0, seconds_to_compile([Kind.Q8_0]) > 0, len(data))
"""


def run(code: str, **environment: str) -> str:
    """Output of a Python process in a clean environment."""
    keep = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=keep | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_converters_does_not_import_numba():
    assert run("import sys, converters; print('numba' in sys.modules)") == "False"


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_float_types_do_not_import_numba(kind):
    code = f"{ENCODE.replace('Q8_0', kind)}print('numba' in sys.modules)"
    assert run(code).split().count("False") == 3


def test_compiled_once_into_the_users_cache(tmp_path):
    pytest.importorskip("numba")
    assert run(ENCODE, XDG_CACHE_HOME=str(tmp_path)) == "True False 68"
    kept = {path.suffix for path in (tmp_path / "ft2ollama" / "numba").rglob("*")}
    assert {".nbi", ".nbc", ".compiled"} <= kept
    assert run(ENCODE, XDG_CACHE_HOME=str(tmp_path)) == "False False 68"
    assert not list((ROOT / "converters").rglob("*.nbi"))


def test_numbas_own_variable_is_respected(tmp_path):
    pytest.importorskip("numba")
    run(ENCODE, NUMBA_CACHE_DIR=str(tmp_path / "there"), XDG_CACHE_HOME=str(tmp_path / "not"))
    assert list((tmp_path / "there").rglob("*.nbc"))
    assert not (tmp_path / "not").exists()


def test_works_where_nothing_can_be_written(tmp_path):
    pytest.importorskip("numba")
    (tmp_path / "file").touch()  # a folder cannot be made below it, not even by root
    assert run(ENCODE, XDG_CACHE_HOME=str(tmp_path / "file")) == "True False 68"


def test_numpy_serves_without_numba():
    hide = "import sys; sys.modules['numba'] = None\n"
    assert run(hide + ENCODE) == "False False 68"


def test_backend_can_be_chosen(monkeypatch):
    monkeypatch.setenv(VARIABLE, "numpy")
    assert backend().__name__.endswith("search_numpy")
    monkeypatch.setenv(VARIABLE, "abacus")
    with pytest.raises(ConvertError, match="abacus"):
        backend()
