"""Why the served prompts are not those of the reference: the first cause that explains them.

In: prompts of both sides.  Out: a `Check` with at most one fault of the template itself, because
one wrong template makes every prompt differ; and one of the tools, which may be lost by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from ft2ollama.chat_jinja import render_jinja
from ft2ollama.errors import UsageError
from ft2ollama.families import families
from ft2ollama.proof.differences import marked, text_difference
from ft2ollama.prove.findings import Check, Finding, checked
from ft2ollama.prove.prompts import FIRST_QUESTION, SYSTEM_TEXT, Prompt
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served

_BARE = re.compile(r"\s*(\{\{-?\s*\.Prompt\s*-?\}\})?\s*")
# What a turn begins or ends with: <|im_start|>, [INST], <start_of_turn>, ### Instruction:, USER:
_MARKER = re.compile(
    r"<\|?[A-Za-z_|▁]{2,40}\|?>|<｜[^｜>]{1,40}｜>|\[/?[A-Z_]{2,20}\]"
    r"|^#{1,4} ?[A-Z]\w+:?|^[A-Z]{2,}:",
    re.MULTILINE,
)


def check_template(served: Served, reference: Reference, prompts: Sequence[Prompt]) -> Check:
    """One fault at most: the first cause of the list that fits."""
    if reference.template is None:
        return Check("template", "unknown", f"{reference.no_template}: name one with --template")
    if not prompts:
        return Check("template", "unknown", "it refuses the Modelfile's SYSTEM or MESSAGE lines")
    wrong = [one for one in prompts if not one.equal_text]
    if not wrong:
        by = "token ids" if prompts and prompts[0].got_ids is not None else "text"
        return Check("template", "ok", f"{len(prompts)} of {len(prompts)} prompts equal, by {by}")
    causes = (_bare, _escapes, _other_family, _no_header, _system, _history)
    for cause in causes:
        if found := cause(served, reference, prompts):
            return checked("template", "", [found])
    found = Finding(
        "template",
        f"the prompt differs from training: {wrong[0].name}",
        difference(wrong[0]),
        _FIX,
    )
    return checked("template", "", [found])


def check_tools(served: Served, reference: Reference, ask: Callable[[], Prompt | None]) -> Check:
    """Tools of the reference's template that the server refuses or writes otherwise."""
    if reference.template is None or not reference.template.abilities.tools:
        return Check("tools", "ok", "the reference's template has none")
    if "tools" not in served.shown.capabilities:
        if why := _untellable(reference):
            return Check("tools", "unknown", f"no Go template can write them: {why}")
        found = Finding(
            "tools-lost",
            "the model was taught tools, and Ollama refuses them",
            f'{served.name} "does not support tools": its TEMPLATE has no .Tools; the '
            "reference's chat template writes them",
            _FIX,
        )
        return checked("tools", "", [found])
    prompt = ask()
    if prompt is None or prompt.equal_text:
        return Check("tools", "ok", "offered tools stand in the prompt as in training")
    found = Finding(
        "tools-differ", "tools stand in the prompt otherwise than in training", difference(prompt),
        _FIX,
    )  # fmt: skip
    return checked("tools", "", [found])


def _untellable(reference: Reference) -> str:
    """Why even the best Go template lacks the tools; "" when it has them."""
    go = reference.go_template
    if isinstance(go, str):
        return go.splitlines()[0]
    if "tools" in go.capabilities:
        return ""
    reasons = [line for line in go.explain if line.startswith("without tools")]
    return reasons[0].splitlines()[0] if reasons else "Ollama lacks what they need"


_FIX = "the Modelfile below has the right TEMPLATE"


def difference(prompt: Prompt) -> str:
    """The first place where the two texts part."""
    if prompt.wanted == prompt.got and prompt.tokens:
        return f"{prompt.tokens[0]} tokens in training, {prompt.tokens[1]} served"
    return text_difference(prompt.wanted, prompt.got)


def _both(prompt: Prompt) -> str:
    """How the two prompts begin."""
    return f"  trained  {_shown(prompt.wanted)}\n  served   {_shown(prompt.got)}"


def _shown(text: str, most: int = 70) -> str:
    signs = marked(text)
    return signs if len(signs) <= most else signs[: most - 3] + "..."


