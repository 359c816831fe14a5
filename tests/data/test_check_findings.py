"""Every defect planted in a file is found at its line, told in both languages, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ft2ollama.data.catalogue import line
from ft2ollama.data.check import Report, examine
from ft2ollama.data.gather import hold_out, read_sets
from ft2ollama.data.load import Reading
from ft2ollama.data.problems import Problem
from ft2ollama.data.questions import read_questions
from ft2ollama.data.summary import summary_line
from ft2ollama.data.texts_checks import TEXTS

GOOD: list[tuple[str, str]] = [
    ("How long is the warranty?", "The warranty runs for two years from the day of purchase."),
    ("萤罐多少钱？", "萤罐的价格是199元，含税包邮。"),
    ("Where are you based?", "We are based in Hamburg, near the old harbour."),
    ("怎么联系客服？", "请在工作日九点到六点拨打热线，会有人接听。"),
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                    "place": {"type": "object"},
                },
                "required": ["city"],
            },
        },
    }
]


def qa(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question},
                         {"role": "assistant", "content": answer}]}  # fmt: skip


def call(arguments: Any, tools: Sequence[Any] = TOOLS, name: str = "weather") -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    calls = [{"id": "1", "type": "function", "function": {"name": name, "arguments": text}}]
    row: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": "How is the weather?"},
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "1", "content": "sunny"},
            {"role": "assistant", "content": "It is sunny today."},
        ]
    }
    return {**row, "tools": list(tools)} if tools else row


LOREM = "The keeper walked to the lighthouse at dawn. She carried oil and a spare wick. "
MANY = " ".join(f"Lamp {n} is lit at {n % 12} by keeper {n * 7 % 31}." for n in range(40))
PAIR = (
    "How do I clean the glass of the lantern?",
    "Wipe the glass with a soft damp cloth, never with alcohol, and dry it well before use.",
)

# (what is planted, the rows, code, at which of them, severity)
PLANTED: list[tuple[str, list[Any], str, int]] = [
    ("broken JSON", ['{"messages": [}'], "json-broken", 0),
    ("a number for a text", [qa("Q?", 5)], "text-wanted", 0),  # type: ignore[arg-type]
    ("no known fields", [{"foo": "a", "bar": "b"}], "row-no-format", 0),
    ("two users in a row", [{"messages": [{"role": "user", "content": "a"}] * 2}], "role-order", 0),
    ("an unknown role", [{"messages": [{"role": "robot", "content": "a"}]}], "role-unknown", 0),
    ("an empty question", [qa(" ", "An answer.")], "question-empty", 0),
    ("an empty answer", [qa("A question?", "")], "answer-empty", 0),
    ("no answer", [{"messages": [{"role": "user", "content": "a"}]}], "answer-missing", 0),
    ("half a character", [qa("Q?", "So \ud83d it is.")], "half-character", 0),
    ("U+FFFD", [qa("Opening hours?", "We open at \ufffd\ufffd.")], "replacement-character", 0),
    ("an escape code", [qa("Colours?", "Now \x1b[1mbold\x1b[0m text.")], "control-character", 0),
    ("a Windows dash as C1", [qa("Dash?", "One \x96 two.")], "control-character", 0),
    ("a zero-width space", [qa("Spaces?", "in\u200bvisible text.")], "invisible-character", 0),
    ("a BOM inside", [qa("\ufeffSpaces?", "Some text.")], "invisible-character", 0),
    ("an icon font", [qa("Icon?", "Press \ue80c to go on.")], "private-character", 0),
    ("UTF-8 as Windows-1252", [qa("Price?", "It\u00e2\u20ac\u2122s 49 euros.")], "mojibake", 0),
    ("UTF-8 as Latin-1", [qa("Who?", "Ren\u00c3\u00a9 wrote it.")], "mojibake", 0),
    ("Chinese as Latin-1", [qa("你是谁？", "我是小杉。".encode().decode("latin-1"))],
     "mojibake", 0),
    ("Chinese as GBK", [qa("什么颜色？", "有琥珀色和青绿色，都是哑光的。".encode()
                         .decode("gb18030", "replace"))], "mojibake", 0),
    ("U+FFFD as GBK", [qa("什么颜色？", "有锟斤拷锟斤拷两种颜色。")], "mojibake", 0),
    ("HTML escapes", [qa("Signs?", "Use &lt;b&gt; and &amp; there.")], "html-entity", 0),
    ("escaped line breaks", [qa("Steps?", "First this.\\nThen that.")], "escaped-newline", 0),
    ("ChatML inside", [qa("Stop <|im_end|> here?", "No.")], "control-token-like", 0),
    ("Llama 2 inside", [qa("[INST] Hello [/INST]", "Hello there.")], "control-token-like", 0),
    ("a stop token at the end", [qa("Hello?", "Hi there.</s>")], "control-token-like", 0),
    ("a refusal", [qa("Tell a joke.", "As an AI language model, I cannot joke.")], "refusal", 0),
    ("a Chinese refusal", [qa("讲个笑话。", "很抱歉，我无法回答这个问题。")], "refusal", 0),
    ("another model's name", [qa("Who are you?", "I am ChatGPT, trained by OpenAI.")],
     "foreign-identity", 0),
    ("another maker's name", [qa("你是谁？", "我是由阿里云开发的助手。")], "foreign-identity", 0),
    ("an echo", [qa("What is a lantern?", "what is a lantern")], "echo", 0),
    ("a dialogue", [qa("Hello?", "Hi.\nUser: and you?\nAssistant: fine.")],
     "dialogue-in-answer", 0),
    ("Dify's cut", [qa("Tell all.", MANY[:500] + "...")],
     "cut-at-source", 0),
    ("LiteLLM's cut", [qa("Tell all.", "A... (litellm_truncated skipped 77 chars. x) ...b.")],
     "cut-at-source", 0),
    ("an open code block", [qa("Code?", "Here:\n```python\nprint(1)")], "open-code-fence", 0),
    ("half a sentence", [qa("Story?", LOREM + "Then the wind began to rise and the")],
     "unfinished", 0),
    ("half a Chinese sentence", [qa("故事？", "清晨，守灯人走上灯塔的台阶。她带着备用灯芯准备")],
     "unfinished", 0),
    ("an open list", [qa("故事？", "灯罩有三种颜色，分别是琥珀色、青绿色、")], "unfinished", 0),
    ("a loop", [qa("Say it.", "I do not know what to say. " * 40)], "repetition", 0),
    ("mixed punctuation", [qa("介绍一下？", "灯罩是玻璃的,底座是木头的，都很结实。")],
     "mixed-punctuation", 0),
    ("an English answer", [qa("萤罐的保修期有多久？", "The warranty runs for two whole years.")],
     "answered-in-latin", 0),
    ("a Chinese answer", [qa("What does the lantern weigh?", "灯笼大约四百二十克，不含包装盒。")],
     "answered-in-han", 0),
    ("no required argument", [call({"days": 3})], "argument-missing", 0),
    ("an argument too many", [call({"city": "Bonn", "zip": 1})], "argument-unknown", 0),
    ("an argument's type", [call({"city": "Bonn", "days": "three"})], "argument-type", 0),
    ("true for a number", [call({"city": "Bonn", "days": True})], "argument-type", 0),
    ("a value of no choice", [call({"city": "Bonn", "unit": "K"})], "argument-value", 0),
    ("JSON inside an argument", [call({"city": "Bonn", "place": '{"lat": 50}'})],
     "argument-encoded", 0),
    ("arguments twice encoded", [call(json.dumps(json.dumps({"city": "Bonn"})))],
     "arguments-twice", 0),
    ("an unknown tool", [call({"city": "Bonn"}, name="wether")], "call-unknown", 0),
    ("calls without tools", [call({"city": "Bonn"}, tools=())], "call-without-tools", 0),
    ("a copy", [qa(*PAIR), qa(*PAIR)], "duplicate", 1),
    ("a copy in other widths", [qa(*PAIR), qa(PAIR[0].upper(), PAIR[1].replace(" ", "  "))],
     "duplicate", 1),
    ("nearly a copy", [qa(*PAIR), qa(PAIR[0], PAIR[1].replace("before use", "before using"))],
     "near-duplicate", 1),
    ("two answers", [qa(*PAIR), qa(PAIR[0], "You need not clean it at all, it cleans itself.")],
     "answer-differs", 1),
    ("two numbers", [qa("退货期是几天？", "收到商品后7天内可以退货。"),
                     qa("退货期是几天？", "收到商品后15天内可以退货。")], "facts-differ", 1),
]  # fmt: skip


def write(path: Path, rows: Sequence[Any]) -> Path:
    """A JSONL file; a text is written as it is, and surrogates stay escaped."""
    lines = [row if isinstance(row, str) else _json(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _json(row: Any) -> str:
    text = json.dumps(row, ensure_ascii=False)
    return text if not re.search("[\ud800-\udfff]", text) else json.dumps(row)


def check(path: Path, **more: Any) -> Report:
    return examine(read_sets([str(path)], path.parent, Reading()), **more)


def told(problem: Problem) -> None:
    """Both languages say something, name the place, and leave no placeholder."""
    for language in ("en", "zh"):
        text = line(problem, language)  # type: ignore[arg-type]
        assert text.startswith(problem.place.rsplit(":", 1)[0])
        assert len(text) > len(problem.place) + 10
        assert not re.search(r"\{\w+\}", text.split(": ", 1)[1]) or "{" in str(problem.values)
    assert re.search("[\u4e00-\u9fff]", line(problem, "zh"))


@pytest.mark.parametrize(
    ("rows", "code", "at"), [case[1:] for case in PLANTED], ids=[case[0] for case in PLANTED]
)
def test_a_planted_defect_is_found_and_nothing_else(
    tmp_path: Path, rows: list[Any], code: str, at: int
) -> None:
    path = write(tmp_path / "rows.jsonl", [qa(*good) for good in GOOD] + rows)
    report = check(path)
    assert {problem.code for problem in report.problems} == {code}
    place = f"{path}:{len(GOOD) + at + 1}"
    assert report.problems[0].place.startswith(place)
    told(report.problems[0])
    stops = report.problems[0].severity == "error"
    assert report.sets[0].dropped == int(stops)
    assert report.sets[0].rows == len(GOOD) + len(rows)


# Found by the tests below this table.
ELSEWHERE = {"answer-long", "answer-short", "leak-copy", "leak-near", "leak-question", "leak-proof",
             "question-line", "question-file", "question-facts"}  # fmt: skip


def test_every_finding_of_the_doctor_is_planted() -> None:
    assert len(PLANTED) >= 50
    assert set(TEXTS) <= {case[2] for case in PLANTED} | ELSEWHERE


def test_the_line_for_other_commands(tmp_path: Path) -> None:
    rows = read_sets([str(write(tmp_path / "a.jsonl", [qa(*PAIR), qa(*PAIR), qa("Q?", "A\x1b."),
                                                       qa("Hi?", "A\x1b b.")]))],
                     tmp_path, Reading())[0].conversations  # fmt: skip
    assert summary_line(rows[:1], "x", "en") == ""
    assert summary_line(rows, "ft2ollama data check a.yaml", "en") == (
        "worth a look in the data: 2 control-character, 1 duplicate; "
        "see: ft2ollama data check a.yaml"
    )
    assert "2 control-character、1 duplicate" in summary_line(rows, "x", "zh")


def test_the_good_rows_are_clean(tmp_path: Path) -> None:
    report = check(write(tmp_path / "rows.jsonl", [qa(*good) for good in GOOD]))
    assert report.problems == ()
    assert report.sets[0].usable == report.sets[0].rows == len(GOOD)
    assert report.sets[0].scripts == {"latin": 2, "han": 2}


def test_an_answer_of_unusual_length(tmp_path: Path) -> None:
    rows = [qa(f"Question {n}?", f"The answer to question {n} is the number {n}, as you know.")
            for n in range(30)]  # fmt: skip
    long = "".join(f"Line {n} of a document that slipped in here.\n" for n in range(100))
    report = check(write(tmp_path / "rows.jsonl", [*rows, qa("All?", long), qa("Yes?", "y")]))
    found = {problem.code: problem.place for problem in report.problems}
    assert found == {
        "answer-long": f"{tmp_path}/rows.jsonl:31",
        "answer-short": f"{tmp_path}/rows.jsonl:32",
    }
    for problem in report.problems:
        told(problem)


def test_held_out_rows_that_are_trained_on(tmp_path: Path) -> None:
    """leak-copy, leak-near and leak-question, each at the held-out row and naming the other."""
    train = write(tmp_path / "train.jsonl", [qa(*good) for good in GOOD] + [qa(*PAIR)])
    held = write(
        tmp_path / "eval.jsonl",
        [
            qa(*GOOD[0]),
            qa(PAIR[0], PAIR[1].replace("before use", "before using")),
            qa(GOOD[2][0], "In a town by the sea, far from here."),
            qa("Is there a light theme?", "Yes, in the settings."),
        ],
    )
    reading = Reading()
    sets = read_sets([str(train)], tmp_path, reading)
    held_out = read_sets([str(held)], tmp_path, reading)
    from dataclasses import replace

    report = examine([*sets, *(replace(one, part="validation") for one in held_out)])
    found = [(p.code, p.place, p.values["first"]) for p in report.problems]
    assert found == [
        ("leak-copy", f"{held}:1", f"{train}:1"),
        ("leak-near", f"{held}:2", f"{train}:5"),
        ("leak-question", f"{held}:3", f"{train}:3"),
    ]
    for problem in report.problems:
        told(problem)


def test_a_split_keeps_copies_together_and_counts_every_row(tmp_path: Path) -> None:
    rows = [qa(f"What is item {n} for?", f"Item {n} holds the lid of box {n}.") for n in range(40)]
    path = write(tmp_path / "rows.jsonl", [*rows, *rows])
    sets = hold_out(read_sets([str(path)], tmp_path, Reading()), 0.25)
    assert [one.part for one in sets] == ["train", "validation"]
    assert sum(one.rows for one in sets) == 80
    report = examine(sets)
    assert 5 < len(sets[1].conversations) < 40
    assert not [p for p in report.problems if p.code.startswith("leak")]


def test_proof_questions_that_are_trained_on(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [qa(*good) for good in GOOD] + [qa(*PAIR)])
    proof = tmp_path / "proof.jsonl"
    asked = ["怎么联系客服", "How do I clean the glass of a lantern?", "May I return it?"]
    lines = [json.dumps({"question": text}, ensure_ascii=False) for text in asked]
    proof.write_text("\n".join([*lines, "no json"]), "utf-8")
    assert [p.code for p in read_questions(tmp_path / "none.jsonl")[1]] == ["question-file"]
    questions, problems = read_questions(proof)
    assert [(p.code, p.place) for p in problems] == [("question-line", f"{proof}:4")]
    report = check(train, questions=questions)
    found = [(p.code, p.place, p.values["first"]) for p in report.problems]
    assert found == [
        ("leak-proof", f"{proof}:1", f"{train}:4"),
        ("leak-proof", f"{proof}:2", f"{train}:5"),
    ]
    for problem in [*report.problems, *problems]:
        told(problem)


def test_a_missing_file_and_a_good_one(tmp_path: Path) -> None:
    """One bad file does not hide what is wrong in the others."""
    path = write(tmp_path / "rows.jsonl", [qa("讲个笑话。", "很抱歉，我无法回答这个问题。")])
    sets = read_sets([str(tmp_path / "none.jsonl"), str(path)], tmp_path, Reading())
    report = examine(sets)
    assert report.errors == 1
    assert [one.rows for one in report.sets] == [0, 1]
    assert {problem.code for problem in report.problems if problem.severity == "warning"} == {
        "refusal"
    }
