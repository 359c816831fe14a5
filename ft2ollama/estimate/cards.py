"""Graphics cards by name: memory, bfloat16 rate and memory bandwidth, from the makers' data sheets.

Rates are dense bfloat16 with float32 accumulation, in TFLOP/s; a card without bfloat16 has its
float16 rate. Memory is in GiB, though the boxes say GB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ft2ollama.errors import UsageError


@dataclass(frozen=True)
class Card:
    """memory: bytes.  flops: bfloat16 FLOP/s.  bandwidth: bytes/s.  known: False for a guess."""

    name: str
    memory: float
    flops: float
    bandwidth: float
    known: bool = True


# name: GiB, TFLOP/s, GB/s
_CARDS: dict[str, tuple[float, float, float]] = {
    "T4": (16, 65, 320),
    "V100": (16, 125, 900),
    "P100": (16, 19, 732),
    "RTX 2080 Ti": (11, 54, 616),
    "RTX 3060": (12, 25, 360),
    "RTX 3070": (8, 41, 448),
    "RTX 3080": (10, 60, 760),
    "RTX 3090": (24, 71, 936),
    "RTX 4060": (8, 30, 272),
    "RTX 4060 Ti": (16, 44, 288),
    "RTX 4070": (12, 58, 504),
    "RTX 4070 Ti Super": (16, 88, 672),
    "RTX 4080": (16, 97, 717),
    "RTX 4090": (24, 165, 1008),
    "RTX 5070 Ti": (16, 88, 896),
    "RTX 5080": (16, 113, 960),
    "RTX 5090": (32, 210, 1792),
    "RTX A6000": (48, 155, 768),
    "RTX 6000 Ada": (48, 364, 960),
    "A10": (24, 125, 600),
    "A10G": (24, 70, 600),
    "L4": (24, 121, 300),
    "L40S": (48, 362, 864),
    "A100 40GB": (40, 312, 1555),
    "A100": (80, 312, 2039),
    "H100": (80, 989, 3350),
    "H200": (141, 989, 4800),
    "B200": (180, 2250, 8000),
}
CARDS = {
    name: Card(name, gib * 2**30, tera * 1e12, giga * 1e9)
    for name, (gib, tera, giga) in _CARDS.items()
}


def find_card(text: str) -> Card:
    """A card by name ("RTX 4090", "4090", "h100") or by memory ("24GB": a card of that size).

    Raises UsageError that lists the known ones.
    """
    if amount := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:G|GB|GiB)\s*", text, re.IGNORECASE):
        memory = float(amount[1]) * 2**30
        if memory:
            near = min(CARDS.values(), key=lambda card: abs(card.memory - memory))
            return replace(near, name=f"a card of {amount[1]} GB", memory=memory, known=False)
    if (card := _named(text)) is not None:
        return card
    raise UsageError(
        f"--gpu {text}: no card of that name is known here",
        f"known: {', '.join(CARDS)}",
        "--gpu 24GB     # the memory of your card",
    )


def card_of_driver(name: str, memory: float) -> Card:
    """The card as the driver names it ("NVIDIA GeForce RTX 4090"), with its real memory."""
    card = _named(name)
    if card is None:
        near = min(CARDS.values(), key=lambda one: abs(one.memory - memory))
        return replace(near, name=name, memory=memory, known=False)
    return replace(card, memory=memory)


def _named(text: str) -> Card | None:
    """The card with most words that are all in the text, else the plainest that has its words."""
    words = _words(text)
    if not words:
        return None
    whole = [name for name in CARDS if _words(name) <= words]
    part = [name for name in CARDS if words <= _words(name)]
    if whole:
        return CARDS[max(whole, key=lambda name: len(_words(name)))]
    return CARDS[min(part, key=lambda name: len(_words(name)))] if part else None


def _words(text: str) -> frozenset[str]:
    """rtx4060ti -> rtx, 4060, ti; what a driver adds is left out."""
    plain = re.sub(
        r"nvidia|geforce|tesla|quadro|gpu|sxm\d?|pcie|hbm\w*|80gb|[-_]", " ", text.lower()
    )
    spaced = re.sub(r"(?<=rtx)(?=\d)|(?<=\d)(?=ti\b|super\b)", " ", plain)
    return frozenset(spaced.split())
