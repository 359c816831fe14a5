"""Several sets become one: how, how much of each, and what is held out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ft2ollama.config import Config
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.from_config import read_parts, reading_of
from ft2ollama.data.load import Loaded, Reading, collect
from ft2ollama.data.mix import Mixing, Parts, divide, mix
from ft2ollama.data.split import held_out, key_of, split


def talk(text: str, tools: tuple[Any, ...] = (), place: str = "") -> Conversation:
    messages = ({"role": "user", "content": text}, {"role": "assistant", "content": "A"})
    return Conversation(messages, place or text, tools)  # type: ignore[arg-type]


def rows(letter: str, count: int) -> tuple[Conversation, ...]:
    return tuple(talk(f"{letter}{number}") for number in range(count))


def told(mixed: Any) -> list[str]:
    return [row.messages[0]["content"] for row in mixed]


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("concat", "a0 a1 a2 a3 b0 b1 c0"),
        ("interleave_under", "a0 b0 c0"),
        ("interleave_once", "a0 b0 c0 a1 b1 a2 a3"),
        ("interleave_over", "a0 b0 c0 a1 b1 c0 a2 b0 c0 a3 b1 c0"),
    ],
)
def test_in_turn(strategy: str, wanted: str) -> None:
    sets = [rows("a", 4), rows("b", 2), rows("c", 1), ()]
    assert told(mix(sets, Mixing(strategy))) == wanted.split()


@pytest.mark.oracle
@pytest.mark.parametrize("strategy", ["interleave_under", "interleave_over", "interleave_once"])
def test_by_weights_as_datasets_does_it(strategy: str) -> None:
    """The call is LLaMA-Factory's (data/data_utils.py): probabilities, seed, stopping strategy."""
    import datasets

    from ft2ollama.data.mix import STRATEGIES

    sets = [rows("a", 60), rows("b", 25)]
    theirs = datasets.interleave_datasets(
        [datasets.Dataset.from_dict({"text": told(one)}) for one in sets],
        probabilities=[0.7, 0.3], seed=7, stopping_strategy=STRATEGIES[strategy],
    )  # fmt: skip
    ours = mix(sets, Mixing(strategy, (7, 3), seed=7))
    assert told(ours) == theirs["text"][:]
    assert told(mix(sets, Mixing(strategy, (7, 3), seed=8))) != told(ours)


def test_weights_are_kept() -> None:
    mixed = mix([rows("a", 2000), rows("b", 2000)], Mixing("interleave_under", (9, 1)))
    share = Counter(text[0] for text in told(mixed))
    assert 0.87 < share["a"] / sum(share.values()) < 0.93


def loaded(**sets: tuple[Conversation, ...]) -> Loaded:
    together = tuple(row for one in sets.values() for row in one)
    return Loaded(together, "", (), tuple(sets.items()))


def test_held_out_rows_are_not_repeated_and_no_copy_is_trained_on() -> None:
    data = loaded(small=rows("a", 5) * 3, large=rows("b", 40) + rows("a", 5))
    parts = divide(data, Mixing("interleave_over"), val_size=30)
    held = told(parts.validation[""])
    assert len(held) == len(set(held)) == 30
    assert not set(held) & set(told(parts.train))
    assert set(held) | set(told(parts.train)) == set(told(data.conversations))
    each = divide(data, Mixing(), val_size=30, each=True)
    assert sorted(text for one in each.validation.values() for text in told(one)) == sorted(held)
    assert set(each.validation) <= {"small", "large"}


def test_sets_to_measure_on() -> None:
    data, held = loaded(a=rows("a", 3)), loaded(b=rows("b", 2), c=rows("c", 1))
    together = divide(data, Mixing(), held=held)
    assert told(together.train) == ["a0", "a1", "a2"]
    assert {name: told(one) for name, one in together.validation.items()} == {
        "": ["b0", "b1", "c0"]
    }
    each = divide(data, Mixing(), held=held, each=True)
    assert {name: told(one) for name, one in each.validation.items()} == {
        "b": ["b0", "b1"], "c": ["c0"],
    }  # fmt: skip


