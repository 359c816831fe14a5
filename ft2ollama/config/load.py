"""Config file and key=value overrides -> `Loaded`: the config, where each value came from, notes.

In: YAML or JSON in our keys or LLaMA-Factory's.  Out: `Loaded`, or one ConfigError whose `why` has
a line for every problem, in the order of the file: `train.yaml:5:1: lora_rnak: no such key; did you
mean lora_rank?`. Everything is collected before it is raised: whoever mends one line only to meet
the next error loses patience, and no work starts on a config that is half understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ft2ollama.config import checks, compat, method_checks, nodes, source
from ft2ollama.config.expects import did_you_mean, expects, kind, shown, spelled
from ft2ollama.config.found import Found
from ft2ollama.config.schema import SECTIONS, Config, section_of
from ft2ollama.config.source import Given, Problem
from ft2ollama.errors import ConfigError

_FIELDS = Config.model_fields
_AS_TEXT = frozenset(
    name
    for name, one in _FIELDS.items()
    if kind(one.annotation) in ("text", "path", "names", "choice")
)
_TEXT = frozenset(name for name in _AS_TEXT if kind(_FIELDS[name].annotation) in ("text", "path"))
_EVERY_KEY = "every key with its range: python -m ft2ollama.config.docs"
_REQUIRED = {
    "model_name_or_path": (
        "a folder, a .gguf file, a hub id or ollama:NAME",
        "Qwen/Qwen2.5-0.5B-Instruct",
    ),
    "dataset": ("files of conversations, or names from dataset_info.json", "train.jsonl"),
}


@dataclass(frozen=True)
class Loaded:
    """A checked config.

    origins: key -> "train.yaml:12", "override" or "default"; a translated key adds the name it
    had: "train.yaml:12 (transformers key bf16)".
    notes: what was translated, is ignored or has no effect, a sentence each.
    words: the file and the overrides, as they stand on a command line.
    """

    config: Config
    origins: Mapping[str, str]
    notes: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class _Use:
    """A given key in our terms: its key here, its value, and how it was called."""

    given: Given
    to: str
    value: Any
    source: str = ""  # LLaMA-Factory, ...: the key had another name there


_Note = tuple[tuple[int, int, int], str]  # place in the file or command line, sentence


@dataclass
class _Reading:
    """What has been understood so far."""

    uses: list[_Use] = field(default_factory=list)
    notes: list[_Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Loaded:
    """Read, translate and check; `overrides` are `key=value` and beat the file.

    Raises ConfigError with every problem at once.
    """
    reading = _Reading()
    for given in _given(path, overrides, reading.problems):
        _understand(given, reading)
    chosen = _choose(reading)
    reading.notes += [_translation(use) for uses in chosen.values() for use in uses if use.source]
    values = {name: _merged(uses) for name, uses in chosen.items()}
    config = _validate(values, chosen, path, reading.problems)
    if config is None or reading.problems:
        raise _error(path, reading.problems)
    notes = [text for _, text in sorted(reading.notes)]
    looks = method_checks.qlora_remark(config, path, chosen)
    found = (*notes, *([looks] if looks else []), *checks.remarks(config))
    return Loaded(config, _origins(chosen), found, (*([str(path)] if path else []), *overrides))


def dump_config(config: Config) -> str:
    """YAML in sections that `load_config` reads back to the same config."""
    values = config.model_dump(mode="json")
    parts = []
    for section, title in SECTIONS.items():
        part = {name: value for name, value in values.items() if section_of(name) == section}
        parts.append(f"### {title.lower()}\n{nodes.dump(part)}")
    return "\n".join(parts)


def _given(path: Path | None, overrides: Sequence[str], problems: list[Problem]) -> Iterable[Given]:
    """Every key that was given; the command line replaces the same key of the file."""
    found: dict[tuple[str, str], Given] = {}
    if path is not None:
        keys, twins = source.read_file(path)
        found = {(one.key, ""): one for one in keys}
        problems += twins
    for number, word in enumerate(overrides, 1):
        name = word.partition("=")[0].strip().lstrip("-")
        one = source.read_override(word, number, as_text=name in _TEXT)
        if isinstance(one, Problem):
            problems.append(one)
        else:
            found.pop((one.key, one.item), None)  # the last one wins, and comes last
            found[one.key, one.item] = one
    return found.values()


def _understand(given: Given, reading: _Reading) -> None:
    """Sort one key: ours, another tool's, or unknown."""
    value = source.plain(given, as_text=given.key in _AS_TEXT)
    if isinstance(value, Problem):
        reading.problems.append(value)
    elif given.item and given.key != "ollama_parameters":
        text = "only ollama_parameters has parts"
        reading.problems.append(given.problem(text, fix="write the key without a dot"))
    elif given.key in _FIELDS:
        _understand_ours(given, value, reading)
    elif given.key in compat.FOREIGN:
        _understand_foreign(given, value, compat.FOREIGN[given.key], reading)
    else:
        reading.problems.append(_unknown(given, value))


