"""`ft2ollama init`: a commented config for this machine, this model and this data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.init import Answers, Proposal
    from ft2ollama.language import Language

_ASK = {
    "en": {
        "model": "Model (a folder, a .gguf file, a hub id such as Qwen/Qwen2.5-0.5B-Instruct, "
        "or ollama:NAME)",
        "data": "Training data (.json or .jsonl)",
        "name": "Name of the new model in Ollama",
        "next": "next",
    },
    "zh": {
        "model": "模型（文件夹、.gguf 文件、模型库 ID 如 Qwen/Qwen2.5-0.5B-Instruct，"
        "或 ollama:名称）",
        "data": "训练数据（.json 或 .jsonl）",
        "name": "新模型在 Ollama 中的名称",
        "next": "下一步",
    },
}


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@click.option("--model", metavar="REF", help="A folder, a .gguf file, a hub id, or ollama:NAME.")
@click.option("--data", metavar="FILE", help="Training conversations.")
@click.option("--name", metavar="NAME", help="Name of the config and of the model in Ollama.")
@click.option("--hub", type=click.Choice(["huggingface", "modelscope"]), default="huggingface",
              help="Where a hub id is looked up.")  # fmt: skip
@click.option("--gpu", metavar="CARD", help='Write it for another card: 24GB, "RTX 4090".')
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the comments.")
@click.option("--loop", is_flag=True, help="Write loop.yaml and train.yaml for ft2ollama retrain; "
              "the data are the collected rows.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Ask nothing.")
@click.pass_obj
def init(output: Output, /, **given: object) -> None:
    """Write a config for this machine, with a reason beside every value.

    Looks at the model, the data and the memory; never overwrites a file. Prints the config's path.
    Example: ft2ollama init --model Qwen/Qwen2.5-0.5B-Instruct --data faq.json
    """
    from ft2ollama.estimate import here
    from ft2ollama.init import propose, write
    from ft2ollama.language import choose_language
    from ft2ollama.train.threads import choose_threads, set_threads

    said = {key: str(value) for key, value in given.items() if isinstance(value, (str, Path))}
    language = choose_language(said.get("lang"))
    folder = Path(said.get("folder", "."))
    ask = not given["yes"] and sys.stdin.isatty()
    set_threads(choose_threads(None))
    place = here.named(said["gpu"]) if "gpu" in said else here.this_machine()
    if given["loop"]:
        from ft2ollama.cli.init_loop import init_loop

        init_loop(output, said, place, language, ask=ask)
        return
    answers = _answers(said, folder, language, ask=ask)
    with output.waiting("looking at the model and the data"):
        proposal = propose(answers, place)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{answers.name}.yaml"
    write(path, proposal)
    _show(output, path, proposal, _ASK[language]["next"])
    output.result(str(path), config=str(path), needs=proposal.needs.as_dict())


def _answers(said: dict[str, str], folder: Path, language: Language, *, ask: bool) -> Answers:
    """The options, what can be found, and the rest by asking."""
    from ft2ollama.errors import UsageError
    from ft2ollama.init import Answers, find_data, plain_name

    words = _ASK[language]
    files = find_data(folder) if folder.is_dir() else []
    model, data, name = said.get("model"), said.get("data"), said.get("name")
    if data is None and len(files) == 1:
        data = str(files[0])
    if ask:
        model = model or click.prompt(words["model"], err=True)
        data = data or click.prompt(
            words["data"], default=str(files[0]) if files else None, err=True
        )
        name = name or click.prompt(words["name"], default=plain_name(Path(data).stem), err=True)
    if model is None or data is None:
        missing = "--model" if model is None else "--data"
        several = f"; {folder} holds {', '.join(path.name for path in files)}" if files[1:] else ""
        raise UsageError(
            f"{missing} is needed where nothing can be asked",
            f"stdin is no terminal, or --yes was given{several if data is None else ''}",
            "ft2ollama init --model Qwen/Qwen2.5-0.5B-Instruct --data train.json",
        )
    chosen = plain_name(name or Path(data).stem)
    return Answers(model, data, chosen, language, said.get("hub", "huggingface"))


def _show(output: Output, path: Path, proposal: Proposal, title: str) -> None:
    from rich.markup import escape

    from ft2ollama.cli.estimate_tables import summary

    output.console.print(escape(path.read_text("utf-8")), soft_wrap=True)
    output.done(f"{path}: {summary(proposal.needs)}")
    if proposal.needs.fits != "yes":
        output.warn(f"memory: {proposal.needs.fits}; ft2ollama estimate {path} compares methods")
    output.say(f"  {title}: ft2ollama train {path}")
