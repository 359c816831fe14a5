"""What reading says of files, hubs and dataset_info.json: code -> language -> (what, what to do).

`NOTES` are told although nothing is wrong: code -> language -> one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping

from ft2ollama.data.problems import Texts
from ft2ollama.language import Language

NOTES: Mapping[str, Mapping[Language, str]] = {
    "read-one": {
        "en": "{name}: 1 conversation ({kinds}) from {where}",
        "zh": "{name}：1 条对话（{kinds}），来自 {where}",
    },
    "read": {
        "en": "{name}: {count} conversations ({kinds}) from {where}",
        "zh": "{name}：{count} 条对话（{kinds}），来自 {where}",
    },
    "max-samples": {
        "en": "{name}: max_samples keeps the first {count}",
        "zh": "{name}：max_samples 只取前 {count} 条",
    },
    "num-samples": {
        "en": "{name}: num_samples takes {count} of {found} conversations",
        "zh": "{name}：num_samples 从 {found} 条对话中取 {count} 条",
    },
    "dropped": {
        "en": "{name}: left out {count} (bad_rows: drop), listed in dropped.jsonl of the run: {kinds}",
        "zh": "{name}：去掉了 {count} 行（bad_rows: drop），列在运行文件夹的 dropped.jsonl 里：{kinds}",
    },
    "rows-left-out": {
        "en": "left out {count}, listed in dropped.jsonl of the run: {kinds}",
        "zh": "去掉了 {count} 行，列在运行文件夹的 dropped.jsonl 里：{kinds}",
    },
    "rows-cut": {
        "en": "cut {count} to cutoff_len: {kinds}",
        "zh": "{count} 行按 cutoff_len 截短：{kinds}",
    },
    "fields-unused": {
        "en": "{name}: fields that are not used: {fields}",
        "zh": "{name}：没有用到的字段：{fields}",
    },
    "left-out": {
        "en": "{name}: files of another split are left out: {files}",
        "zh": "{name}：属于其他 split 的文件没有读取：{files}",
    },
    "more-like-it": {
        "en": " (and {count} more like it)",
        "zh": "（同样的还有 {count} 处）",
    },
}

# What Python's json says, for Chinese readers.
REASONS: Mapping[str, str] = {
    "Expecting value": "这里缺少一个值",
    "Expecting ',' delimiter": "这里缺少逗号",
    "Expecting ':' delimiter": "这里缺少冒号",
    "Expecting property name enclosed in double quotes": "键名必须用双引号",
    "Illegal trailing comma before end of array": "最后一项后面多了逗号",
    "Illegal trailing comma before end of object": "最后一项后面多了逗号",
    "Unterminated string starting at": "这里开始的文本没有结束的引号",
    "Extra data": "后面还有多余的内容",
    "Invalid control character at": "文本里有换行或控制字符，应写成 \\n",
    "Invalid \\escape": "反斜杠后面的字符不对，应写成 \\\\",
}

TEXTS: Texts = {
    # --- files
    "data-missing": {
        "en": ("{path} does not exist; there is: {known}", "dataset=<file.json or name in dataset_info.json> dataset_dir=<its folder>"),
        "zh": ("{path} 不存在；现有：{known}", "dataset=<file.json 或 dataset_info.json 里的名字> dataset_dir=<所在文件夹>"),
    },
    "data-missing-near": {
        "en": ("{path} does not exist; did you mean {near}? there is: {known}", "dataset={near}"),
        "zh": ("{path} 不存在；您是想写 {near} 吗？现有：{known}", "dataset={near}"),
    },
    "file-kind": {
        "en": ("cannot read {suffix} files, only {known}", "save it as .jsonl, or as CSV UTF-8 from a spreadsheet"),
        "zh": ("不能读取 {suffix} 文件，只能读取 {known}", "请另存为 .jsonl；表格请另存为 CSV UTF-8"),
    },
    "file-unreadable": {
        "en": ("cannot be read: {reason}", "ls -l {place}"),
        "zh": ("无法读取：{reason}", "ls -l {place}"),
    },
    "file-empty": {
        "en": ("holds no rows", "put rows into it, or leave it out of dataset"),
        "zh": ("里面没有数据", "请放入数据，或从 dataset 里去掉"),
    },
    "folder-empty": {
        "en": ("the folder holds no data files ({known})", "put them there, or name the right folder"),
        "zh": ("文件夹里没有数据文件（{known}）", "请放入文件，或写上正确的文件夹"),
    },
    "split-missing": {
        "en": ("no file of the split {split}; the files are: {known}", "set split in dataset_info.json to one of them, or name the file itself"),
        "zh": ("没有属于 split {split} 的文件；现有：{known}", "请在 dataset_info.json 里把 split 设为其中之一，或直接写文件名"),
    },
    "split-file": {
        "en": ("a single file has no split {split}", "remove split, or name the folder that holds the files of all splits"),
        "zh": ("单个文件没有 split {split}", "请删去 split，或写上包含各 split 文件的文件夹"),
    },
    "file-gb18030": {
        "en": ("is not UTF-8 but {encoding}, as Chinese Windows writes it", "{command}"),
        "zh": ("不是 UTF-8，而是 {encoding}（中文 Windows 的编码）", "{command}"),
    },
    "file-utf16": {
        "en": ("is not UTF-8 but {encoding} without a byte order mark", "{command}"),
        "zh": ("不是 UTF-8，而是没有字节顺序标记的 {encoding}", "{command}"),
    },
    "file-not-utf8": {
        "en": ("is not UTF-8: byte {byte} cannot be read; perhaps it is {encoding}", "{command}"),
        "zh": ("不是 UTF-8：字节 {byte} 无法读取；可能是 {encoding}", "{command}"),
    },
    "json-broken": {
        "en": ("broken JSON: {reason}, near  {near}", "mend that line (a comma too many? a quote inside a text needs a backslash)"),
        "zh": ("JSON 有错：{reason}，在此附近  {near}", "请修改这一行（多了逗号？文本里的引号前要加反斜杠）"),
    },
    "json-number": {
        "en": ("a number cannot be read: {reason}", "put it in quotes"),
        "zh": ("数字无法读取：{reason}", "请加引号写成文本"),
    },
    "json-deep": {
        "en": ("lists and objects are nested too deeply", "remove the row"),
        "zh": ("列表和对象嵌套太深", "请删去这一行"),
    },
    "json-not-list": {
        "en": ("holds one object with {keys}, not a list of rows", "put the rows between [ and ]; of one part: jq .NAME {place} > rows.json"),
        "zh": ("文件里是一个含有 {keys} 的对象，不是列表", "请把各行放在 [ 和 ] 之间；只取其中一部分：jq .名字 {place} > rows.json"),
    },
    "csv-names": {
        "en": ("the first line must name every column once, but it is: {names}", "name each column: instruction,output"),
        "zh": ("第一行必须给每一列不同的名字，现在是：{names}", "请给每一列起名：instruction,output"),
    },
    "csv-cells": {
        "en": ("the row has {cells} cells, the first line names {names}", 'put text with commas or line ends in quotes: "a, b"'),
        "zh": ("这一行有 {cells} 格，而第一行有 {names} 个列名", '含逗号或换行的文本请加引号："a, b"'),
    },
    "csv-broken": {
        "en": ("broken CSV: {reason}", 'close every quote, and write a quote inside a text twice: "a ""b"" c"'),
        "zh": ("CSV 有错：{reason}", '请补全引号；文本里的引号要写两次："a ""b"" c"'),
    },
    "columnar-broken": {
        "en": ("cannot be read as {kind}: {reason}", "write or copy the file again, or save it as .jsonl"),
        "zh": ("不能按 {kind} 读取：{reason}", "请重新生成或复制该文件，或另存为 .jsonl"),
    },
    "nothing-left": {
        "en": ("no row is left to train on", "mend the rows named above"),
        "zh": ("没有剩下可以训练的行", "请修改上面列出的行"),
    },
    # --- hubs
    "hub-unreachable": {
        "en": ("{id} could not be fetched from {endpoint} ({kind}): {reason}", "check the name and the network (in China: HF_ENDPOINT=<mirror> or hub: modelscope); or download it elsewhere with  hf download {id} --repo-type dataset --local-dir data/{name}  and write dataset: data/{name}"),
        "zh": ("无法从 {endpoint} 下载 {id}（{kind}）：{reason}", "请检查名字和网络（国内可用 HF_ENDPOINT=<镜像> 或 hub: modelscope）；或在别处用  hf download {id} --repo-type dataset --local-dir data/{name}  下载后写 dataset: data/{name}"),
    },
    "hub-missing": {
        "en": ("there is no such data set on {endpoint}, or it asks for a login", "check the name; for one of your own: hf auth login"),
        "zh": ("{endpoint} 上没有这个数据集，或需要登录", "请检查名字；私有的请先 hf auth login"),
    },
    "hub-part": {
        "en": ("there is no such part (subset {subset}, split {split}): {reason}", "set subset and split of its entry in dataset_info.json"),
        "zh": ("没有这一部分（subset {subset}，split {split}）：{reason}", "请在 dataset_info.json 里设置它的 subset 和 split"),
    },
    "hub-script": {
        "en": ("it is a program that writes data, and code from a hub is not run: {reason}", "use its Parquet version (revision: refs/convert/parquet), or run it elsewhere and save .jsonl"),
        "zh": ("它是生成数据的程序，而来自网络的代码不会被执行：{reason}", "请用它的 Parquet 版本（revision: refs/convert/parquet），或在别处运行并保存为 .jsonl"),
    },
    "modelscope-missing": {
        "en": ("needs the package modelscope: {reason}", "pip install 'ft2ollama[modelscope]'"),
        "zh": ("需要 modelscope 包：{reason}", "pip install 'ft2ollama[modelscope]'"),
    },
    # --- dataset_info.json
    "info-json": {
        "en": ("broken JSON: {reason}, near  {near}", "mend that line (a comma too many, or one missing?)"),
        "zh": ("JSON 有错：{reason}，在此附近  {near}", "请修改这一行（多了或少了逗号？）"),
    },
    "info-object": {
        "en": ("must hold an object with an entry for each data set, not {value}", 'write {{"name": {{"file_name": "rows.json"}}}}'),
        "zh": ("必须是一个对象，每个数据集一项，不能是 {value}", '请写成 {{"name": {{"file_name": "rows.json"}}}}'),
    },
    "info-entry": {
        "en": ("the entry must be an object: {value}", 'write {{"file_name": "rows.json"}}'),
        "zh": ("这一项必须是对象：{value}", '请写成 {{"file_name": "rows.json"}}'),
    },
    "info-no-file": {
        "en": ("the entry names no data", 'add "file_name": "rows.json" (or hf_hub_url, ms_hub_url, local_path)'),
        "zh": ("这一项没有写数据在哪里", '请加上 "file_name": "rows.json"（或 hf_hub_url、ms_hub_url、local_path）'),
    },
    "info-text": {
        "en": ("must be text, not {value}", "put it in quotes"),
        "zh": ("必须是文本，不能是 {value}", "请加引号"),
    },
    "info-number": {
        "en": ("must be a whole number from 1, not {value}", "write how many conversations to take, or remove the key"),
        "zh": ("必须是从 1 开始的整数，不能是 {value}", "请写要取的对话条数，或删去这个键"),
    },
    "info-mapping": {
        "en": ("must be an object of names, not {value}", 'write {{"prompt": "instruction"}}'),
        "zh": ("必须是名字对应的对象，不能是 {value}", '请写成 {{"prompt": "instruction"}}'),
    },
    "info-formatting": {
        "en": ("{value} is none of {known}", "write {near}, or remove the key: the format is recognised"),
        "zh": ("{value} 不在 {known} 之中", "请写 {near}，或删去这个键：格式会自动识别"),
    },
    "info-key-near": {
        "en": ("no such key; did you mean {near}?", "write {near}"),
        "zh": ("没有这个键；您是想写 {near} 吗？", "请写 {near}"),
    },
    "info-key-blank": {
        "en": ("the key is written wrong and is read as {near}", "write {near}"),
        "zh": ("这个键写错了，按 {near} 读取", "请写 {near}"),
    },
    "info-key-unknown": {
        "en": ("no such key, it is ignored; there are: {known}", "remove it"),
        "zh": ("没有这个键，已忽略；可用的有：{known}", "请删去"),
    },
    "info-preference": {
        "en": ("pairs of better and worse answers are for DPO or KTO; only sft is trained here", "use a data set with one answer a row, or name the better answer as response in columns"),
        "zh": ("成对的好坏回答用于 DPO 或 KTO；这里只做 sft", "请用每行一个回答的数据集，或在 columns 里把好的回答写作 response"),
    },
    "info-media": {
        "en": ("{value} cannot be trained on, only text", "remove the column, and the rows that need it"),
        "zh": ("不能训练 {value}，只能训练文本", "请删去这一列，以及需要它的行"),
    },
    "info-script": {
        "en": ("it is a program that writes data, and code from a hub is not run", "run it elsewhere, save the rows as .jsonl, and write file_name"),
        "zh": ("它是生成数据的程序，而来自网络的代码不会被执行", "请在别处运行，把数据保存为 .jsonl，再写 file_name"),
    },
    "info-cloud": {
        "en": ("files in a cloud store are not fetched", "download it (aws s3 cp {value} data/), and write file_name"),
        "zh": ("不会下载云存储里的文件", "请先下载（aws s3 cp {value} data/），再写 file_name"),
    },
    "info-openmind": {
        "en": ("{value} is on the openMind hub, which is not reached from here", "download it there, and write local_path or file_name"),
        "zh": ("{value} 在 openMind（魔乐社区）上，这里无法访问", "请在那里下载，再写 local_path 或 file_name"),
    },
}  # fmt: skip
