"""Which encoding a text file has, and what to type when it is none that can be read for certain.

UTF-8, with or without a byte order mark, and UTF-16 or UTF-32 with one are certain. Bytes that
are no UTF-8 may be GB18030 (Chinese Windows, Excel's CSV), but many other texts can be read as
GB18030 too, as nonsense: therefore the user converts the file, with the command that is named.
"""

from __future__ import annotations

import codecs
import shlex
from pathlib import Path
from typing import Any

from ft2ollama.data.problems import BadFile

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD = 4096


def encoding_of(path: Path) -> str:
    """The encoding that the first bytes prove; UTF-8 else. Raises BadFile for UTF-16 unmarked."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is None and b"\x00" in head:
        name = "UTF-16LE" if head[1::2].count(0) >= head[::2].count(0) else "UTF-16BE"
        raise _convert("file-utf16", path, 1, name)
    return marked or "utf-8-sig"


def not_readable(path: Path) -> BadFile:
    """The error for a file that is not in the encoding it began with."""
    data = path.read_bytes()
    try:
        data.decode(encoding_of(path))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = error.start
    if _is_chinese(data):
        return _convert("file-gb18030", path, line, "GB18030")
    return _convert("file-not-utf8", path, line, "WINDOWS-1252", byte=f"0x{data[start]:02X}")


def _is_chinese(data: bytes) -> bool:
    """Whether GB18030 gives mostly common Chinese characters beyond ASCII."""
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    beyond = [character for character in text if ord(character) > 127]
    common = sum(
        "\u4e00" <= character <= "\u9fff" or character in "，。！？、：；（）“”"
        for character in beyond
    )
    return bool(beyond) and common >= 0.8 * len(beyond)


def _convert(code: str, path: Path, line: int, encoding: str, **values: Any) -> BadFile:
    target = path.with_name(f"{path.stem}.utf8{path.suffix}")
    command = f"iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(target))}"
    return BadFile(code, f"{path}:{line}", encoding=encoding, command=command, **values)
