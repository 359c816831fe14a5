"""Questions without what front-ends put around them; tasks that no person asked for."""

from __future__ import annotations

import pytest

from ft2ollama.loop.frontends import background_task, split_context

# Shaped as Open WebUI's default template: the instructions have an example that is no source.
OPEN_WEBUI = """### Task:
Respond to the user query using the provided context, incorporating inline citations in the format \
[id] **only when the <source> tag includes an explicit id attribute** (e.g., <source id="1">).

### Guidelines:
- Only cite when <source id="1">like this</source> is given.
- Do not use XML tags in your response; a <context> is given below.

### Output:
Provide a clear and direct response.

<context>
<source id="1" name="handbuch.pdf">Rückgabe in 30 Tagen.</source>
<source id="2" name="faq.md">免运费
满 99 元</source>
</context>

"""
SOURCES = (
    {"text": "Rückgabe in 30 Tagen.", "source": "handbuch.pdf"},
    {"text": "免运费\n满 99 元", "source": "faq.md"},
)
ANYTHING = """Given the following conversation, relevant context, and a follow up question, reply.
Context: none of this line.
Context:
[CONTEXT 0]:
30 days
[END CONTEXT 0]
[CONTEXT 1]:
free over 99
[END CONTEXT 1]
"""
DIFY = """Use the following context as your learned knowledge, inside <context></context> XML tags.

<context>
退货期 30 天
</context>

When answer to user:
- If you don't know, just say that you don't know."""
RAGFLOW = """You are an assistant. Summarise.
Here is the knowledge base:
退货期 30 天
The above is the knowledge base."""
LANGCHAIN = (
    "Use the following pieces of context to answer the question at the end. If you don't know the "
    "answer, just say that you don't know.\n\n30 days\n\nfree over 99\n\nQuestion: how long?\n"
    "Helpful Answer:"
)
CHATCHAT = (
    "<指令>根据已知信息，简洁和专业的来回答问题。</指令>\n"
    "<已知信息>30 天</已知信息>、\n<问题>多久？</问题>"
)


def test_open_webui() -> None:
    split = split_context(f"{OPEN_WEBUI}Wie lange? <b>fett</b>")
    assert (split.question, split.contexts) == ("Wie lange? <b>fett</b>", SOURCES)
    assert split.extractor == "open-webui"
    older = split_context(f"{OPEN_WEBUI}<user_query>\nWie lange?\n</user_query>\n")
    assert (older.question, older.contexts) == ("Wie lange?", SOURCES)
    assert split_context("Wie lange?", OPEN_WEBUI).contexts == SOURCES
    assert background_task(f"{OPEN_WEBUI}Wie lange?") == ""


@pytest.mark.parametrize(
    ("name", "system", "user", "question", "texts"),
    [
        ("anythingllm", ANYTHING, "how long?", "how long?", ["30 days", "free over 99"]),
        ("dify", DIFY, "多久？", "多久？", ["退货期 30 天"]),
        ("ragflow", RAGFLOW, "多久？", "多久？", ["退货期 30 天"]),
        ("langchain", "", LANGCHAIN, "how long?", ["30 days", "free over 99"]),
        ("langchain", "", "Context:\n30 days\n\nQuestion: how long?", "how long?", ["30 days"]),
        ("langchain", "", CHATCHAT, "多久？", ["30 天"]),
        ("langchain", "", "已知信息：\n30 天\n\n问题：多久？", "多久？", ["30 天"]),
    ],
)
def test_others(name: str, system: str, user: str, question: str, texts: list[str]) -> None:
    split = split_context(user, system)
    assert split.extractor == name
    assert split.question == question
    assert [one["text"] for one in split.contexts] == texts


@pytest.mark.parametrize(
    ("user", "system"),
    [
        ('What does <source id="1">x</source> mean in <context>\n?', ""),
        ("### Task:\nWrite a poem about <context>\nnothing", ""),
        (OPEN_WEBUI.partition("<context>\n")[0] + "Wie lange?", ""),  # only its example
        ("多久？", DIFY.partition("\n")[0]),  # only the instruction's empty pair
        ("多久？", "Context: we sell shoes. [CONTEXT 0]:"),
        ("Question: what is a Context:?", ""),
    ],
)
def test_what_is_no_template_stays_whole(user: str, system: str) -> None:
    split = split_context(user, system)
    assert (split.question, split.contexts, split.extractor) == (user, (), "")


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the", "title"),
        ("### Task:\nGenerate 1-3 broad tags categorizing the main themes", "tags"),
        ("### Task:\nSuggest 3-5 relevant follow-up questions or prompts", "follow_ups"),
        ("### Task:\nAnalyze the chat history to determine the necessity of", "queries"),
        ("### Task:\nYou are an autocompletion system. Continue the text", "autocomplete"),
        ("Your task is to reflect the speaker's likely facial expression through", "emoji"),
        ("Generate a concise summary of this contract", ""),
        ("### Task:\nWrite a title for my book", ""),
    ],
)
def test_background_tasks(text: str, task: str) -> None:
    assert background_task(text) == task
