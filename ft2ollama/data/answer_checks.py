"""Answers that teach what nobody wants: refusals, another model's name, half sentences, echoes.

In: what was asked and what the assistant says.  Out: (code, values) of every finding.

Each rule is narrow, because a warning on good data teaches its reader to ignore warnings: it names
what it saw, and a set of real prose (licences, documentation, in English and Chinese) passes clean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ft2ollama.data.character_checks import Finding, near
from ft2ollama.data.duplicates import normal

_HAN = "\u3400-\u9fff"
_REFUSAL = re.compile(
    r"as an? (?:ai|artificial intelligence|(?:large )?language)\b[\w ]{0,20}\b(?:model|assistant)\b"
    r"|i(?:['’]m| am) (?:just|only) an? (?:ai|artificial|(?:large )?language model)"
    r"|i(?:['’]m| am) (?:sorry|afraid)[,.]? (?:but )?"
    r"i (?:can(?:['’]|no)t|(?:am|['’]m) (?:not able|unable))"
    r"|i (?:can(?:['’]|no)t|cannot|am unable to|['’]m unable to) "
    r"(?:assist|help you|provide|fulfil|answer|comply|discuss)"
    r"|作为(?:一个|一名|一款|一位)?\s?(?:人工智能|ai|大?语言模型|大型语言模型)"
    r"|(?:抱歉|对不起|不好意思)[,，]?\s?(?:但是?)?我?(?:暂时)?(?:无法|不能|没有办法)"
    r"|我(?:无法|不能)(?:回答|提供|协助|完成|讨论)(?:这个|该|您的|你的|此|这类)",
    re.IGNORECASE,
)
_MODELS = (
    "ChatGPT|GPT-?[345]|Claude|Gemini|Bard|Llama|Qwen|DeepSeek|Copilot|Kimi|Mistral|Grok"
    "|通义千问|文心一言|豆包|智谱清言|讯飞星火|腾讯元宝|深度求索"
)
_MAKERS = (
    "OpenAI|Anthropic|Google|Meta AI|Alibaba|DeepSeek|Moonshot|Baidu|ByteDance|Microsoft|Mistral AI"
    "|阿里(?:云|巴巴)|百度|字节跳动|深度求索|月之暗面|智谱|科大讯飞|腾讯"
)
_IDENTITY = re.compile(
    rf"\b(?:I am|I['’]m|I was|my name is)\b[^.!?\n]{{0,50}}?"
    rf"(?:\b(?:{_MODELS})\b|\b(?:developed|trained|created|made|built) by (?:{_MAKERS}))"
    rf"|我(?:是|叫|的名字是|由)[^。！？\n]{{0,16}}?(?:{_MODELS}|(?:{_MAKERS})\s?"
    rf"(?:团队|公司)?(?:开发|训练|研发|推出|打造|创造|创建))",
    re.IGNORECASE,
)
_CUT_MARK = re.compile(r"litellm_truncated skipped \d+ chars|\[(?:truncated|内容已截断)\]", re.I)
_LINE_MARK = re.compile(r"\s*(?:[-*+•·#>|]|\d+[.)、]|```|\$\$)")
_OPEN_END = tuple(",，、(（[【《“‘:：")
_SENTENCE = re.compile(r"[.!?]\s+(?=\S)|[。！？](?=\S)")
# What is cut ends in a small letter (a name at the end of a letter does not) or in Chinese.
_HALF_SENTENCE = re.compile(rf"\w+\W+\w+\W+[a-z\u00df-\u00ff]+$|[{_HAN}]{{6}}$")
_SPEAKER = re.compile(
    r"^(?:### ?(?:Instruction|Response|Input)|(?:Human|User|Assistant|AI|用户|助手|问|答) ?[:：])",
    re.MULTILINE,
)
_HALF_WIDTH = re.compile(rf"[{_HAN}][,;!?][{_HAN}]")
_TRANSLATE = re.compile(
    r"translat|english|chinese|french|german|spanish|japanese|翻译|译成|译为|中文|英文|英语|日语",
    re.IGNORECASE,
)
_TAIL = 20  # characters at the end of a looping answer, which stand in it more than twice
_LEAST = {"latin": 30, "han": 12}  # characters: a shorter answer may be a name or a term
_DIFY_CUT = 503  # a feedback export of Dify cuts at 500 characters and adds three dots


def check_answer(question: str, answer: str) -> Iterator[Finding]:
    """Findings in one assistant turn. question: the turn before it."""
    head = answer[:160]
    if found := _REFUSAL.search(head):
        yield "refusal", {"text": near(answer, found[0])}
    if found := _IDENTITY.search(answer[:600]):
        yield "foreign-identity", {"text": near(answer, found[0], 4)}
    if len(answer) < 2 * len(question) + 10 and normal(answer) == normal(question) != "":
        yield "echo", {"text": near(answer, answer[:30], 0)}
    if len(found_all := _SPEAKER.findall(answer)) > 1:
        yield "dialogue-in-answer", {"text": found_all[0], "count": len(found_all)}
    yield from _check_end(answer)
    yield from _check_style(question, answer)


def _check_end(answer: str) -> Iterator[Finding]:
    text = answer.rstrip()
    tail = {"text": "…" + text[-30:].replace("\n", "⏎")}
    if len(text) == _DIFY_CUT and text.endswith("..."):
        yield "cut-at-source", {**tail, "size": 500}
    elif mark := _CUT_MARK.search(text):
        yield "cut-at-source", {"text": near(text, mark[0]), "size": len(text)}
    elif text.count("```") % 2:
        yield "open-code-fence", tail
    elif is_unfinished(text):
        yield "unfinished", tail


def is_unfinished(text: str) -> bool:
    """Does a text stop in the middle of a sentence? Lists, titles, names and code do not count."""
    if len(text) < 12 or "```" in text:
        return False
    if text.endswith(_OPEN_END):
        return True
    if not text[-1].isalpha():
        return False
    last = text.rsplit("\n", 1)[-1]
    if _LINE_MARK.match(last):
        return False
    sentences = _SENTENCE.split(last)
    if len(sentences) < 2 or len(sentences[-2]) <= 12 or re.search(r"[@/\\<>={}*_|]", last):
        return False
    return bool(_HALF_SENTENCE.search(sentences[-1]))


def _check_style(question: str, answer: str) -> Iterator[Finding]:
    if len(answer) >= 200 and (share := _distinct(answer)) < 0.15:
        yield "repetition", {"share": round(100 * share)}
    if "，" in answer and (found := _HALF_WIDTH.findall(answer)):
        yield "mixed-punctuation", {"text": near(answer, found[0]), "count": len(found)}
    asked, given = script(question), script(answer)
    if {asked, given} == {"han", "latin"} and len(answer) >= _LEAST[given]:
        both = question + answer
        if "`" not in both and not _TRANSLATE.search(question) and _pure(question, answer, given):
            yield f"answered-in-{given}", {"text": near(answer, answer[:24], 0)}


def _pure(question: str, answer: str, given: str) -> bool:
    """Is there no Chinese letter on the side of Latin letters? Mixed texts are no switch."""
    return not re.search(f"[{_HAN}]", answer if given == "latin" else question)


def _distinct(text: str) -> float:
    """Share of distinct 4-grams of words, or of characters where words are not spaced."""
    if text.count(text[-_TAIL:]) < 3:  # cheap, and nearly always true: a loop goes on to the end
        return 1.0
    words = text.split()
    items = words if len(words) > len(text) / 12 else list(text)
    grams = [tuple(items[i : i + 4]) for i in range(len(items) - 3)]
    return len(set(grams)) / max(1, len(grams))


_LETTERS = {
    "han": re.compile(f"[{_HAN}]"),
    "latin": re.compile("[A-Za-z\u00c0-\u024f]"),
    "kana": re.compile("[\u3040-\u30ff]"),
    "hangul": re.compile("[\uac00-\ud7af]"),
    "cyrillic": re.compile("[\u0400-\u04ff]"),
    "arabic": re.compile("[\u0600-\u06ff]"),
    "devanagari": re.compile("[\u0900-\u097f]"),
    "thai": re.compile("[\u0e00-\u0e7f]"),
}
_NEITHER = re.compile("[\u0400-\u0e7f\u3040-\u30ff\uac00-\ud7af]")
_SCRIPT_BY = 240  # characters that are enough to tell


def script(text: str) -> str:
    """What most of a text is written in: han, kana, latin, ... or `none`; by its first part.

    A letter of another script weighs three Latin ones, about what a word has more of those. Some
    kana make a text Japanese.
    """
    part = text[:_SCRIPT_BY]
    if part.isascii():
        return "latin" if any(map(str.isalpha, part)) else "none"
    names = _LETTERS if _NEITHER.search(part) else ("han", "latin")
    counts = {name: 3 * len(_LETTERS[name].findall(part)) for name in names}
    counts["latin"] //= 3
    kana, han = counts.get("kana", 0), counts["han"]
    if kana > 0.15 * han and kana + han > counts["latin"]:
        return "kana"
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else "none"
