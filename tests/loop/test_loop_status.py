"""The loop in one picture: facts, page, terminal, JSON. A story writes the history of a line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ledger_story import DAY, NOW, Story, digest

from ft2ollama.language import Language
from ft2ollama.loop.ledger import Ledger
from ft2ollama.loop.picture import Picture, take
from ft2ollama.loop.picture_charts import Step, day_bars, meter, pairs, timeline
from ft2ollama.loop.picture_html import page
from ft2ollama.loop.texts_picture import SETS, WORDS

EVIL = '<script>alert("x")</script> & "quoted"'


def nobody(_: str | None) -> None:
    """No server answers."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("story")


@pytest.fixture(scope="module")
def ledger(folder: Path) -> Iterator[Ledger]:
    with Ledger.open(folder / "ledger.db") as made:
        yield made


@pytest.fixture(scope="module")
def ids(ledger: Ledger) -> Mapping[str, str]:
    story = Story(ledger)
    told = dict(story.tell())
    other = Story(ledger, "evil")
    told["evil"] = other.cycle(3, {"keep": 1}, {}, failed=EVIL)
    return told


@pytest.fixture
def picture(ledger: Ledger, ids: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Picture:
    monkeypatch.setenv("FT2OLLAMA_RUNS", "/nowhere")
    return take(ledger, ["shop", "evil"], NOW, nobody)


def test_the_facts(picture: Picture, ids: Mapping[str, str]) -> None:
    shop = picture.lines[0]
    assert [cycle.state for cycle in shop.cycles] == [
        "PROMOTED", "FAILED", "REJECTED", "PROMOTED", "PROMOTED", "NEEDS_HUMAN",
    ]  # fmt: skip
    first, last = shop.cycles[0], shop.cycles[-1]
    assert (first.run_id, first.ended_ms - first.begun_ms) == (ids["first"], 500_000)
    assert last.error == "NEEDS_HUMAN: evidence"
    golden = last.scores["golden"]  # the champion answered 240 in the cycle before, 120 are common
    assert golden.items == 120
    assert golden.before == pytest.approx(0.74, abs=0.02)
    assert golden.after == pytest.approx(0.76, abs=0.02)
    assert [one.rule for one in last.rules if not one.passed] == ["evidence"]
    assert sum(count for _, count in picture.days) == picture.rows

    assert [move.action for move in shop.moves] == ["publish", "publish", "publish", "rollback"]
    assert shop.live is not None
    assert (shop.live.tag, shop.live.known_by) == (f"shop:{ids['second']}", "ledger")
    assert shop.live.since_ms == NOW - 11 * DAY


@pytest.mark.parametrize(
    ("alias", "tag", "since"),
    [("second", "second", True), ("third", "third", False), ("stranger", "", False)],
)
def test_the_server_knows_what_is_live(
    ledger: Ledger, ids: Mapping[str, str], alias: str, tag: str, since: bool
) -> None:
    models = {"shop:latest": digest(ids.get(alias, alias))}
    live = take(ledger, ["shop"], NOW, lambda host: models).lines[0].live
    assert live is not None
    assert live.tag == (f"shop:{ids[tag]}" if tag else "")
    assert (live.since_ms is not None, live.known_by) == (since, "server")
    assert take(ledger, ["shop"], NOW, lambda host: {}).lines[0].live is None


def test_a_rollback_that_only_the_log_has(
    ledger: Ledger, ids: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT2OLLAMA_RUNS", str(tmp_path))
    line = {
        "time": "2026-11-21T10:00:00.000+00:00", "action": "rollback", "host": "http://127.0.0.1:1",
        "name": "shop:latest", "tag": f"shop:{ids['first']}", "digest": digest(ids["first"]),
    }  # fmt: skip
    again = {**line, "time": "2026-11-11T18:10:02+00:00", "digest": digest(ids["second"])}
    lines = [line, again, {**line, "host": "http://elsewhere:1"}]
    text = "".join(json.dumps(one) + "\n" for one in lines) + '{"time": "2026-'
    (tmp_path / "published.jsonl").write_text(text)
    moves = take(ledger, ["shop"], NOW, nobody).lines[0].moves
    assert [move.action for move in moves[3:]] == ["rollback", "rollback"]
    assert moves[-1].tag == f"shop:{ids['first']}"


class _Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_is_whole_and_alone(
    picture: Picture, ids: Mapping[str, str], language: Language
) -> None:
    text = page(picture, language)
    found = _Page(text)
    assert not found.tags.keys() & {"script", "link", "img", "iframe", "object", "base", "form"}
    names = {name for name, _ in found.attributes}
    assert not names & {"src", "href", "srcset", "style"}
    assert not [name for name in names if name.startswith("on")]
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert EVIL in found.text
    assert EVIL not in text
    for run_id in ids.values():
        assert run_id in found.text
    for key in ("live", "meter", "taken", "scores", "gate"):
        assert WORDS[language][key] in found.text
    assert found.tags["svg"] == 1 + (2 + 4 + 1) + 1  # days; meter, rows, 4 sets, moves; meter
    assert all(ET.fromstring(svg) is not None for svg in re.findall(r"<svg.*?</svg>", text))


def test_every_word_is_there_in_both_languages() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, english in WORDS["en"].items():
        holes = re.findall(r"{\w+", english)
        assert sorted(holes) == sorted(re.findall(r"{\w+", WORDS["zh"][key])), key
    assert all(each.keys() == {"en", "zh"} for each in SETS.values())


def _numbers(svg: str, tag: str, *names: str) -> list[tuple[float, ...]]:
    found = ET.fromstring(svg).iter(tag)
    return [tuple(float(one.attrib[name]) for name in names) for one in found]


def test_the_charts_are_to_scale() -> None:
    bars = _numbers(
        day_bars([("a", 4), ("b", 0), ("c", 2)], {"c": "x"}, "n"), "rect", "x", "height"
    )
    assert len(bars) == 2
    assert bars[0][1] == pytest.approx(2 * bars[1][1])
    empty, full = _numbers(meter(50, 20, 200, "n"), "rect", "width")
    assert full[0] == pytest.approx(empty[0] / 4, abs=1)
    assert _numbers(meter(300, 20, 200, "n"), "rect", "width")[1] == pytest.approx(empty, abs=1)
    low, high, middle = _numbers(pairs([("c", 0.0, 1.0), ("d", 0.5, 0.5)], "n"), "circle", "cy")[:3]
    assert middle[0] == pytest.approx((low[0] + high[0]) / 2)
    assert low > high
    steps = [Step(0, "m:1", "", False), Step(50, "m:2", ""), Step(75, "m:1", "", True)]
    drawn = timeline(steps, 100, "n")
    ends = [tuple(map(float, re.findall(r"[\d.]+", d))) for d in
            re.findall(r'class="held" d="([^"]+)"', drawn)]  # fmt: skip
    (start, low_y, half), (_, high_y, later), (_, back_y, end) = ends
    assert low_y == back_y > high_y
    assert half == pytest.approx((start + end) / 2, abs=0.2)
    assert later == pytest.approx(start + 0.75 * (end - start), abs=0.2)
    assert drawn.count('class="undo"') == 1


def _run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"FT2OLLAMA_DATA": str(folder), "COLUMNS": "100", "HOME": str(folder), **environment}
    return subprocess.run(
        [sys.executable, "-m", "ft2ollama", *words], env=env, text=True, capture_output=True
    )


def test_the_command(folder: Path, ids: Mapping[str, str], tmp_path: Path) -> None:
    here = {"PYTHONPATH": str(Path(__file__).parents[2]), "FT2OLLAMA_RUNS": str(tmp_path)}
    shown = _run(folder, "loop", "status", "shop", **here)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == ""
    assert max(map(len, shown.stderr.splitlines())) <= 100
    for said in (
        f"shop:{ids['second']}", "by the ledger: no server", "✗ must_pass",
        "CUDA out of", f"ft2ollama loop approve {ids['last']}", "rolled back",
    ):  # fmt: skip
        assert said in shown.stderr, shown.stderr
    chinese = _run(folder, "loop", "status", "shop", LANG="zh_CN.UTF-8", **here)
    assert "等您决定" in chinese.stderr

    file = tmp_path / "page/loop.html"
    file.parent.mkdir()
    done = _run(folder, "loop", "status", "--html", str(file), "--lang", "zh", **here)
    assert done.stdout == f"{file}\n", done.stderr
    assert '<html lang="zh-CN">' in file.read_text("utf-8")

    events: list[dict[str, Any]] = [
        json.loads(line)
        for line in _run(folder, "--json", "loop", "status", **here).stdout.splitlines()
    ]
    assert [event["event"] for event in events] == ["ledger", "line", "line"]
    shop = next(event for event in events if event.get("line") == "shop")
    assert shop["live"] == {
        "tag": f"shop:{ids['second']}", "digest": digest(ids["second"]),
        "since": "2026-11-11T18:10:00+00:00", "known_by": "ledger",
    }  # fmt: skip
    assert shop["promoted"] == f"shop:{ids['third']}"
    assert shop["person"] == ids["last"]
    newest = shop["cycles"][0]
    assert (newest["run"], newest["state"]) == (ids["last"], "NEEDS_HUMAN")
    assert {rule["rule"] for rule in newest["gate"]} >= {"golden", "fresh", "evidence"}
    assert newest["scores"]["fresh"]["items"] == 20
    assert shop["trigger"] == {"rows": 200, "few": 50, "days": 7}


def test_an_empty_ledger(tmp_path: Path) -> None:
    here = {"PYTHONPATH": str(Path(__file__).parents[2])}
    shown = _run(tmp_path, "loop", "status", **here)
    assert "no cycle yet" in shown.stderr
    file = tmp_path / "x.html"
    assert _run(tmp_path, "loop", "status", "--html", str(file), **here).returncode == 0
    assert "nothing was collected yet" in file.read_text("utf-8")
    fresh = _run(tmp_path, "loop", "status", "shop", **here)
    assert (fresh.returncode, "0 of 200" in fresh.stderr) == (0, True)
