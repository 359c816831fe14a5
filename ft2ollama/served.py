"""A chat template -> the same with what Ollama needs: Go template, SYSTEM, BOS, what it lacks.

In: the template of a training. Out: it with `gotmpl` and its like filled in, or with `refusal`.

The model's own template gets the Go template that `gotemplate.derive` finds and proves by
rendering. That takes 0.2 to 14 s, so it is kept by the content of all that decides it, our own code
among that. A family of `modelfiles/` brings its Go template; one that says less than the family's
Jinja (no tools, no thoughts, another default for thinking) is derived too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from ft2ollama import chat_jinja, gotemplate
from ft2ollama.errors import UsageError
from ft2ollama.families import families
from ft2ollama.files import sha256_file, sha256_folder, sha256_text, write_json
from ft2ollama.gotemplate import GoTemplate, derive
from ft2ollama.gotemplate.derive import default_system, without_bos
from ft2ollama.gotemplate.probe import Message, Render, text_probes
from ft2ollama.gotemplate.tags import thinking_tags
from ft2ollama.paths import cache_dir
from ft2ollama.template import ChatTemplate

_QUESTION: Sequence[Message] = ({"role": "user", "content": "x"},)
_UNEQUAL = "no Ollama template that writes them is equal to it"
_FOR_USERS = ("the date ", "tool calls are not JSON")  # of `explain`; the rest is for the curious


def served(template: ChatTemplate, *, thinking: bool | None = None) -> ChatTemplate:
    """The template with what `publish` tells Ollama; `refusal` when no Go template is equal.

    thinking: the training's `enable_thinking`, which is what a client without a wish shall get.
    """
    render = _as_trained(template, thinking)
    if template.gotmpl:
        known = _of_family(template, render)
        if not _lost(known, thinking):
            return known
    found = _derived(template, render, thinking)
    if isinstance(found, str):
        return known if template.gotmpl else replace(template, refusal=found)
    return replace(
        template,
        gotmpl=found.gotmpl,
        system=found.system,
        adds_bos=found.adds_bos,
        capabilities=tuple(sorted(found.capabilities)),
        explain=found.explain,
        refusal="",
    )


def read_template(path: Path) -> ChatTemplate:
    """proof/template.json of a run, also one of an older version; UsageError when it is broken."""
    try:
        values = json.loads(path.read_text("utf-8"))
        known = {field.name for field in fields(ChatTemplate)}
        given = {name: _tuples(value) for name, value in values.items() if name in known}
        given["parameters"] = {name: tuple(two) for name, two in given["parameters"].items()}
        template = ChatTemplate(**given)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UsageError(
            "the run does not say how its chat template was trained",
            f"{path}: {error}",
            "ft2ollama train CONFIG --force     # trains again",
        ) from error
    if "adds_bos" in values:
        return template
    adds_bos = without_bos(template.render, template.special_tokens.get("bos_token", ""))[1]
    return replace(template, adds_bos=adds_bos)


def publishable(template: ChatTemplate, *, thinking: bool | None = None) -> ChatTemplate:
    """A template that was read: one that an older version could not publish is derived now."""
    if template.gotmpl or template.refusal:
        return template
    system = template.system
    found = served(template, thinking=thinking)
    return replace(found, system=system or found.system)


def limits(template: ChatTemplate) -> tuple[str, ...]:
    """What users of the model should know, a line each."""
    if not template.gotmpl:
        return ()
    can = template.abilities
    lacks = {"tools": can.tools and can.tool_calls, "thinking": can.thoughts}
    return (
        *(
            f"Ollama will serve this model without {name}, because of its chat template: "
            + _why_without(name, template.explain)
            for name, able in lacks.items()
            if able and name not in template.capabilities
        ),
        *(line.splitlines()[0] for line in template.explain if line.startswith(_FOR_USERS)),
    )


def base_adds_bos(values: Mapping[str, Any]) -> bool | None:
    """Whether a GGUF file's key-values make Ollama add BOS; None where its runtime decides."""
    given = values.get("tokenizer.ggml.add_bos_token")
    if isinstance(given, bool):
        return given
    # llama.cpp src/llama-vocab.cpp: SentencePiece vocabularies begin with BOS unless they say no
    return True if values.get("tokenizer.ggml.model") == "llama" else None


