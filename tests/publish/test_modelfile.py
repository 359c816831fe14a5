"""The Modelfile's text, and what it cannot carry."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.files import sha256_file
from ft2ollama.modelfile import Modelfile, as_text, make_modelfile
from ft2ollama.modelfile_grammar import Command, dropped_characters, parse_modelfile
from ft2ollama.modelfile_values import context_length, generation_parameters, license_texts
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
    assert made.reasons["temperature"] == "ollama_parameters of the config"
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


# generation_config.json -> what the Modelfile gets of it
SAMPLING: dict[str, tuple[Any, dict[str, Any]]] = {
    "Qwen2.5": (
        {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20,
         "repetition_penalty": 1.05},
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
    ),
    "Gemma 3": ({"do_sample": True, "top_k": 64, "top_p": 0.95},
                {"temperature": 1.0, "top_k": 64, "top_p": 0.95}),
    "min_p": ({"do_sample": True, "temperature": 1, "min_p": 0.05},
              {"temperature": 1.0, "min_p": 0.05}),
    "temperature alone": ({"temperature": 0.6}, {"temperature": 0.6}),
    "greedy": ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, {}),
    "ids only": ({"eos_token_id": [1, 2]}, {}),
    "odd values": ({"do_sample": True, "temperature": "hot", "top_p": True, "top_k": None},
                   {"temperature": 1.0}),
    "no object": ([1], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLING)
def test_sampling_is_the_bases_own(name: str, tmp_path: Path) -> None:
    given, wanted = SAMPLING[name]
    (tmp_path / "generation_config.json").write_text(json.dumps(given))
    found = generation_parameters(tmp_path)
    assert {key: value for key, (value, _) in found.items()} == wanted
    assert {reason for _, reason in found.values()} <= {"the base's generation_config.json"}
    assert generation_parameters(tmp_path / "nowhere") == {}


def test_the_config_goes_before_the_base_and_the_base_before_the_family(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.7}')
    template = asdict(choose_template("chatml", None, {}))
    base = generation_parameters(tmp_path)
    made = make_modelfile(template, num_ctx=1, system="", extra={}, base_parameters=base)
    assert made.parameters["temperature"] == 0.7
    assert made.parameters["repeat_penalty"] == 1.0
    assert "0.32.10 defaults to 1.1" in made.reasons["repeat_penalty"]
    made = make_modelfile(
        template, num_ctx=1, system="", extra={"temperature": 0.1}, base_parameters=base
    )
    assert made.parameters["temperature"] == 0.1


def test_a_template_of_no_family_is_pinned_too() -> None:
    template = {**asdict(choose_template("chatml", None, {})), "parameters": {}, "family": ""}
    made = make_modelfile(template, num_ctx=1, system="", extra={})
    assert (made.parameters["repeat_penalty"], made.parameters["temperature"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("num_ctx", "cutoff", "limit", "wanted", "words"),
    [
        (None, 1024, 32768, 4096, "a common length"),
        (None, 8192, 32768, 8192, "cutoff_len"),
        (None, 1024, 2048, 2048, "the longest that the model is made for"),
        (None, 1024, None, 4096, "a common length"),
        (16384, 1024, 32768, 16384, "num_ctx of the config"),
        (16384, 1024, 8192, 16384, "the model is made for 8192"),
    ],
)
def test_the_context_follows_training_and_model(
    num_ctx: int | None, cutoff: int, limit: int | None, wanted: int, words: str, tmp_path: Path
) -> None:
    nested = {"text_config": {"max_position_embeddings": limit}}
    for config in ({"max_position_embeddings": limit}, nested):
        (tmp_path / "config.json").write_text(json.dumps(config))
        found, reason = context_length(num_ctx, cutoff, tmp_path)
        assert (found, words in reason) == (wanted, True)


def test_the_license_says_where_the_model_is_from(tmp_path: Path) -> None:
    manifest = tmp_path / "model-F16.json"
    manifest.write_text(json.dumps({"kind": "model", "quant": "F16", "sha256": "ab"}))
    about = {"run_id": "20261122-\u5c0f\u6749", "base": "smol", "base_sha256": "cd"}
    (line,) = license_texts(tmp_path, manifest, about)
    head, _, rest = line.partition(": ")
    assert head == "ft2ollama-manifest"
    found = json.loads(rest)
    assert (found["run_id"], found["gguf_sha256"]) == (about["run_id"], "ab")
    assert found["manifest_sha256"] == sha256_file(manifest)
    (tmp_path / "LICENSE").write_text('Apache License\n\n "AS IS" basis\n')
    both = license_texts(tmp_path, manifest, about)
    assert both == ('Apache License\n\n "AS IS" basis', line)
    made = Modelfile("t", "", {}, license=both, messages=(("user", "hi\nyou"), ("assistant", "x")))
    commands = parse_modelfile(as_text(made, source="m.gguf"))
    assert [one for one in commands if one.name[:2] in ("li", "me")] == [
        Command("message user", "hi\nyou"),
        Command("message assistant", "x"),
        *(Command("license", text) for text in both),
    ]


def test_a_license_that_the_language_cannot_carry_is_left_out_and_said() -> None:
    made = Modelfile("t", "", {}, license=('say """\nor """\n"',))
    text = as_text(made, source="m.gguf")
    assert "LICENSE text cannot stand here" in text
    assert [one.name for one in parse_modelfile(text)] == ["from", "template"]
