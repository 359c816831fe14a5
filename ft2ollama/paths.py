"""The two folders the tool keeps for a user, each in the platform's own place (platformdirs).

The cache holds what can always be fetched or computed again; a user can see its size, move it
(FT2OLLAMA_CACHE) or delete it. The data folder (FT2OLLAMA_DATA) holds what cannot: the ledger.
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


def data_dir() -> Path:
    """Folder of the ledger; FT2OLLAMA_DATA overrides it. May not exist yet."""
    if chosen := os.environ.get("FT2OLLAMA_DATA"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("ft2ollama", appauthor=False)
