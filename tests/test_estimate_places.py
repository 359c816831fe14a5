"""Shapes, cards, disk, minutes and suggestions: what is not memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ft2ollama.base import Base
from ft2ollama.config import Config
from ft2ollama.errors import UsageError
from ft2ollama.estimate import Job, Place, Rows, Shape, estimate, here
from ft2ollama.estimate.cards import CARDS, card_of_driver, find_card
from ft2ollama.estimate.clock import token_flops
from ft2ollama.estimate.disk import choose_type, gguf_bytes
from ft2ollama.estimate.result import fits, peak_gb, seconds_per_token, settled
from ft2ollama.estimate.rows import assumed, by_characters, measure
from ft2ollama.estimate.shape import TYPICAL, shape_of_config, shape_of_gguf, shape_of_size
from ft2ollama.estimate.suggest import compare, suggest

QWEN_7B = TYPICAL[4]
ROWS = Rows(1000, tuple(range(100, 1100)), 0.5, "made up")
CARD_24 = here.named("24GB")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("RTX 4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("RTX4060ti", "RTX 4060 Ti"),
        ("4090", "RTX 4090"),
        ("h100", "H100"),
        ("A100", "A100"),
        ("a100-40gb", "A100 40GB"),
        ("A6000", "RTX A6000"),
        ("4060 ti", "RTX 4060 Ti"),
        ("4060", "RTX 4060"),
        ("L40s", "L40S"),
    ],
)
def test_a_card_by_the_name_people_use(text: str, name: str) -> None:
    assert find_card(text) is CARDS[name]


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4060 Ti", "RTX 4060 Ti"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
    ],
)
def test_a_card_by_the_name_the_driver_has(driver: str, name: str) -> None:
    found = card_of_driver(driver, 20e9)
    assert (found.name, found.memory, found.known) == (name, 20e9, True)


def test_an_amount_of_memory_is_a_card() -> None:
    card = find_card("20 GB")
    assert card.memory == 20 * 2**30
    assert not card.known


@pytest.mark.parametrize("text", ["RTX 9999", "", "0GB", "fast", "-5GB"])
def test_an_unknown_card_lists_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_card(text)
    assert all(name in caught.value.why for name in CARDS)


def test_the_header_of_a_gguf_gives_the_shape_of_its_config(smollm2: Base) -> None:
    assert smollm2.gguf is not None
    assert replace(shape_of_gguf(smollm2.gguf), name="SmolLM2-135M") == TYPICAL[0]


@pytest.mark.parametrize("size", ["135M", "0.5B", "3B", "7B", "70B", "1.3b"])
def test_a_size_alone_is_enough(size: str) -> None:
    wanted = float(size[:-1]) * (1e9 if size[-1].upper() == "B" else 1e6)
    assert shape_of_size(size).weights == pytest.approx(wanted, rel=0.05)


def test_a_size_with_layers_keeps_them() -> None:
    shape = shape_of_size("7B", layers=40, hidden=4096, vocab=32000)
    assert (shape.layers, shape.hidden, shape.vocab) == (40, 4096, 32000)
    assert shape.weights == pytest.approx(7e9, rel=0.02)


@pytest.mark.parametrize("size", ["7", "big", "0B", "7 T", ""])
def test_a_size_that_is_none(size: str) -> None:
    with pytest.raises(UsageError, match="--params"):
        shape_of_size(size)


def test_a_size_smaller_than_its_parts() -> None:
    with pytest.raises(UsageError, match="smaller than"):
        shape_of_size("100M", vocab=1_000_000, hidden=4096)


def test_a_config_that_says_too_little_names_what_it_lacks() -> None:
    with pytest.raises(UsageError, match="cannot be told") as caught:
        shape_of_config({"model_type": "llama", "hidden_size": 64}, "half")
    assert "num_attention_heads" in caught.value.why


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M", "F16"])
def test_the_size_of_a_gguf_is_the_converters(kind: str, smollm2: Base) -> None:
    import converters

    real = converters.preview(smollm2.folder, kind).n_bytes
    assert gguf_bytes(TYPICAL[0], kind) == pytest.approx(real, rel=0.08)  # and the vocabulary


def test_auto_chooses_what_the_export_chooses() -> None:
    assert choose_type("auto", TYPICAL[0]) == "Q8_0"
    assert choose_type("auto", QWEN_7B) == "Q4_K_M"
    assert choose_type("F16", QWEN_7B) == "F16"


def test_disk_counts_checkpoints_by_their_limit() -> None:
    job = Job(QWEN_7B, ROWS, "cuda")
    one = estimate(job, CARD_24, kind="Q4_K_M")
    many = estimate(job, CARD_24, kind="Q4_K_M", save_steps=10)
    kept = estimate(job, CARD_24, kind="Q4_K_M", save_steps=10, keep=1)
    state = job.trained * 12 / 1e9
    assert many.disk_gb - one.disk_gb == pytest.approx((job.steps // 10 - 1) * state)
    assert kept.disk_gb == pytest.approx(one.disk_gb)
    assert {term.name for term in one.disk} >= {"base model", "GGUF file", "Ollama's copy"}


def test_flop_are_torchs_own_count() -> None:
    """torch counts a matrix product and both gradients; LoRA's frozen weights need one of them."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    shape = Shape("one", 256, 704, 3, 4, 4, 64, 1024)
    tokens = 32
    frozen = [torch.nn.Linear(i, o, bias=False) for _, i, o, _ in shape.linears] * shape.layers
    for layer in frozen:
        layer.requires_grad_(requires_grad=False)
    with FlopCounterMode(display=False) as counter:
        for layer in frozen:
            x = torch.randn(tokens, layer.in_features, requires_grad=True)
            a = torch.randn(8, layer.in_features, requires_grad=True)
            b = torch.zeros(layer.out_features, 8, requires_grad=True)
            (layer(x) + x @ a.T @ b.T).sum().backward()
    job = Job(shape, Rows(1, (tokens,), 0.0, ""), "cuda", rank=8)
    attention = 2 * tokens * shape.q * shape.layers * 3.5
    ours = token_flops(shape, job.way, tokens, job.trained) - attention
    assert ours * tokens == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_a_slower_machine_takes_longer() -> None:
    job = Job(TYPICAL[0], ROWS, "cpu")
    fast = Place("fast", 2e10, 2e10)
    slow = replace(fast, speed=replace(fast.speed, gemm=fast.speed.gemm / 4))
    old = replace(fast, native_bf16=False)
    minutes = [estimate(job, place, kind="Q8_0").minutes for place in (fast, old, slow)]
    assert minutes == sorted(minutes)
    assert minutes[0] < minutes[1]


