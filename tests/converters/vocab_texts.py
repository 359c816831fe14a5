"""Fragments of text on which tokenizers differ, and strategies that mix them."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

_LATIN = "Hello world don't I'LL we'Ve 'RE 's CamelCase snake_case XMLHttp é É Straße naïve a B z Z"
_CASED = "ПриветМир СССР ελληνικά ΑΒΓδ İstanbul ǅ"
_EAST = "你好 世界 中文混合 ， 。 ！ こんにちは カタカナ ー 日本語 한국어 조선말"
_RIGHT = "العربية مرحبا ١٢٣ עברית"
_MARKED = "हिन्दी क्षि ไทย ภาษา ขึ้น שָׁלוֹם e\u0301 \u0301 \ufe0f ❤️"
_EMOJI = "👋🏽 👨‍👩‍👧‍👦 🇪🇺 ✅ 🚀"
_DIGITS = "1 12 123 1234 12345678 3.14 １２３ ½ ² Ⅷ"
_SIGNS = (
    """!!! ??? ... --- ' '' " ` ``` # $ % ^ | ~ _ __ — … « » “q” ¿ § € ₹ ™ ° / // \\n C:\\path"""
)
_CODE = ["def f(x):\n    return x**2\n", "/* c */", "// d\n", "x=y+z;", "{}[]()", "<html>", "&amp;"]
_SPACES = [" ", "  ", "   ", "     ", "\n", "\n\n", "\n\n\n", "\r\n", "\t", "\t\t", " \n", "\n "]
_SPACES += ["\u00a0", "\u3000", "\u200b", "\u2028"]

FRAGMENTS = " ".join((_LATIN, _CASED, _EAST, _RIGHT, _MARKED, _EMOJI, _DIGITS, _SIGNS)).split(" ")
FRAGMENTS += _CODE + _SPACES


def texts(*special: str) -> st.SearchStrategy[str]:
    """Up to 12 fragments in a row, with these special tokens among them."""
    pool = st.sampled_from([*FRAGMENTS, *special * 3])
    return st.lists(pool, max_size=12).map("".join)


def composed(text: str) -> str:
    """NFC, which llama.cpp leaves out."""
    return unicodedata.normalize("NFC", text)


def plain(text: str) -> str:
    """Without combining marks, and without letters of other alphabets that have a case."""
    kinds = {char: unicodedata.category(char) for char in text}
    cased = ("Lu", "Ll", "Lt")
    return "".join(
        char
        for char in text
        if not kinds[char].startswith("M") and (char.isascii() or kinds[char] not in cased)
    )


def no_wide_space(text: str) -> str:
    """Without white space beyond ASCII."""
    return "".join(char for char in text if char.isascii() or not char.isspace())
