"""A model reference -> a local Hugging Face folder, with the hash of its source.

| reference | what it is |
|---|---|
| `path/to/folder` | config.json, *.safetensors and the tokenizer |
| `path/to/model.gguf` | dequantized once, float32: what is trained on is what the file holds |
| `ollama:NAME` | the GGUF blob of a model that the local Ollama has: fine-tune what you run |
| `org/name` | a hub id: Hugging Face (HF_ENDPOINT respected) or ModelScope (`hub: modelscope`) |

The GGUF routes keep the path of the source file: it is the exact base for an adapter published with
`FROM base` + `ADAPTER`. Weights are read by `converters` (llama) or by transformers (what else it
can dequantize); tokenizers always by transformers. Transformers 5.23 cannot `save_pretrained` a
model that it loaded with `gguf_file=`, so its quantization marks are taken off first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from ft2ollama.errors import JobError, MachineError, UsageError
from ft2ollama.files import Progress, sha256_file, sha256_folder, sha256_text, write_json
from ft2ollama.paths import cache_dir

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LAYOUT = 1  # raise it when the way a GGUF is unpacked changes: old cache entries are then ignored


@dataclass(frozen=True)
class Base:
    """A base model on this disk.

    folder: HF folder (config.json, safetensors, tokenizer).  gguf: the file it was made from.
    sha256: of the source: the GGUF's bytes, or the names and bytes of the folder's model files.
    fast: a folder with the tokenizer.json, where `folder` has another form of tokenizer.
    """

    ref: str
    kind: str
    name: str
    folder: Path
    sha256: str
    gguf: Path | None = None
    fast: Path | None = None

    @property
    def tokenizer_folder(self) -> Path:
        """Where tokenizer.json is: `folder`, or the cache for one made from tokenizer.model."""
        return self.fast or self.folder

    @property
    def architecture(self) -> str:
        """`architectures[0]` of config.json, e.g. LlamaForCausalLM."""
        config = json.loads((self.folder / "config.json").read_text("utf-8"))
        return str((config.get("architectures") or ["unknown"])[0])


def resolve_base(
    ref: str,
    *,
    hub: str = "huggingface",
    revision: str = "main",
    progress: Progress | None = None,
    offline: bool = False,
) -> Base:
    """Find, fetch or unpack the model that `ref` names. revision: branch, tag or commit of a hub.

    Raises UsageError (no such model, not a model) or MachineError (no Ollama, no network, no disk).
    """
    if ref.startswith("ollama:"):
        return _from_ollama(ref, progress)
    path = Path(ref).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UsageError(f"model file {ref} does not exist", _near(path), "check the path")
        return _from_gguf(ref, "gguf", path.absolute(), path.stem, progress)
    if path.is_dir():
        return _from_folder(ref, "folder", path.absolute())
    if _HUB_ID.fullmatch(ref) and not offline:
        return _from_folder(ref, "hub", _download(ref, hub, revision))
    raise UsageError(
        f"model_name_or_path: nothing called {ref!r} here",
        f"{_near(path)}; it is not a hub id (org/name) either",
        "give a folder, a .gguf file, a hub id such as Qwen/Qwen2.5-0.5B-Instruct, or ollama:NAME",
    )


def _from_folder(ref: str, kind: str, folder: Path) -> Base:
    missing = [name for name in ("config.json",) if not (folder / name).is_file()]
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        missing.append("*.safetensors")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        missing.append("tokenizer.json")
    if missing:
        hint = "adapter_config.json is there: " if (folder / "adapter_config.json").exists() else ""
        raise UsageError(
            f"{ref} is not a whole model folder",
            f"{hint}it lacks {', '.join(missing)}",
            "give the base model's folder (pickle .bin weights are not read: use safetensors)",
        )
    _require_unpacked(ref, folder)
    files = [folder / "config.json", *weights]
    digest = sha256_text("\n".join(f"{file.name} {sha256_file(file)}" for file in files))
    name = (
        folder.parent.parent.name.split("--")[-1]
        if folder.parent.name == "snapshots"
        else folder.name
    )
    name = ref.split("/")[-1] if kind == "hub" else name
    return Base(ref, kind, name, folder, digest, fast=_fast_tokenizer(folder))


def _fast_tokenizer(folder: Path) -> Path | None:
    """A folder of the cache with tokenizer.json, made by transformers from a tokenizer.model."""
    if (folder / "tokenizer.json").is_file():
        return None
    from filelock import FileLock

    made = cache_dir() / "tokenizers" / sha256_folder(folder, "*token*")[:32]
    made.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(made.with_name(f".{made.name}.lock")):
        if not (made / "tokenizer.json").is_file():
            _convert_tokenizer(folder, made)
    return made


def _convert_tokenizer(folder: Path, made: Path) -> None:
    from transformers import AutoTokenizer

    work = Path(tempfile.mkdtemp(prefix=".tokenizer.", dir=made.parent))
    try:
        AutoTokenizer.from_pretrained(str(folder)).save_pretrained(work)
        if not (work / "tokenizer.json").is_file():
            raise ValueError("transformers knows no fast form of it")
        shutil.rmtree(made, ignore_errors=True)
        work.replace(made)
    except (ValueError, OSError, ImportError, KeyError) as error:
        raise UsageError(
            f"the tokenizer of {folder.name} cannot be read",
            str(error).strip().splitlines()[0],
            "give a folder with tokenizer.json, e.g. saved by transformers: save_pretrained",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _require_unpacked(ref: str, folder: Path) -> None:
    """Weights that are packed already can neither be trained on here nor exported."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    packed = config.get("quantization_config")
    if packed:
        method = packed.get("quant_method", "unknown") if isinstance(packed, dict) else packed
        raise UsageError(
            f"{ref} is a quantized model ({method})",
            "its weights are packed; the export needs the 16-bit ones",
            "give the 16-bit model, and quantization_bit=4 for QLoRA",
        )


