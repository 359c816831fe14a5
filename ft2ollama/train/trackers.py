"""TensorBoard, W&B, SwanLab, MLflow and others: through transformers' own callbacks.

Here is only what comes before: is the package there, and where do its files go? A missing package
is told before anything expensive, not after the model was loaded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ft2ollama.config import Config
from ft2ollama.errors import MachineError

# tracker: (modules of which one must be there, what to install)
_PACKAGES = {
    "tensorboard": (("tensorboard", "tensorboardX"), "tensorboard"),
    "wandb": (("wandb",), "wandb"),
    "swanlab": (("swanlab",), "swanlab"),
    "mlflow": (("mlflow",), "mlflow"),
    "trackio": (("trackio",), "trackio"),
    "comet_ml": (("comet_ml",), "comet_ml"),
    "clearml": (("clearml",), "clearml"),
}
PROJECT = "ft2ollama"


def check_trackers(names: Sequence[str]) -> None:
    """Raises MachineError that lists every tracker whose package is missing."""
    missing = [
        package
        for modules, package in map(_PACKAGES.__getitem__, names)
        if not any(map(find_spec, modules))
    ]
    if missing:
        raise MachineError(
            f"report_to: {', '.join(missing)} is not installed",
            "the curve is in the run folder (events.jsonl, loss.png) without it too",
            f"pip install {' '.join(missing)}     # or report_to=none",
        )


def prepare_trackers(config: Config, folder: Path, run_id: str) -> None:
    """Tell the trackers of this process where to write and what the run is called.

    folder: the run folder.  What the user has set in the environment stays.
    """
    names = config.trackers
    if "tensorboard" in names:
        logs = config.logging_dir or folder / "tensorboard"
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(logs))
    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", PROJECT)
    if "swanlab" in names:
        _begin_swanlab(config, folder, run_id)


def _begin_swanlab(config: Config, folder: Path, run_id: str) -> None:
    import swanlab

    if swanlab.get_run() is None:
        swanlab.init(
            project=config.swanlab_project or os.environ.get("SWANLAB_PROJECT") or PROJECT,
            workspace=config.swanlab_workspace,
            experiment_name=config.swanlab_run_name or run_id,
            mode=config.swanlab_mode,
            logdir=str(config.swanlab_logdir or folder / "swanlab"),
            config={"framework": PROJECT},
        )
