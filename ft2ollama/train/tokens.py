"""A base with more tokens: a folder of its own in the cache, which then is the base.

In: a base and the texts of new tokens.  Out: a Base whose tokenizer and embedding (and output
layer) know them; training, reference replies and export need no special case. New rows are the mean
of the others plus noise of standard deviation 1/sqrt(hidden size), as LLaMA-Factory's noise_init;
without noise all new tokens would begin as one. Vocabularies are often padded: rows that no token
uses yet are taken first.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ft2ollama.base import Base
from ft2ollama.errors import UsageError
from ft2ollama.files import sha256_text, write_json
from ft2ollama.paths import cache_dir

_LAYOUT = 1


def with_tokens(base: Base, words: Sequence[str], control: Sequence[str]) -> Base:
    """The base that also knows these texts. words: ordinary tokens; control: special ones.

    Raises UsageError when there is no tokenizer.json, or when a text is a token already.
    """
    if not words and not control:
        return base
    from filelock import FileLock

    path = base.folder / "tokenizer.json"
    if not path.is_file():
        raise UsageError(
            "add_tokens needs a tokenizer.json",
            f"{base.ref} has a SentencePiece tokenizer only",
            "remove add_tokens and add_special_tokens",
        )
    _require_new(path, [*words, *control])
    digest = sha256_text(json.dumps([_LAYOUT, base.sha256, list(words), list(control)]))
    folder = cache_dir() / "bases" / f"{digest[:16]}-tokens"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not (folder / "source.json").is_file():
            _make(base, folder, words, control)
    return replace(base, folder=folder, sha256=digest, gguf=None)


def _require_new(path: Path, wanted: Sequence[str]) -> None:
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    known = [text for text in wanted if text in vocabulary]
    if known:
        raise UsageError(
            f"add_tokens: {', '.join(known)} is in the vocabulary already",
            f"as token {', '.join(str(vocabulary[text]) for text in known)}",
            "remove it from add_tokens or add_special_tokens",
        )


def _make(base: Base, folder: Path, words: Sequence[str], control: Sequence[str]) -> None:
    work = Path(tempfile.mkdtemp(prefix=".tokens.", dir=folder.parent))
    try:
        first, size = _tokenizer(base.folder, work, words, control)
        _weights(base.folder, work, first, size)
        write_json(work / "source.json", {"sha256": base.sha256, "tokens": [*words, *control]})
        shutil.rmtree(folder, ignore_errors=True)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _tokenizer(
    source: Path, work: Path, words: Sequence[str], control: Sequence[str]
) -> tuple[int, int]:
    """Write the tokenizer; returns the first new id and the size of the vocabulary."""
    from tokenizers import AddedToken, Tokenizer

    for path in source.iterdir():
        if path.suffix in (".json", ".jinja", ".txt") and "safetensors" not in path.name:
            shutil.copy(path, work)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    first = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in words])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in control])
    tokenizer.save(str(work / "tokenizer.json"))
    return first, first + len(words) + len(control)


def _weights(source: Path, work: Path, first: int, size: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", use_safetensors=True)
    if size > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(size, mean_resizing=False)
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in {id(end.weight): end.weight for end in ends}.values():
            _fill(weight, first, size, noise)
    model.save_pretrained(work)


def _fill(weight: Any, first: int, size: int, noise: Any) -> None:
    """weight: [rows, hidden]; rows `first` to `size` become mean plus noise."""
    import torch

    hidden = weight.shape[1]
    mean = weight[:first].float().mean(0)
    drawn = torch.randn(size - first, hidden, generator=noise) / hidden**0.5
    weight[first:size] = (mean + drawn).to(weight.dtype)
