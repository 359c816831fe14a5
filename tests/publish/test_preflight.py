"""What the server would find out too late is found before anything is sent, all at once."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_ollama import Serve, reply
from tiny_families import FAMILIES, make_adapter, make_base

import converters
from ft2ollama.errors import MachineError, UsageError
from ft2ollama.files import sha256_file
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server
from ft2ollama.ollama_support import parse_version, why_no_adapter, why_not_run
from ft2ollama.preflight import Upload, check_servers, file_troubles, preflight, read_header

Files = dict[str, Path]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A tiny llama and qwen2 with an adapter each, as GGUF."""
    folder, found = tmp_path_factory.mktemp("files"), {}
    for family in ("llama", "qwen2"):
        base = make_base(FAMILIES[family], folder / family)
        adapter = make_adapter(base, FAMILIES[family].adapter, folder / f"{family}-adapter")
        found[family] = folder / f"{family}.gguf"
        found[f"{family}-lora"] = folder / f"{family}-lora.gguf"
        converters.write_model(base, found[family], outtype="F32")
        converters.write_adapter(adapter, base, found[f"{family}-lora"], outtype="F32")
    return found


def upload(model: Path, adapter: Path | None = None) -> Upload:
    return Upload(model, sha256_file(model), adapter, sha256_file(adapter) if adapter else "")


def told(files: Upload) -> list[str]:
    return [one.what for one in file_troubles([read_header(path) for path, _ in files.files])]


def without(source: Path, key: str, target: Path) -> Path:
    """The file with a key's name made another, of the same length."""
    content = source.read_bytes()
    assert content.count(key.encode()) == 1
    target.write_bytes(content.replace(key.encode(), b"x" * len(key)))
    return target


def cut(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes()[:-64])
    return target


def test_sound_files_pass(files: Files) -> None:
    assert told(upload(files["llama"])) == []
    assert told(upload(files["qwen2"], files["qwen2-lora"])) == []


