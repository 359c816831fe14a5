"""The Modelfile's text, and what it cannot carry."""

from __future__ import annotations

from dataclasses import asdict

from ft2ollama.modelfile import Modelfile, as_text, make_modelfile
from ft2ollama.modelfile_grammar import dropped_characters
from ft2ollama.template import choose_template


def test_values_come_from_the_family_the_config_and_the_user() -> None:
    template = asdict(choose_template("chatml", None, {}))
    made = make_modelfile(template, num_ctx=4096, system="S", extra={"temperature": 0.7})
    assert made.parameters == {
        "stop": ("<|im_end|>", "<|im_start|>"),
        "num_ctx": 4096,
        "repeat_penalty": 1.0,
        "temperature": 0.7,
    }
    assert made.reasons["temperature"] == "ollama_parameters"
    assert made.system == "S"
    own = {**template, "system": "own"}
    assert make_modelfile(own, num_ctx=1, system=None, extra={}).system == "own"
    assert make_modelfile(own, num_ctx=1, system="", extra={}).system == ""


def test_the_text() -> None:
    made = Modelfile(
        "{{ .Prompt }}", "You are\n小杉", {"stop": ("a", "b"), "top_p": 0.9}, {"stop": "ends"}
    )
    assert as_text(made, source="./gguf/m.gguf") == (
        "# Written by ft2ollama. `ollama create NAME -f Modelfile` makes the proved model.\n"
        "FROM ./gguf/m.gguf\n"
        "TEMPLATE {{ .Prompt }}\n"
        'SYSTEM "You are\n小杉"\n'
        "# stop: ends\n"
        "PARAMETER stop a\nPARAMETER stop b\n"
        "# top_p: \n"
        "PARAMETER top_p 0.9\n"
    )
    assert "ADAPTER ./a.gguf\n" in as_text(made, source="./m.gguf", adapter="./a.gguf")


def test_characters_that_ollama_drops_are_named() -> None:
    assert dropped_characters("a\u3000b\u200d\u00a0 \n\t你") == ["U+00A0", "U+200D", "U+3000"]
    text = as_text(Modelfile("t", "a\u3000b", {}), source="x")
    assert text.splitlines()[1] == "# `ollama create` drops U+3000 from SYSTEM; publish does not."
