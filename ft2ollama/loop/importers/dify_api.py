"""Messages and ratings from the service API of a Dify app -> a file that `dify-api` reads.

In: the address that Dify shows under "API Access" (.../v1), the app's key from DIFY_API_KEY, and
the users whose conversations are wanted: the API lists the conversations of one user at a time.
Out: JSON lines, messages first. GET only; redirects are not followed, so the key goes nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from ft2ollama.errors import MachineError, UsageError

_PAGE = 100
_MOST_PAGES = 100_000
_TIMEOUT_S = 60.0


def fetch(url: str, key: str, users: Sequence[str], target: Path) -> int:
    """Write every message of these users, then every rating; how many rows.

    Raises MachineError when the server does not answer as Dify does, UsageError for a wrong key.
    """
    headers = {"Authorization": f"Bearer {key}"}
    count = 0
    with (
        httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=_TIMEOUT_S) as client,
        target.open("w", encoding="utf-8", newline="\n") as file,
    ):
        for row in _rows(client, users):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _rows(client: httpx.Client, users: Sequence[str]) -> Iterator[dict[str, Any]]:
    for user in users:
        for talk in _older(client, "/conversations", {"user": user}, "last_id", -1):
            asked = {"user": user, "conversation_id": str(talk["id"])}
            yield from _older(client, "/messages", asked, "first_id", 0)
    for page in range(1, _MOST_PAGES):
        data = _get(client, "/app/feedbacks", {"page": page, "limit": _PAGE})["data"]
        yield from data
        if len(data) < _PAGE:
            return


def _older(
    client: httpx.Client, path: str, asked: dict[str, str], cursor: str, edge: int
) -> Iterator[dict[str, Any]]:
    """Page by page: `cursor` names the row at the edge of the page before."""
    after: dict[str, str] = {}
    for _ in range(_MOST_PAGES):
        page = _get(client, path, {**asked, **after, "limit": _PAGE})
        yield from page["data"]
        if not page.get("has_more") or not page["data"]:
            return
        last = {cursor: str(page["data"][edge]["id"])}
        if last == after:
            return
        after = last


def _get(client: httpx.Client, path: str, asked: dict[str, Any]) -> dict[str, Any]:
    where = f"{client.base_url}{path.lstrip('/')}"
    try:
        reply = client.get(path, params=asked)
    except httpx.HTTPError as error:
        raise MachineError(
            f"Dify does not answer: {where}", str(error), "check the address"
        ) from None
    if reply.status_code in (401, 403):
        raise UsageError(
            "Dify does not accept the key", reply.text[:200], "export DIFY_API_KEY=app-..."
        )
    try:
        found = reply.raise_for_status().json()
    except (httpx.HTTPStatusError, ValueError):
        raise MachineError(
            f"this is not Dify's service API: {where}",
            f"HTTP {reply.status_code}: {reply.text[:200]}",
            "the address ends in /v1: see API Access in the app",
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        raise MachineError(f"Dify answered without data: {where}", reply.text[:200])
    return found
