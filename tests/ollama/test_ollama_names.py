from __future__ import annotations

import random

import httpx
import pytest

from ft2ollama.errors import ExitCode, UsageError
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_names import canonical_name, check_name, is_loopback, server_url

VALID = [
    "a", "A", "_", "9", "my-model", "my_model", "my.model", "my-model:v20260801-1", "m:latest",
    "m.-_", "ns/m", "n-s/m:t", "_n/m", "host/ns/m", "host.com:5000/ns/m:t", "a" * 80,
    "m:" + "t" * 80, "n" * 80 + "/m", "http://host/ns/m", "m:0", "m:_x", "a--b..c",
]  # fmt: skip
INVALID = {
    "": "the model is empty",
    ":": "the model is empty",
    "m:": "the tag is empty",
    ":t": "the model is empty",
    "/m": "the namespace is empty",
    "m/": "the model is empty",
    "//m": "the host is empty",
    "-m": "the model starts with '-'",
    ".m": "the model starts with '.'",
    "m:-t": "the tag starts with '-'",
    "-n/m": "the namespace starts with '-'",
    "my model": "' ' is not allowed in the model",
    "我的模型": "'我' is not allowed in the model",
    "m:版本": "'版' is not allowed in the tag",
    "m:v+1": "'+' is not allowed in the tag",
    "n.s/m": "'.' is not allowed in the namespace",
    "n:s/m": "':' is not allowed in the namespace",
    "a:b:c": "':' is not allowed in the model",
    "h/o/n/m": "'/' is not allowed in the host",
    "m@sha256": "'@' is not allowed in the model",
    "m\n": "'\\n' is not allowed in the model",
    "mödel": "'ö' is not allowed in the model",
    "m²": "'²' is not allowed in the model",
    "a" * 81: "the model has 81 bytes; at most 80",
    "m:" + "t" * 81: "the tag has 81 bytes",
    "n" * 81 + "/m": "the namespace has 81 bytes",
    "-" + "h" * 350 + "/n/m": "the host has 351 bytes; at most 350",
}


def server_accepts(ollama: Ollama, model: str, name: str) -> bool:
    """Ask without our own check. A model that was made is removed."""
    body = {"model": name, "from": model, "stream": False}
    reply = httpx.post(f"{ollama.host}/api/create", json=body, trust_env=False)
    if reply.status_code == 200:
        httpx.request("DELETE", f"{ollama.host}/api/delete", json={"model": name}, trust_env=False)
        return True
    assert "invalid model name" in reply.json()["error"]
    return False


def we_accept(name: str) -> bool:
    try:
        check_name(name)
    except UsageError as error:
        check_name(error.fix.removeprefix("use "))
        return False
    return True


@pytest.mark.ollama
@pytest.mark.parametrize("name", VALID)
def test_valid_names(ollama: Ollama, smol: str, name: str) -> None:
    check_name(name)
    assert server_accepts(ollama, smol, name)


@pytest.mark.ollama
@pytest.mark.parametrize("name", INVALID)
def test_invalid_names(ollama: Ollama, smol: str, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert caught.value.code == ExitCode.USAGE
    assert INVALID[name] in caught.value.why
    check_name(caught.value.fix.removeprefix("use "))  # what we propose is valid
    if name:  # without any name the server has another error
        assert not server_accepts(ollama, smol, name)


@pytest.mark.ollama
def test_random_names_get_the_servers_verdict(ollama: Ollama, smol: str) -> None:
    chance = random.Random(7)
    verdicts = []
    for _ in range(120):
        name = "".join(chance.choices("aZ9_-.:/ @模", k=chance.randint(1, 8)))
        verdicts.append(we_accept(name))
        assert verdicts[-1] == server_accepts(ollama, smol, name), name
    assert 10 < sum(verdicts) < 110  # both verdicts occur


@pytest.mark.parametrize("tag", ["local", "cloud", "Cloud", "v1-cloud"])
def test_tags_that_newer_servers_take_for_a_place(tag: str) -> None:
    with pytest.raises(UsageError, match="cannot be published") as caught:
        check_name(f"my-model:{tag}")
    check_name(caught.value.fix.removeprefix("use "))


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("我的模型", "use my-model"),
        ("客服 bot:v1", "use bot:v1"),
        ("My Model", "use my-model"),
        ("me/我的模型:v1", "use me/my-model:v1"),
        ("m:local", "use m"),
        ("m:v1-cloud", "use m:v1"),
        ("a" * 81, "use " + "a" * 80),
    ],
)
def test_suggestions(name: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert caught.value.fix == fix


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("m", "m:latest"),
        ("m:v1", "m:v1"),
        ("me/m", "me/m:latest"),
        ("library/m", "m:latest"),
        ("registry.ollama.ai/library/m:x", "m:x"),
        ("host:5000/me/m", "host:5000/me/m:latest"),
    ],
)
def test_canonical_name(name: str, shown: str) -> None:
    assert canonical_name(name) == shown


@pytest.mark.ollama
@pytest.mark.parametrize("name", ["cn", "me/cn", "library/cn2:x", "h.com:5000/me/cn"])
def test_canonical_name_is_what_the_server_lists(ollama: Ollama, smol: str, name: str) -> None:
    ollama.create(name, from_=smol)
    try:
        assert canonical_name(name) in ollama.models()
        assert ollama.exists(name)
        assert ollama.exists(name.upper())
        assert not ollama.exists(name + "x")
    finally:
        ollama.delete(name)


@pytest.mark.parametrize(
    ("given", "url"),
    [  # the forms of ollama envconfig/config_test.go
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("[::]:1337", "http://[::1]:1337"),
        ("example.com", "http://example.com:11434"),
        ("example.com:56789", "http://example.com:56789"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://example.com/ollama/", "https://example.com:443/ollama"),
        ("example.com/ollama", "http://example.com:11434/ollama"),
        (' " 1.2.3.4 " ', "http://1.2.3.4:11434"),
        ("'1.2.3.4'", "http://1.2.3.4:11434"),
        ("localhost", "http://localhost:11434"),
    ],
)
def test_hosts(monkeypatch: pytest.MonkeyPatch, given: str, url: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert server_url() == url
    assert server_url(given) == url
    assert server_url("9.9.9.9") == "http://9.9.9.9:11434"


@pytest.mark.parametrize("given", ["host:port", "1.2.3.4:66000", "http://[::1", "host:-1"])
def test_wrong_hosts(given: str) -> None:
    with pytest.raises(UsageError, match="is not an address") as caught:
        server_url(given)
    assert caught.value.fix == "export OLLAMA_HOST=127.0.0.1:11434"


def test_loopback() -> None:
    assert all(map(is_loopback, ["http://127.9.9.9:1", "http://[::1]:1", "http://localhost:1"]))
    assert not any(map(is_loopback, ["http://10.0.0.1:1", "http://localhost.example.com:1"]))
