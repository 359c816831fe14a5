"""`ft2ollama estimate CONFIG`: memory, disk and minutes before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.config import Config, Loaded
    from ft2ollama.estimate import Place, Rows
    from ft2ollama.estimate.source import Known


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[key=value ...]")
@click.option("--gpu", metavar="CARD", help='A card that need not be here: 24GB, "RTX 4090", H100.')
@click.option("--params", metavar="SIZE", help="Instead of a model: its size, such as 7B or 500M.")
@click.option("--layers", type=click.IntRange(1), help="With --params: number of layers.")
@click.option("--hidden", type=click.IntRange(16), help="With --params: hidden size.")
@click.option("--vocab", type=click.IntRange(16), help="With --params: tokens of the vocabulary.")
@click.pass_obj
def estimate(
    output: Output,
    /,
    config: Path | None,
    overrides: tuple[str, ...],
    gpu: str | None,
    params: str | None,
    **shape: int | None,
) -> int:
    """Say what training, export and publishing of CONFIG will take: memory, disk, minutes.

    Needs neither the weights nor the data: without data it takes full rows of cutoff_len. Exit code
    4 when the training does not fit. Example: ft2ollama estimate faq.yaml --gpu 24GB lora_rank=8
    """
    from dataclasses import replace

    from ft2ollama.cli.estimate_tables import show, summary
    from ft2ollama.errors import ExitCode
    from ft2ollama.estimate import here, job_of
    from ft2ollama.estimate.result import bill
    from ft2ollama.train.threads import choose_threads, set_threads

    if config is not None and "=" in str(config) and not config.exists():
        config, overrides = None, (str(config), *overrides)
    loaded = _load(config, overrides, params)
    set_threads(choose_threads(loaded.config.num_threads))
    known = _known(loaded.config, params, shape)
    place = here.named(gpu) if gpu else here.this_machine()
    rows = _rows(output, loaded.config, known)
    wanted = loaded.config.compute_dtype
    dtype = _dtype(place) if wanted == "auto" else wanted
    job = job_of(loaded.config, known.shape, rows, device=place.device, dtype=dtype)
    job = replace(job, stored=known.stored)
    found = bill(loaded.config, job, place, unpacked=known.unpacked)
    show(output, job, place, found, keys=type(loaded.config).model_fields)
    output.result(summary(found), **found.as_dict())
    return int(ExitCode.MACHINE if found.fits == "no" else ExitCode.DONE)


def _load(config: Path | None, overrides: tuple[str, ...], params: str | None) -> Loaded:
    from ft2ollama.config import load_config
    from ft2ollama.errors import UsageError

    if config is None and params is None and not overrides:
        raise UsageError(
            "nothing to estimate",
            "give a config, or the size of a model",
            "ft2ollama estimate my.yaml     # or: ft2ollama estimate --params 7B --gpu 24GB",
        )
    if params is not None and config is None:
        given = {word.partition("=")[0] for word in overrides}
        stand_in = {"model_name_or_path": params, "dataset": "none"}
        overrides += tuple(f"{key}={value}" for key, value in stand_in.items() if key not in given)
    return load_config(config, overrides)


def _known(config: Config, params: str | None, shape: dict[str, int | None]) -> Known:
    from ft2ollama.errors import UsageError
    from ft2ollama.estimate.shape import shape_of_size
    from ft2ollama.estimate.source import Known, find

    if params is None:
        if given := [f"--{name}" for name, value in shape.items() if value]:
            raise UsageError(f"{given[0]} stands alone", "it goes with --params", "--params 7B")
        return find(config.model_name_or_path, config.hub)
    return Known(shape_of_size(params, **shape))


def _dtype(place: Place) -> str:
    return "bfloat16" if place.card is not None or place.native_bf16 else "float32"


def _rows(output: Output, config: Config, known: Known) -> Rows:
    from ft2ollama.train.lengths import lengths

    rows, doubt = lengths(config, known.folder)
    if doubt:
        output.warn(doubt)
    return rows
