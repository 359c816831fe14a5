"""Several processes, one training: who plans and writes, who waits, and how one failure ends all.

`torchrun` and `accelerate launch` start the same command once per GPU and say in RANK, LOCAL_RANK
and WORLD_SIZE who is who; transformers and accelerate do the training itself. Here is what happens
around it. The first process makes the run folder, prints and writes; the others take its word
through the launcher's key-value store, so that nobody waits in a collective whose partner has
failed. Of several failures (one process runs out of memory, the others lose their partner) the
first one is told, and the others end without a word.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ft2ollama.errors import ExitCode, JobError, MachineError, UsageError

if TYPE_CHECKING:
    from ft2ollama.config import Config

T = TypeVar("T")
_LOOK_EVERY_S = 0.05
_PREFIX = "ft2ollama"
_team: Team | None = None


class EndedElsewhere(JobError):
    """Another process has failed and told why; this one only ends, with the same exit code."""

    def __init__(self, code: int) -> None:
        super().__init__("another process of this training has failed")
        self.code = ExitCode(code)


class Team:
    """The processes of one training, seen from one of them. Alone, every method is a plain call."""

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None) -> None:
        self.rank, self.size, self._store = rank, size, store

    @property
    def first(self) -> bool:
        """Is this the process that plans, prints and writes?"""
        return self.rank == 0

    def share(self, name: str, make: Callable[[], T]) -> T:
        """What `make()` returns in the first process, for all; it must be a value of JSON.

        Raises EndedElsewhere when the first process has failed instead.
        """
        if self._store is None:
            return make()
        if self.first:
            value = make()
            self._store.set(name, json.dumps(value))
            return value
        theirs: T = json.loads(self._wait_for(name))
        return theirs

    def in_turn(self, name: str, work: Callable[[], T]) -> T:
        """`work()` in every process, but first in the first: what it downloads, the others find."""
        if self._store is None or self.first:
            result = work()
            self.share(name, lambda: True)
            return result
        self.share(name, lambda: True)
        return work()

    def agree(self, name: str, mine: Mapping[str, str]) -> None:
        """Raises UsageError where this process read other inputs than the first one."""
        theirs = self.share(name, lambda: dict(mine))
        other = sorted(key for key in {*theirs, *mine} if theirs.get(key) != mine.get(key))
        if other:
            raise UsageError(
                f"process {self.rank} reads another {', '.join(other)} than process 0",
                "every machine must have the same config, base model and data",
                "copy them to this machine, or put them on a shared disk",
            )

    # --- orders: the first process names a step, and all act at the end of that very step
    def order(self, name: str, step: int) -> None:
        """In the first process: everybody shall do `name` at the end of step `step`."""
        if self._store is not None:
            self._store.set(f"order/{name}", str(step))

    def ordered(self, name: str, step: int) -> bool:
        """Is `name` due at the end of this step?"""
        if self._store is None or not self._store.check([f"order/{name}"]):
            return False
        return int(self._store.get(f"order/{name}")) == step

    # --- the end
    def is_first_to_fail(self, code: int) -> bool:
        """Shall this failure be told? Only the first of all processes hears yes."""
        if self._store is None:
            return True
        try:
            first = self._store.add("failures", 1) == 1
            if first:
                self._store.set("code", str(code))
        except RuntimeError:  # the store went with the process that had failed
            return self.first
        return bool(first)

    def has_failed(self) -> bool:
        """Has any process failed?"""
        return self._store is not None and self._store.add("failures", 0) > 0

    def leave(self) -> None:
        """End the process group, where one was made."""
        if self._store is None:
            return
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()

    def _wait_for(self, name: str) -> bytes:
        while not self._store.check([name]):
            if self.has_failed():
                code = self._store.get("code") if self._store.check(["code"]) else b"1"
                raise EndedElsewhere(int(code))
            time.sleep(_LOOK_EVERY_S)
        value: bytes = self._store.get(name)
        return value


def lost_partner(error: BaseException) -> JobError | None:
    """What to tell when another process went without a word; None if the error says nothing of it.

    gloo and NCCL raise RuntimeErrors of their own words.
    """
    if team().size == 1 or not isinstance(error, RuntimeError):
        return None
    words = ("Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe")
    if not any(word in str(error) for word in words):
        return None
    return JobError(
        "another process of this training has ended",
        f"process {team().rank} has lost it: {str(error).strip().splitlines()[0][:200]}",
        "see what its own output or `dmesg` says (a killed process says nothing), then start the "
        "same command again: the run goes on from its last checkpoint",
    )


def team() -> Team:
    """The team of this process; alone until `join_team`."""
    return _team or Team()


def join_team() -> Team:
    """Meet the other processes, if the launcher says that there are any."""
    global _team
    size = int(os.environ.get("WORLD_SIZE") or 1)
    if size == 1 or _team is not None:
        return team()
    from torch.distributed import PrefixStore, rendezvous

    store, rank, size = next(rendezvous("env://"))
    _team = Team(rank, size, PrefixStore(_PREFIX, store))
    return _team


def local_rank() -> int:
    """Which GPU of this machine is ours."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def check_engine(config: Config) -> None:
    """DeepSpeed and FSDP: launched rightly, their files there and JSON, their package installed.

    Raises UsageError or MachineError; called before anything expensive.
    """
    for name, path in (("deepspeed", config.deepspeed), ("fsdp_config", config.fsdp_config)):
        if path is not None:
            _check_json(name, path)
    engine = "deepspeed" if config.deepspeed else "fsdp" if config.sharded else ""
    if engine and "WORLD_SIZE" not in os.environ:
        raise UsageError(
            f"{engine} needs a launcher",
            "it shares a model among processes, and only one was started",
            "torchrun --nproc-per-node gpu -m ft2ollama train ...",
        )
    if engine == "deepspeed":
        _check_deepspeed()


def _check_json(name: str, path: Path) -> None:
    try:
        settings = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"{name}: cannot read {path}",
            f"{error.strerror}; it is looked for in {Path.cwd()}",
            f"{name}=/the/full/path.json",
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{name}: {path} is no JSON", str(error), "mend the file, or copy an example anew"
        ) from error
    if not isinstance(settings, dict):
        raise UsageError(
            f"{name}: {path} holds no settings",
            f"it holds a {type(settings).__name__}, not {{...}}",
            'write {"zero_optimization": {"stage": 2}}' if name == "deepspeed" else "write {}",
        )


def _check_deepspeed() -> None:
    from importlib.util import find_spec

    if find_spec("deepspeed") is None:
        raise MachineError(
            "deepspeed is not installed",
            "the config has a deepspeed file; with LoRA plain torchrun does as well without it",
            "pip install deepspeed     # or remove the key",
        )
