"""Compiled kernels: where they are kept, who is told beforehand, what is imported."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Kind

from converters.errors import ConvertError
from converters.quants.quantize import encode
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
COMPILED, KEPT = "True False 68", "False False 68"


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


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.kernel"))


@pytest.fixture
def numba_is_here() -> None:
    pytest.importorskip("numba")


def test_importing_converters_does_not_import_numba():
    assert run("import sys, converters; print('numba' in sys.modules)") == "False"


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_float_types_do_not_import_numba(kind):
    code = f"{ENCODE.replace('Q8_0', kind)}print('numba' in sys.modules)"
    assert run(code).split().count("False") == 3


@pytest.mark.usefixtures("numba_is_here")
def test_compiled_once_into_the_users_cache(tmp_path):
    assert run(ENCODE, XDG_CACHE_HOME=str(tmp_path)) == COMPILED
    names = [path.stem for path in kept(tmp_path / "ft2ollama" / "numba")]
    assert names == ["peaks_of", "round_away"]
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".kernel"}
    again = f"{ENCODE}print('numba' in sys.modules)"
    assert run(again, XDG_CACHE_HOME=str(tmp_path)).splitlines() == [KEPT, "False"]


@pytest.mark.usefixtures("numba_is_here")
def test_numbas_own_variable_is_respected(tmp_path):
    run(ENCODE, NUMBA_CACHE_DIR=str(tmp_path / "there"), XDG_CACHE_HOME=str(tmp_path / "not"))
    assert kept(tmp_path / "there")
    assert not (tmp_path / "not").exists()


@pytest.mark.usefixtures("numba_is_here")
def test_code_for_another_cpu_is_not_used(tmp_path):
    assert run(ENCODE, XDG_CACHE_HOME=str(tmp_path)) == COMPILED
    assert run(ENCODE, XDG_CACHE_HOME=str(tmp_path), NUMBA_CPU_NAME="x86-64-v2") == COMPILED
    assert run(ENCODE, XDG_CACHE_HOME=str(tmp_path)) == KEPT


@pytest.mark.usefixtures("numba_is_here")
def test_works_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()  # a folder cannot be made below it, not even by root
    assert run(ENCODE, XDG_CACHE_HOME=str(tmp_path / "file")) == COMPILED


@pytest.mark.usefixtures("numba_is_here")
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-100],
        lambda data: b"",
        lambda data: b"{}\n" + data,
        lambda data: data.replace(b"ELF", b"elf"),
        lambda data: data.replace(b'"takes": "f2', b'"takes": "d2'),
    ],
    ids=["cut", "empty", "no header", "changed", "for other arguments"],
)
def test_a_damaged_file_is_compiled_again(damage, tmp_path):
    run(ENCODE, XDG_CACHE_HOME=str(tmp_path))
    whole = {path: path.read_bytes() for path in kept(tmp_path)}
    for path, data in whole.items():
        path.write_bytes(damage(data))
        assert path.read_bytes() != data
    assert run(ENCODE, XDG_CACHE_HOME=str(tmp_path)).endswith("68")
    assert {path: path.read_bytes() for path in kept(tmp_path)} == whole


@pytest.mark.usefixtures("numba_is_here")
def test_threads_compile_once(tmp_path, monkeypatch):
    from converters.quants import kernels

    written, write = [], kernels._write

    def counted(name: str, made: kernels._Code) -> None:
        written.append(name)
        write(name, made)

    monkeypatch.setattr(kernels, "_folder", lambda: tmp_path)
    monkeypatch.setattr(kernels, "_write", counted)
    kernel = kernels.Kernel("lanes_blocks", "sums_of")
    x = np.arange(64, dtype=np.float32).reshape(8, 8)
    outs = [np.empty(8, np.float32) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda out: kernel(x, out), outs))
    assert all(np.array_equal(out, x.sum(axis=1)) for out in outs)
    assert written == ["sums_of"]
    assert [path.name for path in tmp_path.iterdir()] == ["sums_of.kernel"]


@pytest.mark.usefixtures("numba_is_here")
def test_arguments_of_other_types_never_reach_the_machine_code():
    from converters.quants import kernels

    kernel = kernels.Kernel("lanes_blocks", "sums_of")
    kernel(np.ones((8, 8), np.float32), np.empty(8, np.float32))
    with pytest.raises(TypeError, match="sums_of takes f2 f1, not d2 f1"):
        kernel(np.ones((8, 8)), np.empty(8, np.float32))


@pytest.mark.usefixtures("numba_is_here")
def test_a_kernel_that_calls_something_outside_is_not_kept():
    """LLVM would end the whole process where it loads such code and does not find the name."""
    from converters.quants.kernel_compiler import kernel, machine_code

    def gammas(x, out):
        for i in range(len(x)):
            out[i] = math.gamma(x[i])

    with pytest.raises(AssertionError, match=r"a kernel calls \w*gamma"):
        machine_code(kernel(gammas), (np.ones(8), np.empty(8)))


def test_numpy_serves_without_numba():
    hide = "import sys; sys.modules['numba'] = None\n"
    assert run(hide + ENCODE) == KEPT


def test_numpy_serves_where_numba_cannot_be_imported(tmp_path):
    """As where its wheel and NumPy's do not fit each other; nothing has been compiled yet."""
    (tmp_path / "numba.py").write_text("raise ImportError('built for another NumPy')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{ENCODE}"
    assert run(code, XDG_CACHE_HOME=str(tmp_path / "cache")) == KEPT


@pytest.mark.usefixtures("numba_is_here")
def test_without_avx_the_bytes_are_the_same(tmp_path):
    """Another width of vectors, and so another order of everything but the sums."""
    values = np.random.default_rng(5).standard_normal((16, 512)).astype(np.float32)
    np.save(tmp_path / "values.npy", values)
    code = f"""
import numpy as np
from llvmlite import binding
real = binding.get_host_cpu_features
def plain():
    found = real()
    for name in found:
        if name.startswith("avx"):
            found[name] = False
    return found
binding.get_host_cpu_features = plain
from gguf.constants import GGMLQuantizationType as Kind
from converters.quants.quantize import encode
from converters.quants.lanes_width import LANES
values = np.load({str(tmp_path / "values.npy")!r})
print(LANES, encode(values, Kind.Q4_K).tobytes().hex(), encode(values, Kind.Q6_K).tobytes().hex())
"""
    width, *found = run(code, XDG_CACHE_HOME=str(tmp_path)).split()
    assert width == "8"
    assert found == [encode(values, kind).tobytes().hex() for kind in (Kind.Q4_K, Kind.Q6_K)]


def test_backend_can_be_chosen(monkeypatch):
    monkeypatch.setenv(VARIABLE, "numpy")
    assert backend().__name__.endswith("search_numpy")
    monkeypatch.setenv(VARIABLE, "abacus")
    with pytest.raises(ConvertError, match="abacus"):
        backend()
