"""Runs of every kind speak as they were trained: quantized bases, whole models, temperatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ft2ollama.base import Base
from ft2ollama.data.samples import Sample
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.errors import UsageError
from ft2ollama.runs import create_run
from ft2ollama.served import read_template
from ft2ollama.train.plan import Plan
from ft2ollama.train.speaker import (
    Speaker,
    Style,
    choice,
    held_out_loss,
    load_for_speaking,
    load_tuned,
)
from ft2ollama.train.trainer import train

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS: dict[str, dict[str, Any]] = {
    "NF4": {"quantization_bit": 4},
    "whole": {"quantization_bit": 4, "qlora_merge_into": "quantized"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_training(
    tiny: Base, plan: Callable[..., Plan], tmp_path: Path, kind: str
) -> None:
    made = plan(**KINDS[kind], val_size=6, compute_dtype="float32", max_steps=3, proof_replies=0)
    run = create_run("", "", folder=tmp_path / "run")
    train(made, run, dtype="float32", device="cpu", report=lambda _: None)
    model, form = load_tuned(run, tiny.folder, "cpu", made.config)
    assert ("4-bit" in form) == (kind == "NF4")
    assert any("Linear4bit" in type(part).__name__ for part in model.modules()) == (kind == "NF4")
    known = run.stage_record("train")["eval_loss"]
    tolerance = 1e-4 if kind == "NF4" else 1e-3  # merging rounds
    assert held_out_loss(model, made.validation) == pytest.approx(known, abs=tolerance)
    base, _ = load_for_speaking(tiny.folder, "cpu", made.config)
    assert held_out_loss(base, made.validation) > known + 0.05
    speaker = Speaker(model, read_template(run.proof / "template.json"), Tokenizer(tiny.folder))
    spoken = speaker.reply([{"role": "user", "content": "What is 3 times 3?"}], limit=6)
    assert len(spoken.ids) == 6
    assert spoken.steps == 5
    long = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(UsageError, match="longer than the model's context"):
        speaker.reply(long, limit=6)


def test_a_row_by_itself_has_the_same_loss_in_company(
    tiny: Base, plan: Callable[..., Plan]
) -> None:
    model, _ = load_for_speaking(tiny.folder, "cpu")
    samples: list[Sample] = list(plan().train[:6])
    alone = [(held_out_loss(model, [one]), one.learned) for one in samples]
    mean = sum(loss * count for loss, count in alone) / sum(count for _, count in alone)
    seen: list[tuple[int, int]] = []
    whole = held_out_loss(model, samples, lambda done, of: seen.append((done, of)))
    assert whole == pytest.approx(mean, rel=1e-5)
    assert seen == [(4, 6), (6, 6)]


def test_a_temperature_draws_by_the_chances() -> None:
    logits = torch.log(torch.tensor([0.1, 0.3, 0.6]))
    assert choice(Style())(logits) == 2
    draw = choice(Style(temperature=1.0, seed=3))
    counts = torch.bincount(torch.tensor([draw(logits) for _ in range(4000)]), minlength=3) / 4000
    assert counts.tolist() == pytest.approx([0.1, 0.3, 0.6], abs=0.03)
    same, other = (choice(Style(temperature=1.0, seed=seed)) for seed in (3, 4))
    draw = choice(Style(temperature=1.0, seed=3))
    drawn = [draw(logits) for _ in range(50)]
    assert drawn == [same(logits) for _ in range(50)]
    assert drawn != [other(logits) for _ in range(50)]
