"""Which of llama.cpp's pre-tokenizers does what this tokenizer.json does.

llama.cpp does not read regular expressions from a file: it knows pre-tokenizers by name
(tokenizer.ggml.pre, src/llama-vocab.cpp). Its converter finds the name by hashing the ids of a test
string, so one added BOS makes a known tokenizer unknown. Here the name follows from the structure:
the regular expressions and splits in the file, whatever the vocabulary.
"""

from __future__ import annotations

import json
from typing import Any

from converters.errors import Unsupported
from converters.hf_folder import Config

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
)
_CASED_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_LLAMA3 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_TAIL}"
_TEKKEN = rf"{_CASED % ('', '')}|\p{{N}}|{_CASED_TAIL}"
_GPT4O = rf"{_CASED % ((_CONTRACTIONS + '?',) * 2)}|\p{{N}}{{1,3}}|{_CASED_TAIL}"

_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", "digits")

_DIGITS = frozenset("0123456789")  # the only digits that byte-level text shows as themselves
_BY_STEPS = {
    ("bytes+words",): "gpt-2",
    ("digits", "bytes+words"): "smollm",
    (_LLAMA3, "bytes"): "llama-bpe",
    (_QWEN2, "bytes"): "qwen2",
    (_TEKKEN, "bytes"): "tekken",
    (_GPT4O, "bytes"): "gpt-4o",
    (_QWEN35, "bytes"): "qwen35",
    (*_DEEPSEEK_V3, "bytes"): "deepseek-v3",
    (*_DEEPSEEK_CODER, "bytes"): "deepseek-coder",
}
_MARKS = (
    "the runtime's {} pre-tokenizer splits words at combining marks (Hindi, Thai, ...), "
    "so such text gets other token ids than in training"
)
NOTES = {name: _MARKS.format(name) for name in ("tekken", "gpt-4o")}


def recognise(tokenizer: Config) -> str:
    """The value of tokenizer.ggml.pre for a byte-level BPE tokenizer.json."""
    steps = tuple(_steps(tokenizer.get("pre_tokenizer")))
    name = _BY_STEPS.get(steps)
    if name is None or not _plain_normalizer(tokenizer.get("normalizer")):
        raise Unsupported(
            "the pre-tokenizer of this model is not known",
            "",
            f"pre_tokenizer {_short(tokenizer.get('pre_tokenizer'))}\n"
            f"normalizer {_short(tokenizer.get('normalizer'))}",
            "--pre NAME, with the name llama.cpp gives this family (qwen2, llama-bpe, gpt-2, ...)",
        )
    if name == "gpt-2" and not _joins_digits(tokenizer):
        return "smollm"
    if name == "llama-bpe" and not tokenizer["model"].get("ignore_merges"):
        return "smaug-bpe"
    return name


def _steps(node: Any) -> list[str]:
    """The pre-tokenizer as a list of steps; an unknown one becomes its own JSON."""
    if not isinstance(node, dict):
        return []
    kind = node.get("type")
    if kind == "Sequence":
        return [step for child in node.get("pretokenizers", []) for step in _steps(child)]
    if kind == "ByteLevel" and not node.get("add_prefix_space"):
        return ["bytes+words" if node.get("use_regex", True) else "bytes"]
    if kind == "Digits" and node.get("individual_digits"):
        return ["digits"]
    pattern = node.get("pattern", {})
    if kind == "Split" and node.get("behavior") == "Isolated" and not node.get("invert"):
        return [str(pattern.get("Regex", pattern))]
    return [json.dumps(node)]


def _plain_normalizer(node: Any) -> bool:
    """None, empty, or NFC, which llama.cpp leaves out for all these families."""
    return node is None or node.get("type") == "NFC" or node.get("normalizers") == []


def _joins_digits(tokenizer: Config) -> bool:
    """Whether some token holds a digit together with anything else.

    If none does, splitting digits off first (smollm) and not doing so (gpt-2) give the same ids.
    transformers drops that step when it rebuilds SmolLM's tokenizer from a GGUF file, so the
    vocabulary has to tell; the more specific name is right for both.
    """
    added = {str(token["content"]) for token in tokenizer.get("added_tokens") or []}
    return any(
        len(text) > 1 and not _DIGITS.isdisjoint(text)
        for text in tokenizer["model"]["vocab"]
        if text not in added
    )


def _short(node: Any) -> str:
    text = json.dumps(node, ensure_ascii=False)
    return text if len(text) < 300 else text[:297] + "..."
