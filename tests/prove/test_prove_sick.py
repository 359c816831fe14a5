"""Each sickness, made as users make it, is what is named first; and the remedy heals it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from real_chat import tokenizer_folder
from sick_models import (
    exchanged,
    gguf_of,
    make_adapter,
    make_folder,
    patched,
    retyped,
    rows_moved,
    with_llama3_turns,
)

from converters import write_adapter
from ft2ollama.base import Base, resolve_base
from ft2ollama.files import sha256_file
from ft2ollama.gotemplate import derive
from ft2ollama.modelfile_grammar import parse_modelfile
from ft2ollama.ollama_api import Ollama
from ft2ollama.prove import Reference, Verdict, examine, look, open_reference
from ft2ollama.template import families

pytestmark = [pytest.mark.ollama, pytest.mark.oracle]
BOS = "<|begin_of_text|>"
LLAMA = {"bos_token_id": 49152, "eos_token_id": 49155, "rope_theta": 500000.0}


@dataclass(frozen=True)
class Clinic:
    """A tiny Llama with the chat template of Llama 3.2, which has tools; a right file of it."""

    ollama: Ollama
    base: Path
    adapter: Path
    file: Path
    template: str
    folder: Path

    def verdict(
        self,
        file: Path | None = None,
        *,
        adapter: Path | None = None,
        lora: Path | None = None,
        **told: Any,
    ) -> Verdict:
        """What is said of a model made from `file` with `told` in its Modelfile."""
        fields: dict[str, Any] = {"template": self.template, "parameters": {"stop": ["<|eot_id|>"]}}
        self.ollama.create("sick", gguf=file or self.file, adapter=lora, **{**fields, **told})
        return self.look("sick", adapter)

    def look(self, name: str, adapter: Path | None = None) -> Verdict:
        return examine(look(self.ollama, name), self.reference(adapter), replies=False)

    @cache  # noqa: B019 - a clinic lives as long as the tests
    def reference(self, adapter: Path | None = None) -> Reference:
        """Opened once: a vocabulary of 128000 tokens takes a second to load."""
        return open_reference(resolve_base(str(self.base)), adapter=adapter)


@pytest.fixture(scope="module")
def clinic(
    ollama: Ollama, chat_models: Path, smollm2: Base, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clinic]:
    folder = tmp_path_factory.mktemp("clinic")
    tokenizer = with_llama3_turns(smollm2.tokenizer_folder, folder / "tokenizer")
    base = make_folder(folder / "base", tokenizer, **LLAMA)
    reference = open_reference(resolve_base(str(base)))
    assert reference.template is not None
    go = derive(reference.template.render, special_tokens={"bos_token": BOS}, ends=reference.ends)
    assert go.adds_bos
    yield Clinic(
        ollama,
        base,
        make_adapter(base, folder / "adapter"),
        gguf_of(base, folder / "right.gguf", add_bos=True),
        go.gotmpl,
        folder,
    )
    ollama.delete("sick")


def first(verdict: Verdict) -> str:
    return verdict.findings[0].code if verdict.findings else "healthy"


def remade(clinic: Clinic, verdict: Verdict, folder: Path = Path()) -> Verdict:
    """The model after the printed Modelfile, as `ollama create -f` would make it in `folder`."""
    told: dict[str, Any] = {"parameters": {}}
    for command in parse_modelfile(verdict.remedy.modelfile):
        kind, _, name = command.name.partition(" ")
        if kind == "parameter" and name == "stop":
            told["parameters"].setdefault("stop", []).append(command.value)
        elif kind == "parameter":
            told["parameters"][name] = json.loads(command.value)
        else:
            told[kind] = command.value
    source = told.pop("from")
    if source.startswith("./"):
        clinic.ollama.create("healed", gguf=folder / source, **told)
    else:
        clinic.ollama.create("healed", from_=source, **told)
    return clinic.look("healed")


# ---------------------------------------------------------------- healthy


def test_a_right_model_is_healthy(clinic: Clinic) -> None:
    verdict = clinic.verdict()
    assert first(verdict) == "healthy", verdict.findings
    assert {check.name: check.state for check in verdict.checks} == {
        "weights": "ok", "tokenizer": "ok", "template": "ok", "BOS": "ok", "tools": "ok",
        "stop words": "ok", "parameters": "ok", "replies": "unknown",
    }  # fmt: skip


def test_a_persona_of_the_users_own_is_no_fault(clinic: Clinic) -> None:
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ahoy!"}]
    verdict = clinic.verdict(system="你是海盗。", messages=history)
    assert first(verdict) == "healthy", verdict.findings


def test_a_merged_adapter_is_healthy(clinic: Clinic, tmp_path: Path) -> None:
    file = gguf_of(clinic.base, tmp_path / "m.gguf", adapter=clinic.adapter, add_bos=True,
                   outtype="Q8_0")  # fmt: skip
    verdict = clinic.verdict(file, adapter=clinic.adapter)
    assert first(verdict) == "healthy", verdict.findings
    assert "of the training in them" in verdict.checks[0].note
    # Held against the base alone the same file is a fine-tune of it, which is no fault.
    untold = clinic.look("sick").checks[0]
    assert untold.state == "unknown"
    assert "as a fine-tune does" in untold.note


# ---------------------------------------------------------------- what a Modelfile heals


def without_system(template: str) -> str:
    """As people shorten templates: only user and assistant."""
    return (
        '{{ range .Messages }}{{ if ne .Role "system" }}<|start_header_id|>{{ .Role }}'
        "<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}{{ end }}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def llama3_with_system(template: str) -> str:
    """Llama 3's, without the header and the tools of 3.2."""
    return families()["llama3"].gotmpl