def _understand_ours(given: Given, value: Any, reading: _Reading) -> None:
    why = compat.same_template(value) if given.key == "template" else ""
    if why:
        reading.notes.append(_note(given, why))
        value = None
    if given.item:
        value = {given.item: value}
    reading.uses.append(_Use(given, given.key, value))


def _understand_foreign(
    given: Given, value: Any, foreign: compat.Foreign, reading: _Reading
) -> None:
    """Rename, ignore with a note, or refuse."""
    if foreign.action == "ignored":
        reading.notes.append(_note(given, f"ignored: {foreign.why}"))
    elif foreign.action == "refused" and not foreign.asks_for_nothing(value):
        fix = f"remove {given.key}" if not given.layer else f"leave {given.key}=... out"
        reading.problems.append(given.problem(f"refused: {foreign.why}", fix=fix))
    elif (foreign.action == "refused" or foreign.values or value is None) and (
        foreign.asks_for_nothing(value)
    ):
        reading.notes.append(_note(given, f"ignored: {shown(value)} asks for nothing"))
    else:
        _rename(given, value, foreign, reading)


def _rename(given: Given, value: Any, foreign: compat.Foreign, reading: _Reading) -> None:
    fault = ""
    if given.key == "custom_dataset_info":
        fault = f"must be a .json file such as data/dataset_info.json, not {shown(value)}"
        value = compat.folder_of_info(value)
    elif foreign.values:
        fault = f"must be true or false, not {shown(value)}"
        value = foreign.values.get(value) if isinstance(value, bool) else None
    if fault and not value:
        reading.problems.append(given.problem(fault, path=()))
    else:
        reading.uses.append(_Use(given, foreign.to, value, foreign.source))


def _note(given: Given, text: str) -> _Note:
    place = given.where if given.layer else f"{given.origin}: {given.key}"
    return given.order, f"{place}: {text}"


def _translation(use: _Use) -> _Note:
    why = compat.FOREIGN[use.given.key].why
    return _note(use.given, f"read as {use.to}: {spelled(use.value)}; {why}")


def _unknown(given: Given, value: Any) -> Problem:
    """No such key: the nearest one, or that keys are not grouped."""
    key = given.key
    if isinstance(value, dict) and any(name in _FIELDS for name in value):
        text = "no such key; keys are not grouped here, write those below it at the left margin"
        return given.problem(text)
    if key == "<<":
        return given.problem("keys are not merged here; write them out")
    near = did_you_mean(key, compat.known_words(_FIELDS))
    near = compat.SYNONYMS.get(near, near)
    if not near:
        return given.problem("no such key", fix=_EVERY_KEY)
    foreign = compat.FOREIGN.get(near)
    extra = f" ({foreign.source}'s key, {foreign.action} here)" if foreign else ""
    return given.problem(f"no such key; did you mean {near}{extra}?", fix=f"write {near}")


def _choose(reading: _Reading) -> dict[str, list[_Use]]:
    """For each of our keys what counts: the command line before the file; two names never."""
    chosen: dict[str, list[_Use]] = {}
    for use in reading.uses:
        rivals = chosen.get(use.to, [])
        if use.given.item:
            chosen[use.to] = [*rivals, use]
        elif not rivals or rivals[-1].given.layer < use.given.layer or _same_key(rivals[-1], use):
            chosen[use.to] = [use]
        elif rivals[-1].value != use.value:
            reading.problems.append(_contradiction(use, rivals[-1]))
    return chosen


def _same_key(one: _Use, other: _Use) -> bool:
    """`a.b=1 a={}`: one key said in two ways, of which the last one counts."""
    return one.given.key == other.given.key


def _contradiction(use: _Use, other: _Use) -> Problem:
    """bf16: true and compute_dtype: float32."""
    place = "" if other.given.layer else f" in line {other.given.entry.line}"
    text = (
        f"says {use.to}: {spelled(use.value)}, "
        f"but {other.given.key}{place} says {spelled(other.value)}"
    )
    return use.given.problem(text, fix=f"keep one of {use.given.key} and {other.given.key}")


