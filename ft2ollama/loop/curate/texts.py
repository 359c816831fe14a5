"""Every rule in a sentence, in English and Chinese: why a row was left out, held out or kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ft2ollama.language import Language

RULE_TEXTS: Mapping[str, Mapping[Language, str]] = {
    "keep": {"en": "trained on", "zh": "用于训练"},
    "eval_fresh": {"en": "held out: the gate asks them", "zh": "留给评测门：不参加训练"},
    "erased": {"en": "erased at somebody's wish", "zh": "已应要求删除"},
    "no_consent": {"en": "no consent, or it has run out", "zh": "没有同意，或同意已过期"},
    "background_task": {"en": "a title, tags or the like, not an answer", "zh": "标题、标签等后台任务，不是回答"},
    "rejected": {"en": "rejected in review", "zh": "人工审核未通过"},
    "low_rating": {"en": "people disliked the answer", "zh": "用户点了踩"},
    "incomplete": {"en": "the answer was broken off", "zh": "回答没有说完"},
    "no_text": {"en": "no answer in words", "zh": "没有文字回答"},
    "media": {"en": "comes with an image or sound", "zh": "带有图片或声音"},
    "truncated_source": {"en": "cut off where it was exported", "zh": "导出时被截断"},
    "length": {"en": "question or answer too short or too long", "zh": "问题或回答过短或过长"},
    "too_long": {"en": "more tokens than cutoff_len", "zh": "超过 cutoff_len 个 token"},
    "error_text": {"en": "an error message", "zh": "是报错信息"},
    "broken_text": {"en": "broken characters or control tokens", "zh": "乱码或控制 token"},
    "garbage": {"en": "an echo, or a made-up dialogue", "zh": "复述问题，或自编对话"},
    "repetition": {"en": "goes round in circles", "zh": "反复重复"},
    "refusal": {"en": "the model could not answer", "zh": "模型没能回答"},
    "foreign_identity": {"en": "claims to be another model", "zh": "自称是别的模型"},
    "unfinished": {"en": "stops in mid-sentence", "zh": "句子没有写完"},
    "language": {"en": "a language that is not wanted", "zh": "不在所选语言之内"},
    "other_language": {"en": "answers in another language", "zh": "回答换了语言"},
    "ungrounded": {"en": "a model's own answer, without contexts", "zh": "模型自己的回答，没有检索资料"},
    "ungrounded_number": {"en": "a number, date or address that stands in no source", "zh": "数字、日期或网址在资料中找不到"},
    "off_context": {"en": "says something else than its contexts", "zh": "与检索资料无关"},
    "superseded": {"en": "a person answered anew", "zh": "已有人给出更新的回答"},
    "overruled": {"en": "contradicts a person's answer", "zh": "与人工回答矛盾"},
    "corrected_since": {"en": "says what people corrected later", "zh": "内容后来被人纠正"},
    "exact_dup": {"en": "a copy", "zh": "完全重复"},
    "near_dup": {"en": "nearly a copy, with the same numbers", "zh": "近似重复，数字也相同"},
    "eval_contamination": {"en": "an evaluation set asks it", "zh": "评测集里有这个问题"},
    "pii": {"en": "holds personal data", "zh": "含有个人信息"},
    "pii_only": {"en": "nothing but personal data", "zh": "除个人信息外没有内容"},
    "no_weight": {"en": "its origin has weight 0", "zh": "这类来源的权重为 0"},
    "grounded_cap": {"en": "waits: too many of the model's own answers", "zh": "等待：模型自己的回答太多"},
    "no_room": {"en": "waits: max_samples is reached", "zh": "等待：已达 max_samples"},
}  # fmt: skip


def told(evidence: Mapping[str, Any]) -> str:
    """Evidence in a line: `missing 60, 7; coverage 0.02`."""
    parts = []
    for name, value in evidence.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        parts.append(f"{name} {text}")
    return "; ".join(parts)


REVIEW: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "keys": "a approve · e edit · r reject · s skip · u undo · c contexts · q quit",
        "question": "question",
        "answer": "answer",
        "contexts": "contexts",
        "said": "people said",
        "more": "… {count} more characters",
        "none": "no contexts",
        "nothing": "nothing to review",
        "undone": "taken back",
        "no_undo": "nothing to take back",
        "empty": "the text is empty or unchanged, so nothing was written",
        "ended": "{approved} approved, {corrected} corrected, {rejected} rejected, {skipped} skipped",
        "rows": "rows",
        "row": "{number} of {total}",
        "preview": "what would become of {count} rows",
        "made": "samples: {train} to train on ({forms}), {val} to measure the loss, {fresh} for the "
        "gate",
        "pii": "personal data replaced: {counts}",
        "written": "written: {path}",
        "empty_ledger": "no rows wait in {name}",
    },
    "zh": {
        "keys": "a 通过 · e 修改 · r 不要 · s 跳过 · u 撤销 · c 资料全文 · q 结束",
        "question": "问题",
        "answer": "回答",
        "contexts": "资料",
        "said": "用户反馈",
        "more": "……还有 {count} 个字符",
        "none": "没有资料",
        "nothing": "没有需要审核的",
        "undone": "已撤销",
        "no_undo": "没有可以撤销的",
        "empty": "内容为空或没有改动，未写入",
        "ended": "通过 {approved}，修改 {corrected}，不要 {rejected}，跳过 {skipped}",
        "rows": "行数",
        "row": "第 {number} 条，共 {total} 条",
        "preview": "{count} 行数据的去向",
        "made": "样本：训练 {train} 条（{forms}），测损失 {val} 条，评测门 {fresh} 条",
        "pii": "已替换的个人信息：{counts}",
        "written": "已写入：{path}",
        "empty_ledger": "{name} 中没有待处理的数据",
    },
}
