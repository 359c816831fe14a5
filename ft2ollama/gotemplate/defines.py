"""`define` blocks that a derived Go template may call: trimming, and JSON as Jinja's `tojson` writes it.

Go's own functions cannot trim, and Ollama's `json` writes no blanks and escapes < > &. These blocks
use recursion, `slice` by bytes, `printf "%T"`, and `range` over a number, which is Go 1.24 (Ollama
0.9.3 has it). `template` always has an argument, because newer Ollamas refuse it without one
(template.go, Identifiers).
"""

from __future__ import annotations

# str.strip() of Python by the length of the characters in UTF-8
_WIDE = [(2, "\x85\xa0"), (3, "\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008")]
_WIDE += [(3, "\u2009\u200a\u2028\u2029\u202f\u205f\u3000")]
_NARROW = r'" " "\n" "\t" "\r" "\v" "\f" "\x1c" "\x1d" "\x1e" "\x1f"'


def _quoted(chars: str) -> str:
    return " ".join(f'"\\u{ord(char):04x}"' for char in chars)


def _trim(name: str, *, left: bool, right: bool, newlines: bool = False) -> str:
    """A block that prints its string without white space at the ends."""
    narrow, wide = ('"\\n"', []) if newlines else (_NARROW, _WIDE)
    cases = []
    # len (slice . 1) is the length less one: where the last byte begins
    back = {1: "(slice . 1)", 2: "(slice . 2)", 3: "(slice . 3)"}
    if left:
        cases.append((f"eq (slice . 0 1) {narrow}", "(slice . 1)"))
    if right:
        cases.append((f"eq (slice . (len {back[1]})) {narrow}", f"(slice . 0 (len {back[1]}))"))
    for size, chars in wide:
        enough = f"ge (len .) {size}"
        if left:
            cases.append((f"and ({enough}) (eq (slice . 0 {size}) {_quoted(chars)})", f"(slice . {size})"))
        if right:
            tail = f"(slice . (len {back[size]}))"
            cases.append(
                (f"and ({enough}) (eq {tail} {_quoted(chars)})", f"(slice . 0 (len {back[size]}))")
            )
    chain = "{{ else if ".join(
        f'{test} }}}}{{{{ template "{name}" {rest} }}}}' for test, rest in cases
    )
    return f'{{{{- define "{name}" }}}}{{{{ if . }}}}{{{{ if {chain}{{{{ else }}}}{{{{ . }}}}{{{{ end }}}}{{{{ end }}}}{{{{ end }}}}'


_CHARS = r"""{{- define "chars" }}{{ $s := . }}
{{- range $j := len . }}{{ $c := slice (slice $s $j) 0 1 }}
{{- if or (lt $c " ") (eq $c "\"" "\\") }}{{ $e := json $c }}{{ slice $e 1 (len (slice $e 1)) }}
{{- else }}{{ $c }}{{ end }}{{ end }}{{ end }}"""

_JSON = r"""{{- define "json" }}{{ $t := printf "%T" . }}
{{- if eq $t "string" }}"{{ template "chars" . }}"
{{- else if eq $t "[]interface {}" }}[
{{- range $i, $v := . }}{{ if $i }}, {{ end }}{{ template "json" $v }}{{ end }}]
{{- else if eq $t "map[string]interface {}" }}{{ template "object" . }}
{{- else }}{{ json . }}{{ end }}{{ end }}
{{- define "object" }}{{ "{" }}{{ $s := "" }}
{{- range $k, $v := . }}{{ $s }}{{ $s = ", " }}"{{ template "chars" $k }}": {{ template "json" $v }}{{ end }}}
{{- end }}"""

_TOOL = r"""{{- define "function" }}{"name": "{{ template "chars" .Name }}"
{{- if .Description }}, "description": "{{ template "chars" .Description }}"{{ end }}, "parameters": {{ "{" }}
{{- with .Parameters }}"type": "{{ .Type }}"
{{- if .Defs }}, "$defs": {{ template "json" .Defs }}{{ end }}
{{- if .Items }}, "items": {{ template "json" .Items }}{{ end }}
{{- if .Required }}, "required": [
{{- range $i, $r := .Required }}{{ if $i }}, {{ end }}"{{ template "chars" $r }}"{{ end }}]{{ end }}, "properties": {{ "{" }}
{{- $s := "" }}{{ range $k, $p := .Properties }}{{ $s }}{{ $s = ", " }}"{{ template "chars" $k }}": {{ "{" }}
{{- $u := "" }}{{ if .Type }}"type": {{ template "type" .Type }}{{ $u = ", " }}{{ end }}
{{- if .Items }}{{ $u }}"items": {{ template "json" .Items }}{{ $u = ", " }}{{ end }}
{{- if .Description }}{{ $u }}"description": "{{ template "chars" .Description }}"{{ $u = ", " }}{{ end }}
{{- if .Enum }}{{ $u }}"enum": [
{{- range $i, $v := .Enum }}{{ if $i }}, {{ end }}{{ template "json" $v }}{{ end }}]{{ end }}}
{{- end }}}}
{{- end }}}{{ end }}
{{- define "tool" }}{"type": "function", "function": {{ template "function" .Function }}}{{ end }}"""

