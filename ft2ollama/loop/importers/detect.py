"""Which importer a file belongs to: each says how sure it is; two that are as sure are asked for.

In: files and folders.  Out: `Found`, or every file that cannot be imported, in one error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ft2ollama.data.catalogue import line
from ft2ollama.data.problems import BadFile
from ft2ollama.errors import DataError, UsageError
from ft2ollama.language import Language
from ft2ollama.loop.importers import (
    anythingllm,
    dify,
    langfuse,
    litellm,
    openai,
    openwebui,
    ragas,
    ragflow,
)  # fmt: skip
from ft2ollama.loop.importers.base import Head, Importer, Sniff
from ft2ollama.loop.importers.refused import Refused
from ft2ollama.loop.importers.rows import can_be_read, head_of
from ft2ollama.loop.importers.texts import told, word

IMPORTERS = {
    one.name: one
    for one in (
        openai.OPENAI, openwebui.OPENWEBUI, dify.ANNOTATIONS, dify.FEEDBACK, dify.MESSAGES,
        anythingllm.ANYTHINGLLM, langfuse.LANGFUSE, ragas.RAGAS, ragflow.RAGFLOW, litellm.LITELLM,
        openai.ALPACA, openai.SHAREGPT, openai.PAIRS,
    )
}  # fmt: skip
_CLOSE = 10  # scores that near are no difference


@dataclass(frozen=True)
class Found:
    """A file, its importer and by what it was known ("" when it was said)."""

    path: Path
    importer: Importer
    reason: str = ""


def find(
    paths: Sequence[Path], language: Language, given: Importer | None = None
) -> tuple[list[Found], list[Path]]:
    """The files with their importers, and files of folders that hold no data.

    Raises DataError that names every file that cannot be imported.
    """
    found: list[Found] = []
    wrong: list[str] = []
    left: list[Path] = []
    for path in paths:
        files = list(_files(path)) if path.is_dir() else [path]
        if not files:
            wrong.append(word("empty", language, path=path))
        for file in files:
            if path.is_dir() and not can_be_read(file):
                left.append(file)
                continue
            try:
                found.append(_choose(file, language, given))
            except _Unknown as error:
                wrong.append(str(error))
            except Refused as error:
                what, fix = told(error.code, error.place, error.values, language)
                wrong.append(f"{error.place}: {what}; {fix}")
            except BadFile as error:
                wrong.append(line(error.problem, language))
    if wrong:
        raise DataError(
            word("refused", language, count=len(wrong)), "\n".join(wrong),
            word("refused-fix", language),
        )  # fmt: skip
    return found, left


def by_name(name: str) -> Importer:
    """Raises UsageError with the known names."""
    if name not in IMPORTERS:
        raise UsageError(f"--as {name}: no such format", f"known: {', '.join(IMPORTERS)}")
    return IMPORTERS[name]


class _Unknown(Exception):
    pass


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        database_log = path.name.endswith(("-wal", "-shm"))
        if path.is_file() and not hidden and not database_log:
            yield path


def _choose(path: Path, language: Language, given: Importer | None) -> Found:
    head = head_of(path)
    if given is not None:
        given.read(path)  # says at once what is refused whole
        return Found(path, given)
    sure = ranked(head)
    if not sure:
        fields = ", ".join(sorted(head.fields)[:12]) or "-"
        raise _Unknown(word("unknown", language, path=path, fields=fields))
    (one, best), *others = sure
    if others and best.score - others[0][1].score < _CLOSE:
        two, second = others[0]
        raise _Unknown(
            word("ambiguous", language, path=path, one=one.name, two=two.name,
                 why_one=best.reason, why_two=second.reason)
        )  # fmt: skip
    one.read(path)
    return Found(path, one, best.reason)


def ranked(head: Head) -> list[tuple[Importer, Sniff]]:
    """Importers that know the file, the surest first."""
    known = [(one, _sniff(one, head)) for one in IMPORTERS.values()]
    return sorted(
        ((one, sniff) for one, sniff in known if sniff.score), key=lambda pair: -pair[1].score
    )


def _sniff(one: Importer, head: Head) -> Sniff:
    """What an importer says; rows of another shape than it looks for are not its own."""
    try:
        return one.sniff(head)
    except (AttributeError, IndexError, KeyError, TypeError):
        return Sniff()
