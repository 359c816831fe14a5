"""dump_config writes YAML that loads back to the same config, whatever its texts hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ft2ollama.config import Config, Loaded, dump_config, load_config
from ft2ollama.config.expects import choices, kind, nullable
from ft2ollama.config.schema import SECTIONS, section_of

Load = Callable[..., Loaded]


TRICKY = [
    *("null", "no", "1e5", "007", "~", "2026-11-22", "=", "<<", "12:30", "0x1f", "[", "&a", "!b"),
    *("'\"\\", "x:\u3000", "\ufeff", "😀", "a: b", "# x", "- x", "é\u0085\u2028", "x\ty", " x "),
    *("\0", "a\nb\n", "\r\n."),
]


def _text(*, empty: bool = False) -> st.SearchStrategy[str]:
    words = st.one_of(st.sampled_from(TRICKY), st.text(max_size=30))
    return words if empty else words.filter(lambda text: text.strip() != "")


def _limit(field: Any, name: str, otherwise: int) -> Any:
    found = [getattr(item, name) for item in field.metadata if hasattr(item, name)]
    return found[0] if found else otherwise


def _whole(field: Any) -> st.SearchStrategy[int]:
    return st.integers(_limit(field, "ge", 0), _limit(field, "le", 10**9))


def _number(name: str, field: Any) -> st.SearchStrategy[float]:
    if name == "val_size":
        return st.one_of(st.floats(0, 0.999), st.integers(1, 9).map(float))
    high = 0.999 if any(hasattr(item, "lt") for item in field.metadata) else 1.0
    return st.floats(1e-12, high)


_PLAIN = st.text(alphabet="abcXYZ019_-", min_size=1, max_size=12)
_SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "ollama_name": st.one_of(_PLAIN, st.just("no"), st.just("1e5")).map(lambda text: "a" + text),
    "template": _PLAIN,
    "run_name": st.one_of(_PLAIN, st.sampled_from(["中文", "null", "1e5", "no", "2026-11-22"])),
    "trust_remote_code": st.just(False),
    "max_steps": st.one_of(st.just(-1), st.integers(1, 10**6)),
    "dataset": st.lists(_text().map(str.strip), min_size=1, max_size=3).map(tuple),
    "streaming": st.just(False),
    "interleave_probs": st.none(),
    "eval_dataset": st.none(),
    "lora_target": st.lists(_PLAIN.map(lambda text: "q" + text), min_size=1, max_size=3).map(tuple),
    "quantization_bit": st.sampled_from([4, 8]),
    "freeze_trainable_layers": st.integers(-9, -1) | st.integers(1, 9),
    "lora_rank_pattern": st.dictionaries(_PLAIN, st.integers(1, 1024), max_size=3),
    "lora_alpha_pattern": st.dictionaries(_PLAIN, st.integers(1, 10**9), max_size=3),
    "lr_scheduler_kwargs": st.fixed_dictionaries({}, optional={"num_cycles": st.floats(0.1, 9)}),
    "report_to": st.lists(st.sampled_from(["wandb", "mlflow"]), min_size=1).map(tuple),
    "default_system": _text(empty=True),
    "ollama_system": _text(empty=True),
    "ollama_parameters": st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "top_k": st.integers(),
            "use_mmap": st.booleans(),
            "stop": st.one_of(_text(empty=True), st.lists(_text(empty=True)).map(tuple)),
        },
    ),
}


def _strategy(name: str) -> st.SearchStrategy[Any]:
    field = Config.model_fields[name]
    made: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "switch": st.booleans,
        "whole": lambda: _whole(field),
        "number": lambda: _number(name, field),
        "text": _text,
        "names": lambda: st.lists(_PLAIN, min_size=1, max_size=3, unique=True).map(tuple),
        "path": lambda: st.sampled_from([Path("a b"), Path("/数据/x"), Path("no"), Path("1e5")]),
        "choice": lambda: st.sampled_from(choices(field.annotation)),
    }
    values = _SPECIAL[name] if name in _SPECIAL else made[kind(field.annotation)]()
    return st.one_of(st.none(), values) if nullable(field.annotation) else values


def test_dump_quotes_what_would_be_read_as_something_else(load: Load) -> None:
    stop = ("1e5", "no", "null", "7", ".5", "~", "", "2026-11-22", "a: b", "\u2028")
    config = Config(model_name_or_path="a", dataset=("b",), ollama_parameters={"stop": stop})
    assert load(dump_config(config)).config == config


def test_dump_keeps_the_mixture_of_data_sets(load: Load) -> None:
    config = Config(
        model_name_or_path="a", dataset=("b", "c"), mix_strategy="interleave_over",
        interleave_probs=(0.7, 1), eval_dataset=("1e5", "no"), streaming=True, max_steps=3,
    )  # fmt: skip
    assert load(dump_config(config)).config == config


@settings(deadline=None)  # a busy machine is no fault of the values
@given(
    st.fixed_dictionaries(
        {name: _strategy(name) for name in Config.model_fields if name != "mask_history"}
    )
)
def test_dump_loads_back(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    values |= {"warmup_ratio": 0.0, "lr_scheduler_type": "cosine", "max_samples": None}
    values |= {"finetuning_type": "lora", "export_as": "model", "pure_bf16": False}
    values |= {"quantization_bit": None, "create_new_adapter": False, "loraplus_lr_ratio": None}
    values |= {"additional_target": None}
    values |= {"load_best_model_at_end": False, "early_stopping_steps": None, "fsdp": None}
    values |= {"save_strategy": "no"}  # yes and no are words of YAML
    config = Config(**values)
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump_config(config), "utf-8", newline="")
    assert load_config(path).config == config


def test_dump_has_every_key_once_in_sections() -> None:
    text = dump_config(Config(model_name_or_path="a", dataset=("b",)))
    keys = [line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert sorted(keys) == sorted(Config.model_fields)
    order = list(SECTIONS)
    assert keys == sorted(keys, key=lambda name: order.index(section_of(name)))
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "### model", "### data", "### method", "### training", "### optimizer",
        "### speed and memory", "### checkpoints, evaluation, several gpus, tracking",
        "### export", "### publish", "### proof",
    ]  # fmt: skip


def test_every_kind_of_key_is_covered() -> None:
    assert {kind(field.annotation) for field in Config.model_fields.values()} == {
        "switch", "whole", "number", "text", "path", "names", "numbers", "mapping", "choice",
    }  # fmt: skip
    assert choices(Config.model_fields["stage"].annotation) == ("sft",)
