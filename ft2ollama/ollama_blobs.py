"""A file -> a blob in the server's store, also over a connection that breaks.

In: a file and its sha256, known from its writer. Out: its digest as /api/create wants it. The
server is asked first (HEAD), so that a blob is sent once, whatever run or model it belongs to.
Ollama takes a blob in one piece: after a broken connection the file is sent again from its start,
unless the server turns out to have all of it. How often and after which pauses: `PAUSES_S`, long
enough for a service manager to start a server again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ft2ollama.errors import JobError, UserError
from ft2ollama.files import Progress
from ft2ollama.ollama_http import BrokenConnection, NoAnswer, ServerError, Transport

PAUSES_S = (1.0, 2.0, 4.0, 8.0)
_GATEWAY = (502, 503, 504)  # a proxy's words for a server that is away


def has_blob(http: Transport, digest: str) -> bool:
    """True when the server holds the blob `sha256:HEX`."""
    return http.head(f"/api/blobs/{digest}", "look for a blob") == 200


def send_blob(
    http: Transport,
    path: Path,
    digest: str,
    progress: Progress | None = None,
    *,
    trouble: Callable[[str], None] | None = None,
    pauses_s: Sequence[float] = PAUSES_S,
) -> None:
    """Send a file unless the server has it; it checks the hash.

    trouble: told, in a sentence, why the file is sent again. Raises NoAnswer at once when there is
    no server to begin with, ServerError for what the server refuses, and JobError when the
    connection has broken once more than there are pauses.
    """
    broken: list[UserError] = []
    for pause in (*pauses_s, None):
        try:
            _send(http, path, digest, progress)
            return
        except (BrokenConnection, NoAnswer, ServerError) as error:
            if not _passes(error, bool(broken)):
                raise
            broken.append(error)
        if pause is not None:
            if trouble:
                trouble(f"{broken[-1].what}; {path.name} is sent again in {pause:g} s")
            time.sleep(pause)
    raise _gave_up(http, path, broken) from broken[-1]


def _send(http: Transport, path: Path, digest: str, progress: Progress | None) -> None:
    if not has_blob(http, digest):
        http.post_file(f"/api/blobs/{digest}", path, f"store {path.name}", progress)
    elif progress:
        progress(path.stat().st_size, path.stat().st_size)


def _passes(error: UserError, was_there: bool) -> bool:
    """Is this something that time may mend?  was_there: the server has answered before."""
    if isinstance(error, ServerError):
        return error.status in _GATEWAY
    return was_there or isinstance(error, BrokenConnection)


def _gave_up(http: Transport, path: Path, broken: Sequence[UserError]) -> JobError:
    first, last = broken[0], broken[-1]
    why = f"{len(broken)} attempts; first: {first.what}, {first.why}"
    if str(last) != str(first):
        why += f"\nlast: {last.what}, {last.why}"
    return JobError(
        f"{path.name} could not be sent to Ollama at {http.host}",
        why,
        f"see whether it still runs (curl {http.host}/api/version); its log says why. Then run "
        "the command again: what the server has already is not sent twice",
    )
