"""All proofs of a run's model: its files against what the server does with them.

The order is that of their cost, and a proof that fails ends it: replies of other weights or to
another prompt would prove nothing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ft2ollama.base import Base
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.errors import UsageError
from ft2ollama.export import Exported, base_gguf
from ft2ollama.files import read_jsonl, sha256_file
from ft2ollama.ollama_api import Ollama
from ft2ollama.proof.cases import read_prompt
from ft2ollama.proof.effect import EffectCheck, prove_effect, served_base
from ft2ollama.proof.prompts import PromptCheck, Tick, prove_prompts
from ft2ollama.proof.replies import AGREEMENT, ReplyCheck, check_replies, make_speech
from ft2ollama.proof.result import Proof
from ft2ollama.proof_weights import WeightsCheck, prove_weights
from ft2ollama.runs import Run
from ft2ollama.served import base_adds_bos, read_template

# A larger base is not written once more only to be asked some words.
_CHEAP_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Ticks:
    """Callbacks for a user interface: prompts, replies and places of the effect checked."""

    prompts: Tick | None = None
    replies: Tick | None = None
    effect: Tick | None = None


def prove_run(  # noqa: PLR0913 - one parameter per thing that is compared
    run: Run,
    server: Ollama,
    model: str,
    exported: Exported,
    base: Base,
    written: WeightsCheck,
    ticks: Ticks = Ticks(),
    *,
    thinks: bool = True,
) -> Proof:
    """Prove `model` against the run's files.

    written: the exported file against base + training, which needs no server.  thinks: False for a
    model that is served without thinking on purpose: conversations with thoughts are left out.
    """
    files = [(exported.path, exported.sha256)]
    if exported.kind == "adapter":
        files.insert(0, (gguf_of(base), base.sha256))
    weights = (written, *prove_weights(server, model, files))
    if any(check.equal is False for check in weights):  # a broken file may end the server
        return Proof((), (), 0.0, weights)
    prompts = _prompts(run, server, model, base, ticks, thinks=thinks)
    proof = Proof(tuple(prompts), (), 0.0, weights)
    if proof.failures:
        return proof
    replies, held_out = _replies(run, server, model, base, ticks)
    return Proof(
        tuple(prompts),
        tuple(replies),
        _bar(exported, base),
        weights,
        _effect(run, server, model, base, ticks),
        held_out,
    )


def _prompts(
    run: Run, server: Ollama, model: str, base: Base, ticks: Ticks, *, thinks: bool
) -> list[PromptCheck]:
    tokenizer = _tokenizer(base)
    decode = partial(tokenizer.decode, skip_special_tokens=False) if tokenizer else None
    prompts = [read_prompt(row) for row in read_jsonl(run.proof / "prompts.jsonl")]
    prompts = [prompt for prompt in prompts if thinks or not prompt.has_thoughts]
    return prove_prompts(server, model, prompts, decode=decode, tick=ticks.prompts)


def _tokenizer(base: Base) -> Tokenizer | None:
    """The trainer's; None for a whole model whose folder has another form of tokenizer."""
    folder = base.tokenizer_folder
    return Tokenizer(folder) if (folder / "tokenizer.json").is_file() else None


def _replies(
    run: Run, server: Ollama, model: str, base: Base, ticks: Ticks
) -> tuple[list[ReplyCheck], bool]:
    template = json.loads((run.proof / "template.json").read_text("utf-8"))
    tokenizer = _tokenizer(base)
    special = dict.fromkeys([*template["stop"], *(tokenizer.special if tokenizer else ())])
    speech = make_speech(server.show(model).template, tuple(special))
    references = read_jsonl(run.proof / "replies.jsonl")
    checks = check_replies(server, model, references, speech, ticks.replies)
    return checks, bool(references) and all(row.get("held_out") for row in references)


def _effect(run: Run, server: Ollama, model: str, base: Base, ticks: Ticks) -> EffectCheck | None:
    path = run.proof / "effect.json"
    if not path.is_file():  # a run of an earlier version, or without reference replies
        return None
    effect: dict[str, Any] = json.loads(path.read_text("utf-8"))
    with _untrained(run, server, base, needed=bool(effect["places"])) as (name, why):
        return prove_effect(server, model, effect, base=name, why=why, tick=ticks.effect)


@contextlib.contextmanager
def _untrained(
    run: Run, server: Ollama, base: Base, *, needed: bool
) -> Iterator[tuple[str | None, str]]:
    """(name of the base in the same Ollama, "") or (None, why it is not there)."""
    size = sum(path.stat().st_size for path in base.folder.glob("*.safetensors"))
    adds_bos = read_template(run.proof / "template.json").adds_bos
    if not needed or run.is_whole:
        yield None, "the run holds a whole model, not a base and its adapter" * run.is_whole
    elif base.gguf is not None and _begins_alike(base.gguf, adds_bos=adds_bos):
        with served_base(server, base.gguf, base.sha256) as name:
            yield name, ""
    elif size > _CHEAP_BYTES:
        yield None, f"its {size / 1e9:.0f} GB would be converted for it"
    else:
        gguf = base_gguf(base, adds_bos=adds_bos)
        with served_base(server, gguf, sha256_file(gguf)) as name:
            yield name, ""


def _begins_alike(gguf: Path, *, adds_bos: bool) -> bool:
    """Does Ollama begin a prompt to this file as the training text begins?"""
    from converters import read_gguf

    return base_adds_bos(read_gguf(gguf).values) in (None, adds_bos)


def _bar(exported: Exported, base: Base) -> float:
    """How far replies must agree; beside an adapter the base's own type decides."""
    if exported.kind == "model":
        return AGREEMENT[exported.quant]
    from converters import read_gguf

    own = AGREEMENT.get(read_gguf(gguf_of(base)).file_type, 0.3)
    return min(AGREEMENT[exported.quant], own)


def gguf_of(base: Base) -> Path:
    """The GGUF on which an adapter is served; UsageError when the base came as something else."""
    if base.gguf is None:
        raise UsageError(
            "an adapter needs its base as a GGUF in Ollama",
            f"{base.ref} is a Hugging Face model",
            "ft2ollama export --as model     # one merged file, runs everywhere",
        )
    return base.gguf
