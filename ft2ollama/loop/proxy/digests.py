"""Which model a name means at this moment: /api/tags, asked while the answer is being made.

An alias may be moved at any time, so the digest is asked at most a second before the question went
upstream; many questions share one asking.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping

_FRESH_S = 1.0
_PATIENCE_S = 2.0


class Digests:
    """get: fetches the body of /api/tags."""

    def __init__(self, get: Callable[[], Awaitable[bytes]]) -> None:
        self._get = get
        self._asked_at = 0.0
        self._task: asyncio.Task[Mapping[str, str]] | None = None

    def asked(self) -> asyncio.Task[Mapping[str, str]]:
        """Name -> digest as of now; never fails, an error gives an empty answer."""
        now = time.monotonic()
        if self._task is None or now - self._asked_at > _FRESH_S:
            self._asked_at = now
            self._task = asyncio.create_task(self._fetch())
        return self._task

    async def _fetch(self) -> Mapping[str, str]:
        try:
            body = await asyncio.wait_for(self._get(), _PATIENCE_S)
            return {one["name"]: one["digest"] for one in json.loads(body)["models"]}
        except Exception:  # noqa: BLE001 - a record without a digest is better than none
            return {}
