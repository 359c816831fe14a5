"""`collect preview` and `collect review` as people use them: in a terminal and by files."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ft2ollama.errors import ConfigError
from ft2ollama.loop.curate.docs import markdown
from ft2ollama.loop.curate.pipeline import ORDER, curate
from ft2ollama.loop.curate.rows import load_rows
from ft2ollama.loop.curate.rules import Needs
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.curate.settings_file import read_settings
from ft2ollama.loop.curate.store import pending_rids, read_inputs
from ft2ollama.loop.curate.texts import REVIEW, RULE_TEXTS
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback
from ft2ollama.loop.records import Exchange, Feedback
from ft2ollama.loop.review import Review, export, import_file, waiting

DOC = "客户可在收货后30天内申请退货，运费由本公司承担。联系人手机 13800138000。"


def asked(n: int, question: str, answer: str, *contexts: str) -> Exchange:
    messages = [{"role": "user", "content": question}]
    return Exchange(messages, question, answer, ts_ms=n, rid=f"r{n}",
                    contexts=[{"text": text} for text in contexts])  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("FT2OLLAMA_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.setenv("COLUMNS", "100")
    with Ledger.open() as ledger:
        with ledger.begin() as connection:
            add_exchanges(connection, ("proxy", "x"), [
                asked(1, "退货期是多久？", "收货后60天内可以申请退货。", DOC),
                asked(2, "运费谁承担？", "运费由本公司承担。", DOC),
                asked(3, "联系人的手机 13800138000 对吗？", "联系人手机是 13800138000。", DOC),
                asked(4, "周末发货吗？", "周末正常发货。", DOC),
            ])  # fmt: skip
            said = ("thumb", -1, ""), ("comment", None, "胡说")
            add_feedback(connection, [Feedback(kind, 5, "x", rid="r4", value=value, text=text)
                                      for kind, value, text in said])  # fmt: skip
        yield ledger


def command(*args: str, code: int = 0) -> tuple[str, str]:
    program = [sys.executable, "-m", "ft2ollama", *args]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_preview_tells_what_and_why(shop: Ledger, tmp_path: Path) -> None:
    out, said = command("collect", "preview", "grounded_cap=1", "--lang", "zh",
                        "--out", str(tmp_path / "data"))  # fmt: skip
    assert out == f"{tmp_path / 'data'}\n"
    assert "4 行数据的去向" in said
    assert re.search(r"✓ +2 +keep +用于训练", said)
    assert re.search(r"✗ +1 +low_rating +用户点了踩\n.*周末发货吗？ +thumb -1", said)
    assert re.search(r"✗ +1 +ungrounded_number .*\n.*退货期是多久？ +missing 60", said)
    assert "已替换的个人信息：phone" in said
    assert "13800138000" not in said
    assert max(map(len, said.splitlines())) <= 100
    lines = (tmp_path / "data/train.jsonl").read_text("utf-8")
    assert "13800138000" not in lines
    out, _ = command("--json", "collect", "preview", "grounded_cap=1")
    events = [json.loads(line) for line in out.splitlines()]
    assert [one["event"] for one in events] == ["verdict"] * 4 + ["done"]
    assert events[-1]["counts"]["kept"] == 2


def test_an_empty_ledger_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT2OLLAMA_LEDGER", str(tmp_path / "ledger.db"))
    out, said = command("collect", "preview")
    assert out == ""
    assert "no rows wait in" in said
    assert "nothing to review" in command("collect", "review")[1]


def test_a_retrain_config_without_a_block_has_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text("name: shop\ntrain: train.yaml\n")
    assert read_settings(path) == CurateConfig()


def test_settings_of_a_file_and_words(tmp_path: Path) -> None:
    path = tmp_path / "retrain.yaml"
    path.write_text("model_name_or_path: x\ncurate:\n  grounded_cap: 0.5\n  languages: [zh]\n")
    made = read_settings(path, ["pii=drop", "languages=[en]"])
    assert (made.grounded_cap, made.languages, made.pii) == (0.5, ("en",), "drop")
    path.write_text("grounded_cap: 2\ngrounded_kap: 1\nopen_book: 0.1\n")
    with pytest.raises(ConfigError) as error:
        read_settings(path, ["seed"])
    assert "seed is no setting" in error.value.what
    with pytest.raises(ConfigError) as error:
        read_settings(path)
    assert "grounded_cap: Input should be less than or equal to 1, not 2" in error.value.why
    assert "grounded_kap: no such key; did you mean grounded_cap?" in error.value.why
    with pytest.raises(ConfigError, match="wrong setting") as error:
        read_settings(None, ["open_book=0.1"])
    assert "closed_book + open_book + refusal is 0.7" in error.value.why
    for text in ("- 1\n", "a: [\n"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            read_settings(path)


def test_every_rule_and_word_is_there_in_both_languages() -> None:
    assert list(RULE_TEXTS) == ["keep", "eval_fresh", *ORDER]
    assert all(set(texts) == {"en", "zh"} for texts in RULE_TEXTS.values())
    assert set(REVIEW["en"]) == set(REVIEW["zh"])
    for name, text in REVIEW["en"].items():
        assert (
            re.findall(r"{\w+}", text) == re.findall(r"{\w+}", REVIEW["zh"][name])
            or name == "ended"
        )


def test_the_page_is_the_code() -> None:
    page = Path(__file__).parent.parent.parent / "docs/curate.md"
    assert page.read_text("utf-8") == markdown(), (
        "python -m ft2ollama.loop.curate.docs > docs/curate.md"
    )
    assert all(field.description for field in CurateConfig.model_fields.values())


class Terminal:
    """The command in a terminal of its own; `press` waits for the prompt first."""

    def __init__(self, *args: str, **env: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ft2ollama", *args], stdin=slave, stdout=slave, stderr=slave,
            env={**os.environ, "TERM": "xterm", **env}, start_new_session=True)  # fmt: skip
        os.close(slave)
        self.said, self._pressed = "", 0

    def press(self, keys: str) -> None:
        """Each key when the prompt is there and the terminal no longer waits for whole lines."""
        for key in keys:
            self._wait(lambda: self.said.count("q quit") > self._pressed)
            self._pressed += 1
            self._wait(lambda: not termios.tcgetattr(self._master)[3] & termios.ICANON)
            os.write(self._master, key.encode())

    def _wait(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not ready() and self._read(0.02):
            assert time.monotonic() < until, self.said

    def _read(self, seconds: float) -> bool:
        """Take what was said; False when the other end is closed."""
        if select.select([self._master], [], [], seconds)[0]:
            try:
                self.said += os.read(self._master, 65536).decode("utf-8", "replace")
            except OSError:
                return False
        return True

    def end(self) -> str:
        while self._read(1):
            pass
        assert self.process.wait(30) == 0, self.said
        os.close(self._master)
        return self.said


def decided(ledger: Ledger) -> dict[str, tuple[str, str]]:
    with ledger.engine.connect() as connection:
        rows = load_rows(connection, pending_rids(connection, ""))
    return {row.rid: (row.said.label, row.said.correction) for row in rows}


def test_review_in_a_terminal(shop: Ledger, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf '30天。' > \"$1\"\n")
    editor.chmod(0o755)
    # The disliked row first, then the number that stands nowhere, then good ones, the newest first.
    terminal = Terminal("collect", "review", "--lang", "en", EDITOR=str(editor))
    terminal.press("rexcausq")
    said = terminal.end()
    assert decided(shop) == {"r1": ("", "30天。"), "r2": ("", ""), "r3": ("", ""),
                             "r4": ("reject", "")}  # fmt: skip
    for words in (
        "1 of 4",
        "low_rating",
        "thumb -1",
        "胡说",
        "ungrounded_number",
        "60",
        "taken back",
    ):
        assert words in said
    assert "0 approved, 1 corrected, 1 rejected, 1 skipped" in said
    terminal = Terminal("collect", "review", "--rule", "keep", "--lang", "en")
    terminal.press("a\x03")
    assert "1 of 2" in terminal.end()
    assert decided(shop)["r3"] == ("approve", "")
    with shop.engine.connect() as connection:
        given = read_inputs(connection, "", Needs(CurateConfig(fresh_share=0)), 1)
    origins = {row.rid: row.origin for row in given.new}
    assert origins == {"r1": "correction", "r2": "model", "r3": "human", "r4": "model"}
    rules = {one.rid: one.rule for one in curate(given).verdicts}
    assert rules == {"r1": "", "r2": "", "r3": "", "r4": "rejected"}


def test_review_without_a_terminal_names_the_file(shop: Ledger) -> None:
    _, said = command("collect", "review", code=2)
    assert "--export" in said
    _, said = command("collect", "review", "--rule", "media", code=2)
    assert "no rule media to review" in said


def test_a_file_goes_to_another_tool_and_back(shop: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "行.jsonl"
    out, _ = command("collect", "review", "--export", str(path))
    assert out == f"{path}\n"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["rid"] for row in rows] == ["r4", "r1", "r3", "r2"]
    assert rows[1]["stopped_by"] == "ungrounded_number"
    rows[0]["decision"] = "Reject"
    rows[1]["correction"] = "30天。"
    rows[2]["decision"] = "maybe"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{\n\n" + '{"rid": "r9", "decision": '
                    '"approve"}\n{"rid": 7}\n', "utf-8")  # fmt: skip
    _, said = command("collect", "review", "--import", str(path), code=2)
    assert "7 lines: 2 decided, 1 left open, 0 known before, 4 not understood" in said
    for words in (":3: decision 'maybe'", ":5: no JSON", ":7: no row r9", ":8: no rid"):
        assert f"{path}{words}" in said.replace("\n", "")
    assert decided(shop)["r1"] == ("", "30天。")
    assert decided(shop)["r4"] == ("reject", "")
    again = import_file(shop, path)
    assert (again.seen, again.decided, again.known, again.open) == (7, 0, 2, 1)


def test_what_was_decided_is_not_shown_again_and_undo_goes_back(shop: Ledger) -> None:
    needs = Needs(CurateConfig())
    review = Review(shop)
    assert review.undo() is None
    review.approve("r2")
    review.correct("r1", "30天")
    assert [card.row.rid for card in waiting(shop, "", needs)] == ["r4", "r3"]
    assert review.undo() == "r1"
    assert review.undo() == "r2"
    cards = waiting(shop, "", needs)
    assert [card.row.rid for card in cards] == ["r4", "r1", "r3", "r2"]
    assert export(cards[:1], Path(shop.name).with_suffix(".jsonl")) == 1
