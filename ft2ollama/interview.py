"""Questions put to a served model in the background, while this process does something else.

Training and a small model in Ollama each use one thread on a small machine: side by side they take
the time of the longer one. `answers` waits for the rest and raises what the asking raised.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from ft2ollama.evaluate import Answer, Question, ask
from ft2ollama.ollama_api import Ollama
from ft2ollama.proof import Tick

_POLL = 0.2  # seconds between two looks at a running interview


class _Stopped(Exception):
    """Nobody waits for the rest of the answers."""


class Interview:
    """Asks every question, one after the other, in a thread of its own.

    seconds: how long the asking took, once it is over.
    """

    def __init__(self, server: Ollama, model: str, questions: Sequence[Question]) -> None:
        self._server, self._model, self._questions = server, model, questions
        self._done = 0
        self._stopped = False
        self._answers: list[Answer] = []
        self._error: BaseException | None = None
        self.seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="interview", daemon=True)
        self._thread.start()

    def answers(self, tick: Tick | None = None) -> list[Answer]:
        """Wait for all answers; `tick(done, of)` is called meanwhile."""
        while self._thread.is_alive():
            self._thread.join(_POLL)
            if tick:
                tick(self._done, len(self._questions))
        if self._error is not None:
            raise self._error
        return self._answers

    def stop(self) -> None:
        """Ask no further question; returns when the running one is answered."""
        self._stopped = True
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self._answers = ask(self._server, self._model, self._questions, tick=self._tick)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where somebody waits
            self._error = error
        self.seconds = time.monotonic() - began

    def _tick(self, done: int, _: int) -> None:
        self._done = done
        if self._stopped:
            raise _Stopped
