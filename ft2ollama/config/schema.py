"""Every key of a config file, its range, its unit and the reason for its default.

In: plain values (from YAML, JSON or code).  Out: a frozen `Config`, or pydantic's ValidationError,
which `load.py` turns into one line per problem with its place in the file.

One flat dialect. A key that LLaMA-Factory has keeps LLaMA-Factory's name and meaning (its
src/llamafactory/hparams/*.py and transformers' TrainingArguments), so its YAML files work here; a
key of ours is named in the same style. `docs/config.md` is made from this file by `docs.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from ft2ollama.config import checks
from ft2ollama.config.field import key
from ft2ollama.config.method import KEYS, MethodKeys
from ft2ollama.config.running import RunningKeys
from ft2ollama.config.speed import SpeedKeys

SECTIONS = {
    "model": "Model",
    "data": "Data",
    "method": "Method",
    "training": "Training",
    "optimizer": "Optimizer",
    "speed": "Speed and memory",
    "running": "Checkpoints, evaluation, several GPUs, tracking",
    "export": "Export",
    "publish": "Publish",
    "proof": "Proof",
}
DEFAULT_NUM_CTX = 4096  # Ollama's own default up to 23 GiB of GPU memory; 4096 since v0.6


GgufType = Literal[
    "auto",
    "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S",
    "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
]  # fmt: skip


class Config(MethodKeys, SpeedKeys, RunningKeys, BaseModel):
    """The whole config; flat, frozen, no unknown key."""

    model_config = KEYS

    # --- model
    model_name_or_path: Annotated[str, key("model", "name")]
    """The model to start from: a folder, a `*.gguf` file, a hub id such as
    `Qwen/Qwen2.5-0.5B-Instruct`, or `ollama:NAME` for a model that Ollama already has. It has no
    default, because the base decides everything else."""
    hub: Annotated[Literal["huggingface", "modelscope"], key("model", "choice")] = "huggingface"
    """Where a hub id is looked up. LLaMA-Factory takes the environment variable
    USE_MODELSCOPE_HUB; a key in the file can be read again later."""
    model_revision: Annotated[str, key("model", "name")] = "main"
    """Branch, tag or commit of a hub id. LLaMA-Factory's default."""
    template: Annotated[str | None, key("model", "name")] = None
    """null takes the chat template the model came with, as LLaMA-Factory does. Otherwise a folder
    name of `modelfiles/`, such as `chatml`, for a base model without one."""
    default_system: Annotated[str | None, key("model", "text")] = None
    """System prompt for conversations that have none. null, as in LLaMA-Factory, leaves what the
    chat template does by itself."""
    trust_remote_code: Annotated[bool, key("model", "true or false")] = False
    """Ignored: code that comes with a download is never run, and a model that transformers knows
    needs none. The key exists because LLaMA-Factory's examples have it."""
    compute_dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], key("model", "choice")
    ] = "auto"
    """Number format of the frozen base weights and of the arithmetic. auto takes bfloat16 where the
    device is fast at it, else float16 on a GPU and float32 on a CPU. What is trained stays float32
    (see pure_bf16). LLaMA-Factory's `bf16: true` means bfloat16, its `fp16: true` float16, which
    is for GPUs alone: on a CPU auto's choice is taken."""
    flash_attn: Annotated[Literal["auto", "disabled", "sdpa", "fa2"], key("model", "choice")] = (
        "auto"
    )
    """How attention is computed: disabled is the plain formula, sdpa is torch's own, fa2 needs the
    package flash-attn and a GPU. The results differ by rounding only. auto takes sdpa;
    LLaMA-Factory's default."""

    # --- data
    dataset: Annotated[tuple[str, ...], key("data", "names", min_length=1)]
    """What to train on: files (.json, .jsonl, .csv, .tsv, .parquet, .arrow), folders of them, names
    from dataset_info.json and hub ids (`owner/name`), as a list or with commas between them. The
    format is recognised from the rows."""
    dataset_dir: Annotated[Path, key("data", "path")] = Path("data")
    """The folder of dataset_info.json and of the files it names, or such a file under another
    name. LLaMA-Factory's default."""
    max_samples: Annotated[int | None, key("data", "conversations per data set", ge=1)] = None
    """Take only the first so many of each data set, to try a config quickly. null takes all, as in
    LLaMA-Factory."""
    bad_rows: Annotated[Literal["error", "drop"], key("data", "choice")] = "error"
    """What becomes of rows that cannot be trained on. error lists them all and trains nothing;
    drop leaves them out, says so, and writes them with their reasons into dropped.jsonl of the run.
    LLaMA-Factory drops some silently and stops at others."""
    streaming: Annotated[bool, key("data", "true or false")] = False
    """true reads no further than max_samples, or than max_steps needs, and downloads no more of a
    hub data set than that. false reads everything first, LLaMA-Factory's default."""
    mix_strategy: Annotated[
        Literal["concat", "interleave_under", "interleave_over", "interleave_once"],
        key("data", "choice"),
    ] = "concat"
    """How several data sets become one. concat takes all of each; interleave_under ends when the
    first set is used up, interleave_over repeats the smaller ones until the last is, and
    interleave_once takes each conversation once. concat is LLaMA-Factory's default."""
    interleave_probs: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...] | None, key("data", "weights")
    ] = None
    """With an interleave strategy, how often each data set is drawn, such as 0.7,0.3: a weight for
    each name in dataset. null draws them in turn, as in LLaMA-Factory."""
    eval_dataset: Annotated[tuple[str, ...] | None, key("data", "names", min_length=1)] = None
    """Data sets to measure the loss on instead of rows held back by val_size; named like dataset.
    null, as in LLaMA-Factory."""
    eval_on_each_dataset: Annotated[bool, key("data", "true or false")] = False
    """true measures the loss on each data set by itself. false measures it on all of them together,
    LLaMA-Factory's default."""
    val_size: Annotated[float, key("data", "share below 1, count from 1", ge=0)] = 0.0
    """Held back from training to measure the loss on unseen conversations. 0.0 holds nothing back,
    LLaMA-Factory's default: small data sets are needed whole."""
    cutoff_len: Annotated[int, key("data", "tokens", ge=16, le=1_048_576)] = 2048
    """Longest conversation that is trained on; memory grows with it. 2048 is LLaMA-Factory's
    default; what becomes of longer ones says cutoff_policy."""
    cutoff_policy: Annotated[Literal["drop", "truncate", "error"], key("data", "choice")] = "drop"
    """What becomes of conversations longer than cutoff_len. drop leaves them out, counted and
    listed, as ms-swift and Axolotl do. truncate takes whole turns from the end, and where not even
    the first exchange fits, the middle of the question; the answer and its stop token stay whole.
    error trains nothing before they are mended. LLaMA-Factory cuts anywhere and says nothing, so
    that answers lose their end and the model does not learn to stop."""
    enable_thinking: Annotated[bool | None, key("data", "true, false or null")] = None
    """The chat template's switch for thoughts. null leaves it to the template: Qwen3 and SmolLM3
    think, Granite does not. true is LLaMA-Factory's default and the same for Qwen3: an answer
    without a thought is learned as the template writes it, with an empty one in front. false puts
    the empty thought into the prompt, where it is not learned, and takes thoughts out of the
    data."""
    special_tokens_in_text: Annotated[Literal["error", "text"], key("data", "choice")] = "error"
    """What becomes of a control token such as `<|im_end|>` written inside a text of the data. error
    reports the row: Ollama would take it for the end of a turn. text learns it as plain characters,
    for data about such tokens. LLaMA-Factory makes a real control token of it."""
    preprocessing_num_workers: Annotated[int | None, key("data", "processes", ge=1)] = None
    """Processes that turn conversations into tokens. null takes one up to 20,000 conversations,
    which one does in seconds, else as many as there are cores, eight at most. As in LLaMA-Factory,
    whose null means one."""
    train_on_prompt: Annotated[bool, key("data", "true or false")] = False
    """true also learns the user's words. false learns the answers only, which is what an assistant
    needs; LLaMA-Factory's default."""
    mask_history: Annotated[bool, key("data", "true or false")] = False
    """true learns only the last answer of each conversation. false learns every answer;
    LLaMA-Factory's default."""

    # --- training
    output_dir: Annotated[Path | None, key("training", "path")] = None
    """The run folder. null makes a new one, runs/<id>, so that no run overwrites another;
    LLaMA-Factory asks for a path each time."""
    run_name: Annotated[str | None, key("training", "text")] = None
    """A word of yours in the run's id. null leaves the id a date and time."""
    num_train_epochs: Annotated[float, key("training", "passes over the data", gt=0, le=1000)] = 3.0
    """How often every conversation is seen. 3.0 as in LLaMA-Factory; many more learn the rows by
    heart and lose general knowledge."""
    max_steps: Annotated[int, key("training", "optimizer steps", ge=-1)] = -1
    """Stop after so many steps, whatever num_train_epochs says; -1 leaves it to the epochs. As in
    transformers."""
    per_device_train_batch_size: Annotated[int, key("training", "conversations", ge=1)] = 8
    """Conversations computed at once; halve it when memory is short and double
    gradient_accumulation_steps. 8 is transformers' default."""
    gradient_accumulation_steps: Annotated[
        int, key("training", "batches per optimizer step", ge=1)
    ] = 1
    """Conversations per step = per_device_train_batch_size x this. LoRA learns best from 8 to 32;
    transformers' default is 1."""
    learning_rate: Annotated[float, key("training", "per step", gt=0, le=1)] = 2e-4
    """LLaMA-Factory inherits 5e-5, which is a rate for full fine-tuning; the best rate for LoRA is
    about ten times higher. Very small models take up to 2e-3."""
    lr_scheduler_type: Annotated[
        Literal[
            "cosine",
            "linear",
            "constant",
            "constant_with_warmup",
            "cosine_with_restarts",
            "polynomial",
            "cosine_with_min_lr",
            "inverse_sqrt",
            "warmup_stable_decay",
        ],
        key("training", "choice"),
    ] = "cosine"
    """How the learning rate falls. cosine, as in every example of LLaMA-Factory, ends gently;
    transformers' own default is linear."""
    warmup_ratio: Annotated[float, key("training", "share of all steps", ge=0, lt=1)] = 0.0
    """Share of the steps in which the learning rate rises from 0. 0.0 is transformers' default and
    right for runs of some dozen steps; 0.03 to 0.1 for long ones."""
    warmup_steps: Annotated[int, key("training", "optimizer steps", ge=0)] = 0
    """The same as a count of steps; give one of the two. 0 is transformers' default."""
    weight_decay: Annotated[
        float, key("training", "share per step and learning rate", ge=0, le=1)
    ] = 0.0
    """AdamW's pull of the adapter towards zero. 0.0 is transformers' default."""
    max_grad_norm: Annotated[float, key("training", "norm", ge=0)] = 1.0
    """Longer gradients are cut to this length, which tames single odd rows; 0 never cuts. 1.0 is
    transformers' default."""
    seed: Annotated[int, key("training", "number", ge=0, le=2**32 - 1)] = 42
    """Start of every random choice: order of the data, the held-out rows, the first LoRA weights.
    The same seed gives the same run. 42 is transformers' default."""
    logging_steps: Annotated[int, key("training", "optimizer steps", ge=1)] = 1
    """Note the loss every so many steps. transformers has 500, more than most LoRA runs are long;
    1 costs nothing."""
    num_threads: Annotated[int | None, key("training", "threads", ge=1, le=1024)] = None
    """CPU threads to compute with. null chooses by the cores and their load: two spinning threads
    on a busy machine are slower than one."""

    # --- export
    export_quant: Annotated[GgufType, key("export", "GGUF type")] = "auto"
    """Number format of a merged model in its GGUF file. Q8_0 is half the size of F16 and hardly
    differs from it; F32 is exact; Q4_K_M is little more than half the size of Q8_0, and calibrated
    it loses about half of what it loses otherwise. auto: Q8_0 below a billion weights, Q4_K_M
    above."""
    export_mode: Annotated[
        Literal["auto", "exact", "imatrix", "calibrated"], key("export", "choice")
    ] = "auto"
    """How weights are rounded to a type below Q8_0. calibrated uses what the layers meet on the
    training conversations, imatrix only how large it is, exact nothing: the same bytes as
    llama-quantize. auto collects the statistics after a training whose export_quant profits and
    takes the best mode they allow."""
    export_as: Annotated[Literal["model", "adapter"], key("export", "choice")] = "model"
    """model merges the adapter into the base: one file that every Ollama runs. adapter writes the
    adapter alone, for an Ollama that still takes ADAPTER."""

    # --- publish
    ollama_name: Annotated[str | None, key("publish", "model name")] = None
    """The name in Ollama: each run becomes NAME:<run>, and the one that passed its proof
    NAME:latest, or the tag you write. null leaves it to `ft2ollama publish NAME`."""
    num_ctx: Annotated[int | None, key("publish", "tokens", ge=16, le=1_048_576)] = None
    """Context length Ollama serves. null takes 4096, or cutoff_len when that is longer, so that
    nothing that was trained is cut off, and no more than the model is made for."""
    ollama_system: Annotated[str | None, key("publish", "text")] = None
    """SYSTEM of the Modelfile. null takes default_system, so that the model is served with what it
    was trained with."""
    ollama_parameters: Annotated[
        dict[str, bool | int | float | str | tuple[str, ...]],
        key("publish", "mapping", example="{temperature: 0.2}"),
    ] = {}
    """More PARAMETER lines of the Modelfile, such as `{temperature: 0.2, top_p: 0.9}`. Empty by
    default: those of the base's generation_config.json are used, else the template family's."""
    ollama_messages: Annotated[Path | None, key("publish", "path")] = None
    """A .jsonl file of an example conversation, a {"role": "user", "content": "..."} a line, then
    "assistant", in turns. Ollama puts it before every conversation (MESSAGE); the model is proved
    without it. null has none, because examples take room in the context of each request."""

    # --- proof
    proof_prompts: Annotated[Path | None, key("proof", "path")] = None
    """A .jsonl file of questions that are not in the training data, a {"question": "..."} a line,
    for comparing the replies of the trainer and of Ollama. null takes questions of the data set."""
    proof_replies: Annotated[int, key("proof", "replies", ge=0, le=1000)] = 8
    """How many reference replies the trainer writes for that comparison; 0 writes none. 8 take
    seconds with a small model on a CPU."""

    @field_validator("*", mode="before")
    @classmethod
    def _accept(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        return checks.accept(name, value, cls.model_fields[name].annotation)

    @field_validator("*", mode="after")
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        return checks.check_field(str(info.field_name), value)

    @model_validator(mode="after")
    def _check_together(self) -> Config:
        checks.check_together(self)
        return self

    @property
    def resolved_lora_alpha(self) -> int:
        """lora_alpha, with null as 2 x lora_rank."""
        return 2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha

    @property
    def is_whole(self) -> bool:
        """Whether the run holds a whole model: it cannot be told by an adapter for the base."""
        merged = len(self.adapter_name_or_path or ()) > (0 if self.create_new_adapter else 1)
        quantized = self.quantization_bit is not None and self.qlora_merge_into == "quantized"
        return self.finetuning_type != "lora" or merged or quantized

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """add_tokens and add_special_tokens."""
        return (*(self.add_tokens or ()), *(self.add_special_tokens or ()))

    @property
    def resolved_num_ctx(self) -> int:
        """num_ctx in tokens, with null as the larger of 4096 and cutoff_len."""
        return max(DEFAULT_NUM_CTX, self.cutoff_len) if self.num_ctx is None else self.num_ctx


def section_of(name: str) -> str:
    """The section a key belongs to."""
    extra = Config.model_fields[name].json_schema_extra
    return str(extra["section"]) if isinstance(extra, dict) else ""


def unit_of(name: str) -> str:
    """The unit of a key's value."""
    extra = Config.model_fields[name].json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) else ""
