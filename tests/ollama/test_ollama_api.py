from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from fixtures_ollama import CHATML, CHATML_JINJA, Serve, reply

from ft2ollama import machine
from ft2ollama.errors import ExitCode, JobError, MachineError, UsageError
from ft2ollama.ollama_api import Ollama, Reply, ServerError, quiet_options
from ft2ollama.ollama_chat import generate_plan
from ft2ollama.ollama_server import Server
from ft2ollama.ollama_show import parse_shown
from ft2ollama.pypi import SMOLLM2_GGUF_SHA256, SMOLLM2_GGUF_SIZE

HI = [{"role": "user", "content": "What is the capital of France?"}]
TALK = [
    {"role": "system", "content": "Be brief. 说中文。"},
    {"role": "user", "content": '你好\u3000<|im_end|> “quotes” """x""" 🙂'},
    {"role": "assistant", "content": "Hello.\n\n  indented"},
    {"role": "user", "content": " leading space, trailing newline\n"},
]
QUIET = quiet_options(True) | {"num_predict": 12}
SHORT = [
    {"role": "system", "content": "S."},
    {"role": "user", "content": "x"},
    {"role": "assistant", "content": "y"},
    {"role": "user", "content": "z"},
]


def names(ollama: Ollama) -> set[str]:
    return set(ollama.models())


# ---------------------------------------------------------------- models, against a real server


@pytest.mark.ollama
def test_version_and_models(ollama: Ollama, smol: str) -> None:
    assert ollama.version().count(".") == 2
    assert ollama.is_local
    assert len(ollama.models()["smol:latest"]) == 64
    assert ollama.show("smol").parameters == {"stop": ["<|im_end|>"]}  # a list, also of one
    assert ollama.exists("smol")
    assert ollama.exists("SMOL:latest")
    assert not ollama.exists("smo")


@pytest.mark.ollama
def test_create_and_show_round_trip(ollama: Ollama, smol: str, smollm2_gguf: Path) -> None:
    """What went in comes out, characters that a Modelfile would lose included."""
    said: list[str] = []
    system = 'Sei "kurz".\u3000Zwei\u200dJ\u00a0X """ \\n 你好\nFROM here\nADAPTER there'
    parameters = {
        "stop": ["<|im_end|>", "\n\n", "C:\\x", 'q"`'],
        "temperature": 0.25,
        "num_ctx": 4096,
        "use_mmap": True,
        "repeat_penalty": 1.0,
        "top_k": 1_000_000,
    }
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ollama.create(
        "full",
        gguf=smollm2_gguf,
        gguf_sha256=SMOLLM2_GGUF_SHA256,
        template=CHATML,
        system=system,
        parameters=parameters,
        messages=history,
        license="Apache-2.0",
        status=said.append,
    )
    try:
        shown = ollama.show("full")
    finally:
        ollama.delete("full")
    assert (shown.template, shown.system, shown.license) == (CHATML, system, "Apache-2.0")
    assert shown.parameters == parameters
    assert shown.messages == history
    assert (shown.family, shown.quantization) == ("llama", "Q4_1")
    assert shown.model_info["llama.embedding_length"] == 576
    assert shown.digest == SMOLLM2_GGUF_SHA256
    assert shown.blob
    assert shown.blob.stat().st_size == SMOLLM2_GGUF_SIZE
    assert shown.adapters == ()
    assert said[-1] == "success"
    assert len(said) == len(set(said))
    assert "full:latest" not in names(ollama)


@pytest.mark.ollama
def test_upload_sends_once_and_reports_bytes(ollama: Ollama, tmp_path: Path) -> None:
    file = tmp_path / "blob.bin"
    file.write_bytes(os.urandom((3 << 20) + 5))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert not ollama.has_blob(sha256)
    first: list[tuple[int, int]] = []
    assert ollama.upload(file, sha256, lambda *now: first.append(now)) == f"sha256:{sha256}"
    size = file.stat().st_size
    assert [done for done, _ in first] == [1 << 20, 2 << 20, 3 << 20, size]
    assert {total for _, total in first} == {size}
    assert ollama.has_blob(sha256)
    again: list[tuple[int, int]] = []
    ollama.upload(file, f"sha256:{sha256}", lambda *now: again.append(now))
    assert again == [(size, size)]