def test_tokens_per_second_of_the_machine_that_was_measured() -> None:
    """SmolLM2-135M, rank 16, bfloat16, one thread: 140 to 160 tokens/s (benchmarks/RESULTS.md)."""
    job = Job(TYPICAL[0], Rows(162, (60,), 0.5, ""), "cpu")
    assert estimate(job, Place("", 2e10, 2e10), kind="Q8_0").tokens_per_s == pytest.approx(
        150, rel=0.15
    )


def test_nothing_fits_and_everything_fits() -> None:
    job = Job(QWEN_7B, ROWS, "cuda")
    assert fits(peak_gb(job, CARD_24), CARD_24) == "no"
    small = Job(TYPICAL[0], ROWS, "cuda", batch=1)
    assert fits(peak_gb(small, CARD_24), CARD_24) == "yes"
    assert fits(24.0, Place("", 25e9, 25e9)) == "tight"


def test_suggestions_fit_and_keep_the_step() -> None:
    job = Job(QWEN_7B, ROWS, "cuda", batch=16, cutoff_len=2048)
    found = suggest(job, CARD_24, {*Config.model_fields, "quantization_bit"})
    assert found
    assert "cutoff_len" not in found[0].settings  # the mildest first: nothing is left out
    assert any("quantization_bit=4" in one.settings for one in found)
    assert any("cutoff_len" in one.settings and "left out" in one.price for one in found)
    for one in found:
        assert one.fits != "no"
        words = dict(word.split("=") for word in one.settings.split())
        batch = int(words.get("per_device_train_batch_size", 16))
        assert batch * int(words.get("gradient_accumulation_steps", 1)) == 16
        other = replace(
            job,
            batch=batch,
            bits=int(words.get("quantization_bit", 16)),
            cutoff_len=int(words.get("cutoff_len", 2048)),
        )
        if "cutoff_len" in words:
            other = replace(other, rows=ROWS.cut(other.cutoff_len))
        assert peak_gb(other, CARD_24) == pytest.approx(one.gb)


