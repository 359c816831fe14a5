"""The commands' own help -> docs/cli.md.

    python -m ft2ollama.cli.docs > docs/cli.md

A test compares the file with this text, so the page cannot fall behind the code.
"""

from __future__ import annotations

import sys

import click

from ft2ollama.cli import COMMANDS, cli

_HEAD = """\
<!-- Made from ft2ollama/cli/ by: python -m ft2ollama.cli.docs > docs/cli.md -->
# The command line

The first options hold for every command and may stand before or behind its name. `RUN` is a path,
an id, the beginning of an id, or `latest`.
"""


def cli_page() -> str:
    """The whole page."""
    parts = [_HEAD, _block(cli, "ft2ollama")]
    for command in COMMANDS:
        parts.append(f"## {command.name}\n")
        parts.append(_block(command, f"ft2ollama {command.name}"))
        for inner in command.commands.values() if isinstance(command, click.Group) else ():
            parts.append(f"### {command.name} {inner.name}\n")
            parts.append(_block(inner, f"ft2ollama {command.name} {inner.name}"))
    return "\n".join(parts)


def _block(command: click.Command, path: str) -> str:
    context = click.Context(
        command,
        info_name=path,
        max_content_width=100,
        terminal_width=100,
        help_option_names=["-h", "--help"],
    )
    return f"```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(cli_page())
