"""A Go template and its data -> text, as Go's text/template executes it.

Here so that a template can be compared with the model's Jinja on machines without Ollama; a real
server has the last word (publish proves every prompt there, and the tests compare this engine with
one). Strings are Go's: `len` and `slice` count UTF-8 bytes, and half a character may stand alone,
which Python's `surrogateescape` carries.

Data: dicts for structs and maps, lists, strings, numbers, bools, None. A struct is a `Struct`, so
that an unknown field is an error as in Go; `{{ json }}` writes compact JSON and escapes < > & as
encoding/json does.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate.lexer import Action, Branch, Call, Include, Jump, Node, Text, parse

_DEPTH = 200  # recursion of templates; Go allows 100000, Python's stack does not


class Struct(dict[str, Any]):
    """A Go struct: field name -> value; reading another name fails. kind: what %T prints."""

    kind = "struct"


class Strings(list[str]):
    """A Go []string; %T tells it from []interface {}."""


class _Jumped(Exception):
    def __init__(self, kind: str) -> None:
        self.kind = kind


def execute(templates: Mapping[str, Sequence[Node]], data: Any) -> str:
    """The text of the main template."""
    run = _Run(templates)
    run.walk(templates[""], data, [{"": data}])
    return _text(b"".join(run.out))


def render(source: str, data: Any) -> str:
    """Parse and execute."""
    return execute(parse(source), data)


class _Run:
    """One execution. scopes: variables, innermost last."""

    def __init__(self, templates: Mapping[str, Sequence[Node]]) -> None:
        self.templates, self.out, self.depth = templates, list[bytes](), 0

    def walk(self, nodes: Sequence[Node], dot: Any, scopes: list[dict[str, Any]]) -> None:
        for node in nodes:
            if isinstance(node, Text):
                self.out.append(_bytes(node.text))
            elif isinstance(node, Action):
                value = self.value(node.pipe, dot, scopes)
                if not node.names:
                    self.out.append(_bytes(_printed(value)))
                else:
                    _assign(node, value, scopes)
            elif isinstance(node, Branch):
                self.branch(node, dot, scopes)
            elif isinstance(node, Include):
                self.include(node, dot, scopes)
            elif isinstance(node, Jump):
                raise _Jumped(node.kind)

    def include(self, node: Include, dot: Any, scopes: list[dict[str, Any]]) -> None:
        if node.name not in self.templates:
            raise UsageError(f"the Go template has no define {node.name!r}")
        self.depth += 1
        if self.depth > _DEPTH:
            raise UsageError("the Go template calls itself too deeply", f"define {node.name!r}")
        inner = self.value(node.pipe, dot, scopes)
        self.walk(self.templates[node.name], inner, [{"": inner}])
        self.depth -= 1

    def branch(self, node: Branch, dot: Any, scopes: list[dict[str, Any]]) -> None:
        inner = [*scopes, {}]
        value = self.value(node.head.pipe, dot, scopes)
        if node.kind == "range":
            self.loop(node, value, dot, inner)
            return
        if node.head.names:
            _assign(node.head, value, inner)
        if _true(value):
            self.walk(node.body, value if node.kind == "with" else dot, inner)
        else:
            self.walk(node.other, dot, inner)

    def loop(self, node: Branch, value: Any, dot: Any, scopes: list[dict[str, Any]]) -> None:
        items = _items(value)
        if not items:
            self.walk(node.other, dot, scopes)
        for key, item in items:
            names, one = node.head.names, dict[str, Any]()
            if len(names) == 2:
                one = {names[0]: key, names[1]: item}
            elif names:
                one = {names[0]: item}
            try:
                self.walk(node.body, item, [*scopes, one])
            except _Jumped as jump:
                if jump.kind == "break":
                    break

    def value(self, call: Call, dot: Any, scopes: list[dict[str, Any]]) -> Any:
        if call.head == "const":
            return call.value
        if call.head == "field":
            return _path(dot, str(call.value))
        if call.head.startswith("$"):
            return _path(_variable(call.head[1:], scopes), str(call.value or ""))
        if call.head in ("and", "or"):
            value: Any = None
            for arg in call.args:
                value = self.value(arg, dot, scopes)
                if _true(value) == (call.head == "or"):
                    break
            return value
        if call.head not in _FUNCTIONS:
            raise UsageError(f"the Go template calls an unknown function {call.head!r}")
        return _FUNCTIONS[call.head](*(self.value(arg, dot, scopes) for arg in call.args))


def _assign(node: Action, value: Any, scopes: list[dict[str, Any]]) -> None:
    (name,) = node.names
    if node.declares:
        scopes[-1][name] = value
        return
    for scope in reversed(scopes):
        if name in scope:
            scope[name] = value
            return
    raise UsageError(f"the Go template sets an undeclared variable ${name}")


def _variable(name: str, scopes: list[dict[str, Any]]) -> Any:
    for scope in reversed(scopes):
        if name in scope:
            return scope[name]
    raise UsageError(f"the Go template reads an undeclared variable ${name}")


def _path(value: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        if isinstance(value, Struct) and name not in value:
            raise UsageError(f"the Go template reads .{name}, which {value.kind} has not")
        if not isinstance(value, dict):
            raise UsageError(f"the Go template reads .{name} of {type(value).__name__}")
        value = value.get(name)
    return value


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, list):
        return list(enumerate(value))
    if value is None:
        return []
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    raise UsageError(f"the Go template ranges over {type(value).__name__}")


def _true(value: Any) -> bool:
    return isinstance(value, Struct) or bool(value)


def _printed(value: Any) -> str:
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return _number(value) if isinstance(value, float) else str(value)
    raise UsageError(f"the Go template prints a whole {type(value).__name__}")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def to_json(value: Any) -> str:
    """Go's encoding/json: compact, keys sorted in maps, < > & and U+2028/9 escaped."""
    text = json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), sort_keys=not isinstance(value, Struct)
    )
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _slice(value: Any, low: int = 0, high: int | None = None) -> Any:
    if not isinstance(value, str):
        return value[low:high]
    raw = _bytes(value)
    if not 0 <= low <= (len(raw) if high is None else high) <= len(raw):
        raise UsageError("the Go template slices beyond the end of a string")
    return _text(raw[low:high])


