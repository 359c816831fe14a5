"""Everything that can be known before the first expensive second: base, data, steps, memory.

In: the config.  Out: a `Plan` with the rendered samples and what the user should know of them.
All user mistakes (data, template, names) surface here. No torch in here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft2ollama.base import Base
from ft2ollama.config import Config
from ft2ollama.config.compat import FAMILIES_TOO
from ft2ollama.config.running import RunningKeys
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.from_config import read_parts
from ft2ollama.data.problems import Dropped
from ft2ollama.data.samples import Sample
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.errors import DataError, UsageError
from ft2ollama.files import sha256_file, sha256_folder, sha256_text
from ft2ollama.quant_choice import choose_quant, wanted_quant
from ft2ollama.template import ChatTemplate, choose_template
from ft2ollama.train.adapters import adapter_folders, sha256_adapters
from ft2ollama.train.distributed import team
from ft2ollama.train.packing import rows_per_epoch
from ft2ollama.train.rendered import publish_notes, render_rows

# Of the keys of a running training, those that do change what is trained.
RUNNING_INPUTS = {
    "data_seed", "train_sampling_strategy", "load_best_model_at_end", "early_stopping_steps",
    "early_stopping_threshold", "eval_strategy", "eval_steps", "deepspeed", "fsdp",
}  # fmt: skip

# Keys that do not change what is trained, or whose files are hashed by content: a run that differs
# only in these is the same run.
_NOT_TRAINING = {
    "output_dir", "run_name", "export_quant", "export_as", "export_mode", "ollama_name", "num_ctx",
    "ollama_system", "ollama_parameters", "num_threads", "save_total_limit", "logging_steps",
    "model_name_or_path", "hub", "model_revision", "adapter_name_or_path",
    "dataset", "dataset_dir", "proof_prompts", "trust_remote_code", "preprocessing_num_workers",
    "gradient_checkpointing",
    # their product counts, as `step_rows`
    "per_device_train_batch_size", "gradient_accumulation_steps",
    *(name for name in RunningKeys.model_fields if name not in RUNNING_INPUTS),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What will be trained. inputs: name -> sha256 of everything the adapter depends on.

    remarks: what the user should look at in the data.
    conversations: the rows of `train`; held_out: those of `validation`.
    dropped: rows that were left out (`bad_rows: drop`).
    validation_sets: `validation` by data set, with eval_on_each_dataset.
    quant: the GGUF type the export will have, "" if this base cannot be exported.
    """

    config: Config
    base: Base
    template: ChatTemplate
    tokenizer: Tokenizer
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    validation_sets: Mapping[str, tuple[Sample, ...]]
    conversations: tuple[Conversation, ...]
    held_out: tuple[Conversation, ...]
    dropped: tuple[Dropped, ...]
    steps: int
    inputs: dict[str, str]
    notes: tuple[str, ...]
    remarks: tuple[str, ...]
    quant: str

    @property
    def tokens(self) -> int:
        """Tokens of one pass over the training data."""
        return sum(len(sample.ids) for sample in self.train)

    @property
    def learned(self) -> int:
        """Learned tokens of one pass."""
        return sum(sample.learned for sample in self.train)

    @property
    def system(self) -> str:
        """The system prompt the training text had by default; it is published with the model."""
        return self.config.default_system or self.template.system


def make_plan(config: Config, base: Base) -> Plan:
    """Load, check and render everything. Raises UserError kinds that list every problem."""
    tokenizer = Tokenizer(base.tokenizer_folder)
    template = model_template(config.template, base.folder, tokenizer)
    check_stop_tokens(template, tokenizer)
    loaded, parts = read_parts(config)
    train_rows = parts.train
    if not train_rows:
        raise DataError(
            "val_size leaves nothing to train on",
            f"{len(loaded.conversations)} conversations, val_size {config.val_size:g}",
            "lower val_size",
        )
    check_proof_prompts(config.proof_prompts)

    train = render_rows(config, train_rows, template, tokenizer)
    held = {
        name: render_rows(config, rows, template, tokenizer)
        for name, rows in parts.validation.items()
    }
    every = (train, *held.values())
    quant, doubts = export_type(config, base)
    return Plan(
        config=config,
        base=base,
        template=template,
        tokenizer=tokenizer,
        train=train.samples,
        validation=tuple(sample for rows in held.values() for sample in rows.samples),
        validation_sets=(
            {name: rows.samples for name, rows in held.items()}
            if config.eval_on_each_dataset
            else {}
        ),
        conversations=train.conversations,
        held_out=tuple(row for rows in held.values() for row in rows.conversations),
        dropped=(*loaded.dropped, *(one for rows in every for one in rows.dropped)),
        steps=count_steps(config, rows_per_epoch(config, base.folder, train.samples)),
        inputs=_inputs(config, base, loaded.sha256),
        notes=(*loaded.notes, *publish_notes(template, config, train.conversations), *doubts),
        remarks=(*loaded.remarks, *(text for rows in every for text in rows.remarks)),
        quant=quant,
    )


