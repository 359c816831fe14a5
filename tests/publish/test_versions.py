"""Names move whole or not at all: versions, history, rollback and swaps on a real Ollama."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fixtures_ollama import CHATML
from go_prompts import byte_model

from ft2ollama.aliases import digest_of, move_alias
from ft2ollama.errors import JobError, UsageError
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server
from ft2ollama.ollama_store import Store, find_store
from ft2ollama.versions import delete_superfluous, history, log_path, record_move
from ft2ollama.way_back import rollback

pytestmark = pytest.mark.ollama
_number = itertools.count()
Publish = Callable[[int], str]


@pytest.fixture
def model(ollama: Ollama) -> Iterator[str]:
    """A name of this test's own; everything under it goes afterwards."""
    name = f"shop{next(_number)}"
    yield name
    for have in ollama.models():
        if have.startswith(f"{name}:"):
            ollama.delete(have)


@pytest.fixture
def publish(ollama: Ollama, ollama_server: Server, smol: str, model: str) -> Publish:
    """publish(n) makes version n, which differs from the others, and points NAME:latest at it."""

    def make(number: int) -> str:
        tag = f"{model}:2026010{number}-120000-run"
        ollama.create(tag, from_=smol, system=f"Version {number} of {model}.")
        now = digest_of(ollama, f"{model}:latest")
        move = move_alias(ollama, f"{model}:latest", tag, expected=now, models=ollama_server.models)
        record_move(ollama, move, action="publish", run=f"run-{number}", proof="equal", forced="")
        return tag

    return make


def test_a_name_moves_by_rename_where_the_store_is_here(
    ollama: Ollama, ollama_server: Server, publish: Publish, model: str
) -> None:
    first, second = publish(1), publish(2)
    store = Store(ollama_server.models)
    assert ollama.show(f"{model}:latest").system == f"Version 2 of {model}."
    assert store.digest(model) == digest_of(ollama, second) != digest_of(ollama, first)
    assert [json.loads(line)["way"] for line in log_path().read_text().splitlines()] == [
        "rename", "rename",
    ]  # fmt: skip
    assert list((store.folder / ".ft2ollama").glob("*.manifest")) == []


