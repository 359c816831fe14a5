"""A commented config for this machine, this model and this data.

In: what the user says (model, data, name). Out: the text of a YAML file that `train` accepts as it
is. Method, batch and cutoff come from the estimate; the learning rate from the model's size; each
value has its reason beside it, in the user's language (init_texts.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

from ft2ollama.config import Config
from ft2ollama.config.nodes import dump
from ft2ollama.errors import DataError, MachineError, UsageError, UserError
from ft2ollama.estimate import Estimate, Job, Place, Rows, Shape, job_of
from ft2ollama.estimate.disk import choose_type
from ft2ollama.estimate.result import bill, fits, peak_gb
from ft2ollama.estimate.source import Known, find
from ft2ollama.estimate.suggest import suggest
from ft2ollama.init_texts import TEXTS
from ft2ollama.language import Language

_COLUMN = 40  # where the reasons begin
_LONGEST = 4096  # tokens of cutoff_len that are proposed without being asked for
_RATES = ((0.3e9, 1e-3), (1e9, 5e-4), (20e9, 2e-4), (float("inf"), 1e-4))
_EPOCHS = ((5_000, 3.0), (50_000, 2.0), (float("inf"), 1.0))


@dataclass(frozen=True)
class Answers:
    """What only the user knows."""

    model: str
    data: str
    name: str
    language: Language
    hub: str = "huggingface"


@dataclass(frozen=True)
class Proposal:
    """values: of the config, in the file's order.  needs: what they take."""

    answers: Answers
    values: dict[str, Any]
    shape: Shape
    rows: Rows
    place: Place
    needs: Estimate


def find_data(folder: Path) -> list[Path]:
    """Files in `folder` that may be training data."""
    return sorted(
        path
        for path in folder.glob("*.json*")
        if path.suffix in (".json", ".jsonl") and path.name not in ("dataset_info.json",)
    )


def plain_name(text: str) -> str:
    """A word that can be a file's name, in any script."""
    word = re.sub(r'[\s/\\:*?"<>|\x00-\x1f]+', "-", text).strip("-.")
    return word[:40] or "my-model"


def ollama_name(text: str) -> str:
    """A name that Ollama takes: ASCII letters, digits and -_."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:40] or "my-model"


def propose(answers: Answers, place: Place) -> Proposal:
    """Look at model and data and choose.

    Raises UsageError or MachineError when the model cannot be found, DataError when the data cannot
    be trained on.
    """
    known = find(answers.model, answers.hub)
    values = _start(answers, known)
    rows = _rows(values, known)
    values |= _by_rows(rows)
    values |= {"learning_rate": _first(_RATES, known.shape.weights)}
    values |= _template(known)
    values["per_device_train_batch_size"] = min(8, rows.count)
    values = _fitted(values, known, rows, place)
    values["export_quant"] = choose_type("auto", known.shape)
    config, job = _job(values, known, rows, place)
    needs = bill(config, job, place, unpacked=known.unpacked)
    return Proposal(answers, values, known.shape, job.rows, place, needs)


def write(path: Path, proposal: Proposal) -> None:
    """Write the config; never over a file that is there."""
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(config_text(path, proposal))
    except FileExistsError:
        raise UsageError(
            f"{path} is there already", "nothing was overwritten", "--name another-name"
        ) from None


def config_text(
    path: Path, proposal: Proposal, *, head: str = "head", without: Collection[str] = ()
) -> str:
    """The whole file. head: which of the texts stands above it.  without: keys left out."""
    text = TEXTS[proposal.answers.language]
    facts = _facts(path, proposal)
    lines = [f"# {line.format(**facts)}" for line in text[head].splitlines()]
    for section, every in _SECTIONS.items():
        keys = [key for key in every if key not in without]
        lines += ["", f"### {text[section]}"]
        for key in keys:
            if key in proposal.values:
                line = dump({key: proposal.values[key]}).strip()
                lines += _beside(line, text[key].format(**facts))
            elif f"no {key}" in text:
                lines.append(text[f"no {key}"].format(**facts))
    return "\n".join(lines) + "\n"


def _beside(line: str, why: str) -> list[str]:
    """The reason behind the value, or above it where 100 columns are too few."""
    wide = sum(1 + (east_asian_width(letter) in "WF") for letter in why)
    beside = f"{line:<{_COLUMN}}# {why}"
    return [beside] if max(len(line), _COLUMN) + 2 + wide <= 98 else [f"# {why}", line]


_SECTIONS: dict[str, tuple[str, ...]] = {
    "model": ("model_name_or_path", "hub", "template"),
    "data": ("dataset", "dataset_dir", "cutoff_len", "val_size"),
    "method": ("finetuning_type", "quantization_bit", "lora_rank", "lora_target"),
    "training": (
        "num_train_epochs",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "lr_scheduler_type",
        "warmup_ratio",
        "seed",
    ),
    "export": ("export_quant", "ollama_name", "proof_replies"),
}


def _start(answers: Answers, known: Known) -> dict[str, Any]:
    data = Path(answers.data).expanduser()
    values: dict[str, Any] = {"model_name_or_path": answers.model}
    if answers.hub != "huggingface":
        values["hub"] = answers.hub
    return values | {
        "dataset": data.name if data.is_file() else answers.data,
        "dataset_dir": _relative(data.parent),
        "cutoff_len": _LONGEST,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_target": "all",
        "lr_scheduler_type": "cosine",
        "seed": 42,
        "ollama_name": ollama_name(answers.name),
    }


def _relative(folder: Path) -> str:
    """As seen from the working folder where that is shorter."""
    here, there = Path.cwd(), folder.absolute()
    if not there.is_relative_to(here):
        return str(there)
    return os.path.relpath(there, here)


def _rows(values: dict[str, Any], known: Known) -> Rows:
    from ft2ollama.data.from_config import read_parts
    from ft2ollama.train.lengths import lengths

    config = Config(**values)
    read_parts(config)  # says what is wrong with the data, in full
    rows, doubt = lengths(config, known.folder)
    if not rows.known:
        raise DataError(
            f"{values['dataset']}: {doubt}",
            f"every conversation is longer than {_LONGEST:,} tokens, or has no answer to learn",
            "look at the rows, then run ft2ollama init again",
        )
    return rows


def _by_rows(rows: Rows) -> dict[str, Any]:
    """What the size of the data decides."""
    longest = 256
    while longest < rows.longest:
        longest *= 2
    return {
        "cutoff_len": min(_LONGEST, longest),
        "val_size": 0.05 if rows.count >= 200 else 0.0,
        "num_train_epochs": _first(_EPOCHS, rows.count),
        "gradient_accumulation_steps": 1 if rows.count < 2_000 else 2,
        "warmup_ratio": 0.05 if rows.count >= 2_000 else 0.0,
    }


def _template(known: Known) -> dict[str, Any]:
    """chatml for a base model without a chat template, if it has chatml's tokens."""
    from ft2ollama.data.render import Tokenizer
    from ft2ollama.train.plan import check_stop_tokens, model_template

    if known.folder is None:
        return {}
    for family in (None, "chatml"):
        try:
            check_stop_tokens(model_template(family, known.folder), Tokenizer(known.folder))
        except UserError:
            continue
        return {} if family is None else {"template": family}
    raise UsageError(
        "this model has no chat template that can be used",
        "and its vocabulary lacks the tokens of chatml",
        "take the instruct version of the model",
    )


