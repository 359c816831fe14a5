"""Tokenizer files of a model folder -> tokenizer.ggml.* metadata.

In: tokenizer.json or tokenizer.model, tokenizer_config.json, config.json, generation_config.json.
Out: one `Vocabulary`, with exactly as many tokens as the embedding has rows. Choice as in
llama.cpp conversion/llama.py (LlamaModel.set_vocab): SentencePiece, else BPE with byte fallback
(model "llama"), else byte-level BPE (model "gpt2").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.chat_template import read_chat_template, read_chat_templates
from converters.errors import ConvertError
from converters.hf_folder import Config, read_optional_json
from converters.metadata import KV, boolean, f32s, i32s, string, strings, u32
from converters.sentencepiece_file import SentencePieceModel, read_sentencepiece
from converters.space_prefix import space_prefix
from converters.special_ids import ID_KEYS, added_automatically, special_ids
from converters.token_table import Tokens
from converters.tokenizer_json import (
    AddedToken,
    TokenizerJson,
    added_token,
    added_tokens,
    read_tokenizer_json,
)
from converters.vocab_bpe import byte_level_tokens
from converters.vocab_spm import byte_fallback_tokens, sentencepiece_tokens

__all__ = ["Vocabulary", "read_chat_template", "read_chat_templates", "read_vocabulary"]


@dataclass(frozen=True)
class Vocabulary:
    """Everything a GGUF file says about its tokenizer."""

    tokens: Tokens
    ids: Mapping[str, int]
    end_ids: tuple[int, ...] = ()
    add: Mapping[str, bool] = field(default_factory=dict)
    chat_template: str = ""
    named_templates: Mapping[str, str] = field(default_factory=dict)
    other_notes: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """Where the runtime's tokenizer is known to differ from this one."""
        return [*self.tokens.notes, *self.other_notes]

    def pairs(self) -> list[KV]:
        """The tokenizer.* pairs."""
        tokens = self.tokens
        out = [
            string("tokenizer.ggml.model", tokens.model),
            string("tokenizer.ggml.pre", tokens.pre),
            strings("tokenizer.ggml.tokens", tokens.texts),
            i32s("tokenizer.ggml.token_type", tokens.types),
        ]
        if tokens.scores:
            out.append(f32s("tokenizer.ggml.scores", tokens.scores))
        if tokens.model == "gpt2":  # llama.cpp wants the key even where there is nothing to merge
            out.append(strings("tokenizer.ggml.merges", tokens.merges))
        out += [u32("tokenizer.ggml." + ID_KEYS[kind], id_) for kind, id_ in self.ids.items()]
        if len(self.end_ids) > 1:  # read by Ollama's engine beside eos_token_id
            out.append(i32s("tokenizer.ggml.eos_token_ids", self.end_ids))
        out += [boolean("tokenizer.ggml." + key, value) for key, value in self.add.items()]
        return out + self._template_pairs()

    def _template_pairs(self) -> list[KV]:
        out = [string("tokenizer.chat_template", self.chat_template)] if self.chat_template else []
        if self.named_templates:  # keys as in gguf-py add_chat_template
            out.append(strings("tokenizer.chat_templates", sorted(self.named_templates)))
        return out + [
            string(f"tokenizer.chat_template.{name}", text)
            for name, text in sorted(self.named_templates.items())
        ]


def read_vocabulary(
    base: Path,
    config: Config,
    *,
    pre: str | None = None,
    chat_template: str | None = None,
    add_bos: bool | None = None,
    tokenizer_folder: Path | None = None,
) -> Vocabulary:
    """The tokenizer of a model folder; pre, chat_template and add_bos replace what it says.

    tokenizer_folder: where the tokenizer's own files are, if not in `base`.
    ConvertError (or Unsupported, DoesNotFit) if a file is broken, llama.cpp has no such tokenizer,
    or there are more tokens than config["vocab_size"], the rows of the embedding.
    """
    generation = read_optional_json(base / "generation_config.json")
    base = tokenizer_folder or base
    settings = read_optional_json(base / "tokenizer_config.json")
    templates = read_chat_templates(base, settings)
    default = templates.pop("default", "")
    if chat_template is not None:
        default, templates = chat_template, {}
    source = _source(base)
    tokens = _tokens(base, source, settings, config, pre)
    special = special_ids(tokens, settings, config, generation)
    add = added_automatically(source.tokenizer, settings, special.ids, add_bos)
    notes = special.notes
    if tokens.model == "llama":
        prefix = space_prefix(source.tokenizer, source.model, settings, config, tokens, default)
        add["add_space_prefix"] = prefix.add
        notes += prefix.notes
    return Vocabulary(tokens, special.ids, special.ends, add, default, templates, notes)