def _bare(served: Served, reference: Reference, prompts: Sequence[Prompt]) -> Finding | None:
    """No TEMPLATE at all: the question stands there without turns."""
    first = prompts[0]
    if not _BARE.fullmatch(served.shown.template) and first.got.strip() != FIRST_QUESTION:
        return None
    return Finding(
        "no-template",
        "the model has no chat template in Ollama",
        f"TEMPLATE is {served.shown.template.strip() or 'empty'}\n{_both(first)}",
        _FIX,
    )


def _escapes(served: Served, reference: Reference, prompts: Sequence[Prompt]) -> Finding | None:
    """A Modelfile has no escapes; and one written on Windows keeps its carriage returns."""
    for written, name in ((r"\n", "backslash and n"), ("\r\n", "a carriage return before each")):
        if written in prompts[0].got and written not in prompts[0].wanted:
            return Finding(
                "escapes-in-template",
                f"the TEMPLATE has {name} where a line should end",
                "a Modelfile has no escapes and keeps carriage returns: the model is fed "
                f"{_shown(prompts[0].got)}",
                _FIX,
            )
    return None


def _other_family(
    served: Served, reference: Reference, prompts: Sequence[Prompt]
) -> Finding | None:
    """Markers of turns that the reference does not have."""
    first = prompts[0]
    foreign = [mark for mark in _markers(first.got) if mark not in first.wanted]
    if not foreign:
        return None
    name = next(_families_like(served, prompts), "")
    spelt = [mark for mark in foreign if reference.tokenizer.id(mark) is None]
    pieces = ""
    if spelt:
        count = len(reference.tokenizer.encode(spelt[0])[0])
        pieces = f"\n{spelt[0]} is no token of this model: it reads {count} pieces"
    return Finding(
        "wrong-template",
        f"the model is fed the prompts of another family{f', {name}' if name else ''}",
        f"{_both(first)}{pieces}",
        _FIX,
    )


def _markers(text: str) -> list[str]:
    return list(dict.fromkeys(_MARKER.findall(text)))


def _families_like(served: Served, prompts: Sequence[Prompt]) -> Iterator[str]:
    """Families of modelfiles/ that write the served prompt of one turn."""
    system = [{"role": "system", "content": served.shown.system}] if served.shown.system else []
    for family in families().values():
        try:
            text = render_jinja(
                family.jinja, [*system, *prompts[0].messages], add_generation_prompt=True
            )
        except UsageError:
            continue
        if text.strip() == prompts[0].got.strip():
            yield family.name


def _no_header(served: Served, reference: Reference, prompts: Sequence[Prompt]) -> Finding | None:
    """The prompt ends after the question: the model goes on with it, or begins a turn by itself."""
    first = prompts[0]
    missing = first.wanted[len(first.got.rstrip()) :]
    if not first.got.strip() or not first.wanted.startswith(first.got.rstrip()):
        return None
    if not missing.strip():
        return None
    return Finding(
        "no-answer-header",
        "the prompt ends before the answer's turn begins",
        f"after the question the training has {_shown(missing)}, the server nothing",
        _FIX,
    )


def _system(served: Served, reference: Reference, prompts: Sequence[Prompt]) -> Finding | None:
    """A system prompt that does not arrive, or the default one that is not there."""
    given = next((one for one in prompts if one.messages[0]["role"] == "system"), None)
    if given is not None and SYSTEM_TEXT in given.wanted and SYSTEM_TEXT not in given.got:
        return Finding(
            "system-lost",
            "system prompts are not passed to the model",
            f"asked with system {SYSTEM_TEXT!r}, the model is fed {_shown(given.got)}",
            _FIX,
        )
    if not reference.system or served.shown.system or reference.system in prompts[0].got:
        return None
    return Finding(
        "default-system-lost",
        "the system prompt that the model was trained with is not there",
        f"without one the chat template writes {_shown(reference.system)}; the Modelfile has no "
        "SYSTEM",
        "the Modelfile below has the SYSTEM line",
    )


def _history(served: Served, reference: Reference, prompts: Sequence[Prompt]) -> Finding | None:
    """Earlier turns that do not arrive."""
    for one in prompts:
        early = [str(m["content"]) for m in one.messages[:-1] if m["role"] != "system"]
        lost = [text for text in early if text in one.wanted and text not in one.got]
        if lost:
            return Finding(
                "history-lost",
                "earlier turns of a conversation are not passed to the model",
                f"{lost[0]!r} is not in the prompt of {one.name!r}: {_shown(one.got)}",
                _FIX,
            )
    return None