def test_replies_that_do_not_fit_are_named_first() -> None:
    """A 7 B model in 16 bits is 15 GB, whatever its 4-bit training takes."""
    card = here.named("12GB")
    job = Job(QWEN_7B, Rows(24, (20,), 0.5, ""), "cuda", bits=4, batch=1, replies=8)
    assert fits(peak_gb(job, card), card) == "no"
    first = suggest(job, card, Config.model_fields)[0]
    assert (first.settings, first.fits) == ("proof_replies=0", "yes")


def test_only_layers_that_do_not_fit_are_computed_again() -> None:
    job = Job(QWEN_7B, ROWS, "cuda", bits=4, batch=4, cutoff_len=1024, recompute_auto=True)
    all_again = replace(job, recompute=1.0, recompute_auto=False)
    none_again = replace(all_again, recompute=0.0)
    found = settled(job, CARD_24)
    assert 0 < found.recompute < 1
    assert fits(peak_gb(job, CARD_24), CARD_24) == "yes"
    fewer = replace(found, recompute=found.recompute - 1 / QWEN_7B.layers)
    assert fits(peak_gb(fewer, CARD_24), CARD_24) != "yes"
    times = [seconds_per_token(one, CARD_24) for one in (none_again, job, all_again)]
    assert times == sorted(times)
    assert settled(replace(job, batch=1, cutoff_len=128), here.named("H100")).recompute == 0


def test_only_keys_of_this_version_are_suggested() -> None:
    job = Job(QWEN_7B, ROWS, "cuda", batch=4)
    words = " ".join(one.settings for one in suggest(job, CARD_24, ()))
    assert "quantization_bit" not in words


def test_room_on_a_card_is_used_for_a_larger_batch() -> None:
    job = Job(TYPICAL[1], Rows(1000, (64,), 0.5, ""), "cuda", bits=4, batch=1, accumulation=16)
    found = suggest(job, CARD_24, Config.model_fields)
    assert found[0].settings == "per_device_train_batch_size=8 gradient_accumulation_steps=2"
    assert found[0].times < 1


def test_methods_in_their_order_of_memory() -> None:
    found = {one.name: one.gb for one in compare(Job(QWEN_7B, ROWS, "cuda", batch=1), CARD_24)}
    names = ["QLoRA, NF4", "LoRA on 8 bits", "LoRA, bfloat16", "LoRA, float32", "full fine-tuning"]
    assert sorted(names, key=found.__getitem__) == names


def test_rows_are_measured_on_some_and_counted_whole() -> None:
    asked: list[int] = []

    def tokens(row: int) -> tuple[int, int] | None:
        asked.append(row)
        return (100, 50) if row % 2 else None

    rows = measure(list(range(10_001)), tokens, "counted")
    assert rows is not None
    assert len(asked) <= 200
    assert rows.count == pytest.approx(5000, rel=0.05)
    assert rows.learned == 0.5
    assert "of 10,001" in rows.how
    assert measure([1, 2], lambda _: None, "") is None


def test_a_cutoff_says_what_it_loses() -> None:
    assert ROWS.longer_than(599) == 500
    assert ROWS.cut(599).longest == 599
    assert ROWS.cut(10).lengths == (10,)
    assert not assumed(512).known


def test_letters_are_guessed_by_script() -> None:
    english, _ = by_characters([{"role": "assistant", "content": "a" * 400}])
    chinese, learned = by_characters([{"role": "user", "content": "中" * 300}])
    assert (english, chinese, learned) == (104, 204, 0)