@dataclass(frozen=True)
class _Source:
    """The two forms a tokenizer comes in; at least one is there."""

    tokenizer: TokenizerJson | None
    model: SentencePieceModel | None


def _source(base: Path) -> _Source:
    """The SentencePiece model gives exact scores, but tokenizer.json is what trainers load.

    So the model counts only where tokenizer.json is the same vocabulary, or is not there: a
    byte-level tokenizer.json may lie beside a tokenizer.model that is not SentencePiece at all.
    """
    json_path, model_path = base / "tokenizer.json", base / "tokenizer.model"
    tokenizer = read_tokenizer_json(json_path) if json_path.is_file() else None
    if tokenizer is None and not model_path.is_file():
        hint = "tekken.json" if (base / "tekken.json").is_file() else ""
        raise ConvertError(
            "the base folder has no tokenizer",
            "",
            f"neither tokenizer.json nor tokenizer.model in {base}"
            + (f" ({hint} alone has no merges)" if hint else ""),
            "save it beside the weights: tokenizer.save_pretrained(folder)",
        )
    if not model_path.is_file() or (tokenizer is not None and not tokenizer.byte_fallback):
        return _Source(tokenizer, None)
    if tokenizer is None:
        return _Source(None, read_sentencepiece(model_path))
    try:
        model = read_sentencepiece(model_path)
    except ConvertError:
        return _Source(tokenizer, None)
    return _Source(tokenizer, model if _agree(tokenizer, model) else None)


def _agree(tokenizer: TokenizerJson, model: SentencePieceModel) -> bool:
    added = {token.text for token in tokenizer.added}
    return all(
        text in added or (id_ < len(model.pieces) and model.pieces[id_].text == text)
        for text, id_ in tokenizer.vocab.items()
    )


def _tokens(
    base: Path, source: _Source, settings: Config, config: Config, pre: str | None
) -> Tokens:
    size: Any = config.get("vocab_size")
    if source.tokenizer is not None and not source.tokenizer.byte_fallback:
        return byte_level_tokens(source.tokenizer, size, pre)
    if pre:
        raise ConvertError(
            "a SentencePiece vocabulary has no pre-tokenizer", "", f"--pre {pre}", "leave out --pre"
        )
    if source.model is not None:
        return sentencepiece_tokens(source.model, _all_added(base, settings, source), size)
    assert source.tokenizer is not None
    return byte_fallback_tokens(source.tokenizer, size)


def _all_added(base: Path, settings: Config, source: _Source) -> list[AddedToken]:
    """Tokens added after training; which of the three files has them depends on who saved."""
    plain = read_optional_json(base / "added_tokens.json")
    decoder = settings.get("added_tokens_decoder")
    entries = decoder.items() if isinstance(decoder, dict) else ()
    numbered = [
        {**entry, "id": int(id_)}
        for id_, entry in entries
        if id_.isdecimal() and isinstance(entry, dict)
    ]
    older = [AddedToken(token.id, token.text) for token in added_tokens(_entries(plain))]
    listed = source.tokenizer.added if source.tokenizer else ()
    newer = [added_token(token["id"], token) for token in numbered if added_tokens([token])]
    by_id = {token.id: token for token in (*older, *newer, *listed)}
    return list(by_id.values())


def _entries(plain: Config) -> list[Config]:
    return [{"content": text, "id": id_} for text, id_ in plain.items()]
