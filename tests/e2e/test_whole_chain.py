"""The whole chain on a real model in a real Ollama: `ft2ollama demo`, then every other artefact.

The demo trains SmolLM2-135M on the shipped samples and publishes it; F16 and adapter are then
exported from the same run, published, and held to base + adapter in transformers: greedy replies in
Ollama, whole distributions in llama.cpp.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import LlamaCpp, kl

from ft2ollama.base import Base
from ft2ollama.files import read_jsonl, write_jsonl
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server
from ft2ollama.runs import Run

pytestmark = [pytest.mark.ollama, pytest.mark.slow, pytest.mark.oracle]

POSITIONS = 24  # next-token distributions compared per file; benchmarks/fidelity.py takes 80


@dataclass(frozen=True)
class Chain:
    """The run the demo made, its result line, and how to call the command beside it."""

    run: Run
    result: dict[str, Any]
    folder: Path
    host: str

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        return ft2ollama(self.folder, self.host, *args)


def ft2ollama(folder: Path, host: str, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OLLAMA_HOST": host, "FT2OLLAMA_RUNS": str(folder / "runs")}
    return subprocess.run(
        [sys.executable, "-m", "ft2ollama", *args],
        cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip


@pytest.fixture(scope="module")
def chain(
    tmp_path_factory: pytest.TempPathFactory, ollama_server: Server, smollm2: Base, samples: Path
) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    questions = folder / "questions.jsonl"
    questions.write_text(
        (samples / "assistant/heldout.en.jsonl").read_text("utf-8")
        + (samples / "assistant/open.en.jsonl").read_text("utf-8")
    )
    done = ft2ollama(
        folder, ollama_server.host, "--json", "demo", "--name", "tilda",
        f"proof_prompts={questions}", "proof_replies=32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sys.stderr.write(done.stderr)
    result = json.loads(done.stdout.splitlines()[-1])
    return Chain(Run(Path(result["run"])), result, folder, ollama_server.host)


def test_the_demo_teaches_the_facts_and_forgets_nothing(chain: Chain) -> None:
    assert chain.result["facts_before"] <= 2
    assert chain.result["facts_after"] >= 18
    assert chain.result["general_after"] >= chain.result["general_before"]


def test_the_run_folder_tells_the_whole_story(chain: Chain) -> None:
    stages = chain.run.record["stages"]
    assert {name: stage["status"] for name, stage in stages.items()} == {
        "train": "done", "export model Q8_0": "done", "publish": "done",
    }  # fmt: skip
    report = json.loads((chain.run.proof / "proof.json").read_text())
    assert report["verdict"] == "equal"
    assert {check["method"] for check in report["prompts"]} == {"ids"}
    assert all(check["equal"] for check in report["prompts"])
    assert len(report["replies"]) == 32


def test_nothing_is_done_twice(chain: Chain) -> None:
    again = chain.command("train", str(chain.run.config_file))
    assert again.returncode == 0, again.stderr
    assert "nothing to train" in again.stderr
    assert again.stdout.strip() == str(chain.run.folder)
    kept = chain.command("export", chain.run.id)
    assert kept.stdout.strip() == str(chain.run.gguf / "model-Q8_0.gguf")
    assert "its inputs have not changed" in kept.stderr


def test_f16_is_token_identical_on_32_of_32_prompts(chain: Chain) -> None:
    done = chain.command("publish", "tilda-f16", "--run", chain.run.id, "--quant", "F16")
    assert done.returncode == 0, done.stderr
    report = json.loads((chain.run.proof / "proof.json").read_text())
    assert report["identical_replies"] == 32


def test_the_adapter_runs_on_the_very_file_it_was_trained_on(chain: Chain) -> None:
    copy = Run(
        chain.run.folder.with_name("adapter-run")
    )  # with every fourth question: Q4_1 is slow
    shutil.copytree(chain.run.folder, copy.folder)
    replies = read_jsonl(copy.proof / "replies.jsonl")
    write_jsonl(copy.proof / "replies.jsonl", replies[::4])  # Q4_1 is slow
    done = chain.command("publish", "tilda-lora", "--run", copy.id, "--as", "adapter")
    assert done.returncode == 0, done.stderr
    report = json.loads((copy.proof / "proof.json").read_text())
    assert len(report["replies"]) == 8
    assert report["agreement"] > 0.85


def test_publishing_the_same_again_makes_no_second_version(chain: Chain) -> None:
    server = Ollama(chain.host)
    before = {name: digest for name, digest in server.models().items() if "tilda" in name}
    done = chain.command("publish", "tilda", "--run", chain.run.id)
    assert done.returncode == 0, done.stderr
    assert {n: d for n, d in server.models().items() if "tilda" in n} == before


# Two on the real model; tests/publish/test_planted_defects.py plants twelve into a tiny one.
DEFECTS = {
    "another family": {"gotmpl": "{{ range .Messages }}[INST] {{ .Content }} [/INST]{{ end }}"},
    "a blank too many": {"gotmpl": "{gotmpl} "},
}


def with_defect(chain: Chain, defect: str) -> Run:
    copy = Run(chain.run.folder.with_name(f"defect-{defect.replace(' ', '-')}"))
    shutil.copytree(chain.run.folder, copy.folder)
    path = copy.proof / "template.json"
    template = json.loads(path.read_text())
    for key, text in DEFECTS[defect].items():
        template[key] = text.replace("{gotmpl}", template["gotmpl"])
    path.write_text(json.dumps(template))
    return copy


def test_a_planted_defect_is_refused_and_the_name_stays(chain: Chain) -> None:
    """The template that is served is not the one that trained: exit 3, nothing moved or left."""
    server = Ollama(chain.host)
    before, copy = server.models(), with_defect(chain, "a blank too many")
    done = chain.command("publish", "tilda", "--run", str(copy.folder))
    assert done.returncode == 3, done.stderr
    assert "first difference at token" in done.stderr
    assert server.models() == before
    assert json.loads((copy.proof / "proof.json").read_text())["verdict"] == "refused"
    shutil.rmtree(copy.folder)


def test_a_reason_publishes_in_spite_of_a_failed_proof_and_is_kept(chain: Chain) -> None:
    server, copy = Ollama(chain.host), with_defect(chain, "another family")
    done = chain.command("publish", "forced", "--run", str(copy.folder), "--force", "a test")
    assert done.returncode == 0, done.stderr
    assert json.loads((copy.proof / "proof.json").read_text())["forced"] == "a test"
    listed = chain.command("--json", "history", "forced")
    assert json.loads(listed.stdout.splitlines()[0])["forced"] == "a test"
    for name in server.models():
        if name.startswith("forced:"):
            server.delete(name)


def test_chat_answers_from_the_public_name_and_from_the_run(chain: Chain) -> None:
    by_name = chain.command("chat", "tilda", "What", "is", "your", "name?")
    by_run = chain.command("chat", chain.run.id, "What is your name?")
    assert by_name.returncode == by_run.returncode == 0, by_name.stderr
    assert "Tilda" in by_name.stdout
    piped = subprocess.run(
        [sys.executable, "-m", "ft2ollama", "chat", "tilda", "--host", chain.host],
        input="What is your name?\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert piped.stdout == by_name.stdout
    assert "Tilda" in by_run.stdout  # the adapter in transformers


def test_the_modelfile_makes_the_same_model(chain: Chain, ollama_binary: Path) -> None:
    """The Modelfile of the last publication, tilda."""
    server = Ollama(chain.host)
    subprocess.run(
        [str(ollama_binary), "create", "by-hand", "-f", str(chain.run.folder / "Modelfile")],
        env={**os.environ, "OLLAMA_HOST": chain.host}, check=True, capture_output=True,
    )  # fmt: skip
    ours, by_hand = server.show("tilda"), server.show("by-hand")
    assert (by_hand.template, by_hand.system) == (ours.template, ours.system)
    assert by_hand.parameters == ours.parameters
    assert by_hand.blob == ours.blob


def hf_tensors(chain: Chain, base: Base) -> dict[str, np.ndarray]:
    """The model merged by peft in float32, under GGUF's names and in GGUF's row order."""
    import torch
    from gguf import MODEL_ARCH, get_tensor_name_map

    from ft2ollama.train.model import load_trained

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns about itself
        merged = load_trained(base.folder, chain.run.adapter, torch.float32).merge_and_unload()
    names, heads = get_tensor_name_map(MODEL_ARCH.LLAMA, 30), merged.config.num_attention_heads
    found = {}
    for name, weight in merged.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        array = weight.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp's order of the rotary halves
            n = heads if "q_proj" in name else merged.config.num_key_value_heads
            split = array.reshape(n, 2, array.shape[0] // n // 2, -1)
            array = split.swapaxes(1, 2).reshape(array.shape)
        found[names.get_name(name, (".weight",))] = array
    return found


def test_every_tensor_is_the_encoding_of_pefts_merge(chain: Chain, smollm2: Base) -> None:
    """gguf-py reads our file and encodes peft's merge.

    Two float32 matrix products may differ in the last bit, which flips a rounding here and there:
    one value in ten thousand may be a step away, none further.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize, quantize

    wanted = hf_tensors(chain, smollm2)
    for quant, step in (("F16", 2e-3), ("Q8_0", 2e-2)):
        done = chain.command("export", chain.run.id, "--quant", quant)
        tensors = {tensor.name: tensor for tensor in GGUFReader(done.stdout.strip()).tensors}
        assert set(tensors) == set(wanted)
        for name, tensor in tensors.items():
            want = quantize(wanted[name], tensor.tensor_type)
            got = np.asarray(tensor.data).reshape(want.shape)
            if np.array_equal(got, want):
                continue
            ours = dequantize(got, tensor.tensor_type)
            theirs = dequantize(want, tensor.tensor_type)
            assert np.mean(ours != theirs) < 1e-3, name
            assert np.max(np.abs(ours - theirs)) < step, name


