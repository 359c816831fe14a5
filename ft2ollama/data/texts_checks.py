"""What the data doctor says of a row: code -> language -> (what is wrong, what to do)."""

from __future__ import annotations

from ft2ollama.data.problems import Texts

TEXTS: Texts = {}
