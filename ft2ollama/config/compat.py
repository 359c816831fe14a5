"""Keys of LLaMA-Factory, openMind and transformers that are not ours: what becomes of each.

One table, `FOREIGN`: a key is *renamed* to ours, *ignored* (it changes speed, paths or looks, or
says what is done anyway), or *refused* (it asks for another result than this version gives). A
refused key is an error only when its value asks for something: `use_dora: false` is fine.

Sources: LLaMA-Factory src/llamafactory/hparams/{model,data,finetuning,generating,training}_args.py
(2026-08); transformers 5.23 training_args.py, and the keys that version 5 dropped and tutorials
still have; openMind's YAML files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

LLAMA_FACTORY, OPENMIND, TRANSFORMERS = "LLaMA-Factory", "openMind", "transformers"
NOTHING = (None, False, 0, "", "none", "no", "null", "off")  # values that ask for nothing


@dataclass(frozen=True)
class Foreign:
    """One foreign key.

    to, values: of a renamed key, its name here and what becomes of its value.
    harmless: values of a refused key that ask for nothing.
    """

    source: str
    action: Literal["renamed", "ignored", "refused"]
    why: str
    to: str = ""
    values: Mapping[Any, Any] = field(default_factory=dict)
    harmless: tuple[Any, ...] = NOTHING

    def asks_for_nothing(self, value: Any) -> bool:
        """Whether the value leaves things as they are; 1e-8 and "1e-8" are the same here."""
        words = {_word(item) for item in self.harmless}
        return (isinstance(value, (dict, list)) and not value) or _word(value) in words


def _word(value: Any) -> str:
    """A value for comparing: false, 0.9, adamw_torch."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{float(value):g}"
    text = str(value).strip().lower()
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


_SINGLE: Mapping[str, Foreign] = {
    "bf16": Foreign(
        TRANSFORMERS, "renamed", "the number format has one key here",
        "compute_dtype", {True: "bfloat16"},
    ),
    "fp16": Foreign(
        TRANSFORMERS, "renamed", "the number format has one key here",
        "compute_dtype", {True: "float16"},
    ),
    "evaluation_strategy": Foreign(
        TRANSFORMERS, "renamed", "its name since transformers 4.46", "eval_strategy"
    ),
    "max_length": Foreign(OPENMIND, "renamed", "the same length in tokens", "cutoff_len"),
    "max_seq_length": Foreign(OPENMIND, "renamed", "the same length in tokens", "cutoff_len"),
    "custom_dataset_info": Foreign(
        OPENMIND, "renamed", "that dataset_info.json, or its folder", "dataset_dir"
    ),
    "activation_checkpointing": Foreign(
        TRANSFORMERS, "renamed", "the same thing under its older name", "gradient_checkpointing"
    ),
    "use_liger_kernel": Foreign(
        TRANSFORMERS, "renamed", "the same kernels by their other name", "enable_liger_kernel"
    ),
    "group_by_length": Foreign(
        TRANSFORMERS, "renamed", "the order of the rows has one key here",
        "train_sampling_strategy", {True: "group_by_length", False: "random"}, harmless=(None, ""),
    ),
    "disable_shuffling": Foreign(
        LLAMA_FACTORY, "renamed", "the order of the rows has one key here",
        "train_sampling_strategy", {True: "sequential"},
    ),
}  # fmt: skip

