"""Who answers in `chat`: a model in Ollama, or a run in transformers; chosen by what NAME|RUN is.

A name that both know is the model in Ollama, and the other is named: it is quick to start, and a
run has a second name (its path).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.runs import Run

_RUN_TOKENS = 512  # of an answer in transformers, where nothing else ends one that goes on


@dataclass(frozen=True)
class Manner:
    """How to answer; None leaves it to the model."""

    think: bool | None = None
    temperature: float | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Partner:
    """stream: messages -> pieces of thoughts and answer, and whatever else is not text."""

    name: str
    about: str
    stream: Callable[[list[dict[str, str]]], Iterator[Any]]


def find_partner(
    output: Output, ref: str, kind: str | None, host: str | None, manner: Manner
) -> Partner:
    """The model or run that `ref` names. kind: `run` or `model` where the user said which."""
    from ft2ollama.errors import UserError
    from ft2ollama.ollama_api import Ollama

    server = Ollama(host)
    if kind == "model":
        server.version()
        return _model(server, ref, manner)
    run, unknown = _run_called(ref)
    if kind == "run":
        if run is None:
            raise unknown
        return _run(output, run, manner)
    try:
        known = server.exists(ref)
    except UserError:
        if run is None:
            raise
        known = False
    if known:
        if run is not None:
            output.say(f"  {ref} is a model in Ollama and run {run.id}: this is the model; for the "
                       "run: --run")  # fmt: skip
        return _model(server, ref, manner)
    if run is None:
        raise _neither(server, ref, unknown)
    return _run(output, run, manner)


def _run_called(ref: str) -> tuple[Run | None, Exception]:
    from ft2ollama.errors import UsageError
    from ft2ollama.runs import find_run

    try:
        return find_run(ref), UsageError("")
    except UsageError as error:
        return None, error


def _neither(server: Ollama, ref: str, no_run: Exception) -> Exception:
    """The server's words on a model it does not have, with what runs there are."""
    from ft2ollama.errors import UsageError

    try:
        server.show(ref)
    except UsageError as error:
        why = f"{error.why}\n{no_run.what}; {no_run.why}" if isinstance(no_run, UsageError) else ""
        return UsageError(error.what, why, error.fix)
    return no_run


def _model(server: Ollama, name: str, manner: Manner) -> Partner:
    from ft2ollama.ollama_api import quiet_options

    options = {k: v for k, v in quiet_options(server.is_local).items() if k == "num_thread"}
    given = {"temperature": manner.temperature, "num_predict": manner.tokens}
    options |= {key: value for key, value in given.items() if value is not None}

    def stream(messages: list[dict[str, str]]) -> Iterator[Any]:
        return server.chat_stream(name, messages, options=options, think=manner.think)

    server.show(name)
    return Partner(name, f"{name} at {server.host}", stream)


def _run(output: Output, run: Run, manner: Manner) -> Partner:
    """Load what the run trained."""
    from ft2ollama.train.threads import choose_threads, set_threads

    set_threads(choose_threads(None))
    from ft2ollama.cli.export import base_of
    from ft2ollama.config import load_config
    from ft2ollama.data.tokenizer import Tokenizer
    from ft2ollama.export import check_trained

    check_trained(run)
    config, base = load_config(run.config_file).config, base_of(output, run)
    with output.waiting(f"loading {run.id}"):
        from ft2ollama.served import read_template
        from ft2ollama.train.model import choose_device
        from ft2ollama.train.speaker import Speaker, Style, load_tuned

        device = choose_device()
        model, form = load_tuned(run, base.folder, device, config)
    thinking = config.enable_thinking if manner.think is None else manner.think
    tokenizer = Tokenizer(base.tokenizer_folder)
    template = read_template(run.proof / "template.json")
    speaker = Speaker(model, template, tokenizer, thinking=thinking)
    style = Style(manner.temperature or 0.0)

    def stream(messages: list[dict[str, str]]) -> Iterator[Any]:
        return speaker.stream(messages, limit=manner.tokens or _RUN_TOKENS, style=style)

    stage = run.stage_record("publish")
    if stage.get("status") == "done":
        output.say(f"  in Ollama it is {stage['tag']}")
    return Partner(run.id, f"run {run.id} in transformers, {form} on {device}", stream)
