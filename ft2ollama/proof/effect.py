"""Effect proof: does Ollama write what the training taught, where the base writes something else?

The trainer looks for places in the training answers at which base and trained model choose another
next token and the trained one is right (train/effect.py), and keeps those with the clearest lead.
Here the served model continues the text of each place by one token, greedily; so does the base in
the same Ollama, where it can be had cheaply. A model whose adapter was not applied chooses the
base's word at nearly every place; a faithful one chooses the trained word, also in 4 bits, because
the places were chosen by their lead. A training that changed no choice is told, and is no failure:
what runs is still what was trained (docs/decisions/011-effect.md).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft2ollama.errors import UserError
from ft2ollama.ollama_api import Ollama
from ft2ollama.proof.prompts import Tick, adds_bos

ENOUGH = 2 / 3  # of the places; 0 to a quarter without the adapter, all of them with it


@dataclass(frozen=True)
class Choice:
    """A place in a training answer and the words written there.

    text: everything before it.  taught: the trained model's word, the data's too.
    base: the base's, both in the trainer.  served: Ollama's.  control: the base's in Ollama.
    """

    place: str
    text: str
    taught: str
    base: str
    served: str
    control: str | None = None


@dataclass(frozen=True)
class EffectCheck:
    """What the training changed, and whether Ollama shows it.

    answers: how many training answers the trainer looked at, with the mean loss of base and of the
    trained model.  changed: of how many `tokens` the choice changed.  why: no control.
    """

    choices: tuple[Choice, ...]
    answers: int
    tokens: int
    changed: int
    loss_before: float
    loss_after: float
    why: str = ""

    @property
    def taught(self) -> int:
        """At how many places Ollama writes the trained word."""
        return sum(one.served == one.taught for one in self.choices)

    @property
    def control(self) -> int | None:
        """At how many the base in Ollama does; None when it was not asked."""
        if any(one.control is None for one in self.choices):
            return None
        return sum(one.control == one.taught for one in self.choices)

    @property
    def failure(self) -> str:
        """Why the model must not be published, or ""."""
        if not self.choices:
            return ""
        count, control = len(self.choices), self.control
        if self.taught < ENOUGH * count:
            like = sum(one.served == one.base for one in self.choices)
            return (
                f"at {self.taught} of {count} places Ollama writes what was taught, at {like} what "
                "the untrained base writes"
            )
        if control is not None and control >= self.taught:
            return (
                f"the untrained base in the same Ollama writes the taught word at {control} of "
                f"{count} places, the published model at {self.taught}: not the base of this run"
            )
        return ""

    @property
    def warning(self) -> str:
        """What the user should know although nothing is wrong with the file, or ""."""
        if self.choices or not self.answers:
            return ""
        return (
            f"the training changed no word that counts: of {self.tokens} tokens in {self.answers} "
            f"training answers {self.changed} would be written otherwise than by the base, none of "
            f"them as taught (loss {self.loss_before:.2f} -> {self.loss_after:.2f})"
        )


def prove_effect(
    server: Ollama,
    model: str,
    effect: Mapping[str, Any],
    *,
    base: str | None = None,
    why: str = "",
    tick: Tick | None = None,
) -> EffectCheck:
    """Ask `model`, and `base` where there is one, for the next word at every place.

    effect: the trainer's effect.json.  base: the untrained model's name in the same Ollama.
    why: the reason when there is none.
    """
    places: Sequence[Mapping[str, Any]] = effect["places"]
    total = len(places) * (2 if base else 1)
    bos = str(effect.get("bos") or "")
    served = _words(server, model, places, bos, _counted(tick, 0, total))
    control = _words(server, base, places, bos, _counted(tick, len(places), total)) if base else []
    choices = tuple(
        Choice(
            str(place["place"]),
            str(place["text"]),
            str(place["taught"]).strip(),
            str(place["base"]).strip(),
            served[number],
            control[number] if control else None,
        )
        for number, place in enumerate(places)
    )
    return EffectCheck(
        choices,
        int(effect["answers"]),
        int(effect["tokens"]),
        int(effect["changed"]),
        float(effect["loss_before"]),
        float(effect["loss_after"]),
        "" if base else why,
    )


def _words(
    server: Ollama,
    model: str,
    places: Sequence[Mapping[str, Any]],
    bos: str,
    tick: Callable[[int], None],
) -> list[str]:
    words = []
    front = bos if places and adds_bos(server, model) else ""
    for number, place in enumerate(places, 1):
        text = str(place["text"]).removeprefix(front)
        words.append(server.complete(model, text, tokens=1).text.strip())
        tick(number)
    return words


def _counted(tick: Tick | None, done: int, total: int) -> Callable[[int], None]:
    def move(number: int) -> None:
        if tick:
            tick(done + number, total)

    return move


@contextlib.contextmanager
def served_base(server: Ollama, gguf: Path, sha256: str) -> Iterator[str]:
    """The untrained base under a name of its own, taken away at the end."""
    name = f"ft2ollama-probe:base-{secrets.token_hex(6)}"
    server.create(name, gguf=gguf, gguf_sha256=sha256, template="{{ .Prompt }}")
    try:
        yield name
    finally:
        with contextlib.suppress(UserError):
            server.delete(name)