# (source, why, keys)
_IGNORED: tuple[tuple[str, str, str], ...] = (
    (TRANSFORMERS, "the train command trains", "do_train"),
    (TRANSFORMERS, "the held-out loss is what is measured, when val_size and eval_strategy say so",
     "do_eval eval_delay eval_accumulation_steps prediction_loss_only "
     "eval_do_concat_batches eval_use_gather_object include_for_metrics batch_eval_metrics "
     "bf16_full_eval fp16_full_eval"),
    (LLAMA_FACTORY, "the held-out loss is what is measured, when val_size and eval_strategy say so",
     "eval_num_beams compute_accuracy"),
    (LLAMA_FACTORY, "the loss curve is always drawn", "plot_loss"),
    (LLAMA_FACTORY, "tokens are kept by the content of data and settings",
     "overwrite_cache preprocessing_batch_size tokenized_path "
     "data_shared_file_system buffer_size"),
    (TRANSFORMERS, "rows are ready tokens; dataloader_num_workers alone is read",
     "dataloader_pin_memory dataloader_persistent_workers "
     "dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order"),
    (TRANSFORMERS, "every run has its own folder; none is overwritten unasked",
     "overwrite_output_dir save_on_each_node enable_jit_checkpoint"),
    (TRANSFORMERS, "weights are safetensors, and a resumed run goes on exactly where it stopped",
     "save_safetensors ignore_data_skip restore_callback_states_from_checkpoint"),
    (TRANSFORMERS, "progress is shown in the terminal and kept in the run's events.jsonl",
     "logging_strategy logging_nan_inf_filter log_on_each_node log_level log_level_replica "
     "disable_tqdm skip_memory_metrics debug"),
    (TRANSFORMERS, "tokens are always counted; see events.jsonl and train_report.md",
     "include_num_input_tokens_seen include_tokens_per_second"),
    (LLAMA_FACTORY, "progress is shown in the terminal and kept in the run's events.jsonl",
     "include_effective_tokens_per_second print_param_status"),
    (TRANSFORMERS, "torchrun and accelerate launch say who is who, and the loss is always averaged "
     "over the tokens of all processes",
     "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph "
     "ddp_backend local_rank tpu_num_cores ray_scope accelerator_config "
     "average_tokens_across_devices"),
    (TRANSFORMERS, "the device is found by looking", "use_cpu no_cuda use_mps_device"),
    (TRANSFORMERS, "speed or memory only; the result is the same",
     "gradient_checkpointing_kwargs activation_checkpointing_kwargs tf32 torch_compile_backend "
     "torch_compile_mode liger_kernel_config use_cache length_column_name auto_find_batch_size "
     "half_precision_backend fp16_opt_level"),
    (LLAMA_FACTORY, "a GPU computes again only the layers whose values do not fit; "
     "gradient_checkpointing: false never does so",
     "disable_gradient_checkpointing"),
    (LLAMA_FACTORY, "speed or memory only; the result is the same",
     "use_unsloth use_unsloth_gc use_reentrant_gc low_cpu_mem_usage use_v1_kernels "
     "offload_folder use_kv_cache"),
    (LLAMA_FACTORY, "norms and the loss are computed in float32 in any case",
     "upcast_layernorm upcast_lmhead_output"),
    (LLAMA_FACTORY, "the embedding grows when add_tokens or add_special_tokens need it",
     "resize_vocab"),
    (LLAMA_FACTORY, "new rows start from the mean of the others and a little noise",
     "init_special_tokens"),
    (LLAMA_FACTORY, "the exact decomposition is taken, and the export turns PiSSA into plain LoRA",
     "pissa_iter pissa_convert"),
    (LLAMA_FACTORY, "a quantized base lies on the device that trains", "quantization_device_map"),
    (LLAMA_FACTORY, "Ollama serves the model, in the format of export_quant",
     "infer_backend infer_dtype vllm_maxlen vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank "
     "vllm_config sglang_maxlen sglang_mem_fraction sglang_tp_size"),
    (LLAMA_FACTORY, "the GGUF file goes into the run folder; see export_as and export_quant",
     "export_dir export_size export_device export_legacy_format export_quantization_dataset "
     "export_quantization_nsamples export_quantization_maxlen"),
    (LLAMA_FACTORY, "it is for LLaMA-Factory's chat; for the published model write it in "
     "ollama_parameters",
     "do_sample temperature top_p top_k num_beams max_new_tokens repetition_penalty "
     "length_penalty skip_special_tokens"),
    (LLAMA_FACTORY, "the fast tokenizer is used, and the padding never counts in the loss",
     "use_fast_tokenizer ignore_pad_token_for_loss"),
    (TRANSFORMERS, "the columns are read by the data's own format",
     "remove_unused_columns label_names"),
    (LLAMA_FACTORY, "only text is read",
     "media_dir image_max_pixels image_min_pixels image_do_pan_and_scan crop_to_patches "
     "video_max_pixels video_min_pixels video_fps video_maxlen use_audio_in_video "
     "audio_sampling_rate freeze_vision_tower freeze_multi_modal_projector "
     "freeze_language_model"),
    (LLAMA_FACTORY, "it belongs to a method that is not used here",
     "fp8_backend fp8_enable_fsdp_float8_all_gather module_dropout oft_rank "
     "oft_block_size oft_target pref_beta pref_ftx "
     "pref_bco_weight pref_loss dpo_label_smoothing kto_chosen_weight kto_rejected_weight "
     "simpo_gamma ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards "
     "ref_model ref_model_adapters ref_model_quantization_bit reward_model "
     "reward_model_adapters reward_model_quantization_bit reward_model_type ld_alpha "
     "galore_target galore_rank galore_update_interval galore_scale galore_proj_type "
     "galore_layerwise apollo_target apollo_rank apollo_update_interval apollo_scale apollo_proj "
     "apollo_proj_type apollo_scale_type apollo_layerwise apollo_scale_front badam_mode "
     "badam_start_block badam_switch_mode badam_switch_interval badam_update_ratio "
     "badam_mask_mode badam_verbose dft_alpha eaft_alpha"),
    (LLAMA_FACTORY, "no chat message is sent; SwanLab's own site can send them",
     "swanlab_lark_webhook_url swanlab_lark_secret"),
    (TRANSFORMERS, "a tracker's own settings are its environment variables (WANDB_PROJECT, ...)",
     "project trackio_space_id trackio_bucket_id trackio_static_space_id"),
    (TRANSFORMERS, "nothing is sent to a hub",
     "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push "
     "hub_revision"),
    (LLAMA_FACTORY, "nothing is sent to a hub", "export_hub_model_id"),
    (LLAMA_FACTORY, "downloads use the hub's own cache and login (HF_HOME, HF_TOKEN)",
     "cache_dir hf_hub_token ms_hub_token om_hub_token"),
    (LLAMA_FACTORY, "there is no other process to share the work with",
     "ray_run_name ray_storage_path ray_storage_filesystem ray_num_workers resources_per_worker "
     "placement_strategy ray_init_kwargs"),
)  # fmt: skip

