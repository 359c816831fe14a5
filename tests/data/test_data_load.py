"""Files, dataset_info.json, and errors with their place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.load import load_dataset
from ft2ollama.data.split import split
from ft2ollama.errors import DataError

ROW = {"instruction": "Q", "output": "A"}


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_json_and_jsonl_with_a_bom(tmp_path: Path) -> None:
    one = tmp_path / "a.json"
    one.write_text(json.dumps([ROW, ROW]), "utf-8-sig")
    two = write(tmp_path / "b.jsonl", json.dumps(ROW) + "\n\n" + json.dumps(ROW))
    loaded = load_dataset([str(one), str(two)], tmp_path)
    assert len(loaded.conversations) == 4
    assert loaded.conversations[0].place == f"{one}:1: row 1"
    assert loaded.conversations[3].place == f"{two}:3"
    assert loaded.notes[0] == f"{one}: 2 conversations (alpaca) from {one}"


def test_a_line_separator_inside_a_json_line_is_not_a_line_end(tmp_path: Path) -> None:
    text = json.dumps({"instruction": "Q\u2028Q\x85", "output": "A"}, ensure_ascii=False)
    loaded = load_dataset([str(write(tmp_path / "a.jsonl", text))], tmp_path)
    assert loaded.conversations[0].messages[0]["content"] == "Q\u2028Q\x85"


def test_dataset_info_names_file_columns_and_tags(tmp_path: Path) -> None:
    write(tmp_path / "rows.json", json.dumps([{"frage": "Q", "antwort": "A"}]))
    entry = {"file_name": "rows.json", "columns": {"prompt": "frage", "response": "antwort"}}
    write(tmp_path / "dataset_info.json", json.dumps({"faq": entry}))
    loaded = load_dataset(["faq"], tmp_path)
    assert [m["content"] for m in loaded.conversations[0].messages] == ["Q", "A"]


def test_broken_json_is_reported_with_line_and_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps(ROW) + '\n{"instruction": "Q",}\n{"x" 1}\n')
    with pytest.raises(DataError) as caught:
        load_dataset([str(path)], tmp_path)
    assert caught.value.what == "2 problems in the training data"
    lines = caught.value.why.splitlines()
    # Python 3.13 points at the comma, older ones behind it.
    assert lines[0].startswith((f"{path}:2:20: ", f"{path}:2:21: "))
    assert lines[1].startswith(f"{path}:3:6: broken JSON: Expecting ':' delimiter")
    path = write(tmp_path / "b.json", '[{"instruction": "Q", "output": "A"},\n {"instruction": ]')
    with pytest.raises(DataError, match="1 problem") as caught:
        load_dataset([str(path)], tmp_path)
    assert caught.value.why.startswith(f"{path}:2:18: ")


def test_all_bad_rows_of_all_files_at_once(tmp_path: Path) -> None:
    one = write(tmp_path / "a.json", json.dumps([ROW, {"x": 1}, ROW, []]))
    two = write(tmp_path / "b.json", json.dumps([{"instruction": "Q", "output": ""}]))
    with pytest.raises(DataError) as caught:
        load_dataset([str(one), str(two)], tmp_path)
    assert caught.value.what == "3 problems in the training data"
    assert [line.split(": ")[:2] for line in caught.value.why.splitlines()] == [
        [f"{one}:1", "row 2"],
        [f"{one}:1", "row 4"],
        [f"{two}:1", "row 1"],
    ]


def test_a_missing_file_suggests_the_near_one(tmp_path: Path) -> None:
    write(tmp_path / "faq.json", json.dumps([ROW]))
    with pytest.raises(DataError) as caught:
        load_dataset([str(tmp_path / "fqa.json"), "assistent"], tmp_path)
    assert f"did you mean {tmp_path / 'faq.json'}?" in caught.value.why
    assert len(caught.value.why.splitlines()) == 2


def test_text_that_is_not_utf8_names_the_command_that_converts_it(tmp_path: Path) -> None:
    path = tmp_path / "gbk.json"
    path.write_bytes('[{"instruction": "你好", "output": "您好"}]'.encode("gb18030"))
    with pytest.raises(DataError, match="1 problem") as caught:
        load_dataset([str(path)], tmp_path)
    assert "iconv -f GB18030 -t UTF-8 " in caught.value.fix


def test_max_samples_takes_the_first(tmp_path: Path) -> None:
    rows = [{"instruction": str(i), "output": "A"} for i in range(5)]
    path = write(tmp_path / "a.json", json.dumps(rows))
    loaded = load_dataset([str(path)], tmp_path, max_samples=2)
    assert [c.messages[0]["content"] for c in loaded.conversations] == ["0", "1"]


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps([ROW]))
    first = load_dataset([str(path)], tmp_path).sha256
    assert load_dataset([str(path)], tmp_path).sha256 == first
    write(path, json.dumps([ROW, ROW]))
    assert load_dataset([str(path)], tmp_path).sha256 != first


def _rows(count: int) -> list[Conversation]:
    return [
        Conversation(
            ({"role": "user", "content": str(i)}, {"role": "assistant", "content": "A"}), f"row {i}"
        )
        for i in range(count)
    ]


def test_a_row_stays_on_its_side_when_the_data_grows() -> None:
    small_train, small_val = split(_rows(200), 0.2)
    assert 20 < len(small_val) < 60
    assert len(small_train) + len(small_val) == 200
    _, grown_val = split(_rows(400)[::-1], 0.2)
    assert {c.place for c in small_val} == {c.place for c in grown_val if int(c.place[4:]) < 200}


def test_copies_never_stand_on_both_sides() -> None:
    train, val = split(_rows(50) * 2, 10)
    assert len(val) == 20
    assert not {c.place for c in train} & {c.place for c in val}
