"""Which conversations the trainer writes down for the proofs, and what it finds taught."""

from __future__ import annotations

import json
import shutil
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ft2ollama.base import Base, resolve_base
from ft2ollama.config import Config
from ft2ollama.data.samples import Sample
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.train.effect import effect, score
from ft2ollama.train.plan import Plan, make_plan
from ft2ollama.train.proof_rows import LONG_REPLY_TOKENS, data_cases, held_out, questions

Make = Callable[..., Plan]
TOOLS = [
    {"type": "function", "function": {"name": "now", "parameters": {
        "type": "object", "properties": {"zone": {"type": "string", "default": "UTC"}}}}},
]  # fmt: skip
JINJA = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>"
    "{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_TOOLS = "{{ range .Messages }}{{ .Content }}{{ .ToolCalls }}{{ end }}{{ .Tools }}"


def talks() -> list[dict[str, Any]]:
    rows = [[("user", f"What is {i}?"), ("assistant", f"It is {i}.")] for i in range(12)]
    rows.append([("user", "你好"), ("assistant", "你好！")])
    rows.append([("user", "Tell me all."), ("assistant", "All of it. " * 30)])
    rows.append([("user", "x" * 9000), ("assistant", "Too long to be cheap.")])
    found: list[dict[str, Any]] = [
        {"messages": [{"role": role, "content": text} for role, text in row]} for row in rows
    ]
    call = {"type": "function", "function": {"name": "now", "arguments": {"z": 1, "a": 2}}}
    found.append({
        "tools": TOOLS,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What time is it?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "12:00", "name": "now"},
            {"role": "assistant", "content": "Noon."},
        ],
    })  # fmt: skip
    return found


@pytest.fixture
def made(tiny: Base, tmp_path: Path) -> Make:
    """made(tools=True, ...): a plan over `talks`, whose Go template can call tools or not."""
    folder = tmp_path / "tools"
    shutil.copytree(tiny.folder, folder)
    (folder / "chat_template.jinja").write_text(JINJA)
    base = resolve_base(str(folder))
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in talks()))

    def make(tools: bool = False, **changes: Any) -> Plan:
        settings = {"dataset": str(path), "cutoff_len": 16384, **changes}
        found = make_plan(Config(model_name_or_path=str(folder), **settings), base)
        gotmpl = WITH_TOOLS if tools else "{{ range .Messages }}{{ .Content }}{{ end }}"
        return replace(found, template=replace(found.template, gotmpl=gotmpl))

    return make


def test_a_chinese_row_a_tool_call_and_the_longest_cheap_one_are_among_the_questions(
    made: Make,
) -> None:
    found = questions(made(tools=True), 5)
    by_text = {one["question"]: one for one in found}
    assert len(by_text) == 5
    assert {"你好", "What time is it?", "Tell me all."} <= set(by_text)
    called = by_text["What time is it?"]
    assert [message["role"] for message in called["messages"]] == ["system", "user"]
    assert called["tools"][0]["function"]["parameters"]["properties"] == {
        "zone": {"type": "string"}
    }
    assert called["place"] == "talks.jsonl:16"
    assert by_text["Tell me all."]["limit"] == LONG_REPLY_TOKENS
    assert questions(made(tools=True), 5) == found


def test_rows_with_tools_are_left_out_where_ollama_has_none(made: Make) -> None:
    plan = made()
    assert not any(one["tools"] for one in questions(plan, 16))
    assert not any(case.tools for _, case in data_cases(plan))
    with_tools = made(tools=True)
    assert any(case.tools for _, case in data_cases(with_tools))


def test_questions_are_held_out_where_anything_is(made: Make, tmp_path: Path) -> None:
    plan = made(val_size=4)
    texts = {row.messages[-2]["content"] for row in plan.held_out}
    assert held_out(plan)
    assert {one["question"] for one in questions(plan, 3)} <= texts
    assert not held_out(made())
    (tmp_path / "q.jsonl").write_text('{"question": "One?"}\n{"question": "Two?"}\n')
    asked = made(tools=True, proof_prompts=str(tmp_path / "q.jsonl"))
    assert held_out(asked)
    assert [one["question"] for one in questions(asked, 1)] == ["One?", "What time is it?"]


class Always:
    """A model that writes the same token everywhere, this much more likely than the next."""

    device = torch.device("cpu")

    def __init__(self, size: int, token: int, lead: float) -> None:
        self.logits = torch.zeros(size)
        self.logits[token] = lead

    def __call__(self, input_ids: torch.Tensor) -> Any:
        rows = self.logits.expand(1, input_ids.shape[1], -1)
        return type("Output", (), {"logits": rows})()


def test_a_taught_word_is_where_the_trained_model_is_right_and_the_base_is_not(tiny: Base) -> None:
    tokenizer = Tokenizer(tiny.folder)
    ids, _ = tokenizer.encode("<|im_start|>user\nWho? It is amber.<|im_end|>")
    amber, other = tokenizer.encode(" amber")[0][0], tokenizer.encode(" red")[0][0]
    labels = [-100] * (ids.index(amber) - 2) + ids[ids.index(amber) - 2 :]
    sample = Sample(array("i", ids), array("i", labels))
    base = score(Always(len(tokenizer), other, 6.0), [sample])
    trained = score(Always(len(tokenizer), amber, 9.0), [sample])
    found = effect([sample], base, trained, tokenizer, bos="<|im_start|>")
    (place,) = found["places"]
    assert place["text"] == "<|im_start|>user\nWho? It is"
    assert (place["taught"], place["base"]) == ("amber", "red")
    assert place["lead"] == pytest.approx(6.0, abs=1e-3)  # the smaller of the two leads
    assert found["changed"] == found["tokens"] == sum(label != -100 for label in labels)
    assert found["loss_after"] < found["loss_before"]
    assert effect([sample], trained, base, tokenizer, bos="")["places"] == []
