"""What preview shows is what the tokens are: every byte of the text, every learned token marked."""

from __future__ import annotations

import re
from array import array
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tiny_tokenizers import byte_level, sentencepiece_like

from ft2ollama.base import Base
from ft2ollama.data.preview import Piece, pieces, spread, token_bytes, units, visible
from ft2ollama.data.preview_html import Shown, page
from ft2ollama.data.render import IGNORED, Sample
from ft2ollama.data.tokenizer import Tokenizer

TEXTS = [
    "Hello there", "你好，世界！", "naïve café — 12 €", "tab\tand\nline",
    "👨‍👩‍👧 家", "  two  spaces ",
]  # fmt: skip


def sample_of(tokenizer: Tokenizer, text: str, learned_from: int = 0) -> Sample:
    ids, _ = tokenizer.encode(text)
    labels = [IGNORED if place < learned_from else token for place, token in enumerate(ids)]
    return Sample(array("i", ids), array("i", labels))


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_are_the_text_byte_for_byte(tmp_path: Path, text: str) -> None:
    tokenizer = Tokenizer(byte_level(tmp_path))
    found = pieces(sample_of(tokenizer, text), tokenizer)
    assert "".join(piece.text for piece in found) == text
    assert [piece.id for piece in found] == tokenizer.encode(text)[0]
    assert b"".join(piece.raw or piece.text.encode() for piece in found) == text.encode()


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_real_vocabulary(smollm2: Base, text: str) -> None:
    tokenizer = Tokenizer(smollm2.folder)
    text = f"<|im_start|>user\n{text}<|im_end|>\n"
    found = pieces(sample_of(tokenizer, text), tokenizer)
    assert "".join(piece.text for piece in found) == text
    assert [piece.text for piece in found if piece.special] == ["<|im_start|>", "<|im_end|>"]


def test_bytes_of_a_character_are_told_with_the_character(tmp_path: Path) -> None:
    tokenizer = Tokenizer(byte_level(tmp_path))
    found = pieces(sample_of(tokenizer, "a好b"), tokenizer)
    assert [(piece.text, piece.raw) for piece in found] == [
        ("a", b""), ("", b"\xe5"), ("", b"\xa5"), ("好", b"\xbd"), ("b", b""),
    ]  # fmt: skip
    shown = [(unit.start, unit.text) for unit in units(found, 99)]
    assert shown == [(0, "a"), (1, "好₃"), (4, "b")]
    cut = [unit.text for unit in units(found, 3)]
    assert cut == ["a", "<e5>", "<a5>", "<bd>好", "b"], "a cut inside a character is shown"


def test_sentencepiece_spaces_and_lone_bytes(tmp_path: Path) -> None:
    tokenizer = Tokenizer(sentencepiece_like(tmp_path))
    found = pieces(sample_of(tokenizer, "我 hi€"), tokenizer)
    assert [piece.text for piece in found] == ["我", " hi", "", "", "€"]
    assert [piece.raw for piece in found][2:] == [b"\xe2", b"\x82", b"\xac"]
    assert token_bytes("▁hi", byte_level=False) == b" hi"


def test_learned_tokens_are_those_of_the_labels(tmp_path: Path) -> None:
    tokenizer = Tokenizer(byte_level(tmp_path))
    found = pieces(sample_of(tokenizer, "abcdef", learned_from=4), tokenizer)
    assert [piece.learned for piece in found] == [False] * 4 + [True] * 2
    assert [unit.learned for unit in units(found, 99)] == [False] * 4 + [True] * 2


def test_white_space_is_visible() -> None:
    assert visible(Piece(1, "a\tb\r\n")).text == "a⇥b␍⏎\n"
    assert visible(Piece(1, "\x1b[1m\u200b")).text == "‹001b›[1m‹200b›"
    assert visible(Piece(1, " 你")).text == " 你"


@pytest.mark.parametrize(
    ("sizes", "count", "wanted"),
    [([5, 1, 9, 3, 7], 3, [1, 0, 2]), ([4], 3, [0]), ([2, 1], 3, [1, 0]), ([], 3, [])],
)
def test_rows_to_show_are_the_shortest_the_median_and_the_longest(
    sizes: list[int], count: int, wanted: list[int]
) -> None:
    assert spread(sizes, count) == wanted


class _Texts(HTMLParser):
    """The text inside <b>, the tags, and the attributes of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.shown, self.ids = "", []  # type: ignore[var-annotated]
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._inside = tag == "b"
        self.ids += [value for name, value in attrs if name == "data-id"]

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        self.shown += data * self._inside


def test_the_page_escapes_every_text_and_needs_nothing_else(tmp_path: Path) -> None:
    tokenizer = Tokenizer(byte_level(tmp_path))
    text = '<script>alert(\'"&好")</script>'
    found = pieces(sample_of(tokenizer, text, learned_from=5), tokenizer)
    html = page([Shown("<i>.jsonl:1", found, 8)], "zh", about='"<m>&')
    reader = _Texts()
    reader.feed(html)
    assert reader.tags <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "span", "b",
        "section", "div",
    }  # fmt: skip
    assert text.replace("好", "‹e5›‹a5›好") in reader.shown
    assert len(reader.ids) == len(found)
    assert "a5" in reader.ids[text.index("好") + 1]  # type: ignore[operator]
    assert not re.search(r"\b(src|href)=|url\(|@import|https?:", html)
    assert html.count('class="l') + html.count('class="past') >= len(found) - 5
    assert 'lang="zh-CN"' in html
    assert "cutoff_len 8 到此为止" in html
