"""The words around the values of a new config, in English and Chinese."""

from __future__ import annotations

from ft2ollama.language import Language

_EN = {
    "head": """\
{name}: {model} ({weights} B weights) learns from {rows} conversations.
Written by ft2ollama init for {place}: {gb} GB of memory, {minutes} min.
  ft2ollama train {path}
  ft2ollama publish {name}
Any key can be given on the command line as key=value. Every key is explained in docs/config.md.""",
    "loop head": """\
How {name} is trained, each time anew from {model} ({weights} B weights).
Written by ft2ollama init --loop for {place}: {gb} GB, {minutes} min for {rows} rows.
No data here: ft2ollama retrain brings the collected rows. Every key: docs/config.md.""",
    "model": "model",
    "data": "data",
    "method": "method",
    "training": "training",
    "export": "export and publish",
    "model_name_or_path": "a folder, a .gguf file, a hub id, or ollama:NAME",
    "hub": "where a hub id is looked up",
    "template": "the model has no chat template of its own",
    "no template": "# template: chatml{:<22}# left out: the model's own chat template".format(""),
    "dataset": "{rows} conversations of {mean} tokens on average",
    "dataset_dir": "its folder, as seen from where the command runs",
    "cutoff_len": "tokens; the longest conversation has {longest}, {lost} are longer than this",
    "val_size": "share held back to measure the loss on unseen conversations",
    "finetuning_type": "small matrices beside the frozen weights",
    "quantization_bit": "QLoRA: the frozen weights in 4 bits, because 16 bits do not fit here",
    "lora_rank": "how much can be learned; 8 to 64",
    "lora_target": "every linear layer but the output layer",
    "num_train_epochs": "passes over the data: {steps} steps; more learns the rows by heart",
    "per_device_train_batch_size": "at once; about {gb} GB, {free} GB are free here",
    "gradient_accumulation_steps": "batches per step",
    "learning_rate": "higher for small models; halve it if the loss jumps",
    "lr_scheduler_type": "the rate falls gently to zero",
    "warmup_ratio": "share of the steps in which the rate rises",
    "seed": "the same seed gives the same run",
    "export_quant": "{gguf} GB as a GGUF file",
    "ollama_name": "ollama run {name}",
    "proof_replies": "reference replies are written in float32, which does not fit here",
}
_ZH = {
    "head": """\
{name}：{model}（{weights} B 参数），用 {rows} 段对话微调。
由 ft2ollama init 按本机配置生成（{place}）：约需内存 {gb} GB，全程约 {minutes} 分钟。
  ft2ollama train {path}
  ft2ollama publish {name}
每个键都可以在命令行写成 key=value 覆盖；全部键的说明见 docs/config.md。""",
    "loop head": """\
{name} 的训练方式：每次都从 {model}（{weights} B 参数）重新训练。
由 ft2ollama init --loop 按本机配置生成（{place}）：内存 {gb} GB，{rows} 条约 {minutes} 分钟。
这里不写数据：ft2ollama retrain 会带上收集的数据。全部键的说明见 docs/config.md。""",
    "model": "模型",
    "data": "数据",
    "method": "方法",
    "training": "训练",
    "export": "导出与发布",
    "model_name_or_path": "文件夹、.gguf 文件、模型库 ID，或 ollama:名称",
    "hub": "从哪个模型库下载",
    "template": "该模型没有自带对话模板",
    "no template": "# template: chatml{:<22}# 不写则用模型自带的对话模板".format(""),
    "dataset": "{rows} 段对话，平均 {mean} 个 token",
    "dataset_dir": "数据所在文件夹（相对于运行命令的目录）",
    "cutoff_len": "token 数；最长的对话有 {longest} 个，超过此长度的有 {lost} 段",
    "val_size": "留出多少比例用来测验证损失",
    "finetuning_type": "冻结原权重，只训练旁路的小矩阵",
    "quantization_bit": "QLoRA：冻结的权重用 4 位存放，因为 16 位在本机放不下",
    "lora_rank": "可学习的容量，常用 8 到 64",
    "lora_target": "除输出层外的所有线性层",
    "num_train_epochs": "遍历数据的次数，共 {steps} 步；太多会死记硬背",
    "per_device_train_batch_size": "每批对话数；约 {gb} GB，本机空闲 {free} GB",
    "gradient_accumulation_steps": "每步累积的批数",
    "learning_rate": "模型越小学习率越大；损失跳动就减半",
    "lr_scheduler_type": "学习率平缓降到零",
    "warmup_ratio": "学习率上升阶段占总步数的比例",
    "seed": "种子相同，结果相同",
    "export_quant": "GGUF 文件约 {gguf} GB",
    "ollama_name": "ollama run {name}",
    "proof_replies": "参考回答用 float32 生成，本机内存放不下",
}
TEXTS: dict[Language, dict[str, str]] = {"en": _EN, "zh": _ZH}
