"""`ft2ollama collect import`: what other tools recorded, into the ledger."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.language import Language
    from ft2ollama.loop.importers.base import Importer
    from ft2ollama.loop.importers.detect import Found
    from ft2ollama.loop.importers.run import Reason, Result
    from ft2ollama.loop.ledger import Ledger

_PEOPLE = ("openai-messages", "alpaca", "sharegpt", "pairs")


@click.command("import")
@click.argument("sources", nargs=-1, required=True, metavar="FILE|FOLDER|URL...")
@click.option("--as", "name", metavar="NAME", help="The format, where it is not known by itself: "
              "openai-messages, openwebui, dify-annotations, dify-feedback, dify-api, anythingllm, "
              "langfuse, ragas, ragflow, litellm, alpaca, sharegpt, pairs.")  # fmt: skip
@click.option("--map", "mapping", metavar="FIELD=PATH,...", help="Any other JSON, JSONL or CSV: "
              "question=$.q,answer=$.a; also messages, system, contexts, rating, correction, "
              "comment, id, chat, message, time, model, user.")  # fmt: skip
@click.option("--origin", type=click.Choice(["human", "model"]), help="Who wrote the answers.")
@click.option("--source", default="", metavar="NAME", help="Where the rows come from, when there "
              "are several of the same kind: a second Open WebUI.")  # fmt: skip
@click.option("--user", "users", multiple=True, metavar="ID",
              help="Of a Dify URL: whose conversations (several may be given).")  # fmt: skip
@click.option("--rejects", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where to list the rows that were not imported.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be imported.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the texts.")
@click.pass_obj
def import_(
    output: Output,
    /,
    *,
    sources: tuple[str, ...],
    name: str | None,
    mapping: str | None,
    lang: str | None,
    **how: object,
) -> None:
    """Bring questions, answers and ratings of other tools into the ledger.

    The format is detected. Every row is imported, there already, or rejected with a reason; a
    second import of the same rows changes nothing, and a killed one goes on where it was. The URL
    of a Dify app (https://HOST/v1) is read with the key in DIFY_API_KEY.
    """
    from ft2ollama.language import choose_language
    from ft2ollama.loop.importers.detect import find
    from ft2ollama.loop.importers.texts import word
    from ft2ollama.loop.ledger import Ledger

    language = choose_language(lang)
    given = _importer(name, mapping)
    users = how["users"]
    assert isinstance(users, tuple)
    with _local(output, sources, users) as paths:
        found, left = find(paths, language, given)
        for path in left:
            output.say(word("left", language, path=path))
        _tell_found(output, found, how["origin"], language)
        with Ledger.open() as ledger:
            results = [_import(output, ledger, one, mapping or "", language, how) for one in found]
            _report(output, ledger, results, language, how)


def _importer(name: str | None, mapping: str | None) -> Importer | None:
    from ft2ollama.errors import UsageError
    from ft2ollama.loop.importers import mapped
    from ft2ollama.loop.importers.detect import by_name

    if name and mapping:
        raise UsageError("--as and --map say two things", f"--as {name}", "leave one out")
    if mapping:
        return mapped.importer(mapped.parse_map(mapping))
    return by_name(name) if name else None


@contextmanager
def _local(output: Output, sources: Sequence[str], users: tuple[str, ...]) -> Iterator[list[Path]]:
    """The sources as files; what a URL gives lies in a private folder, for this import only."""
    import tempfile

    from ft2ollama.errors import UsageError

    urls = [source for source in sources if source.startswith(("http://", "https://"))]
    files = [Path(source) for source in sources if source not in urls]
    if missing := [str(path) for path in files if not path.exists()]:
        raise UsageError("no such file", "\n".join(missing), "check the path")
    with tempfile.TemporaryDirectory(prefix="ft2ollama-") as folder:
        for number, url in enumerate(urls):
            target = Path(folder) / f"dify-{number}.jsonl"
            count = _fetch(url, users, target)
            output.say(f"{url}: {count}")
            files.append(target)
        yield files


def _fetch(url: str, users: tuple[str, ...], target: Path) -> int:
    from ft2ollama.errors import UsageError
    from ft2ollama.loop.importers.dify_api import fetch

    key = os.environ.get("DIFY_API_KEY", "")
    if not key or not users:
        raise UsageError(
            f"a Dify app is read with its key, for the users named: {url}",
            "DIFY_API_KEY is not set" if not key else "no --user",
            f"DIFY_API_KEY=app-... ft2ollama collect import --user ID {url}",
        )
    return fetch(url, key, users, target)


def _tell_found(output: Output, found: Sequence[Found], origin: object, language: Language) -> None:
    from ft2ollama.loop.importers.texts import word

    heads = [word(key, language) for key in ("file", "format", "by")]
    rows = [[_escaped(str(one.path)), one.importer.name, _escaped(one.reason or "--as, --map")]
            for one in found]  # fmt: skip
    output.table("", heads, rows)
    for one in found:
        output.event("found", path=str(one.path), format=one.importer.name, reason=one.reason)
    for name in sorted({one.importer.name for one in found}) if origin is None else ():
        if name in _PEOPLE or name == "map":
            output.say(word("model" if name == "map" else "human", language, name=name))


def _import(
    output: Output, ledger: Ledger, one: Found, mapping: str, language: Language,
    how: dict[str, object],
) -> Result:  # fmt: skip
    from ft2ollama.loop.importers.run import Job, import_file
    from ft2ollama.loop.importers.texts import word

    job = Job(one.importer, str(how["source"]), how["origin"], mapping)  # type: ignore[arg-type]
    with output.waiting(str(one.path)):
        result = import_file(ledger, one.path, job, dry_run=bool(how["dry_run"]))
    if result.resumed:
        output.say(word("resumed", language, path=one.path, count=result.resumed))
    return result


def _report(
    output: Output, ledger: Ledger, results: Sequence[Result], language: Language,
    how: dict[str, object],
) -> None:  # fmt: skip
    from ft2ollama.errors import DataError
    from ft2ollama.loop.importers.texts import word

    counts = ["seen", "imported", "duplicate", "rejected", "feedback"]
    heads = [word(key, language) for key in ("file", *counts)]
    rows = [[_escaped(str(one.path)), *(str(getattr(one, name)) for name in counts)]
            for one in results]  # fmt: skip
    output.table("", heads, rows, right=heads[1:])
    totals = {name: sum(getattr(one, name) for one in results) for name in counts}
    listed = _reasons(output, ledger, results, language, how)
    for one in results:
        numbers = {name: getattr(one, name) for name in (*counts, "resumed")}
        codes = {code: reason.count for code, reason in one.reasons.items()}
        output.event("imported", path=str(one.path), format=one.importer, **numbers, reasons=codes)
    if totals["seen"] and totals["seen"] == totals["rejected"] and not totals["feedback"]:
        fix = word("listed", language, path=listed) if listed else ""
        raise DataError(word("none", language), ", ".join(str(one.path) for one in results), fix)
    output.done(word("done", language, **totals))
    if how["dry_run"]:
        output.warn(word("dry", language))
    output.result(str(totals["imported"]), **totals, rejects=str(listed or ""))


def _reasons(
    output: Output, ledger: Ledger, results: Sequence[Result], language: Language,
    how: dict[str, object],
) -> Path | None:  # fmt: skip
    """A table of the reasons; every row in a file, whose path is returned."""
    from ft2ollama.loop.importers.texts import told, word

    first, counts = _by_code(results)
    if not first:
        return None
    heads = [word(key, language) for key in ("count", "reason", "first", "fix")]
    rows = []
    for code, count in counts.most_common():
        reason, folder = first[code]
        what, fix = told(code, reason.place, reason.values, language)
        place = reason.place.removeprefix(f"{folder}{os.sep}")
        rows.append([str(count), *map(_escaped, (what, place, fix))])
    output.table("", heads, rows, right=heads[:1])
    if how["dry_run"]:
        return None
    path = _list_rejects(ledger, results, language, how["rejects"])
    output.say(word("listed", language, path=path))
    return path


def _by_code(
    results: Sequence[Result],
) -> tuple[dict[str, tuple[Reason, Path]], Counter[str]]:
    """The first row of each reason with its file's folder, and how many there are in all files."""
    counts: Counter[str] = Counter()
    first: dict[str, tuple[Reason, Path]] = {}
    for one in results:
        for code, reason in one.reasons.items():
            counts[code] += reason.count
            first.setdefault(code, (reason, one.path.parent))
    return first, counts


def _list_rejects(
    ledger: Ledger, results: Sequence[Result], language: Language, wanted: object
) -> Path:
    """Places, reasons and fixes as JSON lines; the rows themselves stay in the ledger alone."""
    from ft2ollama.files import write_jsonl
    from ft2ollama.loop.importers.run import rejects
    from ft2ollama.loop.importers.texts import told
    from ft2ollama.paths import data_dir

    rows = []
    with ledger.read() as connection:
        for one in results:
            for place, code, values in rejects(connection, one.batch_id):
                what, fix = told(code, place, values, language)
                rows.append({"place": place, "code": code, "reason": what, "fix": fix})
    batches = "-".join(str(one.batch_id) for one in (results[0], results[-1]))
    path = wanted if isinstance(wanted, Path) else data_dir() / f"imports/rejected-{batches}.jsonl"
    write_jsonl(path, rows)
    return path


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
