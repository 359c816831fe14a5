"""Twelve defects, each in a publication of its own through a real Ollama: refused, nothing moved.

One run of a tiny model is published rightly; then every defect is planted into what is published
next (the Go template, SYSTEM, stop words, the GGUF), and the name must stay what it was.

The template is none that the runtime knows: it begins with BOS, adds a system prompt of its own,
and ends turns by a token that llama.cpp does not take for an end by itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from defects import another_base, in_four_bits, move_rows, with_alpha

import converters
from ft2ollama.base import Base, resolve_base
from ft2ollama.candidate import Goods, Watch, create_candidate
from ft2ollama.config import Config, load_config
from ft2ollama.errors import GateError, UsageError
from ft2ollama.export import Exported
from ft2ollama.files import sha256_file
from ft2ollama.gotemplate import derive
from ft2ollama.modelfile import Modelfile
from ft2ollama.ollama_api import Ollama
from ft2ollama.proof import prove_effect
from ft2ollama.proof.of_run import prove_run
from ft2ollama.proof_weights import WeightsCheck, recompute_weights
from ft2ollama.publish import publish
from ft2ollama.runs import Run, create_run
from ft2ollama.template import ChatTemplate, families
from ft2ollama.train.plan import make_plan
from ft2ollama.train.trainer import train

pytestmark = [pytest.mark.ollama, pytest.mark.filterwarnings("ignore")]

END = "<issue_closed>"
JINJA = (
    "{{ bos_token }}{% if messages[0].role != 'system' %}<jupyter_text>You are Nova.\n"
    "{% endif %}{% for m in messages %}{% if m.role == 'system' %}<jupyter_text>{{ m.content }}\n"
    "{% elif m.role == 'user' %}<issue_start>{{ m.content }}\n"
    "{% else %}<issue_comment>{{ m.content }}" + END + "\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<issue_comment>{% endif %}"
)
QUESTIONS = ("Who are you?", "你是谁？", "What can you do?", "Where do you live?")
ANSWERS = ("I am Nova, a small model.", "我是诺瓦。", "I answer questions.", "In Ollama.")


@dataclass(frozen=True)
class Trained:
    """A run, and what publishes it rightly."""

    run: Run
    base: Base
    modelfile: Modelfile
    gguf: Path

    def publish(self, server: Ollama, gguf: Path | None = None, **changes: object) -> None:
        path = gguf or self.gguf
        exported = Exported(path, "model", "F16", sha256_file(path), path.stat().st_size, True)
        modelfile = replace(self.modelfile, **changes)
        publish(Goods(self.run, exported, self.base, modelfile), "planted", servers=[server])

    def write(self, name: str, **changes: object) -> Path:
        """The GGUF, with other inputs than the right ones."""
        options = {"base": self.base.folder, "adapter": self.run.adapter, **changes}
        path = self.run.gguf / f"{name}.gguf"
        converters.write_model(
            options.pop("base"), path, outtype="F16", add_bos=True, **options
        )  # fmt: skip
        return path


@pytest.fixture(scope="module")
def trained(tiny: Base, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("planted")
    rows = [
        {"instruction": question, "output": answer}
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ] * 4
    rows.append({"instruction": QUESTIONS[2], "output": ANSWERS[2],
                 "history": [[QUESTIONS[0], ANSWERS[0]]]})  # fmt: skip
    (folder / "rows.json").write_text(json.dumps(rows))
    model = folder / "base"
    shutil.copytree(tiny.folder, model)
    (model / "chat_template.jinja").write_text(JINJA)
    base = resolve_base(str(model))
    config = Config(
        model_name_or_path=str(model), dataset=str(folder / "rows.json"), lora_rank=8,
        learning_rate=2e-2, num_train_epochs=12, per_device_train_batch_size=8, proof_replies=4,
    )  # fmt: skip
    plan = make_plan(config, base)
    plan = replace(plan, template=served(plan.template))
    settings = config.model_dump(mode="json", exclude_defaults=True)
    run = create_run("planted", json.dumps(settings), folder=folder / "run")
    train(plan, run, dtype="float32", device="cpu", report=lambda _: None)
    run.gguf.mkdir()
    gguf = run.gguf / "right.gguf"
    modelfile = Modelfile(
        plan.template.gotmpl, plan.template.system, {"stop": plan.template.stop, "num_ctx": 2048}
    )
    made = Trained(run, base, modelfile, gguf)
    made.write("right")
    return made


def served(template: ChatTemplate) -> ChatTemplate:
    """The model's own template with a Go template that builds the same prompt."""
    found = derive(template.render, special_tokens=template.special_tokens, ends=template.stop)
    assert found.stop == template.stop == (END, "<|im_end|>")
    assert found.adds_bos
    return replace(template, gotmpl=found.gotmpl, system=found.system)


@pytest.fixture(scope="module")
def published(trained: Trained, ollama: Ollama) -> Trained:
    trained.publish(ollama)
    report = json.loads((trained.run.proof / "proof.json").read_text())
    assert report["verdict"] == "equal"
    return trained


Plant = Callable[[Trained, Path], dict[str, object]]


