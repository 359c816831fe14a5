"""tokenizer.json -> a checked BPE model: vocabulary, merges, added tokens and the steps around it.

A broken file is refused here, with everything that is wrong with it, so that the code behind can
index and look up freely. Format: the serialization of the `tokenizers` library (model type "BPE").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from converters.errors import ConvertError, Unsupported
from converters.hf_folder import Config, read_json

MAX_ROWS = 1 << 22  # the largest vocabularies have 2^18 tokens; a header may say anything
_SHOWN = 3
_AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")

Merge = tuple[str, str]


@dataclass(frozen=True)
class AddedToken:
    """A token that is looked for in the text before anything else."""

    id: int
    text: str
    special: bool = False
    normalized: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


@dataclass(frozen=True)
class TokenizerJson:
    """A BPE tokenizer. vocab: text -> id; merges: best first."""

    vocab: Mapping[str, int]
    merges: Sequence[Merge]
    added: Sequence[AddedToken] = ()
    unknown: str | None = None
    byte_fallback: bool = False
    ignore_merges: bool = False
    normalizer: Config = field(default_factory=dict)
    pre_tokenizer: Config = field(default_factory=dict)
    post_processor: Config = field(default_factory=dict)


def read_tokenizer_json(path: Path) -> TokenizerJson:
    """Read and check a file; ConvertError says everything that is wrong with it."""
    return parse_tokenizer_json(read_json(path))


def parse_tokenizer_json(content: Config) -> TokenizerJson:
    """Check the content of a tokenizer.json: a ConvertError lists every problem."""
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type") not in (None, "BPE"):
        kind = model.get("type") if isinstance(model, dict) else model
        raise Unsupported(
            "the tokenizer is not BPE", "", f"tokenizer.json has model type {str(kind)[:80]!r}"
        )
    if any(model.get(key) for key in _AFFIXES):
        raise Unsupported(
            "the tokenizer marks words in a way llama.cpp does not",
            "",
            ", ".join(f"{key} {str(model[key])[:40]!r}" for key in _AFFIXES if model.get(key)),
        )
    added = added_tokens(content.get("added_tokens"))
    problems = [*_vocab_problems(model.get("vocab"))]
    merges: list[Merge] = []
    if not problems:
        merges, bad = _merges(model.get("merges"), model["vocab"])
        problems += [*bad, *_misplaced(added, model["vocab"])]
    if problems:
        raise ConvertError("tokenizer.json is broken", "", "\n".join(problems), _FIX)
    return TokenizerJson(
        vocab=model["vocab"],
        merges=merges,
        added=added,
        unknown=model["unk_token"] if isinstance(model.get("unk_token"), str) else None,
        byte_fallback=bool(model.get("byte_fallback")),
        ignore_merges=bool(model.get("ignore_merges")),
        **{key: _part(content, key) for key in ("normalizer", "pre_tokenizer", "post_processor")},
    )


_FIX = "take tokenizer.json from the model this one was made of, or save it again with transformers"


def added_tokens(entries: Any) -> list[AddedToken]:
    """The `added_tokens` list of tokenizer.json: id, content and flags per entry."""
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise ConvertError("tokenizer.json is broken", "", "added_tokens is not a list", _FIX)
    bad = [entry for entry in entries if not _sound(entry)]
    if bad:
        why = f"{len(bad)} added tokens without a sound id and content, as {str(bad[0])[:120]}"
        raise ConvertError("tokenizer.json is broken", "", why, _FIX)
    return [added_token(entry["id"], entry) for entry in entries]


def added_token(id_: int, entry: Config) -> AddedToken:
    """One entry of `added_tokens` or `added_tokens_decoder`."""
    flags = ("special", "normalized", "lstrip", "rstrip", "single_word")
    return AddedToken(id_, entry["content"], **{flag: bool(entry.get(flag)) for flag in flags})


def _sound(entry: Any) -> bool:
    return isinstance(entry, dict) and is_id(entry.get("id")) and _is_text(entry.get("content"))


def is_id(value: Any) -> bool:
    """Whether it can be a token id (True is an int in Python, but no id)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_ROWS


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and encodable(value)


