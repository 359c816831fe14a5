"""What reading says of rows: code -> language -> (what is wrong, what to do)."""

from __future__ import annotations

from ft2ollama.data.problems import Texts

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
    "row-media": {
        "en": ("the row comes with images, video or sound; only text can be trained on", "remove the row"),
        "zh": ("这一行带有图片、视频或声音；只能训练文本", "请删去这一行"),
    },
    "row-preference": {
        "en": ("the row holds better and worse answers (DPO); only sft is trained here", "keep the better answer: write the chosen one as output, or as the last turn"),
        "zh": ("这一行有好坏两种回答（DPO）；这里只做 sft", "请只保留好的回答：把 chosen 写作 output，或写作最后一轮"),
    },
    "row-disliked": {
        "en": ("the answer is marked as a bad one (KTO), and would be learned as a good one", "remove the row, or the field"),
        "zh": ("这个回答被标为不好（KTO），训练会把它当成好的来学", "请删去这一行，或删去这个字段"),
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
}  # fmt: skip