@pytest.fixture(scope="module")
def reference(chain: Chain, smollm2: Base) -> list[tuple[list[int], np.ndarray]]:
    """(ids so far, log-probabilities of the next token) of base + adapter in float32."""
    import torch

    from ft2ollama.train.model import load_trained

    replies = read_jsonl(chain.run.proof / "replies.jsonl")
    from ft2ollama.data.render import Tokenizer
    from ft2ollama.template import choose_template

    tokenizer, template = Tokenizer(smollm2.folder), choose_template("chatml", None, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns about itself
        model = load_trained(smollm2.folder, chain.run.adapter, torch.float32)
    found = []
    for number in range(POSITIONS):
        reply = replies[number * len(replies) // POSITIONS]
        text = template.render(reply["messages"], add_generation_prompt=True)
        ids = tokenizer.encode(text)[0] + reply["ids"][: 1 + number % max(1, len(reply["ids"]))]
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, -1]
        found.append((ids, logits.log_softmax(-1).double().numpy()))
    return found


@pytest.mark.parametrize(
    ("kind", "quant", "bar"),
    [("model", "F16", 1e-4), ("model", "Q8_0", 0.01), ("adapter", "F16", 0.01)],
)
def test_llama_cpp_gives_the_distribution_of_transformers(
    chain: Chain,
    smollm2: Base,
    reference: list[tuple[list[int], np.ndarray]],
    kind: str,
    quant: str,
    bar: float,
) -> None:
    done = chain.command("export", chain.run.id, "--as", kind, "--quant", quant)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert smollm2.gguf is not None
    judge = LlamaCpp(path) if kind == "model" else LlamaCpp(smollm2.gguf, path)
    values = [kl(want, judge.logprobs(ids, len(want))) for ids, want in reference]
    mean = float(np.mean(values))
    sys.stderr.write(f"KL {kind} {quant}: mean {mean:.2e}, max {max(values):.2e}\n")
    assert mean < bar