TRIMS = {
    "trim": _trim("trim", left=True, right=True),
    "trimleft": _trim("trimleft", left=True, right=False),
    "trimright": _trim("trimright", left=False, right=True),
    "trimlines": _trim("trimlines", left=True, right=True, newlines=True),
    "trimlinesleft": _trim("trimlinesleft", left=True, right=False, newlines=True),
    "trimlinesright": _trim("trimlinesright", left=False, right=True, newlines=True),
}
_VALUE = """{{- define "value" }}{{ if eq (printf "%T" .) "string" }}{{ . }}
{{- else }}{{ template "json" . }}{{ end }}{{ end }}"""


def _tool4(name: str, levels: int, *, whole: bool) -> str:
    """A tool, or its function alone, as JSON with four blanks per level, `levels` deep.

    A template has one argument, so the blanks are written out for every level; the value of `items`
    is taken to be an object of plain values.
    """

    def line(depth: int) -> str:
        return '{{ "\\n' + "    " * (levels + depth) + '" }}'

    def listed(field: str, depth: int) -> str:
        each = f'{{{{ if $i }}}},{{{{ end }}}}{line(depth + 1)}{{{{ template "json" $v }}}}'
        return f"[{{{{ range $i, $v := {field} }}}}{each}{{{{ end }}}}{line(depth)}]"

    def pairs(field: str, depth: int) -> str:
        each = f'{{{{ $s }}}}{{{{ $s = "," }}}}{line(depth + 1)}"{{{{ $k }}}}": {{{{ template "json" $v }}}}'
        body = f'{{{{ $s := "" }}}}{{{{ range $k, $v := {field} }}}}{each}{{{{ end }}}}'
        return '{{ "{" }}' + body + line(depth) + "}"

    d = 1 if whole else 0
    parameters, one = d + 1, d + 3
    schema = (
        '{{ "{" }}{{ $u := "" }}'
        + f'{{{{ if .Type }}}}{line(one + 1)}"type": {{{{ template "type" .Type }}}}{{{{ $u = "," }}}}{{{{ end }}}}'
        + f'{{{{ if .Items }}}}{{{{ $u }}}}{line(one + 1)}"items": {pairs(".Items", one + 1)}{{{{ $u = "," }}}}{{{{ end }}}}'
        + f'{{{{ if .Description }}}}{{{{ $u }}}}{line(one + 1)}"description": "{{{{ template "chars" .Description }}}}"{{{{ $u = "," }}}}{{{{ end }}}}'
        + f'{{{{ if .Enum }}}}{{{{ $u }}}}{line(one + 1)}"enum": {listed(".Enum", one + 1)}{{{{ end }}}}'
        + line(one)
        + "}"
    )
    each = f'{{{{ $s }}}}{{{{ $s = "," }}}}{line(one)}"{{{{ template "chars" $k }}}}": {schema}'
    properties = (
        '{{ "{" }}{{ $s := "" }}{{ range $k, $p := .Properties }}' + each + "{{ end }}"
        + f'{{{{ if .Properties }}}}{line(one - 1)}{{{{ end }}}}}}'
    )
    function = (
        '{{ "{" }}'
        + f'{line(d + 1)}"name": "{{{{ template "chars" .Name }}}}",'
        + f'{{{{ if .Description }}}}{line(d + 1)}"description": "{{{{ template "chars" .Description }}}}",{{{{ end }}}}'
        + f'{line(d + 1)}"parameters": {{{{ "{{" }}}}{{{{ with .Parameters }}}}{line(parameters + 1)}"type": "{{{{ .Type }}}}",'
        + f'{{{{ if .Required }}}}{line(parameters + 1)}"required": {listed(".Required", parameters + 1)},{{{{ end }}}}'
        + f'{line(parameters + 1)}"properties": {properties}{{{{ end }}}}{line(parameters)}}}{line(d)}}}'
    )
    if whole:
        head = f'{{{{ "{{" }}}}{line(1)}"type": "function",{line(1)}"function": '
        function = f"{head}{{{{ with .Function }}}}{function}{{{{ end }}}}{line(0)}}}"
    return f'{{{{- define "{name}" }}}}{function}{{{{ end }}}}'


_TYPE = """{{- define "type" }}{{ if eq (len .) 1 }}"{{ index . 0 }}"{{ else }}[
{{- range $i, $t := . }}{{ if $i }}, {{ end }}"{{ $t }}"{{ end }}]{{ end }}{{ end }}"""
_INDENTED = {
    "tool4": _tool4("tool4", 0, whole=True),
    "tool4 in list": _tool4("tool4 in list", 1, whole=True),
    "function4": _tool4("function4", 0, whole=False),
    "function4 in list": _tool4("function4 in list", 1, whole=False),
}
_JSON_TOO = ("chars", "object", "type")
_NEEDS = {"object": ("chars",), "value": ("chars", "object"), "tool": _JSON_TOO}
_NEEDS |= dict.fromkeys(("function", *_INDENTED), _JSON_TOO)
_BLOCKS = {"chars": _CHARS, "object": _JSON, "type": _TYPE, "value": _VALUE}
_BLOCKS |= {"tool": _TOOL, "function": _TOOL, **_INDENTED, **TRIMS}


def blocks(names: set[str]) -> str:
    """The text of these blocks and of those that they call."""
    wanted = dict.fromkeys(
        one for name in sorted(names) for one in (*_NEEDS.get(name, ()), name)
    )
    return "\n".join(dict.fromkeys(_BLOCKS[name] for name in wanted))
