"""Is an answer that a client has heard to its end always in the ledger? The proxy is killed often.

    python benchmarks/loop_capture.py [KILLS [ACKNOWLEDGED]]

An upstream of our own streams answers to 16 clients through `ft2ollama collect serve`, which gets
SIGKILL at a random moment and is started again, KILLS times (default 12), until ACKNOWLEDGED
answers (default 1500) were heard. Prints what was heard, kept and lost; exit code 1 when anything
was lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

CLIENTS, PIECES = 16, 12
ASKED = {"model": "m", "messages": [{"role": "user", "content": "How long may I return it?"}]}


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """An Ollama that answers every question in pieces."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    head = [(b"content-type", b"application/x-ndjson")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for n in range(PIECES):
        line = {"model": "m", "message": {"content": f"{n} "}, "done": n == PIECES - 1}
        body = json.dumps(line).encode() + b"\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0.002)
    await send({"type": "http.response.body", "body": b""})


def serve_upstream(port_file: Path) -> None:
    """In a process of its own."""
    import uvicorn

    from ft2ollama.loop.proxy.serve import listen

    opened = listen("127.0.0.1", 0)
    port_file.write_text(str(opened.getsockname()[1]))
    config = uvicorn.Config(upstream, log_config=None, access_log=False, lifespan="off", http="h11")
    uvicorn.Server(config).run(sockets=[opened])


def client(address: str, heard: set[str]) -> None:
    """Ask until the proxy is gone; remember the answers that were heard to their end."""
    with httpx.Client(timeout=60) as http:
        while True:
            try:
                with http.stream("POST", f"{address}/api/chat", json=ASKED) as answer:
                    for line in answer.iter_lines():
                        if json.loads(line)["done"]:
                            heard.add(answer.headers["x-f2o-rid"])
            except httpx.TransportError:
                return


def a_round(target: str, environment: dict[str, str], wanted: int) -> set[str]:
    """Start, ask, kill."""
    command = [sys.executable, "-m", "ft2ollama", "--json", "collect", "serve", "--consent=all",
               "--port=0", f"--upstream={target}"]  # fmt: skip
    heard: set[str] = set()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as proxy:
        assert proxy.stdout is not None
        address = json.loads(proxy.stdout.readline())["address"]
        clients = [threading.Thread(target=client, args=(address, heard)) for _ in range(CLIENTS)]
        for one in [threading.Thread(target=proxy.stdout.read), *clients]:
            one.start()
        while len(heard) < wanted:
            time.sleep(0.01)
        time.sleep(random.random() * 0.2)
        os.kill(proxy.pid, signal.SIGKILL)
        for one in clients:
            one.join()
    return heard


def main() -> int:
    """Run all rounds and compare."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "FT2OLLAMA_DATA": name}
        environment.pop("FT2OLLAMA_LEDGER", None)
        command = [sys.executable, __file__, "--upstream", str(folder / "port")]
        with subprocess.Popen(command) as fake:
            while not (folder / "port").exists() or not (folder / "port").read_text():
                time.sleep(0.05)
            target = f"http://127.0.0.1:{(folder / 'port').read_text()}"
            heard: set[str] = set()
            for number in range(kills):
                heard |= a_round(target, environment, -(-wanted // kills))
                print(f"kill {number + 1}: {len(heard)} answers heard so far", flush=True)
            fake.terminate()
        with sqlite3.connect(folder / "ledger.db") as ledger:
            query = "SELECT rid, complete FROM exchange"
            kept = dict(ledger.execute(query).fetchall())
            sound = ledger.execute("PRAGMA integrity_check").fetchone()[0]
        ledger.close()
    lost = heard - {rid for rid, complete in kept.items() if complete}
    print(
        f"{len(heard)} acknowledged, {kills} SIGKILLs, {len(kept)} rows "
        f"({sum(kept.values())} complete), integrity {sound}: {len(lost)} lost"
    )
    return bool(lost)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--upstream"]:
        serve_upstream(Path(sys.argv[2]))
    else:
        sys.exit(main())
