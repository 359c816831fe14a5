"""Our execution of Go templates against a real Ollama, and its refusals."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from go_prompts import GoPrompts, go_prompts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate import normal_tools, prompt
from ft2ollama.gotemplate.defines import blocks
from ft2ollama.gotemplate.engine import render

TRICKS = """{{- /* a comment */ -}}
{{- range $i, $m := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if and (eq .Role "user") (not $last) }}[U{{ $i }} {{ .Content }}]
{{- else if or (eq .Role "system" "tool") $last }}  <{{ .Role }}> {{ .Content }}  {{ "{{" }}\t
{{- else }}{{ with .Content }}({{ . }}){{ else }}nothing{{ end }}{{ end }}
{{- if eq $i 3 }}{{ break }}{{ end }}
{{- range $j := len .Content }}{{ if gt $j 1 }}{{ continue }}{{ end }}{{ $j }},{{ end }}
{{- end }} {{ len .Messages }} {{ .System }} {{ .Think }} {{ .IsThinkSet }} {{ printf "%T" .Think }}
{{- $x := "a" }}{{ if true }}{{ $x = "b" }}{{ end }}{{ $x }}{{ json .System }}
{{- not (lt "a" "b") }}"""
TALKS = (
    [{"role": "user", "content": "hi"}],
    [
        {"role": "system", "content": "<S> & \u4f60"},
        {"role": "user", "content": " one "},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": ""},
        {"role": "system", "content": "again"},
        {"role": "user", "content": "last"},
    ],
)
ODD = "\u3000\u00a0\u200d\u4f60\u597d\U0001f469<>&\u2003"
TEXTS = st.text(st.sampled_from(string.printable + ODD))


@pytest.fixture(scope="module")
def go(ollama_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoPrompts]:
    with go_prompts(ollama_binary, tmp_path_factory.mktemp("go")) as server:
        yield server


@pytest.mark.ollama
@pytest.mark.oracle
def test_the_engine_executes_a_template_as_ollama_does(go: GoPrompts) -> None:
    go.create(TRICKS, system="SYS", name="tricks")
    for talk in TALKS:
        for thinking in (None, False):
            want = go.prompt(talk, thinking=thinking, name="tricks")
            assert prompt(TRICKS, talk, system="SYS", thinking=thinking) == want


@pytest.mark.ollama
@pytest.mark.oracle
@pytest.mark.parametrize("block", ["trim", "trimleft", "trimright", "trimlines", "chars"])
def test_the_blocks_do_in_ollama_what_python_does(go: GoPrompts, block: str) -> None:
    import json

    ways = {
        "trim": str.strip,
        "trimleft": str.lstrip,
        "trimright": str.rstrip,
        "trimlines": lambda text: text.strip("\n"),
        "chars": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    }
    source = blocks({block}) + (
        '{{- range .Messages }}|{{ template "' + block + '" .Content }}|{{ end }}'
    )
    go.create(source, name=f"block-{block}")

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(text=TEXTS)
    def check(text: str) -> None:
        talk = [{"role": "user", "content": text}]
        want = f"|{ways[block](text)}|"
        assert prompt(source, talk) == want
        assert go.prompt(talk, name=f"block-{block}") == want

    check()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ .Nothing }}", "no value"),
        ("{{ range .Messages }}{{ .ToolName }}{{ end }}", "reads .ToolName"),
        ("{{ if .System }}", "lacks an"),
        ("{{ .System | len }}", "not of the Go template subset"),
        ("{{ nope .System }}", "unknown function"),
        ("{{ $x }}", "undeclared variable"),
        ("{{ .Messages }}", "prints a whole"),
        ("{{ slice .System 5 }}", "beyond the end"),
        ('{{ template "x" . }}', "no define"),
        ("{{ else }}", "not of the Go template subset"),
    ],
)
def test_what_is_not_known_is_refused(source: str, why: str) -> None:
    if why == "no value":  # a key that the map lacks, as Go prints it
        assert prompt(source, TALKS[0]) == "<no value>"
        return
    with pytest.raises(UsageError, match=why):
        prompt(source, TALKS[0])


def test_half_characters_can_be_cut_and_joined() -> None:
    assert render("{{ slice .x 0 1 }}{{ slice .x 1 }}", {"x": "\u4f60\u597d"}) == "\u4f60\u597d"


def test_tools_keep_what_ollama_keeps() -> None:
    given = {
        "name": "f",
        "parameters": {
            "additionalProperties": False,
            "properties": {
                "b": {"type": "string", "default": "x"},
                "a": {"type": ["null", "integer"]},
            },
        },
        "strict": True,
    }
    assert normal_tools([given]) == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "parameters": {
                    "type": "object",
                    "properties": {"a": {"type": ["null", "integer"]}, "b": {"type": "string"}},
                },
            },
        }
    ]
