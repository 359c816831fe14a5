"""`python -m converters`, and that the package stands alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import converters
from converters.__main__ import main

ROOT = Path(__file__).parents[2]


def test_model_adapter_check_dump(base, make_adapter, tmp_path, capsys):
    adapter = make_adapter(base)
    model, lora = tmp_path / "m.gguf", tmp_path / "a.gguf"
    assert main(["model", str(base), str(model), "--adapter", str(adapter), "--name", "x"]) == 0
    out = capsys.readouterr().out.split()
    assert out == [
        converters.write_model(base, model, adapter=adapter, name="x").sha256,
        str(model),
    ]
    assert main(["adapter", str(adapter), str(base), str(lora)]) == 0
    assert main(["check", str(model)]) == main(["check", str(lora)]) == 0
    assert main(["check", str(adapter), "--base", str(base)]) == 0
    capsys.readouterr()
    assert main(["dump", str(model)]) == 0
    dumped = capsys.readouterr().out
    assert "general.architecture = 'llama'" in dumped
    assert "blk.0.attn_q.weight  [64, 64]  Q8_0" in dumped
    assert "... 320]" in dumped


def test_errors_are_said_on_stderr(base, tmp_path, capsys):
    assert main(["model", str(base), str(tmp_path / "m.gguf"), "--outtype", "Q1"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "unknown output type 'Q1'" in captured.err
    assert "fix:" in captured.err


def test_a_folder_that_cannot_be_written_is_one_line(base, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["model", str(base), str(tmp_path / "file" / "m.gguf")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_notes_go_to_stderr(make_base, tmp_path, capsys):
    base = make_base(intermediate_size=80)
    assert main(["model", str(base), str(tmp_path / "m.gguf")]) == 0
    assert "note: 2 tensors fell back" in capsys.readouterr().err


def test_nothing_of_the_tool_or_torch_is_imported():
    code = """
import sys, converters
bad = {"torch", "transformers", "peft", "safetensors", "ft2ollama", "ollama", "rich", "click"}
print(sorted(bad & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_owner_tells_the_package_from_others_of_its_name():
    assert converters.OWNER == "ft2ollama"
    assert all(hasattr(converters, name) for name in converters.__all__)
