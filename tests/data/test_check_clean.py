"""No false alarms: our samples, and prose that people wrote (licences, descriptions, our pages)."""

from __future__ import annotations

import re
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest

from ft2ollama.data.answer_checks import check_answer, is_unfinished, script
from ft2ollama.data.character_checks import check_characters
from ft2ollama.data.check import examine
from ft2ollama.data.gather import read_sets
from ft2ollama.data.load import Reading
from ft2ollama.data.questions import read_questions

ROOT = Path(__file__).parents[2]
CHARACTERS = {"mojibake", "control-character", "replacement-character", "private-character",
              "invisible-character", "escaped-newline"}  # fmt: skip
ANSWERS = {"refusal", "foreign-identity", "dialogue-in-answer", "cut-at-source"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_samples_are_clean(samples: Path, language: str) -> None:
    sets = read_sets([f"assistant_{language}"], samples, Reading())
    questions, problems = read_questions(samples / f"assistant/heldout.{language}.jsonl")
    report = examine(sets, questions=questions)
    assert len(questions) >= 8
    assert report.sets[0].usable > 80
    assert [*report.problems, *problems] == []


def paragraphs(text: str) -> list[str]:
    """Prose paragraphs as one line each; headings, lists and code are left out."""
    found = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [part for part in found if len(part) > 60 and part[-1] in ".。！" and "```" not in part]


def licences() -> list[str]:
    """Paragraphs of every licence file of the installed packages."""
    found: dict[str, None] = {}
    for package in metadata.distributions():
        for file in package.files or ():
            if re.search("licen[cs]e|copying|notice", file.name, re.IGNORECASE):
                path = Path(str(package.locate_file(file)))
                if path.is_file() and path.stat().st_size < 200_000:
                    found.update(dict.fromkeys(paragraphs(path.read_text("utf-8", "ignore"))))
    return list(found)


def test_licences_are_clean() -> None:
    texts = licences()
    assert len(texts) > 300
    alarms = [(code, values) for text in texts
              for code, values in [*check_characters(text), *check_answer("", text)]]  # fmt: skip
    assert alarms == []


def test_package_descriptions_are_nearly_clean() -> None:
    """Badges, tables and code among them: the character checks stay silent all the same."""
    texts = [
        text
        for package in metadata.distributions()
        for text in paragraphs(str(package.metadata.get_payload()))
    ]
    assert len(texts) > 200
    alarms = Counter(code for text in texts for code, _ in check_characters(text))
    assert {code: n for code, n in alarms.items() if code in CHARACTERS} == {}
    answers = Counter(code for text in texts for code, _ in check_answer("", text))
    assert {code: n for code, n in answers.items() if code in ANSWERS} == {}


def test_our_chinese_pages_are_clean() -> None:
    texts = [*(ROOT / "README.zh-CN.md").read_text("utf-8").splitlines(),
             *(ROOT / "samples/assistant.zh.yaml").read_text("utf-8").splitlines()]  # fmt: skip
    texts = [text for text in texts if re.search("[\u4e00-\u9fff]{6}", text)]
    assert len(texts) > 30
    assert [found for text in texts for found in check_characters(text)] == []


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "199 元",
        "Dear Ms Weber,\nthank you for your order. It left our house today.\nBest regards,\nTom",
        "Items:\n- a lantern\n- a spare wick",
        "1. 打开电源\n2. 长按三秒",
        "See https://example.org/a,b",
        "The formula is E = mc^2. Here c is the speed of light: c = 299792458 m/s",
        "She said: “Come in.”",
        "```python\nprint(1)\n```",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "床前明月光，疑是地上霜。\n举头望明月，低头思故乡",
        "好的",
        "It was written by Jane Austen. She also wrote Emma",
        "That is all… for now…",
    ],
)
def test_answers_that_are_whole(answer: str) -> None:
    assert not is_unfinished(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "I am Tilda, an AI assistant made by Fernhollow.",
        "我是小杉，由云杉物作开发的智能助手。",
        "Android was developed by Google, and Windows by Microsoft.",
        "I cannot recommend this lamp enough!",
        "通义千问是阿里云开发的模型。",
        "We are sorry to hear that. Please send it back, we pay the postage.",
    ],
)
def test_answers_that_only_look_like_a_refusal_or_another_model(answer: str) -> None:
    assert list(check_answer("", answer)) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hello there", "latin"),
        ("你好，我叫 Tilda", "han"),
        ("これはペンです", "kana"),
        ("안녕하세요", "hangul"),
        ("Привет", "cyrillic"),
        ("café déjà vu", "latin"),
        ("Use pip install torch to install 火炬", "latin"),
        ("42 + 1", "none"),
        ("", "none"),
    ],
)
def test_script(text: str, wanted: str) -> None:
    assert script(text) == wanted


def test_emoji_families_thai_and_persian_joiners_are_letters() -> None:
    assert list(check_characters("👨‍👩‍👧 ภาษา\u200bไทย می‌روم 12\u00a0km\fnext page")) == []
