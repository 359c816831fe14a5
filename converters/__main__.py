"""`python -m converters adapter|model|check|dump`: the package without the tool around it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from converters.adapter_file import write_adapter
from converters.check import check_gguf
from converters.errors import ConvertError
from converters.fit import check_adapter
from converters.model_file import write_model
from converters.reader import read_gguf
from converters.written import Written

_TEXT_ONLY = "leave out the adapter's vision and audio parts"


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 refused or failed. The result goes to stdout."""
    options = _parser().parse_args(argv)
    try:
        options.run(options)
    except (ConvertError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m converters", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    model = commands.add_parser("model", help="base folder (+ adapter) -> model GGUF")
    model.add_argument("base", type=Path, help="folder with config.json, weights and tokenizer")
    model.add_argument("out", type=Path)
    model.add_argument("--adapter", type=Path, help="PEFT folder to merge")
    model.add_argument("--outtype", default="Q8_0", help="F32, F16, BF16 or Q8_0")
    model.add_argument("--name", default="", help="general.name")
    model.add_argument("--pre", help="name of the pre-tokenizer, if it is not recognised")
    model.add_argument("--text-only", action="store_true", help=_TEXT_ONLY)
    model.set_defaults(run=_model)

    adapter = commands.add_parser("adapter", help="PEFT folder -> LoRA GGUF")
    adapter.add_argument("adapter", type=Path)
    adapter.add_argument("base", type=Path, help="folder with the base's config.json")
    adapter.add_argument("out", type=Path)
    adapter.add_argument("--outtype", default="F16", help="F32, F16, BF16 or Q8_0")
    adapter.add_argument("--name", default="", help="general.name")
    adapter.add_argument("--text-only", action="store_true", help=_TEXT_ONLY)
    adapter.set_defaults(run=_adapter)

    check = commands.add_parser("check", help="is a GGUF file whole; does an adapter fit its base")
    check.add_argument("path", type=Path, help="GGUF file, or PEFT folder together with --base")
    check.add_argument("--base", type=Path)
    check.add_argument("--merged", action="store_true", help="as a part of a model file")
    check.add_argument("--text-only", action="store_true", help=_TEXT_ONLY)
    check.set_defaults(run=_check)

    dump = commands.add_parser("dump", help="metadata and tensors of a GGUF file")
    dump.add_argument("path", type=Path)
    dump.set_defaults(run=_dump)
    return parser


def _model(options: argparse.Namespace) -> None:
    _report(
        write_model(
            options.base,
            options.out,
            adapter=options.adapter,
            outtype=options.outtype,
            name=options.name,
            pre=options.pre,
            text_only=options.text_only,
        )
    )


def _adapter(options: argparse.Namespace) -> None:
    _report(
        write_adapter(
            options.adapter,
            options.base,
            options.out,
            outtype=options.outtype,
            name=options.name,
            text_only=options.text_only,
        )
    )


def _report(written: Written) -> None:
    for note in written.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{written.sha256}  {written.path}")


def _check(options: argparse.Namespace) -> None:
    if options.base is None:
        check_gguf(options.path)
    else:
        check_adapter(
            options.path, options.base, merged=options.merged, text_only=options.text_only
        )
    print("ok")


def _dump(options: argparse.Namespace) -> None:
    file = read_gguf(options.path)
    for pair in file.pairs:
        shown = pair.value
        if isinstance(shown, list) and len(shown) > 6:
            shown = f"[{', '.join(map(repr, shown[:6]))}, ... {len(shown)}]"
        print(f"{pair.key} = {shown!r}" if isinstance(shown, str) else f"{pair.key} = {shown}")
    for info in file.tensors.values():
        print(f"{info.name}  {list(info.shape)}  {info.type.name}")


if __name__ == "__main__":
    sys.exit(main())
