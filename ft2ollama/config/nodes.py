"""YAML or JSON text -> keys and values that know their line and column; and values -> YAML.

PyYAML's `compose` is used instead of `load`: nodes keep their marks, duplicate keys stay visible,
and no tag can build an object. Scalars follow one set of patterns, between YAML 1.1 and 1.2: yes
and no are switches (as in LLaMA-Factory's files), `1e-4` is a number (YAML 1.1 calls it text),
dates and `12:30` stay text. JSON is read by the same code, since it is YAML but for its tabs and
its surrogate pairs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_PATTERNS = (  # kind, whole text, first characters (PyYAML looks a scalar up by its first one)
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO", list("tTfFyYnN")),
    ("bool", r"on|On|ON|off|Off|OFF", list("oO")),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?",
        list("-+.0123456789"),
    ),
)
_TRUE = frozenset({"true", "yes", "on"})
_MOST_VALUES = 10_000  # a config has some dozens; more is an alias that multiplies itself


class _Loader(yaml.SafeLoader):
    """SafeLoader with the patterns above in place of its own."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  PyYAML's way to set them


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes what only `_Loader` would take for a number or a switch."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """In double quotes where PyYAML would write a Unicode line break as it is, and fold it."""
        style = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar(_TAG + "str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)
for _kind, _pattern, _first in _PATTERNS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), _first)


class Malformed(Exception):
    """The text is not YAML, or not the YAML of a config."""

    def __init__(self, text: str, line: int = 0, column: int = 0) -> None:
        super().__init__(text)
        self.text = text
        self.line = line
        self.column = column


@dataclass(frozen=True)
class Entry:
    """One `key: value`. line, column: of the key, from 1."""

    key: str
    line: int
    column: int
    node: yaml.Node

    def value(self, *, as_text: bool = False) -> Any:
        """The plain value. as_text: 007, no and 1e5 stay as they were written."""
        try:
            return _plain(self.node, as_text=as_text, left=[_MOST_VALUES])
        except RecursionError:  # a: &x [*x]
            line, column = _position(self.node.start_mark)
            raise Malformed("an alias (*name) holds itself", line, column) from None

    def position(self, path: Sequence[str | int]) -> tuple[int, int]:
        """Line and column of the value, or of the item that `path` leads to."""
        node = self.node
        for step in path:
            node = _child(node, step)
        return _position(node.start_mark)


def compose(text: str, *, json: bool = False) -> yaml.Node | None:
    """The only document of `text` as a node, None when there is none; raises Malformed."""
    if json:
        text = text.replace("\t", " ")  # only between values: JSON text writes a tab as \t
    loader = None
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line, column = _place_of(text, error.position)
        raise Malformed(
            f"character U+{int(error.character):04X} cannot be in a text file", line, column
        ) from None
    except yaml.MarkedYAMLError as error:
        raise _malformed(error, text) from None
    except RecursionError:
        raise Malformed("lists or mappings are nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()
    nothing = isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"
    return None if nothing else node


def entries(node: yaml.Node) -> list[Entry]:
    """The pairs of the top mapping, in the order of the text; raises Malformed."""
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else f"the text {_cut(node.value)}"
        raise Malformed(f"must be lines of 'key: value', not {found}", *_position(node.start_mark))
    pairs = []
    for key, value in node.value:
        line, column = _position(key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            raise Malformed("a key must be a plain word", line, column)
        pairs.append(Entry(key.value, line, column, value))
    return pairs


def dump(values: dict[str, Any]) -> str:
    """YAML lines that `compose` reads back as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1)


def _position(mark: yaml.Mark | Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _place_of(text: str, index: int) -> tuple[int, int]:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _child(node: yaml.Node, step: str | int) -> yaml.Node:
    """The item or the value of a key; the node itself where there is none (`a, b` as text)."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item: yaml.Node = node.value[step]
        return item
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value == step:
                found: yaml.Node = value
                return found
    return node


def _plain(node: yaml.Node, *, as_text: bool, left: list[int]) -> Any:
    """A node as a Python value. left: how many more values may be made."""
    left[0] -= 1
    if left[0] < 0:
        raise Malformed("its aliases (*name) make too many values", *_position(node.start_mark))
    if not node.tag.startswith(_TAG) or node.tag[len(_TAG) :] not in _READ:
        tag = node.tag.replace(_TAG, "!!")
        raise Malformed(f"the tag {tag} has no meaning here", *_position(node.start_mark))
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, as_text=as_text)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, as_text=as_text, left=left) for item in node.value]
    result = {}
    for key, value in node.value:
        name = _plain(key, as_text=True, left=left)
        if not isinstance(name, str) or name in result:
            why = "given twice" if isinstance(name, str) else "a key must be a plain word"
            text = f"{name}: {why}" if isinstance(name, str) else why
            raise Malformed(text, *_position(key.start_mark))
        result[name] = _plain(value, as_text=as_text, left=left)
    return result


_READ = frozenset({"null", "bool", "int", "float", "str", "seq", "map"})


def _scalar(node: yaml.ScalarNode, *, as_text: bool) -> Any:
    """null, a switch, a number or text."""
    text, kind = str(node.value), node.tag[len(_TAG) :]
    if kind == "null":
        return None
    if kind == "str" or as_text:
        return _join_surrogates(text)
    try:
        if kind == "bool":
            return text.lower() in _TRUE
        number = text.replace("_", "")
        return int(number) if kind == "int" else float(number)
    except ValueError:  # `!!int abc`, or a number of thousands of digits
        return text


def _join_surrogates(text: str) -> str:
    r"""JSON writes an emoji as \ud83d\ude00; YAML reads that as two halves of a character."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return text.encode("utf-8", "replace").decode()


def _malformed(error: yaml.MarkedYAMLError, text: str) -> Malformed:
    """PyYAML's error in the words of somebody who writes a config."""
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context)
    if problem == "could not find expected ':'" and error.context_mark:
        mark = error.context_mark  # the line without the colon, not the one after it
    if mark is None:
        return Malformed(problem)
    line, column = _position(mark)
    lines = [*text.split("\n"), ""]
    if problem == "mapping values are not allowed here":
        return _stray_colon(lines, line, column)
    return Malformed(_wording(problem, lines[line - 1]), line, column)


def _stray_colon(lines: list[str], line: int, column: int) -> Malformed:
    """A colon where none can be: the second of its line, or the lines above went wrong."""
    if re.search(r":\s", lines[line - 1][: column - 1]):
        return Malformed("a second ': ' in this line; put text with ': ' in quotes", line, column)
    above = [number for number in range(1, line) if _is_content(lines[number - 1])]
    if above and not re.search(r":(\s|$)", lines[above[-1] - 1]):
        return Malformed(_wording(_NO_COLON, lines[above[-1] - 1]), above[-1], 1)
    return Malformed("wrong indentation; keys begin at the left margin", line, 1)


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


_NO_COLON = "could not find expected ':'"


def _wording(problem: str, line: str) -> str:
    if "'\\t'" in problem:
        return "a tab cannot indent here; use spaces"
    if problem == _NO_COLON and "：" in line:
        return "the colon is the full-width '：'; write ': ' (colon and blank)"
    if problem == _NO_COLON:
        return "no ': ' (colon and blank) between key and value"
    if problem == "but found another document":
        return "a second document ('---') begins here; a config is one document"
    return problem
