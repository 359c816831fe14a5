"""`ft2ollama lineage`: what a model was made of, and which models saw a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ft2ollama.cli.output import Output

if TYPE_CHECKING:
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.lineage import Ids, Lineage

_SHORT = 12
Words = Mapping[str, str]


@click.command()
@click.argument("name", required=False)
@click.option("--record", metavar="RID", help="The other way: which models saw this row.")
@click.option("--rows", is_flag=True, help="List every row that the model's cycle looked at.")
@click.option("--statement", is_flag=True, help="Print the in-toto statement of its cycle.")
@click.option("--lang", help="en or zh; default FT2OLLAMA_LANG, else the locale.")
@click.option(
    "--host", metavar="URL", help="Ollama server; default OLLAMA_HOST or 127.0.0.1:11434."
)
@click.pass_obj
def lineage(
    output: Output,
    name: str | None,
    *,
    record: str | None,
    rows: bool,
    statement: bool,
    lang: str | None,
    host: str | None,
) -> None:
    """What the model NAME was made of: version, cycle, base, data set, rows.

    The model itself carries the ids, so it also works on a machine that did not train it; only the
    rows need the ledger. Example: ft2ollama lineage shop
    """
    from ft2ollama.errors import UsageError
    from ft2ollama.language import choose_language
    from ft2ollama.loop.ledger import Ledger
    from ft2ollama.loop.texts_lineage import WORDS

    words = WORDS[choose_language(lang)]
    if (name is None) == (record is None):
        raise UsageError("give NAME or --record RID", "", "ft2ollama lineage shop")
    with Ledger.open() as ledger:
        if record is not None:
            _show_record(output, ledger, record, words)
            return
        shown = _Shown(output, ledger, words)
        shown.model(str(name), host, rows=rows, statement=statement)


def _show_record(output: Output, ledger: Ledger, rid: str, words: Words) -> None:
    from ft2ollama.errors import UsageError
    from ft2ollama.loop.lineage import knows_row, seen_by

    seen = seen_by(ledger, rid)
    if not seen and not knows_row(ledger, rid):
        raise UsageError(words["no-row"].format(rid=rid), words["no-row-why"], "")
    columns = [words[key] for key in ("cycle", "model", "state", "verdict", "rule", "samples")]
    lines: list[list[Any]] = [
        [one.run_id, one.tag or one.line, one.state, one.verdict, one.rule, str(one.samples)]
        for one in seen
    ]
    if lines:
        output.table(words["row"].format(rid=rid), columns, lines, right=columns[5:])
    else:
        output.say(words["unseen"])
    output.result(str(len(lines)), record=rid, cycles=[dict(vars(one)) for one in seen])


@dataclasses.dataclass(frozen=True)
class _Shown:
    """A model's lineage on the terminal."""

    output: Output
    ledger: Ledger
    words: Words

    def model(self, name: str, host: str | None, *, rows: bool, statement: bool) -> None:
        """Look the model up here and there, and tell."""
        from ft2ollama.aliases import digest_of
        from ft2ollama.errors import UsageError
        from ft2ollama.loop.lineage import ids_of
        from ft2ollama.loop.lineage import lineage as trace
        from ft2ollama.ollama_api import Ollama
        from ft2ollama.prove.served import look

        server = Ollama(host)
        digest = digest_of(server, name)
        if digest is None:
            what = self.words["no-model"].format(host=server.host, name=name)
            raise UsageError(what, "", "ollama list")
        ids = ids_of(look(server, name))
        found = trace(self.ledger, digest, ids.cycle or ids.run_id)
        if found is None and not ids.run_id:
            why = self.words["silent-why"].format(digest=digest[:_SHORT])
            raise UsageError(self.words["silent"].format(name=name), why, "")
        path = _statement(found)
        if statement:
            self._print(path, name)
            return
        self._notes(name, digest, ids, found)
        self._fields(name, (digest, server.host), ids, found, path)
        if rows and found:
            self._rows(found)
        self._result(name, (digest, server.host), ids, found, path)

    def _print(self, path: Path | None, name: str) -> None:
        import json

        from ft2ollama.errors import UsageError

        if path is None:
            raise UsageError(f"{name}: {self.words['no-statement']}", "", "ft2ollama loop status")
        text = path.read_text("utf-8")
        self.output.result(text.rstrip("\n"), statement=json.loads(text))

    def _notes(self, name: str, digest: str, ids: Ids, found: Lineage | None) -> None:
        if found is None:
            known = "stranger" if ids.cycle else "no-cycle"
            self.output.warn(self.words[known]) if ids.cycle else self.output.say(self.words[known])
        elif found.digest and found.digest != digest:
            self.output.warn(self.words["made-from"].format(name=name, tag=found.tag))
        if ids.disagree:
            self.output.warn(self.words["disagree"].format(names=", ".join(ids.disagree)))

    def _fields(
        self,
        name: str,
        place: tuple[str, str],
        ids: Ids,
        found: Lineage | None,
        statement: Path | None,
    ) -> None:
        words, base = self.words, ids.base_sha256[:_SHORT]
        where = words["digest"].format(digest=place[0][:_SHORT], host=place[1])
        dataset = ids.dataset_sha256 or ids.data_sha256
        fields = [(words["model"], name, where)]
        if found:
            fields += [
                (words["version"], found.tag, found.state),
                (words["cycle"], found.run_id, words["of"].format(line=found.line)),
            ]
        else:
            fields.append((words["cycle" if ids.cycle else "run"], ids.cycle or ids.run_id, ""))
        fields += [
            (words["base"], found.base if found else ids.base, f"sha256 {base}" if base else ""),
            (words["dataset"], found.dataset if found else f"sha256:{dataset}" * bool(dataset), ""),
            (words["rows"], *self._counted(found)),
            (words["file"], f"{ids.kind} {ids.quant}".strip() or "GGUF", self._file(ids)),
        ]
        if found:
            told = (str(statement), words["in-toto"]) if statement else (words["no-statement"], "")
            fields.append((words["statement"], *told))
        self.output.fields(fields)

    def _counted(self, found: Lineage | None) -> tuple[str, str]:
        if found is None:
            return self.words["not-here"], ""
        kept = ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items())
        return kept, ", ".join(
            self.words["from"].format(count=count, source=kind)
            for kind, count in found.sources.items()
        )

    def _file(self, ids: Ids) -> str:
        if ids.untouched is None:
            return self.words["unknown"]
        return self.words["same" if ids.untouched else "other"].format(
            digest=ids.file_sha256[:_SHORT], exported=ids.gguf_sha256[:_SHORT]
        )

    def _rows(self, found: Lineage) -> None:
        from ft2ollama.loop.lineage import rows_of

        names = ("row", "verdict", "rule", "samples", "source", "role")
        columns = [self.words[name].replace("{rid}", "").strip() for name in names]
        rows = rows_of(self.ledger, found.run_id)
        for one in rows:
            self.output.event("row", **vars(one))
        if not self.output.as_json:
            self.output.table("", columns, [
                [one.rid, one.verdict, one.rule, str(one.samples), one.source, one.role]
                for one in rows
            ], right=columns[3:4])  # fmt: skip

    def _result(
        self,
        name: str,
        place: tuple[str, str],
        ids: Ids,
        found: Lineage | None,
        statement: Path | None,
    ) -> None:
        told = dict(vars(found)) if found else {"run_id": ids.run_id}
        version = told.pop("digest", None)
        self.output.result(
            told["run_id"], **told, name=name, host=place[1], digest=place[0],
            version_digest=version, known_here=found is not None,
            model={**vars(ids), "untouched": ids.untouched},
            statement=str(statement) if statement else None,
        )  # fmt: skip


def _statement(found: Lineage | None) -> Path | None:
    """The cycle's statement, if it is on this disk."""
    if found is None:
        return None
    from ft2ollama.loop.place import cycles_folder
    from ft2ollama.loop.statement import FILE

    path = cycles_folder() / found.run_id / found.run_id / FILE
    return path if path.is_file() else None
