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

from converters.errors import ConvertError
from converters.hf_folder import Config, read_json, read_optional_json
from converters.metadata import KV, boolean, f32s, i32s, string, strings, u32
from converters.pretokenizer import NOTES
from converters.vocab_bpe import Tokens, byte_level_tokens
from converters.vocab_spm import byte_fallback_tokens, sentencepiece_tokens

_ID_KEYS = {  # our name -> key; spelling as in gguf-py constants.Keys.Tokenizer
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "pad": "padding_token_id",
    "eot": "eot_token_id",
}
_END_OF_TURN = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>")
_SMOLLM_VOCABULARY = 49152


@dataclass(frozen=True)
class Vocabulary:
    """Everything a GGUF file says about its tokenizer."""

    tokens: Tokens
    ids: Mapping[str, int]
    end_ids: tuple[int, ...] = ()
    add: Mapping[str, bool] = field(default_factory=dict)
    chat_template: str = ""

    def notes(self) -> list[str]:
        """Where the runtime's tokenizer is known to differ from this one."""
        found = (NOTES.get(self.tokens.pre), self.tokens.note)
        return [note for note in found if note]

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
        if tokens.merges:
            out.append(strings("tokenizer.ggml.merges", tokens.merges))
        out += [u32("tokenizer.ggml." + _ID_KEYS[kind], id_) for kind, id_ in self.ids.items()]
        if len(self.end_ids) > 1:  # read by Ollama's engine beside eos_token_id
            out.append(i32s("tokenizer.ggml.eos_token_ids", self.end_ids))
        out += [boolean("tokenizer.ggml." + key, value) for key, value in self.add.items()]
        if self.chat_template:
            out.append(string("tokenizer.chat_template", self.chat_template))
        return out


def read_vocabulary(
    base: Path,
    config: Config,
    *,
    pre: str | None = None,
    chat_template: str | None = None,
    tokenizer_folder: Path | None = None,
) -> Vocabulary:
    """The tokenizer of a model folder; `pre` and `chat_template` replace what the folder says.

    tokenizer_folder: where the tokenizer's own files are, if not in `base`.
    """
    generation = read_optional_json(base / "generation_config.json")
    base = tokenizer_folder or base
    settings = read_optional_json(base / "tokenizer_config.json")
    size = int(config["vocab_size"])
    tokenizer: Config = {}
    if (base / "tokenizer.model").is_file():
        tokens = sentencepiece_tokens(base, settings, size)
    elif (base / "tokenizer.json").is_file():
        tokenizer = read_json(base / "tokenizer.json")
        build = byte_fallback_tokens if _byte_fallback(tokenizer) else byte_level_tokens
        tokens = build(tokenizer, size, pre)
    else:
        raise ConvertError(
            "the base folder has no tokenizer",
            "",
            f"neither tokenizer.json nor tokenizer.model in {base}",
            "save it beside the weights: tokenizer.save_pretrained(folder)",
        )
    template = chat_template if chat_template is not None else read_chat_template(base, settings)
    return Vocabulary(
        tokens,
        _special_ids(tokens, settings, config),
        _end_ids(generation, config, size),
        _added_automatically(tokens, tokenizer, settings, size),
        template,
    )


def read_chat_template(base: Path, settings: Config | None = None) -> str:
    """tokenizer_config.json wins over chat_template.jinja, as in transformers and llama.cpp."""
    if settings is None:
        settings = read_optional_json(base / "tokenizer_config.json")
    found = settings.get("chat_template")
    if isinstance(found, list):  # [{"name": "default", "template": ...}, ...]
        named = {str(entry["name"]): str(entry["template"]) for entry in found}
        found = named.get("default", "")
    if isinstance(found, str):
        return found
    file = base / "chat_template.jinja"
    return file.read_text("utf-8") if file.is_file() else ""


def _byte_fallback(tokenizer: Config) -> bool:
    return bool(tokenizer.get("model", {}).get("byte_fallback"))


def _special_ids(tokens: Tokens, settings: Config, config: Config) -> dict[str, int]:
    """Ids by the token's text in tokenizer_config.json, else by number in config.json."""
    out = {}
    for kind in ("bos", "eos", "unk", "pad"):
        entry = settings.get(f"{kind}_token")
        text = entry.get("content") if isinstance(entry, dict) else entry
        found: Any = tokens.id_of(text) if isinstance(text, str) else None
        if found is None:
            found = config.get(f"{kind}_token_id")
        if isinstance(found, list):
            found = found[0] if found else None
        if isinstance(found, int) and 0 <= found < len(tokens.texts):
            out[kind] = found
    turn_ends = (tokens.id_of(text) for text in _END_OF_TURN)
    eot = next((found for found in turn_ends if found is not None), None)
    if eot is not None and eot != out.get("eos"):
        out["eot"] = eot
    return out


def _end_ids(generation: Config, config: Config, size: int) -> tuple[int, ...]:
    """All ids that end an answer, from generation_config.json first."""
    found = generation.get("eos_token_id", config.get("eos_token_id"))
    ids = found if isinstance(found, list) else [found]
    return tuple(id_ for id_ in ids if isinstance(id_, int) and 0 <= id_ < size)


def _added_automatically(
    tokens: Tokens, tokenizer: Config, settings: Config, size: int
) -> dict[str, bool]:
    """Whether the tokenizer itself puts bos before and eos after a text."""
    add = _from_post_processor(tokenizer)
    for kind in ("bos", "eos"):
        value = settings.get(f"add_{kind}_token")
        if isinstance(value, bool):
            add[f"add_{kind}_token"] = value
    if size == _SMOLLM_VOCABULARY:  # as conversion/llama.py does: SmolLM was trained without bos
        add["add_bos_token"] = False
    prefix = settings.get("add_prefix_space")  # may be there and null
    prefix = prefix if isinstance(prefix, bool) else tokens.add_space_prefix
    if prefix is not None:
        add["add_space_prefix"] = prefix
    return add


def _from_post_processor(tokenizer: Config) -> dict[str, bool]:
    post = tokenizer.get("post_processor")
    steps = post.get("processors", [post]) if isinstance(post, dict) else []
    template = next((s for s in steps if s.get("type") == "TemplateProcessing"), None)
    if not tokenizer:
        return {}
    single = template.get("single", []) if template else []
    return {
        "add_bos_token": bool(single) and "SpecialToken" in single[0],
        "add_eos_token": bool(single) and "SpecialToken" in single[-1],
    }
