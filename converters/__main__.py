"""`python -m converters adapter|model|quantize|check|dump`: the package without the tool."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converters.adapter_file import write_adapter
from converters.check_file import check_file
from converters.dump import as_json, as_lines
from converters.errors import ConvertError
from converters.model_file import write_model
from converters.quantize_file import quantize
from converters.quants.types import FILE_TYPES
from converters.reader import read_gguf
from converters.written import Written

_TEXT_ONLY = "leave out the adapter's vision and audio parts"


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 refused or failed, 130 Ctrl-C. The result goes to stdout."""
    options = _parser().parse_args(argv)
    try:
        options.run(options)
    except (ConvertError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; no file was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m converters", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    model = commands.add_parser("model", help="base folder (+ adapter) -> model GGUF")
    model.add_argument("base", type=Path, help="folder with config.json, weights and tokenizer")
    model.add_argument("out", type=Path)
    model.add_argument("--adapter", type=Path, help="PEFT folder to merge")
    model.add_argument("--outtype", default="Q8_0", help=f"one of {', '.join(FILE_TYPES)}")
    model.add_argument("--name", default="", help="general.name")
    model.add_argument("--pre", help="name of the pre-tokenizer, if it is not recognised")
    model.add_argument("--threads", type=int, help="default: all CPUs")
    model.add_argument("--text-only", action="store_true", help=_TEXT_ONLY)
    _add_calibration(model)
    model.set_defaults(run=_model)

    adapter = commands.add_parser("adapter", help="PEFT folder -> LoRA GGUF")
    adapter.add_argument("adapter", type=Path)
    adapter.add_argument("base", type=Path, help="folder with the base's config.json")
    adapter.add_argument("out", type=Path)
    adapter.add_argument("--outtype", default="F16", help="F32, F16, BF16 or Q8_0")
    adapter.add_argument("--name", default="", help="general.name")
    adapter.add_argument("--text-only", action="store_true", help=_TEXT_ONLY)
    adapter.set_defaults(run=_adapter)

    again = commands.add_parser("quantize", help="model GGUF -> the same model in another type")
    again.add_argument("source", type=Path, help="model GGUF of type F32, F16 or BF16")
    again.add_argument("out", type=Path)
    again.add_argument("outtype", help="as for model --outtype")
    again.add_argument("--allow-requantize", action="store_true", help="round a second time")
    again.add_argument("--threads", type=int, help="default: all CPUs")
    _add_calibration(again)
    again.set_defaults(run=_quantize)

    check = commands.add_parser("check", help="is a GGUF file whole; does an adapter fit its base")
    check.add_argument("path", type=Path, help="GGUF file, or PEFT folder together with --base")
    check.add_argument("--base", type=Path, help="what an adapter is for: GGUF file or folder")
    check.add_argument("--quick", action="store_true", help="do not look for NaN in the tensors")
    check.add_argument("--json", action="store_true", help="one object on stdout")
    check.add_argument("--merged", action="store_true", help="as a part of a model file")
    check.add_argument("--text-only", action="store_true", help=_TEXT_ONLY)
    check.set_defaults(run=_check)

    dump = commands.add_parser("dump", help="metadata and tensors of a GGUF file")
    dump.add_argument("path", type=Path)
    dump.add_argument("--json", action="store_true", help="one object, arrays in full")
    dump.set_defaults(run=_dump)
    return parser


def _add_calibration(command: argparse.ArgumentParser) -> None:
    known = command.add_mutually_exclusive_group()
    known.add_argument(
        "--calibration", type=Path, metavar="FILE", help="statistics of the layers' inputs"
    )
    known.add_argument(
        "--imatrix", type=Path, metavar="FILE", help="as llama-quantize uses it: importance only"
    )


def _calibration(options: argparse.Namespace) -> dict[str, Any]:
    """Which of the two files was given, as arguments."""
    mode = "imatrix" if options.imatrix else "auto"
    return {"calibration": options.imatrix or options.calibration, "mode": mode}


def _model(options: argparse.Namespace) -> None:
    _report(
        write_model(
            options.base,
            options.out,
            adapter=options.adapter,
            outtype=options.outtype,
            name=options.name,
            pre=options.pre,
            threads=options.threads,
            say=_say,
            text_only=options.text_only,
            **_calibration(options),
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


def _quantize(options: argparse.Namespace) -> None:
    _report(
        quantize(
            options.source,
            options.out,
            options.outtype,
            allow_requantize=options.allow_requantize,
            threads=options.threads,
            say=_say,
            **_calibration(options),
        )
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _report(written: Written) -> None:
    for note in written.notes:
        print(f"note: {note}", file=sys.stderr)
    if written.report:
        print(f"note: {written.calibrated}", file=sys.stderr)
    print(f"{written.sha256}  {written.path}")


def _check(options: argparse.Namespace) -> None:
    try:
        summary = check_file(
            options.path,
            options.base,
            values=not options.quick,
            merged=options.merged,
            text_only=options.text_only,
        )
    except ConvertError as error:
        if options.json:
            problems = error.why.splitlines() or [error.what]
            _print_json({"file": str(options.path), "ok": False, "problems": problems})
        raise
    if options.json:
        facts = {} if summary is None else asdict(summary)
        _print_json({"file": str(options.path), "ok": True, "problems": [], **facts})
    else:
        print("ok")


def _dump(options: argparse.Namespace) -> None:
    if options.json:
        _print_json(as_json(read_gguf(options.path)))
    else:
        print("\n".join(as_lines(read_gguf(options.path))))


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1))  # ASCII, so that no name reaches the terminal as it is


if __name__ == "__main__":
    sys.exit(main())
