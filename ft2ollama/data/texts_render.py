"""What rendering rows says of a row: code -> language -> (what is wrong, what to do)."""

from __future__ import annotations

from ft2ollama.data.problems import Texts

TEXTS: Texts = {
    "template-refuses": {
        "en": (
            "the model's chat template refuses the conversation: {reason}",
            "bring the turns into the order the template asks for, or set template: chatml",
        ),
        "zh": (
            "模型自带的对话模板拒绝这段对话：{reason}",
            "按模板要求调整轮次，或设置 template: chatml",
        ),
    },
    "template-without": {
        "en": (
            "the model's chat template leaves {part} out, so the model would never see it",
            "take {part} out of the row, or train a model whose template knows tools",
        ),
        "zh": (
            "模型的对话模板不写出 {part}，模型永远看不到它",
            "从数据中去掉 {part}，或换一个模板支持工具的模型",
        ),
    },
    "prompt-rewritten": {
        "en": (
            "the chat template writes the turns before this answer otherwise once it is answered, "
            "so the answer cannot be told from the prompt",
            "split the conversation into one row per answer, or set template: chatml",
        ),
        "zh": (
            "加入这个回答后，对话模板改写了前面的内容，无法区分提示与回答",
            "把对话拆成每行一个回答，或设置 template: chatml",
        ),
    },
    "thought-closed": {
        "en": (
            "has a thought, but the chat template begins the answer with an empty one",
            "set enable_thinking: true to learn thoughts, or false to leave them out",
        ),
        "zh": (
            "带有思考内容，而对话模板在回答开头写的是空思考",
            "设置 enable_thinking: true 学习思考，或 false 去掉思考",
        ),
    },
    "no-stop": {
        "en": (
            "the chat template ends this answer with none of {stop}: the model would not learn to "
            "stop",
            "set template: chatml, or use the chat template the model came with",
        ),
        "zh": (
            "对话模板没有用 {stop} 中的任何一个结束这个回答，模型学不会停止",
            "设置 template: chatml，或使用模型自带的对话模板",
        ),
    },
    "text-after-stop": {
        "en": (
            "the chat template writes more of the answer after its stop token: {text!r}",
            "make one turn of each tool call, or leave the row out",
        ),
        "zh": (
            "对话模板在停止符之后还写了回答的内容：{text!r}",
            "每轮只放一个工具调用，或去掉这一行",
        ),
    },
    "no-block": {
        "en": (
            "the chat template marks no part of this answer by {{% generation %}}",
            "mend the template: the answer and its stop token belong inside the block",
        ),
        "zh": (
            "对话模板没有用 {{% generation %}} 标出这个回答",
            "修改模板：回答和停止符应放在该块之内",
        ),
    },
    "nothing-learned": {
        "en": (
            "no answer is left to learn: every one has weight 0",
            "give an answer weight 1, or leave the row out",
        ),
        "zh": ("没有可学习的回答：权重全为 0", "把某个回答的权重设为 1，或去掉这一行"),
    },
    "control-token": {
        "en": (
            "the text holds the control token {token}; Ollama would take it for the end or the "
            "beginning of a turn",
            "rewrite it, or set special_tokens_in_text: text to learn it as plain characters",
        ),
        "zh": (
            "文本中含有控制符 {token}；Ollama 会把它当成一轮的开头或结尾",
            "改写它，或设置 special_tokens_in_text: text，当普通字符学习",
        ),
    },
    "control-token-unclear": {
        "en": (
            "the text holds a control token, and the chat template changes the text around it: "
            "which one is the template's own cannot be told",
            "rewrite the token",
        ),
        "zh": (
            "文本中含有控制符，而对话模板又改动了它周围的文字，无法分清哪个是模板自己的",
            "改写这个控制符",
        ),
    },
    "noncharacter": {
        "en": (
            "the text holds one of the characters U+FDD0 to U+FDD5, which no text may hold",
            "remove it",
        ),
        "zh": ("文本中含有 U+FDD0 到 U+FDD5 的字符，文本不应包含它们", "删除它"),
    },
    "too-long": {
        "en": (
            "is {tokens} tokens long, cutoff_len is {cutoff_len}",
            "raise cutoff_len, or set cutoff_policy: drop or truncate",
        ),
        "zh": (
            "共 {tokens} 个 token，cutoff_len 是 {cutoff_len}",
            "增大 cutoff_len，或设置 cutoff_policy: drop 或 truncate",
        ),
    },
    "dropped-too-long": {
        "en": (
            "left out: {tokens} tokens long, cutoff_len is {cutoff_len}",
            "raise cutoff_len to {tokens} to train on it",
        ),
        "zh": (
            "未使用：共 {tokens} 个 token，cutoff_len 是 {cutoff_len}",
            "把 cutoff_len 增大到 {tokens} 即可使用",
        ),
    },
    "cut-to-length": {
        "en": (
            "cut from {tokens} to {kept} tokens; what is kept ends with a whole answer",
            "raise cutoff_len to {tokens} to train on all of it",
        ),
        "zh": (
            "从 {tokens} 个 token 截到 {kept} 个；保留的部分以完整回答结尾",
            "把 cutoff_len 增大到 {tokens} 即可全部使用",
        ),
    },
}
