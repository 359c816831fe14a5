"""English or Chinese: the language of what is said about a user's data."""

from __future__ import annotations

import os
from typing import Literal

Language = Literal["en", "zh"]


def choose_language(wanted: str | None = None) -> Language:
    """`wanted`, else $FT2OLLAMA_LANG, else the locale's (LC_ALL, LC_MESSAGES, LANG)."""
    names = (wanted, *map(os.environ.get, ("FT2OLLAMA_LANG", "LC_ALL", "LC_MESSAGES", "LANG")))
    first = next((name for name in names if name), "en")
    return "zh" if first.lower().startswith("zh") else "en"
