"""Bearer tokens: who may use the proxy.

In: a file, one token a line (# starts a comment).  Out: an ASGI layer that lets a request through
when its Authorization header carries one of them. Compared as hashes, in constant time.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ft2ollama.errors import UsageError

_SHORTEST = 16


def read_tokens(path: Path) -> tuple[bytes, ...]:
    """Their hashes. Raises UsageError for a file without tokens, or with a short one."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the tokens: {path}", str(error), _MAKE) from error
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise UsageError(f"no token in {path}", "one token a line", _MAKE)
    for number, line in enumerate(lines, 1):
        if line in tokens and len(line) < _SHORTEST:
            raise UsageError(
                f"{path}:{number}: the token is too short", f"under {_SHORTEST}", _MAKE
            )
    return tuple(sha256(token.encode()).digest() for token in tokens)


_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe())' > tokens.txt"


class Tokens:
    """The layer around an ASGI application."""

    def __init__(self, app: Any, hashes: Sequence[bytes]) -> None:
        self._app, self._hashes = app, hashes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """401 without a token that we know."""
        if scope["type"] != "http" or self._knows(scope["headers"]):
            await self._app(scope, receive, send)
            return
        body = json.dumps({"error": "ft2ollama: a bearer token is needed"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"www-authenticate", b"Bearer"),
        ]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _knows(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        given = next((value for name, value in headers if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        digest = sha256(token.strip()).digest()
        found = [hmac.compare_digest(digest, known) for known in self._hashes]
        return scheme.lower() == b"bearer" and any(found)
