"""A trained run -> GGUF files in its `gguf/` folder, written by our own converters.

The only place that imports `converters`' writers; it checks that the package is ours, because
another distribution or a folder of that name could hide it. Needs no torch, GPU, compiler or
network.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama import __version__
from ft2ollama.base import Base, trained_base
from ft2ollama.errors import MachineError, UsageError
from ft2ollama.files import (
    Progress,
    remember_sha256,
    sha256_file,
    sha256_folder,
    write_json,
)
from ft2ollama.paths import cache_dir
from ft2ollama.quant_choice import choose_quant
from ft2ollama.runs import Run
from ft2ollama.served import read_template
from ft2ollama.template import ChatTemplate

if TYPE_CHECKING:
    import converters

Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """One GGUF file of a run.  kind: `model` (merged) or `adapter`.

    calibrated: a line on what the calibration gained, if there was one.
    """

    path: Path
    kind: str
    quant: str
    sha256: str
    size: int
    fresh: bool
    notes: tuple[str, ...] = ()
    calibrated: str = ""


def export(  # noqa: PLR0913 - one option per thing a caller may decide
    run: Run,
    base: Base,
    *,
    kind: str = "model",
    quant: str | None = None,
    mode: str = "auto",
    progress: Progress | None = None,
    say: Say | None = None,
    force: bool = False,
) -> Exported:
    """Write the run's GGUF; a file whose inputs have not changed is kept.

    mode: how weights are rounded to a quantized type, see config's export_mode. say: told what
    takes long for once. Raises converters.ConvertError when the adapter does not fit the base or
    cannot be represented.
    """
    import converters

    require_ours(converters)
    check_trained(run)
    if run.is_whole:
        base = whole_model(run, kind, base)
    quant, _ = choose_quant(kind, quant, base)
    path = _path(run, kind, quant)
    stage_name = f"export {kind} {quant}"
    template = read_template(run.proof / "template.json")
    inputs = {
        "adapter": sha256_folder(run.model if run.is_whole else run.adapter),
        "base": base.sha256,
        "template": sha256_file(run.proof / "template.json"),
        "ft2ollama": __version__,
    }
    inputs |= {f"lineage {key}": value for key, value in run.lineage.items()}
    if kind == "model" and template.adds_bos:
        inputs["add_bos"] = "true"
    if kind == "model" and mode != "exact" and run.calibration.is_file():
        inputs |= {"calibration": sha256_file(run.calibration), "mode": mode}
    if not force and run.is_current(stage_name, inputs):
        known = json.loads(path.with_suffix(".json").read_text("utf-8"))
        return Exported(path, kind, quant, known["sha256"], known["size"], fresh=False)
    if not run.is_whole:
        converters.check_adapter(run.adapter, base.folder, merged=kind == "model")
    with run.lock(), run.stage(stage_name, inputs) as stage:
        options: dict[str, Any] = {"outtype": quant, "progress": progress}
        if kind == "model":
            calibration = run.calibration if "calibration" in inputs else None
            options |= {"say": say, "calibration": calibration, "mode": mode}
        written = _write(run, base, kind, path, (template, inputs["adapter"]), options)
        remember_sha256(path, written.sha256)
        manifest = {
            "file": path.name,
            "kind": kind,
            "quant": quant,
            "sha256": written.sha256,
            "size": written.size,
            "tensors": written.n_tensors,
            "architecture": written.architecture,
            "notes": list(written.notes),
            "mode": written.mode,
            "calibrated": [asdict(tensor) for tensor in written.report],
            "inputs": inputs,
        }
        write_json(path.with_suffix(".json"), manifest)
        stage.outputs += [path, path.with_suffix(".json")]
    return Exported(
        path,
        kind,
        quant,
        written.sha256,
        written.size,
        fresh=True,
        notes=written.notes,
        calibrated=written.calibrated,
    )


def _write(
    run: Run,
    base: Base,
    kind: str,
    path: Path,
    trained: tuple[ChatTemplate, str],
    options: dict[str, Any],
) -> converters.Written:
    """Call the writer of this kind.  trained: the chat template, and the adapter's sha256."""
    import converters

    template, adapter_sha256 = trained

    path.parent.mkdir(parents=True, exist_ok=True)
    options["name"] = base.name
    options["lineage"] = {
        "version": __version__,
        "run": run.id,
        "base.sha256": base.sha256,
        "adapter.sha256": adapter_sha256,
        "data.sha256": run.stage_record("train")["inputs"].get("data", ""),
        **run.lineage,
        "template": template.family or "the model's own",
    }
    if kind == "adapter":
        return converters.write_adapter(run.adapter, base.folder, path, **options)
    return converters.write_model(
        base.folder,
        path,
        adapter=None if run.is_whole else run.adapter,
        chat_template=template.jinja,
        add_bos=template.adds_bos,  # what the training text begins with; its tokenizer adds none
        **options,
    )


def base_gguf(base: Base, *, adds_bos: bool, progress: Progress | None = None) -> Path:
    """The untuned base as Q8_0, written once: in the form the tuned model will be published.

    adds_bos: of the template that the tuned model has.
    """
    import converters

    path = cache_dir() / "bases" / f"{base.sha256[:16]}{'-bos' * adds_bos}-Q8_0.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        converters.write_model(
            base.folder, path, outtype="Q8_0", name=base.name, add_bos=adds_bos, progress=progress
        )
    return path


def whole_model(run: Run, kind: str, base: Base) -> Base:
    """The trained model as its own base; UsageError when an adapter is asked for."""
    if kind == "adapter":
        raise UsageError(
            f"run {run.id} has no adapter to export",
            "it holds the whole trained model",
            "ft2ollama export --as model",
        )
    return trained_base(base, run.model)


def _path(run: Run, kind: str, quant: str) -> Path:
    return run.gguf / f"{kind}-{quant}.gguf"


def check_trained(run: Run) -> None:
    """Only a finished training is exported."""
    stage = run.stage_record("train")
    if stage.get("status") != "done":
        status = stage.get("status", "not started")
        raise UsageError(
            f"run {run.id} is not trained",
            f"its training is {status}",
            f"ft2ollama train --resume {run.id}",
        )


def require_ours(converters: Any) -> None:
    """Refuse a stranger's package that goes by the name `converters`."""
    if getattr(converters, "OWNER", None) != "ft2ollama":
        place = getattr(converters, "__file__", None) or list(getattr(converters, "__path__", "?"))
        raise MachineError(
            "another package named converters hides ft2ollama's",
            f"it was found at {place}",
            "run the `ft2ollama` command from another folder, or rename that folder",
        )
