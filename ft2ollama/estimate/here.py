"""The places a training can run: this machine's card, its processor, or a card by name."""

from __future__ import annotations

from ft2ollama import machine
from ft2ollama.estimate.cards import Card, card_of_driver, find_card
from ft2ollama.estimate.result import Place


def named(card: str) -> Place:
    """A card that need not be here: "24GB", "RTX 4090". 0.3 GB are taken by its driver."""
    return _on(find_card(card), None)


def this_machine(device: str | None = None) -> Place:
    """The card, or the processor with an eighth of a second of timing. device: cuda, cpu or the
    better one. Threads must be set before (numpy is imported here)."""
    if device != "cpu" and (gpu := machine.gpu()) is not None:
        return _on(card_of_driver(gpu.name, gpu.total), gpu.free)
    if device == "cuda":  # torch sees one that the driver's tool does not show
        return _on(find_card("24GB"), None)
    total, free = machine.memory()
    native = machine.native_bf16()
    return Place(
        f"this CPU, {'with' if native else 'no'} bfloat16 arithmetic",
        total,
        free,
        speed=machine.speed(),
        native_bf16=native,
    )


def _on(card: Card, free: float | None) -> Place:
    name = card.name if card.known else f"{card.name} (speed guessed)"
    return Place(name, card.memory, card.memory - 3e8 if free is None else free, card)
