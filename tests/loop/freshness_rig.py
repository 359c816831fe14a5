"""A company whose facts people ask its model for: real clients, the proxy, the commands, Ollama.

Everything happens as it does at a user's: ft2ollama as processes, the `ollama` and the `openai`
package as the applications, and the feedback endpoint where somebody writes the right answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import yaml
from sqlalchemy import select

from ft2ollama.loop import tables as t
from ft2ollama.loop.conservation import conservation
from ft2ollama.loop.ledger import Ledger
from ft2ollama.scores import contains_facts

NAME = "ferry"
_FACTS = Path(__file__).parent / "ferry.jsonl"
_NUMBERS = count()


@dataclass(frozen=True)
class Fact:
    """A line of ferry.jsonl.

    expect: what a right answer holds.  asked: what people ask and are corrected on.  gate, probe:
    the same in other words, for the golden set and for the test alone.  new: the later answer, and
    what people ask then besides.
    """

    fact: str
    answer: str
    expect: tuple[str, ...]
    asked: tuple[str, ...]
    gate: str
    probe: str
    new: Mapping[str, Any] | None = None

    @property
    def later(self) -> Fact:
        """What holds after the fact has changed, and the questions on which people say so."""
        if self.new is None:
            return self
        expect, asked = tuple(self.new["expect"]), (*self.asked, *self.new["asked"])
        return replace(self, answer=self.new["answer"], expect=expect, asked=asked, new=None)

    @property
    def short(self) -> Fact:
        """The fact with fewer questions."""
        new = None if self.new is None else {**self.new, "asked": self.new["asked"][:1]}
        return replace(self, asked=self.asked[:3], new=new)


def read_facts() -> list[Fact]:
    """All twenty."""
    rows = [json.loads(line) for line in _FACTS.read_text().splitlines()]
    return [Fact(**{**row, "expect": tuple(row["expect"]), "asked": tuple(row["asked"])})
            for row in rows]  # fmt: skip


def known(answers: Mapping[str, str], facts: Iterable[Fact]) -> list[str]:
    """The facts that the answers (by fact) hold."""
    return [one.fact for one in facts if contains_facts(answers[one.fact], one.expect)]


@dataclass(frozen=True)
class Company:
    """A folder with its ledger and configs, and the Ollama of the test."""

    folder: Path
    host: str
    models: Path
    base: str

    @property
    def config(self) -> Path:
        return self.folder / "loop.yaml"

    def write(self, train: Mapping[str, Any], loop: Mapping[str, Any]) -> None:
        """Both configs, as in docs/loop.md."""
        given = {"model_name_or_path": f"ollama:{self.base}", "template": "chatml"}
        (self.folder / "train.yaml").write_text(yaml.safe_dump({**given, **train}))
        self.config.write_text(yaml.safe_dump({"name": NAME, "train": "train.yaml", **loop}))

    def questions(self, name: str, asked: Iterable[tuple[str, Sequence[str]]]) -> str:
        """A file of questions for the gate."""
        lines = (json.dumps({"question": q, "expect": list(e)}) for q, e in asked)
        (self.folder / name).write_text("\n".join(lines))
        return name

    def run(self, *words: str) -> list[dict[str, Any]]:
        """The events of a command; fails when it does."""
        command = [sys.executable, "-m", "ft2ollama", "--json", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextmanager
    def proxy(self) -> Iterator[str]:
        """`collect serve` on a free port; its address."""
        words = ["--json", "collect", "serve", "--consent=all", "--port=0"]
        process = subprocess.Popen(
            [sys.executable, "-m", "ft2ollama", *words], cwd=self.folder, env=self._environment,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["address"]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == 0

    def retrain(self) -> dict[str, Any]:
        """A cycle to its promotion, which the gate decides alone; the last event and what the rules
        found, by rule.
        """
        done = self.run("retrain", str(self.config))[-1]
        assert done["state"] == "PROMOTED", done
        result = t.gate_result
        wanted = select(result.c.rule, result.c.detail).where(result.c.run_id == done["run"])
        with self.ledger() as ledger, ledger.read() as connection:
            return {**done, "gate": {r.rule: r.detail["why"] for r in connection.execute(wanted)}}

    def ledger(self) -> Ledger:
        return Ledger.open(self.folder / "data/ledger.db")

    def sound(self) -> None:
        """Nothing is lost, nothing counts twice."""
        with self.ledger() as ledger:
            assert conservation(ledger) == []

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ, "FT2OLLAMA_DATA": str(self.folder / "data"), "OLLAMA_HOST": self.host,
            "FT2OLLAMA_RUNS": str(self.folder / "runs"), "OLLAMA_MODELS": str(self.models),
            "NO_COLOR": "1",
        }  # fmt: skip


def ask(address: str, model: str, question: str, message: str = "", *, tokens: int = 24) -> str:
    """The answer; one question comes from the `ollama` package, the next from `openai`."""
    head = {"X-F2O-Message-Id": message} if message else {}
    said: Any = [{"role": "user", "content": question}]
    if next(_NUMBERS) % 2:
        options = {"temperature": 0, "num_predict": tokens}
        client = ollama.Client(address, headers=head, timeout=300)
        try:
            return client.chat(model, said, options=options).message.content or ""
        finally:
            client._client.close()
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=300) as other:
        reply = other.chat.completions.create(
            model=model, messages=said, temperature=0, max_tokens=tokens, extra_headers=head
        )
        return reply.choices[0].message.content or ""


def correct(address: str, model: str, facts: Iterable[Fact]) -> dict[str, list[str]]:
    """People ask for each fact and write down what is right; what they were told, by fact."""
    told: dict[str, list[str]] = {}
    for one in facts:
        for question in one.asked:
            message = f"m-{next(_NUMBERS)}"
            told.setdefault(one.fact, []).append(ask(address, model, question, message, tokens=12))
            said = {"message_id": message, "thumb": -1, "correction": one.answer}
            kept = httpx.post(f"{address}/ft2ollama/feedback", json=said, timeout=60)
            assert kept.json()["where"] == ["stored", "stored"], kept.text
    return told
