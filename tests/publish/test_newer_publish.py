"""A run published to Ollama 0.30 or newer: its template runs, its default for thinking is served.

As tests/ollama/test_newer_ollama.py these need FT2OLLAMA_TEST_NEWER_OLLAMA.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_publish_templates import Command, command, tiny_model, train

from ft2ollama.base import Base
from ft2ollama.errors import UserError
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import start_server
from ft2ollama.runs import Run
from ft2ollama.served import read_template
from ft2ollama.unasked import differs, thinks_unasked, without_switch

__all__ = ["command"]

BINARY = os.environ.get("FT2OLLAMA_TEST_NEWER_OLLAMA", "")
NEEDS = pytest.mark.skipif(
    not BINARY, reason="FT2OLLAMA_TEST_NEWER_OLLAMA names no Ollama >= 0.30; PyPI has none"
)
HI = [{"role": "user", "content": "Hi 你好"}]
ROWS = [
    {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "A"}]}
    for q in ("Hi", "你好")
]


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ollama]:
    folder = tmp_path_factory.mktemp("newer-publish")
    models, log = folder / "models", folder / "server.log"
    with start_server(Path(BINARY), models=models, log=log, threads=1) as running:
        yield Ollama(running.host, timeout_s=120)


@pytest.fixture(scope="module")
def thinker(smollm2: Base, chat_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's vocabulary with Qwen3's chat template, which has a switch for thinking."""
    folder = tmp_path_factory.mktemp("thinker")
    for path in smollm2.folder.glob("*token*"):
        shutil.copy(path, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    shutil.copy(chat_models / "Qwen-Qwen3-0.6B.jinja", folder / "chat_template.jinja")
    return tiny_model(folder.with_name("thinker-base"), folder)


@NEEDS
@pytest.mark.ollama
@pytest.mark.parametrize("switch", [None, False])
def test_a_request_without_a_wish_gets_the_prompt_of_training(
    newer: Ollama, thinker: Path, command: Command, tmp_path: Path, switch: bool | None
) -> None:
    """Qwen3 thinks by itself; trained with the switch off, it has to be served without it."""
    keys = {} if switch is None else {"enable_thinking": str(switch).lower()}
    done = train(command, thinker, ROWS, tmp_path, **keys)
    assert done.code == 0, done.said
    run = Run(Path(done.out))
    # Two steps on a random model say nothing that rounding could not change.
    name = f"thinker-{str(switch).lower()}"
    options = ("--quant", "F16", "--host", newer.host, "--force", "random replies")
    done = command("publish", name, *options)
    assert done.code == 0, done.said
    report = json.loads((run.proof / "proof.json").read_text("utf-8"))
    assert [check for check in report["prompts"] if not check["equal"]] == []
    assert len(report["prompts"]) >= 20
    trained = read_template(run.proof / "template.json").render(
        HI, add_generation_prompt=True, thinking=switch
    )
    assert newer.prompt_text(name, HI) == trained
    shown, off = newer.show(name), switch is False
    assert ("thinking" in shown.capabilities) == (not off)
    assert "tools" in shown.capabilities
    assert ("served without the switch" in done.said) == off
    assert ("PARSER go-template" in (run.folder / "Modelfile").read_text("utf-8")) == off
    if off:
        with pytest.raises(UserError, match="does not support thinking"):
            newer.prompt_text(name, HI, think=True)


def test_the_switch_is_taken_out_with_the_default_of_training(chat_models: Path) -> None:
    from ft2ollama.gotemplate import prompt
    from ft2ollama.template import choose_template

    jinja = (chat_models / "Qwen-Qwen3-0.6B.jinja").read_text("utf-8")
    special, end = {"eos_token": "<|im_end|>"}, ("<|im_end|>",)
    template = choose_template(None, jinja, special, added=end, eos=end)
    assert not differs(template, None)
    assert not differs(template, True)
    assert differs(template, False)
    plain = without_switch(template, False)
    assert plain.capabilities == ("tools",)
    wanted = template.render(HI, add_generation_prompt=True, thinking=False)
    assert wanted.endswith("<think>\n\n</think>\n\n")
    assert {prompt(plain.gotmpl, HI, thinking=one) for one in (None, True, False)} == {wanted}


@pytest.mark.ollama
def test_an_old_server_is_not_one_that_thinks_unasked(ollama: Ollama, smol: str) -> None:
    assert not thinks_unasked(ollama, smol)