# (source, why and what to do instead, key -> values that ask for nothing beside `NOTHING`)
_REFUSED: tuple[tuple[str, str, dict[str, tuple[Any, ...]]], ...] = (
    (TRANSFORMERS, "a quantized base has LLaMA-Factory's key here; remove the key and set "
     "quantization_bit: 4 or 8",
     {"load_in_4bit": (), "load_in_8bit": ()}),
    (LLAMA_FACTORY, "FP8 training is not done here; remove the key and set compute_dtype: "
     "bfloat16",
     {"fp8": ()}),
    (TRANSFORMERS, "a model is split over GPUs by deepspeed or fsdp; remove the key and use one",
     {"parallelism_config": ()}),
    (LLAMA_FACTORY, "a model is split over GPUs by deepspeed or fsdp; remove the key and use one",
     {"use_mca": (), "use_kt": ()}),
    (LLAMA_FACTORY, "a secret does not belong into a file that is copied into every run; remove "
     "the key and set the environment variable SWANLAB_API_KEY",
     {"swanlab_api_key": ()}),
    (LLAMA_FACTORY, "an adapter is found by its own folder; remove the key and give the folder in "
     "adapter_name_or_path",
     {"adapter_folder": ()}),
    (LLAMA_FACTORY, "the GGUF file holds its own quantization; remove the key and set "
     "export_quant",
     {"export_quantization_bit": ()}),
    (LLAMA_FACTORY, "it changes the model into one that Ollama does not compute; remove the key",
     {"use_llama_pro": (), "mixture_of_depths": ()}),
    (LLAMA_FACTORY, "training starts from the model's own weights; remove the key",
     {"train_from_scratch": ()}),
    (LLAMA_FACTORY, "the loss is plain cross-entropy over the learned tokens; remove the key",
     {"moe_aux_loss_coef": ()}),
    (LLAMA_FACTORY, "new tokens are lists here; remove the key and set add_special_tokens",
     {"new_special_tokens_config": ()}),
    (LLAMA_FACTORY, "a special token is one token here and in Ollama alike; remove the key",
     {"split_special_tokens": ()}),
    (LLAMA_FACTORY, "the positions stay as the model knows them, and as Ollama computes them; "
     "remove the key",
     {"rope_scaling": (), "shift_attn": ()}),
    (LLAMA_FACTORY, "optimizers are chosen by transformers' names; remove the key and set optim",
     {"use_galore": (), "use_apollo": (), "use_badam": (), "use_adam_mini": (), "use_muon": ()}),
    (TRANSFORMERS, "the optimizers of optim need no more settings; remove the key",
     {"optim_args": (), "optim_target_modules": ()}),
    (TRANSFORMERS, "it is one of the values of optim; remove the key and set optim: adafactor",
     {"adafactor": ()}),
    (TRANSFORMERS, "the loss is plain cross-entropy over the learned tokens; remove the key",
     {"label_smoothing_factor": ()}),
    (LLAMA_FACTORY, "the loss is plain cross-entropy over the learned tokens; remove the key",
     {"use_dft_loss": (), "use_eaft_loss": ()}),
    (TRANSFORMERS, "every row is used, in an order that seed decides; remove the key",
     {"dataloader_drop_last": (), "split_batches": ()}),
    (TRANSFORMERS, "the best checkpoint is the one of the lowest held-out loss; remove the key",
     {"metric_for_best_model": ("loss", "eval_loss"), "greater_is_better": ()}),
    (TRANSFORMERS, "this command only trains; remove the key",
     {"do_predict": (), "predict_with_generate": (), "generation_max_length": (),
      "generation_num_beams": (), "generation_config": (), "sortish_sampler": ()}),
    (LLAMA_FACTORY, "tools and thinking are rendered by the chat template itself; remove the key",
     {"tool_format": (), "preserve_thinking": ()}),
)  # fmt: skip


