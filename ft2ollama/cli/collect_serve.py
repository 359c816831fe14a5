"""`ft2ollama collect serve`: the proxy in front of Ollama that records what people ask and get."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ft2ollama.cli.loop_words import lang_option, word
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.language import Language
    from ft2ollama.loop.proxy.app import Proxy

_TICK_S = 0.5
_LINE_EVERY_S = 60.0


@click.command()
@click.option(
    "--consent",
    type=click.Choice(["all", "header", "none"]),
    required=True,
    help="Whose exchanges are kept: everybody's, those whose request carries X-F2O-Consent, or "
    "nobody's (only counted). X-F2O-No-Store: 1 is always respected.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=11435, show_default=True, help="Port to listen on.")
@click.option(
    "--upstream", metavar="URL", help="Ollama behind it; default OLLAMA_HOST or 127.0.0.1:11434."
)
@click.option(
    "--tokens", type=click.Path(path_type=Path), help="File of bearer tokens, one a line."
)
@click.option(
    "--fast", is_flag=True, help="Write behind: a crash may lose the last second of exchanges."
)
@click.option(
    "--on-store-failure",
    type=click.Choice(["serve", "refuse"]),
    default="serve",
    show_default=True,
    help="When neither ledger nor spool can be written: answer all the same, or break off.",
)
@click.option("--keep-days", type=click.IntRange(1), help="Rows may be erased after this time.")
@lang_option
@click.pass_obj
def serve(output: Output, /, *, host: str, port: int, lang: str | None, **options: Any) -> None:
    """Stand in front of Ollama, pass everything on, and record questions and answers.

    Point the application at this address instead of Ollama's. An answer's last piece is released
    when its record is on the disk. Feedback: POST /ft2ollama/feedback; state: GET
    /ft2ollama/health.
    """
    from ft2ollama.language import choose_language
    from ft2ollama.loop.proxy.app import Proxy
    from ft2ollama.loop.proxy.serve import listen
    from ft2ollama.loop.proxy.serve import serve as run

    settings = _settings(host, port, **options)
    language = choose_language(lang)
    display = _Display(output, language)
    ledger = _try_ledger(output, language)
    opened = listen(host, port)
    proxy = Proxy(settings, on_event=display.event)
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '') else host}:{opened.getsockname()[1]}"
    _greet(output, proxy, address, ledger, language)
    run(proxy, opened, lambda: display.tick(proxy))
    health = proxy.health()
    output.done(word("ended", language, counts=counter(health)))
    output.event("ended", **health)


def _settings(host: str, port: int, **options: Any) -> Any:
    from ft2ollama.errors import UsageError
    from ft2ollama.loop.proxy.app import Settings
    from ft2ollama.loop.proxy.tokens import read_tokens
    from ft2ollama.ollama_names import is_loopback, server_url

    upstream = server_url(options["upstream"])
    if upstream in (f"http://{host}:{port}", server_url(f"{host}:{port}")):
        raise UsageError(
            "the proxy would ask itself",
            f"it listens on {host}:{port}, and Ollama is said to be there too",
            "--upstream http://127.0.0.1:11434, or another --port",
        )
    tokens = read_tokens(options["tokens"]) if options["tokens"] else ()
    return Settings(
        upstream, options["consent"], strict=not options["fast"], tokens=tokens,
        refuse_when_lost=options["on_store_failure"] == "refuse",
        local=is_loopback(f"http://{host}"), keep_days=options["keep_days"],
    )  # fmt: skip


def _try_ledger(output: Output, language: Language) -> str:
    """Open the ledger once, so that a wrong name is an error now. A server that is away is not:
    the spool takes its place, and applications must not wait for it.
    """
    import os

    from ft2ollama.errors import MachineError
    from ft2ollama.loop.ledger import Ledger

    try:
        with Ledger.open() as ledger:
            return ledger.name
    except MachineError as error:
        if not os.environ.get("FT2OLLAMA_LEDGER", "").startswith("postgres"):
            raise
        output.warn(word("ledger away", language, what=f"{error.what}: {error.why}"))
        return "the spool"


def _greet(output: Output, proxy: Proxy, address: str, ledger: str, language: Language) -> None:
    settings = proxy.settings
    output.done(word("passes", language, address=address, upstream=settings.upstream))
    output.say(word(f"keeps {settings.consent}", language, ledger=ledger))
    output.say(word("point", language, address=address.removeprefix("http://")))
    if not settings.local and not settings.tokens:
        output.warn(word("everybody", language))
    if not settings.strict:
        output.warn(word("fast", language))
    output.say(word("ctrl-c", language))
    output.event("serving", address=address, upstream=settings.upstream, ledger=ledger,
                 consent=settings.consent, strict=settings.strict)  # fmt: skip


def counter(health: Mapping[str, Any]) -> str:
    """The state in one line."""
    kept = health["stored"] + health["spooled"]
    parts = [f"{kept} kept"]
    for name, words in (
        ("spooled", "of them in the spool"), ("background", "of them background tasks"),
        ("incomplete", "of them incomplete"), ("declined", "without consent"),
        ("loads", "only loaded a model"), ("lost", "LOST"), ("open", "running"),
        ("feedback", "feedback"), ("passed", "passed on unrecorded"),
        ("asked_again", "asked again, for Ollama broke off"),
    ):  # fmt: skip
        if health[name]:
            parts.append(f"{health[name]} {words}")
    return ", ".join(parts)


class _Display:
    """A line per exchange with -v; else one line that counts."""

    def __init__(self, output: Output, language: Language) -> None:
        self._output, self._language = output, language

    def event(self, fields: Mapping[str, Any]) -> None:
        """An exchange or feedback was kept."""
        self._output.event(
            str(fields["event"]), **{k: v for k, v in fields.items() if k != "event"}
        )
        if self._output.verbose:
            self._output.say(_line(fields))

    async def tick(self, proxy: Proxy) -> None:
        """Show the counters until cancelled; warn when the store fails, and when it is back."""
        import asyncio

        from rich.live import Live
        from rich.text import Text

        terminal = self._output.console.is_terminal and not self._output.quiet
        told = problem = ""
        waited = 0.0
        with Live(console=self._output.console, transient=True, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(_TICK_S)
                waited += _TICK_S
                health = proxy.health()
                if health["problem"] != problem:
                    problem = health["problem"]
                    self._tell_problem(problem)
                line = counter(health)
                if terminal:
                    live.update(Text(f"  {line}", style="dim"), refresh=True)
                elif line != told and waited >= _LINE_EVERY_S and not self._output.verbose:
                    told, waited = line, 0.0
                    self._output.say(line)

    def _tell_problem(self, problem: str) -> None:
        if problem:
            self._output.warn(word("ledger failed", self._language, problem=problem))
        else:
            self._output.done(word("ledger back", self._language))
        self._output.event("store", problem=problem)


def _line(fields: Mapping[str, Any]) -> str:
    if fields["event"] == "feedback":
        return f"feedback  {fields['said']}  {fields['rid']}  {fields['where']}"
    state = "complete" if fields["complete"] else f"incomplete (HTTP {fields['status']})"
    parts = [fields["route"], fields["model"] or "-", fields["task"] or state]
    if fields["tokens"] is not None:
        parts.append(f"{fields['tokens']} tokens")
    for name in ("ttft_ms", "latency_ms"):
        if fields[name] is not None:
            words = "first after" if name == "ttft_ms" else "all after"
            parts.append(f"{words} {fields[name] / 1000:.2f} s")
    if fields["contexts"]:
        parts.append(f"{fields['contexts']} sources")
    return "  ".join([*parts, fields["where"], fields["rid"]])
