"""One second try where Ollama stumbles before it has said anything.

In: a request and the head of its reply.  Out: whether to ask again. Ollama answers HTTP 500 with an
error that ends in "EOF" while another tool rewrites a manifest (`ollama cp`) and when a runner dies
at its first token; half a second later the same request is answered. Only requests that change
nothing on the server are repeated, once, and never after a byte of an answer has been passed on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx

from ft2ollama.loop.proxy.capture import ROUTES

PAUSE_S = 0.25
KEEP_BODY = 8 << 20  # bytes of a request that are kept for a second try
_LONGEST_ERROR = 4096
_ONLY_ASK = {*ROUTES, "/api/embed", "/api/embeddings", "/v1/embeddings", "/api/show"}
_EOF = re.compile(r"\bEOF\W*$")


def may_repeat(scope: Mapping[str, Any]) -> bool:
    """Does the request change nothing on the server?"""
    return scope["method"] in ("GET", "HEAD") or (
        scope["method"] == "POST" and scope["path"] in _ONLY_ASK
    )


async def stumbled(reply: httpx.Response) -> tuple[bool, httpx.Response]:
    """(whether it is that error, the reply to go on with); one that was looked at is closed."""
    length = reply.headers.get("content-length", "")
    if reply.status_code != 500 or not length.isdigit() or int(length) > _LONGEST_ERROR:
        return False, reply
    assert isinstance(reply.stream, httpx.AsyncByteStream)
    body = b"".join([chunk async for chunk in reply.stream])
    await reply.aclose()
    again = httpx.Response(500, headers=reply.headers.raw, stream=httpx.ByteStream(body))
    return _says_eof(body), again


def _says_eof(body: bytes) -> bool:
    """Ollama's {"error": "..."} and OpenAI's {"error": {"message": "..."}}."""
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError):
        return False
    text = error.get("message") if isinstance(error, Mapping) else error
    return isinstance(text, str) and bool(_EOF.search(text))
