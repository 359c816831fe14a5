"""Text of a Go template -> a tree of nodes (the subset of text/template that chats need).

In: the template's text. Out: nested tuples of nodes, one list per `define`. Written from the
documentation of Go's text/template: trim markers, actions, pipelines without `|`, variables,
`define`, `range` over lists and maps, `break` and `continue`. What is not of the subset is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from ft2ollama.errors import UsageError

_ACTION = re.compile(
    r"\{\{(-\s)?\s*(/\*.*?\*/|(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`}]|\}(?!\}))*?)\s*(\s-)?\}\}",
    re.S,
)
_TOKEN = re.compile(
    r"\s*(?:(?P<string>\"(?:\\.|[^\"\\])*\"|`[^`]*`)|(?P<number>-?\d+)|(?P<assign>:=|=)"
    r"|(?P<mark>[(),|])|(?P<word>\$?[A-Za-z_]\w*(?:\.\w+)*|\$(?:\.\w+)*|\.(?:\w+(?:\.\w+)*)?))"
)
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Text:
    """Characters as they are."""

    text: str


@dataclass(frozen=True)
class Call:
    """An operand or a function with its arguments: a constant, `.A.B`, `$x.A`, or a name."""

    head: str
    value: str | int | bool | None = None
    args: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Action:
    """Prints `pipe`, or declares (`:=`) or sets (`=`) variables. names: without the `$`."""

    pipe: Call
    names: tuple[str, ...] = ()
    declares: bool = False


@dataclass
class Branch:
    """if, with or range. other: the `else` list."""

    kind: str
    head: Action
    body: list[Node] = field(default_factory=list)
    other: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Include:
    """`{{ template "name" pipe }}`."""

    name: str
    pipe: Call


@dataclass(frozen=True)
class Jump:
    """break or continue."""

    kind: str


Node: TypeAlias = "Text | Action | Branch | Include | Jump"


def parse(source: str) -> dict[str, list[Node]]:
    """The node lists by template name; "" is the main one. UsageError names what is not known."""
    parser = _Parser()
    for piece in _pieces(source):
        if isinstance(piece, Text):
            parser.current.append(piece)
        else:
            parser.action(piece)
    if parser.stack:
        raise UsageError("a Go template lacks an {{ end }}", source[-200:])
    return parser.templates


class _Parser:
    """current: the list that nodes go to.  stack: the lists around it, each with its branch."""

    def __init__(self) -> None:
        self.current: list[Node] = []
        self.templates = {"": self.current}
        self.stack: list[tuple[list[Node], Branch | None]] = []

    def action(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word in ("if", "range", "with"):
            self.open(word, rest)
        elif word == "define":
            self.stack.append((self.current, None))
            name = str(_Reader(rest).operand().value)
            self.current = self.templates.setdefault(name, [])
        elif word in ("else", "end") and not self.stack:
            raise _refusal(text)
        elif word == "else":
            self.otherwise(rest.strip())
        elif word == "end":
            self.current = self.stack.pop()[0]
        elif word in ("break", "continue"):
            self.current.append(Jump(word))
        elif word == "template":
            reader = _Reader(rest)
            self.current.append(Include(str(reader.operand().value), reader.pipeline()))
        else:
            self.current.append(_action(text))

    def open(self, word: str, rest: str) -> None:
        branch = Branch(word, _action(rest))
        self.current.append(branch)
        self.stack.append((self.current, branch))
        self.current = branch.body

    def otherwise(self, rest: str) -> None:
        """`else`, or `else if`: a branch inside the else list, with no end of its own."""
        outer, branch = self.stack.pop()
        if branch is None:
            raise _refusal("else")
        self.current = branch.other
        if rest:
            word, _, condition = rest.partition(" ")
            self.open(word, condition)
            self.stack[-1] = (outer, self.stack[-1][1])
        else:
            self.stack.append((outer, branch))


def _pieces(source: str) -> list[Text | str]:
    """Texts (trimmed as the markers say) and the insides of actions, comments left out."""
    pieces: list[Text | str] = []
    place, trim = 0, False
    for found in _ACTION.finditer(source):
        text = source[place : found.start()]
        text = text.lstrip(_SPACE) if trim else text
        text = text.rstrip(_SPACE) if found[1] else text
        if text:
            pieces.append(Text(text))
        if not found[2].startswith("/*"):
            pieces.append(found[2].strip())
        place, trim = found.end(), bool(found[3])
    tail = source[place:]
    if "{{" in tail:
        raise _refusal(tail[:80])
    tail = tail.lstrip(_SPACE) if trim else tail
    return [*pieces, Text(tail)] if tail else pieces


def _action(text: str) -> Action:
    reader = _Reader(text)
    names: list[str] = []
    mark = reader.place
    while (word := reader.take("word")) and word.startswith("$") and "." not in word:
        names.append(word[1:])
        if reader.take("mark", ","):
            continue
        if sign := reader.take("assign"):
            return Action(reader.pipeline(), tuple(names), sign == ":=")
        break
    reader.place = mark
    return Action(reader.pipeline())


class _Reader:
    """The tokens of one action."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0

    def take(self, kind: str, value: str | None = None) -> str | None:
        found = _TOKEN.match(self.text, self.place)
        if not found or found.lastgroup != kind or (value and found[kind] != value):
            return None
        self.place = found.end()
        return found[kind]

    def pipeline(self) -> Call:
        """A function with its operands, or one operand, up to the end of the text or `)`."""
        first = self.operand()
        args = []
        while self.text[self.place :].strip() and not _at(self, ")"):
            args.append(self.operand())
        if not args:
            return first
        if first.head in ("const", "field") or first.head.startswith("$"):
            raise _refusal(self.text)
        return Call(first.head, first.value, tuple(args))

    def operand(self) -> Call:
        if self.take("mark", "("):
            inner = self.pipeline()
            if not self.take("mark", ")"):
                raise _refusal(self.text)
            return inner
        if (text := self.take("string")) is not None:
            return Call("const", unquote(text))
        if (number := self.take("number")) is not None:
            return Call("const", int(number))
        if (word := self.take("word")) is None:
            raise _refusal(self.text)
        if word in ("true", "false"):
            return Call("const", word == "true")
        if word.startswith("."):
            return Call("field", word[1:])
        if word.startswith("$"):
            name, _, path = word[1:].partition(".")
            return Call(f"${name}", path)
        return Call(word)


def _at(reader: _Reader, mark: str) -> bool:
    return reader.text[reader.place :].lstrip().startswith(mark)


def unquote(text: str) -> str:
    """The string that a Go string literal, quoted or raw, stands for."""
    if text.startswith("`"):
        return text[1:-1]
    known = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "v": "\v", "f": "\f"}
    known |= {"a": "\a", "b": "\b"}

    def char(found: re.Match[str]) -> str:
        if found[1]:
            return bytes([int(found[1], 16)]).decode("utf-8", "surrogateescape")
        if found[2] or found[3]:
            return chr(int(found[2] or found[3], 16))
        if found[4] not in known:
            raise _refusal(text)
        return known[found[4]]

    found = re.sub(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U000([0-9a-f]{5})|(.))", char, text[1:-1])
    return found.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _refusal(text: str) -> UsageError:
    return UsageError("not of the Go template subset that is known here", text)
