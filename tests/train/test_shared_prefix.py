"""What all conversations of a batch begin with is computed once, and teaches the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_packing import FAMILIES, loss_and_gradients, some_rows, tiny_model

from ft2ollama.data.render import IGNORED
from ft2ollama.runs import create_run
from ft2ollama.train import attention, speed
from ft2ollama.train.batches import PaddingFree, count_tokens
from ft2ollama.train.packing import pack_rows
from ft2ollama.train.plan import Plan
from ft2ollama.train.trainer import train

Make = Callable[..., Plan]
pytestmark = pytest.mark.filterwarnings("ignore")  # torch, transformers and peft warn
COMMON = list(range(100, 120))


def rows_with(common: list[int]) -> list[dict[str, Any]]:
    """Random rows behind the same tokens, of which none is learned."""
    return [
        {
            "input_ids": common + row["input_ids"],
            "labels": [IGNORED] * len(common) + row["labels"],
        }
        for row in some_rows()
    ]


@pytest.mark.oracle
@pytest.mark.parametrize("short", [attention.SHORT, 30, 8], ids=["batched", "both", "one by one"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_rows_alone(
    family: str, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against transformers' own eager attention, one conversation at a time."""
    monkeypatch.setattr(attention, "SHORT", short)
    model, rows = tiny_model(family), rows_with(COMMON)
    learned = sum(label != IGNORED for row in rows for label in row["labels"])
    wanted = 0.0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        loss = model(input_ids=ids, labels=labels).loss * (labels != IGNORED).sum() / learned
        loss.backward()
        wanted += float(loss)
    gradients = {k: w.grad.clone() for k, w in model.named_parameters()}
    assert speed.use_documents(model) == ""
    batch, whole = PaddingFree(share=True)(rows), PaddingFree()(rows)
    saved = whole["input_ids"].shape[1] - batch["input_ids"].shape[1]
    assert saved == len(COMMON) * (len(rows) - 1)
    found, shared = loss_and_gradients(model, batch)
    assert found == pytest.approx(wanted, abs=1e-4)
    assert shared.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(shared[name], gradient, atol=1e-4, rtol=1e-3), name


def test_a_batch_that_shares() -> None:
    common = [1, 2, 3, 4]
    rows = [
        {"input_ids": [*common, 5, 6, 7], "labels": [IGNORED] * 5 + [6, IGNORED]},
        {"input_ids": [*common, 8, 9], "labels": [IGNORED] * 5 + [9]},
        {"input_ids": [*common, 5, 9, 9], "labels": [IGNORED] * 5 + [9, 9]},
    ]
    batch = PaddingFree(share=True)(rows)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 8, 5, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 4, 4, 5]]
    assert batch["labels"].tolist() == [[IGNORED] * 5 + [6, 9, 9, 9]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 4, 5, 6, 8]
    assert batch["cu_seq_lens_k"].tolist() == [0, 4, 9, 14, 20]
    assert count_tokens(batch) == 20
    (pack,) = pack_rows(rows, 20, 64)
    packed = PaddingFree(share=True)([pack])
    assert packed["input_ids"].shape == batch["input_ids"].shape


@pytest.mark.parametrize(
    ("rows", "shared"),
    [
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7], [1, 2, 3, 4, 5, 8]], 4),  # the fifth teaches
        ([[1, 2, 3, 4, 5, 6]] * 3, 4),  # equal rows
        ([[1, 2, 3, 9, 5, 6], [1, 2, 3, 4, 5, 7]], 0),  # 3 tokens saved are too few
        ([[1, 2, 3, 4, 5, 6]], 0),  # one alone
        ([[9, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]], 0),
    ],
)  # fmt: skip
def test_how_much_is_shared(rows: list[list[int]], shared: int) -> None:
    made = [{"input_ids": ids, "labels": [IGNORED] * 5 + ids[5:]} for ids in rows]
    batch = PaddingFree(share=True)(made)
    assert batch["input_ids"].shape[1] == 5 * len(rows) - shared * (len(rows) - 1)
    plain = PaddingFree()(made)
    learned = [(one["labels"] != IGNORED).sum() for one in (batch, plain)]
    assert learned[0] == learned[1] == len(rows)


def test_nothing_is_shared_where_the_beginning_is_learned() -> None:
    rows = [{"input_ids": [*COMMON, n], "labels": [IGNORED, *COMMON[1:], n]} for n in (1, 2, 3)]
    batch = PaddingFree(share=True)(rows)
    assert batch["input_ids"].shape[1] == 3 * len(COMMON)


def test_who_shares_by_default(plan: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def share(on_cpu: bool = True, dropout: float = 0.0, **keys: Any) -> bool:
        model = tiny_model("Llama")
        model.dropout = torch.nn.Dropout(dropout)
        assert speed.use_documents(model) == ""
        return speed._shares(model, plan(**keys).config, on_cpu=on_cpu)

    assert share()
    assert not share(on_cpu=False)
    assert not share(dropout=0.1)
    assert not share(neftune_noise_alpha=5.0)
    assert share(dropout=0.1, share_prefix=True)
    assert not share(share_prefix=False)
    whole = attention.by_document
    monkeypatch.setattr(
        attention, "by_document", lambda q, k, v, ends, formula, _: whole(q, k, v, ends, formula)
    )
    assert not share()  # a model that does not see the beginning is found out


def test_the_same_curve(plan: Make) -> None:
    """Training and held-out loss of a config whose rows have one system prompt."""
    curves = []
    for share in (True, False):
        keys = {"max_steps": 4, "proof_replies": 0, "val_size": 0.2, "share_prefix": share}
        made = plan(default_system="You help with lanterns, and you never give a discount.", **keys)
        run = create_run(f"share-{share}", "")
        train(made, run, dtype="float32", device="cpu", report=lambda _: None)
        curves.append(
            [event["loss"] for event in run.events("step")]
            + [event["eval_loss"] for event in run.events("eval")]
        )
    assert len(curves[0]) > 4
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
