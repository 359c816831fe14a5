"""Findings -> the text of the Go template.

The template walks `.Messages` once. Literals stand as they are; no action behind a literal trims,
and an action behind an action begins on a line of its own with `{{-`, so nothing but line breaks
between actions is ever cut. `.ToolCalls` and `.Thinking` stand as Ollama looks for them: it takes
the first text inside `if .ToolCalls` for the tag of a tool call (tools/template.go), and the texts
around `.Thinking` for those of a thought (thinking/template.go).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ft2ollama.gotemplate.conditions import QUESTIONS, expression, joined, previous, test, wrapped
from ft2ollama.gotemplate.contents import Printed
from ft2ollama.gotemplate.defines import blocks
from ft2ollama.gotemplate.probe import Unknown
from ft2ollama.gotemplate.slots import Findings, Slot
from ft2ollama.gotemplate.tree import Leaf, Tree, asked, grow


@dataclass
class _Plan:
    """The trees of one template. texts: what stands in front; shown: whether it is printed."""

    texts: dict[str, Tree] = field(default_factory=dict)
    shown: dict[str, Tree] = field(default_factory=dict)

    @property
    def asks(self) -> set[str]:
        """Every feature asked for."""
        return set().union(*map(asked, [*self.texts.values(), *self.shown.values()]))


class _Writer:
    """Text and actions in the layout that the module docstring promises."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.behind_text = False

    def text(self, text: str) -> None:
        if text:
            text = text.replace("{{", '{{ "{{" }}')
            self.parts.append(text[:-1] + '{{ "{" }}' if text.endswith("{") else text)
            self.behind_text = not text.endswith("{")

    def action(self, action: str) -> None:
        self.parts.append(f"{{{{ {action} }}}}" if self.behind_text else f"\n{{{{- {action} }}}}")
        self.behind_text = False


def emit(findings: Findings, trims: Mapping[str, Printed], *, tags: bool = False) -> str:
    """The Go template.

    trims: item -> how its content is printed, for those not printed raw.  tags: the model thinks
    between <think> and </think>, which Ollama has to know to tell thoughts from answers.
    """
    plan = _plan(findings)
    body = _Emitter(plan, findings, trims)
    body.tags = tags
    body.messages()
    return (blocks(body.used) + body.text()).lstrip("\n")


def _plan(findings: Findings) -> _Plan:
    plan = _Plan()
    merged = findings.tools_first or findings.late_tools
    for kind, slots in _by_place(findings.slots, merged).items():
        tree = grow([(slot.features, slot.text) for slot in slots], QUESTIONS)
        if tree is None:
            seen = " | ".join(sorted({repr(slot.text) for slot in slots})[:4])
            raise Unknown(f"what stands in front of {kind} depends on more than its place: {seen}")
        plan.texts[kind] = tree
    names = [name for name in QUESTIONS if name not in ("again", "prev")]
    for kind, rows in findings.present.items():
        tree = grow(rows, names)
        if tree is None:
            raise Unknown(f"whether {kind} is printed depends on more than its place")
        plan.shown[kind] = tree
    return plan


def _by_place(slots: Mapping[str, list[Slot]], merged: bool) -> dict[str, list[Slot]]:
    """Tools stand behind the system prompt or alone; merged: at one place all the same."""
    found = dict(slots)
    if merged and "system tooldef" in found:
        found["tooldef"] = [*found.pop("system tooldef"), *found.get("tooldef", [])]
    return found


