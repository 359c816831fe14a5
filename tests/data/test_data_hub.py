"""A data set of a hub: Hugging Face `datasets` against a small hub of our own, and without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

ROWS = "\n".join(json.dumps({"instruction": f"Q{i}", "output": "A"}) for i in range(5)).encode()
COMMIT = "a" * 40
FILE = {"type": "file", "path": "train.jsonl", "size": len(ROWS), "oid": "b" * 40}
INFO = {
    "id": "own/data", "sha": COMMIT, "siblings": [{"rfilename": "train.jsonl"}], "private": False,
    "gated": False, "downloads": 0, "likes": 0, "tags": [],
    "lastModified": "2026-01-01T00:00:00.000Z",
}  # fmt: skip
PROGRAM = """
import json, sys
from pathlib import Path
from ft2ollama.data.load import Reading, collect
for name, streaming in json.loads(sys.argv[1]):
    loaded = collect([name], Path("."), Reading(max_samples=2, streaming=streaming))
    print(json.dumps([
        [row.place for row in loaded.conversations],
        [[one.code, one.values.get("reason", "")] for one in loaded.problems],
    ]))
"""


def answer(request: Request) -> Response:
    """The part of the hub's API that the library asks for."""
    path = request.path
    if path.startswith("/api/datasets/own/data/tree"):
        return Response(json.dumps([FILE]), content_type="application/json")
    if path.startswith("/api/datasets/own/data"):
        return Response(json.dumps(INFO), content_type="application/json")
    if path.endswith("/train.jsonl"):
        return Response(ROWS, headers={"ETag": f'"{"b" * 40}"', "X-Repo-Commit": COMMIT})
    code = "EntryNotFound" if "resolve" in path else "RepoNotFound"
    return Response("{}", 404, {"X-Error-Code": code}, content_type="application/json")


def read(endpoint: str, folder: Path, *jobs: tuple[str, bool]) -> list[Any]:
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(jobs)],
        env={**os.environ, **hub},
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == "", "the library must not talk to the user"
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_hub_and_then_none(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request(re.compile(".*")).respond_with_handler(answer)
    entry = {"part": {"hf_hub_url": "own/data", "split": "test"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(entry), "utf-8")
    endpoint = httpserver.url_for("").rstrip("/")
    places = ["own/data: row 1", "own/data: row 2"]
    whole, streamed, part, missing = read(
        endpoint, tmp_path,
        ("own/data", False), ("own/data", True), ("part", False), ("no/data", False),
    )  # fmt: skip
    assert whole == streamed == [places, []]
    assert part[1][0][0] == "hub-part"
    assert missing[1][0][0] == "hub-missing"
    nobody = "http://127.0.0.1:9"
    cached, unknown = read(nobody, tmp_path, ("own/data", False), ("no/data", False))
    assert cached == [places, []], "an earlier download is used when the hub is away"
    assert unknown[0] == []
    assert unknown[1][0][0] == "hub-unreachable"
    assert "refused" in unknown[1][0][1]