def _merged(uses: list[_Use]) -> Any:
    """The value of a key; parts of a mapping are laid over the mapping."""
    value = uses[0].value
    for use in uses[1:]:
        value = {**value, **use.value} if isinstance(value, dict) else value
    return value


def _validate(
    values: dict[str, Any],
    chosen: Mapping[str, list[_Use]],
    path: Path | None,
    problems: list[Problem],
) -> Config | None:
    """The config, or None after every problem has been added to `problems`."""
    config, bad = _attempt(values, chosen, problems)
    missing = [name for name in _REQUIRED if name not in values]
    problems.extend(_missing(name, path) for name in missing if not _hidden(name, problems))
    if bad:  # rules between keys, as far as the right keys go
        rest = {name: value for name, value in values.items() if name not in bad}
        stand_in = dict.fromkeys(_REQUIRED, "x")
        _attempt({**stand_in, **rest}, chosen, problems, without=bad)
    return config


def _hidden(name: str, problems: list[Problem]) -> bool:
    """Whether a misspelt key was meant for this one: then that problem is enough."""
    return any(one.fix == f"write {name}" for one in problems)


def _attempt(
    values: dict[str, Any],
    chosen: Mapping[str, list[_Use]],
    problems: list[Problem],
    *,
    without: frozenset[str] = frozenset(),
) -> tuple[Config | None, frozenset[str]]:
    """Validate; the config, or the keys that are wrong. without: keys whose rules do not count."""
    try:
        return Config.model_validate(values), frozenset()
    except ValidationError as error:
        found = [one for detail in error.errors() for one in _found(detail)]
    for one in found:
        if one.place[0] in chosen and not without.intersection(one.keys):
            problems.append(_problem(one, chosen))
    return None, frozenset(str(one.place[0]) for one in found if not one.keys)


def _found(detail: Any) -> list[Found]:
    """pydantic's error in our words."""
    if detail["type"] == "located":
        return list(detail["ctx"]["found"])
    name = str(detail["loc"][0])
    item = {"names": "text", "numbers": "a number above 0"}.get(kind(_FIELDS[name].annotation), "")
    place = detail["loc"][:2] if item else (name,)
    takes = item if len(place) > 1 else expects(_FIELDS[name])
    sentence = f"must be {takes}, not {shown(detail['input'])}"
    if detail["input"] is None and len(place) == 1:
        default = spelled(_FIELDS[name].get_default())
        sentence += "" if _FIELDS[name].is_required() else f"; without the key it is {default}"
    return [Found(place, sentence)]


def _problem(one: Found, chosen: Mapping[str, list[_Use]]) -> Problem:
    """A problem at the place where its value was written."""
    name, *path = one.place
    uses = chosen[str(name)]
    use = next((use for use in uses if path and use.given.item == path[0]), uses[0])
    sentence = f"(here {use.to}) {one.sentence}" if use.source else one.sentence
    number = next((step for step in path if isinstance(step, int)), None)
    if number is not None:
        sentence = f"item {number + 1} {sentence}"
    return use.given.problem(sentence, path=path, fix=_example(use))


def _example(use: _Use) -> str:
    """Something to write instead: the default, or an example where there is none."""
    if use.to == "ollama_parameters":
        return "ollama_parameters: {temperature: 0.2, top_p: 0.9}  (an example)"
    value, what = spelled(_FIELDS[use.to].get_default()), "the default"
    if use.to in _REQUIRED:
        value, what = _REQUIRED[use.to][1], "an example"
    return (f"{use.to}={value}" if use.given.layer else f"{use.to}: {value}") + f"  ({what})"


def _missing(name: str, path: Path | None) -> Problem:
    what, example = _REQUIRED[name]
    where = str(path) if path else "command line"
    fix = f"add to {path}:  {name}: {example}" if path else f"{name}={example}"
    return Problem((0, 0, 0), f"{where}: {name}: is required: {what}", fix)


def _error(path: Path | None, problems: list[Problem]) -> ConfigError:
    """All problems as one error, in the order of the file, then of the command line."""
    lines = sorted(problems, key=lambda one: one.order)
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    subject = str(path) if path else "the config"
    fix = lines[0].fix if len(lines) == 1 else ""
    return ConfigError(
        f"{subject} has {count}", "\n".join(one.text for one in lines), fix or _EVERY_KEY
    )


def _origins(chosen: Mapping[str, list[_Use]]) -> dict[str, str]:
    """Where each value came from."""
    origins = dict.fromkeys(_FIELDS, "default")
    for name, uses in chosen.items():
        use = uses[-1]
        old = f" ({use.source} key {use.given.key})" if use.source else ""
        origins[name] = use.given.origin + old
    return origins
