"""Tell somebody how a cycle ended: a command, a webhook. What fails here fails nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from ft2ollama.loop.place import Say
from ft2ollama.loop.settings import Notify
from ft2ollama.loop.texts import Sentence

_PATIENCE_S = 30


def notify(hooks: Notify, event: str, message: Mapping[str, Any], warn: Say) -> None:
    """event: promoted | rejected | needs_human | failed.  message: what is sent as JSON."""
    if event not in hooks.on:
        return
    text = json.dumps({"event": event, **message}, ensure_ascii=False, default=str)
    for told, where in ((_by_command, hooks.command), (_by_webhook, hooks.webhook)):
        if where:
            try:
                told(where, event, text)
            except Exception as error:  # noqa: BLE001 - whatever a hook does
                warn(Sentence("untold", hook=where.split()[0], error=str(error)))


def _by_command(command: str, event: str, text: str) -> None:
    environment = {**os.environ, "FT2OLLAMA_EVENT": event}
    subprocess.run(
        command, shell=True, input=text, text=True, env=environment, timeout=_PATIENCE_S,
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _by_webhook(address: str, event: str, text: str) -> None:
    import httpx

    headers = {"Content-Type": "application/json", "X-Ft2ollama-Event": event}
    httpx.post(address, content=text, headers=headers, timeout=_PATIENCE_S).raise_for_status()
