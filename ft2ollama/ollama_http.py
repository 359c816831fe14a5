"""HTTP to an Ollama server, with every failure turned into one of our errors.

In: a path and JSON. Out: JSON, JSON lines, or `ServerError` with the server's own words. It exists
because ollama.Client (0.6) lacks what publishing needs: HEAD of a blob, upload with progress,
`context`, `_debug_render_only`, the whole of /api/show; and because it alters what it sends: it
drops `"content": ""` and the keys of a tool's schema that it does not know, so that a proof would
not send what was trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.errors import JobError, MachineError
from ft2ollama.files import Progress
from ft2ollama.ollama_names import DEFAULT_PORT, is_loopback

if TYPE_CHECKING:
    import httpx

_CONNECT_S = 10.0
_CHUNK = 1 << 20


class ServerError(JobError):
    """The server answered, with an error. status: HTTP (200: in the stream).  words: its text."""

    def __init__(self, doing: str, status: int, words: str) -> None:
        super().__init__(f"Ollama refused to {doing}", f"it said: {words}", _fix(words))
        self.status = status
        self.words = words


class NoAnswer(MachineError):
    """Nothing listens at the server's address."""


class BrokenConnection(JobError):
    """The connection ended in the middle of a request."""


class Transport:
    """One connection pool to one server. `doing` completes "Ollama refused to ..." in errors."""

    def __init__(self, host: str, timeout_s: float) -> None:
        import httpx

        self.host = host
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=host, timeout=self.timeout(timeout_s), **client_options(host)
        )

    def timeout(self, seconds: float | None) -> httpx.Timeout:
        """Patience for a reply; a connection comes within seconds or not at all."""
        import httpx

        return httpx.Timeout(seconds or self._timeout_s, connect=_CONNECT_S)

    def get(self, path: str, doing: str) -> dict[str, Any]:
        """GET JSON."""
        with self.translated(doing):
            return self._json(self._http.get(path), doing)

    def post(
        self, path: str, body: dict[str, Any], doing: str, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """POST JSON, get one JSON object."""
        with self.translated(doing):
            reply = self._http.post(path, json=body, timeout=self.timeout(timeout_s))
            return self._json(reply, doing)

    def lines(
        self, path: str, body: dict[str, Any], doing: str, timeout_s: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """POST JSON, get JSON lines; one with "error" is an error, whatever the HTTP status was."""
        # Never yield inside `translated`: an error of the caller's code is not the server's.
        with self.translated(doing):
            request = self._http.build_request(
                "POST", path, json=body, timeout=self.timeout(timeout_s)
            )
            reply = self._http.send(request, stream=True)
        try:
            with self.translated(doing):
                if reply.status_code >= 400:
                    reply.read()
                    raise ServerError(doing, reply.status_code, _words(reply))
            source = reply.iter_lines()
            while True:
                with self.translated(doing):
                    line = next(source, None)
                if line is None:
                    return
                if line:
                    yield self._parse(line, doing, reply.status_code)
        finally:
            reply.close()

    def head(self, path: str, doing: str) -> int:
        """HTTP status of a HEAD request."""
        with self.translated(doing):
            return self._http.head(path).status_code

    def post_file(self, path: str, file: Path, doing: str, progress: Progress | None) -> None:
        """POST a file's bytes with a known length, in pieces."""
        total = file.stat().st_size

        def pieces() -> Iterator[bytes]:
            done = 0
            with file.open("rb") as source:
                while piece := source.read(_CHUNK):
                    yield piece
                    done += len(piece)
                    if progress:
                        progress(done, total)

        with self.translated(doing):
            reply = self._http.post(path, content=pieces(), headers={"Content-Length": str(total)})
            if reply.status_code >= 400:
                raise ServerError(doing, reply.status_code, _words(reply))

    def _json(self, reply: httpx.Response, doing: str) -> dict[str, Any]:
        if reply.status_code >= 400:
            raise ServerError(doing, reply.status_code, _words(reply))
        return self._parse(reply.text, doing, reply.status_code)

    def _parse(self, text: str, doing: str, status: int) -> dict[str, Any]:
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise self.not_ollama(f"it sent {text[:80]!r}")
        if error := data.get("error"):
            raise ServerError(doing, status, _inner(str(error)))
        return data

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Turn errors of ollama.Client, httpx and the socket into ours; ours pass."""
        import httpx
        import ollama

        try:
            yield
        except ollama.ResponseError as error:
            raise ServerError(doing, error.status_code, error.error) from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable(str(error)) from error
        except httpx.TimeoutException as error:
            raise JobError(
                f"Ollama at {self.host} did not answer in time",
                f"it was asked to {doing}; {type(error).__name__}",
                "look at its log and at the machine's load; a smaller model or a shorter prompt is "
                "faster",
            ) from error
        except ConnectionError as error:  # ollama.Client raises the builtin one
            raise self._unreachable(str(error.__cause__ or error.__context__ or error)) from error
        except (httpx.HTTPError, OSError) as error:
            raise BrokenConnection(
                f"the connection to Ollama at {self.host} broke off",
                f"while it was to {doing}: {error or type(error).__name__}",
                f"see whether it still runs (curl {self.host}/api/version); its log says why",
            ) from error

    def not_ollama(self, why: str) -> MachineError:
        """Error for a program that answers, but not as Ollama does."""
        fix = f"export OLLAMA_HOST=127.0.0.1:{DEFAULT_PORT}"
        return MachineError(f"what answers at {self.host} is not Ollama", why, fix)

    def _unreachable(self, why: str) -> NoAnswer:
        fix = "ollama serve  # or name the server: export OLLAMA_HOST=host:port"
        if not is_loopback(self.host):
            fix = "check OLLAMA_HOST; over there, Ollama must run with OLLAMA_HOST=0.0.0.0"
        return NoAnswer(f"no Ollama answers at {self.host}", why, fix)


def client_options(host: str) -> dict[str, Any]:
    """Options for httpx and ollama.Client.

    A proxy for the internet (HTTP_PROXY) must not stand before a local server. No connection is
    kept: opening one is cheap beside any request here, nothing needs closing, and a server that was
    restarted in between is no error.
    """
    import httpx

    limits = httpx.Limits(max_keepalive_connections=0)
    return {"follow_redirects": True, "trust_env": not is_loopback(host), "limits": limits}


def _words(reply: httpx.Response) -> str:
    """Return the error text of a reply: JSON {"error": ...} or whatever came."""
    try:
        return _inner(str(json.loads(reply.text)["error"]))
    except (ValueError, KeyError, TypeError):
        return reply.text.strip()[:300] or f"HTTP {reply.status_code}"


def _inner(words: str) -> str:
    """Ollama >= 0.30 hands on llama-server's errors as they came: JSON within the text."""
    try:
        return str(json.loads(words)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return words


# What Ollama says where it cannot run a model; which of the reasons it was, only its log tells.
_CANNOT_RUN = (
    "the reason is in the server's log (journalctl -u ollama, or the terminal of `ollama serve`); "
    "where it does not know the architecture, it is too old: https://ollama.com/download"
)


def _fix(words: str) -> str:
    """The next step for the server errors that have one."""
    table = {
        "no space left": "free disk space where Ollama keeps its models (OLLAMA_MODELS)",
        "digest mismatch": "the file changed while it was sent: run the export again",
        "requires more system memory": "use a smaller quantization, or stop other models",
        "llama runner process has terminated": _CANNOT_RUN,
        "unable to load model": _CANNOT_RUN,
        "llama-server process has terminated": _CANNOT_RUN,
        "failed to validate GGUF": _CANNOT_RUN,
        "model runner has unexpectedly stopped": _CANNOT_RUN,
        "does not support": "see what the model can do: ollama show NAME",
    }
    return next((fix for part, fix in table.items() if part in words), "see the server's log")
