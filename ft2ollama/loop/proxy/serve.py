"""Run the proxy until Ctrl-C, then let running answers end and write what waits.

In: where to listen and a `Proxy`.  Out: nothing is lost when this returns. The socket is opened
here, so that a taken port is an error before anything starts.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn

from ft2ollama.errors import MachineError, UsageError
from ft2ollama.loop.proxy.app import Proxy

_HEAD_BYTES = 1 << 20  # as Go's server, which Ollama is
_END_S = 30  # for answers that run when the end is asked for


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: a free one. Raises MachineError, UsageError."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(f"--host {host} is no address", str(error), "--host 127.0.0.1") from error
    opened = socket.socket(family, kind, proto)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(2048)
    except OSError as error:
        opened.close()
        raise MachineError(
            f"cannot listen on {host} port {port}",
            f"{error.strerror}; another Ollama or proxy may be there",
            f"--port {port + 1 if port < 65535 else 11435}, or move Ollama: OLLAMA_HOST",
        ) from error
    return opened


def serve(
    proxy: Proxy, opened: socket.socket, ticking: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Serve on the socket until SIGINT or SIGTERM; a second one ends at once.

    ticking: runs beside the server (a counter on the terminal).
    """
    config = uvicorn.Config(
        proxy.app, log_config=None, access_log=False, server_header=False, date_header=False,
        lifespan="off", ws="none", http="h11", loop="asyncio", timeout_graceful_shutdown=_END_S,
        h11_max_incomplete_event_size=_HEAD_BYTES, timeout_keep_alive=75,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    asyncio.run(_run(proxy, _Server(config), opened, ticking))


class _Server(uvicorn.Server):
    """uvicorn raises the signal again when it has ended; then nothing would be written any more."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the server, and nothing else."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {one: signal.signal(one, self.handle_exit) for one in signals}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


async def _run(
    proxy: Proxy,
    server: uvicorn.Server,
    opened: socket.socket,
    ticking: Callable[[], Awaitable[None]] | None,
) -> None:
    proxy.start()
    beside = asyncio.ensure_future(ticking()) if ticking else None
    try:
        await server.serve(sockets=[opened])
    finally:
        if beside is not None:
            beside.cancel()
        await proxy.stop()
