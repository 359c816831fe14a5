"""The config: one flat file, checked whole before any work starts.

    from ft2ollama.config import load_config
    loaded = load_config(Path("train.yaml"), ["lora_rank=8"])
    loaded.config.lora_rank, loaded.origins["lora_rank"], loaded.notes

`Config` is the schema, `load_config` reads YAML or JSON and `key=value` overrides, `dump_config`
writes YAML that loads back to the same config. Names are resolved on first use, because pydantic
takes a tenth of a second that `ft2ollama --help` does not have to spend.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ft2ollama.config.load import Loaded, dump_config, load_config
    from ft2ollama.config.schema import Config, GgufType

__all__ = ["Config", "GgufType", "Loaded", "dump_config", "load_config"]
_SCHEMA = ("Config", "GgufType")


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{'schema' if name in _SCHEMA else 'load'}")
    return getattr(module, name)