def check_bos(template: ChatTemplate, values: Mapping[str, Any], base: str) -> None:
    """An adapter is served on its base's file, whose BOS must be the training text's."""
    adds = base_adds_bos(values)
    if adds in (None, template.adds_bos):
        return
    trained, does = ("with", "does not add") if template.adds_bos else ("without", "adds")
    raise UsageError(
        "an adapter on this base would get another prompt than it was trained on",
        f"the training text begins {trained} a BOS token; {base} {does} one (add_bos_token)",
        "ft2ollama publish NAME --as model     # one merged file, with the right setting",
    )


def _as_trained(template: ChatTemplate, default: bool | None) -> Render:
    def render(
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        thinking: bool | None = None,
    ) -> str:
        return template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            thinking=default if thinking is None else thinking,
        )

    return render


def _of_family(template: ChatTemplate, render: Render) -> ChatTemplate:
    """A family's template with its default system prompt, BOS and capabilities."""
    own, adds_bos = without_bos(render, template.special_tokens.get("bos_token", ""))
    capable = {
        "tools": ".ToolCalls" in template.gotmpl,
        "thinking": all(thinking_tags(template.gotmpl)),
    }
    return replace(
        template,
        system=default_system(own, list(text_probes())),
        adds_bos=adds_bos,
        capabilities=tuple(sorted(name for name, able in capable.items() if able)),
    )


def _lost(template: ChatTemplate, thinking: bool | None) -> bool:
    """Does the family's Go template say less than its Jinja?"""
    can = template.abilities
    wants = {"tools": can.tools and can.tool_calls, "thinking": can.thoughts}
    if any(able and name not in template.capabilities for name, able in wants.items()):
        return True
    prompts = {
        template.render(_QUESTION, add_generation_prompt=True, thinking=value)
        for value in (None, thinking)
    }
    return len(prompts) > 1


def _derived(template: ChatTemplate, render: Render, thinking: bool | None) -> GoTemplate | str:
    """The Go template, or why there is none; from the cache when it was asked before."""
    path = cache_dir() / "gotemplates" / f"{_key(template, thinking)}.json"
    kept = _read(path)
    if kept is not None:
        return kept
    try:
        found: GoTemplate | str = derive(
            render,
            special_tokens=template.special_tokens,
            ends=template.stop,
            families={name: family.gotmpl for name, family in families().items()},
        )
    except UsageError as error:
        found = error.why
    _keep(path, found)
    return found


def _key(template: ChatTemplate, thinking: bool | None) -> str:
    """Hash of everything the Go template depends on."""
    code = [
        sha256_folder(Path(gotemplate.__file__).parent, "*.*"),
        sha256_file(Path(chat_jinja.__file__)),
        *(family.gotmpl for family in families().values()),
    ]
    asked = [template.jinja, dict(template.named), dict(template.special_tokens), template.date]
    return sha256_text(json.dumps([code, asked, template.stop, thinking]))


def _read(path: Path) -> GoTemplate | str | None:
    try:
        values = json.loads(path.read_text("utf-8"))
        if "refusal" in values:
            return str(values["refusal"])
        values["capabilities"] = frozenset(values["capabilities"])
        return GoTemplate(**{name: _tuples(value) for name, value in values.items()})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(path: Path, found: GoTemplate | str) -> None:
    if isinstance(found, str):
        values: dict[str, Any] = {"refusal": found}
    else:
        values = {**asdict(found), "capabilities": sorted(found.capabilities)}
    try:
        write_json(path, values)
    except OSError:  # a cache that cannot be written only costs time
        return


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _why_without(name: str, explain: Sequence[str]) -> str:
    heads = (f"without {name}: ", "without thinking and tools: ")
    for head in heads:
        for line in explain:
            if line.startswith(head):
                reason = line.removeprefix(head).splitlines()[0]
                return _UNEQUAL if reason.startswith("case ") else reason
    return _UNEQUAL
