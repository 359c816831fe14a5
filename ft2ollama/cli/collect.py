"""`ft2ollama collect ...`: what people ask and say of answers, into the ledger and out of it."""

from __future__ import annotations

import click


@click.group()
def collect() -> None:
    """Collect questions, answers and corrections while people work with the model."""
