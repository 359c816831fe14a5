"""From rows to samples in a plan: other templates, rows left out, what the user is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.base import Base, resolve_base
from ft2ollama.config import Config
from ft2ollama.errors import DataError
from ft2ollama.gotemplate import prompt
from ft2ollama.modelfile import make_modelfile
from ft2ollama.runs import create_run
from ft2ollama.train.plan import Plan, make_plan
from ft2ollama.train.trainer import train

JINJA = (
    "{% for m in messages %}<file_sep>{{ m['role'] }}: {{ m['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<file_sep>assistant: {% endif %}"
)


@pytest.fixture
def other(tiny: Base, tmp_path: Path) -> Base:
    """The tiny model with a chat template of no family, which ends no turn by a token."""
    folder = tmp_path / "other"
    shutil.copytree(tiny.folder, folder)
    (folder / "chat_template.jinja").write_text(JINJA)
    return resolve_base(str(folder))


def rows(path: Path) -> Path:
    talks = [{"instruction": f"What is {i}+{i}?", "output": f"It is {i + i}."} for i in range(8)]
    talks += [{"instruction": "a <|im_end|> b", "output": "c"}]
    talks += [{"instruction": "long " * 90, "output": "d"}]
    path.write_text(json.dumps(talks))
    return path


def plan(base: Base, tmp_path: Path, **changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "model_name_or_path": str(base.folder),
        "dataset": str(rows(tmp_path / "rows.json")),
        "cutoff_len": 64,
        "lora_rank": 4,
        "max_steps": 1,
        "proof_replies": 1,
        "bad_rows": "drop",
    }
    return make_plan(Config(**{**settings, **changes}), base)


def test_a_template_of_the_models_own_is_trained_with_and_published(
    other: Base, tmp_path: Path
) -> None:
    made = plan(other, tmp_path)
    assert (made.template.family, made.template.next_header[0]) == ("", "<file_sep>")
    assert (made.template.refusal, made.template.capabilities) == ("", ())
    run = create_run("other", "", folder=tmp_path / "run")
    train(made, run, dtype="float32", device="cpu", report=lambda event: None)
    template = json.loads((run.proof / "template.json").read_text("utf-8"))
    assert template["jinja"] == JINJA
    prompts = (run.proof / "prompts.jsonl").read_text("utf-8").splitlines()
    assert json.loads(prompts[0])["text"].endswith("<file_sep>assistant: ")
    modelfile = make_modelfile(template, num_ctx=4096, system=None, extra={})
    assert prompt(modelfile.template, [{"role": "user", "content": " Hi "}]) == (
        "<file_sep>user: Hi\n<file_sep>assistant: "
    )
    assert modelfile.parameters["stop"] == ("<file_sep>", "<|im_end|>")


def test_rows_left_out_are_counted_and_listed(tiny: Base, tmp_path: Path) -> None:
    made = plan(tiny, tmp_path, template="chatml")
    assert len(made.train) == len(made.conversations) == 8
    codes = [one.problem.code for one in made.dropped]
    assert codes == ["control-token", "dropped-too-long"]
    assert made.dropped[0].row["messages"][0]["content"] == "a <|im_end|> b"
    (remark,) = made.remarks
    assert remark.startswith("left out 2, listed in dropped.jsonl of the run: 1 control-token (")
    cut = plan(tiny, tmp_path, template="chatml", cutoff_policy="truncate")
    assert len(cut.train) == 9
    assert cut.remarks[1].startswith("cut 1 to cutoff_len: 1 cut-to-length (")


def test_without_leave_to_drop_the_bad_rows_are_an_error(tiny: Base, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 problem in the training data") as caught:
        plan(tiny, tmp_path, template="chatml", bad_rows="error")
    assert "row 9" in caught.value.why
    assert "messages[1].content: the text holds the control token <|im_end|>" in caught.value.why
    assert "bad_rows: drop" in caught.value.fix
    with pytest.raises(DataError, match="2 problems in the training data"):
        plan(tiny, tmp_path, template="chatml", bad_rows="error", cutoff_policy="error")


def test_the_number_of_processes_does_not_make_another_run(tiny: Base, tmp_path: Path) -> None:
    one = plan(tiny, tmp_path, template="chatml")
    two = plan(tiny, tmp_path, template="chatml", preprocessing_num_workers=1)
    assert one.inputs == two.inputs
    assert one.inputs != plan(tiny, tmp_path, template="chatml", cutoff_policy="truncate").inputs