# what the API of 0.9.3 says to each: 200, and then the server dies or the first answer fails
BROKEN: dict[str, tuple[Callable[[Files, Path], Upload], str]] = {
    "adapter without general.type": (
        lambda f, p: upload(f["llama"], without(f["llama-lora"], "general.type", p)),
        "its general.type is None: Ollama 0.9.3 dies",
    ),
    "base as adapter": (lambda f, _: upload(f["llama"], f["llama"]), "is no adapter"),
    "adapter as model": (lambda f, _: upload(f["llama-lora"]), "is no model"),
    "adapter of another architecture": (
        lambda f, _: upload(f["llama"], f["qwen2-lora"]),
        "qwen2-lora.gguf is an adapter for qwen2, llama.gguf is llama",
    ),
    "adapter without adapter.type": (
        lambda f, p: upload(f["llama"], without(f["llama-lora"], "adapter.type", p)),
        "adapter.type is missing",
    ),
    "adapter without its half": (
        lambda f, p: upload(
            f["llama"], without(f["llama-lora"], "blk.0.attn_q.weight.lora_b", p)
        ),
        "not a LoRA tensor",
    ),
    "adapter cut off": (
        lambda f, p: upload(f["llama"], cut(f["llama-lora"], p)), "is not a whole GGUF file",
    ),
    "model cut off": (lambda f, p: upload(cut(f["llama"], p)), "is not a whole GGUF file"),
    "model without a tensor": (
        lambda f, p: upload(without(f["llama"], "blk.1.ffn_down.weight", p)),
        "blk.1.ffn_down.weight: missing",
    ),
    "model without tokens": (
        lambda f, p: upload(without(f["llama"], "tokenizer.ggml.tokens", p)),
        "has no tokens: Ollama 0.9.3 dies",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_told(files: Files, tmp_path: Path, case: str) -> None:
    make, words = BROKEN[case]
    found = told(make(files, tmp_path / "broken.gguf"))
    assert len(found) >= 1
    assert words in found[0]


def test_no_gguf_at_all(files: Files, tmp_path: Path) -> None:
    (tmp_path / "random.gguf").write_bytes(b"not this")
    (tmp_path / "empty.gguf").write_bytes(b"")
    for name in ("random.gguf", "empty.gguf"):
        (only,) = told(upload(tmp_path / name))
        assert only.startswith(f"{name} is not a whole GGUF file")


def test_an_adapter_of_other_sizes(files: Files, tmp_path: Path) -> None:
    """A llama of another width: names fit, shapes do not."""
    from dataclasses import replace

    wide = replace(FAMILIES["llama"], settings={"intermediate_size": 160})
    converters.write_model(make_base(wide, tmp_path / "wide"), tmp_path / "wide.gguf")
    (only,) = told(upload(tmp_path / "wide.gguf", files["llama-lora"]))
    assert "tensors of llama-lora.gguf do not fit wide.gguf, e.g. blk.0.ffn_" in only


@pytest.mark.parametrize(
    ("version", "architecture", "runs", "adapts"),
    [
        ("0.9.3", "llama", True, True),
        ("0.9.3", "smollm3", False, True),
        ("0.9.3", "gemma3", True, False),
        ("0.9.3", "qwen3", True, True),
        ("0.5.13", "gemma3", False, True),
        ("0.11.11", "qwen3", True, True),
        ("0.12.0", "qwen3", True, False),
        ("0.24.0", "qwen3moe", True, False),
        ("0.24.0", "llama", True, True),
        ("0.30.0", "gemma3", True, True),
        ("0.33.0-rc2", "qwen35", True, True),
        ("0.34.1", "llama", True, False),
        ("0.6.5", "glm4", False, True),
    ],
)
def test_versions(version: str, architecture: str, runs: bool, adapts: bool) -> None:
    number = parse_version(version)
    assert number
    assert (not why_not_run(number, architecture, set())) is runs
    assert (not why_no_adapter(number, architecture)) is adapts


def test_a_type_that_an_old_server_cannot_read() -> None:
    assert why_not_run((0, 9, 3), "llama", {"F32", "Q4_K", "IQ4_NL", "BF16"}) == []
    assert why_not_run((0, 9, 3), "llama", {"MXFP4"}) == ["it reads MXFP4 weights since 0.11.0"]
    assert parse_version("0.0.0") is None
    assert parse_version("nightly") is None


def fake(version: str, names: tuple[str, ...] = ()) -> Callable[..., None]:
    """A server of another version that has models, and no blob."""
    import json

    listed = [{"name": name, "model": name, "digest": "0" * 64, "size": 1} for name in names]

    def handle(handler: object) -> None:
        body = {"version": version} if "version" in handler.path else {"models": listed}  # type: ignore[attr-defined]
        status = 404 if handler.command == "HEAD" else 200  # type: ignore[attr-defined]
        reply(handler, json.dumps(body).encode(), status)  # type: ignore[arg-type]

    return handle


def test_every_trouble_of_every_server_at_once(files: Files, serve: Serve) -> None:
    with (
        serve(fake("0.3.0", ("Shop:latest",))) as old,
        serve(fake("0.34.2")) as new,
        pytest.raises(UsageError) as caught,
    ):
        preflight(
            [Ollama(old), Ollama(new)],
            ("shop:latest", "shop:run-1"),
            {"stop": ("x",), "temperature": "hot", "nope": 1, "num_ctx": 4096},
            upload(files["llama"], files["qwen2-lora"]),
        )
    why = caught.value.why
    assert "for 6 reasons" in caught.value.what
    for words in (
        "qwen2-lora.gguf is an adapter for qwen2, llama.gguf is llama",
        "PARAMETER temperature hot: must be a number",
        "PARAMETER nope 1: Ollama has no such parameter",
        f"Ollama 0.3.0 at {old} is too old: it runs llama since 0.3.13",
        "shop:latest differs from Shop:latest",
        f"Ollama 0.34.2 at {new} cannot serve an adapter",
    ):
        assert words in why
    assert why.count("->") == 6


def test_an_unknown_version_is_said_and_not_refused(files: Files, serve: Serve) -> None:
    with serve(fake("0.0.0")) as url:
        (note,) = preflight([Ollama(url)], ("a:latest",), {}, upload(files["llama"]))
    assert "tells no version number ('0.0.0'): whether it can run llama shows when" in note


def test_an_old_server_is_refused_before_the_export(
    files: Files, serve: Serve, tmp_path: Path
) -> None:
    base = make_base(FAMILIES["smollm3"], tmp_path / "base")
    with serve(fake("0.9.3")) as url:
        with pytest.raises(MachineError, match="cannot be published") as caught:
            check_servers([Ollama(url)], base, adapter=False)
        assert "runs smollm3 since 0.11.5" in caught.value.why
    with serve(fake("0.11.5")) as url:
        check_servers([Ollama(url)], base, adapter=True)


@pytest.fixture
def small_disk(ollama_server: Server, tmp_path: Path) -> Iterator[Path]:
    """A models folder on a file system of 40 MB, with what the server has."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    shutil.copytree(ollama_server.models / "manifests", folder / "manifests")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.ollama
def test_too_little_room_where_the_models_are(
    ollama: Ollama,
    smol: str,
    small_disk: Path,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(small_disk))
    file = tmp_path / "nobody-has-sent-it.gguf"
    content = files["llama"].read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(MachineError) as caught:
        preflight([ollama], ("x:latest",), {}, upload(file))
    assert "MB free; this takes" in caught.value.why
    assert str(small_disk) in caught.value.why
    ollama.upload(file, sha256_file(file))
    assert preflight([ollama], ("x:latest",), {}, upload(file)) == []  # it is there