def _fitted(values: dict[str, Any], known: Known, rows: Rows, place: Place) -> dict[str, Any]:
    """The values with the mildest change that fits, if they do not fit as they are."""
    _, job = _job(values, known, rows, place)
    if fits(peak_gb(job, place), place) == "yes":
        return values
    found = suggest(job, place, Config.model_fields)
    if not found:
        raise MachineError(
            f"no setting makes {job.shape.name} fit here",
            f"{peak_gb(job, place):.1f} GB, {place.free / 1e9:.1f} GB are free on {place.name}",
            "--model with a smaller model, or --gpu with the card it will run on",
        )
    changed = dict(word.split("=") for word in found[0].settings.split())
    return values | {key: _number(value) for key, value in changed.items()}


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _job(values: dict[str, Any], known: Known, rows: Rows, place: Place) -> tuple[Config, Job]:
    config = Config(**values)
    native = place.card is not None or place.native_bf16
    dtype = "bfloat16" if native else "float32"
    job = job_of(config, known.shape, rows, device=place.device, dtype=dtype)
    return config, replace(job, stored=known.stored)


def _facts(path: Path, proposal: Proposal) -> dict[str, Any]:
    needs, rows = proposal.needs, proposal.rows
    return {
        "path": _relative(path.absolute()),
        "name": proposal.values["ollama_name"],
        "model": proposal.shape.name,
        "weights": f"{proposal.shape.weights / 1e9:.3g}",
        "rows": f"{rows.count:,}",
        "mean": f"{rows.mean:,.0f}",
        "longest": f"{rows.longest:,}",
        "place": _place(proposal),
        "gb": f"{needs.peak_gb:.1f}",
        "free": f"{needs.free_gb:.1f}",
        "minutes": f"{max(1, sum(stage.minutes for stage in needs.stages)):.0f}",
        "steps": f"{needs.steps:,}",
        "gguf": f"{needs.disk[-1].gb:.2f}",
        "lost": f"{rows.longer_than(int(proposal.values['cutoff_len'])):,}",
    }


def _place(proposal: Proposal) -> str:
    place = proposal.place
    if proposal.answers.language == "zh" and place.card is None:
        return "本机 CPU，有 bfloat16" if place.native_bf16 else "本机 CPU，无 bfloat16"
    return place.name


def _first(table: tuple[tuple[float, float], ...], value: float) -> float:
    return next(result for limit, result in table if value < limit)
