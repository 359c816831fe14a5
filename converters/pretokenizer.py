"""Which of llama.cpp's pre-tokenizers does what this tokenizer.json does.

llama.cpp does not read regular expressions from a file: it knows pre-tokenizers by name
(tokenizer.ggml.pre, src/llama-vocab.cpp). Its converter finds the name by hashing the ids of a test
string, so one added BOS makes a known tokenizer unknown. Here the name follows from the structure:
the regular expressions and splits in the file, whatever the vocabulary.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from converters.bpe import whole_words_split
from converters.errors import ConvertError, Unsupported
from converters.hf_folder import Config
from converters.pretokenizer_names import PRE_NAMES
from converters.tokenizer_json import TokenizerJson, steps_of

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
_SEED_CODER = (
    rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
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

# Other spellings of the same thing. A possessive quantifier changes nothing where what follows
# cannot match what it took, and `\s*` before a line break is greedy, so it takes the others too.
_SAME = (
    ("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", _CONTRACTIONS),
    ("'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])", _CONTRACTIONS),
    ("'(?i:[sdmt]|ll|ve|re)", _CONTRACTIONS),
    (r"\p{N}{1}|", r"\p{N}|"),
    ("]?+", "]?"),
    ("++", "+"),
    ("{1,3}+", "{1,3}"),
    ("]*+", "]*"),
    (r"|\s*[\r\n]|", r"|\s*[\r\n]+|"),
)

_DIGITS = frozenset("0123456789")  # the only digits that byte-level text shows as themselves
_BY_STEPS = {  # names; the second where whole words of the vocabulary skip the merges
    ("bytes+words",): ("gpt-2", ""),
    ("digits", "bytes+words"): ("smollm", ""),
    (_LLAMA3, "bytes"): ("smaug-bpe", "llama-bpe"),
    (_QWEN2, "bytes"): ("qwen2", ""),
    (_SEED_CODER, "bytes"): ("seed-coder", ""),
    (_TEKKEN, "bytes"): ("", "tekken"),
    (_GPT4O, "bytes"): ("gpt-4o", ""),
    (_QWEN35, "bytes"): ("qwen35", ""),
    (*_DEEPSEEK_V3, "bytes"): ("deepseek-v3", ""),
    (*_DEEPSEEK_CODER, "bytes"): ("deepseek-coder", ""),
}
_GLM = {"llama-bpe": "glm4", "smaug-bpe": "chatglm-bpe"}
_CASES = (
    "the runtime's {} pre-tokenizer splits words at combining marks (Hindi, Thai, ...) and does "
    "not split them where capitals of other alphabets than A-Z begin: such text gets other token "
    "ids than in training"
)
NOTES = {name: _CASES.format(name) for name in ("tekken", "gpt-4o")}
NOTES["deepseek-coder"] = (
    "the runtime's deepseek-coder pre-tokenizer does not split at white space beyond ASCII (such "
    "as U+3000 and U+2028): text around it may get other token ids than in training"
)
NFC_NOTE = (
    "in training, letters written with separate accents are composed first (NFC); the runtime does "
    "not do it: such text gets other token ids"
)


@dataclass(frozen=True)
class PreTokenizer:
    """A name for tokenizer.ggml.pre, and where the runtime is known to differ."""

    name: str
    notes: tuple[str, ...] = ()


def recognise(tokenizer: TokenizerJson) -> PreTokenizer:
    """The pre-tokenizer of a byte-level BPE tokenizer; Unsupported if llama.cpp has none."""
    steps = tuple(_step(node) for node in steps_of(tokenizer.pre_tokenizer, "pretokenizers"))
    names = _BY_STEPS.get(steps)
    normalizers = [str(node.get("type")) for node in steps_of(tokenizer.normalizer, "normalizers")]
    if names is None or not set(normalizers) <= {"NFC"}:
        raise Unsupported(
            "the pre-tokenizer of this model is not known",
            "",
            f"pre_tokenizer {_short(tokenizer.pre_tokenizer)}\n"
            f"normalizer {_short(tokenizer.normalizer)}",
            "--pre NAME, with the name llama.cpp gives this family (qwen2, llama-bpe, gpt-2, ...)",
        )
    name = names[tokenizer.ignore_merges] or names[not tokenizer.ignore_merges]
    notes = [NOTES[name]] if name in NOTES else []
    notes += [NFC_NOTE] if normalizers else []
    if not names[tokenizer.ignore_merges]:
        notes += _merge_notes(tokenizer, name)
    return PreTokenizer(_specific(name, tokenizer), tuple(notes))


def named(name: str) -> PreTokenizer:
    """Check a name that a person gave: llama.cpp refuses to load a file with one unknown to it."""
    if name in PRE_NAMES:
        return PreTokenizer(name, (NOTES[name],) if name in NOTES else ())
    near = difflib.get_close_matches(name.lower(), PRE_NAMES, 3, 0.5)
    raise ConvertError(
        f"llama.cpp has no pre-tokenizer named {name!r}",
        "",
        "it knows " + ", ".join(PRE_NAMES),
        f"--pre {near[0]}" + (f" (or {', '.join(near[1:])})" if near[1:] else "")
        if near
        else "--pre with one of these names",
    )


def _specific(name: str, tokenizer: TokenizerJson) -> str:
    """The name for this family where several names split alike.

    GLM-4's token `[gMASK]` tells: its names differ from Llama 3's in having no BOS by default.
    """
    if name in _GLM and any(token.text == "[gMASK]" for token in tokenizer.added):
        return _GLM[name]
    if name == "gpt-2" and not _joins_digits(tokenizer):
        return "smollm"
    return name


def _merge_notes(tokenizer: TokenizerJson, name: str) -> Iterator[str]:
    """Whether it matters that file and runtime disagree on looking whole words up first."""
    split = whole_words_split(tokenizer)
    if split:
        yield (
            f"{len(split)} tokens (such as {split[0]!r}) are whole words that the merges do not "
            f"lead to; training {'takes' if tokenizer.ignore_merges else 'does not take'} them for "
            f"such words, the runtime's {name} pre-tokenizer does it the other way round"
        )


def _step(node: Config) -> str:
    """A step of the pre-tokenizer by a short name; an unknown one is its own JSON."""
    kind = node.get("type")
    if kind == "ByteLevel" and not node.get("add_prefix_space"):
        return "bytes+words" if node.get("use_regex", True) else "bytes"
    if kind == "Digits" and node.get("individual_digits"):
        return "digits"
    regex = _regex(node) if kind == "Split" else None
    return _short(node) if regex is None else regex


def _regex(node: Config) -> str | None:
    """The expression of a split that keeps every piece on its own.

    Removing what lies between the matches is the same, for an expression that matches everything.
    """
    pattern = node.get("pattern")
    if not isinstance(pattern, dict):
        return None
    regex = pattern.get("Regex")
    if not isinstance(regex, str):
        return None
    for other, usual in _SAME:
        regex = regex.replace(other, usual)
    how = (node.get("behavior"), bool(node.get("invert")))
    covers_all = regex.endswith(r"|\s+")
    return (
        regex if how == ("Isolated", False) or (covers_all and how == ("Removed", True)) else None
    )


def _joins_digits(tokenizer: TokenizerJson) -> bool:
    """Whether some token holds a digit together with anything else.

    If none does, splitting digits off first (smollm) and not doing so (gpt-2) give the same ids.
    transformers drops that step when it rebuilds SmolLM's tokenizer from a GGUF file, so the
    vocabulary has to tell; the more specific name is right for both.
    """
    added = {token.text for token in tokenizer.added}
    return any(
        len(text) > 1 and not _DIGITS.isdisjoint(text)
        for text in tokenizer.vocab
        if text not in added
    )


def _short(node: Config) -> str:
    text = json.dumps(node or None, ensure_ascii=False)
    return text if len(text) < 300 else text[:297] + "..."