def export_type(config: Config, base: Base) -> tuple[str, tuple[str, ...]]:
    """The GGUF type to come, and what speaks against an export: better said before training."""
    import converters

    kind = config.export_as
    try:
        return choose_quant(kind, wanted_quant(config, kind, None), base)[0], ()
    except converters.ConvertError as error:
        return "", (f"this base cannot become a GGUF file: {error.what}",)


def model_template(
    wanted: str | None, folder: Path, tokenizer: Tokenizer | None = None
) -> ChatTemplate:
    """The chat template of an HF folder, or the family the config names."""
    from converters.chat_template import read_chat_templates

    settings = _json(folder / "tokenizer_config.json")
    named = read_chat_templates(folder, settings)  # the ones the exporter would find
    special = {
        name: token["content"] if isinstance(token, dict) else token
        for name, token in settings.items()
        if name.endswith("_token") and isinstance(token, (str, dict))
    }
    tokenizer = tokenizer or Tokenizer(folder)
    own = named.pop("default", None) or None
    return choose_template(
        None if own and wanted in FAMILIES_TOO else wanted,  # LLaMA-Factory's name for the own one
        own,
        special,
        named=named,
        added=tokenizer.special,
        eos=_eos(folder, tokenizer, special),
    )


def _eos(folder: Path, tokenizer: Tokenizer, special: Mapping[str, str]) -> tuple[str, ...]:
    """The tokens that end a generation by the model's own settings, the main one first."""
    given = _json(folder / "generation_config.json").get("eos_token_id")
    ids = given if isinstance(given, list) else [given]
    words = [tokenizer.text(i) for i in ids if isinstance(i, int)]
    return tuple(dict.fromkeys(word for word in (special.get("eos_token"), *words) if word))


def check_stop_tokens(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    """The template's stop words must be single tokens of this vocabulary."""
    missing = [word for word in template.stop if tokenizer.id(word) is None]
    if missing:
        raise UsageError(
            f"template {template.family or 'of the model'} does not fit this model",
            f"{', '.join(missing)} is no token of its vocabulary: it could not learn to stop",
            "leave `template` out, or choose a family whose tokens the model has",
        )


def check_proof_prompts(path: Path | None) -> list[str]:
    """The questions of a proof_prompts file; raises DataError with file:line."""
    if path is None:
        return []
    if not path.is_file():
        raise DataError(
            "proof_prompts: no such file", str(path.absolute()), "proof_prompts=<file.jsonl>"
        )
    questions = []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            questions.append(str(json.loads(line)["question"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: is not a question",
                f"{type(error).__name__}: {error}",
                'write a line such as {"question": "Who are you?"}',
            ) from error
    return questions


def rows_per_step(config: Config) -> int:
    """Conversations of an optimizer step, of all processes."""
    each = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return each * team().size


def check_held_out(plan: Plan) -> None:
    """Raises UsageError when the config needs a held-out loss and nothing is held out."""
    config = plan.config
    needing = {
        "load_best_model_at_end": config.load_best_model_at_end,
        "early_stopping_steps": config.early_stopping_steps,
        "save_strategy: best": config.save_strategy == "best",
        "eval_strategy": config.eval_strategy not in (None, "no"),
    }
    names = [name for name, asked in needing.items() if asked]
    if names and not plan.validation:
        raise UsageError(
            f"{names[0]} needs conversations that are held out, and there are none",
            f"val_size is {config.val_size:g}",
            f"val_size=0.1     # or leave {names[0].split(':')[0]} out",
        )


def count_steps(config: Config, samples: int) -> int:
    """Optimizer steps, counted as transformers.Trainer counts them."""
    if config.max_steps > 0:
        return config.max_steps
    batches = math.ceil(samples / (config.per_device_train_batch_size * team().size))
    per_epoch = max(1, math.ceil(batches / config.gradient_accumulation_steps))
    return math.ceil(per_epoch * config.num_train_epochs)


def parameters(folder: Path) -> int:
    """Parameters of an HF folder, from the safetensors headers."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        count += sum(
            math.prod(item["shape"]) for key, item in header.items() if key != "__metadata__"
        )
    return count


def _inputs(config: Config, base: Base, data_sha256: str) -> dict[str, str]:
    values = config.model_dump(mode="json", exclude=_NOT_TRAINING)
    inputs = {
        "config": sha256_text(json.dumps(values, sort_keys=True)),
        "base": base.sha256,
        "tokenizer": sha256_folder(base.folder, "tokenizer*"),
        "data": data_sha256,
        "step_rows": sha256_text(str(rows_per_step(config))),
    }
    if config.adapter_name_or_path:
        inputs["adapters"] = sha256_adapters(adapter_folders(config.adapter_name_or_path))
    if config.proof_prompts:
        inputs["proof_prompts"] = sha256_file(config.proof_prompts)
    return inputs


def _json(path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return settings