class _Emitter:
    """Writes one template. used: names of the blocks it calls."""

    def __init__(self, plan: _Plan, findings: Findings, trims: Mapping[str, Printed]) -> None:
        self.plan, self.findings, self.trims = plan, findings, trims
        self.tags = False
        self.asks, self.used, self.out = plan.asks, set[str](), _Writer()
        trees = [*plan.texts.items(), *plan.shown.items()]
        # the kinds that $prev must name
        self.told = set[str]().union(*(previous(tree, kind == "callname") for kind, tree in trees))
        self.other = "-" if "" in self.told else ""

    def text(self) -> str:
        return "".join(self.out.parts)

    # ------------------------------------------------------------ the walk over the messages

    def messages(self) -> None:
        out = self.out
        self._variables()
        out.action("range $i, $m := .Messages")
        out.action("$last := eq (len (slice $.Messages $i)) 1")
        head = bool(self.findings.tool_form) and not self.findings.late_tools
        if head and self.findings.tools_first:
            self._guarded("and $.Tools (eq $i 0)", lambda: self._tools("system tooldef"))
        elif head:
            self._guarded('and $.Tools (eq $i 0) (ne .Role "system")', self._tools)
        branches: list[tuple[str, Callable[[], None]]] = [
            ("system", lambda: self._system(head)),
            ("user", self._user),
            ("assistant", self._assistant),
            ("tool", lambda: self._simple("tool")),
        ]
        word = "if"
        for role, write in branches:
            if role in self.plan.texts or (role == "assistant" and "callname" in self.plan.texts):
                out.action(f'{word} eq .Role "{role}"')
                write()
                word = "else if"
        out.action("end")
        if self.plan.texts.get("end") != Leaf(""):
            out.action('if and $last (ne .Role "assistant")')
            self._tree(self.plan.texts["end"])
            out.action("end")
        out.action("end")

    def _variables(self) -> None:
        out, asks = self.out, self.asks
        if "prev" in asks:
            out.action('$prev := ""')  # what was printed last
        if "opening" in asks:
            out.action("$asked := false")
        looks = []
        if (
            asks & {"query", "after"}
            or self.findings.late_tools
            or "late system" in self.plan.texts
        ):
            out.action("$query := 0")
            looks.append(('eq .Role "user"', "$query = $i"))
        if "system" in asks:
            out.action("$system := false")
            looks.append(('and (eq $i 0) (eq .Role "system")', "$system = true"))
        if looks:
            out.action("range $i, $m := .Messages")
            for test, action in looks:
                self._guarded(test, lambda action=action: out.action(action))  # type: ignore[misc]
            out.action("end")

    def _system(self, head: bool) -> None:
        self._item("system", "$m.Content")
        if head and not self.findings.tools_first:
            self._guarded("and $.Tools (eq $i 0)", lambda: self._tools("system tooldef"))
        self._close("system")

    def _user(self) -> None:
        late = self._tools if self.findings.late_tools else None
        parts: list[Callable[[], None]] = []
        if late:
            parts.append(lambda: self._guarded("and $.Tools (eq $i $query)", late))
        if "late system" in self.plan.texts:
            parts.append(lambda: self._item("late system", "$.System", "$.System"))
        for part in parts if self.findings.tools_first else reversed(parts):
            part()
        self._simple("user")
        if "opening" in self.asks:
            self.out.action("$asked = true")

    def _simple(self, role: str) -> None:
        self._item(role, ".Content")
        self._close(role)

    def _assistant(self) -> None:
        self._place("open assistant")
        if "thinking" in self.plan.texts:
            self._item("thinking", ".Thinking", "$m.Thinking", after="after thinking")
        self._item("assistant", ".Content", "$m.Content" if self._may_be_empty() else "")
        if "callname" in self.plan.texts:
            self.out.action("if .ToolCalls")
            self.out.action("range $n, $call := .ToolCalls")
            self._item("callname", "$call.Function.Name")
            self._arguments()
            self.out.action("end")
            self.out.action("end")
        self._close("assistant")
        if self.tags and "thinking" not in self.plan.texts:  # so that Ollama knows the tags
            self.out.action("if and $last $m.Thinking")
            self.out.text("<think>")
            self.out.action(".Thinking")
            self.out.text("</think>")
            self.out.action("end")

    def _arguments(self) -> None:
        if self.findings.call_form == "object":
            self._item("callargs", 'template "object" $call.Function.Arguments')
            self._place("after callargs")
            self.used.add("object")
            return
        self.out.action("range $key, $value := $call.Function.Arguments")
        self._item("argkey", "$key")
        self._item("argvalue", 'template "value" $value')
        self._place("after argvalue")
        self.used.add("value")
        self.out.action("end")

    def _may_be_empty(self) -> bool:
        return "callname" in self.plan.texts

    def _tools(self, kind: str = "tooldef") -> None:
        form = self.findings.tool_form
        value = "$tool.Function" if form.startswith("function") else "$tool"
        self.used.add(form)
        self.out.action("range $n, $tool := $.Tools")
        self._item(kind if kind in self.plan.texts else "tooldef", f'template "{form}" {value}')
        self.out.action("end")

    # ------------------------------------------------------------ slots

    def _item(self, kind: str, content: str, filled: str = "", after: str = "") -> None:
        """Literal and content, under the conditions of its presence. filled: must not be empty."""
        if kind not in self.plan.texts:
            return
        test = expression(self.plan.shown.get(kind, Leaf(True)))
        tests = [one for one in (filled, test) if one != "true" and one]
        if test == "false":
            return

        def write() -> None:
            self._place(kind, moved=False)
            self._content(kind, content)
            if after in self.plan.texts:  # the text last: Ollama takes it for the closing tag
                self._moved(after, kind)
                self._place(after, moved=False)
            else:
                self._moved(kind)

        if not tests:
            write()
        else:
            joined = tests[0] if len(tests) == 1 else f"and {' '.join(map(wrapped, tests))}"
            self._guarded(joined, write)

    def _content(self, kind: str, content: str) -> None:
        way = self.trims.get(kind.removeprefix("late "), Printed())
        if way.after_think is None:
            self._printed(way.block, content)
            return
        # one question a byte: Ollama executes the template once for every message of a request
        self.out.action("$answer := $m.Content")
        self.out.action("$thought := false")
        self.out.action("range $j := len $m.Content")
        self.out.action("if eq (index $m.Content $j) 60")  # <
        self.out.action("$rest := slice $m.Content $j")
        self.out.action('if and (ge (len $rest) 8) (eq (slice $rest 0 8) "</think>")')
        self.out.action("$answer = slice $rest 8")
        self.out.action("$thought = true")
        self.out.action("end")
        self.out.action("end")
        self.out.action("end")
        self.out.action("if $thought")
        self._printed(way.after_think, "$answer")
        self.out.action("else")
        self._printed(way.block, content)
        self.out.action("end")

    def _printed(self, block: str, content: str) -> None:
        if block:
            self.used.add(block)
        self.out.action(f'template "{block}" {content}' if block else content)

    def _close(self, role: str) -> None:
        kind = f"close {role}"
        if kind in self.plan.texts:
            if role == "assistant":  # an unfinished answer is gone on with
                self._guarded("not $last", lambda: self._place(kind))
            else:
                self._place(kind)

    def _place(self, kind: str, *, moved: bool = True) -> None:
        if kind in self.plan.texts:
            self._tree(self.plan.texts[kind], longest=kind == "callname")
            if moved:
                self._moved(kind)

    def _moved(self, kind: str, through: str = "") -> None:
        """Note in $prev that `kind` was printed. through: a kind just before it, not noted."""
        known = self.findings.slots
        slots = [*known.get(kind, known.get(f"system {kind}", [])), *known.get(through, [])]
        kind = "tooldef" if kind == "system tooldef" else kind
        before = {self._label(slot.features["prev"]) for slot in slots} - (
            {self._label(through)} if through else set()
        )
        if self.told and before != {self._label(kind)}:
            self.out.action(f'$prev = "{self._label(kind)}"')

    def _label(self, kind: str) -> str:
        return kind if kind in self.told else self.other

    def _guarded(self, test: str, write: Callable[[], None]) -> None:
        self.out.action(f"if {test}")
        write()
        self.out.action("end")

    def _tree(self, tree: Tree, *, longest: bool = False) -> None:
        """longest: the branch of the longest text first, where Ollama looks for a tag."""
        if isinstance(tree, Leaf):
            self.out.text(tree.value)
            return
        word = "if"
        groups = joined(tree, longest)
        for values, inner in groups[:-1]:
            self.out.action(f"{word} {test(tree.feature, values)}")
            self._tree(inner, longest=longest)
            word = "else if"
        if groups[-1][1] != Leaf(""):
            self.out.action("else")
            self._tree(groups[-1][1], longest=longest)
        self.out.action("end")
