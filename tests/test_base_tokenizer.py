"""A folder that has only a SentencePiece model: transformers makes the tokenizer.json, once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ft2ollama.base import Base, resolve_base
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.errors import UsageError

TEXT = "Who are you? 你好 \n\n 1234"


@pytest.fixture
def folder(tmp_path: Path, tiny: Base, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model's weights and a Unigram SentencePiece model trained here."""
    import sentencepiece

    monkeypatch.setenv("FT2OLLAMA_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "model"
    shutil.copytree(tiny.folder, made, ignore=shutil.ignore_patterns("*token*", "*.jinja"))
    (tmp_path / "corpus.txt").write_text(f"{TEXT} the quick brown fox jumps over a lazy dog\n" * 9)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(made / "tokenizer"),
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (made / "tokenizer_config.json").write_text(json.dumps(settings))
    return made


@pytest.mark.oracle
def test_its_ids_are_those_of_sentencepiece(folder: Path) -> None:
    import sentencepiece

    base = resolve_base(str(folder))
    assert base.tokenizer_folder != folder
    assert not (folder / "tokenizer.json").exists()
    want = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    tokenizer = Tokenizer(base.tokenizer_folder)
    assert tokenizer.encode(TEXT)[0] == want.encode(TEXT)
    assert "</s>" in tokenizer.special
    assert resolve_base(str(folder)).tokenizer_folder == base.tokenizer_folder


def test_a_model_that_is_none_is_told(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read"):
        resolve_base(str(folder))
