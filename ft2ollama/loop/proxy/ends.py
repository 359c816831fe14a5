"""When is an answer complete? Known from the bytes alone, while they pass by.

In: the chunks of a reply's body, cut anywhere.  Out: True with the chunk after which a client knows
the whole answer: that chunk is released only when the record is safe. Nothing else is parsed here,
so that a chunk costs a search for a few bytes.
"""

from __future__ import annotations

import json
import re

_DONE = re.compile(rb'"done"\s*:\s*true')
_LONGEST_LINE = 1 << 22  # of a stream; a longer one has no mark that we would look for


class LineEnd:
    """NDJSON of /api/*: the line with "done": true.  Server-sent events of /v1/*: data: [DONE]."""

    def __init__(self, *, events: bool) -> None:
        self._events = events
        self._line = b""

    def hear(self, chunk: bytes) -> bool:
        """True when the mark is in what was heard so far and the line of it is whole."""
        *lines, self._line = (self._line + chunk).split(b"\n")
        if len(self._line) > _LONGEST_LINE:
            self._line = b""
        return any(map(self._is_mark, lines)) or self._is_mark(self._line)

    def _is_mark(self, line: bytes) -> bool:
        if self._events:
            return line.startswith(b"data:") and line[5:].strip() == b"[DONE]"
        if not _DONE.search(line):
            return False
        try:
            return json.loads(line).get("done") is True
        except (ValueError, AttributeError):
            return False


class WholeEnd:
    """One JSON document: as many bytes as were announced, or brackets that close."""

    def __init__(self, length: int | None) -> None:
        self._length = length
        self._heard = bytearray()
        self._count = 0

    def hear(self, chunk: bytes) -> bool:
        """True when the document is whole."""
        self._count += len(chunk)
        if self._length is not None:
            return self._count >= self._length
        self._heard += chunk
        if not self._heard.rstrip().endswith((b"}", b"]")):
            return False
        try:
            json.loads(self._heard)
        except ValueError:
            return False
        return True


def end_of(content_type: str, length: int | None) -> LineEnd | WholeEnd:
    """content_type, length: of the reply's head; None where no length is announced."""
    if "event-stream" in content_type:
        return LineEnd(events=True)
    if "ndjson" in content_type:
        return LineEnd(events=False)
    return WholeEnd(length)
