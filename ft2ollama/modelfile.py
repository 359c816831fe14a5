"""Modelfile: what Ollama is told, as values for its JSON API and as text for people.

`publish` sends the values over the JSON API; the text in the run folder is for reading and for
`ollama create -f`. That language has no escapes and drops characters (`modelfile_grammar.py`): a
value that the text form cannot carry is refused, one that it carries incompletely is marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ft2ollama.config import Config
from ft2ollama.errors import UsageError
from ft2ollama.modelfile_grammar import dropped_characters, spell_value
from ft2ollama.modelfile_values import PINNED, context_length, generation_parameters


@dataclass(frozen=True)
class Modelfile:
    """parameters: name -> value (a tuple for `stop`).  reasons: name -> why it is set.

    license: texts, one LICENSE each.  messages: (role, content) that begin every conversation.
    parser: of replies; named where Ollama >= 0.30 would else pass the template over.
    """

    template: str
    system: str
    parameters: Mapping[str, Any]
    reasons: Mapping[str, str] = field(default_factory=dict)
    license: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    parser: str = ""


def modelfile_for(template: Mapping[str, Any], config: Config, base: Path) -> Modelfile:
    """Template, parameters and system prompt: of a run's template, its config and its base folder.

    Raises what `make_modelfile` raises.
    """
    num_ctx, reason = context_length(config.num_ctx, config.cutoff_len, base)
    return make_modelfile(
        template,
        num_ctx=num_ctx,
        num_ctx_reason=reason,
        system=config.ollama_system,
        base_parameters=generation_parameters(base),
        extra=config.ollama_parameters,
    )


def make_modelfile(
    template: Mapping[str, Any],
    *,
    num_ctx: int,
    system: str | None,
    extra: Mapping[str, Any],
    base_parameters: Mapping[str, tuple[Any, str]] = MappingProxyType({}),
    num_ctx_reason: str = "context length in tokens",
) -> Modelfile:
    """Build the Modelfile from proof/template.json, the base's parameters and the config's keys.

    base_parameters: name -> (value, reason), see modelfile_values; they go before the family's.
    extra: the config's `ollama_parameters`, which go before all others; the config has checked
    them, because the server takes anything at create and fails when the model is used.
    Raises UsageError for a chat template that no Go template is equal to, with the first
    difference.
    """
    if not template["gotmpl"]:
        raise UsageError(
            "the model's own chat template cannot be published: no Ollama template is equal to it",
            template["refusal"],
            "train with `template: chatml`, or serve the GGUF with a program that executes chat "
            "templates: ft2ollama export",
        )
    parameters: dict[str, Any] = {"stop": tuple(template["stop"]), "num_ctx": num_ctx}
    reasons = {"stop": "ends of a turn", "num_ctx": num_ctx_reason}
    for name, (value, reason) in {**PINNED, **template["parameters"], **base_parameters}.items():
        parameters[name], reasons[name] = value, reason
    for name, value in extra.items():
        parameters[name], reasons[name] = value, "ollama_parameters of the config"
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
        lines[1:1] = _dropped("SYSTEM", modelfile.system)
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
    for role, content in modelfile.messages:
        lines.append(f"MESSAGE {role} {spell_value('MESSAGE', content)}")
        lines[1:1] = _dropped("MESSAGE", content)
    for text in modelfile.license:
        lines += _license(text)
    return "\n".join(lines) + "\n"


def _dropped(command: str, text: str) -> list[str]:
    """A comment on the characters that only the JSON API carries."""
    dropped = ", ".join(dropped_characters(text))
    return [f"# `ollama create` drops {dropped} from {command}; publish does not."] * bool(dropped)


def _license(text: str) -> list[str]:
    """A license is for reading: where the language cannot carry it, that is said in its place."""
    try:
        return [f"LICENSE {spell_value('LICENSE', text)}"]
    except UsageError:
        return ["# A LICENSE text cannot stand here: it has a line that ends with three quotes."]


def _parameter(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return spell_value("PARAMETER", value)
    return f"{value:g}" if isinstance(value, float) else str(value)
