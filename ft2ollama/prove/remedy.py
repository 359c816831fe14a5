"""The Modelfile that mends what a Modelfile can mend.

In: what is served, the reference and the faults.  Out: text for `ollama create -f`. TEMPLATE is
derived from the reference's chat template (gotemplate); SYSTEM stays the user's own where there is
one; parameters are only those that were at fault, and the stop words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from converters.quants.types import FILE_TYPES
from ft2ollama.errors import UserError
from ft2ollama.gotemplate import GoTemplate
from ft2ollama.modelfile_grammar import dropped_characters, spell_value
from ft2ollama.prove.findings import FIXED, Finding
from ft2ollama.prove.parameters import context_of
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served

# Faults of the file that are mended by writing it anew, and those that a key of it mends.
_WRITTEN_ANEW = {
    "broken-file", "other-model", "rope", "rows-not-permuted", "tensors-exchanged", "norms-shifted",
    "weights-scaled", "weights", "setting", "other-vocabulary", "special-tokens-split", "tokenizer",
    "adapter-not-applied", "adapter-dose",
}  # fmt: skip
_OF_THE_FILE = _WRITTEN_ANEW | {"wrong-end", "bos-extra"}
_OF_THE_TEMPLATE = {
    "no-template", "escapes-in-template", "wrong-template", "no-answer-header", "history-lost",
    "template", "bos-doubled", "bos-missing", "system-lost", "default-system-lost", "tools-lost",
    "tools-differ",
}  # fmt: skip
_AT_FAULT = {
    "penalty": ("repeat_penalty", "presence_penalty", "frequency_penalty"),
    "temperature": ("temperature",),
    "reply-cut": ("num_predict",),
    "context-short": ("num_ctx",),
}
_PARAMETERS = {
    "temperature": "temperature 0.7", "reply-cut": "num_predict -1",
}  # fmt: skip


@dataclass(frozen=True)
class Remedy:
    """modelfile: "" where no Modelfile mends anything.  problem: why there is no TEMPLATE in it.

    explain: what people should know of the template.
    """

    modelfile: str = ""
    problem: str = ""
    explain: tuple[str, ...] = ()


def remedy(served: Served, reference: Reference, findings: Sequence[Finding]) -> Remedy:
    """A Modelfile for every fault that one can mend, together."""
    codes = {finding.code for finding in findings}
    needs_file = bool(codes & _OF_THE_FILE)
    go: GoTemplate | None = None
    problem = ""
    if codes & _OF_THE_TEMPLATE or needs_file:
        found = reference.go_template
        go, problem = (None, found) if isinstance(found, str) else (found, "")
    lines = list(_lines(served, reference, codes, go))
    if not lines:
        return Remedy("", problem)
    source = f"./{FIXED}" if needs_file else served.name
    text = "\n".join([f"FROM {source}", *lines]) + "\n"
    return Remedy(text, problem, _explained(reference, go))


def write_anew(reference: Reference, quant: str) -> str:
    """The command that writes the model's file from the reference."""
    if reference.base.gguf is not None and reference.adapter is None:
        return f"cp {reference.base.gguf} {FIXED}"
    adapter = f" --adapter {reference.adapter}" if reference.adapter else ""
    kind = quant if quant in FILE_TYPES else "Q8_0"
    return f"python -m converters model {reference.base.folder} {FIXED}{adapter} --outtype {kind}"


def _explained(reference: Reference, go: GoTemplate | None) -> tuple[str, ...]:
    """What people should know of the template; not that it lacks what the model never had."""
    if go is None or reference.template is None:
        return ()
    able = reference.template.abilities
    rich = able.tools or able.thoughts
    return tuple(line for line in go.explain if rich or not line.startswith("without "))


def _lines(
    served: Served, reference: Reference, codes: set[str], go: GoTemplate | None
) -> Iterator[str]:
    if go is not None:
        yield f"TEMPLATE {_spelt('TEMPLATE', _with_bos(served, reference, codes, go))}"
        system = served.shown.system or go.system
        if system and (not served.shown.system or codes & _OF_THE_FILE):
            yield f"SYSTEM {_spelt('SYSTEM', system)}"
            if dropped := dropped_characters(system):
                yield f"# `ollama create` drops {', '.join(dropped)} from SYSTEM"
    if go is not None or codes & {"stop-missing", "stop-cuts"}:
        stop = go.stop if go else reference.ends
        yield from (f"PARAMETER stop {_spelt('PARAMETER', word)}" for word in stop)
    if codes & _OF_THE_FILE:
        yield from _kept(served, codes)
    if "penalty" in codes:
        yield "PARAMETER repeat_penalty 1.0"
        for name in ("presence_penalty", "frequency_penalty"):
            if served.parameter(name):
                yield f"PARAMETER {name} 0"
    yield from (f"PARAMETER {line}" for code, line in _PARAMETERS.items() if code in codes)
    if "context-short" in codes:
        yield f"PARAMETER num_ctx {max(context_of(reference), 4096)}"


def _kept(served: Served, codes: set[str]) -> Iterator[str]:
    """What the old Modelfile says and a new file has not: parameters, MESSAGE."""
    faulty = {name for code, names in _AT_FAULT.items() if code in codes for name in names}
    for name, value in served.shown.parameters.items():
        if name != "stop" and name not in faulty:
            yield f"PARAMETER {name} {str(value).lower() if isinstance(value, bool) else value}"
    for message in served.shown.messages:
        role, content = message["role"], str(message["content"])
        yield f"MESSAGE {role} {_spelt(f'MESSAGE {role}', content)}"


def _with_bos(served: Served, reference: Reference, codes: set[str], go: GoTemplate) -> str:
    """BOS stands in the TEMPLATE only where the file will not add it."""
    if codes & _WRITTEN_ANEW:
        known = reference.vocabulary
        adds = known is not None and known.add.get("add_bos_token", False)
    else:
        adds = served.value("tokenizer.ggml.add_bos_token") is not False
    missing = "bos-missing" in codes or (go.adds_bos and not adds)
    return (reference.leading_bos if missing else "") + go.gotmpl


def _spelt(command: str, value: str) -> str:
    try:
        return spell_value(command, value)
    except UserError:
        return f'"""{value}"""  # a Modelfile cannot carry this text: send it by the JSON API'