@pytest.mark.ollama
def test_upload_of_other_bytes_is_refused(ollama: Ollama, tmp_path: Path) -> None:
    (tmp_path / "blob.bin").write_bytes(b"other bytes")
    with pytest.raises(ServerError, match="digest mismatch"):
        ollama.upload(tmp_path / "blob.bin", "ab" * 32)
    assert not ollama.has_blob("ab" * 32)
    with pytest.raises(UsageError, match="cannot read"):
        ollama.upload(tmp_path / "none.bin", "ab" * 32)


@pytest.mark.ollama
def test_a_blob_that_vanishes_before_create_is_sent_again(
    ollama: Ollama, ollama_server: Server, smollm2_gguf: Path, tmp_path: Path
) -> None:
    """Take the file away between HEAD and create, as pruning would."""
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(smollm2_gguf.read_bytes() + b"\0" * 32)  # another blob than smol's
    sha256 = hashlib.sha256(gguf.read_bytes()).hexdigest()
    ollama.upload(gguf, sha256)
    blob = ollama_server.models / f"blobs/sha256-{sha256}"
    sent: list[int] = []

    def progress(done: int, total: int) -> None:
        if not sent:
            blob.unlink()
        sent.append(done)

    ollama.create("vanish", gguf=gguf, gguf_sha256=sha256, progress=progress)
    try:
        assert len(sent) > 50  # found; then sent in pieces
        assert ollama.show("vanish").digest == sha256
    finally:
        ollama.delete("vanish")
    assert not blob.exists()


@pytest.mark.ollama
def test_copy_and_delete(ollama: Ollama, smol: str) -> None:
    ollama.copy(smol, "copied:v1")
    assert "copied:v1" in names(ollama)
    ollama.delete("copied:v1")
    assert "copied:v1" not in names(ollama)
    assert ollama.has_blob(SMOLLM2_GGUF_SHA256)  # smol still needs it
    with pytest.raises(UsageError, match="not a valid Ollama model name"):
        ollama.copy(smol, "我的模型")


CALLS: dict[str, Callable[[Ollama], Any]] = {
    "show": lambda ollama: ollama.show("smoll"),
    "chat": lambda ollama: ollama.chat("smoll", HI),
    "stream": lambda ollama: list(ollama.chat_stream("smoll", HI)),
    "copy": lambda ollama: ollama.copy("smoll", "x"),
    "delete": lambda ollama: ollama.delete("smoll"),
    "create": lambda ollama: ollama.create("x", from_="smoll"),
    "ids": lambda ollama: ollama.prompt_ids("smoll", HI),
    "tokens": lambda ollama: ollama.prompt_tokens("smoll", HI),
    "raw": lambda ollama: ollama.prompt_tokens("smoll", HI, raw_text="x"),
}


@pytest.mark.ollama
@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_name_gets_the_near_ones(ollama: Ollama, smol: str, call: str) -> None:
    with pytest.raises(UsageError) as caught:
        CALLS[call](ollama)
    assert "has no model 'smoll'" in caught.value.what
    assert caught.value.fix == "use smol:latest"