def trained_base(base: Base, folder: Path) -> Base:
    """A trained model's own folder in the place of its base."""
    return replace(base, kind="folder", folder=folder, gguf=None)


def _from_ollama(ref: str, progress: Progress | None) -> Base:
    from ft2ollama.ollama_api import Ollama

    name = ref.removeprefix("ollama:")
    server = Ollama()
    shown = server.show(name)
    if shown.blob is None:
        raise MachineError(
            f"the weights of {name} are not readable on this machine",
            f"Ollama at {server.host} keeps them in a store that this process cannot open",
            "run ft2ollama on the server's machine as a user who may read its models folder",
        )
    if shown.adapters:
        raise UsageError(
            f"{name} is itself a base plus an adapter",
            "training on it would ignore that adapter",
            "fine-tune its base, or publish it merged first",
        )
    return _from_gguf(ref, "ollama", shown.blob, name.replace(":", "-").replace("/", "-"), progress)


def _from_gguf(ref: str, kind: str, gguf: Path, name: str, progress: Progress | None) -> Base:
    from filelock import FileLock

    digest = sha256_file(gguf)
    folder = unpacked_folder(digest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # two commands at once unpack once
        if not (folder / "source.json").is_file():
            unpack_gguf(gguf, folder, {"sha256": digest, "name": name}, progress)
    return Base(ref, kind, name, folder, digest, gguf)


def unpacked_folder(digest: str) -> Path:
    """Where the GGUF with this sha256 is, or will be, unpacked."""
    return cache_dir() / "bases" / f"{digest[:16]}-{_LAYOUT}"


def unpack_gguf(
    gguf: Path, folder: Path, source: dict[str, str], progress: Progress | None = None
) -> None:
    """Dequantize a GGUF into an HF folder (float32 safetensors, tokenizer.json), atomically."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".unpack.", dir=folder.parent))
    try:
        _weights(gguf, work, progress)
        _tokenizer(gguf, work)
        write_json(work / "source.json", source)
        shutil.rmtree(folder, ignore_errors=True)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _weights(gguf: Path, work: Path, progress: Progress | None) -> None:
    import converters

    try:
        converters.gguf_to_safetensors(gguf, work, progress=progress)
    except converters.Unsupported:
        _weights_by_transformers(gguf, work)


def _weights_by_transformers(gguf: Path, work: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32
        )
    except (ValueError, OSError) as error:
        raise JobError(
            f"{gguf.name} cannot be dequantized",
            str(error).splitlines()[0],
            "give the original Hugging Face model as model_name_or_path",
        ) from error
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(work)


def _tokenizer(gguf: Path, work: Path) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    # transformers takes any file name below a folder, also an Ollama blob's, without a suffix.
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.save_pretrained(work)


def _download(ref: str, hub: str, revision: str) -> Path:
    if hub == "modelscope":
        return _download_modelscope(ref, revision)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja", "LICENSE*"]
    try:
        return Path(snapshot_download(ref, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        raise MachineError(
            f"model {ref} could not be fetched from {endpoint}",
            str(error).strip().splitlines()[0],
            "check the name and the network; in China: hub=modelscope, or HF_ENDPOINT=<mirror>",
        ) from error


def _download_modelscope(ref: str, revision: str) -> Path:
    try:
        from modelscope import snapshot_download
    except ImportError as error:
        raise MachineError(
            "hub: modelscope needs the package modelscope",
            str(error),
            "pip install 'ft2ollama[modelscope]'",
        ) from error
    try:
        patterns = ["*.json", "*.safetensors", "tokenizer.model", "LICENSE*"]
        branch = "master" if revision == "main" else revision  # ModelScope's name of main
        return Path(snapshot_download(ref, revision=branch, allow_patterns=patterns))
    except Exception as error:
        raise MachineError(
            f"model {ref} could not be fetched from ModelScope",
            str(error).strip().splitlines()[0],
            "check the name and the network",
        ) from error


def _near(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"folder {folder} does not exist"
    names = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))[:6]
    return f"{folder} holds {', '.join(names) or 'nothing'}"