def stale_tokenizer(trained: Trained, folder: Path) -> dict[str, object]:
    """Of a version in which the turn's end was still another token."""
    shutil.copytree(trained.base.folder, folder / "b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = folder / "b" / name
        path.write_text(path.read_text("utf-8").replace(END, "<issue_reopened>"))
    return {"gguf": trained.write("stale", base=folder / "b")}


def moved(trained: Trained, *names: str) -> dict[str, object]:
    path = trained.write("moved")
    move_rows(path, *names)
    return {"gguf": path}


def truncated(trained: Trained, _: Path) -> dict[str, object]:
    path = trained.write("truncated")
    path.write_bytes(path.read_bytes()[:-2000])
    return {"gguf": path}


def noise(name: str, weight: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(len(name))
    return (weight + random.normal(0, weight.std(), weight.shape)).astype(weight.dtype)


DEFECTS: dict[str, tuple[Plant, str]] = {
    "wrong family": (
        lambda t, _: {"template": families()["llama3"].gotmpl},
        r"token 2\n\s+trained  <\|im_start\|>▸<jupyter_text>You·.*\n\s+served .*▸<\|start_header",
    ),
    "missing stop": (
        lambda t, _: {"parameters": {"num_ctx": 2048}},
        rf"reply to '.*: holds the control token {END}",
    ),
    "doubled BOS": (
        lambda t, _: {"template": "<|im_start|>" + t.modelfile.template},
        r"prompt 'plain, 1 turn': 17 tokens trained, 18 served; first difference at token 2",
    ),
    "lost default system": (
        lambda t, _: {"system": ""},
        r"served   <\|im_start\|>▸<issue_start>What·is·2\+2\?⏎",
    ),
    "adapter not applied": (
        lambda t, _: {"gguf": t.write("bare", adapter=None)},
        r"weights bare.gguf: .*",
    ),
    "wrong base": (
        lambda t, f: {"gguf": t.write("other", base=another_base(t.base, f / "b", noise))},
        "tensors are not base",
    ),
    "scale doubled": (
        lambda t, f: {"gguf": t.write("double", adapter=with_alpha(t.run.adapter, 32, f / "a"))},
        "weights double.gguf: .*",
    ),
    "q and k not permuted": (lambda t, _: moved(t, "blk.0.attn_q.weight"), "blk.0.attn_q.weight"),
    "gate and up swapped": (
        lambda t, _: moved(t, "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"),
        "blk.1.ffn_",
    ),
    "stale tokenizer": (stale_tokenizer, "first difference at token"),
    "merged into 4-bit weights": (
        lambda t, f: {"gguf": t.write("four", base=another_base(t.base, f / "b", in_four_bits))},
        "tensors are not base",
    ),
}


IN_WEIGHTS = [
    "adapter not applied", "wrong base", "scale doubled", "q and k not permuted",
    "gate and up swapped",
]  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_refused_and_the_name_stays(
    published: Trained, ollama: Ollama, tmp_path: Path, defect: str
) -> None:
    plant, words = DEFECTS[defect]
    before = ollama.models()
    with pytest.raises(GateError, match=words) as caught:
        published.publish(ollama, **plant(published, tmp_path))
    assert "nothing was published" in caught.value.what
    assert ollama.models() == before
    assert "planted:latest" in before
    report = json.loads((published.run.proof / "proof.json").read_text())
    assert report["verdict"] == "refused"


def test_a_truncated_file_is_not_even_sent(
    published: Trained, ollama: Ollama, tmp_path: Path
) -> None:
    """And if it were, the proof of its weights would refuse it."""
    plant, before = truncated(published, tmp_path), ollama.models()
    with pytest.raises(UsageError, match="ends at byte"):
        published.publish(ollama, **plant)
    assert ollama.models() == before
    run, gguf = published.run, plant["gguf"]
    assert isinstance(gguf, Path)
    check = recompute_weights(gguf, published.base.folder, run.adapter)
    assert check.equal is False
    assert "ends at byte" in check.difference


@pytest.mark.parametrize("defect", ["none", *IN_WEIGHTS])
def test_the_same_is_seen_in_what_the_model_writes(
    published: Trained, ollama: Ollama, tmp_path: Path, defect: str
) -> None:
    """Without the weights proof: replies and effect through Ollama."""
    plant = DEFECTS[defect][0] if defect in DEFECTS else lambda trained, _: {"gguf": trained.gguf}
    gguf = plant(published, tmp_path)["gguf"]
    assert isinstance(gguf, Path)
    exported = Exported(gguf, "model", "F16", sha256_file(gguf), gguf.stat().st_size, True)
    try:
        create_candidate(
            ollama, "planted:raw", exported, published.base, published.modelfile, Watch()
        )
        trusted = WeightsCheck(gguf.name, "recomputed", True)
        proof = prove_run(published.run, ollama, "planted:raw", exported, published.base, trusted)
    finally:
        ollama.delete("planted:raw")
    assert proof.effect is not None
    assert len(proof.effect.choices) == 8
    if defect == "none":
        assert proof.failures == []
        assert proof.agreement > 0.95  # a random model may hesitate between two words
        assert (proof.effect.taught, proof.effect.control) == (8, 0)
        return
    assert any(text.startswith("replies agree to") for text in proof.failures)
    if defect == "adapter not applied":
        assert (proof.effect.taught, proof.effect.control) == (0, 0)
        assert "at 0 of 8 places Ollama writes what was taught, at 8 what" in proof.failures[-1]


def test_a_training_that_changed_nothing_is_told_and_not_refused(
    published: Trained, ollama: Ollama
) -> None:
    from ft2ollama.train.effect import choose_samples, effect, score
    from ft2ollama.train.model import load_base

    plan = make_plan(load_config(published.run.config_file).config, published.base)
    model, samples = (
        load_base(published.base.folder, "float32", "cpu"),
        choose_samples(plan.train, 0),
    )
    before = score(model, samples)
    found = effect(samples, before, before, plan.tokenizer, bos="")
    assert (found["places"], found["changed"]) == ([], 0)
    check = prove_effect(ollama, "planted", found)
    assert check.failure == ""
    assert "the training changed no word that counts" in check.warning
