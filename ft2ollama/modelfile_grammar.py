"""Ollama's Modelfile language: how a value is written, and what Ollama's reader makes of a text.

The language has no escapes (ollama parser/parser.go). A value is bare up to the end of its line, or
stands in `"` or in triple quotes; a quoted value ends at the first end of a line at which the text
so far ends in those quotes. Characters that Go's strconv.IsPrint refuses vanish without a word,
U+3000, U+00A0 and U+200D among them. So there is one safe way to write a value: try the spellings
and keep the first that reads back as it was.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ft2ollama.errors import UsageError

COMMANDS = (
    "from", "template", "system", "parameter", "message", "license", "adapter",
    "renderer", "parser", "requires",
)  # fmt: skip
ROLES = ("system", "user", "assistant")
_LINE_ENDS = "\n\r"
_BLANKS = " \t"


@dataclass(frozen=True)
class Command:
    """name: lower case, of PARAMETER and MESSAGE the parameter or role after a blank."""

    name: str
    value: str


def parse_modelfile(text: str) -> list[Command]:
    """The commands of a Modelfile as Ollama reads them; UsageError with the line number."""
    reader = _Reader(text.removeprefix("\ufeff"))
    found = list(reader.commands())
    if not any(command.name == "from" for command in found):
        raise UsageError("the Modelfile has no FROM line", "Ollama needs one", "FROM ./model.gguf")
    return found


def spell_value(command: str, value: str) -> str:
    """`value` as it must stand after `command` to be read back; UsageError when nothing does.

    Characters that Ollama drops are no obstacle here: `dropped_characters` tells them.
    """
    wanted = "".join(char for char in value if is_kept(char))
    for spelling in (value, f'"{value}"', f'"""{value}"""'):
        try:
            if [one.value for one in _Reader(f"SYSTEM {spelling}\n").commands()] == [wanted]:
                return spelling
        except UsageError:
            continue
    raise UsageError(
        f"{command}: a Modelfile cannot carry this text",
        'it has no escapes, and a line of the text ends with """',
        f"change the end of that line: {_bad_line(value)!r}; or publish, which needs no Modelfile",
    )


def is_kept(char: str) -> bool:
    """Does Ollama's reader keep the character inside a value?

    Go's unicode.IsPrint: letters, marks, numbers, punctuation, symbols and the ASCII space.
    """
    return char in _BLANKS or char in _LINE_ENDS or unicodedata.category(char)[0] not in "ZC"


def dropped_characters(text: str) -> list[str]:
    """Characters that Ollama's Modelfile reader silently drops, as U+XXXX."""
    return sorted({f"U+{ord(char):04X}" for char in text if not is_kept(char)})


class _Reader:
    """Reads commands one after the other.  at: the position; line: for errors."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def commands(self) -> Iterator[Command]:
        """Every command, comments and blank lines left out."""
        while self._skip_blank():
            name = self._name()
            if name in ("parameter", "message"):
                name = f"{name} {self._word(name)}"
            yield Command(name, self._value())

    def _skip_blank(self) -> bool:
        """Move to the next command; False at the end of the file."""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "#":
                while self._at < len(self._text) and self._text[self._at] not in _LINE_ENDS:
                    self._at += 1
            elif char not in _BLANKS + _LINE_ENDS:
                return True
            else:
                self._at += 1
        return False

    def _name(self) -> str:
        name = self._letters(lambda char: char.isascii() and char.isalpha()).lower()
        if name not in COMMANDS or self._peek() not in _BLANKS:
            known = ", ".join(COMMANDS).upper()
            raise self._error(f"{self._line_text()!r} begins with no command: {known}")
        self._at += 1
        return name

    def _word(self, command: str) -> str:
        """The parameter's name or the message's role."""
        while self._peek() and self._peek() in _BLANKS:
            self._at += 1
        word = self._letters(lambda char: char.isascii() and (char.isalnum() or char == "_"))
        if not word or self._peek() not in _BLANKS:
            raise self._error(f"{command.upper()} needs a name and a value")
        if command == "message" and word not in ROLES:
            raise self._error(f"{word!r} is no role: {', '.join(ROLES)}")
        self._at += 1
        return word

    def _letters(self, fits: Callable[[str], bool]) -> str:
        begin = self._at
        while self._at < len(self._text) and fits(self._text[self._at]):
            self._at += 1
        return self._text[begin : self._at]

    def _peek(self) -> str:
        """The next character; a NUL, which fits nowhere, at the end of the file."""
        return self._text[self._at] if self._at < len(self._text) else "\0"

    def _value(self) -> str:
        begin = self._at
        for place in range(begin, len(self._text) + 1):
            if place < len(self._text) and self._text[place] not in _LINE_ENDS:
                continue
            kept = "".join(char for char in self._text[begin:place] if is_kept(char))
            if (value := _unquoted(kept.strip(_BLANKS + _LINE_ENDS))) is not None:
                self._at = place
                return value
        raise self._error("a quotation mark is opened and never closed at the end of a line")

    def _line_text(self) -> str:
        begin = max(self._text.rfind(end, 0, self._at) for end in _LINE_ENDS) + 1
        return self._text[begin:].splitlines()[0][:60]

    def _error(self, why: str) -> UsageError:
        line = self._text.count("\n", 0, self._at) + 1
        return UsageError(f"Modelfile:{line}: Ollama cannot read this line", why, "mend that line")


def _unquoted(text: str) -> str | None:
    """The value of a trimmed text; None while its closing quotes are missing."""
    for quotes in ('"""', '"'):
        if text.startswith(quotes):
            closed = len(text) >= 2 * len(quotes) and text.endswith(quotes)
            return text[len(quotes) : -len(quotes)] if closed else None
    return text


def _bad_line(value: str) -> str:
    lines = [line for line in value.splitlines() if line.rstrip().endswith('"')]
    return lines[0][-40:] if lines else value[:40]
