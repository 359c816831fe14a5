"""What does the proxy cost? Time to first token and throughput, with it and without.

    python benchmarks/loop_proxy.py [ROUNDS]

An upstream of our own (a process) sends 64 pieces as fast as it can; the proxy is `ft2ollama
collect serve`, strict, on SQLite. One after another, interleaved (ROUNDS of each, default 200):
time to the first piece and to the last. Then 64 streams at once, 20 ms between pieces as a model
would have it, and as fast as they come.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

PIECES, STREAMS = 64, 64
TEXT = "What may I return, and how long after I bought it? " * 40  # 2 kB


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """64 pieces; the path's query says how many milliseconds lie between them."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    pause = int(dict([scope["query_string"].partition(b"=")[::2]]).get(b"pause", 0)) / 1000
    head = [(b"content-type", b"application/x-ndjson")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for n in range(PIECES):
        said = {"role": "assistant", "content": f" word{n}"}
        line = {"model": "m", "message": said, "done": n == PIECES - 1}
        body = json.dumps(line).encode() + b"\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(pause)
    await send({"type": "http.response.body", "body": b""})


def serve_upstream(port_file: Path) -> None:
    """In a process of its own."""
    import uvicorn

    from ft2ollama.loop.proxy.serve import listen

    opened = listen("127.0.0.1", 0)
    port_file.write_text(str(opened.getsockname()[1]))
    config = uvicorn.Config(upstream, log_config=None, access_log=False, lifespan="off", http="h11")
    uvicorn.Server(config).run(sockets=[opened])


def one(http: httpx.Client, url: str) -> tuple[float, float]:
    """Milliseconds to the first piece and to the end."""
    asked = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
    began = time.perf_counter()
    first = 0.0
    with http.stream("POST", f"{url}/api/chat", json=asked) as answer:
        for _ in answer.iter_raw():
            first = first or time.perf_counter() - began
    return 1000 * first, 1000 * (time.perf_counter() - began)


async def many(url: str, pause: int) -> tuple[float, float]:
    """64 streams at once: pieces per second over all, and the median time to the first piece."""
    asked = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
    firsts: list[float] = []

    async def stream(http: httpx.AsyncClient) -> None:
        for _ in range(3):
            began = time.perf_counter()
            first = 0.0
            path = f"{url}/api/chat?pause={pause}"
            async with http.stream("POST", path, json=asked) as answer:
                async for _ in answer.aiter_raw():
                    first = first or time.perf_counter() - began
            firsts.append(1000 * first)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=120) as http:
        began = time.perf_counter()
        await asyncio.gather(*(stream(http) for _ in range(STREAMS)))
        seconds = time.perf_counter() - began
    return 3 * STREAMS * PIECES / seconds, statistics.median(firsts)


def measure(direct: str, proxy: str, rounds: int) -> None:
    """Print the comparison."""
    times: dict[str, list[tuple[float, float]]] = {direct: [], proxy: []}
    with httpx.Client(timeout=60) as http:
        for _ in range(rounds + 10):
            for url, found in times.items():
                found.append(one(http, url))
    for place, name in enumerate(("first piece", "whole answer")):
        without, with_it = ([row[place] for row in times[url][10:]] for url in (direct, proxy))
        p50, p90 = (
            [statistics.quantiles(values, n=10)[n] for values in (without, with_it)] for n in (4, 8)
        )
        print(
            f"{name}: p50 {p50[0]:.2f} -> {p50[1]:.2f} ms (+{p50[1] - p50[0]:.2f}), "
            f"p90 {p90[0]:.2f} -> {p90[1]:.2f} ms"
        )
    for pause in (20, 0):
        for name, url in (("direct", direct), ("proxy", proxy)):
            rate, first = asyncio.run(many(url, pause))
            print(
                f"{STREAMS} streams, {pause} ms between pieces, {name}: {rate:,.0f} pieces/s, "
                f"first piece p50 {first:.1f} ms"
            )


def main() -> None:
    """Start both servers and measure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as name:
        port_file = Path(name) / "port"
        environment = {**os.environ, "FT2OLLAMA_DATA": name}
        environment.pop("FT2OLLAMA_LEDGER", None)
        with subprocess.Popen([sys.executable, __file__, "--upstream", str(port_file)]) as fake:
            while not port_file.exists() or not port_file.read_text():
                time.sleep(0.05)
            direct = f"http://127.0.0.1:{port_file.read_text()}"
            command = [sys.executable, "-m", "ft2ollama", "--json", "collect", "serve",
                       "--consent=all", "--port=0", f"--upstream={direct}"]  # fmt: skip
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as proxy:
                assert proxy.stdout is not None
                address = json.loads(proxy.stdout.readline())["address"]
                # stdout is a pipe that must not fill up
                drain = subprocess.Popen(["cat"], stdin=proxy.stdout, stdout=subprocess.DEVNULL)
                measure(direct, address, rounds)
                proxy.terminate()
                proxy.wait()
            drain.wait()
            fake.terminate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--upstream"]:
        serve_upstream(Path(sys.argv[2]))
    else:
        main()
