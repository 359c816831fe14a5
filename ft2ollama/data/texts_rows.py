"""What reading says of files and rows: code -> language -> (what is wrong, what to do)."""

from __future__ import annotations

from ft2ollama.data.problems import Texts

TEXTS: Texts = {
    # --- rows
    "row-not-object": {
        "en": ("the row is {kind}, not an object with named fields", 'write {{"instruction": "...", "output": "..."}}'),
        "zh": ("这一行是{kind}，不是带字段名的对象", '请写成 {{"instruction": "...", "output": "..."}}'),
    },
    "row-no-format": {
        "en": ("the fields {fields} fit no format", "name them conversations, messages, or instruction and output; or map them with columns in dataset_info.json"),
        "zh": ("字段 {fields} 不符合任何格式", "请用 conversations、messages 或 instruction 和 output 作字段名，或在 dataset_info.json 的 columns 里对应"),
    },
    "text-wanted": {
        "en": ("must be text, not {value}", "put it in quotes, or remove the row"),
        "zh": ("必须是文本，不能是 {value}", "请加引号写成文本，或删去这一行"),
    },
    "text-empty": {
        "en": ("is empty", "fill it in, or remove the row"),
        "zh": ("是空的", "请补上内容，或删去这一行"),
    },
    "answer-empty": {
        "en": ("the answer is empty, nothing can be learned from it", "write the answer, or remove the row"),
        "zh": ("回答是空的，模型学不到东西", "请写上回答，或删去这一行"),
    },
    "history-pair": {
        "en": ("must be [question, answer], not {value}", 'write ["question", "answer"]'),
        "zh": ("必须是 [问, 答]，不能是 {value}", '请写成 ["问题", "回答"]'),
    },
    "turns-wanted": {
        "en": ("must be a list of turns, not {value}", 'write [{{"role": "user", "content": "..."}}, ...]'),
        "zh": ("必须是对话轮次的列表，不能是 {value}", '请写成 [{{"role": "user", "content": "..."}}, ...]'),
    },
    "turn-keys": {
        "en": ("must have {role_tag} and {content_tag}: {value}", "name the keys so, or set role_tag and content_tag in dataset_info.json"),
        "zh": ("必须有 {role_tag} 和 {content_tag}：{value}", "请这样命名，或在 dataset_info.json 的 tags 里设置 role_tag 和 content_tag"),
    },
    "role-unknown": {
        "en": ("the role {role} is none of {known}", "write one of them, or set its tag in dataset_info.json"),
        "zh": ("角色 {role} 不在 {known} 之中", "请用其中之一，或在 dataset_info.json 的 tags 里设置"),
    },
    "system-not-first": {
        "en": ("a system turn must be the first", "move it to the front, or make it a user turn"),
        "zh": ("system 轮次必须是第一轮", "请移到最前面，或改成 user 轮次"),
    },
    "role-order": {
        "en": ("turns must alternate user, assistant and end with assistant: {roles}", "join turns of the same side, and end with an answer"),
        "zh": ("轮次必须 user、assistant 交替，并以 assistant 结尾：{roles}", "请合并同一方的连续轮次，并以回答结尾"),
    },
    # --- files
    "file-missing": {
        "en": ("no such file: {path}{hint}", "dataset=<file.json or name in dataset_info.json> dataset_dir=<its folder>"),
        "zh": ("文件不存在：{path}{hint}", "dataset=<file.json 或 dataset_info.json 里的名字> dataset_dir=<所在文件夹>"),
    },
    "file-empty": {
        "en": ("holds no rows", "put rows into it, or leave it out of dataset"),
        "zh": ("里面没有数据", "请放入数据，或从 dataset 里去掉"),
    },
    "file-not-utf8": {
        "en": ("is not UTF-8 text: byte {byte}: {reason}", "{command}"),
        "zh": ("不是 UTF-8 文本：第 {byte} 字节：{reason}", "{command}"),
    },
    "json-broken": {
        "en": ("broken JSON: {reason}, near  {near}", "mend that line (a comma too many? a quote inside a text needs a backslash)"),
        "zh": ("JSON 有错：{reason}，在此附近  {near}", "请修改这一行（多了逗号？文本里的引号前要加反斜杠）"),
    },
    "json-not-list": {
        "en": ("must hold a list of rows, but holds one {kind}", "put the rows between [ and ], or one a line into a .jsonl file"),
        "zh": ("必须是一个列表，但文件里只有一个 {kind}", "请把各行放在 [ 和 ] 之间，或每行一条写成 .jsonl 文件"),
    },
}  # fmt: skip
