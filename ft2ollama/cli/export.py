"""`ft2ollama export [RUN] --to gguf`: a trained run -> GGUF files, by our own writer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.base import Base
    from ft2ollama.config import Config
    from ft2ollama.export import Exported
    from ft2ollama.runs import Run


@click.command()
@click.argument("run", default="latest")
@click.option("--to", "form", type=click.Choice(["gguf"]), default="gguf", show_default=True)
@click.option(
    "--as", "kind", type=click.Choice(["model", "adapter"]), help="Merged model or LoRA adapter."
)
@click.option(
    "--quant",
    metavar="TYPE",
    help="Q8_0, F16, Q4_K_M, ... (adapter: F16, F32, BF16 or Q8_0); default auto.",
)
@click.option(
    "--calibrate",
    metavar="FILE",
    help="Collect statistics for the quantizer on this data (a file, or a name in dataset_info).",
)
@click.option("--base", "base_ref", metavar="REF", help="Another place of the same base model.")
@click.option("--force", is_flag=True, help="Write again even if nothing has changed.")
@click.pass_obj
def export(  # noqa: PLR0913 - one argument per option
    output: Output,
    run: str,
    form: str,
    kind: str | None,
    quant: str | None,
    calibrate: str | None,
    base_ref: str | None,
    *,
    force: bool,
) -> None:
    """Write the GGUF of RUN (path, id or latest) into its gguf/ folder.

    Prints the file's path on stdout. Needs no llama.cpp, compiler, GPU or network.
    """
    from ft2ollama.train.threads import choose_threads, set_threads

    set_threads(choose_threads(None))
    from ft2ollama.config import load_config
    from ft2ollama.export import check_trained
    from ft2ollama.quant_choice import wanted_quant
    from ft2ollama.runs import find_run

    found = find_run(run)
    check_trained(found)
    config = load_config(found.config_file).config
    kind = kind or config.export_as
    quant = wanted_quant(config, kind, quant)
    output.keep_log(found.folder / "log.txt")
    if calibrate is not None:
        collect(output, found, config, calibrate, base_ref)
    exported = export_run(
        output,
        found,
        kind=kind,
        quant=quant,
        mode=config.export_mode,
        base_ref=base_ref,
        force=force,
    )
    output.result(str(exported.path), path=str(exported.path), sha256=exported.sha256)


def export_run(
    output: Output,
    run: Run,
    *,
    kind: str,
    quant: str | None,
    mode: str = "auto",
    base_ref: str | None = None,
    force: bool = False,
) -> Exported:
    """Export with progress; says when nothing had to be written."""
    import time

    from ft2ollama.export import export as write
    from ft2ollama.quant_choice import UNCALIBRATED, check_quant, choose_quant

    check_quant(kind, quant)
    base = base_of(output, run, base_ref)
    quant, reason = choose_quant(kind, quant, base)
    if reason:
        output.say(f"  {quant}: {reason}")
    began = time.monotonic()
    with output.bytes(f"writing {kind}-{quant}.gguf") as meter:
        exported = write(
            run,
            base,
            kind=kind,
            quant=quant,
            mode=mode,
            progress=meter,
            say=output.say,
            force=force,
        )
    seconds = time.monotonic() - began
    size = f"{exported.size / 1e6:,.0f} MB"
    if exported.fresh:
        output.done(
            f"wrote {exported.path.name}: {size} in {seconds:.1f} s, "
            f"{exported.size / 1e6 / seconds:,.0f} MB/s"
        )
    else:
        output.done(f"kept {exported.path.name}: {size}, its inputs have not changed")
    if exported.calibrated:
        output.say(f"  {exported.calibrated}")
        output.event("calibrated", file=exported.path.name, summary=exported.calibrated)
    elif exported.fresh and kind == "model" and quant not in UNCALIBRATED and mode != "exact":
        output.say("  not calibrated: --calibrate DATA would keep this type nearer to the model")
    for note in exported.notes:
        output.warn(note)
    return exported


def collect(
    output: Output, run: Run, config: Config, data: str, base_ref: str | None = None
) -> None:
    """Statistics for the quantizer from a data file, for a run that has none, or others."""
    from ft2ollama.train.calibrate import calibrate_run
    from ft2ollama.train.model import choose_device, choose_dtype
    from ft2ollama.train.plan import make_plan

    base = base_of(output, run, base_ref)
    chosen = config.model_copy(update={"dataset": (data,), "val_size": 0.0, "max_samples": None})
    plan = make_plan(chosen, base)
    device = choose_device()
    dtype, _ = choose_dtype(config.compute_dtype, device, pure_bf16=config.pure_bf16)
    with run.lock(), output.waiting("collecting calibration statistics"):
        found = calibrate_run(run, plan, dtype=dtype, device=device)
    output.done(
        f"calibrated on {found.conversations} conversations, {found.tokens:,} tokens, "
        f"in {found.seconds:.0f} s"
    )


def base_of(output: Output, run: Run, ref: str | None = None) -> Base:
    """The base a run was trained on, checked by its hash (unless the user names another place)."""
    from ft2ollama.cli.train import resolve_config
    from ft2ollama.config import load_config
    from ft2ollama.train.bases import base_of_run

    if ref is None or run.is_whole:
        if ref is not None:
            output.warn(f"--base is not needed: run {run.id} holds the whole trained model")
        name = str(run.record.get("base", {}).get("name", "the base"))
        with output.bytes(f"unpacking {name}") as meter:
            return base_of_run(run, meter)
    base = resolve_config(output, load_config(run.config_file).config, ref)
    if base.sha256 != run.record["base"]["sha256"]:
        output.warn(
            f"{ref} is not byte for byte the base of run {run.id}; names and shapes are checked"
        )
    return base
