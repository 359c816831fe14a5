"""A stored curve: whoever changes what is computed has to change it here, knowingly.

The weights are sines, so no random generator has a part in them. One and two threads, and AVX-512,
AVX2 and no vector instructions (ATEN_CPU_CAPABILITY, MKL_CBWR) give the same curve to the five
digits that are kept; the tolerance is ten times the last of them.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from killed import Job
from transformers import LlamaForCausalLM

from ft2ollama.base import Base, resolve_base
from ft2ollama.train.resume import curve

pytestmark = pytest.mark.filterwarnings("ignore")
GOLDEN = [12.14397, 11.79829, 11.61416, 11.90547, 10.87468, 10.85759, 10.83529, 10.90878, 10.79601]
HELD_OUT = [11.28809, 10.86089, 10.7884]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def sines(tiny: Base, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The tiny model with weights that every machine computes alike."""
    folder = tmp_path_factory.mktemp("sines") / "sines"
    shutil.copytree(tiny.folder, folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for number, (name, weight) in enumerate(sorted(model.named_parameters())):
            if weight.dim() == 2:
                index = torch.arange(weight.numel(), dtype=torch.float64)
                values = 0.2 * torch.sin(index * (12.9898 + number) + 78.233 * number)
                weight.copy_(values.reshape(weight.shape))
            assert "norm" in name or weight.dim() == 2
    model.save_pretrained(folder)
    return resolve_base(str(folder))


def test_the_curve_is_the_stored_one(sines: Base, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    talks = [
        {
            "instruction": f"Wie heißt {i}?",
            "input": "说中文" * (i % 3),
            "output": f"{i * i} 号。" * i,
        }
        for i in range(1, 15)
    ]
    rows.write_text(json.dumps(talks))
    settings = {"val_size": 2, "num_train_epochs": 3, "weight_decay": 0.1, "warmup_ratio": 0.2}
    run = Job(sines, str(rows), tmp_path / "run", settings).train()
    losses, evals = ([loss for _, loss in points] for points in curve(run))
    assert all(math.isfinite(loss) for loss in losses)
    assert losses == pytest.approx(GOLDEN, abs=TOLERANCE)
    assert evals == pytest.approx(HELD_OUT, abs=TOLERANCE)
