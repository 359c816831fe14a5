"""The wheel, installed in a fresh environment and used outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh venv with the wheel; its dependencies come from this environment.

    A .pth line adds this environment's packages, but .pth files in there are not followed, so the
    editable checkout stays out of reach.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install",
         "--no-deps", "--quiet", "--disable-pip-version-check", str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_what_the_tool_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ft2ollama", "converters"}
    for needed in (
        "ft2ollama/_modelfiles/chatml/template.gotmpl",
        "ft2ollama/_samples/assistant/train.en.json",
        "ft2ollama/_samples/assistant.en.yaml",
        "ft2ollama/py.typed",
        "ft2ollama/train/general.txt",
        "converters/py.typed",
    ):
        assert needed in names


def test_it_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*args: str) -> str:
        done = subprocess.run(
            [str(installed / args[0]), *args[1:]],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run(
        "python",
        "-c",
        "import ft2ollama, converters; print(ft2ollama.__file__, converters.__file__)",
    )
    assert all(path.startswith(str(installed.parent)) for path in where.split())
    families = "from ft2ollama.template import families; print(*families())"
    assert "chatml" in run("python", "-c", families)
    samples = (
        "from ft2ollama.demo import samples; print(samples('zh').config, samples('en').heldout)"
    )
    assert all(Path(path).is_file() for path in run("python", "-c", samples).split())
    assert "demo" in run("ft2ollama", "--help")
    assert "adapter" in run("python", "-m", "converters", "--help")
