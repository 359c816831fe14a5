"""Derived Go templates through a real Ollama, against the chat template as transformers does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from go_prompts import GoPrompts, go_prompts

from ft2ollama.errors import UsageError
from ft2ollama.gotemplate import GoTemplate, derive
from ft2ollama.gotemplate.cases import parallel_cases
from ft2ollama.gotemplate.derive import cases_for, compare, without_bos
from ft2ollama.gotemplate.probe import Render
from ft2ollama.gotemplate.tags import thinking_tags, tool_tag
from ft2ollama.template import ChatTemplate, families

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
BOTH = {"tools", "thinking"}
# sdist template -> (capabilities, how its default system prompt begins)
REAL = {
    "Qwen-Qwen2.5-7B-Instruct": ({"tools"}, "You are Qwen, created by"),
    "Qwen-Qwen3-0.6B": (BOTH, ""),
    "meta-llama-Llama-3.2-3B-Instruct": ({"tools"}, ""),
    "google-gemma-2-2b-it": (set(), ""),
    "mistralai-Mistral-Nemo-Instruct-2407": (set(), ""),
    "microsoft-Phi-3.5-mini-instruct": (set(), ""),
    "ibm-granite-granite-3.3-2B-Instruct": (BOTH, ""),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ({"thinking"}, ""),
}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def hf(jinja: str, special: dict[str, str] | None = None) -> Render:
    """The chat template as transformers renders it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(
        messages: Any,
        *,
        tools: Any = (),
        add_generation_prompt: bool = True,
        thinking: bool | None = None,
    ) -> str:
        switches = {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}
        try:
            texts, _ = render_jinja_template(
                [list(messages)],
                tools=list(tools) or None,
                chat_template=jinja,
                add_generation_prompt=add_generation_prompt,
                **(SPECIAL if special is None else special),
                **switches,
            )
        except Exception as error:
            raise UsageError(f"{type(error).__name__}: {error}") from error
        return str(texts[0])

    return render


def derived(jinja: str, ends: tuple[str, ...] = ()) -> GoTemplate:
    return derive(hf(jinja), special_tokens=SPECIAL, ends=ends)


@pytest.fixture(scope="module")
def go(ollama_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoPrompts]:
    with go_prompts(ollama_binary, tmp_path_factory.mktemp("go")) as server:
        yield server


@pytest.fixture(scope="module")
def real(chat_models: Path) -> Callable[[str], str]:
    return lambda name: (chat_models / f"{name}.jinja").read_text("utf-8")


def differences(
    go: GoPrompts, render: Render, found: GoTemplate, every: int = 1, first: int = 0
) -> list[str]:
    """Cases (every n-th, from the first) on which Ollama's prompt is not the chat template's."""
    own, _ = without_bos(render, SPECIAL["bos_token"])
    offered = set(go.create(found.gotmpl, system=found.system)) - {"completion"}
    assert offered == found.capabilities
    wrong, counted = [], 0
    for number, (name, case) in enumerate(cases_for(found.capabilities)):
        if number % every != first % every:
            continue
        try:
            want = own(case.messages, tools=case.tools, thinking=case.thinking)
        except UsageError:
            continue
        counted += 1
        if go.prompt(case.messages, tools=case.tools, thinking=case.thinking) != want:
            wrong.append(name)
    assert counted >= 3
    return wrong


@pytest.mark.ollama
@pytest.mark.oracle
@pytest.mark.parametrize("name", REAL)
def test_real_templates_are_equal_through_a_real_ollama(
    go: GoPrompts, real: Callable[[str], str], name: str
) -> None:
    found = derived(real(name))
    capabilities, system = REAL[name]
    assert found.capabilities == capabilities
    assert found.system.startswith(system)
    assert bool(found.system) == bool(system)
    assert differences(go, hf(real(name)), found, every=7) == []


@pytest.mark.ollama
@pytest.mark.oracle
@pytest.mark.slow
def test_all_templates_of_the_sdist(go: GoPrompts, chat_models: Path) -> None:
    """Each on a share of the conversations; benchmarks/go_templates.py: each on all."""
    equal, refused = [], []
    for number, path in enumerate(sorted(chat_models.glob("*.jinja"))):
        try:
            found = derived(path.read_text("utf-8"))
        except UsageError:
            refused.append(path.stem)
            continue
        every = 8 if len(found.gotmpl) > 8000 else 3  # the longest take a second a prompt
        assert differences(go, hf(path.read_text("utf-8")), found, every, number) == [], path.stem
        equal.append(path.stem)
    assert len(equal) >= 60
    assert len(refused) <= 8


def test_chatml_is_what_a_person_would_write() -> None:
    found = derived(CHATML, ends=("<|im_end|>", "<|endoftext|>"))
    assert found.gotmpl == (
        "{{- range $i, $m := .Messages }}\n"
        "{{- $last := eq (len (slice $.Messages $i)) 1 }}\n"
        '{{- if eq .Role "system" }}<|im_start|>system\n{{ $m.Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}\n'
        "{{- if not $last }}<|im_end|>\n{{ end }}\n"
        "{{- end }}\n"
        '{{- if and $last (ne .Role "assistant") }}<|im_start|>assistant\n{{ end }}\n'
        "{{- end }}"
    )
    assert found.stop == ("<|im_end|>", "<|endoftext|>")
    assert not found.adds_bos


def test_the_bos_token_is_left_to_ollama() -> None:
    found = derived("{{ bos_token }}" + CHATML)
    assert found.adds_bos
    assert "<s>" not in found.gotmpl
    assert found.gotmpl == derived(CHATML).gotmpl


