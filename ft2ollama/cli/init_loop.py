"""`ft2ollama init --loop`: loop.yaml and train.yaml for what was collected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.estimate import Place
    from ft2ollama.language import Language

_WORDS = {
    "en": {
        "name": "Name of the model that people will use in Ollama",
        "model": "Model to start from (ollama:NAME, a hub id, a folder or a .gguf file)",
        "looking": "looking at the model and the rows",
        "wrote": "wrote {path}",
        "rows": "for {rows} rows that would be trained on now: {needs}",
        "next": "  next: ft2ollama retrain {path} --dry-run",
    },
    "zh": {
        "name": "用户在 Ollama 中使用的模型名称",
        "model": "从哪个模型开始（ollama:名称、模型库 ID、文件夹或 .gguf 文件）",
        "looking": "正在查看模型和数据",
        "wrote": "已写入 {path}",
        "rows": "现在有 {rows} 行可训练：{needs}",
        "next": "  下一步：ft2ollama retrain {path} --dry-run",
    },
}


def init_loop(
    output: Output, said: Mapping[str, str], place: Place, language: Language, *, ask: bool
) -> None:
    """said: the options that were given (folder, model, name, hub). Asks for what is missing."""
    from ft2ollama.cli.estimate_tables import summary
    from ft2ollama.errors import UsageError
    from ft2ollama.init import Answers
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.start import most_asked, start, write

    words = _WORDS[language]
    folder = Path(said.get("folder", "."))
    with Ledger.open() as ledger:
        model, name = said.get("model") or most_asked(ledger), said.get("name", "")
        if ask:
            model = said.get("model") or click.prompt(words["model"], default=model or None,
                                                      err=True)  # fmt: skip
            name = name or click.prompt(words["name"], err=True)
        if not model or not name:
            raise UsageError(
                f"{'--model' if not model else '--name'} is needed where nothing can be asked",
                "stdin is no terminal, or --yes was given",
                "ft2ollama init --loop --model ollama:qwen2.5:0.5b --name shop",
            )
        answers = Answers(model, "", name, language, said.get("hub", "huggingface"))
        with output.waiting(words["looking"]):
            made = start(ledger, answers, place, folder)
    paths = write(made, folder)
    for path in paths:
        output.console.print(f"\n{path.read_text('utf-8')}", soft_wrap=True, markup=False)
    for path in paths:
        output.done(words["wrote"].format(path=path))
    needs = made.proposal.needs
    output.say("  " + words["rows"].format(rows=made.rows, needs=summary(needs)))
    output.say(words["next"].format(path=paths[0]))
    output.result(str(paths[0]), config=str(paths[0]), train=str(paths[1]), needs=needs.as_dict())
