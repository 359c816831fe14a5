"""A cycle's training config, and what of its finished run goes to Ollama.

In: the training YAML of the user, the curated files.  Out: the YAML that is trained, and `Goods`
for `candidate.propose`, made by the same functions as those of `ft2ollama publish`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ft2ollama.candidate import Goods
from ft2ollama.config import dump_config, load_config
from ft2ollama.examples import read_examples
from ft2ollama.export import Exported, check_trained, export
from ft2ollama.modelfile import modelfile_for
from ft2ollama.preflight import check_servers
from ft2ollama.publish import licenses
from ft2ollama.quant_choice import wanted_quant
from ft2ollama.runs import Run
from ft2ollama.served import publishable, read_template
from ft2ollama.train.bases import base_of_run

# What says which rows are trained on, and where; the cycle decides about these.
_OURS: Mapping[str, Any] = {
    "eval_dataset": None, "val_size": 0.0, "max_samples": None, "mix_strategy": "concat",
    "interleave_probs": None, "eval_on_each_dataset": False, "resume_from_checkpoint": None,
    "run_name": None, "ollama_name": None,
}  # fmt: skip
_FILES = ("proof_prompts", "deepspeed", "fsdp_config")


def training_text(path: Path) -> str:
    """The user's training config, whole and with absolute paths, to be kept with the cycle."""
    config = load_config(path, ["dataset=train.jsonl"]).config
    named = {name: getattr(config, name) for name in _FILES}
    changes = {name: value.absolute() for name, value in named.items() if value is not None}
    model = Path(config.model_name_or_path).expanduser()
    if model.exists():
        changes["model_name_or_path"] = str(model.absolute())
    changes["dataset_dir"] = config.dataset_dir.absolute()
    return dump_config(config.model_copy(update={**_OURS, **changes}))


def config_for(kept: Path, dataset: Path, output_dir: Path) -> str:
    """The kept config with the curated rows as its data."""
    config = load_config(kept).config
    val = dataset / "val.jsonl"
    changes = {
        "dataset": (str(dataset / "train.jsonl"),),
        "eval_dataset": (str(val),) if val.stat().st_size else None,
        "output_dir": output_dir,
    }
    return dump_config(config.model_copy(update=changes))


def exported_of(run: Run) -> Exported:
    """The run's GGUF; written only where it is not there or not what it was."""
    check_trained(run)
    config = load_config(run.config_file).config
    quant = wanted_quant(config, config.export_as, None)
    return export(
        run, base_of_run(run), kind=config.export_as, quant=quant, mode=config.export_mode
    )


def goods_of(run: Run, server: Any) -> Goods:
    """What is published of a run, as `ft2ollama publish` would."""
    config, base, exported = load_config(run.config_file).config, base_of_run(run), exported_of(run)
    check_servers([server], base.folder, adapter=exported.kind == "adapter")
    template = publishable(
        read_template(run.proof / "template.json"), thinking=config.enable_thinking
    )
    modelfile = replace(
        modelfile_for(asdict(template), config, base.folder),
        license=licenses(run, exported, base),
        messages=read_examples(config.ollama_messages),
    )
    return Goods(run, exported, base, modelfile)
