"""Out of memory: caught, and told with a command to type. Disk full: told, and nothing is lost."""

from __future__ import annotations

import errno
import multiprocessing
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import PRELOAD, Job, result

from ft2ollama.base import Base
from ft2ollama.errors import ExitCode, MachineError
from ft2ollama.train.memory_errors import Load, is_out_of_memory, out_of_memory

pytestmark = pytest.mark.filterwarnings("ignore")
CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB of "
    "which 1.10 GiB is free. Including non-PyTorch memory, this process has 22.52 GiB memory in "
    "use. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation"
)


def test_what_is_out_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError(CUDA))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_on_a_gpu_every_knob_is_typed_out() -> None:
    estimate = {
        "peak_gb": 21.34,
        "terms": [{"name": "activations", "gb": 12.1}, {"name": "base weights", "gb": 5.24}],
    }
    load = Load(6, 4, 2048, 4096, "cuda", estimate)
    error = out_of_memory(
        torch.OutOfMemoryError(CUDA), load, command="ft2ollama train --resume r", when="at step 3",
        goes_on=True,
    )  # fmt: skip
    assert str(error).splitlines() == [
        "out of GPU memory at step 3",
        "  CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB "
        "of which 1.10 GiB is free. Including non-PyTorch memory, this process has 22.52 GiB "
        "memory in use",
        "  computed at once: 6 conversations of up to 2,048 tokens",
        "  the plan said about 21.3 GB",
        "  most of it: activations 12.1, base weights 5.2",
        "  fix: ft2ollama train --resume r per_device_train_batch_size=3 "
        "gradient_accumulation_steps=8     # the same training, less at once; it goes on from the "
        "last checkpoint",
        "     or: gradient_checkpointing=true     # the same training, about a third slower",
        "     or: quantization_bit=4     # 4-bit base weights",
        "     or: cutoff_len=1024     # longer conversations are left out or cut",
    ]
    assert error.code is ExitCode.MACHINE


@pytest.mark.parametrize(
    ("load", "first"),
    [
        (Load(1, 8, 900, 1024, "cuda", checkpointing=True), "quantization_bit=4 "),
        (Load(1, 8, 900, 1024, "cpu"), "cutoff_len=450 "),
        (Load(3, 1, 64, 64, "cpu"), "per_device_train_batch_size=1 gradient_accumulation_steps=3 "),
        (Load(1, 1, 64, 64, "cpu"), "model_name_or_path=<a smaller model> "),
    ],
)
def test_the_cheapest_knob_comes_first(load: Load, first: str) -> None:
    error = out_of_memory(MemoryError(), load, command="train", when="x", goes_on=False)
    assert error.fix.startswith(f"train {first}")


def _starve(job: Job, answer: Any) -> None:
    """Train with an address space that has room for the libraries and little else."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def limit(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 2:
            resource.setrlimit(resource.RLIMIT_AS, (used + (90 << 20), resource.RLIM_INFINITY))

    try:
        job.train(limit)
    except MachineError as error:
        answer.send((error.what, error.why, error.fix))
    answer.send(None)


def test_a_real_limit_on_a_cpu(tiny: Base, tmp_path: Path) -> None:
    """The logits of a batch of long conversations do not fit any more after the second step."""
    rows = tmp_path / "rows.json"
    rows.write_text(str([{"instruction": "a", "output": "word " * 180}] * 12).replace("'", '"'))
    job = Job(tiny, str(rows), tmp_path / "run", {"save_steps": 1, "num_train_epochs": 1})
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    mine, theirs = context.Pipe()
    process = context.Process(target=_starve, args=(job, theirs))
    process.start()
    assert mine.poll(120)
    what, why, fix = mine.recv()
    process.join(60)
    assert what == "out of memory at step 3 of 3"
    assert "allocate" in why
    assert "computed at once: 4 conversations of up to" in why
    assert fix.startswith(
        "ft2ollama train --resume run per_device_train_batch_size=2 gradient_accumulation_steps=2"
    )
    halves = {
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "save_steps": 1,
        "num_train_epochs": 1,
    }  # fmt: skip
    events: list[dict[str, Any]] = []
    run = Job(tiny, str(rows), tmp_path / "run", halves).train(events.append)
    assert [event["step"] for event in events if event["event"] == "resuming"] == [2]
    whole = Job(tiny, str(rows), tmp_path / "whole", {"num_train_epochs": 1}).train()
    losses = [loss for _, loss in result(run)[0]]
    assert losses == pytest.approx([loss for _, loss in result(whole)[0]], abs=1e-4)


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    tiny: Base, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save fails as on a full disk while the second checkpoint is written."""
    save, saves = torch.save, []

    def full(value: Any, path: Any, **rest: Any) -> None:
        if "checkpoint-4" in str(path):
            Path(path).write_bytes(b"half")
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
        saves.append(str(path))
        save(value, path, **rest)

    whole = Job(tiny, str(rows), tmp_path / "whole", {"save_steps": 2}).train()
    monkeypatch.setattr(torch, "save", full)
    events: list[dict[str, Any]] = []
    run = Job(tiny, str(rows), tmp_path / "full", {"save_steps": 2}).train(events.append)
    assert result(run) == result(whole)
    (told,) = (event for event in events if event["event"] == "no_checkpoint")
    assert told["step"] == 4
    assert "PytorchStreamWriter failed writing" in told["why"]
    kept = {path.name for path in run.checkpoints.iterdir()}
    assert kept == {f"checkpoint-{step}" for step in (2, 6, 8, 10, 12)}
    assert saves
