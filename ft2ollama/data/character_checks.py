"""Characters that do not belong into a training text: what broke between the author and the file.

In: the text of one turn.  Out: (code, values) of every finding; the codes are in texts_checks.py.

A wrong decoding leaves traces that can be undone, and that is the test: a run of letters counts as
mojibake only when encoding it back and reading it as UTF-8 gives readable text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

Finding = tuple[str, dict[str, Any]]

# A form feed stands in many licence texts and does no harm. Joiners (200c, 200d) shape scripts and
# emoji; a zero-width space separates words in the scripts from Thai to Khmer.
_ODD = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u2060\ufeff\u202a-\u202e\u2066-\u2069"
    "\ue000-\uf8ff\ufffd]|(?<![\u0e00-\u17ff])\u200b"
)
_KINDS = {
    "Cc": "control-character",
    "Cf": "invisible-character",
    "Co": "private-character",
    "So": "replacement-character",
}
# UTF-8 read as Latin-1 or Windows-1252: a lead byte and a continuation byte, as letters.
_CP1252 = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_WESTERN = re.compile(f"[\xc2-\xf4][\x80-\xbf{_CP1252}]+(?:[\xc2-\xf4][\x80-\xbf{_CP1252}]+)*")
# UTF-8 read as GBK: letters that begin the common syllables (的 是 你 我 了 不 ， 。) and are rare
# otherwise; 锟斤拷 is U+FFFD itself, read as GBK; 烫 and 屯 are unset memory.
_GBK = re.compile("[涓锛鐨銆鍙澶鏈瀹鍦鍒杩浣鍔鍚缁骞鏂鏄浼璁鐢鎴鏃鍐鏀璇鍖鎶鍜鎵鑰鎬淇浜闂绗]")
_GBK_RUN = re.compile("[\u3400-\u9fff\u3040-\u30ff\ue000-\uf8ff\ufffd€]{3,}")
_GBK_TRACES = re.compile("锟斤拷|烫烫烫|屯屯屯")
_ENTITY = re.compile(r"&(?:nbsp|amp|lt|gt|quot|#39|#x27|#\d{2,5});")
_BREAK = re.compile(r"(?<!\\)\\n")


def check_characters(text: str) -> Iterator[Finding]:
    """Findings in any turn's text."""
    pair = None if text.isascii() else _mojibake(text)
    if pair:
        yield "mojibake", {"text": pair[0], "meant": pair[1]}
    kinds: dict[str, list[str]] = {}
    for char in _ODD.findall(text):
        if not pair or char < "\x80":  # the others are part of the wrong decoding
            kinds.setdefault(_KINDS[unicodedata.category(char)], []).append(char)
    for code, chars in kinds.items():
        yield code, {"char": _name(chars[0]), "count": len(chars), "near": near(text, chars[0])}
    yield from _markup(text)


def near(text: str, part: str, width: int = 14) -> str:
    """`part` with some characters on either side, in one readable line."""
    at = text.index(part)
    low, high = max(0, at - width), at + len(part) + width
    cut = text[low:high].encode("utf-8", "backslashreplace").decode()
    line = "".join(char if char.isprintable() else _escape(char) for char in cut)
    return f"{'…' * (low > 0)}{line}{'…' * (high < len(text))}"


def _markup(text: str) -> Iterator[Finding]:
    """Escapes that a reader of the file should have resolved."""
    if "&" in text and "`" not in text and (entities := _ENTITY.findall(text)):
        yield "html-entity", {"text": near(text, entities[0]), "count": len(entities)}
    if "\\n" in text and "\n" not in text and not re.search(r"[`\"'/{}=]", text):
        count = len(_BREAK.findall(text))
        if count:
            yield "escaped-newline", {"text": near(text, "\\n"), "count": count}


def _mojibake(text: str) -> tuple[str, str] | None:
    """(what stands there, what was meant), or None."""
    if trace := _GBK_TRACES.search(text):
        return near(text, trace[0]), "?"
    for run in _WESTERN.finditer(text):
        meant = _western(run[0])
        if meant:
            return run[0][:40], meant[:40]
    for run in _GBK_RUN.finditer(text) if _GBK.search(text) else ():
        meant = _gbk(run[0])
        if meant:
            return run[0][:40], meant[:40]
    return None


def _western(run: str) -> str:
    """The UTF-8 text behind Latin-1 or Windows-1252 letters, or ""."""
    codes = [ord(char) if ord(char) < 256 else char.encode("cp1252")[0] for char in run]
    try:
        return bytes(codes).decode()
    except UnicodeDecodeError:
        return ""


def _gbk(run: str) -> str:
    """The Chinese behind GBK letters, or "": nearly all bytes must be UTF-8 of Chinese letters."""
    data = re.sub("[€\ufffd]", "", run).encode("gb18030", "ignore")
    meant = data.decode("utf-8", "ignore")
    chinese = sum("\u3000" <= char <= "\u9fff" or char > "\uff00" for char in meant)
    return meant if 3 * chinese >= 0.8 * len(data) and chinese >= 2 else ""


def _name(char: str) -> str:
    name = unicodedata.name(char, "").lower()
    return f"U+{ord(char):04X}{f' ({name})' * bool(name)}"


def _escape(char: str) -> str:
    return "⏎" if char == "\n" else f"\\u{ord(char):04x}"
