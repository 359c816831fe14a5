"""Which ids begin a text, end an answer, pad; and what the tokenizer adds by itself.

llama.cpp takes one id per role from the file, and counts as the end of an answer the ids of the
roles eos, eot and eom plus every token of a list of known texts (src/llama-vocab.cpp,
special_eog_ids). Lists of ids, as config.json and generation_config.json have them, it cannot read;
here each of them gets a role, so that every one stops an answer.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.errors import ConvertError
from converters.hf_folder import Config
from converters.token_table import Tokens
from converters.tokenizer_json import TokenizerJson, steps_of

ID_KEYS = {  # our name -> key; spelling as in gguf-py constants.Keys.Tokenizer
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "pad": "padding_token_id",
    "eot": "eot_token_id",
    "eom": "eom_token_id",
}
_END_OF_TURN = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>")
_END_OF_MESSAGE = ("<|eom_id|>",)
_KNOWN_ENDS = """
    <|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn>
    <|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance>
    <eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~[
"""
_ENDS_BY_TEXT = frozenset(_KNOWN_ENDS.split())
# In these two vocabularies llama.cpp takes the second back: it ends a part of an answer.
_NOT_AFTER_ALL = (
    ({"<|return|>", "<|call|>"}, "<|end|>"),
    ({"<|calls|>", "<|flush|>"}, "<|end|>"),
    ({"<|tool_response>"}, "</s>"),
)


@dataclass(frozen=True)
class SpecialIds:
    """ids: role -> id, for ID_KEYS. ends: every id that ends an answer, eos first."""

    ids: Mapping[str, int]
    ends: tuple[int, ...]
    notes: tuple[str, ...] = ()


def special_ids(tokens: Tokens, settings: Config, config: Config, generation: Config) -> SpecialIds:
    """Roles by the token's text in tokenizer_config.json, else by number in config.json.

    ConvertError if no token ends an answer: the runtime would take id 11 for it, whatever that is.
    """
    ids = {}
    for kind in ("bos", "eos", "unk", "pad"):
        found = _by_text(tokens, settings.get(f"{kind}_token"))
        numbers = _ids(config.get(f"{kind}_token_id"), tokens)
        if found is None and numbers:
            found = numbers[0]
        if found is not None:
            ids[kind] = found
    listed = _ids(generation.get("eos_token_id"), tokens) or _ids(
        config.get("eos_token_id"), tokens
    )
    if "eos" not in ids and listed:
        ids["eos"] = listed[0]
    if "eos" not in ids:
        raise ConvertError(
            "no token ends an answer",
            "",
            "neither tokenizer_config.json (eos_token) nor config.json (eos_token_id) names one",
            'add "eos_token": "..." to tokenizer_config.json',
        )
    ends = tuple(dict.fromkeys(listed or [ids["eos"]]))
    roles, left = _end_roles(tokens, ids["eos"], ends)
    return SpecialIds(ids | roles, ends, _left_notes(tokens, left))


def _end_roles(
    tokens: Tokens, eos: int, ends: Sequence[int]
) -> tuple[dict[str, int], Sequence[int]]:
    """eot and eom: first the ends that llama.cpp would not know, then the usual ones by text."""
    known = _known_ends(tokens)
    unknown = [id_ for id_ in ends if id_ != eos and id_ not in known]
    roles = dict(zip(("eot", "eom"), unknown, strict=False))
    for kind, texts in (("eot", _END_OF_TURN), ("eom", _END_OF_MESSAGE)):
        usual = [id_ for id_ in map(tokens.id_of, texts) if id_ in known]
        free = [id_ for id_ in usual if id_ is not None and id_ not in (eos, *roles.values())]
        if kind not in roles and free:
            roles[kind] = free[0]
    return roles, unknown[2:]


def _known_ends(tokens: Tokens) -> set[int]:
    return {tokens.ids[text] for text in ends_by_text(tokens.ids)}


def ends_by_text(vocabulary: Container[str]) -> set[str]:
    """The tokens of a vocabulary at which llama.cpp ends an answer, whatever the file says."""
    texts = {text for text in _ENDS_BY_TEXT if text in vocabulary}
    for both, taken_back in _NOT_AFTER_ALL:
        if both <= texts:
            texts.discard(taken_back)
    return texts


def _left_notes(tokens: Tokens, left: Sequence[int]) -> tuple[str, ...]:
    if not left:
        return ()
    names = ", ".join(repr(tokens.texts[id_]) for id_ in left)
    return (f"a GGUF file has no room for more ends: {names} must be stop texts at run time",)


def _by_text(tokens: Tokens, entry: Any) -> int | None:
    text = entry.get("content") if isinstance(entry, dict) else entry
    return tokens.id_of(text) if isinstance(text, str) else None


def _ids(found: Any, tokens: Tokens) -> list[int]:
    """The ids that a number or a list names; what is not in the vocabulary cannot occur."""
    entries = found if isinstance(found, list) else [found]
    return [
        id_
        for id_ in entries
        if isinstance(id_, int) and not isinstance(id_, bool) and 0 <= id_ < len(tokens.texts)
    ]


def added_automatically(
    tokenizer: TokenizerJson | None, settings: Config, ids: Mapping[str, int], add_bos: bool | None
) -> dict[str, bool]:
    """add_bos_token and add_eos_token: whether the tokenizer puts them around a text by itself.

    The post-processor of tokenizer.json decides, as in transformers and llama.cpp (gguf-py
    SpecialVocab); without one tokenizer_config.json does. add_bos overrides both. ConvertError
    if a token is to be added that the folder does not name (llama.cpp would stop the process).
    """
    if tokenizer is not None and tokenizer.post_processor:
        add = _by_template(tokenizer)
    else:  # a bare tokenizer.model is Llama's, which begins with bos
        default = tokenizer is None and "bos" in ids
        add = {
            "bos": _flag(settings, "add_bos_token", default=default),
            "eos": _flag(settings, "add_eos_token", default=False),
        }
    if add_bos is not None:
        add["bos"] = add_bos
    for kind, wanted in add.items():
        if wanted and kind not in ids:
            raise ConvertError(
                f"the tokenizer adds a {kind} token, but the folder does not say which it is",
                "",
                f"tokenizer_config.json has no {kind}_token that is in the vocabulary",
                f'add "{kind}_token": "..." to tokenizer_config.json',
            )
    return {f"add_{kind}_token": wanted for kind, wanted in add.items()}


def _flag(settings: Config, key: str, *, default: bool) -> bool:
    value = settings.get(key)
    return value if isinstance(value, bool) else default


def _by_template(tokenizer: TokenizerJson) -> dict[str, bool]:
    steps = steps_of(tokenizer.post_processor, "processors")
    singles = [step.get("single") for step in steps if step.get("type") == "TemplateProcessing"]
    parts = next((single for single in singles if isinstance(single, list)), [])
    kinds = ["bos" if isinstance(p, dict) and "SpecialToken" in p else "text" for p in parts]
    return {"bos": kinds[:1] == ["bos"], "eos": len(kinds) > 1 and kinds[-1] == "bos"}