def test_the_store_is_known_by_its_digest_and_not_by_its_place(
    ollama: Ollama,
    ollama_server: Server,
    smol: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    digest = str(digest_of(ollama, smol))
    assert find_store(smol, digest) is None  # HOME is another one in these tests
    monkeypatch.setenv("OLLAMA_MODELS", str(ollama_server.models))
    assert find_store(smol, digest) == Store(ollama_server.models)
    assert find_store(smol, "0" * 64) is None
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    assert find_store(smol, digest) is None


def test_without_the_store_a_name_moves_by_copy(ollama: Ollama, smol: str, model: str) -> None:
    ollama.create(f"{model}:v1", from_=smol, system="one")
    move = move_alias(ollama, f"{model}:latest", f"{model}:v1", expected=None)
    assert move.way == "copy"
    assert digest_of(ollama, model) == move.digest


@pytest.mark.parametrize("here", [True, False])
def test_somebody_elses_change_is_not_overwritten(
    ollama: Ollama, ollama_server: Server, publish: Publish, model: str, here: bool
) -> None:
    first, second = publish(1), publish(2)
    seen = digest_of(ollama, model)
    ollama.copy(first, f"{model}:latest")  # another program moves the name
    with pytest.raises(JobError, match="changed by somebody else"):
        move_alias(
            ollama, f"{model}:latest", second, expected=seen,
            models=ollama_server.models if here else None,
        )  # fmt: skip
    assert digest_of(ollama, model) == digest_of(ollama, first)


def test_history_and_the_way_back(
    ollama: Ollama, ollama_server: Server, publish: Publish, model: str
) -> None:
    tags = [publish(number) for number in (1, 2, 3)]
    found = history(ollama, model)
    assert [version.tag for version in found] == tags[::-1]
    assert [version.names for version in found] == [(f"{model}:latest",), (), ()]
    assert found[0].run == "run-3"
    assert found[0].proof == "equal"
    began = time.monotonic()
    move = rollback(ollama, model, models=ollama_server.models)
    assert time.monotonic() - began < 1
    assert (move.tag, move.way) == (tags[1], "rename")
    assert rollback(ollama, model, models=ollama_server.models).tag == tags[0]
    with pytest.raises(UsageError, match="no version to go back to"):
        rollback(ollama, model)
    assert rollback(ollama, model, to="20260103").tag == tags[2]
    assert ollama.show(model).system == f"Version 3 of {model}."
    with pytest.raises(UsageError, match="already is"):
        rollback(ollama, model, to=tags[2])
    with pytest.raises(UsageError, match="no version 'nonsense'"):
        rollback(ollama, model, to="nonsense")
    with pytest.raises(UsageError, match="3 versions are called '2026'"):
        rollback(ollama, model, to="2026")


def test_a_model_that_nobody_published_has_no_history(ollama: Ollama, smol: str) -> None:
    with pytest.raises(UsageError, match="no version of smol that ft2ollama published"):
        history(ollama, smol)


def test_old_versions_go_but_none_that_a_name_is(
    ollama: Ollama, publish: Publish, model: str
) -> None:
    tags = [publish(number) for number in (1, 2, 3, 4, 5)]
    ollama.copy(tags[1], f"{model}:prod")
    rollback(ollama, model, to=tags[3])  # latest is 4: a rollback would go to 3
    assert delete_superfluous(ollama, model, keep=1) == []  # 5 newest, 4 latest, 3 and 1 its way
    ollama.delete(f"{model}:prod")
    assert delete_superfluous(ollama, model, keep=1) == [tags[1], tags[0]]
    assert {version.tag for version in history(ollama, model)} == set(tags[2:])
    assert ollama.chat(model, [{"role": "user", "content": "x"}], options={"num_predict": 1})


def test_an_empty_manifest_is_healed(
    ollama: Ollama, ollama_server: Server, publish: Publish, model: str
) -> None:
    """What a crash of `ollama cp` leaves: the name is on the disk, and the list lacks it."""
    tag = publish(1)
    store = Store(ollama_server.models)
    store.manifest(model).write_bytes(b"")
    assert digest_of(ollama, model) is None
    move_alias(ollama, f"{model}:latest", tag, expected=None, models=ollama_server.models)
    assert ollama.show(model).system == f"Version 1 of {model}."


def test_fifty_swaps_under_eight_clients_and_a_running_stream(
    ollama: Ollama, ollama_server: Server, publish: Publish, model: str
) -> None:
    tags = [publish(1), publish(2)]
    ended, failures, done = threading.Event(), [], itertools.count()

    def hammer(number: int) -> None:
        paths = [("GET", "/api/tags", None), ("POST", "/api/show", {"model": model})]
        with httpx.Client(base_url=ollama_server.host, timeout=60) as client:
            while not ended.is_set():
                method, path, body = paths[number % 2]
                answer = client.request(method, path, json=body)
                if answer.status_code != 200 or model not in answer.text:
                    failures.append((answer.status_code, answer.text[:200]))
                next(done)

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    options = {"temperature": 0, "num_predict": 40, "num_thread": 1}
    stream = ollama.chat_stream(model, [{"role": "user", "content": "Count."}], options=options)
    first = next(stream)
    for number in range(50):
        now = digest_of(ollama, model)
        move_alias(
            ollama, f"{model}:latest", tags[number % 2], expected=now,
            models=ollama_server.models,
        )  # fmt: skip
    rest = list(stream)
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert next(done) > 100
    assert isinstance(first, str)
    assert rest[-1].text.startswith(first)  # type: ignore[union-attr]
    assert rest[-1].done_reason in ("stop", "length")  # type: ignore[union-attr]


REQUESTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("/api/chat", {"stream": True}),
    ("/api/chat", {"stream": False}),
    ("/v1/chat/completions", {"stream": True, "max_tokens": 40}),
    ("/v1/chat/completions", {"max_tokens": 4}),
)
_ENDS = ('"done":true', "[DONE]", '"finish_reason":"')


def test_fifty_swaps_between_two_files_under_eight_clients_that_talk(
    ollama: Ollama, ollama_server: Server, model: str, tmp_path: Path
) -> None:
    """Other weights behind the name: two runners; streams go on in the one they began in."""
    tags = [f"{model}:2026010{number}-120000-run" for number in (1, 2)]
    for number, tag in enumerate(tags):
        gguf = byte_model(tmp_path / f"{number}.gguf", seed=number)
        ollama.create(tag, gguf=gguf, template=CHATML, parameters={"num_ctx": 256, "num_thread": 1})
    move_alias(ollama, model, tags[0], expected=None, models=ollama_server.models)
    ended, failures, done = threading.Event(), list[str](), list[str]()

    def talk(number: int) -> None:
        path, more = REQUESTS[number % len(REQUESTS)]
        body = {"model": model, "messages": [{"role": "user", "content": f"n{number}"}], **more}
        if path == "/api/chat":
            body["options"] = {"num_predict": 40}
        with httpx.Client(base_url=ollama_server.host, timeout=120) as client:
            while not ended.is_set():
                answer = client.post(path, json=body)
                if answer.status_code != 200 or not any(end in answer.text for end in _ENDS):
                    failures.append(f"{path} {answer.status_code} {answer.text[-200:]}")
                done.append(path)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        swaps = 0
        while swaps < 50 or (len(done) <= 50 and swaps < 500):  # a slow machine answers less
            now, swaps = digest_of(ollama, model), swaps + 1
            move_alias(ollama, model, tags[swaps % 2], expected=now, models=ollama_server.models)
            assert ollama.show(model).digest == ollama.show(tags[swaps % 2]).digest
            time.sleep(0.02)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(done) > 50