@pytest.mark.ollama
def test_create_refuses(ollama: Ollama, smol: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_text("this is no GGUF")
    with pytest.raises(ServerError, match="not in GGUF format"):
        ollama.create("x", gguf=bad)
    with pytest.raises(ServerError, match="template error"):
        ollama.create("x", from_=smol, template="{{ .Prompt")
    with pytest.raises(UsageError, match="either gguf or from_"):
        ollama.create("x")
    with pytest.raises(UsageError, match="cannot read"):
        ollama.create("x", gguf=tmp_path / "none.gguf")
    with pytest.raises(UsageError, match="not a valid Ollama model name"):
        ollama.create("x y", gguf=bad)
    assert "x:latest" not in names(ollama)


# ---------------------------------------------------------------- chat


@pytest.mark.ollama
def test_chat_and_stream_agree(ollama: Ollama, smol: str) -> None:
    whole = ollama.chat(smol, HI, options=QUIET)
    assert "Paris" in whole.text
    assert whole.prompt_tokens == len(ollama.prompt_ids(smol, HI) or [])
    assert 0 < whole.reply_tokens <= 12
    assert whole.seconds > 0
    *pieces, last = ollama.chat_stream(smol, HI, options=QUIET)
    assert isinstance(last, Reply)
    assert "".join(map(str, pieces)) == last.text == whole.text
    assert (last.prompt_tokens, last.reply_tokens) == (whole.prompt_tokens, whole.reply_tokens)
    assert last.done_reason == whole.done_reason
    assert ollama.chat(smol, HI, options=QUIET | {"num_predict": 2}).done_reason == "length"


@pytest.mark.ollama
def test_a_wrong_option_is_the_servers_error(ollama: Ollama, smol: str) -> None:
    with pytest.raises(ServerError, match="must be of type float32") as caught:
        ollama.chat(smol, HI, options={"temperature": "hot"})
    assert caught.value.code == ExitCode.FAILED
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with pytest.raises(ServerError, match="does not support tools") as caught:
        ollama.chat(smol, HI, tools=tools)
    assert "ollama show" in caught.value.fix


@pytest.mark.ollama
def test_a_reply_that_takes_too_long(ollama: Ollama, smol: str) -> None:
    start = time.monotonic()
    with pytest.raises(JobError, match="did not answer in time"):
        ollama.chat(smol, HI, options=QUIET | {"num_predict": 500}, timeout_s=0.3)
    assert time.monotonic() - start < 5


@pytest.mark.ollama
def test_a_proxy_for_the_internet_is_not_asked(
    ollama: Ollama, smol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    fresh = Ollama(ollama.host)
    assert fresh.version()
    assert fresh.exists(smol)


def test_quiet_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 4)
    assert quiet_options(True) == quiet_options(False) | {"num_thread": 1}
    assert quiet_options(False) == {"temperature": 0, "seed": 0, "repeat_penalty": 1.0}
    monkeypatch.setattr(machine, "cores", lambda: 8)
    assert quiet_options(True) == quiet_options(False)


# ---------------------------------------------------------------- exact prompts


@pytest.fixture(scope="session")
def tokenizer(smollm2_gguf: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(smollm2_gguf.parent), gguf_file=smollm2_gguf.name)


PROMPTS = {
    "user": TALK[3:],
    "system": [TALK[0], TALK[3]],
    "turns": TALK,
    "no system": TALK[1:],
    "late system": [*TALK[1:3], TALK[0], TALK[3]],
    "more turns": [
        *TALK,
        {"role": "assistant", "content": "好" * 9},
        {"role": "user", "content": "?"},
    ],
}


@pytest.mark.ollama
@pytest.mark.oracle
@pytest.mark.parametrize("case", PROMPTS)
def test_prompt_ids_are_what_transformers_feeds(
    ollama: Ollama, smol: str, tokenizer: Any, case: str
) -> None:
    wanted = tokenizer.apply_chat_template(
        PROMPTS[case], chat_template=CHATML_JINJA, tokenize=True, return_dict=False
    )
    before = names(ollama)
    assert ollama.prompt_ids(smol, PROMPTS[case]) == wanted
    assert ollama.prompt_tokens(smol, PROMPTS[case]) == len(wanted)
    text = tokenizer.apply_chat_template(PROMPTS[case], chat_template=CHATML_JINJA, tokenize=False)
    assert ollama.prompt_tokens(smol, [], raw_text=text) == len(wanted)
    assert names(ollama) == before


@pytest.mark.ollama
@pytest.mark.oracle
def test_a_wrong_template_shows_in_the_ids(ollama: Ollama, smol: str, tokenizer: Any) -> None:
    """The proof rests on this: one newline less is seen."""
    ollama.create("wrong", from_=smol, template=CHATML.replace("assistant\n", "assistant"))
    try:
        ids = ollama.prompt_ids("wrong", TALK)
    finally:
        ollama.delete("wrong")
    assert ids == (ollama.prompt_ids(smol, TALK) or [])[:-1]


@pytest.mark.ollama
def test_ids_where_the_reply_merges_with_the_prompt(ollama: Ollama, smol: str) -> None:
    """After "Hello.\n" the model says "\n", and the tokenizer has one token for two line ends."""
    ollama.create("bare", from_=smol, template="{{ range .Messages }}{{ .Content }}{{ end }}")
    message = {"role": "user", "content": "Hello.\n"}
    try:
        reply = ollama.chat("bare", [message], options=QUIET | {"num_predict": 1})
        assert reply.text == "\n"  # else this test shows nothing
        assert ollama.prompt_ids("bare", [message]) == [19556, 30, 198]
        assert reply.prompt_tokens == 3
    finally:
        ollama.delete("bare")


@pytest.mark.ollama
def test_ids_begin_with_the_bos_that_the_model_gets(
    ollama: Ollama, smol: str, smollm2_gguf: Path, tmp_path: Path
) -> None:
    """The same GGUF with tokenizer.ggml.add_bos_token turned on."""
    data = bytearray(smollm2_gguf.read_bytes())
    key = b"tokenizer.ggml.add_bos_token"
    value = data.index(key) + len(key) + 4  # after the type, 7: bool
    assert bytes(data[value - 4 : value + 1]) == b"\x07\0\0\0\0"
    data[value] = 1
    gguf = tmp_path / "bos.gguf"
    gguf.write_bytes(data)
    ollama.create("bos", gguf=gguf, template=CHATML)
    try:
        ids = ollama.prompt_ids("bos", HI)
        assert ids == [1, *(ollama.prompt_ids(smol, HI) or [])]
        assert len(ids) == ollama.prompt_tokens("bos", HI)
    finally:
        ollama.delete("bos")


@pytest.mark.ollama
def test_ids_with_the_models_own_system_and_history(
    ollama: Ollama, smol: str, tokenizer: Any
) -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ollama.create("own", from_=smol, system="Own.", messages=history)
    ollama.create("sys", from_=smol, system="Own.")
    try:
        own = [{"role": "system", "content": "Own."}, *history, *SHORT[1:]]
        assert ollama.prompt_ids("own", SHORT[1:]) == ids_of(tokenizer, own)
        assert ollama.prompt_tokens("own", SHORT[1:]) == len(ids_of(tokenizer, own))
        assert ollama.prompt_ids("own", SHORT) is None  # chat and generate put it elsewhere
        assert ollama.prompt_ids("sys", SHORT) == ids_of(tokenizer, SHORT)  # ours replaces its own
        assert ollama.prompt_tokens("sys", SHORT) == len(ids_of(tokenizer, SHORT))
    finally:
        ollama.delete("own")
        ollama.delete("sys")


def ids_of(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        messages, chat_template=CHATML_JINJA, tokenize=True, return_dict=False
    )
    return ids


@pytest.mark.ollama
def test_a_prompt_longer_than_the_context(ollama: Ollama, smol: str) -> None:
    ollama.create("short", from_=smol, parameters={"num_ctx": 64})
    try:
        with pytest.raises(JobError, match="does not fit the context"):
            ollama.prompt_ids("short", [*SHORT[:3], {"role": "user", "content": "word " * 80}])
        assert not [name for name in names(ollama) if "probe" in name]
    finally:
        ollama.delete("short")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "x"}],
        [{"role": "user", "content": ""}],
        [{"role": "tool", "content": "1"}, {"role": "user", "content": "x"}],
        [{"role": "user", "content": "x", "images": []}],
        [{"role": "assistant", "content": "<think>a</think>b"}, {"role": "user", "content": "x"}],
    ],
)
def test_no_ids_where_generate_would_render_otherwise(messages: list[dict[str, Any]]) -> None:
    assert generate_plan(messages, parse_shown({}, is_local=True)) is None


