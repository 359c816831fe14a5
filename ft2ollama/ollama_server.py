"""A private Ollama server: started on a free loopback port, with nothing left behind.

In: the binary, a models folder of its own, a log file. Out: a `Server` whose end is certain (`with`
left, an error, Ctrl-C, kill -9 of this process), and the shell line that starts it again with the
same models. Used where the user's own Ollama must not be touched: tests, the demo, proofs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from ft2ollama.errors import MachineError
from ft2ollama.ollama_fetch import DOWNLOAD_FIX, fetch_ollama, find_binary, ollama_dir

__all__ = ["Server", "fetch_ollama", "find_binary", "ollama_dir", "server_env", "start_server"]

_START_S = 60.0
_STOP_S = 10.0
# 1 is PR_SET_PDEATHSIG (linux/prctl.h). The parent may have died before the call: look.
_SHIM = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)\n"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class Server:
    """A running `ollama serve` of ours; a context manager that stops it.

    host: its URL.  pid: also the id of its session and process group.  version: what it reports.
    """

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        port: int,
        *,
        binary: Path,
        models: Path,
        log: Path,
        threads: int | None = None,
    ) -> None:
        self._child = child
        self.pid = child.pid
        self.host = f"http://127.0.0.1:{port}"
        self.port = port
        self.binary = binary
        self.models = models
        self.log = log
        self.threads = threads
        self.version = ""

    def keep_hint(self) -> str:
        """Shell line that starts this server again, with the models published into it."""
        limit = f"OMP_THREAD_LIMIT={self.threads} " if self.threads else ""
        models, binary = shlex.quote(str(self.models)), shlex.quote(str(self.binary))
        return f"{limit}OLLAMA_HOST=127.0.0.1:{self.port} OLLAMA_MODELS={models} {binary} serve"

    def stop(self) -> None:
        """End the server and its runners: SIGTERM (it unloads its models), then SIGKILL.

        The child stays unreaped until here, so its pid, which names the group, cannot be another's.
        """
        if self._child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        _await_exit(self.pid, _STOP_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start_server(
    binary: Path,
    *,
    models: Path,
    log: Path,
    port: int | None = None,
    threads: int | None = None,
    timeout_s: float = _START_S,
) -> Server:
    """Start `binary serve` on a loopback port (default: a free one) and wait until it answers.

    models: its OLLAMA_MODELS, nobody else's.  log: gets everything it prints.  threads: most CPU
    threads a model may use, in builds that use OpenMP (ours does); None leaves it to Ollama.
    """
    binary, models, log = binary.absolute(), models.absolute(), log.absolute()
    if not os.access(binary, os.X_OK):
        raise MachineError(f"cannot start {binary}", "it is no executable file", DOWNLOAD_FIX)
    models.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    if port is not None and _answers(port):
        raise MachineError(
            f"port {port} is taken", "another program listens there", "leave the port out"
        )
    for last in (False, False, True):  # between our look and its bind a free port can be taken
        chosen = port or _free_port()
        server = _spawn(binary, chosen, models=models, log=log, threads=threads)
        try:
            server.version = _await_version(server, timeout_s)
        except BaseException as error:
            server.stop()
            taken = isinstance(error, MachineError) and "address already in use" in error.why
            if port is None and taken and not last:
                continue
            raise
        return server
    raise AssertionError("unreachable")


def server_env(port: int, models: Path, threads: int | None = None) -> dict[str, str]:
    """Environment of a private server: ours in every OLLAMA_* variable, the user's in all others.

    - none of the user's OLLAMA_* (host, models folder, context length, debug) may leak in;
    - one model and one request at a time: base and tuned model together would double the memory,
      and every parallel slot costs a whole KV cache;
    - pruning stays on: blobs that a crash left unreferenced go at the next start, and a re-created
      model frees its old layers (`Ollama.create` looks for its blobs right before it needs them);
    - HOME lies in the models folder: `serve` writes a key pair to ~/.ollama, and needs a HOME.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
    env |= {
        "HOME": str(models / ".home"),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(models),
        "OLLAMA_KEEP_ALIVE": "5m",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_NUM_PARALLEL": "1",
        "OLLAMA_NO_CLOUD": "1",
    }
    if threads is not None:
        env["OMP_THREAD_LIMIT"] = str(threads)
    return env


def _spawn(binary: Path, port: int, *, models: Path, log: Path, threads: int | None) -> Server:
    """Start the process in its own session: a Ctrl-C in our terminal does not reach it."""
    env = server_env(port, models, threads)
    Path(env["HOME"]).mkdir(exist_ok=True)
    with log.open("ab") as out:
        child = subprocess.Popen(
            _command(binary),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=models,
            start_new_session=True,
        )
    return Server(child, port, binary=binary, models=models, log=log, threads=threads)


def _command(binary: Path) -> list[str]:
    """Command line of the server, on Linux behind a shim that lets it die with us.

    The shim asks the kernel for SIGTERM when its parent dies (prctl(2)), even by kill -9, and then
    becomes the server, with the same pid. A preexec_fn would do that too, but it forks a process
    that may have torch's threads. The kernel looks at the parent *thread*: a server started by a
    worker thread would end with that thread, so there the shim is left out.
    """
    serve = [str(binary), "serve"]
    if platform.system() != "Linux" or threading.current_thread() is not threading.main_thread():
        return serve
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *serve]


def _await_version(server: Server, timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    start = server.log.stat().st_size
    while time.monotonic() < deadline:
        if _await_exit(server.pid, 0):
            raise MachineError(
                f"{server.binary} serve ended at once", _tail(server.log), f"see {server.log}"
            )
        if (version := _answers(server.port)) not in ("", "?"):
            return version
        time.sleep(0.05)
    raise MachineError(
        f"Ollama did not answer on {server.host} within {timeout_s:.0f} s",
        _tail(server.log) if server.log.stat().st_size >= start else "",
        f"see {server.log}",
    )


def _answers(port: int) -> str:
    """Return the version that a server on this port reports, "?" for another program, "" for none.

    http.client ignores HTTP_PROXY, which must not stand between us and our own child.
    """
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        link.request("GET", "/api/version")
        return str(json.loads(link.getresponse().read())["version"])
    except ConnectionError:
        return ""
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return "?"
    finally:
        link.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_exit(pid: int, seconds: float) -> bool:
    """Wait until a child has ended, without reaping it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return True
        except ChildProcessError:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def _tail(log: Path, lines: int = 12) -> str:
    text = log.read_text(errors="replace").splitlines()
    return "\n".join(line[:300] for line in text[-lines:])
