"""The keys of a running training: checkpoints, evaluation, several processes, tracking.

They are part of `Config` (schema.py inherits them); here only because they are many. Names and
meanings are those of transformers' TrainingArguments and LLaMA-Factory's hparams.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict

from ft2ollama.config.field import key

TRACKERS = ("tensorboard", "wandb", "swanlab", "mlflow", "trackio", "comet_ml", "clearml")


class RunningKeys(BaseModel):
    """Keys that say how a training is watched, saved, resumed and spread over processes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    # --- order and speed
    data_seed: Annotated[int | None, key("running", "number", ge=0, le=2**32 - 1)] = None
    """Seed of the order in which conversations are seen. null takes seed, as in transformers."""
    train_sampling_strategy: Annotated[
        Literal["group_by_length", "random", "sequential"], key("running", "choice")
    ] = "group_by_length"
    """Order of the conversations. group_by_length puts those of like length into one batch, which
    wastes less on padding; random is transformers' default; sequential keeps the order of the
    file, as LLaMA-Factory's disable_shuffling does."""
    dataloader_num_workers: Annotated[int, key("running", "processes", ge=0, le=64)] = 0
    """Processes that make batches beside the training. 0 makes them in the training process:
    they are ready tokens already, so more processes rarely help. transformers' default."""
    torch_empty_cache_steps: Annotated[int | None, key("running", "optimizer steps", ge=1)] = None
    """Give unused GPU memory back every so many steps: a little slower, and sometimes just enough
    not to run out. null never does, as in transformers."""
    full_determinism: Annotated[bool, key("running", "true or false")] = False
    """true takes only GPU routines that give the same bits each time, which is slower; a CPU does
    so anyway. transformers' default is false."""

    # --- checkpoints
    save_strategy: Annotated[Literal["steps", "epoch", "best", "no"], key("running", "choice")] = (
        "steps"
    )
    """When checkpoints are saved: every save_steps, after each epoch, at each new lowest held-out
    loss, or never. steps is transformers' default. Ctrl-C and save_minutes save in any case."""
    save_steps: Annotated[int, key("running", "optimizer steps", ge=0)] = 0
    """Save a checkpoint every so many steps. 0 leaves it to save_minutes; transformers has 500."""
    save_minutes: Annotated[float, key("running", "minutes", ge=0, le=10_000)] = 10.0
    """Save a checkpoint when the last one is older than this, so that a power cut costs no more.
    Such a checkpoint is replaced by the next one and removed when the training is done; 0 saves
    none. A key of ours: other tools count steps only, whatever a step takes."""
    save_total_limit: Annotated[int | None, key("running", "checkpoints", ge=1)] = None
    """Keep only the newest so many checkpoints, and the best one. null keeps all, as in
    transformers."""
    save_only_model: Annotated[bool, key("running", "true or false")] = False
    """true leaves the optimizer out of checkpoints: smaller, but a run cannot go on from them.
    Those of Ctrl-C and save_minutes are whole in any case. transformers' default is false."""
    resume_from_checkpoint: Annotated[str | None, key("running", "path or true")] = None
    """Go on from this checkpoint folder, or with `true` from the newest one in output_dir (an error
    when there is none). null goes on by itself when output_dir holds an unfinished run of the same
    config and data."""
    load_best_model_at_end: Annotated[bool, key("running", "true or false")] = False
    """true ends with the weights of the lowest held-out loss instead of the last ones. It needs
    held-out conversations, and checkpoints at the same steps as evaluations. transformers' default
    is false."""
    early_stopping_steps: Annotated[int | None, key("running", "evaluations", ge=1)] = None
    """End the training when the held-out loss has not fallen in so many evaluations. null, as in
    LLaMA-Factory, always trains to the end."""
    early_stopping_threshold: Annotated[float, key("running", "nats per token", ge=0)] = 0.0
    """The held-out loss has to fall by more than this to count as better. 0.0 is transformers'
    default, and what LLaMA-Factory always has."""

    # --- evaluation
    eval_strategy: Annotated[Literal["steps", "epoch", "no"] | None, key("running", "choice")] = (
        None
    )
    """When the loss on held-out conversations is measured. null means after each epoch when some
    are held out (val_size); transformers measures only when this key says so."""
    eval_steps: Annotated[int | None, key("running", "optimizer steps", ge=1)] = None
    """With eval_strategy: steps, measure every so many. null takes a tenth of the training;
    transformers takes logging_steps, which would be every step here."""
    eval_on_start: Annotated[bool, key("running", "true or false")] = False
    """true measures the held-out loss before the first step too. transformers' default is false."""
    per_device_eval_batch_size: Annotated[int | None, key("running", "conversations", ge=1)] = None
    """Conversations measured at once. null takes per_device_train_batch_size, which is known to
    fit; transformers has 8. The loss is averaged over tokens, so it does not depend on this."""

    # --- several processes
    ddp_timeout: Annotated[int, key("running", "seconds", ge=1)] = 1800
    """How long a process waits for the others before it gives up. 1800 is transformers' default;
    LLaMA-Factory's examples write 180000000."""
    deepspeed: Annotated[Path | None, key("running", "path")] = None
    """DeepSpeed's JSON file, given to it as it stands. null does without DeepSpeed: with LoRA each
    GPU only exchanges the small adapter, which plain torchrun does as well."""
    fsdp: Annotated[str | None, key("running", "text")] = None
    """`true`, or options such as `full_shard auto_wrap`, share the weights of one model among the
    GPUs (FSDP2), for models that do not fit into one. null copies the model to each GPU. 4-bit
    weights are then stored in the compute type, as FSDP moves one type only."""
    fsdp_config: Annotated[Path | None, key("running", "path")] = None
    """A JSON file with the settings of FSDP, as in transformers. null takes its defaults."""

    # --- tracking
    logging_first_step: Annotated[bool, key("running", "true or false")] = False
    """true notes the loss of step 1 too when logging_steps is larger. transformers' default is
    false."""
    report_to: Annotated[tuple[str, ...], key("running", "names", min_length=1)] = ("none",)
    """Trackers that get the curve as well: tensorboard, wandb, swanlab, mlflow, trackio, comet_ml,
    clearml. none sends nothing anywhere; the run folder has the curve in any case.
    LLaMA-Factory's default is none too."""
    logging_dir: Annotated[Path | None, key("running", "path")] = None
    """Folder of TensorBoard's files. null takes `tensorboard` in the run folder."""
    use_swanlab: Annotated[bool, key("running", "true or false")] = False
    """true is the same as report_to: swanlab. LLaMA-Factory's default is false."""
    swanlab_project: Annotated[str | None, key("running", "name")] = None
    """The project in SwanLab. null is `ft2ollama`; LLaMA-Factory has `llamafactory`."""
    swanlab_workspace: Annotated[str | None, key("running", "name")] = None
    """The workspace in SwanLab. null is your own."""
    swanlab_run_name: Annotated[str | None, key("running", "text")] = None
    """The experiment's name in SwanLab. null takes the id of the run."""
    swanlab_mode: Annotated[
        Literal["cloud", "local", "offline", "disabled"], key("running", "choice")
    ] = "cloud"
    """Where SwanLab keeps the curve. cloud is LLaMA-Factory's default; local and offline write
    files only."""
    swanlab_logdir: Annotated[Path | None, key("running", "path")] = None
    """Folder of SwanLab's files. null takes `swanlab` in the run folder."""

    @property
    def resolved_save_strategy(self) -> str:
        """save_strategy, or `eval`: as often as the loss is measured, when nothing else is said."""
        unsaid = self.save_strategy == "steps" and not self.save_steps
        return "eval" if self.load_best_model_at_end and unsaid else self.save_strategy

    @property
    def sharded(self) -> bool:
        """Whether fsdp asks for anything."""
        return (self.fsdp or "").strip().lower() not in ("", "false", "no", "none")

    @property
    def resumes_from(self) -> str:
        """resume_from_checkpoint: "" for nothing, "true" or a path."""
        wanted = (self.resume_from_checkpoint or "").strip()
        return "" if wanted.lower() in ("false", "no", "none") else wanted

    @property
    def trackers(self) -> tuple[str, ...]:
        """report_to without `none`, with SwanLab's own switch."""
        wanted = [name for name in self.report_to if name != "none"]
        if self.use_swanlab and "swanlab" not in wanted:
            wanted.append("swanlab")
        return tuple(wanted)