BY_MODELFILE: dict[str, tuple[str, dict[str, Any]]] = {
    "no template": ("no-template", {"template": "{{ .Prompt }}"}),
    "chatml": ("wrong-template", {"template": families()["chatml"].gotmpl}),
    "escapes": (
        "escapes-in-template",
        {"template": lambda t: t.replace("\n\n", r"\n\n")},
    ),
    "carriage returns": (
        "escapes-in-template",
        {"template": lambda t: t.replace("<|end_header_id|>\n\n", "<|end_header_id|>\r\n\r\n")},
    ),
    "no system": ("system-lost", {"template": without_system}),
    "literal BOS": ("bos-doubled", {"template": lambda t: BOS + t}),
    "no answer header": (
        "no-answer-header",
        {"template": lambda t: t.rpartition("{{- if and $last")[0] + "{{- end }}"},
    ),
    "one turn only": (
        "history-lost",
        {"template": lambda t: "{{- $ms := .Messages }}" + t.replace(
            "{{- $last :=", '{{- if and (ne .Role "system") (gt (len (slice $ms $i)) 1) }}'
            "{{- continue }}{{- end }}{{- $last :=", 1)},
    ),
    "repeat_penalty": ("penalty", {"parameters": {"repeat_penalty": 1.8}}),
    "temperature": ("temperature", {"parameters": {"temperature": 2.5}}),
    "num_ctx": ("context-short", {"parameters": {"num_ctx": 512}}),
    "num_predict": ("reply-cut", {"parameters": {"num_predict": 20}}),
    "stop at a space": ("stop-cuts", {"parameters": {"stop": [" "]}}),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_MODELFILE)
def test_sick_by_its_modelfile(clinic: Clinic, name: str) -> None:
    code, told = BY_MODELFILE[name]
    told = {key: value(clinic.template) if callable(value) else value
            for key, value in told.items()}  # fmt: skip
    verdict = clinic.verdict(**told)
    assert first(verdict) == code, verdict.findings
    if name in ("carriage returns", "temperature", "num_ctx", "num_predict"):
        return  # healed as their neighbours are
    healed = remade(clinic, verdict)
    assert first(healed) == "healthy", (verdict.remedy.modelfile, healed.findings)


def test_tools_that_a_template_lost(clinic: Clinic) -> None:
    lost = derive(
        lambda messages, *, tools=(), **more: _render(clinic, messages, **more),
        special_tokens={"bos_token": BOS},
    )
    verdict = clinic.verdict(template=lost.gotmpl)
    assert first(verdict) == "tools-lost", verdict.findings
    assert first(remade(clinic, verdict)) == "healthy"


