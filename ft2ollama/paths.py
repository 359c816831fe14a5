"""Where the tool keeps what it can always fetch or compute again.

One folder, so that a user can see its size, move it (FT2OLLAMA_CACHE) or delete it. Default:
`~/.cache/ft2ollama` on Linux, the platform's own place elsewhere (platformdirs).
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Folder for downloads and unpacked bases; FT2OLLAMA_CACHE overrides it. May not exist yet."""
    if chosen := os.environ.get("FT2OLLAMA_CACHE"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("ft2ollama", appauthor=False)