def test_a_set_named_twice_counts_twice() -> None:
    data = Loaded((), "", (), (("a", rows("a", 1)), ("a", rows("a", 1))))
    assert told(divide(data, Mixing()).train) == ["a0", "a0"]


_TEXTS = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=60)


@settings(deadline=None)
@given(old=_TEXTS, new=_TEXTS, size=st.one_of(st.floats(0.01, 0.9), st.integers(1, 20)))
def test_the_split_is_stable_when_data_grows(old: list[str], new: list[str], size: float) -> None:
    before = {key_of(talk(text)) for text in old}
    after = before | {key_of(talk(text)) for text in new}
    held_before, held_after = held_out(before, size), held_out(after, size)
    if size < 1:  # a share: nobody changes sides
        assert held_after & before == held_before
    else:  # a count: who is held out later was held out before, or is new
        assert held_after & before <= held_before
        assert len(held_after) == min(int(size), len(after))
    train, val = split([talk(text) for text in old + new], size)
    assert len(train) + len(val) == len(old) + len(new)
    assert not {key_of(row) for row in train} & {key_of(row) for row in val}


def test_a_count_is_taken_from_the_same_end_whatever_comes_in_later() -> None:
    before = {key_of(row) for row in rows("a", 200)}
    after = before | {key_of(row) for row in rows("b", 400)}
    assert len(held_out(before, 20)) == 20
    assert held_out(after, 20) & before < held_out(before, 20)


def test_tools_belong_to_a_conversation_and_its_place_does_not() -> None:
    tool = {"type": "function", "function": {"name": "w"}}
    assert key_of(talk("Q")) == key_of(talk("Q", place="elsewhere"))
    assert key_of(talk("Q")) != key_of(talk("Q", (tool,)))


# --- from the config


def write(path: Path, letter: str, count: int) -> str:
    lines = [json.dumps({"instruction": f"{letter}{i}", "output": "A"}) for i in range(count)]
    path.write_text("\n".join(lines), "utf-8")
    return str(path)


def parts_of(**values: Any) -> Parts:
    return read_parts(Config(model_name_or_path="x", **values))[1]


def test_the_keys_of_a_config(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.jsonl", "a", 30), write(tmp_path / "b.jsonl", "b", 10)
    assert len(parts_of(dataset=(a, b)).train) == 40
    assert len(parts_of(dataset=(a, b), max_samples=5).train) == 10
    under = parts_of(dataset=(a, b), mix_strategy="interleave_under")
    assert told(under.train)[:4] == ["a0", "b0", "a1", "b1"]
    held = parts_of(dataset=(a,), eval_dataset=(b,), eval_on_each_dataset=True)
    assert {name: len(one) for name, one in held.validation.items()} == {b: 10}
    assert len(parts_of(dataset=(a, b), val_size=4).validation[""]) == 4


def test_streaming_reads_no_further_than_the_steps_need(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.jsonl", "a", 40))
    path.write_text(path.read_text("utf-8") + "\nbroken", "utf-8")
    needs = {"max_steps": 3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert len(parts_of(dataset=(str(path),), streaming=True, **needs).train) == 24
    with_val = parts_of(dataset=(str(path),), streaming=True, val_size=2, **needs)
    assert (len(with_val.train), len(with_val.validation[""])) == (24, 2)
    config = Config(model_name_or_path="x", dataset=("x",), streaming=True, max_samples=7, **needs)
    assert reading_of(config).max_samples == 7


def test_the_hash_is_of_all_that_is_trained_and_measured_on(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.jsonl", "a", 3), write(tmp_path / "b.jsonl", "b", 3)
    one, _ = read_parts(Config(model_name_or_path="x", dataset=(a,)))
    two, _ = read_parts(Config(model_name_or_path="x", dataset=(a,), eval_dataset=(b,)))
    assert one.sha256 == collect([a], tmp_path, Reading()).sha256
    assert one.sha256 != two.sha256
