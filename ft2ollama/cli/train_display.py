"""What a training looks like: bars and lines while it runs, three lines when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.runs import Run

# What is told beside the bars; an event's fields stand in braces.
_SENTENCES = {
    "resuming": "resuming after step {step} of {steps}",
    "anew": "config, base or data have changed since the checkpoint: training starts anew",
    "eval": "step {step}: held-out loss {eval_loss:.4f}",
    "eval_set": "step {step}: held-out loss {eval_loss:.4f} of {set}",
    "note": "{text}",
    "warning": "{text}",
    "stopping": "Ctrl-C: finishing this step and saving a checkpoint (again: stop at once)",
    "no_checkpoint": "no checkpoint at step {step}: {why}; the training goes on",
    "not_stopped": "not stopped, or the training would be lost: free some space and press Ctrl-C "
    "again",
}
_GOOD = ("resuming", "note", "eval", "eval_set")


class Display:
    """Turns training events into bars and lines."""

    def __init__(self, output: Output, steps: int) -> None:
        self._output, self._steps = output, steps
        self._open: Any = None
        self._meter: Any = None
        self._kind = ""

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
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