def _printf(form: str, value: Any) -> str:
    if form == "%T":
        return _type(value)
    if form == "%q":
        return _quoted(str(value))
    raise UsageError(f"the Go template prints with {form!r}, which is not known here")


def _quoted(text: str) -> str:
    """Go's strconv.Quote: what IsPrint refuses is escaped."""
    short = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}
    short |= {'"': '"', "\\": "\\"}

    def char(one: str) -> str:
        if one in short:
            return "\\" + short[one]
        if one == " " or unicodedata.category(one)[0] not in "ZC":
            return one
        code = ord(one)
        if 0xDC80 <= code <= 0xDCFF:  # half a character
            return f"\\x{code - 0xDC00:02x}"
        if code < 0x80:
            return f"\\x{code:02x}"
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return '"' + "".join(map(char, text)) + '"'


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    kinds = [(str, "string"), (float, "float64"), (int, "float64"), (Strings, "[]string")]
    kinds += [(list, "[]interface {}"), (Struct, "struct"), (dict, "map[string]interface {}")]
    return next((name for kind, name in kinds if isinstance(value, kind)), "<nil>")


def _length(value: Any) -> int:
    return len(_bytes(value)) if isinstance(value, str) else len(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = _bytes(value)[key] if isinstance(value, str) else value[key]
    return value


def _key(value: Any) -> Any:
    return _bytes(value) if isinstance(value, str) else value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: _key(a) < _key(b),
    "le": lambda a, b: _key(a) <= _key(b),
    "gt": lambda a, b: _key(a) > _key(b),
    "ge": lambda a, b: _key(a) >= _key(b),
    "not": lambda value: not _true(value),
    "len": _length,
    "slice": _slice,
    "index": _index,
    "json": to_json,
    "printf": _printf,
    "print": lambda *values: "".join(map(_printed, values)),
}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
