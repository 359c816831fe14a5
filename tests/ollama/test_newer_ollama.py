"""Ollama 0.30 and newer, which can run the GGUF's own chat template: what we do is what runs.

PyPI has no such server. FT2OLLAMA_TEST_NEWER_OLLAMA names the binary of one (`ollama`, with
llama-server and llama-quantize where it looks for them); without it these tests are skipped.
docs/ollama-versions.md tells what was seen.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted_model import END, write_scripted

from ft2ollama.aliases import digest_of, move_alias
from ft2ollama.files import sha256_file
from ft2ollama.ollama_api import Ollama, ServerError
from ft2ollama.ollama_server import Server, start_server

BINARY = os.environ.get("FT2OLLAMA_TEST_NEWER_OLLAMA", "")
pytestmark = [
    pytest.mark.ollama,
    pytest.mark.skipif(
        not BINARY, reason="FT2OLLAMA_TEST_NEWER_OLLAMA names no Ollama >= 0.30; PyPI has none"
    ),
]

HI = [{"role": "user", "content": "Hi"}]
TALK = [*HI, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "再见"}]
# It knows tools, so the server prefers it to a Go template that does not.
JINJA = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "{{ '[JINJA ' + m.role + ']' + m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{% endfor %}"
)
PLAIN = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
GO = PLAIN + "<|im_start|>assistant\n"
ABLE = (
    "{{ if .Tools }}<|im_start|>system\n{{ range .Tools }}{{ . }}{{ end }}<|im_end|>\n{{ end }}"
    '{{ range .Messages }}{{ if eq .Role "tool" }}<|im_start|>user\n<tool_response>{{ .Content }}'
    "</tool_response><|im_end|>\n{{ else }}<|im_start|>{{ .Role }}\n"
    "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}"
    "{{ if .ToolCalls }}{{ range .ToolCalls }}"
    '<tool_call>{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}'
    "</tool_call>{{ end }}{{ end }}<|im_end|>\n{{ end }}{{ end }}<|im_start|>assistant\n"
)
TOOL = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "The time",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}
QUIET: dict[str, Any] = {"temperature": 0, "num_predict": 40}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("newer")
    models, log = folder / "models", folder / "server.log"
    with start_server(Path(BINARY), models=models, log=log, threads=1) as running:
        yield running


@pytest.fixture(scope="module")
def newer(server: Server) -> Ollama:
    return Ollama(server.host, timeout_s=120)


def create(server: Ollama, name: str, gguf: Path, **body: Any) -> None:
    """A model by /api/create alone, as other programs make it."""
    digest = server.upload(gguf, sha256_file(gguf))
    body = {"model": name, "files": {"m.gguf": digest}, "stream": False, **body}
    httpx.post(f"{server.host}/api/create", json=body, timeout=60).raise_for_status()


def test_the_server_alone_would_pass_our_template_over(newer: Ollama, tmp_path: Path) -> None:
    """The reason for what `Ollama.create` does; when this fails, it may be needed no more."""
    gguf = write_scripted(tmp_path / "m.gguf", jinja=JINJA)
    create(newer, "alone", gguf, template=GO)
    assert newer.show("alone").template == JINJA
    assert newer.prompt_text("alone", HI) == "[JINJA user]Hi"


def test_the_template_that_is_given_runs(newer: Ollama, tmp_path: Path) -> None:
    gguf = write_scripted(tmp_path / "m.gguf", jinja=JINJA)
    newer.create("ours", gguf=gguf, template=GO)
    shown = newer.show("ours")
    assert (shown.template, shown.parser) == (GO, "go-template")
    assert shown.capabilities == ["completion"]  # and not the tools of the chat template
    prompt = f"<|im_start|>user\nHi{END}\n<|im_start|>assistant\n"
    assert newer.prompt_text("ours", HI) == prompt
    assert newer.prompt_tokens("ours", HI) == newer.prompt_tokens("ours", [], raw_text=prompt)
    with pytest.raises(ServerError, match="does not support tools"):
        newer.prompt_text("ours", HI, tools=[TOOL])


def test_a_template_that_can_as_much_needs_no_help(newer: Ollama, tmp_path: Path) -> None:
    gguf = write_scripted(tmp_path / "m.gguf", jinja=JINJA)
    newer.create("able", gguf=gguf, template=ABLE)
    shown = newer.show("able")
    assert (shown.template, shown.parser) == (ABLE, "")


def test_a_probe_runs_the_template_of_its_model(newer: Ollama, tmp_path: Path) -> None:
    """`prompt_ids` makes a model from the model; it has to render as that one does."""
    newer.create("probed", gguf=write_scripted(tmp_path / "m.gguf", jinja=JINJA), template=GO)
    newer.create("probed-too", gguf=write_scripted(tmp_path / "n.gguf"), template=GO)
    ids = newer.prompt_ids("probed", TALK)
    assert ids
    assert ids == newer.prompt_ids("probed-too", TALK)
    assert "ft2ollama-probe" not in " ".join(newer.models())


def test_another_name_on_the_same_file_does_not_change_ours(newer: Ollama, tmp_path: Path) -> None:
    """Names on one file share a runner, whatever their templates."""
    gguf = write_scripted(tmp_path / "m.gguf", jinja=JINJA)
    newer.create("mine", gguf=gguf, template=GO)
    create(newer, "theirs", gguf)
    want = newer.prompt_text("mine", HI)
    assert want == f"<|im_start|>user\nHi{END}\n<|im_start|>assistant\n"
    httpx.post(f"{newer.host}/api/generate", json={"model": "mine", "keep_alive": 0}, timeout=60)
    assert newer.prompt_text("theirs", HI) == "[JINJA user]Hi"  # its runner is the one that stays
    assert newer.prompt_text("mine", HI) == want
    assert newer.prompt_tokens("mine", HI) == newer.prompt_tokens("mine", [], raw_text=want)


def test_our_file_is_stored_as_it_was_sent(newer: Ollama, tmp_path: Path) -> None:
    """The server writes every model anew; ours comes out with the same digest."""
    from tiny_families import FAMILIES, make_base

    import converters

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = make_base(FAMILIES["llama"], tmp_path / "base")
    for kind in ("F16", "Q8_0", "Q4_K_M"):
        path = tmp_path / f"{kind}.gguf"
        converters.write_model(base, path, outtype=kind, chat_template=JINJA)
        newer.create("stored", gguf=path, template=GO)
        assert newer.show("stored").digest == sha256_file(path), kind
    theirs = write_scripted(tmp_path / "theirs.gguf")  # the order of gguf-py
    newer.create("stored", gguf=theirs, template=GO)
    assert newer.show("stored").digest != sha256_file(theirs)


@pytest.mark.parametrize("jinja", ["", JINJA])
def test_tool_calls_and_thoughts_are_taken_apart(newer: Ollama, tmp_path: Path, jinja: str) -> None:
    thought = ("<think>", "\nLet me see.\n", "</think>", "\n\n")
    call = ("<tool_call>", '\n{"name": "now", "arguments": {"zone": "UTC"}}\n', "</tool_call>")
    gguf = write_scripted(tmp_path / "m.gguf", [*thought, *call], jinja)
    newer.create("parts", gguf=gguf, template=ABLE, parameters={"stop": [END]})
    assert set(newer.show("parts").capabilities) == {"completion", "tools", "thinking"}
    reply = newer.chat("parts", HI, tools=[TOOL], think=True, options=QUIET)
    assert [call["function"]["name"] for call in reply.tool_calls] == ["now"]
    assert reply.tool_calls[0]["function"]["arguments"] == {"zone": "UTC"}
    assert (reply.thinking.strip(), reply.text) == ("Let me see.", "")
    assert reply.done_reason == "stop"


def test_thinking_is_on_unless_the_request_says_no(newer: Ollama, tmp_path: Path) -> None:
    """Up to 0.24 an unset switch is unset; here it is on, which a template can tell apart."""
    go = ABLE + "{{ if .IsThinkSet }}{{ if .Think }}(on){{ else }}(off){{ end }}{{ end }}"
    newer.create("switch", gguf=write_scripted(tmp_path / "m.gguf"), template=go)
    ends = [str(newer.prompt_text("switch", HI, think=one))[-5:] for one in (None, True, False)]
    assert ends == ["\n(on)", "\n(on)", "(off)"]


def test_a_name_moves_by_rename_and_outlives_a_restart(tmp_path: Path) -> None:
    models, log = tmp_path / "models", tmp_path / "log"
    binary = Path(BINARY)
    with start_server(binary, models=models, log=log, threads=1) as running:
        ollama = Ollama(running.host, timeout_s=120)
        for number in (1, 2):
            gguf = write_scripted(tmp_path / "m.gguf", [f"I am {number}."], JINJA)
            ollama.create(f"shop:v{number}", gguf=gguf, template=GO)
            was = digest_of(ollama, "shop:latest")
            move = move_alias(ollama, "shop:latest", f"shop:v{number}", expected=was, models=models)
            assert move.way == "rename"
            assert ollama.chat("shop", HI, options=QUIET).text == f"I am {number}."
        back = digest_of(ollama, "shop:latest")
        move_alias(ollama, "shop:latest", "shop:v1", expected=back, models=models)
        assert ollama.chat("shop", HI, options=QUIET).text == "I am 1."
    with start_server(binary, models=models, log=log, threads=1) as running:
        ollama = Ollama(running.host, timeout_s=120)
        assert set(ollama.models()) == {"shop:v1", "shop:v2", "shop:latest"}
        assert ollama.show("shop").parser == "go-template"
        assert ollama.chat("shop", HI, options=QUIET).text == "I am 1."
        assert ollama.chat("shop:v2", HI, options=QUIET).text == "I am 2."


def test_errors_of_llama_server_are_readable(newer: Ollama, tmp_path: Path) -> None:
    """They come as JSON within the error's text."""
    wrong = "{{ raise_exception('no') }}" + JINJA
    create(newer, "wrong", write_scripted(tmp_path / "m.gguf", jinja=wrong))
    with pytest.raises(ServerError) as caught:
        newer.prompt_text("wrong", HI)
    assert not caught.value.words.lstrip().startswith("{")


def test_a_missing_tensor_is_not_a_missing_model(newer: Ollama, tmp_path: Path) -> None:
    from gguf import GGUFReader, GGUFWriter

    whole = GGUFReader(write_scripted(tmp_path / "whole.gguf"))
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    for number in ("context_length", "embedding_length", "block_count"):
        getattr(writer, f"add_{number}")(int(whole.get_field(f"llama.{number}").contents()))
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(whole.get_field("tokenizer.ggml.tokens").contents())
    writer.add_token_merges(["Ġ Ġ"])
    for tensor in whole.tensors:
        if tensor.name != "output_norm.weight":
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    newer.create("missing", gguf=tmp_path / "m.gguf", template=GO)
    with pytest.raises(ServerError, match=r"missing|not found") as caught:
        newer.chat("missing", HI, options=QUIET)
    assert "output_norm" in caught.value.words