@pytest.mark.ollama
def test_prompt_text_where_the_server_renders(ollama: Ollama, smol: str) -> None:
    text = ollama.prompt_text(smol, TALK)
    if tuple(map(int, ollama.version().split(".")[:3])) < (0, 11, 5):
        assert text is None
    else:
        assert (
            text
            == "".join(
                f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in TALK
            )
            + "<|im_start|>assistant\n"
        )


# ---------------------------------------------------------------- servers that misbehave


def talk(*lines: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    """A server that has every blob and a model, and answers a POST with these lines."""

    def handle(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if request.command == "HEAD":
            return reply(request, b"")
        if request.path == "/api/tags":
            return reply(request, b'{"models": [{"model": "m:latest", "digest": "d"}]}')
        if request.path == "/api/version":
            return reply(request, b'{"version": "0.12.0"}')
        return reply(request, b"\n".join(lines), status)

    return handle


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    return tmp_path / "m.gguf"


def test_create_needs_the_final_success(serve: Serve, gguf: Path) -> None:
    lines = b'{"status": "parsing GGUF"}', b'{"status": "writing manifest"}'
    with serve(talk(*lines)) as url, pytest.raises(JobError, match="did not finish") as caught:
        Ollama(url).create("x", gguf=gguf)
    assert "'writing manifest'" in caught.value.why


def test_an_error_line_is_an_error_even_before_success(serve: Serve, gguf: Path) -> None:
    """0.9.3 sends HTTP 200, an error line, and may go on (ollama server/create.go)."""
    lines = b'{"status": "a"}', b'{"error": "no space left on device"}', b'{"status": "success"}'
    with serve(talk(*lines)) as url, pytest.raises(ServerError) as caught:
        Ollama(url).create("x", gguf=gguf)
    assert caught.value.words == "no space left on device"
    assert "free disk space" in caught.value.fix


def test_the_second_vanished_blob_is_an_error(serve: Serve, gguf: Path) -> None:
    asked: list[str] = []
    words = b'{"error": "open /m/blobs/sha256-ab: no such file or directory"}'
    answer = talk(words)

    def handle(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        answer(request)

    with serve(handle) as url, pytest.raises(ServerError, match="no such file"):
        Ollama(url).create("x", gguf=gguf)
    assert asked.count("/api/create") == 2


def test_debug_render(serve: Serve) -> None:
    seen: list[dict[str, Any]] = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/api/version":
            return reply(request, b'{"version": "0.11.5-rc1"}')
        seen.append(json.loads(request.rfile.read(int(request.headers["Content-Length"]))))
        return reply(request, b'{"_debug_info": {"rendered_template": "<s>hi"}}')

    tools = [{"type": "function", "function": {"name": "f", "strict": True}}]
    messages = [{"role": "assistant", "content": "", "tool_calls": []}, *HI]
    with serve(handle) as url:
        assert Ollama(url).prompt_text("m", messages, tools=tools, think=False) == "<s>hi"
    (body,) = seen
    assert body["_debug_render_only"] is True
    assert (body["messages"], body["tools"], body["think"]) == (messages, tools, False)


@pytest.mark.parametrize("page", [b"<html>nginx</html>", b"[1, 2]", b""])
def test_something_else_listens(serve: Serve, page: bytes) -> None:
    with serve(lambda request: reply(request, page)) as url:
        for call in (Ollama(url).version, Ollama(url).models):
            with pytest.raises(MachineError, match="is not Ollama") as caught:
                call()
            assert caught.value.code == ExitCode.MACHINE


def test_a_gateway_that_fails(serve: Serve) -> None:
    with serve(lambda request: reply(request, b"<h1>502 Bad Gateway</h1>", 502)) as url:
        with pytest.raises(ServerError, match="502 Bad Gateway"):
            Ollama(url).version()
        with pytest.raises(ServerError, match="502 Bad Gateway"):
            Ollama(url).models()


def drop(request: BaseHTTPRequestHandler) -> None:
    """Promise much, send a little, hang up."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"message": {"content": "Hel"}}\n')
    request.close_connection = True


@pytest.mark.parametrize(
    "call",
    [
        lambda ollama, gguf: ollama.version(),
        lambda ollama, gguf: ollama.models(),
        lambda ollama, gguf: ollama.show("m"),
        lambda ollama, gguf: ollama.chat("m", HI),
        lambda ollama, gguf: list(ollama.chat_stream("m", HI)),
        lambda ollama, gguf: ollama.copy("m", "n"),
        lambda ollama, gguf: ollama.upload(gguf, "ab" * 32),
    ],
)
def test_a_connection_that_breaks(
    serve: Serve, gguf: Path, call: Callable[[Ollama, Path], Any]
) -> None:
    def handle(request: BaseHTTPRequestHandler) -> None:
        if request.command == "HEAD":
            return reply(request, b"", 404)
        return drop(request)

    with serve(handle) as url, pytest.raises(JobError, match="broke off") as caught:
        call(Ollama(url), gguf)
    assert f"curl {url}/api/version" in caught.value.fix


def test_a_stream_that_just_ends(serve: Serve) -> None:
    line = b'{"message": {"content": "Hel"}, "done": false}'
    with serve(talk(line)) as url, pytest.raises(JobError, match="the answer of m broke off"):
        list(Ollama(url).chat_stream("m", HI))


def test_an_error_in_the_middle_of_a_stream(serve: Serve) -> None:
    lines = b'{"message": {"content": "Hel"}, "done": false}', b'{"error": "out of memory"}'
    with serve(talk(*lines)) as url:
        pieces = Ollama(url).chat_stream("m", HI)
        assert next(pieces) == "Hel"
        with pytest.raises(ServerError, match="out of memory"):
            next(pieces)


def test_the_callers_own_error_passes(serve: Serve, gguf: Path) -> None:
    """An error in a status callback is not taken for the server's."""

    def status(line: str) -> None:
        raise OSError("my disk")

    with serve(talk(b'{"status": "success"}')) as url, pytest.raises(OSError, match="my disk"):
        Ollama(url).create("x", gguf=gguf, status=status)


@pytest.mark.parametrize(
    ("host", "fix"),
    [("http://127.0.0.1:9", "ollama serve"), ("http://no-such-host.invalid:9", "OLLAMA_HOST")],
)
def test_nothing_answers(host: str, fix: str) -> None:
    ollama = Ollama(host)
    for call in (ollama.version, ollama.models, lambda: ollama.chat("m", HI)):
        with pytest.raises(MachineError, match=f"no Ollama answers at {host}") as caught:
            call()
        assert fix in caught.value.fix
        assert caught.value.why


def test_the_environment_names_the_server(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(talk()) as url:
        monkeypatch.setenv("OLLAMA_HOST", url.removeprefix("http://"))
        assert Ollama().version() == "0.12.0"
    monkeypatch.setenv("OLLAMA_HOST", "host:port")
    with pytest.raises(UsageError):
        Ollama()


def test_a_hanging_server_is_left_in_time(serve: Serve) -> None:
    def handle(request: BaseHTTPRequestHandler) -> None:
        time.sleep(1.5)
        request.close_connection = True

    with serve(handle) as url, pytest.raises(JobError, match="did not answer in time"):
        Ollama(url, timeout_s=0.2).version()
