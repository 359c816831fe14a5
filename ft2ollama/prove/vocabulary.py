"""Does the served model read texts as the reference does?

In: what is served and the reference.  Out: a `Check`. Token ids decide: those of the server for
plain texts and for the control tokens of the chat template, against the reference's tokenizer. The
file's token table, where it can be read, says why they differ.

Ids of a text without a chat template need a throw-away model whose TEMPLATE is the question alone.
Servers since 0.30 keep one runner per file, whatever the template mode (they would go on rendering
the user's own model with the probe's), so there the numbers of tokens of raw texts are compared.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Sequence

from ft2ollama.errors import UserError
from ft2ollama.prove.findings import WRITE_ANEW, Check, Finding, checked
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served

TEXTS = (
    "The quick brown fox isn't 12345 years old, is it?",
    "你好，世界！今天是２０２６年。",
    "def f(x):\n    return x**2  # 平方\n\n\treturn None",
    "  leading,   inner and trailing  ",
    "naïve café, Ünïcödé → 😀",
)
# The last message alone, whatever SYSTEM and MESSAGE the model has: they cannot be taken away.
_LAST = (
    "{{ range $i, $_ := .Messages }}{{ if eq (len (slice $.Messages $i)) 1 }}{{ .Content }}"
    "{{ end }}{{ end }}"
)
_ONE_RUNNER_SINCE = (0, 30, 0)
_PAD = re.compile(r"\[PAD\d+\]|<unused\d+>|<\|?reserved.*|")
_ORDINARY = 1


def check_tokenizer(served: Served, reference: Reference) -> Check:
    """Plain texts first, control tokens then; the table of the file explains."""
    table = _table(served, reference)
    plain, control = "\n".join(TEXTS), "a".join(("", *_control(reference)))
    for text in (plain, control):
        if not text:
            continue
        wanted, got = _ids(served, reference, text)
        if got != wanted:
            return checked("tokenizer", "", [_fault(served, reference, text, wanted, got, table)])
    if table is not None and table.code == "other-vocabulary":
        return checked("tokenizer", "", [table])
    size = len(served.value("tokenizer.ggml.tokens") or ()) if served.file else 0
    return Check("tokenizer", "ok", f"{len(TEXTS)} texts and the control tokens equal"
                 + (f", {size} tokens" if size else ""))  # fmt: skip


def _control(reference: Reference) -> list[str]:
    """The control tokens that a prompt of the reference holds, and the ends of an answer."""
    text = reference.prompt([{"role": "user", "content": "x"}]) or ""
    special = [token for token in reference.tokenizer.special if token in text]
    return list(dict.fromkeys((*special, *reference.ends)))


def _ids(served: Served, reference: Reference, text: str) -> tuple[list[int], list[int]]:
    """(wanted, got); as numbers of tokens, [n], where the server is not asked for ids."""
    wanted = reference.tokenizer.encode(text)[0]
    if _version(served) < _ONE_RUNNER_SINCE and (got := _probed(served, text)) is not None:
        bos = served.value("tokenizer.ggml.bos_token_id")
        starts = got[:1] == [bos] and wanted[:1] != [bos]
        return wanted, got[1:] if starts else got
    count = served.server.prompt_tokens(served.name, [], raw_text=text)
    adds = served.value("tokenizer.ggml.add_bos_token") is True
    return [len(wanted)], [count - adds]


def _probed(served: Served, text: str) -> list[int] | None:
    probe = f"ft2ollama-probe:{secrets.token_hex(6)}"
    try:
        served.server.create(probe, from_=served.name, template=_LAST)
        return served.server.prompt_ids(probe, [{"role": "user", "content": text}])
    finally:
        with contextlib.suppress(UserError):
            served.server.delete(probe)


def _version(served: Served) -> tuple[int, ...]:
    number = tuple(map(int, re.findall(r"\d+", served.server.version())[:3]))
    return number if any(number) else _ONE_RUNNER_SINCE


def _fault(
    served: Served,
    reference: Reference,
    text: str,
    wanted: Sequence[int],
    got: Sequence[int],
    table: Finding | None,
) -> Finding:
    if table is not None:
        return table
    split = [one for one in _control(reference) if one in text]
    why = _first_difference(reference, wanted, got)
    pre = served.value("tokenizer.ggml.pre")
    if split and text not in "\n".join(TEXTS):
        what = f"{split[0]} is not read as one token"
        return Finding("special-tokens-split", what, why, WRITE_ANEW)
    return Finding(
        "tokenizer",
        "texts are cut into other tokens than in training",
        f"{why}; the file's pre-tokenizer is {pre!r}{_right_pre(served, reference)}",
        WRITE_ANEW,
    )


def _first_difference(reference: Reference, wanted: Sequence[int], got: Sequence[int]) -> str:
    if len(wanted) == len(got) == 1:
        return f"{wanted[0]} tokens in training, {got[0]} served"
    pairs = enumerate(zip(wanted, got, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(wanted), len(got)))
    words = [[reference.tokenizer.text(i) or str(i) for i in ids[at : at + 4]]
             for ids in (wanted, got)]  # fmt: skip
    return f"from token {at + 1} on: trained {words[0]}, served {words[1]}"


def _right_pre(served: Served, reference: Reference) -> str:
    pre = reference.vocabulary.tokens.pre if reference.vocabulary else None
    have = served.value("tokenizer.ggml.pre")
    return f", this model needs {pre!r}" if pre not in (None, have) else ""


def _table(served: Served, reference: Reference) -> Finding | None:
    """Tokens of the file that are others than the reference's, and control tokens that are not."""
    texts, kinds = (
        served.value("tokenizer.ggml.tokens"),
        served.value("tokenizer.ggml.token_type"),
    )
    if served.file is None or not isinstance(texts, list):
        return None
    other = [
        (number, have, want)
        for number, have in enumerate(texts)
        if (want := reference.tokenizer.text(number)) not in (have, None)
        and not _PAD.fullmatch(str(have)) and not _PAD.fullmatch(str(want))
    ]  # fmt: skip
    if other:
        number, have, want = other[0]
        return Finding(
            "other-vocabulary",
            f"{len(other)} of the file's {len(texts)} tokens are not the reference's",
            f"token {number} is {have!r} in the file, {want!r} of the reference",
            WRITE_ANEW,
        )
    if len(texts) < len(reference.tokenizer):
        lost = reference.tokenizer.text(len(texts))
        return Finding(
            "other-vocabulary",
            f"the file lacks tokens: {len(texts)}, the reference has {len(reference.tokenizer)}",
            f"the first that is missing is {lost!r}: tokens that were added for the training",
            WRITE_ANEW,
        )
    ordinary = [one for one in _control(reference) if _is_ordinary(reference, one, kinds)]
    if ordinary:
        return Finding(
            "special-tokens-split",
            f"{ordinary[0]} is an ordinary text in the file, not a control token",
            f"token_type of {', '.join(ordinary)} is {_ORDINARY} (normal): the prompt's turns are "
            "spelt out in pieces that the model has never seen",
            WRITE_ANEW,
        )
    return None


def _is_ordinary(reference: Reference, token: str, kinds: object) -> bool:
    """A control token of the reference that the file calls normal."""
    number = reference.tokenizer.id(token)
    if number is None or token not in reference.tokenizer.special or not isinstance(kinds, list):
        return False
    return number < len(kinds) and kinds[number] == _ORDINARY
