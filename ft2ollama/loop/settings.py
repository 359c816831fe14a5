"""The config of `ft2ollama retrain`: which model, how it is trained, what decides about it.

In: a YAML file.  Out: `RetrainConfig`, or one ConfigError with every problem as file:line:column.
Paths are looked up beside the file, because a timer starts in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ft2ollama.config.expects import did_you_mean, shown
from ft2ollama.config.source import Given, Problem, plain, read_file
from ft2ollama.errors import ConfigError, UsageError
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.gate import Bars
from ft2ollama.ollama_names import check_name

SETS = ("must_pass", "golden", "general", "refusal")
Share = Annotated[float, Field(ge=0, le=1)]


class _Block(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Sets(_Block):
    """Files of questions for the gate: {"question", "expect"} lines, or any training data."""

    must_pass: Path | None = None
    """Questions of which none may be answered wrongly."""
    golden: Path | None = None
    """Questions on which the new model must not be worse; 200 or more tell something."""
    general: Path | None = None
    """Questions about anything else: they show what was forgotten."""
    refusal: Path | None = None
    """Questions that cannot be answered, and what a refusal says."""


class Gate(_Block):
    """The thresholds of the gate; docs/loop.md says what they can see."""

    stopped: Share = 0.98
    """Smallest share of answers that the new model ends by itself."""
    distinct: Share = 0.3
    """Smallest mean share of distinct 4-grams in its answers."""
    golden_margin: Share = 0.02
    """Largest loss of mean score on the golden set, at the lower end of the 95 % interval."""
    regressions: Share = 0.02
    """Largest share of golden items that were right and are wrong now."""
    general_margin: Share = 0.03
    """Largest loss of mean score on the general set."""
    refusal_margin: Share = 0.02
    """Largest loss of mean score on the refusal set."""
    form_margin: Share = 0.01
    """Largest loss in the share of well-formed JSON, where JSON is wanted."""
    speed: Annotated[float, Field(ge=0)] = 0.9
    """Smallest speed, as a share of the tokens/s of the model that would be replaced."""
    size: Annotated[float, Field(gt=0)] = 1.2
    """Largest file, as a multiple of the one that would be replaced."""
    loss_growth: Annotated[float, Field(ge=0)] = 0.05
    """Largest growth of the held-out loss, where both are known on the same rows."""
    truncated: Share = 0.2
    """Largest share of training rows that were cut."""
    min_items: Annotated[int, Field(ge=1)] = 200
    """Golden items from which on no person is asked."""
    thin_evidence: bool = False
    """true lets the gate decide with fewer golden items than min_items."""

    def bars(self) -> Bars:
        """As the gate takes them."""
        return Bars(**self.model_dump())


class Trigger(_Block):
    """When `--if-due` starts a cycle."""

    rows: Annotated[int, Field(ge=1)] = 200
    """New rows that are enough at any time."""
    few: Annotated[int, Field(ge=1)] = 50
    """New rows that are enough when the last promotion is `days` ago."""
    days: Annotated[float, Field(ge=0)] = 7
    """Days since the last promotion."""


class Notify(_Block):
    """Who is told how a cycle ended; a hook that fails is a warning and nothing else."""

    on: tuple[Literal["promoted", "rejected", "needs_human", "failed"], ...] = (
        "promoted", "rejected", "needs_human", "failed",
    )  # fmt: skip
    """Endings that are told."""
    command: str | None = None
    """A shell command; the message comes as JSON on stdin, $FT2OLLAMA_EVENT is the ending."""
    webhook: str | None = None
    """An address to which the same JSON is posted."""


class RetrainConfig(_Block):
    """Everything that decides about a cycle."""

    name: str
    """The model in Ollama that people use: the alias that moves when a new model is better."""
    train: Path
    """An ordinary training config. Its data keys are replaced by the curated rows."""
    host: str | None = None
    """The Ollama server; default OLLAMA_HOST, else 127.0.0.1:11434."""
    seed: int = 42
    """Of every choice that is drawn."""
    reply_tokens: Annotated[int, Field(ge=1)] = 128
    """The most tokens of an answer that the gate asks for."""
    keep: Annotated[int, Field(ge=2)] = 3
    """Versions kept in Ollama after a promotion, the live one among them."""
    sets: Sets = Sets()
    """Files of questions for the gate."""
    curate: CurateConfig = CurateConfig()
    """Which rows are trained on, in which forms and shares."""
    gate: Gate = Gate()
    """Thresholds."""
    trigger: Trigger = Trigger()
    """When --if-due starts a cycle."""
    notify: Notify = Notify()
    """Who is told."""

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        try:
            check_name(value)
        except UsageError as error:
            raise ValueError(error.why or error.what) from None
        return value


def read_config(path: Path) -> RetrainConfig:
    """The config of a file. Raises ConfigError with everything that is wrong with it."""
    given, problems = read_file(path)
    values: dict[str, Any] = {}
    for one in given:
        value = plain(one, as_text=one.key in ("name", "train", "host"))
        if isinstance(value, Problem):
            problems.append(value)
        else:
            values[one.key] = value
    try:
        config = RetrainConfig.model_validate(values)
    except ValidationError as error:
        by_key = {one.key: one for one in given}
        problems += [_problem(detail, by_key, path) for detail in error.errors()]
    else:
        config = _placed(config, path.absolute().parent)
        problems += _missing_files(config, {one.key: one for one in given})
        if not problems:
            return config
    raise _refusal(path, problems)


def _placed(config: RetrainConfig, folder: Path) -> RetrainConfig:
    """Every path absolute, seen from the folder of the file."""

    def put(path: Path | None) -> Path | None:
        return None if path is None else folder / path.expanduser()

    sets = Sets(**{name: put(getattr(config.sets, name)) for name in SETS})
    curate = config.curate.model_copy(update={"general_data": put(config.curate.general_data)})
    changes = {"train": put(config.train), "sets": sets, "curate": curate}
    return config.model_copy(update=changes)


def _missing_files(config: RetrainConfig, given: dict[str, Given]) -> list[Problem]:
    named: list[tuple[str, tuple[str, ...], Path | None]] = [
        ("train", (), config.train),
        ("curate", ("general_data",), config.curate.general_data),
        *(("sets", (name,), getattr(config.sets, name)) for name in SETS),
    ]
    return [
        given[key].problem(f"there is no file {path}", path=place, fix=f"ls {path.parent}")
        for key, place, path in named
        if path is not None and not path.is_file()
    ]


def _problem(detail: Any, given: dict[str, Given], path: Path) -> Problem:
    """pydantic's error at the place where the value was written."""
    key, *place = detail["loc"]
    if key not in given:
        example = "name: shop" if key == "name" else "train: train.yaml"
        return Problem((0, 0, 0), f"{path}: {key}: is required", f"add a line: {example}")
    kind = str(detail["type"])
    if kind == "extra_forbidden":
        word = str(place[-1] if place else key)
        near = did_you_mean(word, _keys_beside(key, place))
        said = f"no such key{f'; did you mean {near}?' if near else ''}"
        return given[key].problem(
            said, path=place or None, fix=f"write {near}" if near else "remove it"
        )
    text = str(detail["msg"]).removeprefix("Value error, ")
    if not place and kind == "value_error":
        return given[key].problem(text, path=())
    inner = [step for step in place if isinstance(step, (str, int))]
    whole = kind == "value_error" or kind == "missing"
    return given[key].problem(
        text if whole else f"{text}, not {shown(detail['input'])}", path=inner
    )


def _keys_beside(key: str, place: Sequence[str | int]) -> list[str]:
    if not place:
        return list(RetrainConfig.model_fields)
    block = RetrainConfig.model_fields[key].annotation
    return list(getattr(block, "model_fields", {}))


def _refusal(path: Path, problems: Sequence[Problem]) -> ConfigError:
    lines = sorted(problems, key=lambda one: one.order)
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    fix = lines[0].fix if len(lines) == 1 else ""
    every = "every key with its reason: python -m ft2ollama.loop.docs"
    return ConfigError(f"{path} has {count}", "\n".join(one.text for one in lines), fix or every)
