"""The comparison as a file: eval/eval.json in the run folder, replaced as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ft2ollama import __version__
from ft2ollama.evaluate.columns import Column
from ft2ollama.evaluate.gather import Gathered
from ft2ollama.files import write_json
from ft2ollama.runs import Run


def write_report(run: Run, gathered: Gathered, columns: Sequence[Column]) -> Path:
    """Everything that was asked, answered and scored; returns the path."""
    path, material = run.folder / "eval" / "eval.json", gathered.material
    rows = [item for item in material.items if item.reference is not None]
    write_json(
        path,
        {
            "run": run.id,
            "time": datetime.now().astimezone().isoformat(timespec="seconds"),
            "ft2ollama": __version__,
            "rows": {
                "from": gathered.rows_of,
                "held_out": material.held,
                "asked": len(rows),
                "in_the_loss": len(material.samples),
            },
            "questions": {
                "from": gathered.questions_of,
                "asked": len(material.items) - len(rows),
            },
            "notes": list(material.notes),
            "columns": [column.as_dict() for column in columns],
        },
    )
    return path
