"""Adapters that a training starts from: found, hashed, merged or trained further.

All but the last are merged into the base one after another, as LLaMA-Factory does; the last one is
trained further, unless `create_new_adapter` merges it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ft2ollama.errors import UsageError
from ft2ollama.files import sha256_folder, sha256_text
from ft2ollama.runs import find_run


def adapter_folders(refs: Sequence[str]) -> tuple[Path, ...]:
    """The PEFT folder of each reference: a folder of PEFT, a run's folder or a run's id."""
    return tuple(_folder(ref) for ref in refs)


def _folder(ref: str) -> Path:
    path = Path(ref).expanduser()
    if path.is_dir():
        candidates = [path, path / "adapter"]
    else:
        try:
            candidates = [find_run(ref).adapter]
        except UsageError:
            candidates = []
    for folder in candidates:
        if (folder / "adapter_config.json").is_file():
            return folder.absolute()
    raise UsageError(
        f"adapter_name_or_path: no adapter at {ref!r}",
        "there is no adapter_config.json in it" if candidates else "it is no folder and no run",
        "give a folder of PEFT, or a run (ft2ollama runs lists them)",
    )


def sha256_adapters(folders: Sequence[Path]) -> str:
    """One hash over their configs and weights."""
    return sha256_text("\n".join(sha256_folder(folder, "adapter_*") for folder in folders))


def merge_adapters(model: Any, folders: Sequence[Path]) -> Any:
    """The model with each adapter added to its weights, one after another."""
    from peft import PeftModel

    for folder in folders:
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    return model


def continue_adapter(model: Any, folder: Path) -> Any:
    """The model with this adapter on it, ready to be trained further."""
    from peft import PeftModel

    return PeftModel.from_pretrained(
        model, str(folder), is_trainable=True, autocast_adapter_dtype=True
    )
