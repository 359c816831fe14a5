"""How many tokens the conversations of a config have, for an estimate: quickly, and without torch.

In: the config and the model's folder, if it is here. Out: `Rows`, and a doubt to be said. Missing
or broken data is no error: whoever asks what a training would take may not have the data yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ft2ollama.config import Config
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.from_config import read_parts, rules_of
from ft2ollama.data.renderer import Renderer
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.errors import DataError, UserError
from ft2ollama.estimate.job import Job, job_of
from ft2ollama.estimate.rows import Rows, assumed, by_characters, measure
from ft2ollama.estimate.source import find
from ft2ollama.train.plan import Plan, model_template

Counter = Callable[[Conversation], tuple[int, int] | None]
NO_DATA = ("none",)  # `dataset` where none is meant


def lengths(config: Config, folder: Path | None) -> tuple[Rows, str]:
    """(rows, doubt); full rows of cutoff_len where there is no data."""
    if config.dataset == NO_DATA:
        return assumed(config.cutoff_len), ""
    try:
        parts = read_parts(config)[1]
    except DataError as error:
        return assumed(config.cutoff_len), f"{error.what}: {error.why.splitlines()[0]}"
    count, how = _counter(config, folder)
    rows = measure(parts.train, count, how)
    if rows is None:
        return assumed(config.cutoff_len), "no conversation can be trained on as it is"
    return rows, ""


def job_of_plan(plan: Plan, device: str, dtype: str) -> Job:
    """The job of a plan, whose conversations are all counted. dtype: of the frozen weights."""
    sizes = tuple(sorted(len(sample.ids) for sample in plan.train))
    rows = Rows(len(sizes), sizes, plan.learned / plan.tokens, "counted")
    known = find(str(plan.base.folder))
    job = job_of(plan.config, known.shape, rows, device=device, dtype=dtype)
    return replace(job, stored=known.stored)


def _counter(config: Config, folder: Path | None) -> tuple[Counter, str]:
    """(conversation -> (tokens, learned) or None, how): by the model's tokenizer if it is here."""
    try:
        if folder is None:
            raise UserError("the model's tokenizer is not here")
        tokenizer = Tokenizer(folder)
        template = model_template(config.template, folder, tokenizer)
    except UserError as error:
        return lambda row: by_characters(row.messages), f"guessed from the letters: {error.what}"
    renderer = Renderer(template, tokenizer, rules_of(config))

    def count(row: Conversation) -> tuple[int, int] | None:
        samples = renderer.render([row]).samples
        tokens = sum(len(sample.ids) for sample in samples)
        return (tokens, sum(sample.learned for sample in samples)) if samples else None

    return count, "counted with the model's tokenizer"
