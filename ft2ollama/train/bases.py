"""Which base a config names and a run was trained on, with the tokens that the config adds.

In: a config, or a run folder.  Out: a `Base` on this machine, fetched and unpacked where needed.
"""

from __future__ import annotations

from ft2ollama.base import Base, resolve_base, trained_base
from ft2ollama.config import Config, load_config
from ft2ollama.errors import UsageError
from ft2ollama.files import Progress
from ft2ollama.runs import Run
from ft2ollama.train.tokens import with_tokens


def named_base(config: Config, ref: str | None = None, progress: Progress | None = None) -> Base:
    """The base of a config, or another place of it."""
    base = resolve_base(
        ref or config.model_name_or_path,
        hub=config.hub,
        revision=config.model_revision,
        progress=progress,
    )
    if not config.new_tokens:
        return base
    return with_tokens(base, config.add_tokens or (), config.add_special_tokens or ())


def base_of_run(run: Run, progress: Progress | None = None) -> Base:
    """The base of a run, by its hash; a run that holds a whole model is its own.

    Raises UsageError when the base is no longer what the run was trained on.
    """
    known = run.record["base"]
    if run.is_whole:
        found = Base(known["ref"], known["kind"], known["name"], run.model, known["sha256"])
        return trained_base(found, run.model)
    base = named_base(load_config(run.config_file).config, known["ref"], progress)
    if base.sha256 != known["sha256"]:
        raise UsageError(
            f"the base model {known['ref']} has changed since run {run.id} was trained",
            f"trained on {known['sha256'][:12]}, now {base.sha256[:12]}",
            "put the old file back, or train again",
        )
    return base
