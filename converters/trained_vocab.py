"""Which tokenizer belongs to a trained model: the base's, or the one saved beside the adapter.

Trainers save a tokenizer with every adapter. It is the base's again, perhaps in another spelling,
unless tokens were added; only then it is taken, because only then the base's is wrong.
"""

from __future__ import annotations

from pathlib import Path

from converters.errors import ConvertError
from converters.hf_folder import Config, read_optional_json

NOTE = "tokenizer and chat template: the adapter folder's, because tokens were added"


def tokenizer_folder(adapter: Path | None, base: Path, rows: tuple[int, int]) -> Path:
    """The folder whose tokenizer the model needs. rows: of the embedding, before and after."""
    if adapter is None:
        return base
    beside = any((adapter / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))
    if beside and (rows[0] != rows[1] or _has_new_tokens(adapter, base)):
        return adapter
    if rows[1] > rows[0]:
        raise ConvertError(
            "the adapter has new tokens, and their texts are not known",
            "",
            f"the embedding grew from {rows[0]} to {rows[1]} rows, and there is no tokenizer in "
            "the adapter folder",
            "save it there: tokenizer.save_pretrained(ADAPTER)",
        )
    return base


def _has_new_tokens(adapter: Path, base: Path) -> bool:
    if not (base / "tokenizer.json").is_file():
        return False  # a SentencePiece base: nothing to compare by text
    added = _added(read_optional_json(adapter / "tokenizer.json"))
    return not added <= _texts(read_optional_json(base / "tokenizer.json"))


def _added(tokenizer: Config) -> set[str]:
    return {str(entry.get("content")) for entry in tokenizer.get("added_tokens") or []}


def _texts(tokenizer: Config) -> set[str]:
    vocabulary = (tokenizer.get("model") or {}).get("vocab") or {}
    names = vocabulary if isinstance(vocabulary, dict) else [entry[0] for entry in vocabulary]
    return _added(tokenizer) | set(names)
