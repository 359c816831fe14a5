"""`ft2ollama train CONFIG [key=value ...]`: a config and data -> a run with what was trained."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.base import Base
    from ft2ollama.config import Config, Loaded
    from ft2ollama.estimate import Estimate
    from ft2ollama.runs import Run
    from ft2ollama.train.plan import Plan


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[key=value ...]")
@click.option("--resume", metavar="RUN", help="Go on with an interrupted run (path, id or latest).")
@click.option("--force", is_flag=True, help="Train again even if nothing has changed.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, train nothing.")
@click.pass_obj
def train(
    output: Output,
    config: Path | None,
    overrides: tuple[str, ...],
    resume: str | None,
    *,
    force: bool,
    dry_run: bool,
) -> None:
    """Train a model from CONFIG (YAML or JSON, LLaMA-Factory's keys): LoRA, QLoRA, full, freeze.

    Prints the run folder on stdout. Example: ft2ollama train faq.yaml lora_rank=8
    """
    from ft2ollama.config import load_config
    from ft2ollama.errors import UsageError
    from ft2ollama.runs import find_run
    from ft2ollama.train.distributed import join_team

    if not join_team().first:
        output.mute()
    if config is not None and "=" in str(config) and not config.exists():
        config, overrides = None, (str(config), *overrides)
    if resume is not None:
        if config is not None:
            raise UsageError(
                "--resume goes on with the run's own config",
                f"{config} was given as well",
                f"ft2ollama train --resume {resume}",
            )
        run = find_run(resume)
        train_run(output, load_config(run.config_file, overrides), run=run)
        return
    if config is None and not overrides:
        raise UsageError(
            "no config given",
            "train needs a YAML file",
            "ft2ollama train my.yaml     # or: ft2ollama demo",
        )
    train_run(output, load_config(config, overrides), force=force, dry_run=dry_run)


def train_run(
    output: Output,
    loaded: Loaded,
    *,
    run: Run | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Run | None:
    """Plan, show the plan, train (or find that nothing has changed); returns the run."""
    from ft2ollama.runs import Run
    from ft2ollama.train.distributed import check_engine, team
    from ft2ollama.train.plan import check_held_out
    from ft2ollama.train.threads import choose_threads, set_threads
    from ft2ollama.train.trackers import check_trackers

    config = loaded.config
    for note in loaded.notes:
        output.warn(note)
    threads = choose_threads(config.num_threads)
    set_threads(threads)
    check_engine(config)
    check_trackers(config.trackers)
    plan = team().in_turn("planned", lambda: plan_run(output, config))
    team().agree("inputs", plan.inputs)
    for remark in (*plan.remarks, *_findings(plan, loaded)):
        output.warn(remark)
    same = None if force else team().share("finished", lambda: _path(finished_run(plan, run)))
    if same:
        output.done(f"nothing to train: run {Path(same).name} has the same config, base and data")
        output.say("  (--force trains again)")
        output.result(same, run=same, skipped=True)
        return Run(Path(same))
    check_held_out(plan)
    with output.waiting("loading torch"):
        from ft2ollama.train.model import choose_device, choose_dtype

        device = choose_device()
        dtype, why = choose_dtype(config.compute_dtype, device, pure_bf16=config.pure_bf16)
    check_method(output, plan, loaded, device)
    needs, instead = needs_of(plan, device, dtype)
    show_plan(
        output,
        plan,
        loaded,
        device=device,
        dtype=(dtype, why),
        threads=(threads.count, threads.why),
        needs=needs,
    )
    must_fit(output, needs, instead)
    if dry_run:
        output.done("dry run: everything fits together, nothing was trained")
        return None
    run = shared_run(team().share("run", lambda: _path(run or new_run(plan))))
    if team().first:
        output.keep_log(run.folder / "log.txt")
        run.note(estimate=needs.as_dict())
    _train(output, plan, run, loaded, (dtype, device))
    team().leave()
    output.result(str(run.folder), run=str(run.folder))
    return run


def _findings(plan: Plan, loaded: Loaded) -> list[str]:
    """What the data doctor finds at a glance, in a line; nothing when it finds nothing."""
    from ft2ollama.data.summary import summary_line
    from ft2ollama.language import choose_language

    command = shlex.join(["ft2ollama", "data", "check", *loaded.words])
    line = summary_line(plan.conversations, command, choose_language())
    return [line] if line else []


def _path(run: Run | None) -> str:
    return str(run.folder) if run is not None else ""


def shared_run(folder: str) -> Run:
    """The run that the first process has made; every process must see its folder."""
    from ft2ollama.errors import UsageError
    from ft2ollama.runs import Run

    if not (Path(folder) / "run.json").is_file():
        raise UsageError(
            f"the run folder {folder} is not on this machine",
            "all machines of a training write and read the same run folder",
            "output_dir=/a/disk/that/all/machines/share",
        )
    return Run(Path(folder))


def plan_run(output: Output, config: Config) -> Plan:
    """Resolve the base and check and render the data."""
    base = resolve_config(output, config)
    from ft2ollama.train.plan import make_plan

    with output.waiting("reading the data"):
        return make_plan(config, base)


def resolve_config(output: Output, config: Config, ref: str | None = None) -> Base:
    """The base a config names (or another place of it), with the tokens it adds."""
    from ft2ollama.train.bases import named_base

    name = (ref or config.model_name_or_path).rsplit("/", 1)[-1]
    with output.bytes(f"unpacking {name}") as meter:
        return named_base(config, ref, meter)


def resolve(output: Output, ref: str, hub: str = "huggingface", *, revision: str = "main") -> Base:
    """Find or fetch the base model, with progress."""
    from ft2ollama.base import resolve_base

    with output.bytes(f"unpacking {ref.rsplit('/', 1)[-1]}") as meter:
        return resolve_base(ref, hub=hub, revision=revision, progress=meter)


def check_method(output: Output, plan: Plan, loaded: Loaded, device: str) -> None:
    """Whether the method can be had here and fits the model, before anything is loaded."""
    from ft2ollama.train.quantized import require_bitsandbytes

    config = loaded.config
    if config.quantization_bit is not None:
        require_bitsandbytes()
        if device == "cpu":
            output.warn(
                f"quantization_bit: {config.quantization_bit} on a CPU saves memory, not time: "
                "without it training is faster"
            )
    with output.waiting("comparing the method with the model"):
        from ft2ollama.train.fits import require_fit

        require_fit(config, plan.base.folder, loaded.origins)


def finished_run(plan: Plan, run: Run | None = None) -> Run | None:
    """A run that was trained from the very same inputs (`run` itself, when one is resumed)."""
    from ft2ollama.runs import Run, all_runs

    if run is not None:
        return run if run.is_current("train", plan.inputs) else None
    named = plan.config.output_dir
    candidates = [Run(named.absolute())] if named and (named / "run.json").exists() else all_runs()
    return next((run for run in candidates if run.is_current("train", plan.inputs)), None)


def absolute_adapters(config: Config) -> tuple[str, ...] | None:
    """adapter_name_or_path for a run's own config, which is read from anywhere."""
    from ft2ollama.train.adapters import adapter_folders

    return tuple(map(str, adapter_folders(config.adapter_name_or_path or ()))) or None


def new_run(plan: Plan) -> Run:
    """The run folder, with the resolved config and the base in it."""
    import re

    from ft2ollama.config import dump_config
    from ft2ollama.data.sources import absolute as absolute_names
    from ft2ollama.runs import create_run

    config = plan.config
    absolute = config.model_copy(
        update={
            "dataset_dir": config.dataset_dir.absolute(),
            "dataset": absolute_names(config.dataset, config.dataset_dir),
            "eval_dataset": absolute_names(config.eval_dataset or (), config.dataset_dir) or None,
            "adapter_name_or_path": absolute_adapters(config),
            **absolute_files(config),
            "resume_from_checkpoint": None,  # --resume goes on with the run's own
            "model_name_or_path": (
                str(Path(config.model_name_or_path).expanduser().absolute())
                if plan.base.kind in ("folder", "gguf")
                else config.model_name_or_path
            ),
        }
    )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", config.run_name or plan.base.name).strip("-")[:40]
    run = create_run(name, dump_config(absolute), folder=config.output_dir)
    base = plan.base
    run.note(
        base={
            "ref": absolute.model_name_or_path,
            "kind": base.kind,
            "name": base.name,
            "sha256": base.sha256,
        }
    )
    return run


def absolute_files(config: Config) -> dict[str, Path]:
    """The files and folders a config names, so that the run can be resumed from anywhere."""
    names = ("proof_prompts", "deepspeed", "fsdp_config", "logging_dir", "swanlab_logdir")
    given = {name: getattr(config, name) for name in names}
    return {name: path.absolute() for name, path in given.items() if path is not None}


def show_plan(
    output: Output,
    plan: Plan,
    loaded: Loaded,
    *,
    device: str,
    dtype: tuple[str, str],
    threads: tuple[int, str],
    needs: Estimate,
) -> None:
    """The plan: what will happen, with where each value comes from."""
    from ft2ollama.cli.estimate_tables import memory_line, minutes
    from ft2ollama.train.distributed import team
    from ft2ollama.train.methods import describe
    from ft2ollama.train.plan import parameters, rows_per_step

    config, base = plan.config, plan.base
    output.title("plan")
    data = f"{len(plan.train)} conversations, {plan.tokens:,} tokens, {plan.learned:,} learned"
    held_out = f"; {len(plan.validation)} held out" if plan.validation else ""
    batch = rows_per_step(config)
    on_cpu = device == "cpu"
    where = f"cpu, {threads[0]} thread(s)" if on_cpu else device
    where += f", {team().size} processes" if team().size > 1 else ""
    size = f"{base.name}, {parameters(base.folder) / 1e6:,.0f} M parameters"
    template = plan.template.family or "the model's own"
    named = config.template is not None and plan.template.family == config.template
    method, weights = describe(config, dtype[0])
    decides = "lora_rank" if config.finetuning_type == "lora" else "finetuning_type"
    steps = f"{plan.steps} of {batch} conversations, learning rate {config.learning_rate:g}"
    output.fields(
        [
            ("model", size, _from(loaded, "model_name_or_path")),
            ("template", template, _served(plan) + (named * f", {_from(loaded, 'template')}")),
            ("data", data + held_out, "; ".join(plan.notes)),
            ("method", method, _from(loaded, decides)),
            ("steps", steps, _from(loaded, "learning_rate")),
            ("device", where, threads[1] * on_cpu),
            ("weights", weights, dtype[1]),
            ("memory", *memory_line(needs)),
            ("time", f"about {minutes(needs.minutes)}", f"{needs.tokens_per_s:,.0f} tokens/s"),
            ("disk", f"about {needs.disk_gb:.1f} GB", "base, checkpoint, GGUF file, Ollama's copy"),
        ]
    )
    output.event(
        "plan",
        steps=plan.steps,
        tokens=plan.tokens,
        learned=plan.learned,
        memory_gb=round(needs.peak_gb, 2),
        minutes=round(needs.minutes, 2),
        disk_gb=round(needs.disk_gb, 2),
    )


def needs_of(plan: Plan, device: str, dtype: str) -> tuple[Estimate, str]:
    """(what the training will take here, the key=value that would fit if it does not)."""
    from ft2ollama.estimate import here
    from ft2ollama.estimate.result import bill
    from ft2ollama.estimate.suggest import suggest
    from ft2ollama.train.lengths import job_of_plan

    place = here.this_machine(device)
    job = job_of_plan(plan, device, dtype)
    found = suggest(job, place, type(plan.config).model_fields)
    return bill(plan.config, job, place), found[0].settings if found else ""


def must_fit(output: Output, needs: Estimate, instead: str) -> None:
    """Refuse what surely does not fit (10 % on the safe side); warn of what is tight."""
    from ft2ollama.errors import MachineError
    from ft2ollama.machine import free_disk
    from ft2ollama.runs import runs_root

    why = (
        f"it needs about {needs.peak_gb:.1f} GB (± 10 %); {needs.place} has "
        f"{needs.capacity_gb:.1f} GB, {needs.free_gb:.1f} GB free"
    )
    if needs.fits == "no":
        fix = instead or "a smaller model; `ft2ollama estimate CONFIG` compares the methods"
        raise MachineError("this training does not fit into the memory", why, fix)
    if needs.fits == "tight":
        output.warn(f"memory is tight: {why}" + (f"; safer: {instead}" if instead else ""))
    room = free_disk(runs_root()) / 1e9
    new = sum(term.gb for term in needs.disk if term.name != "base model")
    if new > room:
        output.warn(f"disk: about {new:.1f} GB will be written, {room:.1f} GB are free")


def _served(plan: Plan) -> str:
    """What of the template Ollama will serve."""
    if plan.template.refusal:
        return "cannot be published"
    able = ", ".join(plan.template.capabilities)
    return f"in Ollama with {able}" if able else "in Ollama without tools and thinking"


def _from(loaded: Loaded, key: str) -> str:
    return loaded.origins.get(key, "default")


def _train(output: Output, plan: Plan, run: Run, loaded: Loaded, how: tuple[str, str]) -> None:
    """how: number format of the base weights, device."""
    from ft2ollama.cli.train_display import Display, show_curve
    from ft2ollama.train.distributed import team

    with output.waiting("loading transformers and peft"):
        from ft2ollama.train.trainer import train as run_training
    display = Display(output, plan.steps)
    dtype, device = how
    try:
        run_training(
            plan,
            run,
            dtype=dtype,
            device=device,
            report=display,
            origins=loaded.origins,
        )
    finally:
        display.close()
    if team().first:
        show_curve(output, run)
