"""What to do with a published model: three ways to reach it, short, on stderr; fields for --json.

The chat command, the OpenAI-compatible address, and the settings of a One-API channel. The address
is that of the server, so a gateway on another machine needs one that it can reach.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ft2ollama.ollama_names import DEFAULT_PORT, is_loopback

if TYPE_CHECKING:
    from ft2ollama.cli.output import Output

_DEFAULT = f"http://127.0.0.1:{DEFAULT_PORT}"


def usage(name: str, host: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Fields for --json.  parameters: the Modelfile's, for what /v1 does not take from it."""
    talk = [{"role": "user", "content": "Hello"}]
    body = {"model": name, **_sent(parameters), "messages": talk}
    return {
        "run": f"ollama run {name}"
        if host == _DEFAULT
        else f"OLLAMA_HOST={host} ollama run {name}",
        "openai": {"base_url": f"{host}/v1", "api_key": "ollama", "model": name},
        "curl": f"curl {host}/v1/chat/completions -H 'Content-Type: application/json' "
        f"-d {shlex.quote(json.dumps(body, ensure_ascii=False, separators=(',', ':')))}",
        "python": _python(name, host, parameters),
        "one_api": {"type": "Ollama", "base_url": host, "models": name},
        "v1_resets": {"temperature": 1.0, "top_p": 1.0},
    }


def show_usage(output: Output, name: str, host: str, parameters: Mapping[str, Any]) -> None:
    """The same for people."""
    found = usage(name, host, parameters)
    output.say("")
    output.say(f"  {found['run']}")
    output.say("  OpenAI-compatible, from a shell and from Python (pip install openai):")
    curl = found["curl"].replace(" -d ", " \\\n  -d ").replace(',"messages"', ',\n      "messages"')
    for text in (curl, found["python"]):
        output.say("\n".join(f"    {line}" for line in text.splitlines()))
    output.say(f"  One-API channel: type Ollama, base URL {host}, model {name}")
    if is_loopback(host):
        output.say("  From another machine that address has to be this machine's.")
    if sent := _sent(parameters):
        kept = " and ".join(f"{key} {value:g}" for key, value in sent.items())
        output.say(
            f"  Where a client of /v1 omits temperature or top_p, it is 1, not the model's:\n"
            f"  send {kept}, as above. /api/chat and the One-API channel keep the model's."
        )


def _sent(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a client of /v1 has to say itself (ollama openai/openai.go FromChatRequest)."""
    return {
        key: int(value) if value == int(value) else value
        for key in ("temperature", "top_p")
        if (value := parameters.get(key)) is not None
    }


def _python(name: str, host: str, parameters: Mapping[str, Any]) -> str:
    more = "".join(f", {key}={value}" for key, value in _sent(parameters).items())
    return (
        "from openai import OpenAI\n"
        f'client = OpenAI(base_url="{host}/v1", api_key="ollama")\n'
        f'messages = [{{"role": "user", "content": "Hello"}}]\n'
        "reply = client.chat.completions.create(\n"
        f'    model="{name}", messages=messages{more})\n'
        "print(reply.choices[0].message.content)"
    )
