"""`ft2ollama collect ...`: questions, answers and what people say of them, in and out."""

from __future__ import annotations

import click

from ft2ollama.cli.collect_export import export
from ft2ollama.cli.collect_forget import forget
from ft2ollama.cli.collect_import import import_
from ft2ollama.cli.collect_preview import preview
from ft2ollama.cli.collect_review import review
from ft2ollama.cli.collect_serve import serve
from ft2ollama.cli.collect_status import status


@click.group()
def collect() -> None:
    """Collect questions, answers and corrections while people work with the model."""


collect.add_command(serve)
collect.add_command(import_)
collect.add_command(status)
collect.add_command(review)
collect.add_command(preview)
collect.add_command(export)
collect.add_command(forget)
