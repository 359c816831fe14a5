"""Who replies: the run in transformers (base and tuned, with their loss), or a model in Ollama.

In: a `Job`.  Out: columns. What cannot be loaded or does not answer is a column with the reason:
one model that is not there must not cost the figures of the others.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.errors import MachineError, UserError
from ft2ollama.evaluate.columns import Column, Said, ask_all
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.scores import stop_reached
from ft2ollama.thoughts import split_thought

if TYPE_CHECKING:
    from ft2ollama.config import Config
    from ft2ollama.data.tokenizer import Tokenizer
    from ft2ollama.evaluate.material import Material
    from ft2ollama.runs import Run
    from ft2ollama.template import ChatTemplate

Progress = Callable[[str, int, int], None]  # what is done, done, of; of 0: nobody knows
LOCAL = ("base", "tuned")
NO_LOSS = "Ollama tells no loss"


@dataclass(frozen=True)
class Job:
    """What is asked of whom.  progress: told of every step."""

    run: Run
    config: Config
    template: ChatTemplate
    material: Material
    progress: Progress


def in_ollama(job: Job, column: str, server: Ollama, name: str) -> Column:
    """The replies of a model in Ollama, greedy, with its own template and parameters else."""
    where = "Ollama"
    try:
        where = f"Ollama {server.version()}"
        server.show(name)
        replies = ask_all(_asking(server, name, job), job.material.items, _tick(job, column))
    except UserError as error:
        return Column(column, name, where, missing=reason(error), loss_missing=NO_LOSS)
    return Column(column, name, where, replies, loss_missing=NO_LOSS)


def _asking(server: Ollama, name: str, job: Job) -> Callable[..., Said]:
    options = quiet_options(server.is_local)
    marks = job.template.thought_marks

    def speak(messages: Sequence[Mapping[str, Any]], limit: int) -> Said:
        reply = server.chat(name, messages, options={**options, "num_predict": limit})
        _, text = split_thought(reply.text, marks)
        stopped = stop_reached(reply.done_reason)
        return Said(text, stopped, reply.reply_tokens, reply.reply_seconds)

    return speak


def in_transformers(
    job: Job,
    tokenizer: Tokenizer,
    base: Path,
    device: str,
    *,
    wanted: Sequence[str] = LOCAL,
    silent: Sequence[str] = (),
) -> list[Column]:
    """The wanted ones of base and tuned, with one load of the base where there is an adapter.

    base: the folder of the base.  silent: columns whose loss is measured, but not their replies.
    """
    found: list[Column] = []
    try:
        for column in _one_after_the_other(job, tokenizer, base, device, wanted, silent):
            found.append(column)
    except UserError as error:
        missing = wanted[len(found) :]
        found += [
            Column(name, job.run.id, "transformers", missing=reason(error)) for name in missing
        ]
    return found


def _one_after_the_other(
    job: Job,
    tokenizer: Tokenizer,
    base: Path,
    device: str,
    wanted: Sequence[str],
    silent: Sequence[str],
) -> Iterator[Column]:
    from ft2ollama.train.memory_errors import is_out_of_memory
    from ft2ollama.train.speaker import load_for_speaking, put_adapter

    run, model, kind = job.run, None, ""
    try:
        if "base" in wanted or not run.is_whole:
            job.progress("loading the base", 0, 0)
            model, kind = load_for_speaking(base, device, job.config)
        if "base" in wanted:
            yield _measured(job, "base", model, tokenizer, kind, replies="base" not in silent)
        if "tuned" not in wanted:
            return
        job.progress("loading what was trained", 0, 0)
        if run.is_whole:
            del model
            gc.collect()
            model, kind = load_for_speaking(run.model, device)
        else:
            model = put_adapter(model, run)
        yield _measured(job, "tuned", model, tokenizer, kind, replies="tuned" not in silent)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        fix = "--skip base --skip tuned, or a machine with more memory"
        raise MachineError("out of memory", why, fix) from error


def _measured(
    job: Job, column: str, model: Any, tokenizer: Tokenizer, kind: str, *, replies: bool
) -> Column:
    from ft2ollama.train.speaker import Speaker, held_out_loss

    loss = None
    if job.material.samples:
        loss = held_out_loss(
            model,
            job.material.samples,
            lambda done, of: job.progress(f"loss of {column}", done, of),
        )
    speaker = Speaker(model, job.template, tokenizer, thinking=job.config.enable_thinking)

    def speak(messages: Sequence[Mapping[str, Any]], limit: int) -> Said:
        spoken = speaker.reply(messages, limit=limit)
        return Said(spoken.text, spoken.stopped, spoken.steps, spoken.seconds)

    said = ask_all(speak, job.material.items, _tick(job, column)) if replies else ()
    missing = "" if loss is not None else "no row was rendered"
    where = f"transformers, {kind}"
    return Column(column, job.run.id, where, said, loss, loss_missing=missing)


def reason(error: UserError) -> str:
    """An error as one line for a column."""
    why = error.why.splitlines()[0] if error.why else ""
    return "; ".join(part for part in (error.what, why, error.fix and f"fix: {error.fix}") if part)


def _tick(job: Job, column: str) -> Callable[[int, int], None]:
    job.progress(f"replies of {column}", 0, len(job.material.items))
    return lambda done, of: job.progress(f"replies of {column}", done, of)
