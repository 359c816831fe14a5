"""The trainer on a tiny model: what it writes, stopping and resuming, exactness."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ft2ollama.data.render import IGNORED
from ft2ollama.errors import Interrupted, JobError
from ft2ollama.runs import Run, create_run
from ft2ollama.train.batches import Collator
from ft2ollama.train.checkpoints import newest
from ft2ollama.train.loss import learned_loss
from ft2ollama.train.model import attach_lora, load_base
from ft2ollama.train.plan import Plan, count_steps
from ft2ollama.train.trainer import train

Make = Callable[..., Plan]
pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # torch, transformers and peft warn about themselves


def run_training(
    plan: Plan, name: str, report: Callable[[dict[str, Any]], None] = lambda _: None
) -> Run:
    run = create_run(name, "model_name_or_path: x\n")
    train(plan, run, dtype="float32", device="cpu", report=report)
    return run


def losses(run: Run) -> list[float]:
    return [event["loss"] for event in run.events("step")]


@pytest.mark.oracle
def test_the_loss_is_the_one_of_transformers(plan: Make) -> None:
    made = plan()
    model = attach_lora(
        load_base(made.base.folder, "float32", "cpu"),
        rank=4, alpha=8, dropout=0.0, target=["all"], use_rslora=False, seed=0,
    )  # fmt: skip
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    rows = [{"input_ids": list(s.ids), "labels": [IGNORED, *s.labels[1:]]} for s in made.train[:5]]
    batch = Collator(0)(rows)
    theirs = model(**batch).loss
    ours = learned_loss(model, batch, None)
    assert abs(float(ours) - float(theirs)) < 1e-5
    half = learned_loss(model, batch, 2 * int((batch["labels"] != IGNORED).sum()))
    assert abs(float(half) - float(theirs) / 2) < 1e-5


def test_padding_does_not_change_the_loss(plan: Make) -> None:
    made = plan()
    model = load_base(made.base.folder, "float32", "cpu")
    rows = [{"input_ids": list(s.ids), "labels": list(s.labels)} for s in made.train[:6]]
    together = learned_loss(model, Collator(7)(rows), 1)
    alone = sum(float(learned_loss(model, Collator(0)([row]), 1)) for row in rows)
    assert abs(float(together) - alone) < 1e-3


def test_a_training_writes_adapter_curve_and_proof(plan: Make) -> None:
    made, events = plan(val_size=4), []
    run = run_training(made, "whole", events.append)
    stage = run.stage_record("train")
    assert stage["status"] == "done"
    assert stage["steps"] == made.steps == 10
    assert stage["last_loss"] < stage["first_loss"] - 0.5
    assert stage["eval_loss"] > 0
    assert set(stage["outputs"]) == {
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
        "loss.png", "loss.svg", "proof/template.json", "proof/prompts.jsonl", "proof/replies.jsonl",
        "proof/effect.json",
    }  # fmt: skip
    assert (run.folder / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert not run.checkpoints.exists()
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(made.base.folder)
    assert run.is_current("train", made.inputs)
    assert not run.is_current("train", plan(val_size=4, learning_rate=1e-3).inputs)
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, 11))
    assert all(event["tokens_per_s"] > 0 and event["mem_gb"] > 0 for event in steps)


def test_the_same_seed_gives_the_same_losses(plan: Make) -> None:
    first, second = run_training(plan(), "a"), run_training(plan(), "b")
    assert losses(first) == losses(second)
    assert losses(run_training(plan(seed=7), "c")) != losses(first)


def test_micro_batches_do_not_change_the_result(plan: Make) -> None:
    whole = run_training(plan(per_device_train_batch_size=8), "whole")
    parts = run_training(
        plan(per_device_train_batch_size=2, gradient_accumulation_steps=4), "parts"
    )
    assert losses(parts) == pytest.approx(losses(whole), abs=2e-4)


def test_ctrl_c_saves_a_checkpoint_and_resume_continues_exactly(plan: Make) -> None:
    whole = run_training(plan(), "whole")

    def press(event: dict[str, Any]) -> None:
        if event.get("step") == 5 and event["event"] == "step":
            os.kill(os.getpid(), signal.SIGINT)

    run = create_run("stopped", "")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        train(plan(), run, dtype="float32", device="cpu", report=press)
    assert signal.getsignal(signal.SIGINT) is before
    stopped_at = int(newest(run.checkpoints).name.split("-")[1])  # type: ignore[union-attr]
    assert 5 <= stopped_at <= 6
    assert caught.value.fix == f"ft2ollama train --resume {run.id}"
    assert run.stage_record("train")["status"] == "interrupted"
    assert not run.adapter.exists()
    train(plan(), run, dtype="float32", device="cpu", report=lambda _: None)
    assert run.stage_record("train")["status"] == "done"
    by_step = {event["step"]: event["loss"] for event in run.events("step")}
    assert [by_step[step] for step in sorted(by_step)] == losses(whole)


def test_a_diverged_training_is_an_error_with_a_smaller_rate(plan: Make) -> None:
    with pytest.raises(JobError, match="diverged") as caught:
        run_training(plan(learning_rate=1.0, lora_alpha=10**39), "nan")
    assert caught.value.fix == "learning_rate=0.25"


def test_steps_are_counted_as_the_trainer_counts_them(plan: Make) -> None:
    for changes in (
        {"per_device_train_batch_size": 5, "num_train_epochs": 1.5},
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3},
        {"max_steps": 3},
    ):
        made = plan(**changes, proof_replies=0)
        run = run_training(made, "steps")
        assert run.stage_record("train")["steps"] == made.steps == count_steps(made.config, 24)


def test_a_checkpoint_of_other_inputs_is_not_resumed(plan: Make) -> None:
    def press(event: dict[str, Any]) -> None:
        if event.get("step") == 8 and event["event"] == "step":
            os.kill(os.getpid(), signal.SIGINT)

    run = create_run("stopped", "")
    with pytest.raises(Interrupted):
        train(plan(), run, dtype="float32", device="cpu", report=press)
    other = plan(learning_rate=1e-3, num_train_epochs=1)
    train(other, run, dtype="float32", device="cpu", report=lambda _: None)
    fresh = run_training(other, "fresh")
    assert losses(run) == losses(fresh)
    assert len(losses(run)) == 6
