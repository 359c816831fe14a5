"""Modelfile: what Ollama is told, as values for its JSON API and as text for people.

`publish` sends the values over the JSON API; the text in the run folder is for reading and for
`ollama create -f`. That language has no escapes and drops characters (`modelfile_grammar.py`): a
value that the text form cannot carry is refused, one that it carries incompletely is marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ft2ollama.errors import UsageError
from ft2ollama.modelfile_grammar import dropped_characters, spell_value
from ft2ollama.template import why_unproved


@dataclass(frozen=True)
class Modelfile:
    """parameters: name -> value (a tuple for `stop`).  reasons: name -> why it is set.

    parser: of replies; named where Ollama >= 0.30 would else pass the template over.
    """

    template: str
    system: str
    parameters: Mapping[str, Any]
    reasons: Mapping[str, str] = field(default_factory=dict)
    parser: str = ""


def make_modelfile(
    template: Mapping[str, Any], *, num_ctx: int, system: str | None, extra: Mapping[str, Any]
) -> Modelfile:
    """Build the Modelfile from proof/template.json and the config's publish keys.

    extra: the config's `ollama_parameters`, whose names and types the config has checked, because
    the server takes anything at create and fails when the model is used. Raises UsageError for a
    chat template that no family of modelfiles/ has: it can be trained with, not yet published.
    """
    if not template["gotmpl"]:
        raise UsageError(
            "this version cannot publish the model's own chat template",
            "no family of modelfiles/ builds the same prompt, so nothing could be proved:\n"
            + why_unproved(template["jinja"], template["special_tokens"]),
            "train with `template: chatml`, or export the GGUF: ft2ollama export",
        )
    parameters: dict[str, Any] = {"stop": tuple(template["stop"]), "num_ctx": num_ctx}
    reasons = {"stop": "ends of a turn", "num_ctx": "context length in tokens"}
    for name, (value, reason) in template["parameters"].items():
        parameters[name], reasons[name] = value, reason
    for name, value in extra.items():
        parameters[name], reasons[name] = value, "ollama_parameters"
    chosen = template["system"] if system is None else system
    return Modelfile(template["gotmpl"], chosen or "", parameters, reasons)


def as_text(modelfile: Modelfile, *, source: str, adapter: str | None = None) -> str:
    """The Modelfile as text.  source, adapter: paths relative to the Modelfile."""
    lines = [
        "# Written by ft2ollama. `ollama create NAME -f Modelfile` makes the proved model.",
        f"FROM {source}",
        *([f"ADAPTER {adapter}"] if adapter else []),
        f"TEMPLATE {spell_value('TEMPLATE', modelfile.template)}",
    ]
    if modelfile.system:
        lines.append(f"SYSTEM {spell_value('SYSTEM', modelfile.system)}")
        if dropped := dropped_characters(modelfile.system):
            lines.insert(
                1, f"# `ollama create` drops {', '.join(dropped)} from SYSTEM; publish does not."
            )
    if modelfile.parser:
        lines += [
            "# Without it Ollama 0.30 and newer run the chat template in the GGUF instead; older",
            "# than 0.12 it is not known and must be deleted here.",
            f"PARSER {modelfile.parser}",
        ]
    for name, value in modelfile.parameters.items():
        lines.append(f"# {name}: {modelfile.reasons.get(name, '')}")
        for item in value if isinstance(value, (list, tuple)) else (value,):
            lines.append(f"PARAMETER {name} {_parameter(item)}")
    return "\n".join(lines) + "\n"


def _parameter(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return spell_value("PARAMETER", value)
    return f"{value:g}" if isinstance(value, float) else str(value)