def encodable(text: str) -> bool:
    """Whether the text is Unicode: JSON can smuggle in lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _vocab_problems(vocab: Any) -> Iterator[str]:
    if not isinstance(vocab, dict) or not vocab:
        yield "model.vocab is not a table of tokens"
        return
    yield from _listed(
        "ids that are no token id", (t for t, id_ in vocab.items() if not is_id(id_))
    )
    yield from _listed("tokens that are not Unicode text", (t for t in vocab if not encodable(t)))
    by_id: dict[Any, str] = {}
    for text, id_ in vocab.items():
        if isinstance(id_, int):
            by_id.setdefault(id_, text)
    twice = (t for t, id_ in vocab.items() if isinstance(id_, int) and by_id[id_] != t)
    yield from _listed("tokens that share their id with another", twice)


def _misplaced(added: Sequence[AddedToken], vocab: Mapping[str, int]) -> Iterator[str]:
    """`tokenizers` does not read the ids of added tokens: it counts on from the vocabulary.

    The ids in a sound file say the same; in another one training had other ids than it says.
    """
    given = dict(vocab)
    following = len(vocab)
    for token in added:
        if token.text not in given:
            given[token.text] = following
            following += 1
    wrong = (f"{t.text} ({t.id}, not {given[t.text]})" for t in added if given[t.text] != t.id)
    yield from _listed("added tokens whose id is not what loading the file gives", wrong)
    by_id = {id_: text for text, id_ in vocab.items()}
    other = (f"{t.text} ({t.id})" for t in added if by_id.get(t.id, t.text) != t.text)
    yield from _listed("added tokens that have the id of another token", other)


def _merges(entries: Any, vocab: Mapping[str, int]) -> tuple[list[Merge], list[str]]:
    if not isinstance(entries, list):
        return [], ["model.merges is missing or not a list"]
    pairs = [
        _pair(entry)
        for entry in entries
        if not (isinstance(entry, str) and entry.startswith("#version"))
    ]
    merges = [pair for pair in pairs if pair is not None]
    problems = [f"{len(pairs) - len(merges)} merges are not two tokens"] * (
        len(merges) < len(pairs)
    )
    unknown = (
        f"{a} + {b}" for a, b in merges if a not in vocab or b not in vocab or a + b not in vocab
    )
    problems += _listed("merges that name tokens the vocabulary does not have", unknown)
    return merges, problems


def _pair(entry: Any) -> Merge | None:
    """`a b`, or [a, b], whose parts may hold spaces."""
    parts = entry.split(" ") if isinstance(entry, str) else entry
    if not isinstance(parts, list) or len(parts) != 2:
        return None
    a, b = parts
    return (a, b) if isinstance(a, str) and isinstance(b, str) and a and b else None


def _listed(what: str, found: Iterator[str]) -> Iterator[str]:
    shown = list(islice(found, _SHOWN))
    if shown:
        more = sum(1 for _ in found)
        names = ", ".join(repr(text[:60]) for text in shown)
        yield f"{what}: {names}" + (f" and {more} more" if more else "")


def _part(content: Config, key: str) -> Config:
    found = content.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConvertError("tokenizer.json is broken", "", f"{key} is not an object", _FIX)
    return found


def steps_of(node: Any, children: str, depth: int = 0) -> list[Config]:
    """A normalizer, pre-tokenizer or post-processor as a flat list of its steps.

    children: "normalizers", "pretokenizers" or "processors". Files nest sequences; a few levels.
    """
    if not isinstance(node, dict) or not node or depth > 8:
        return []
    if node.get("type") != "Sequence":
        return [node]
    nested = node.get(children)
    parts = nested if isinstance(nested, list) else []
    return [step for part in parts for step in steps_of(part, children, depth + 1)]
