"""Whether a SentencePiece text gets a leading space, and where the runtime does it differently.

llama.cpp has one switch (tokenizer.ggml.add_space_prefix): a space before every stretch of text
that does not follow other text, so at the start and after each special token. That is what the
"Prepend" normalizer of older tokenizer.json files does; transformers 5 has other ways.
"""

from __future__ import annotations

from dataclasses import dataclass

from gguf.constants import TokenType

from converters.hf_folder import Config
from converters.sentencepiece_file import SentencePieceModel
from converters.token_table import Tokens
from converters.tokenizer_json import TokenizerJson, steps_of

FIRST_OFF = (
    "this tokenizer puts a space before a text only at its very start, the runtime after each "
    "special token too; it is told to put none, which is right for the prompts of the chat "
    "template: a bare text without one gets another first token"
)
FIRST_ON = (
    "this tokenizer puts a space before a text only at its very start; the runtime puts one after "
    "each special token too: such prompts get other token ids"
)
ALWAYS = (
    "this tokenizer puts a space before a text only where none is; the runtime puts one always: "
    "text that begins with a space gets other token ids"
)


@dataclass(frozen=True)
class SpacePrefix:
    """The value of the switch, and what it cannot express."""

    add: bool
    notes: tuple[str, ...] = ()


def space_prefix(
    tokenizer: TokenizerJson | None,
    model: SentencePieceModel | None,
    settings: Config,
    config: Config,
    tokens: Tokens,
    chat_template: str,
) -> SpacePrefix:
    """The closest setting to what transformers does with this folder."""
    scheme = _scheme(tokenizer, model, settings, config)
    if scheme == "first":
        prompts = _starts_with_special(chat_template, tokens)
        return SpacePrefix(not prompts, (FIRST_OFF if prompts else FIRST_ON,))
    if scheme == "always":
        return SpacePrefix(True, (ALWAYS,))
    return SpacePrefix(scheme == "prepend")


def _scheme(
    tokenizer: TokenizerJson | None,
    model: SentencePieceModel | None,
    settings: Config,
    config: Config,
) -> str:
    if tokenizer is None:
        default = model is None or model.add_dummy_prefix
        prefix = settings.get("add_prefix_space")
        return "prepend" if (prefix if isinstance(prefix, bool) else default) else "never"
    if _rebuilt(settings, config):
        if settings.get("add_prefix_space") is False:
            return "never"
        return "always" if settings.get("legacy") else "first"
    for step in steps_of(tokenizer.normalizer, "normalizers"):
        if step.get("type") == "Prepend":
            return "prepend"
    for step in steps_of(tokenizer.pre_tokenizer, "pretokenizers"):
        if step.get("type") == "Metaspace":
            return str(step.get("prepend_scheme", "always"))
    return "never"


def _rebuilt(settings: Config, config: Config) -> bool:
    """transformers 5 builds Llama's tokenizer anew from vocabulary and merges, by its own rules."""
    named = str(settings.get("tokenizer_class", "")).removesuffix("Fast") == "LlamaTokenizer"
    return named and config.get("model_type") == "llama"


def _starts_with_special(chat_template: str, tokens: Tokens) -> bool:
    """Chat templates that write special tokens begin with one: bos, or the opening of a turn."""
    if "bos_token" in chat_template:
        return True
    control = int(TokenType.CONTROL)
    texts = (text for text, kind in zip(tokens.texts, tokens.types, strict=True) if kind == control)
    return any(text in chat_template for text in texts)
