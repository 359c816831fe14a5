"""dataset_info.json as LLaMA-Factory and openMind write it, and the tutorials that crash there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.data.catalogue import line
from ft2ollama.data.load import Loaded, Reading, collect, load_dataset
from ft2ollama.data.problems import Problem
from ft2ollama.errors import DataError

ROWS = [{"instruction": f"Q{number}", "input": "", "output": "A"} for number in range(4)]
TURNS = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]


@pytest.fixture(autouse=True)
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT2OLLAMA_LANG", "en")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), "utf-8")


def read(tmp_path: Path, entry: Any, **reading: Any) -> Loaded:
    info = {"other": {"file_nmae": "x"}, "mine": entry}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info, indent=2), "utf-8")
    return collect(["mine"], tmp_path, Reading(**reading))


def questions(loaded: Loaded) -> list[str]:
    return [row.messages[0]["content"] for row in loaded.conversations]


# --- the three examples of the tutorials


def test_a_system_column_that_no_row_has(tmp_path: Path) -> None:
    """LLaMA-Factory: KeyError: 'system'."""
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
    loaded = read(tmp_path, {"file_name": "rows.json", "columns": columns})
    assert questions(loaded) == ["Q0", "Q1", "Q2", "Q3"]
    (warning,) = loaded.warnings
    assert warning.code == "column-absent"
    assert warning.place == f"{tmp_path}/dataset_info.json:11:7"
    assert warning.key == "mine.columns.system"
    assert "no row has a field system" in loaded.remarks[0]


def test_the_misspelt_tag_content_tag(tmp_path: Path) -> None:
    """LLaMA-Factory: KeyError: None."""
    (tmp_path / "talk.json").write_text(json.dumps([{"conversations": TURNS}]), "utf-8")
    tags = {
        "role_tag": "role", "content _tag": "content", "user_tag": "user",
        "assistant_tag": "assistant",
    }  # fmt: skip
    entry = {"file_name": "talk.json", "formatting": "sharegpt", "tags": tags}
    loaded = read(tmp_path, entry)
    assert loaded.conversations[0].messages == tuple(TURNS)
    (warning,) = loaded.warnings
    assert warning == Problem(
        "info-key-blank", f"{tmp_path}/dataset_info.json:10:7", "mine.tags.content _tag",
        {"near": "content_tag"}, "warning",
    )  # fmt: skip


def test_rows_that_are_bare_lists_of_turns(tmp_path: Path) -> None:
    """LLaMA-Factory: KeyError: 'conversations'."""
    text = "".join(json.dumps(TURNS) + "\n" for _ in range(2))
    (tmp_path / "talk.jsonl").write_text(text, "utf-8")
    tags = {"role_tag": "role", "content_tag": "content"}
    entry = {"file_name": "talk.jsonl", "formatting": "sharegpt", "tags": tags}
    loaded = read(tmp_path, entry)
    assert [row.messages for row in loaded.conversations] == [tuple(TURNS)] * 2
    assert loaded.notes == (f"mine: 2 conversations (turns) from {tmp_path}/talk.jsonl",)


# --- keys


def test_local_path_as_openmind_writes_it(tmp_path: Path) -> None:
    for local in ("rows.json", str(tmp_path / "rows.json")):
        assert len(read(tmp_path, {"local_path": local}).conversations) == 4


def test_the_file_may_have_another_name_as_in_openmind(tmp_path: Path) -> None:
    path = tmp_path / "my_info.json"
    path.write_text(json.dumps({"mine": {"local_path": "rows.json"}}), "utf-8")
    assert len(load_dataset(["mine"], path).conversations) == 4


def test_file_name_may_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.json").write_text(json.dumps(ROWS[:1]), "utf-8")
    (tmp_path / "more/b.jsonl").write_text(json.dumps(ROWS[1]), "utf-8")
    assert questions(read(tmp_path, {"file_name": "more"})) == ["Q0", "Q1"]


def test_num_samples_takes_a_part_or_repeats(tmp_path: Path) -> None:
    part = read(tmp_path, {"file_name": "rows.json", "num_samples": 2})
    assert len(set(questions(part))) == 2
    assert part.notes[1] == "mine: num_samples takes 2 of 4 conversations"
    assert read(tmp_path, {"file_name": "rows.json", "num_samples": 2}) == part
    seeds = {
        tuple(questions(read(tmp_path, {"file_name": "rows.json", "num_samples": 2}, seed=seed)))
        for seed in range(9)
    }
    assert len(seeds) > 1
    more = questions(read(tmp_path, {"file_name": "rows.json", "num_samples": 10}))
    assert len(more) == 10
    assert {more.count(question) for question in more} == {2, 3}


def test_a_key_without_meaning_is_said_and_ignored(tmp_path: Path) -> None:
    loaded = read(tmp_path, {"file_name": "rows.json", "author": "me"})
    assert [one.code for one in loaded.warnings] == ["info-key-unknown"]
    assert len(loaded.conversations) == 4


def test_the_hub_that_the_config_names_is_preferred(tmp_path: Path) -> None:
    from ft2ollama.data.sources import find_sources

    entry = {
        "hf_hub_url": "a/hf", "ms_hub_url": "a/ms", "subset": "zh", "split": "test",
        "revision": "v2", "folder": "data",
    }  # fmt: skip
    read(tmp_path, {"file_name": "rows.json"})
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": entry}), "utf-8")
    for hub, wanted in (("huggingface", "a/hf"), ("modelscope", "a/ms")):
        ((source,), problems) = find_sources(["mine"], tmp_path, hub)
        assert problems == []
        assert source.hub is not None
        found = source.hub
        assert (found.id, found.hub) == (wanted, hub)
        parts = (found.subset, found.split, found.revision, found.folder)
        assert parts == ("zh", "test", "v2", "data")
    ((source,), _) = find_sources(["owner/data"], tmp_path, "modelscope")
    assert source.hub is not None
    assert (source.hub.id, source.hub.hub, source.hub.split) == (
        "owner/data",
        "modelscope",
        "train",
    )


# --- mistakes: the entry, the code, the key, the line of the file

F = {"file_name": "rows.json"}
MISTAKES: dict[str, tuple[Any, str, str, int]] = {
    "no file": ({}, "info-no-file", "mine", 5),
    "an entry that is a text": ("rows.json", "info-entry", "mine", 5),
    "a misspelt key": ({"file_nmae": "rows.json"}, "info-key-near", "mine.file_nmae", 6),
    "a misspelt column": ({**F, "columns": {"promt": "x"}}, "info-key-near", "mine.columns.promt", 8),
    "a misspelt tag": ({**F, "tags": {"rol_tag": "x"}}, "info-key-near", "mine.tags.rol_tag", 8),
    "columns a text": ({**F, "columns": "instruction"}, "info-mapping", "mine.columns", 7),
    "a column a number": ({**F, "columns": {"prompt": 1}}, "info-text", "mine.columns", 7),
    "file_name a list": ({"file_name": ["a"]}, "info-text", "mine.file_name", 6),
    "num_samples a text": ({**F, "num_samples": "10"}, "info-number", "mine.num_samples", 7),
    "num_samples 0": ({**F, "num_samples": 0}, "info-number", "mine.num_samples", 7),
    "an unknown format": ({**F, "formatting": "share-gpt"}, "info-formatting", "mine.formatting", 7),
    "preference pairs": ({**F, "ranking": True}, "info-preference", "mine.ranking", 7),
    "a kto tag": ({**F, "columns": {"kto_tag": "label"}}, "info-preference", "mine.columns", 7),
    "images": ({**F, "columns": {"images": "images"}}, "info-media", "mine.columns", 7),
    "a script": ({"script_url": "belle.py"}, "info-script", "mine.script_url", 6),
    "a cloud file": ({"cloud_file_name": "s3://b/a.json"}, "info-cloud", "mine.cloud_file_name", 6),
    "the openMind hub": ({"om_hub_url": "a/b"}, "info-openmind", "mine.om_hub_url", 6),
    "a missing file": ({"file_name": "raws.json"}, "data-missing-near", "mine", 5),
    "a split of a single file": ({**F, "split": "test"}, "split-file", "split", 5),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_has_its_place_and_a_fix(name: str, tmp_path: Path) -> None:
    entry, code, key, at = MISTAKES[name]
    loaded = read(tmp_path, entry)
    (problem,) = loaded.problems
    assert (problem.code, problem.key) == (code, key)
    assert problem.place.startswith(f"{tmp_path}/dataset_info.json:{at}:")
    for language in ("en", "zh"):
        assert line(problem, language).startswith(f"{problem.place}: {key}: ")
    with pytest.raises(DataError) as caught:
        load_dataset(["mine"], tmp_path)
    assert caught.value.fix


def test_broken_json_in_dataset_info(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text('{\n  "mine": {"file_name": "rows.json",}\n}', "utf-8")
    loaded = collect(["mine"], tmp_path, Reading())
    assert [one.code for one in loaded.problems] == ["info-json"]
    assert loaded.problems[0].place.startswith(f"{path}:2:3")
    path.write_text("[]", "utf-8")
    assert [one.code for one in collect(["mine"], tmp_path, Reading()).problems] == ["info-object"]


def test_an_unknown_name_is_near_an_entry(tmp_path: Path) -> None:
    read(tmp_path, F)
    (problem,) = collect(["mien"], tmp_path, Reading()).problems
    assert problem.code == "data-missing-near"
    assert problem.values["near"] == "mine"
