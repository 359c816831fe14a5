"""Packs: what goes into them, and that nobody in one sees a neighbour."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_settings import SMALL

from ft2ollama.data.render import IGNORED
from ft2ollama.train import attention
from ft2ollama.train.batches import Collator, PaddingFree, count_tokens
from ft2ollama.train.loss import learned_loss
from ft2ollama.train.packing import best_fit, most_documents, pack_rows
from ft2ollama.train.speed import use_documents

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn about themselves
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 32},
    "Mistral": {"sliding_window": 12},
    "Gemma2": {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 12},
}
LENGTHS = (40, 5, 17, 9, 33, 2)


def tiny_model(family: str, **changes: Any) -> Any:
    import transformers

    made = {**SMALL, "initializer_range": 0.2, "pad_token_id": 0, **FAMILIES[family], **changes}
    config = getattr(transformers, f"{family}Config")(**made)
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForCausalLM")._from_config(
        config, attn_implementation="eager"
    )


def some_rows(lengths: tuple[int, ...] = LENGTHS) -> list[dict[str, Any]]:
    """Random tokens; the middle of each row is learned, its end is not."""
    torch.manual_seed(1)
    rows = []
    for length in lengths:
        ids = torch.randint(3, 320, (length,)).tolist()
        learned = range(length // 3 + 1, max(length - 2, 2))
        rows.append(
            {
                "input_ids": ids,
                "labels": [t if i in learned else IGNORED for i, t in enumerate(ids)],
            }
        )
    return rows


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = learned_loss(model, batch, None)
    loss.backward()
    return float(loss), {
        k: w.grad.clone() for k, w in model.named_parameters() if w.grad is not None
    }


@pytest.mark.oracle
@pytest.mark.parametrize("short", [attention.SHORT, 8], ids=["batched", "one by one"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_unpacked(family: str, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against transformers' own eager attention, one conversation at a time, no padding."""
    monkeypatch.setattr(attention, "SHORT", short)
    rows = some_rows()
    model = tiny_model(family)
    learned = sum(label != IGNORED for row in rows for label in row["labels"])
    wanted = 0.0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        loss = model(input_ids=ids, labels=labels).loss * (labels != IGNORED).sum() / learned
        loss.backward()
        wanted += float(loss)
    gradients = {k: w.grad.clone() for k, w in model.named_parameters()}
    assert use_documents(model) == ""
    pack = pack_rows(rows, sum(LENGTHS), 64)
    assert len(pack) == 1
    found, packed = loss_and_gradients(model, PaddingFree()(pack))
    assert found == pytest.approx(wanted, abs=1e-4)
    assert packed.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(packed[name], gradient, atol=1e-4, rtol=1e-3), name


def test_padding_free_rows_are_the_padded_rows() -> None:
    rows, model = some_rows(), tiny_model("Llama")
    padded = Collator(0)(rows)
    wanted, _ = loss_and_gradients(model, padded)
    assert use_documents(model) == ""
    batch = PaddingFree()(rows)
    assert loss_and_gradients(model, batch)[0] == pytest.approx(wanted, abs=1e-4)
    for made in (padded, batch):
        assert count_tokens(made) == sum(LENGTHS)
    learned = [int((made["labels"][:, 1:] != IGNORED).sum()) for made in (padded, batch)]
    assert learned[0] == learned[1] > 0
    assert batch["input_ids"].shape[1] < sum(LENGTHS)  # the unlearned ends are not computed


def test_a_batch_of_documents() -> None:
    rows = [
        {"input_ids": [1, 2, 3, 4], "labels": [IGNORED, IGNORED, 3, IGNORED]},
        {"input_ids": [5, 6], "labels": [IGNORED, 6]},
    ]
    batch = PaddingFree()(rows)
    assert batch["input_ids"].tolist() == [[1, 2, 5]]
    assert batch["position_ids"].tolist() == [[0, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 3, 6]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 2, 3]
    assert batch["max_length_q"] == 2


def test_a_model_that_mixes_neighbours_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose attention does not keep to the borders keeps its padding."""
    model = tiny_model("Llama")
    whole = attention.by_document
    monkeypatch.setattr(
        attention,
        "by_document",
        lambda q, k, v, borders, *rest: whole(q, k, v, [0, borders[-1]], *rest),
    )
    assert "computes something else" in use_documents(model)
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("lengths", [(5, 5, 5), (9, 1, 4, 8, 2, 2), (300, 7, 260, 3)])
def test_attention_by_document_against_the_formula(
    lengths: tuple[int, ...], window: int | None
) -> None:
    torch.manual_seed(0)
    tokens, borders = sum(lengths), [0, *torch.tensor(lengths).cumsum(0).tolist()]
    made = [torch.randn(1, heads, tokens, 8, dtype=torch.float64) for heads in (6, 2, 2)]
    outer = torch.randn(1, tokens, 6, 8, dtype=torch.float64)
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    back = torch.arange(tokens)[:, None] - torch.arange(tokens)
    seen = (back >= 0) & (document[:, None] == document)
    seen &= back < (window or tokens)
    results = []
    for fast in (True, False):
        q, k, v = (x.clone().requires_grad_() for x in made)
        if fast:
            out = attention.by_document(q, k, v, borders, attention.Formula(0.3, window))
        else:
            scores = (q @ k.repeat_interleave(3, 1).transpose(2, 3) * 0.3).masked_fill(
                ~seen, float("-inf")
            )
            out = (scores.softmax(-1) @ v.repeat_interleave(3, 1)).transpose(1, 2)
        out.backward(outer)
        results.append((out, q.grad, k.grad, v.grad))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), max_size=60), st.integers(50, 200), st.integers(1, 9))
def test_best_fit(lengths: list[int], capacity: int, most: int) -> None:
    packs = best_fit(lengths, capacity, most)
    assert sorted(i for pack in packs for i in pack) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in pack) <= capacity for pack in packs)
    assert all(len(pack) <= most for pack in packs)
    assert packs == best_fit(lengths, capacity, most) == sorted(packs)
    sums = sorted(sum(lengths[i] for i in pack) for pack in packs if len(pack) < most)
    assert len(sums) < 2 or sums[0] + sums[1] > capacity or most < 2 or _full(packs, most)


def _full(packs: list[tuple[int, ...]], most: int) -> bool:
    """Two half-empty packs may stay apart when together they hold too many documents."""
    counts = sorted(len(pack) for pack in packs)
    return counts[0] + counts[1] > most


def test_packs_are_nearly_full() -> None:
    torch.manual_seed(0)
    lengths = torch.randint(20, 700, (400,)).tolist()
    packs = best_fit(lengths, 2048)
    assert sum(lengths) / (2048 * len(packs)) > 0.97


def test_documents_per_pack_are_limited() -> None:
    # (tokens + 128 documents) x 16 heads x 128 must stay below 2^31
    most = most_documents(16384, 2048)
    assert (16384 + 128 * most) * 2048 <= 2**31 < (16384 + 128 * (most + 1)) * 2048
    rows = [{"input_ids": [1, 2], "labels": [IGNORED, 2]}] * 10
    packs = pack_rows(rows, 20, 2**24 - 1)  # so wide that one document fills the kernel's index
    assert [len(pack["documents"]) for pack in packs] == [1] * 10


def test_a_conversation_that_fits_no_pack_is_an_error() -> None:
    with pytest.raises(ValueError, match="of 9 tokens is longer than 8"):
        best_fit([3, 9], 8)
