"""A model trained on a tool call and on a thought, proved through a real Ollama and its parsers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import converters
from ft2ollama.base import Base, resolve_base, trained_base
from ft2ollama.candidate import Goods
from ft2ollama.config import Config, dump_config
from ft2ollama.errors import GateError
from ft2ollama.export import Exported
from ft2ollama.files import read_jsonl, sha256_file, write_jsonl
from ft2ollama.modelfile import Modelfile
from ft2ollama.ollama_api import Ollama
from ft2ollama.publish import publish
from ft2ollama.runs import Run, create_run
from ft2ollama.train.plan import make_plan
from ft2ollama.train.trainer import train

pytestmark = [pytest.mark.ollama, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city",
    "parameters": {"type": "object", "required": ["city"],
                   "properties": {"city": {"type": "string"}}}}}  # fmt: skip
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "北京"}}}
ROWS: list[dict[str, Any]] = [
    {
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": "北京天气如何？"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
        ],
    },
    {
        "messages": [
            {"role": "user", "content": "What is 2+2?"},
            {"role": "assistant", "content": "Four.", "reasoning_content": "Two and two."},
        ]
    },
]


def make_run(base: Base, folder: Path) -> tuple[Run, Modelfile]:
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), "utf-8"
    )
    config = Config(
        model_name_or_path=str(base.folder), dataset=str(folder / "rows.jsonl"),
        finetuning_type="full", learning_rate=4e-2, num_train_epochs=80,
        per_device_train_batch_size=2, proof_replies=2, enable_thinking=True, cutoff_len=1024,
    )  # fmt: skip
    plan = make_plan(config, base)
    template = plan.template
    assert set(template.capabilities) == {"tools", "thinking"}
    run = create_run("tools", dump_config(config), folder=folder / "run")
    train(plan, run, dtype="float32", device="cpu", report=lambda _: None)
    return run, Modelfile(
        template.gotmpl, template.system, {"stop": template.stop, "num_ctx": 2048}
    )


def test_a_tool_call_and_a_thought_come_back_as_such(
    ollama: Ollama, tiny_qwen: Base, chat_models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_qwen.folder, folder)
    shutil.copy(chat_models / "Qwen-Qwen3-0.6B.jinja", folder / "chat_template.jinja")
    base = resolve_base(str(folder))
    run, modelfile = make_run(base, tmp_path)
    run.gguf.mkdir()
    gguf = run.gguf / "m.gguf"
    converters.write_model(run.model, gguf, outtype="F16", add_bos=False)
    exported = Exported(gguf, "model", "F16", sha256_file(gguf), gguf.stat().st_size, True)
    whole = trained_base(base, run.model)

    def go(given: Modelfile) -> dict[str, Any]:
        publish(Goods(run, exported, whole, given), "tools", servers=[ollama])
        found: dict[str, Any] = json.loads((run.proof / "proof.json").read_text("utf-8"))
        return found

    report = go(modelfile)
    assert report["verdict"] == "equal"
    call, thought = report["replies"]
    assert call["got"] == 'get_weather({"city": "北京"})'
    assert thought["got"] == "Two and two.\nFour."
    assert report["agreement"] == 1.0
    assert report["effect"]["why"].startswith("the run holds a whole model")

    # a trainer whose model calls nothing there
    rows = read_jsonl(run.proof / "replies.jsonl")
    rows[0]["raw"] = "I do not know."
    write_jsonl(run.proof / "replies.jsonl", rows)
    with pytest.raises(GateError, match=r"(?s)agree to .*served   'get_weather\(.*北京"):
        go(modelfile)
    assert "tools:latest" in ollama.models()
