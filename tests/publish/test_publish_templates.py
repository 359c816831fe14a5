"""Models with chat templates of their own, trained and published through a real Ollama 0.9.3.

Tiny random models with real vocabularies: what counts is the prompt, which is read from the trace
that the server writes (go_prompts.py) and held against the training template.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixtures_tiny import TINY
from go_prompts import GoPrompts, go_prompts
from real_chat import tokenizer_folder

from ft2ollama.base import Base, resolve_base
from ft2ollama.cli import cli
from ft2ollama.cli.failure import run_and_exit_code
from ft2ollama.config import load_config
from ft2ollama.ollama_api import Ollama
from ft2ollama.runs import Run
from ft2ollama.served import read_template
from ft2ollama.train.plan import make_plan

pytestmark = pytest.mark.ollama

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "city": {"description": "its name", "type": "string", "minLength": 1},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def tool_row(city: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": {"unit": "C", "city": city}}
    call = {"type": "function", "function": function}
    return {
        "messages": [
            {"role": "user", "content": f"Rain in {city}?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": '{"rain": true}', "name": "get_weather"},
            {"role": "assistant", "content": f"Yes, rain in {city}."},
        ],
        "tools": [TOOL],
    }  # fmt: skip


@dataclass
class Told:
    """Exit code and what was said on stderr, white space as one blank."""

    code: int
    said: str
    out: str


Command = Callable[..., Told]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words: str) -> Told:
        capfd.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = run_and_exit_code(cli, list(words))
        out, said = capfd.readouterr()
        return Told(int(code), " ".join(said.split()), out.strip())

    return run


@pytest.fixture(scope="module")
def go(ollama_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoPrompts]:
    with go_prompts(ollama_binary, tmp_path_factory.mktemp("go")) as server:
        yield server


def tiny_model(folder: Path, tokenizer: Path, **settings: Any) -> Path:
    """A random Llama of two layers with the tokenizer and chat template of `tokenizer`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = 1 + max(
        entry["id"]
        for entry in json.loads((tokenizer / "tokenizer.json").read_text())["added_tokens"]
    )
    words = len(json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"])
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = LlamaConfig(**{**TINY, "vocab_size": max(size, words), **settings})
        LlamaForCausalLM(config).save_pretrained(folder)
    for path in tokenizer.iterdir():
        if "token" in path.name or path.name in ("generation_config.json", "chat_template.jinja"):
            shutil.copy(path, folder)
    return folder


def train(command: Command, base: Path, rows: list[Any], folder: Path, **keys: Any) -> Told:
    (folder / "rows.json").write_text(json.dumps(rows, ensure_ascii=False))
    settings: Mapping[str, Any] = {
        "model_name_or_path": base, "dataset": folder / "rows.json", "lora_rank": 4,
        "learning_rate": 1e-2, "max_steps": 2, "per_device_train_batch_size": 2,
        "proof_replies": 0, "compute_dtype": "float32", "num_threads": 1, **keys,
    }  # fmt: skip
    return command("train", *(f"{key}={value}" for key, value in settings.items()))


def test_tools_reach_the_model_as_they_were_trained(
    go: GoPrompts, command: Command, tmp_path: Path, chat_models: Path
) -> None:
    base = tiny_model(tmp_path / "base", tokenizer_folder("qwen2.5"), bos_token_id=None,
                      eos_token_id=151645, pad_token_id=151643)  # fmt: skip
    rows = [tool_row("深圳"), tool_row("Wien")]
    rows += [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}]}
    ]
    done = train(command, base, rows, tmp_path)
    assert done.code == 0, done.said
    assert "without additionalProperties, default, minLength, strict" in done.said
    run = Run(Path(done.out))
    template = read_template(run.proof / "template.json")
    assert (template.family, template.capabilities) == ("", ("tools",))
    done = command("publish", "tiny-tools", "--quant", "F16", "--host", go.ollama.host)
    assert done.code == 0, done.said
    assert sorted(go.ollama.show("tiny-tools").capabilities) == ["completion", "tools"]
    plan = make_plan(load_config(run.config_file).config, resolve_base(str(base)))
    texts = [plan.tokenizer.decode(s.ids, skip_special_tokens=False) for s in plan.train]
    assert len(texts) == len(rows)
    for row, text in zip(rows, texts, strict=True):
        for end in range(1, len(row["messages"]), 2):
            served = go.prompt(
                row["messages"][:end], tools=list(row.get("tools", ())), name="tiny-tools"
            )
            assert text.startswith(served), end
            assert len(served) > 100


