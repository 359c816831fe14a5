"""A line on a tiny model and a real Ollama, and the command as a process that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from ft2ollama.aliases import digest_of
from ft2ollama.loop.conservation import conservation
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback
from ft2ollama.loop.records import Exchange, Feedback
from ft2ollama.ollama_api import Ollama

ANSWER = "Ask Tom."
SOURCE = ("proxy", "http://127.0.0.1:11434")
# What decides is not what these tests are about: a random model learns nothing in some steps.
LENIENT = {
    "stopped": 0, "distinct": 0, "golden_margin": 1, "regressions": 1, "general_margin": 1,
    "speed": 0, "thin_evidence": True,
}  # fmt: skip


@dataclass(frozen=True)
class Rig:
    """A folder with ledger, configs and data of one line. models: the server's OLLAMA_MODELS."""

    folder: Path
    host: str
    models: Path
    base: Path
    name: str = "shop"

    @property
    def config(self) -> Path:
        return self.folder / "retrain.yaml"

    @property
    def command(self) -> tuple[str, ...]:
        return "--json", "retrain", str(self.config)

    @property
    def server(self) -> Ollama:
        return Ollama(self.host, timeout_s=120)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "FT2OLLAMA_DATA": str(self.folder / "data"), "OLLAMA_HOST": self.host,
            "FT2OLLAMA_RUNS": str(self.folder / "runs"), "OLLAMA_MODELS": str(self.models),
            "NO_COLOR": "1",
        }  # fmt: skip

    def ledger(self) -> Ledger:
        return Ledger.open(self.folder / "data/ledger.db")

    def write(self, *, gate: Mapping[str, Any] | None = None, **keys: Any) -> None:
        """The two configs."""
        train = {
            "model_name_or_path": str(self.base), "template": "chatml", "finetuning_type": "full",
            "learning_rate": 1e-2, "max_steps": 40, "per_device_train_batch_size": 8,
            "proof_replies": 1, "seed": 7, "cutoff_len": 128, "compute_dtype": "float32",
            "export_quant": "F16", "logging_steps": 5,
        }  # fmt: skip
        given = {
            "name": self.name,
            "train": "train.yaml",
            "gate": {**LENIENT, **(gate or {})},
            "reply_tokens": 12,
            "curate": {"fresh_from": 1, "closed_book": 1, "open_book": 0, "refusal": 0},
        }
        (self.folder / "train.yaml").write_text(yaml.safe_dump(train))
        self.config.write_text(yaml.safe_dump({**given, **keys}))

    def fill(self, first: int, count: int) -> None:
        """Answers that people corrected, to questions that are not alike."""
        rows, said = [], []
        for n in range(first, first + count):
            letters = sha256(str(n).encode()).hexdigest()
            question, rid = f"{letters[:12]} {letters[12:20]}?", f"{n:032x}"
            rows.append(Exchange(
                [{"role": "user", "content": question}], question, "I do not know.", n, rid=rid,
                http_status=200, done_reason="stop",
            ))  # fmt: skip
            said.append(Feedback("correction", n + 1, "test", rid=rid, text=ANSWER))
        with self.ledger() as ledger, ledger.begin() as connection:
            add_exchanges(connection, SOURCE, rows)
            add_feedback(connection, said)

    def start(
        self, *words: str, session: bool = False, **environment: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ft2ollama", *(words or self.command)],
            cwd=self.folder, env={**self.environment, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=session,
        )  # fmt: skip

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def retrain(self, *options: str, **environment: str) -> dict[str, Any]:
        """Run to the end; its result event, with the exit code."""
        done = self.run("--json", "retrain", str(self.config), *options, **environment)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        ends = [line for line in lines if line["event"] == "done"]
        assert ends, done.stderr
        return {**ends[-1], "code": done.returncode, "stderr": done.stderr}

    def alias(self) -> str | None:
        return digest_of(self.server, self.name)

    def sound(self) -> None:
        """Nothing is lost, nothing counts twice."""
        with self.ledger() as ledger:
            assert conservation(ledger) == []

    def remove_models(self) -> None:
        for name in self.server.models():
            if name.startswith(f"{self.name}:"):
                self.server.delete(name)

    def somebody_moves_the_alias(self) -> str | None:
        """To the base; its digest."""
        self.server.copy(f"{self.name}:base", self.name)
        return self.alias()


def write_questions(path: Path, asked: Iterable[tuple[str, str]]) -> Path:
    lines = (json.dumps({"question": q, "expect": [a]}) for q, a in asked)
    path.write_text("\n".join(lines))
    return path