def _table() -> Iterator[tuple[str, Foreign]]:
    yield from _SINGLE.items()
    for source, why, names in _IGNORED:
        yield from ((name, Foreign(source, "ignored", why)) for name in names.split())
    for source, why, keys in _REFUSED:
        for name, harmless in keys.items():
            yield name, Foreign(source, "refused", why, harmless=(*NOTHING, *harmless))


FOREIGN: Mapping[str, Foreign] = dict(_table())

# Names of the same things in other tools: only for "did you mean".
SYNONYMS: Mapping[str, str] = {
    "model": "model_name_or_path",
    "base_model": "model_name_or_path",
    "base": "model_name_or_path",
    "model_name": "model_name_or_path",
    "model_id": "model_name_or_path",
    "datasets": "dataset",
    "data": "dataset",
    "train_file": "dataset",
    "data_path": "dataset",
    "dataset_name": "dataset",
    "system": "default_system",
    "chat_template": "template",
    "torch_dtype": "compute_dtype",
    "dtype": "compute_dtype",
    "sequence_len": "cutoff_len",
    "max_len": "cutoff_len",
    "train_on_inputs": "train_on_prompt",
    "val_set_size": "val_size",
    "adapter": "finetuning_type",
    "method": "finetuning_type",
    "r": "lora_rank",
    "rank": "lora_rank",
    "lora_r": "lora_rank",
    "alpha": "lora_alpha",
    "target_modules": "lora_target",
    "lora_target_modules": "lora_target",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "steps": "max_steps",
    "iters": "max_steps",
    "lr": "learning_rate",
    "lr_scheduler": "lr_scheduler_type",
    "batch_size": "per_device_train_batch_size",
    "micro_batch_size": "per_device_train_batch_size",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "grad_accum": "gradient_accumulation_steps",
    "gradient_clipping": "max_grad_norm",
    "random_state": "seed",
    "threads": "num_threads",
    "output": "output_dir",
    "quant": "export_quant",
    "quantize": "export_quant",
    "gguf_quant": "export_quant",
    "name": "ollama_name",
    "context_length": "num_ctx",
    "parameters": "ollama_parameters",
    "system_message": "ollama_system",
}

# LLaMA-Factory's template names whose text is the chat template that the model itself brings.
_OWN = (
    "aya baichuan2 chatglm3 chatglm4 codegeex4 cohere deepseek deepseek3 deepseekcoder deepseekr1 "
    "ernie exaone falcon gemma gemma2 gemma3 gemma3n glm4 glm4_moe glmz1 gpt gpt_oss granite3 "
    "hunyuan intern2 intern3 internlm2 llama2 llama3 llama4 mimo minicpm minicpm3 ministral "
    "mistral olmo olmo2 phi phi4 phi4_mini phi_small qwen qwen2 qwen2_vl qwen2_5 qwen3 "
    "qwen3_nothink seed_coder seed_oss smollm smollm2 telechat2 xverse yi yi_vl"
)
OWN_TEMPLATES = frozenset(_OWN.split())  # `train.plan.model_template` decides by them


def same_template(name: Any) -> str:
    """What a LLaMA-Factory template name means here; "" when it is not one."""
    if not isinstance(name, str) or name.lower() not in OWN_TEMPLATES:
        return ""
    return (
        f"{name} is LLaMA-Factory's name for the model's own chat template, which is used if the "
        "model brings one"
    )


def folder_of_info(value: Any) -> str:
    """openMind names the JSON file, dataset_dir its folder or the file; "" when it is none."""
    path = PurePath(str(value))
    if path.suffix != ".json":
        return ""
    return str(path.parent) if path.name == "dataset_info.json" else str(path)


def known_words(ours: Iterable[str]) -> frozenset[str]:
    """Every key somebody may have meant."""
    return frozenset((*ours, *FOREIGN, *SYNONYMS))
