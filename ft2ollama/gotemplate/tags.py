"""What Ollama reads out of a Go template besides the prompt: tags of thoughts and tool calls.

In: the text of a template. Out: what Ollama takes for tags, after its rules: for thoughts the
first and last text of the list of nodes that holds `.Thinking` in a range over `.Messages`
(thinking/template.go, InferTags); for tool calls the first text inside the first `if .ToolCalls`,
up to a `{` (tools/template.go, parseTag). A template that hides them serves no thinking, or has its
tool calls left in the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ft2ollama.gotemplate.lexer import Action, Branch, Call, Include, Node, Text, parse


def thinking_tags(gotmpl: str) -> tuple[str, str]:
    """(opening, closing); Ollama offers thinking when both are there."""
    opening = closing = ""
    for nodes in _lists_of(parse(gotmpl)[""], "Thinking", within=False):
        if isinstance(nodes[0], Text):
            opening = nodes[0].text.strip()
        if isinstance(nodes[-1], Text):
            closing = nodes[-1].text.strip()
    return opening, closing


def tool_tag(gotmpl: str) -> str:
    """The text that begins a tool call; "{" when any JSON object is taken for one."""
    found = _tool_branch(parse(gotmpl)[""])
    text = _first_text(found.body) if found else ""
    tag = (text or "").partition("{")[0].strip()
    return tag or "{"


def _lists_of(nodes: Sequence[Node], field: str, *, within: bool) -> Iterator[Sequence[Node]]:
    """The node lists in which `field` is read, in the order of the text."""
    for node in nodes:
        inside = within
        pipe = getattr(node, "pipe", None) or (node.head.pipe if isinstance(node, Branch) else None)
        if isinstance(node, Branch) and node.kind == "range":
            inside = _reads(node.head.pipe, "Messages")
        if pipe is not None and inside and _reads(pipe, field):
            yield nodes
        if isinstance(node, Branch):
            yield from _lists_of(node.body, field, within=inside)
            yield from _lists_of(node.other, field, within=inside)


def _reads(call: Call, field: str) -> bool:
    """Whether a `.Field` stands in the pipeline; `$m.Field` does not count for Ollama."""
    own = call.head == "field" and str(call.value).split(".")[0] == field
    return own or any(_reads(arg, field) for arg in call.args)


def _tool_branch(nodes: Sequence[Node]) -> Branch | None:
    for node in nodes:
        if not isinstance(node, Branch):
            continue
        if node.kind == "if" and _reads(node.head.pipe, "ToolCalls"):
            return node
        found = _tool_branch(node.body) or _tool_branch(node.other)
        if found:
            return found
    return None


def _first_text(nodes: Sequence[Node]) -> str | None:
    """The first text that is not blank, before anything is printed by an action."""
    for node in nodes:
        if isinstance(node, Text) and node.text.strip():
            return node.text
        if isinstance(node, Branch):
            return _first_text(node.body) or _first_text(node.other)
        if isinstance(node, Action):
            return None
        if isinstance(node, Include):
            continue
    return None
