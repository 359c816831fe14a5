"""The arguments of `ft2ollama data ...` -> data sets, questions and, where there is one, a model.

A config, or data files and names with --model: both become a Config, so that every key=value means
the same as in training. Of the model only the template and the tokenizer are needed: weights are
neither read nor fetched from a hub.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ft2ollama.cli.output import Output
from ft2ollama.errors import UsageError, UserError

if TYPE_CHECKING:
    from ft2ollama.config import Config
    from ft2ollama.data.check import DataSet
    from ft2ollama.data.leakage import Question
    from ft2ollama.data.measure import Model
    from ft2ollama.data.problems import Problem

_NO_MODEL = "none"
_TOKENIZER_FILES = ["*.json", "tokenizer.model", "*.jinja"]


@dataclass(frozen=True)
class Inputs:
    """name: of the config or the first file.  problems: of proof_prompts.  about: the model."""

    name: str
    config: Config
    sets: list[DataSet]
    questions: list[Question]
    problems: list[Problem]
    model: Model | None
    about: str


def read_inputs(output: Output, words: Sequence[str], model: str | None) -> Inputs:
    """Read the data sets that the words name, and open the model. Raises UserError kinds."""
    from ft2ollama.data.from_config import reading_of
    from ft2ollama.data.gather import hold_out, read_questions, read_sets

    config, name, wanted = _config(words, model)
    with output.waiting("reading the data"):
        reading = reading_of(config)
        sets = hold_out(read_sets(config.dataset, config.dataset_dir, reading), config.val_size)
        held_out = read_sets(config.eval_dataset or (), config.dataset_dir, reading)
        sets += _as_validation(held_out)
        questions, problems = read_questions(config.proof_prompts)
    opened, about = _model(output, config, required=model is not None) if wanted else (None, "")
    return Inputs(name, config, sets, questions, problems, opened, about)


def _as_validation(sets: Sequence[DataSet]) -> list[DataSet]:
    from dataclasses import replace

    return [replace(one, part="validation") for one in sets]


def _config(words: Sequence[str], model: str | None) -> tuple[Config, str, bool]:
    """(the config, a name for it, is there a model)."""
    from ft2ollama.config import load_config

    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    files = [word for word in words if word not in overrides]
    configs = [word for word in files if _is_config(Path(word))]
    if not files:
        raise UsageError(
            "no data given",
            "data needs a config, or data files",
            "ft2ollama data check my.yaml     # or: ft2ollama data check rows.jsonl",
        )
    if configs and len(files) > 1:
        raise UsageError(
            "a config stands alone",
            f"given: {', '.join(files)}",
            f"ft2ollama data check {configs[0]}",
        )
    given = [f"model_name_or_path={model}"] if model else []
    if configs:
        return load_config(Path(configs[0]), [*overrides, *given]).config, Path(files[0]).stem, True
    names = json.dumps(files, ensure_ascii=False)
    given = given or [f"model_name_or_path={_NO_MODEL}"]
    loaded = load_config(None, [*given, f"dataset={names}", *overrides])
    return loaded.config, Path(files[0]).stem, model is not None


def _is_config(path: Path) -> bool:
    """YAML is; JSON is when it holds one object that names a data set or a model."""
    if path.suffix.lower() in (".yaml", ".yml"):
        return True
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        if not file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return False
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except ValueError:
        return False
    return isinstance(content, dict) and bool({"dataset", "model_name_or_path"} & set(content))


def _model(output: Output, config: Config, *, required: bool) -> tuple[Model | None, str]:
    """The model's template and tokenizer; without it, when it is not at hand, a warning."""
    from ft2ollama.data.from_config import rules_of
    from ft2ollama.data.measure import Model
    from ft2ollama.data.tokenizer import Tokenizer
    from ft2ollama.train.plan import model_template

    try:
        folder, tokenizer_folder = _folders(output, config)
        if not (tokenizer_folder / "tokenizer.json").is_file():
            raise UsageError(
                f"{folder} has no tokenizer.json", "tokens cannot be counted", "--model <folder>"
            )
        tokenizer = Tokenizer(tokenizer_folder)
        template = model_template(config.template, folder, tokenizer)
    except UserError as error:
        if required:
            raise
        output.warn(f"without the model, tokens are not checked: {error.what}")
        return None, ""
    model = Model(template, tokenizer, rules_of(config))
    name = config.model_name_or_path.rstrip("/").rsplit("/", 1)[-1]
    return model, f"{name}, template {template.family or 'its own'}, cutoff_len {config.cutoff_len}"


def _folders(output: Output, config: Config) -> tuple[Path, Path]:
    """(the model's folder, the folder of tokenizer.json): its own, unpacked, or fetched alone."""
    ref = config.model_name_or_path
    path = Path(ref).expanduser()
    if (path / "tokenizer.json").is_file():
        return path, path
    if path.is_dir() or ref.startswith("ollama:") or path.suffix == ".gguf":
        from ft2ollama.cli.train import resolve

        base = resolve(output, ref, config.hub)
        return base.folder, base.tokenizer_folder
    folder = _fetched(output, ref, config.hub, config.model_revision)
    return folder, folder


def _fetched(output: Output, ref: str, hub: str, revision: str) -> Path:
    from ft2ollama.data.hub import is_hub_id

    if not is_hub_id(ref):
        raise UsageError(f"nothing called {ref} here", "it is no hub id either", "--model <folder>")
    try:
        with output.waiting(f"fetching the tokenizer of {ref}"):
            if hub == "modelscope":
                from modelscope import snapshot_download

                return Path(snapshot_download(ref, allow_patterns=_TOKENIZER_FILES))
            from huggingface_hub import snapshot_download

            return Path(snapshot_download(ref, revision=revision, allow_patterns=_TOKENIZER_FILES))
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"the tokenizer of {ref} could not be fetched", lines[0], "--model <folder>"
        ) from error
