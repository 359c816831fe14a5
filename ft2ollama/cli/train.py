"""`ft2ollama train CONFIG [key=value ...]`: a config and data -> a run with an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.base import Base
    from ft2ollama.config import Config, Loaded
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
    """Train a LoRA adapter from CONFIG (YAML or JSON, LLaMA-Factory's keys).

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
        dtype, why = choose_dtype(config.compute_dtype, device)
    memory = show_plan(
        output,
        plan,
        loaded,
        device=device,
        dtype=(dtype, why),
        threads=(threads.count, threads.why),
    )
    if dry_run:
        output.done("dry run: everything fits together, nothing was trained")
        return None
    run = shared_run(team().share("run", lambda: _path(run or new_run(plan))))
    if team().first:
        output.keep_log(run.folder / "log.txt")
        run.note(estimate={"peak_gb": round(memory, 2)})
    _train(output, plan, run, loaded, (dtype, device))
    team().leave()
    output.result(str(run.folder), run=str(run.folder))
    return run


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
    base = resolve(output, config.model_name_or_path, config.hub)
    from ft2ollama.train.plan import make_plan

    with output.waiting("reading the data"):
        return make_plan(config, base)


def resolve(output: Output, ref: str, hub: str = "huggingface") -> Base:
    """Find or fetch the base model, with progress."""
    from ft2ollama.base import resolve_base

    with output.bytes(f"unpacking {ref.rsplit('/', 1)[-1]}") as meter:
        return resolve_base(ref, hub=hub, progress=meter)


def finished_run(plan: Plan, run: Run | None = None) -> Run | None:
    """A run that was trained from the very same inputs (`run` itself, when one is resumed)."""
    from ft2ollama.runs import Run, all_runs

    if run is not None:
        return run if run.is_current("train", plan.inputs) else None
    named = plan.config.output_dir
    candidates = [Run(named.absolute())] if named and (named / "run.json").exists() else all_runs()
    return next((run for run in candidates if run.is_current("train", plan.inputs)), None)


def new_run(plan: Plan) -> Run:
    """The run folder, with the resolved config and the base in it."""
    import re

    from ft2ollama.config import dump_config
    from ft2ollama.runs import create_run

    config = plan.config
    absolute = config.model_copy(
        update={
            "dataset_dir": config.dataset_dir.absolute(),
            "dataset": tuple(
                str(Path(name).absolute()) if Path(name).is_file() else name
                for name in config.dataset
            ),
            "proof_prompts": config.proof_prompts.absolute() if config.proof_prompts else None,
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


def show_plan(
    output: Output,
    plan: Plan,
    loaded: Loaded,
    *,
    device: str,
    dtype: tuple[str, str],
    threads: tuple[int, str],
) -> float:
    """The plan: what will happen, with where each value comes from; returns its memory in GB."""
    from ft2ollama.train.distributed import team
    from ft2ollama.train.plan import estimate_memory_gb, parameters, rows_per_step

    config, base = plan.config, plan.base
    longest = max(len(sample.ids) for sample in plan.train)
    memory = estimate_memory_gb(base.folder, dtype[0], config, longest)
    output.title("plan")
    data = f"{len(plan.train)} conversations, {plan.tokens:,} tokens, {plan.learned:,} learned"
    held_out = f"; {len(plan.validation)} held out" if plan.validation else ""
    batch = rows_per_step(config)
    on_cpu = device == "cpu"
    where = f"cpu, {threads[0]} thread(s)" if on_cpu else device
    where += f", {team().size} processes" if team().size > 1 else ""
    size = f"{base.name}, {parameters(base.folder) / 1e6:,.0f} M parameters"
    own = "the model's own" if config.template is None else _from(loaded, "template")
    lora = f"LoRA rank {config.lora_rank}, alpha {config.resolved_lora_alpha}"
    steps = f"{plan.steps} of {batch} conversations, learning rate {config.learning_rate:g}"
    output.fields(
        [
            ("model", size, _from(loaded, "model_name_or_path")),
            ("template", plan.template.family, own),
            ("data", data + held_out, "; ".join(plan.notes)),
            ("method", f"{lora}, on {', '.join(config.lora_target)}", _from(loaded, "lora_rank")),
            ("steps", steps, _from(loaded, "learning_rate")),
            ("device", where, threads[1] * on_cpu),
            ("weights", f"{dtype[0]}, adapter float32", dtype[1]),
            ("memory", f"about {memory:.1f} GB", "weights, adapter, activations of a batch"),
        ]
    )
    output.event(
        "plan",
        steps=plan.steps,
        tokens=plan.tokens,
        learned=plan.learned,
        memory_gb=round(memory, 2),
    )
    return memory


def _from(loaded: Loaded, key: str) -> str:
    return loaded.origins.get(key, "default")


def _train(output: Output, plan: Plan, run: Run, loaded: Loaded, how: tuple[str, str]) -> None:
    """how: number format of the base weights, device."""
    from ft2ollama.train.distributed import team

    with output.waiting("loading transformers and peft"):
        from ft2ollama.train.trainer import train as run_training
    display = _Display(output, plan.steps)
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


# What is told beside the bars; an event's fields stand in braces.
_SENTENCES = {
    "resuming": "resuming after step {step} of {steps}",
    "anew": "config, base or data have changed since the checkpoint: training starts anew",
    "eval": "step {step}: held-out loss {eval_loss:.4f}",
    "warning": "{text}",
    "stopping": "Ctrl-C: finishing this step and saving a checkpoint (again: stop at once)",
    "no_checkpoint": "no checkpoint at step {step}: {why}; the training goes on",
    "not_stopped": "not stopped, or the training would be lost: free some space and press Ctrl-C "
    "again",
}
_GOOD = ("resuming", "eval")


class _Display:
    """Turns training events into bars and lines."""

    def __init__(self, output: Output, steps: int) -> None:
        self._output, self._steps = output, steps
        self._open: Any = None
        self._meter: Any = None
        self._kind = ""

    def __call__(self, event: dict[str, Any]) -> None:
        self._output.event(
            **{"kind": event["event"], **{k: v for k, v in event.items() if k != "event"}}
        )
        kind = event["event"]
        if kind == "phase":
            self._show("phase", event["phase"])
        elif kind == "step":
            self._show("step", "training")
            self._meter(event["step"], event["steps"])
            self._meter.note(
                f"loss {event['loss']:.3f}  lr {_short(event['lr'])}  "
                f"{event['tokens_per_s']:,.0f} tok/s  {event['mem_gb']:.1f} GB"
            )
        elif kind == "reply":
            self._show("reply", "reference replies in float32")
            self._meter(event["done"], event["of"])
        elif kind in _SENTENCES:
            say = self._output.done if kind in _GOOD else self._output.warn
            say(_SENTENCES[kind].format(**event))

    def _show(self, kind: str, text: str) -> None:
        if kind == self._kind and kind != "phase":
            return
        self.close()
        self._kind = kind
        if kind == "phase":
            self._open = self._output.waiting(text)
        else:
            self._open = self._output.counting(text, "steps" if kind == "step" else "replies")
        self._meter = self._open.__enter__()

    def close(self) -> None:
        """End what is on the screen."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
        self._open, self._kind = None, ""


def _short(rate: float) -> str:
    """2e-4"""
    digits, _, power = f"{rate:.0e}".partition("e")
    return f"{digits}e{int(power)}" if rate else "0"


def show_curve(output: Output, run: Run) -> None:
    """One line on the training, one of the loss curve, where the files are."""
    from ft2ollama.cli.output import sparkline

    stage = run.stage_record("train")
    points = {event["step"]: event for event in run.events("step")}
    losses = [points[step]["loss"] for step in sorted(points)]
    rates = [event["tokens_per_s"] for event in points.values()]
    held_out = f", held out {stage['eval_loss']:.3f}" if stage.get("eval_loss") is not None else ""
    rate = f", {sum(rates) / len(rates):,.0f} tokens/s" if rates else ""
    output.done(
        f"trained {stage['steps']} steps in {stage['seconds']:.0f} s{rate}: "
        f"loss {stage['first_loss']:.3f} -> {stage['last_loss']:.3f}{held_out}"
    )
    if stage["steps"] < stage["planned_steps"]:
        output.say(
            f"  stopped early, of {stage['planned_steps']} steps: held-out loss fell no more"
        )
    if stage["kept"] == "best":
        best = f"{stage['best_eval_loss']:.3f} at step {stage['best_step']}"
        output.say(f"  kept the weights of the lowest held-out loss, {best}")
    output.say(f"  loss  {sparkline(losses)}  {run.folder}/loss.png")
    output.say(f"  more  {run.folder}/train_report.md")
