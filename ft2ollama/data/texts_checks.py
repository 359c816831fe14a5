"""What the data doctor says of a row: code -> language -> (what is wrong, what to do)."""

from __future__ import annotations

from ft2ollama.data.problems import Texts

TEXTS: Texts = {
    # --- characters
    "replacement-character": {
        "en": ("broken character {char}, {count} ×: {near}", "read the source again in its own encoding; what stood there is lost in this file"),
        "zh": ("有 {count} 个损坏的字符 {char}：{near}", "请用正确的编码重新读取源数据；原来的字在这个文件里已经丢失"),
    },
    "control-character": {
        "en": ("control character {char}, {count} ×: {near}", "remove them: they come from terminals, PDFs or Windows-1252, and the model learns to write them"),
        "zh": ("有 {count} 个控制字符 {char}：{near}", "请删掉：它们来自终端、PDF 或 Windows-1252，模型会学着写出来"),
    },
    "invisible-character": {
        "en": ("invisible character {char}, {count} ×: {near}", "remove them: words with them become other tokens than the same words without"),
        "zh": ("有 {count} 个看不见的字符 {char}：{near}", "请删掉：带着它们的词会变成另外的 token"),
    },
    "private-character": {
        "en": ("character of a private font {char}, {count} ×: {near}", "replace them: no model knows them (icon fonts, or a wrong decoding of Big5 or GBK)"),
        "zh": ("有 {count} 个私有区字符 {char}：{near}", "请替换：任何模型都不认识它们（图标字体，或 Big5、GBK 解码有误）"),
    },
    "mojibake": {
        "en": ("decoded wrongly: {text} should read {meant}", "read the source again as UTF-8 and write this file anew"),
        "zh": ("乱码：{text} 应为 {meant}", "请按 UTF-8 重新读取源数据，再生成这个文件"),
    },
    "html-entity": {
        "en": ("HTML escape in place of its character, {count} ×: {text}", "unescape the text (Python: html.unescape)"),
        "zh": ("有 {count} 处 HTML 转义没有还原：{text}", "请还原文本（Python：html.unescape）"),
    },
    "escaped-newline": {
        "en": ("line break written as backslash and n, {count} ×: {text}", "write real line breaks: the text was escaped once too often"),
        "zh": ("有 {count} 处换行写成了反斜杠加 n：{text}", "请写成真正的换行：文本多转义了一次"),
    },
    # --- special tokens
    "control-token-like": {
        "en": ("the text holds {token}, which is a control token of some models", "remove it: it is left over from a prompt of another tool"),
        "zh": ("文本里有 {token}，它是某些模型的控制 token", "请删掉：这是其他工具的提示词残留"),
    },
    # --- answers
    "refusal": {
        "en": ("the answer refuses: {text}", "remove the row, unless the model is to refuse this"),
        "zh": ("回答是拒绝：{text}", "如果不是要让模型拒绝这个问题，请删去这一行"),
    },
    "foreign-identity": {
        "en": ("the answer speaks as another model: {text}", "write your own model's name, or remove the row"),
        "zh": ("回答自称是别的模型：{text}", "请改成您自己的名字，或删去这一行"),
    },
    "echo": {
        "en": ("the answer repeats the question: {text}", "write the answer, or remove the row"),
        "zh": ("回答只是重复问题：{text}", "请写上回答，或删去这一行"),
    },
    "dialogue-in-answer": {
        "en": ("one answer holds {count} speakers' marks, such as {text}", "split it into turns, or the model learns to speak for the user"),
        "zh": ("一个回答里有 {count} 处说话人标记，例如 {text}", "请拆成多轮，否则模型会学着替用户说话"),
    },
    "cut-at-source": {
        "en": ("the answer was cut at {size} characters by the tool that exported it: {text}", "export the full text (Dify's feedback export and LiteLLM's spend log cut it)"),
        "zh": ("导出工具把回答截断在 {size} 个字符：{text}", "请导出全文（Dify 的反馈导出和 LiteLLM 的日志会截断）"),
    },
    "open-code-fence": {
        "en": ("a code block is opened and never closed: {text}", "close it with ```, or complete the answer"),
        "zh": ("代码块没有结束：{text}", "请用 ``` 结束代码块，或补全回答"),
    },
    "unfinished": {
        "en": ("the answer ends in the middle of a sentence: {text}", "complete it, or the model learns to stop there"),
        "zh": ("回答在句子中间断了：{text}", "请补全，否则模型会学着在半句处停下"),
    },
    "repetition": {
        "en": ("the answer repeats itself: only {share} % of its word groups are distinct", "remove the row, or the model learns to loop"),
        "zh": ("回答不断重复：不同的词组只占 {share} %", "请删去这一行，否则模型会学着重复"),
    },
    "mixed-punctuation": {
        "en": ("half-width punctuation among full-width, {count} ×: {text}", "use one kind; the model learns to mix them"),
        "zh": ("全角标点中混有 {count} 处半角标点：{text}", "请统一用一种；否则模型会学着混用"),
    },
    "answered-in-latin": {
        "en": ("asked in Chinese, answered in another language: {text}", "answer in the language of the question, unless that is wanted"),
        "zh": ("用中文提问，却没有用中文回答：{text}", "如果不是有意为之，请用提问的语言回答"),
    },
    "answered-in-han": {
        "en": ("not asked in Chinese, but answered in Chinese: {text}", "answer in the language of the question, unless that is wanted"),
        "zh": ("不是用中文提问，却用中文回答：{text}", "如果不是有意为之，请用提问的语言回答"),
    },
    "answer-long": {
        "en": ("the answer has {size} characters, the median of this data set is {median}", "look whether a document slipped in"),
        "zh": ("回答有 {size} 个字符，本数据集的中位数是 {median}", "请看看是否混入了整篇文档"),
    },
    "answer-short": {
        "en": ("the answer is only {text}, the median of this data set is {median} characters", "look whether the rest is missing"),
        "zh": ("回答只有 {text}，本数据集的中位数是 {median} 个字符", "请看看是否缺了内容"),
    },
    # --- tools
    "call-without-tools": {
        "en": ("calls {name}, but the row has no tools", "add the tools field, so that the model sees what it may call"),
        "zh": ("调用了 {name}，但这一行没有 tools", "请加上 tools 字段，让模型看到可以调用什么"),
    },
    "argument-missing": {
        "en": ("{name} is called without {keys}, which its schema requires", "add it, or take it off required"),
        "zh": ("调用 {name} 时缺少必填参数 {keys}", "请补上参数，或从 required 里去掉"),
    },
    "argument-unknown": {
        "en": ("{name} is called with {argument}, which its schema does not have: {known}", "use a name of the schema, or add this one to it"),
        "zh": ("调用 {name} 时用了没有定义的参数 {argument}；已定义：{known}", "请用定义过的参数名，或在 schema 里加上"),
    },
    "argument-type": {
        "en": ("{argument} of {name} must be {wanted}, not {text}", "write the value in the type of the schema"),
        "zh": ("{name} 的参数 {argument} 应为 {wanted}，不能是 {text}", "请按 schema 的类型书写"),
    },
    "argument-encoded": {
        "en": ("{argument} of {name} is JSON inside a text: {text}, where {wanted} is wanted", "write the value itself, not its JSON text"),
        "zh": ("{name} 的参数 {argument} 被编码成了 JSON 文本：{text}，应为 {wanted}", "请直接写值，不要再编码一次"),
    },
    "argument-value": {
        "en": ("{argument} of {name} is {text}, which is none of {known}", "use one of these values"),
        "zh": ("{name} 的参数 {argument} 是 {text}，不在 {known} 之中", "请用其中之一"),
    },
    # --- rows that repeat each other
    "duplicate": {
        "en": ("the same as {first}", "remove one: it counts twice in training"),
        "zh": ("与 {first} 相同", "请删去一条：训练时它会算两次"),
    },
    "near-duplicate": {
        "en": ("{percent} % the same as {first}", "remove one, unless the difference matters"),
        "zh": ("与 {first} 有 {percent} % 相同", "如果差别不重要，请删去一条"),
    },
    "answer-differs": {
        "en": ("the same question as {first}, another answer: {here} | there: {there}", "keep one answer, unless both are right"),
        "zh": ("与 {first} 问题相同，回答不同：{here} | 那里是：{there}", "如果不是两个都对，请只留一个"),
    },
    "facts-differ": {
        "en": ("the same question as {first}, but {here} here and {there} there", "find out which is right: the model learns neither"),
        "zh": ("与 {first} 问题相同，但这里是 {here}，那里是 {there}", "请查清哪个对：模型两个都学不会"),
    },
    # --- training against held-out rows
    "leak-copy": {
        "en": ("this held-out row is also trained on: {first}", "remove one, or the held-out loss says nothing"),
        "zh": ("这条验证数据也在训练集里：{first}", "请删去一条，否则验证损失没有意义"),
    },
    "leak-near": {
        "en": ("this held-out row is {percent} % the same as the trained {first}", "remove one, or the held-out loss is too good"),
        "zh": ("这条验证数据与训练集的 {first} 有 {percent} % 相同", "请删去一条，否则验证损失会偏低"),
    },
    "leak-question": {
        "en": ("this held-out question is also trained on: {first}", "ask in other words, or remove one of the two"),
        "zh": ("这个验证问题也在训练集里：{first}", "请换一种问法，或删去其中一条"),
    },
    "leak-proof": {
        "en": ("this proof question is {percent} % the same as the trained {first}", "ask in other words: this one shows memory, not understanding"),
        "zh": ("这个验收问题与训练集的 {first} 有 {percent} % 相同", "请换一种问法：这只能说明模型背下来了"),
    },
    "question-file": {
        "en": ("no such file: {place}", "proof_prompts=<file.jsonl>, or leave it out"),
        "zh": ("文件不存在：{place}", "proof_prompts=<文件.jsonl>，或去掉这个键"),
    },
    "question-line": {
        "en": ("is not a question: {text}", 'write a line such as {{"question": "Who are you?"}}'),
        "zh": ("不是一个问题：{text}", '请写成 {{"question": "你是谁？"}} 这样的一行'),
    },
    "question-facts": {
        "en": ("no list of texts that a right answer holds: {text}", 'write a line such as {{"question": "Who are you?", "expect": ["Nova"]}}; "a|b" means either'),
        "zh": ("缺少正确回答应包含的文字列表：{text}", '请写成 {{"question": "你是谁？", "expect": ["小杉"]}} 这样的一行；"a|b" 表示任意一个'),
    },
}  # fmt: skip
