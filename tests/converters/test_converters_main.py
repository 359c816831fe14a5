"""`python -m converters`, and that the package stands alone."""

from __future__ import annotations

import json
import signal
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
    out = str(tmp_path / "file" / "m.gguf")
    assert main(["model", str(base), out, "--outtype", "F32"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_notes_go_to_stderr(make_base, tmp_path, capsys):
    base = make_base(intermediate_size=80)
    assert main(["model", str(base), str(tmp_path / "m.gguf")]) == 0
    assert "so 2 of 16 tensors become F16" in capsys.readouterr().err


def test_quantize(base, tmp_path, capsys):
    converters.write_model(base, tmp_path / "f.gguf", outtype="F16")
    out = str(tmp_path / "q.gguf")
    assert main(["quantize", str(tmp_path / "f.gguf"), out, "Q8_0", "--threads", "1"]) == 0
    assert capsys.readouterr().out.split() == [
        converters.quantize(tmp_path / "f.gguf", tmp_path / "2.gguf", "Q8_0").sha256,
        out,
    ]
    assert main(["quantize", out, str(tmp_path / "b.gguf"), "BF16"]) == 1
    assert "fix:" in capsys.readouterr().err
    assert main(["quantize", out, str(tmp_path / "b.gguf"), "BF16", "--allow-requantize"]) == 0


def test_check_as_json(base, tmp_path, capsys):
    converters.write_model(base, tmp_path / "m.gguf", outtype="Q8_0")
    assert main(["check", str(tmp_path / "m.gguf"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["problems"], said["file_type"]) == (True, [], "Q8_0")
    assert (said["n_tensors"], said["size"]) == (21, (tmp_path / "m.gguf").stat().st_size)
    data = bytearray((tmp_path / "m.gguf").read_bytes())
    (tmp_path / "m.gguf").write_bytes(data[:-64])
    assert main(["check", str(tmp_path / "m.gguf"), "--json"]) == 1
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert not said["ok"]
    assert "ends at byte" in said["problems"][0]
    assert said["problems"][0] in captured.err


def test_dump_as_json(base, tmp_path, capsys):
    converters.write_model(base, tmp_path / "m.gguf", outtype="F16")
    assert main(["dump", str(tmp_path / "m.gguf"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["metadata"]["llama.block_count"] == {"type": "UINT32", "value": 2}
    assert len(said["metadata"]["tokenizer.ggml.tokens"]["value"]) == 320
    assert said["metadata"]["tokenizer.ggml.tokens"]["type"] == "ARRAY[STRING]"
    first = said["tensors"][0]
    assert (first["name"], first["shape"], first["type"], first["offset"], first["bytes"]) == (
        "output.weight",
        [320, 64],
        "F16",
        said["data_start"],
        320 * 64 * 2,
    )


def test_names_of_a_hostile_file_do_not_reach_the_terminal(tmp_path, capsys):
    from converters import metadata, writer

    pairs = [metadata.string("a\x1b[2Jb", "\x1b]0;x\x07"), metadata.f32("c", float("nan"))]
    writer.write(tmp_path / "x.gguf", pairs, [])
    assert main(["dump", str(tmp_path / "x.gguf")]) == 0
    assert main(["dump", str(tmp_path / "x.gguf"), "--json"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert r"a\x1b[2Jb" in out
    assert '"nan"' in out


def test_check_of_a_folder_needs_its_base(base, make_adapter, capsys):
    assert main(["check", str(make_adapter(base))]) == 1
    assert "fix: --base FOLDER" in capsys.readouterr().err


def test_interrupted_is_exit_130(base, tmp_path):
    code = f"""
import sys, os, signal
from converters import __main__ as m, jobs
real, pressed = jobs._encode, []
def encode(*args):
    if not pressed:
        pressed.append(os.kill(os.getpid(), signal.SIGINT))
    return real(*args)
jobs._encode = encode
arguments = ["model", {str(base)!r}, {str(tmp_path / "m.gguf")!r}, "--outtype", "F32"]
sys.exit(m.main(arguments))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert done.stderr == "interrupted; no file was written\n"
    assert not list(tmp_path.iterdir())


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