def test_stop_words_come_from_the_ends_of_turns() -> None:
    assert derived(CHATML).stop == ("<|im_end|>",)
    assert derived(families()["plain"].jinja).stop == ("\n\nUser:",)
    glm = derived(families()["glm4"].jinja, ends=("<|user|>", "<|endoftext|>"))
    assert glm.stop == ("<|user|>", "<|endoftext|>")


@pytest.mark.parametrize(
    ("change", "to", "why"),
    [
        ("m.content", "m.content | upper", "it changes what it prints: "),
        ("m.role +", "m.role + messages | length | string +", "depends on more than its place"),
        ("m.content +", "m.content + m.content +", "it prints the user of a message 2 times"),
        ("'<|im_end|>\\n'", "('!' if '?' in m.content else '.')", "case 'plain, 1 turn'"),
    ],
)
def test_what_cannot_be_expressed_is_refused_with_the_difference(
    change: str, to: str, why: str
) -> None:
    with pytest.raises(UsageError, match="no Go template was found") as caught:
        derived(CHATML.replace(change, to))
    assert why in caught.value.why


def test_a_family_is_taken_only_when_it_is_equal() -> None:
    shy = "{% for m in messages %}{% if '\ue000' in m.content %}{{ raise_exception('no') }}"
    shy += "{% endif %}{% endfor %}" + CHATML
    known = {name: family.gotmpl for name, family in families().items()}
    with pytest.raises(UsageError, match="no Go template was found"):
        derive(hf(shy))
    found = derive(hf(shy), ends=("<|im_end|>",), families=known)
    assert (found.way, found.family, found.stop) == ("family", "chatml", ("<|im_end|>",))
    with pytest.raises(UsageError, match="no Go template was found"):
        derive(hf(shy.replace("\\n", " ")), families=known)


def test_the_difference_is_marked_in_both_prompts() -> None:
    render, gotmpl = hf(CHATML), derived(CHATML).gotmpl
    wrong = gotmpl.replace("<|im_start|>user\n", "<|im_start|>user ")
    equal, difference = compare(render, wrong, "", cases_for(frozenset()))
    assert equal == 0
    assert str(difference).splitlines() == [
        "case 'plain, 1 turn', first difference at character 17:",
        r"  chat template: '<|im_start|>user' >>> '\nWhat is 2+2?<|im_end|>\n<|im_start|>assi'...",
        r"  Go template:   '<|im_start|>user' >>> ' What is 2+2?<|im_end|>\n<|im_start|>assi'...",
    ]


def test_a_template_that_refuses_everything_is_refused_with_its_own_words() -> None:
    with pytest.raises(UsageError, match="no Go template was found") as caught:
        derived("{{ raise_exception('tools only') }}")
    assert caught.value.why == (
        "it refuses every conversation of user and assistant messages: TemplateError: tools only"
    )


@pytest.mark.parametrize("lost", ["<|im_end|>", "assistant\n", '"system"', "not $last"])
def test_a_template_with_a_part_lost_is_seen(lost: str) -> None:
    gotmpl = derived(CHATML).gotmpl
    assert lost in gotmpl
    wrong = gotmpl.replace(lost, {"not $last": "$last", '"system"': '"nobody"'}.get(lost, ""), 1)
    assert compare(hf(CHATML), wrong, "", cases_for(frozenset()))[1] is not None


def test_ollama_finds_the_tags_of_thoughts_and_calls(real: Callable[[str], str]) -> None:
    qwen = derived(real("Qwen-Qwen3-0.6B")).gotmpl
    assert thinking_tags(qwen) == ("<think>", "</think>")
    assert tool_tag(qwen) == "<tool_call>"


def test_answers_in_a_row_are_kept_apart_where_the_server_keeps_them(
    real: Callable[[str], str],
) -> None:
    jinja = real("Qwen-Qwen3-0.6B")
    gotmpl = derived(jinja).gotmpl
    assert compare(hf(jinja), gotmpl, "", parallel_cases(), joins_tools=False) == (2, None)
    assert compare(hf(jinja), gotmpl, "", parallel_cases())[1] is not None


def test_the_trainers_own_template_object_is_taken(real: Callable[[str], str]) -> None:
    jinja = real("deepseek-ai-DeepSeek-R1-Distill-Llama-8B")
    template = ChatTemplate("", jinja, "", (), {}, special_tokens=SPECIAL)
    assert derive(template.render, special_tokens=SPECIAL).gotmpl == derived(jinja).gotmpl


def test_a_date_that_stays_is_told(real: Callable[[str], str]) -> None:
    lines = derived(real("meta-llama-Llama-3.1-8B-Instruct")).explain
    assert any("the date '26 Jul 2024' stays in the prompt" in line for line in lines)


@pytest.mark.ollama
@pytest.mark.oracle
def test_families_are_what_their_jinja_derives(go: GoPrompts) -> None:
    for family in families().values():
        if family.name == "chatml":  # written by hand: shorter, because it has one place for roles
            continue
        render = hf(family.jinja, special={})
        found = derive(render, ends=family.stop)
        assert found.gotmpl == family.gotmpl, family.name
        go.create(family.gotmpl, system=found.system, name=f"family-{family.name}")
        for case in family.cases[1:8:2]:
            want = render(case["messages"])
            assert go.prompt(case["messages"], name=f"family-{family.name}") == want, family.name