def _render(clinic: Clinic, messages: Any, **more: Any) -> str:
    template = clinic.reference().template
    assert template is not None
    return template.render(messages, **{"add_generation_prompt": True, **more})


def test_bos_that_nobody_adds(clinic: Clinic, tmp_path: Path) -> None:
    file = patched(clinic.file, tmp_path / "f.gguf", {"tokenizer.ggml.add_bos_token": False})
    verdict = clinic.verdict(file)
    assert first(verdict) == "bos-missing", verdict.findings
    assert first(remade(clinic, verdict)) == "healthy"


# ---------------------------------------------------------------- what is wrong in the file


def of_another_seed(clinic: Clinic, out: Path) -> Path:
    base = make_folder(out.parent / "other", clinic.base, seed=7, **LLAMA)
    return gguf_of(base, out, add_bos=True)


IN_THE_FILE: dict[str, tuple[str, str, Callable[[Clinic, Path], Path]]] = {
    "eos is an ordinary token": (
        "wrong-end", "break off at",
        lambda c, out: patched(c.file, out, {"tokenizer.ggml.eos_token_id": 30}),
    ),
    "q and k not permuted": (
        "rows-not-permuted", "Hugging Face's order",
        lambda c, out: rows_moved(
            c.file, out,
            {f"blk.{n}.attn_{x}.weight": h for n in (0, 1) for x, h in (("q", 4), ("k", 2))},
        ),
    ),
    "gate and up exchanged": (
        "tensors-exchanged", "ffn_gate and ffn_up",
        lambda c, out: exchanged(c.file, out, "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"),
    ),
    "another base": ("other-model", "another model", of_another_seed),
    "rope base 0": (
        "rope", "another base: 0 for 500000",
        lambda c, out: patched(c.file, out, {"llama.rope.freq_base": 0.0}),
    ),
    "another epsilon": (
        "setting", "epsilon",
        lambda c, out: patched(
            c.file, out, {"llama.attention.layer_norm_rms_epsilon": 1e-2}),
    ),
    "control tokens spelt out": (
        "special-tokens-split", "<|start_header_id|>",
        lambda c, out: retyped(c.file, out, {49153: 1, 49154: 1}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_THE_FILE)
def test_sick_by_its_file(clinic: Clinic, tmp_path: Path, name: str) -> None:
    code, words, make = IN_THE_FILE[name]
    verdict = clinic.verdict(make(clinic, tmp_path / "sick.gguf"))
    assert first(verdict) == code, verdict.findings
    assert words in verdict.findings[0].what, verdict.findings[0]
    fix = verdict.findings[0].fix
    assert "python -m converters model" in fix or "gguf-set-metadata" in fix


@pytest.mark.parametrize("name", ["eos is an ordinary token", "gate and up exchanged"])
def test_a_fix_is_something_to_paste(clinic: Clinic, tmp_path: Path, name: str) -> None:
    file = IN_THE_FILE[name][2](clinic, tmp_path / "sick.gguf")
    verdict = clinic.verdict(file, parameters={"stop": ["<|eot_id|>"], "top_k": 7})
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(Path(__file__).parents[2])}
    fix = verdict.findings[0].fix
    subprocess.run(["bash", "-c", fix], cwd=tmp_path, env=env, check=True, capture_output=True)
    healed = remade(clinic, verdict, tmp_path)
    assert first(healed) == "healthy", (verdict.remedy.modelfile, healed.findings)
    assert clinic.ollama.show("healed").parameters["top_k"] == 7


def test_a_damaged_file(clinic: Clinic) -> None:
    """The store lost its end after the model was made: Ollama only finds out when it loads it."""
    clinic.verdict()
    blob = clinic.ollama.show("sick").blob
    assert blob is not None
    whole = blob.read_bytes()
    blob.write_bytes(whole[: len(whole) // 2])
    try:
        verdict = clinic.look("sick")
    finally:
        blob.write_bytes(whole)
    assert first(verdict) == "broken-file", verdict.findings
    assert "ends at byte" in verdict.findings[0].why


def test_an_adapter_that_was_never_merged(clinic: Clinic) -> None:
    verdict = clinic.verdict(adapter=clinic.adapter)
    assert first(verdict) == "adapter-not-applied", verdict.findings
    assert f"--adapter {clinic.adapter}" in verdict.findings[0].fix


def test_an_adapter_with_half_its_scale(clinic: Clinic, tmp_path: Path) -> None:
    half = shutil.copytree(clinic.adapter, tmp_path / "half")
    settings = json.loads((half / "adapter_config.json").read_text())
    (half / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 3}))
    file = gguf_of(clinic.base, tmp_path / "m.gguf", adapter=half, add_bos=True)
    verdict = clinic.verdict(file, adapter=clinic.adapter)
    assert first(verdict) == "adapter-dose", verdict.findings
    assert "in the file 0.3" in verdict.findings[0].what


def test_an_adapter_beside_its_base(clinic: Clinic, tmp_path: Path) -> None:
    """FROM base + ADAPTER: the adapter's own file is measured."""
    lora = tmp_path / "lora.gguf"
    write_adapter(clinic.adapter, clinic.base, lora)
    verdict = clinic.verdict(adapter=clinic.adapter, lora=lora)
    assert first(verdict) == "healthy", verdict.findings
    assert "of the training in them" in verdict.checks[0].note
    untold = clinic.look("sick").checks[0]
    assert (untold.state, "--adapter" in untold.note) == ("unknown", True)


def test_a_stop_word_that_nobody_knows(clinic: Clinic, tmp_path: Path) -> None:
    """A fine-tune whose turns end with a token of its own; the file still says eot."""
    base = shutil.copytree(clinic.base, tmp_path / "base")
    own = "<|mine|>"
    settings = json.loads((base / "tokenizer_config.json").read_text("utf-8"))
    jinja = settings["chat_template"].replace("<|eot_id|>", own)
    settings |= {"chat_template": jinja, "eos_token": own}
    (base / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    reference = open_reference(resolve_base(str(base)))
    assert reference.template is not None
    go = derive(reference.template.render, special_tokens={"bos_token": BOS})
    clinic.ollama.create(
        "sick", gguf=clinic.file, template=go.gotmpl, parameters={"stop": ["<|eot_id|>"]}
    )
    verdict = examine(look(clinic.ollama, "sick"), reference, replies=False)
    assert first(verdict) == "stop-missing", verdict.findings
    assert own in verdict.remedy.modelfile


def test_a_folder_that_ollama_itself_imported(
    ollama: Ollama, chat_models: Path, tmp_path: Path
) -> None:
    """Qwen2 as transformers 5 saves it: the server's converter finds no rope_theta and writes 0."""
    base = make_folder(tmp_path / "qwen", tokenizer_folder("qwen2.5"), "Qwen2",
                       bos_token_id=151643, eos_token_id=151645)  # fmt: skip
    files = {}
    for path in base.iterdir():
        if path.name in ("config.json", "model.safetensors", "tokenizer.json",
                         "tokenizer_config.json", "generation_config.json"):  # fmt: skip
            files[path.name] = ollama.upload(path, sha256_file(path))
    body = {"model": "imported", "files": files, "template": "{{ .Prompt }}", "stream": False}
    httpx.post(f"{ollama.host}/api/create", json=body, timeout=120).raise_for_status()
    verdict = examine(
        look(ollama, "imported"), open_reference(resolve_base(str(base))), replies=False
    )
    assert first(verdict) == "rope", verdict.findings
    assert "Ollama's own import" in verdict.findings[0].what
    assert {finding.code for finding in verdict.findings} >= {"rope", "no-template"}


def test_the_run_that_made_a_model_stands_in_its_license(clinic: Clinic) -> None:
    """Where neither the file nor its metadata tell it: a server that rewrote the file."""
    line = 'ft2ollama-manifest: {"run":"20261122-mine","quant":"Q8_0"}'
    clinic.ollama.create("sick", gguf=clinic.file, license=["MIT\nand so on", line])
    assert look(clinic.ollama, "sick").lineage["run"] == "20261122-mine"
