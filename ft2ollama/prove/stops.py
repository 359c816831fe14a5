"""What ends an answer: stop words of the Modelfile, end tokens of the file, and what was taught.

llama.cpp ends an answer at the file's eos, eot and eom tokens and at a list of known texts
(`converters.special_ids`); Ollama's own engine goes by the ids; both by PARAMETER stop. The token
that the chat template writes after an answer is what the model learned to end with: where nothing
of these names it, the model talks on, as the user, for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from converters.special_ids import ends_by_text
from ft2ollama.prove.findings import Check, Finding, checked, set_key
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served

_IDS = ("eos", "eot", "eom")
_ORDINARY = 1  # token type NORMAL of a GGUF file


def check_stops(served: Served, reference: Reference) -> Check:
    """A missing stop word, a wrong end token in the file, a stop word that cuts answers short."""
    found = [*_cutting(served), *_wrong_end(served, reference)]
    if not found:
        found = list(_missing(served, reference))
    if not reference.ends:
        return Check("stop words", "unknown", "the reference does not say what ends an answer")
    by = "PARAMETER stop" if _in_stop(served, reference.ends[0]) else "the file's end tokens"
    if reference.ends[0] not in _by_id(served, reference) and by != "PARAMETER stop":
        by = "llama.cpp's list of end tokens; PARAMETER stop would say it to every engine"
    return checked("stop words", f"{reference.ends[0]} ends an answer, by {by}", found)


def _missing(served: Served, reference: Reference) -> Iterator[Finding]:
    known = {*_by_id(served, reference), *ends_by_text(_Vocabulary(served, reference))}
    for end in reference.ends:
        if not _in_stop(served, end) and end not in known:
            taught = "the training" if end == reference.turn_end else "the model's own settings"
            have = ", ".join(served.stop) or "none"
            yield Finding(
                "stop-missing",
                f"nothing ends an answer at {end}: the model talks on",
                f"{taught} ends an answer with it; PARAMETER stop: {have}; the file's end tokens: "
                f"{', '.join(_by_id(served, reference)) or 'none'}",
                f"PARAMETER stop {end}     # in the Modelfile below",
            )
            return


def _wrong_end(served: Served, reference: Reference) -> Iterator[Finding]:
    """eos_token_id of the file is not an end of the reference's."""
    number = served.value("tokenizer.ggml.eos_token_id")
    text = _token(served, reference, number)
    if not isinstance(number, int) or not reference.ends or text in reference.ends:
        return
    if _ordinary(served, number):
        what = f"answers break off at {text!r}, an ordinary token that the file calls eos"
    elif _in_stop(served, reference.ends[0]) or reference.ends[0] in _by_id(served, reference):
        return
    else:
        what = f"the file ends answers at {text!r}, the model was taught {reference.ends[0]!r}"
    right = reference.tokenizer.id(reference.ends[0])
    yield Finding(
        "wrong-end",
        what,
        f"tokenizer.ggml.eos_token_id is {number}, of the reference {right} {reference.ends[0]!r}",
        set_key(served.shown.blob, "tokenizer.ggml.eos_token_id", right),
    )


def _cutting(served: Served) -> Iterator[Finding]:
    """Stop words that stand in every answer."""
    for word in served.stop:
        if not word.strip() or (len(word) == 1 and word.isascii()):
            yield Finding(
                "stop-cuts",
                f"answers break off at {word!r}",
                f"PARAMETER stop {word!r} is a text that ordinary answers hold",
                "the Modelfile below has the stop words of the model",
            )


def _in_stop(served: Served, end: str) -> bool:
    return any(word and word in end for word in served.stop)


def _by_id(served: Served, reference: Reference) -> list[str]:
    """Texts of the file's end tokens."""
    ids = [served.value(f"tokenizer.ggml.{kind}_token_id") for kind in _IDS]
    more = served.value("tokenizer.ggml.eos_token_ids")
    ids += more if isinstance(more, list) else []
    texts = (_token(served, reference, one) for one in ids)
    return list(dict.fromkeys(text for text in texts if text))


def _token(served: Served, reference: Reference, number: object) -> str:
    """The text of a token, by the file where it is readable."""
    if not isinstance(number, int):
        return ""
    texts = served.value("tokenizer.ggml.tokens") if served.file else None
    if isinstance(texts, list):
        return str(texts[number]) if number < len(texts) else ""
    return reference.tokenizer.text(number) or ""


def _ordinary(served: Served, number: int) -> bool:
    kinds: Sequence[int] | None = served.value("tokenizer.ggml.token_type") if served.file else None
    return isinstance(kinds, list) and number < len(kinds) and kinds[number] == _ORDINARY


class _Vocabulary:
    """Is a text one token of the served model?"""

    def __init__(self, served: Served, reference: Reference) -> None:
        texts = served.value("tokenizer.ggml.tokens") if served.file else None
        self._texts = frozenset(texts) if isinstance(texts, list) else None
        self._tokenizer = reference.tokenizer

    def __contains__(self, text: object) -> bool:
        if self._texts is not None:
            return text in self._texts
        return self._tokenizer.id(str(text)) is not None
