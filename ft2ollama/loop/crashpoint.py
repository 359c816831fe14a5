"""Where a kill would hurt most: each durable step of a cycle has a name and a number, so that tests
can kill the process at every one of them (tests/loop/test_crashes.py). Costs nothing in a real run.
"""

from __future__ import annotations

import os
import signal

_WANTED = os.environ.get("FT2OLLAMA_CRASH_AT", "")
_COUNT_IN = os.environ.get("FT2OLLAMA_CRASH_COUNT", "")
_passed = 0


def crashpoint(name: str) -> None:
    """Pass a point; with FT2OLLAMA_CRASH_AT=n the n-th one, or the first one of that name, is the
    process's last.
    """
    global _passed
    if not (_WANTED or _COUNT_IN):
        return
    _passed += 1
    if _COUNT_IN:
        with open(_COUNT_IN, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"{_passed} {name}\n")
    if _WANTED in (str(_passed), name):
        os.kill(os.getpid(), signal.SIGKILL)