@pytest.fixture(scope="module")
def bos_tokenizer(smollm2: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's vocabulary in a tokenizer that puts <|endoftext|> in front of every text."""
    folder = tmp_path_factory.mktemp("bos")
    bos = "<|endoftext|>"
    piece = {"SpecialToken": {"id": bos, "type_id": 0}}
    texts = [{"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB")]
    tokenizer = json.loads((smollm2.folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [piece, texts[0]],
        "pair": [piece, *texts],
        "special_tokens": {bos: {"id": bos, "ids": [0], "tokens": [bos]}},
    }
    settings = json.loads((smollm2.folder / "tokenizer_config.json").read_text())
    settings |= {"bos_token": bos, "add_bos_token": True}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + CHATML)
    return folder


@pytest.mark.parametrize("family", ["chatml", ""])
def test_the_bos_token_is_added_where_the_training_text_has_it(
    go: GoPrompts, command: Command, tmp_path: Path, bos_tokenizer: Path, family: str
) -> None:
    from transformers import AutoTokenizer

    from converters import read_gguf

    base = tiny_model(tmp_path / "base", bos_tokenizer, bos_token_id=0)
    assert AutoTokenizer.from_pretrained(base)("x")["input_ids"][0] == 0
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "A"}]}
            for q in ("Hi", "你好")]  # fmt: skip
    named = {"template": family} if family else {}
    done = train(command, base, rows, tmp_path, **named)
    assert done.code == 0, done.said
    run = Run(Path(done.out))
    (prompt,) = {
        json.loads(line)["ids"][0] == 0
        for line in (run.proof / "prompts.jsonl").read_text("utf-8").splitlines()
    }
    assert prompt == (not family)
    done = command("publish", "tiny-bos", "--quant", "F16", "--host", go.ollama.host)
    assert done.code == 0, done.said
    values = read_gguf(run.gguf / "model-F16.gguf").values
    assert values["tokenizer.ggml.add_bos_token"] == (not family)
    assert "<|endoftext|>" not in go.ollama.show("tiny-bos").template
    talk = [{"role": "user", "content": "你好 <b>"}]
    trained = read_template(run.proof / "template.json").render(talk, add_generation_prompt=True)
    ids = AutoTokenizer.from_pretrained(base)(trained, add_special_tokens=False)["input_ids"]
    assert go.ollama.prompt_ids("tiny-bos", talk) == ids
    if not family:
        make_old(run)
        done = command("publish", "tiny-old", "--quant", "F16", "--host", go.ollama.host)
        assert done.code == 0, done.said
        assert go.ollama.prompt_ids("tiny-old", talk) == ids


def make_old(run: Run) -> None:
    """proof/template.json as it was written before templates were derived."""
    path = run.proof / "template.json"
    values = json.loads(path.read_text("utf-8"))
    for key in ("adds_bos", "capabilities", "explain", "refusal"):
        del values[key]
    path.write_text(json.dumps(values | {"gotmpl": "", "system": "", "parameters": {}}))


def test_a_template_that_ollama_cannot_have_is_told_in_the_plan_and_refused_with_the_difference(
    command: Command, tmp_path: Path, bos_tokenizer: Path, ollama: Ollama
) -> None:
    asks = "m.role + ('?' if m.role == 'user' and '?' in m.content else '') +"
    base = tiny_model(tmp_path / "base", bos_tokenizer, bos_token_id=0)
    (base / "chat_template.jinja").write_text(CHATML.replace("m.role +", asks))
    talk = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "A"}]
    done = train(command, base, [{"messages": talk}], tmp_path)
    assert done.code == 0, done.said
    assert "the model's own cannot be published" in done.said
    assert "trained and exported, but not published: no Ollama template is equal" in done.said
    assert "first difference at character 17: chat template: " in done.said
    before = ollama.models()
    done = command("publish", "tiny-odd", "--quant", "F16", "--host", ollama.host)
    assert done.code == 2
    assert "case 'plain, 1 turn', first difference at character 17:" in done.said
    assert "chat template: '<|im_start|>user' >>> '?\\nWhat is 2+2?" in done.said
    assert "Go template: '<|im_start|>user' >>> '\\nWhat is 2+2?" in done.said
    assert ollama.models() == before
    assert command("export", "--quant", "F16").code == 0
