"""Why a row or a file is not imported: code -> language -> (what, what to do).

Codes that are not here come from data/ and have their words there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ft2ollama.data import catalogue
from ft2ollama.data.catalogue import TEXTS as DATA_TEXTS
from ft2ollama.data.problems import Problem, Texts
from ft2ollama.language import Language

TEXTS: Texts = {
    "row-shape": {
        "en": ("the row is not as this format has it: {reason}", "--as another format, or --map"),
        "zh": ("此行不符合该格式：{reason}", "用 --as 指定其他格式，或用 --map"),
    },
    "row-nothing": {
        "en": ("the row holds no answer", "nothing to do if that is so"),
        "zh": ("此行没有回答", "若确实如此，无需处理"),
    },
    "row-picture": {
        "en": ("a part of the conversation is not text: {kind}", "only text can be learned"),
        "zh": ("对话中有非文本内容：{kind}", "只能学习文本"),
    },
    "no-question": {
        "en": ("nobody asks anything", "a user's message before the answer"),
        "zh": ("没有提问", "回答之前要有用户消息"),
    },
    "no-answer": {
        "en": ("the answer is empty", "nothing to learn from it"),
        "zh": ("回答为空", "没有可学的内容"),
    },
    "background-task": {
        "en": ("a task of the front-end, not a person's question: {task}", "nothing to do"),
        "zh": ("这是前端自己的任务，不是人的提问：{task}", "无需处理"),
    },
    "answer-error": {
        "en": ("the model answered with an error: {reason}", "nothing to learn from it"),
        "zh": ("模型返回了错误：{reason}", "没有可学的内容"),
    },
    "answer-unfinished": {
        "en": ("the answer was stopped before its end", "nothing to do"),
        "zh": ("回答在结束前被中断", "无需处理"),
    },
    "other-branch": {
        "en": ("an answer that was made anew and left aside", "nothing to do; rated ones are taken"),
        "zh": ("此回答被重新生成、已弃用", "无需处理；有评分的会导入"),
    },
    "openwebui-no-snapshot": {
        "en": ("the feedback has no chat with it; the rating is used",
               "import the chats too: Settings > Chats > Export"),
        "zh": ("反馈里没有对话内容；评分已采用", "请同时导入对话：设置 > 对话 > 导出"),
    },
    "openwebui-no-history": {
        "en": ("the chat has no history.messages", "export it anew from Open WebUI"),
        "zh": ("对话里没有 history.messages", "请从 Open WebUI 重新导出"),
    },
    "openwebui-no-message": {
        "en": ("the rated answer {message} is not in the chat; the rating is used",
               "import the chats too: Settings > Chats > Export"),
        "zh": ("对话里没有被评分的回答 {message}；评分已采用",
               "请同时导入对话：设置 > 对话 > 导出"),
    },
    "openwebui-circle": {
        "en": ("message {message} is its own ancestor", "export the chat anew"),
        "zh": ("消息 {message} 是自己的上级", "请重新导出对话"),
    },
    "openwebui-csv": {
        "en": ("Open WebUI's CSV of feedback holds no question and no answer",
               "Admin Panel > Evaluations > Feedbacks > Export as JSON, and import that file"),
        "zh": ("Open WebUI 的反馈 CSV 里没有问题和回答",
               "管理员面板 > 评估 > 反馈 > 导出 JSON，再导入那个文件"),
    },
    "dify-cut": {
        "en": ("Dify cut the answer to 500 characters; only the rating is used",
               "ft2ollama collect import --user ID https://HOST/v1 (DIFY_API_KEY) has whole answers"),
        "zh": ("Dify 把回答截成了 500 个字符；只采用评分",
               "完整回答用 ft2ollama collect import --user ID https://HOST/v1（DIFY_API_KEY）"),
    },
    "no-opinion": {
        "en": ("the row holds neither a rating nor words", "nothing to do"),
        "zh": ("此行既无评分也无文字", "无需处理"),
    },
    "feedback-nameless": {
        "en": ("the feedback does not say of which answer it is", "an id of the answer"),
        "zh": ("反馈没有说明是哪个回答", "需要回答的 id"),
    },
    "no-answer-here": {
        "en": ("the answer to this feedback is not in the ledger", "import the answers first, then this file again"),
        "zh": ("账本里没有这条反馈对应的回答", "先导入回答，再导入此文件"),
    },
    "anythingllm-lump": {
        "en": ("AnythingLLM joined chats of several people to one conversation ({turns} turns)",
               "import its database: storage/anythingllm.db"),
        "zh": ("AnythingLLM 把多人的聊天合成了一个对话（{turns} 轮）",
               "请导入其数据库：storage/anythingllm.db"),
    },
    "anythingllm-csv": {
        "en": ("AnythingLLM's CSV has lost the line breaks and the sources of its answers",
               "import its database: storage/anythingllm.db"),
        "zh": ("AnythingLLM 的 CSV 丢失了回答的换行和来源", "请导入其数据库：storage/anythingllm.db"),
    },
    "langfuse-no-generation": {
        "en": ("a {type} is no answer of a model; what a RETRIEVER found goes with its answer",
               "nothing to do"),
        "zh": ("{type} 不是模型的回答；RETRIEVER 找到的内容已并入其回答", "无需处理"),
    },
    "langfuse-archived": {
        "en": ("the item is archived", "set it ACTIVE in Langfuse to use it"),
        "zh": ("该条目已归档", "要使用请在 Langfuse 中设为 ACTIVE"),
    },
    "litellm-cut": {
        "en": ("LiteLLM cut the middle out of a long text (litellm_truncated)",
               "log to S3 or GCS (success_callback), or MAX_STRING_LENGTH_PROMPT_IN_DB higher"),
        "zh": ("LiteLLM 截去了长文本的中间部分（litellm_truncated）",
               "改用 S3 或 GCS 日志（success_callback），或调高 MAX_STRING_LENGTH_PROMPT_IN_DB"),
    },
    "litellm-no-text": {
        "en": ("LiteLLM did not store what was said",
               "general_settings: store_prompts_in_spend_logs: true, from then on"),
        "zh": ("LiteLLM 没有保存对话内容",
               "设置 general_settings: store_prompts_in_spend_logs: true，此后生效"),
    },
    "litellm-no-chat": {
        "en": ("a call of type {type} is no chat", "nothing to do"),
        "zh": ("{type} 类调用不是对话", "无需处理"),
    },
    "ragflow-not-found": {
        "en": ("RAGFlow's own sentence for an empty search, not an answer", "nothing to do"),
        "zh": ("这是 RAGFlow 检索为空时的固定句子，不是回答", "无需处理"),
    },
}  # fmt: skip


def told(code: str, place: str, values: Mapping[str, Any], language: Language) -> tuple[str, str]:
    """What is wrong and what to do, as sentences."""
    if code in TEXTS:
        what, fix = TEXTS[code][language]
        return what.format_map(values), fix.format_map(values)
    if code not in DATA_TEXTS:
        return code, ""
    key = str(values.get("key", ""))
    rest = {name: value for name, value in values.items() if name != "key"}
    what, fix = catalogue.sentence(Problem(code, place, key, rest), language)
    return (f"{key}: {what}" if key else what), fix


_WORDS: Mapping[str, Mapping[Language, str]] = {
    "file": {"en": "file", "zh": "文件"},
    "format": {"en": "format", "zh": "格式"},
    "by": {"en": "known by", "zh": "依据"},
    "seen": {"en": "rows", "zh": "行"},
    "imported": {"en": "imported", "zh": "导入"},
    "duplicate": {"en": "duplicate", "zh": "重复"},
    "rejected": {"en": "rejected", "zh": "拒绝"},
    "feedback": {"en": "feedback", "zh": "反馈"},
    "count": {"en": "rows", "zh": "行"},
    "reason": {"en": "not imported, because", "zh": "未导入的原因"},
    "first": {"en": "first at", "zh": "首次出现"},
    "fix": {"en": "what to do", "zh": "怎么办"},
    "listed": {"en": "all of them, with places: {path}", "zh": "全部位置见：{path}"},
    "resumed": {"en": "{path}: goes on after row {count}", "zh": "{path}：从第 {count} 行之后继续"},
    "done": {
        "en": "{imported} imported, {duplicate} there already, {rejected} rejected, of {seen}",
        "zh": "共 {seen} 行：导入 {imported}，已有 {duplicate}，拒绝 {rejected}",
    },
    "dry": {"en": "--dry-run: nothing was written", "zh": "--dry-run：没有写入任何内容"},
    "human": {
        "en": "{name}: the answers count as written by people; --origin model if a model wrote them",
        "zh": "{name}：回答按人工编写处理；若由模型生成，请加 --origin model",
    },
    "model": {
        "en": "{name}: the answers count as a model's; --origin human if people wrote them",
        "zh": "{name}：回答按模型生成处理；若由人编写，请加 --origin human",
    },
    "none": {
        "en": "no row could be imported", "zh": "没有一行可以导入",
    },
    "refused": {"en": "{count} of the files cannot be imported", "zh": "有 {count} 个文件不能导入"},
    "refused-fix": {"en": "mend or leave out what is named above; nothing was imported",
                    "zh": "修改或去掉上面列出的文件；尚未导入任何内容"},
    "unknown": {
        "en": "{path}: no known format (fields: {fields}); --as NAME, or --map question=$.FIELD,answer=$.FIELD",
        "zh": "{path}：格式未知（字段：{fields}）；请用 --as 名称，或 --map question=$.字段,answer=$.字段",
    },
    "ambiguous": {
        "en": "{path}: could be {one} ({why_one}) or {two} ({why_two}); say --as {one} or --as {two}",
        "zh": "{path}：可能是 {one}（{why_one}）或 {two}（{why_two}）；请加 --as {one} 或 --as {two}",
    },
    "left": {"en": "{path}: left aside, no data file", "zh": "{path}：不是数据文件，已跳过"},
    "empty": {"en": "{path}: no data file in it", "zh": "{path}：里面没有数据文件"},
}  # fmt: skip


def word(key: str, language: Language, **values: Any) -> str:
    """A word or sentence of the report."""
    return _WORDS[key][language].format_map(values)
