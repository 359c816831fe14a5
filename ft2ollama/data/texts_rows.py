"""What reading says of files and rows: code -> language -> (what is wrong, what to do).

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

_TURNS = '[{{"role": "user", "content": "..."}}, {{"role": "assistant", "content": "..."}}]'

TEXTS: Texts = {
    # --- a row and its fields
    "row-not-object": {
        "en": ("the row is {value}, not an object with named fields", 'write {{"instruction": "...", "output": "..."}}'),
        "zh": ("这一行是 {value}，不是带字段名的对象", '请写成 {{"instruction": "...", "output": "..."}}'),
    },
    "row-no-format": {
        "en": ("the fields {fields} fit no format", "name them instruction and output, conversations, or messages; or say which is which with columns in dataset_info.json"),
        "zh": ("字段 {fields} 不符合任何格式", "字段名请用 instruction 和 output、conversations 或 messages；或在 dataset_info.json 的 columns 里对应"),
    },
    "row-format-near": {
        "en": ("the fields {fields} fit no format; did you mean {near}?", "rename the field to {near}, or say which is which with columns in dataset_info.json"),
        "zh": ("字段 {fields} 不符合任何格式；您是想写 {near} 吗？", "把字段名改成 {near}，或在 dataset_info.json 的 columns 里对应"),
    },
    "row-is-turn": {
        "en": ("the row is a single turn of a conversation", "put all turns of a conversation into one row: " + _TURNS),
        "zh": ("这一行只是对话中的一轮", "请把一个对话的所有轮次放在同一行：" + _TURNS),
    },
    "key-twice": {
        "en": ("the key stands twice in one object, and only the last value would count", "remove or rename one of the two"),
        "zh": ("同一个对象里这个键出现了两次，只有最后一个值会生效", "请删去或改名其中一个"),
    },
    "field-missing": {
        "en": ("the row has no such field; it has: {fields}", 'add it, or write into columns of dataset_info.json: "{column}": "{near}"'),
        "zh": ("这一行没有这个字段，只有：{fields}", '请补上，或在 dataset_info.json 的 columns 里写 "{column}": "{near}"'),
    },
    "field-near": {
        "en": ("the field is read by nothing; did you mean {near}?", 'rename it to {near}, or map it with columns in dataset_info.json'),
        "zh": ("这个字段不会被读取；您是想写 {near} 吗？", "请改名为 {near}，或在 dataset_info.json 的 columns 里对应"),
    },
    "column-absent": {
        "en": ("no row has a field {field}, so the column is left out; the rows have: {fields}", "remove the line, or name the right field"),
        "zh": ("没有一行含有字段 {field}，因此不使用该列；各行的字段是：{fields}", "请删去这一项，或写上正确的字段名"),
    },
    "text-wanted": {
        "en": ("must be text, not {value}", "write text in quotes, or remove the row"),
        "zh": ("必须是文本，不能是 {value}", "请加引号写成文本，或删去这一行"),
    },
    "text-empty": {
        "en": ("is empty", "fill it in, or remove the row"),
        "zh": ("是空的", "请补上内容，或删去这一行"),
    },
    "history-pair": {
        "en": ("must be two texts [question, answer], not {value}", 'write ["question", "answer"]'),
        "zh": ("必须是两段文本 [问, 答]，不能是 {value}", '请写成 ["问题", "回答"]'),
    },
    "history-list": {
        "en": ("must be a list of [question, answer], not {value}", 'write [["question", "answer"], ...], or []'),
        "zh": ("必须是 [问, 答] 的列表，不能是 {value}", '请写成 [["问题", "回答"], ...] 或 []'),
    },
    "half-character": {
        "en": ("the text holds half a character ({character}), which no tokenizer can read", "write the emoji itself, or remove the escape \\uD8.. or \\uDC.. that stands alone"),
        "zh": ("文本里有半个字符（{character}），分词器无法读取", "请直接写该表情符号，或删去单独的 \\uD8.. 或 \\uDC.."),
    },
    # --- turns
    "turns-wanted": {
        "en": ("must be a list of turns, not {value}", "write " + _TURNS),
        "zh": ("必须是对话轮次的列表，不能是 {value}", "请写成 " + _TURNS),
    },
    "turn-keys": {
        "en": ("must have {role} and {content}, but has: {value}", "name the keys so, or set role_tag and content_tag in tags of dataset_info.json"),
        "zh": ("必须有 {role} 和 {content}，现在有：{value}", "请这样命名，或在 dataset_info.json 的 tags 里设置 role_tag 和 content_tag"),
    },
    "turn-key-near": {
        "en": ("the key is read by nothing; did you mean {near}?", "rename it to {near}"),
        "zh": ("这个键不会被读取；您是想写 {near} 吗？", "请改名为 {near}"),
    },
    "role-unknown": {
        "en": ("the role {role} is none of {known}", "write one of them, or set its tag in dataset_info.json; the nearest is {near}"),
        "zh": ("角色 {role} 不在 {known} 之中", "请用其中之一，或在 dataset_info.json 的 tags 里设置；最接近的是 {near}"),
    },
    "role-first": {
        "en": ("the conversation begins with {role}, not with user", "put the question in front, or remove the turn"),
        "zh": ("对话以 {role} 开头，而不是 user", "请在前面补上提问，或删去这一轮"),
    },
    "role-order": {
        "en": ("{role} follows {before}; user and assistant must take turns", "join the two turns into one, or put the missing one between them"),
        "zh": ("{role} 紧跟在 {before} 之后；user 和 assistant 必须交替", "请把这两轮合并，或在中间补上缺少的一轮"),
    },
    "answer-missing": {
        "en": ("the conversation ends with {role}, so nothing answers it", "add the answer, or remove the last turn"),
        "zh": ("对话以 {role} 结尾，没有回答", "请补上回答，或删去最后一轮"),
    },
    "answer-empty": {
        "en": ("the answer is empty, nothing can be learned from it", "write the answer, or remove the row"),
        "zh": ("回答是空的，模型学不到东西", "请写上回答，或删去这一行"),
    },
    "question-empty": {
        "en": ("the question is empty", "write the question, or remove the row"),
        "zh": ("提问是空的", "请写上提问，或删去这一行"),
    },
    "system-not-first": {
        "en": ("a system turn must be the first and the only one", "move it to the front or join the two, or make it a user turn"),
        "zh": ("system 只能有一轮，并且必须是第一轮", "请移到最前面或合并，或改成 user 轮次"),
    },
    "system-twice": {
        "en": ("the system column says {column}, and the system turn says {turn}", "keep one of the two"),
        "zh": ("system 列是 {column}，system 轮次是 {turn}", "请只保留一个"),
    },
    "system-empty": {
        "en": ("the system turn is empty and is read as none", "remove it, or write the system prompt"),
        "zh": ("system 轮次是空的，按没有处理", "请删去，或写上系统提示"),
    },
    "content-part": {
        "en": ("a part of the content is {kind}; only text can be trained on", 'keep parts such as {{"type": "text", "text": "..."}}, or remove the row'),
        "zh": ("内容中有 {kind} 部分；只能训练文本", '请只保留 {{"type": "text", "text": "..."}} 这样的部分，或删去这一行'),
    },
    "weight-wrong": {
        "en": ("must be 0 (not learned) or 1 (learned), not {value}", "write 0 or 1, or remove the key"),
        "zh": ("必须是 0（不学）或 1（学），不能是 {value}", "请写 0 或 1，或删去这个键"),
    },
    "all-unlearned": {
        "en": ("every answer has weight 0, nothing would be learned", "give one answer the weight 1, or remove the row"),
        "zh": ("所有回答的 weight 都是 0，学不到任何东西", "请把至少一个回答的 weight 设为 1，或删去这一行"),
    },
    # --- tools
    "tools-json": {
        "en": ("the tools are not JSON: {reason} at character {column}, near  {near}", 'write a JSON list: [{{"name": "...", "description": "...", "parameters": {{...}}}}]'),
        "zh": ("tools 不是 JSON：第 {column} 个字符 {reason}，在此附近  {near}", '请写成 JSON 列表：[{{"name": "...", "description": "...", "parameters": {{...}}}}]'),
    },
    "tools-list": {
        "en": ("must be a list of tools, not {value}", "put the tools between [ and ]"),
        "zh": ("必须是工具的列表，不能是 {value}", "请把工具放在 [ 和 ] 之间"),
    },
    "tool-name": {
        "en": ("a tool needs a name: {value}", 'write {{"name": "...", "description": "...", "parameters": {{...}}}}'),
        "zh": ("工具必须有 name：{value}", '请写成 {{"name": "...", "description": "...", "parameters": {{...}}}}'),
    },
    "tool-parameters": {
        "en": ("must be a JSON schema, not {value}", 'write {{"type": "object", "properties": {{...}}}}'),
        "zh": ("必须是 JSON schema，不能是 {value}", '请写成 {{"type": "object", "properties": {{...}}}}'),
    },
    "calls-list": {
        "en": ("must be a list of calls, not {value}", 'write [{{"type": "function", "function": {{"name": "...", "arguments": "{{...}}"}}}}]'),
        "zh": ("必须是调用的列表，不能是 {value}", '请写成 [{{"type": "function", "function": {{"name": "...", "arguments": "{{...}}"}}}}]'),
    },
    "call-json": {
        "en": ("the call is not JSON: {reason} at character {column}, near  {near}", 'write {{"name": "...", "arguments": {{...}}}}'),
        "zh": ("调用不是 JSON：第 {column} 个字符 {reason}，在此附近  {near}", '请写成 {{"name": "...", "arguments": {{...}}}}'),
    },
    "call-name": {
        "en": ("a call needs the name of a function: {value}", 'write {{"name": "...", "arguments": {{...}}}}'),
        "zh": ("调用必须有函数名 name：{value}", '请写成 {{"name": "...", "arguments": {{...}}}}'),
    },
    "call-unknown": {
        "en": ("calls {name}, which is none of the row's tools: {known}", "write {near}, or add {name} to the tools"),
        "zh": ("调用了 {name}，但这一行的工具只有：{known}", "请改成 {near}，或把 {name} 加到 tools 里"),
    },
    "call-unanswered": {
        "en": ("{role} follows a call that no tool has answered", "put the tool's answer between them (role tool, or observation)"),
        "zh": ("{role} 紧跟在一个没有得到工具结果的调用之后", "请在中间补上工具的结果（角色 tool 或 observation）"),
    },
    "tool-without-call": {
        "en": ("a tool answers, but nothing called it", "put the call in front (function_call, or tool_calls), or remove the turn"),
        "zh": ("工具给出了结果，但之前没有调用", "请在前面补上调用（function_call 或 tool_calls），或删去这一轮"),
    },
    "results-many": {
        "en": ("{results} answers of tools follow {calls} call(s)", "keep one answer for each call"),
        "zh": ("{calls} 个调用之后有 {results} 个工具结果", "每个调用请只保留一个结果"),
    },
    "result-id": {
        "en": ("{id} is the id of no call; the calls have: {known}", "write the id of the call that is answered"),
        "zh": ("{id} 不是任何调用的 id；调用的 id 是：{known}", "请写上对应调用的 id"),
    },
    "arguments-json": {
        "en": ("the arguments are not JSON: {reason} at character {column}, near  {near}", 'write "{{\\"city\\": \\"SZ\\"}}", or an object'),
        "zh": ("参数不是 JSON：第 {column} 个字符 {reason}，在此附近  {near}", '请写成 "{{\\"city\\": \\"SZ\\"}}" 或直接写对象'),
    },
    "arguments-twice": {
        "en": ("the arguments are JSON text inside JSON text; they were decoded once more", "encode them once only: json.dumps(arguments)"),
        "zh": ("参数被编码成了两层 JSON 文本；已多解码一次", "只需编码一次：json.dumps(arguments)"),
    },
    "arguments-object": {
        "en": ("the arguments must be an object, not {value}", 'give each a name: {{"city": "SZ"}}'),
        "zh": ("参数必须是对象，不能是 {value}", '请给每个参数写上名字：{{"city": "SZ"}}'),
    },
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
