"""The GGUF types a user may name, and the choice when it is left to us.

In: `--quant`, `export_quant` and the base. Out: the type, and the reason to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from ft2ollama.base import Base
from ft2ollama.config import GgufType
from ft2ollama.errors import UsageError

if TYPE_CHECKING:
    import converters
    from ft2ollama.config import Config

QUANTS = {
    "model": tuple(name for name in get_args(GgufType) if name != "auto"),
    "adapter": ("F16", "F32", "BF16", "Q8_0"),
}
UNCALIBRATED = ("F32", "F16", "BF16", "Q8_0")  # types that gain nothing from statistics
SMALL = 1_000_000_000  # weights; below it a coarse type saves little disk and costs most


def check_quant(kind: str, quant: str | None) -> str:
    """The wanted type in capitals, or `auto`. kind: model or adapter."""
    if kind not in QUANTS:
        raise UsageError(f"--as: no kind {kind!r}", f"kinds: {', '.join(QUANTS)}", "--as model")
    if quant is None or quant.lower() == "auto":
        return "auto"
    chosen = quant.upper()
    if chosen not in QUANTS[kind]:
        raise UsageError(
            f"--quant {quant}: not for --as {kind}",
            f"types for --as {kind}: {', '.join(QUANTS[kind])}",
            f"--quant {'Q8_0' if kind == 'model' else 'F16'}",
        )
    return chosen


def wanted_quant(config: Config, kind: str, quant: str | None) -> str | None:
    """The type named on the command line, else the config's where it is about this kind."""
    if quant is None and kind == config.export_as == "model":
        return config.export_quant
    return quant


def choose_quant(kind: str, quant: str | None, base: Base) -> tuple[str, str]:
    """(type, reason); the reason is "" for a type that was asked for.

    An adapter is small: F16. A small model: Q8_0. A large one: Q4_K_M, unless its rows do not
    divide into that type's blocks. Raises converters.ConvertError when the base cannot be exported.
    """
    chosen = check_quant(kind, quant)
    if chosen != "auto":
        return chosen, ""
    if kind == "adapter":
        return "F16", "an adapter is small"
    import converters

    seen = converters.preview(base.folder, "Q4_K_M")
    if seen.n_weights < SMALL:
        return "Q8_0", (
            f"nearly exact, and {seen.n_weights * 8.5 / 8e6:,.0f} MB is small already"
            + (f"; Q4_K_M would be {seen.n_bytes / 1e6:,.0f} MB" if seen.n_bytes else "")
            + (_really(seen) if seen.fallbacks.replaced else "")
        )
    if seen.fallbacks.replaced:
        return "Q8_0", f"Q4_K_M does not suit this model{_really(seen)}"
    return "Q4_K_M", f"a good answer for its {seen.n_bytes / 1e9:.1f} GB"


def _really(seen: converters.Preview) -> str:
    return f" (its rows do not fit: really {seen.fallbacks.bits:.1f} bits per weight)"
