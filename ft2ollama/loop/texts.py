"""What a cycle tells people, in English and Chinese: reasons, findings of the gate, verdicts.

In: the name of a sentence and its values.  Out: `Sentence`, which is its English text and keeps name
and values beside it. So whoever only writes a reason down (ledger, JSON, log) sees plain English,
and whoever shows it says `told(reason, language)`. One table holds every sentence in both languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ft2ollama.language import Language

SENTENCES: Mapping[str, Mapping[Language, str]] = {
    # --- is it time
    "due-enough": {"en": "{count} new rows, {wanted} are enough", "zh": "有 {count} 行新数据，达到 {wanted} 行"},
    "due-never": {"en": "{count} new rows; nothing was promoted yet", "zh": "有 {count} 行新数据；还没有上线过任何版本"},
    "due-since": {"en": "{count} new rows; last promoted {days:.1f} days ago", "zh": "有 {count} 行新数据；上次上线在 {days:.1f} 天前"},
    "wait-never": {"en": "{count} new rows, {wanted} are wanted; nothing was promoted yet", "zh": "只有 {count} 行新数据，需要 {wanted} 行；还没有上线过任何版本"},
    "wait-since": {"en": "{count} new rows, {wanted} are wanted; last promoted {days:.1f} days ago", "zh": "只有 {count} 行新数据，需要 {wanted} 行；上次上线在 {days:.1f} 天前"},
    "wait-refused": {"en": "{run} was {state} with these very {count} rows", "zh": "{run} 用的正是这 {count} 行，结果是 {state}"},
    "cooling": {"en": "{alias} was rolled back to {tag}; for another {left:.1f} days retrain --if-due counts only rows that came since", "zh": "{alias} 已回退到 {tag}；{left:.1f} 天内 retrain --if-due 只计算此后新来的数据"},
    "wait-cooling": {"en": "{alias} was rolled back to {tag}; for another {left:.1f} days only rows count that came since: {newer} of {count}, {wanted} are wanted", "zh": "{alias} 已回退到 {tag}；{left:.1f} 天内只计算此后新来的数据：{count} 行中有 {newer} 行，需要 {wanted} 行"},
    "cycle-waits": {"en": "cycle {run} waits for another {left:.1f} days, because {alias} was rolled back to {tag}; retrain --resume goes on with it", "zh": "周期 {run} 再等 {left:.1f} 天，因为 {alias} 已回退到 {tag}；retrain --resume 可以继续它"},
    "none-open": {"en": "no cycle is open", "zh": "没有未完成的周期"},
    # --- findings of the gate
    "served": {"en": "the server serves what was published", "zh": "服务器上的模型与发布的一致"},
    "served-other": {"en": "the server serves {found}, published was {published}", "zh": "服务器上的是 {found}，发布的是 {published}"},
    "nothing-asked": {"en": "no item was asked", "zh": "一个问题也没有问"},
    "stopped": {"en": "{value:.1%} of its answers end by themselves", "zh": "{value:.1%} 的回答自己结束"},
    "distinct": {"en": "{value:.1%} of the 4-grams of an answer are distinct", "zh": "回答中不重复的 4-gram 占 {value:.1%}"},
    "speed-alike": {"en": "{value:.1%} of the tokens/s of the model it would replace; the files are of one size, so that is how busy the machine was", "zh": "生成速度是现用模型的 {value:.1%}；两个文件大小相同，差别来自机器负载"},
    "speed": {"en": "{value:.1%} of the tokens/s of the model it would replace", "zh": "生成速度是现用模型的 {value:.1%}"},
    "wrong": {"en": "wrong: {items}", "zh": "答错：{items}"},
    "all-right": {"en": "all {count} right", "zh": "{count} 题全对"},
    "no-set": {"en": "there is no {name} set", "zh": "没有 {name} 题集"},
    "golden": {"en": "mean {old:.3f} -> {new:.3f}; with 95 % certainty not worse than {bound:+.3f}", "zh": "平均 {old:.3f} -> {new:.3f}；有 95 % 把握不低于 {bound:+.3f}"},
    "evidence": {"en": "{count} golden items: an equal model would pass {power:.0%} of the time", "zh": "golden 题集有 {count} 题：同样好的模型有 {power:.0%} 的机会通过"},
    "evidence-thin": {"en": "{count} golden items: an equal model would pass {power:.0%} of the time; {wanted} are wanted", "zh": "golden 题集只有 {count} 题：同样好的模型有 {power:.0%} 的机会通过；需要 {wanted} 题"},
    "regressions": {"en": "{lost} of {count} were right and are wrong now", "zh": "{count} 题中有 {lost} 题原来答对、现在答错"},
    "regressions-held": {"en": "of {held} that earlier cycles held out {gone} are wrong now, {won} right now, p = {chance:.3g}", "zh": "以前周期留出的 {held} 题中，{gone} 题变错，{won} 题变对，p = {chance:.3g}"},
    "regressions-both": {"en": "{lost} of {count} were right and are wrong now; of {held} that earlier cycles held out {gone} are wrong now, {won} right now, p = {chance:.3g}", "zh": "{count} 题中有 {lost} 题原来答对、现在答错；以前周期留出的 {held} 题中，{gone} 题变错，{won} 题变对，p = {chance:.3g}"},
    "no-fresh": {"en": "no fresh items: nothing shows a gain", "zh": "没有新题：看不出有没有进步"},
    "fresh": {"en": "mean {old:.3f} -> {new:.3f} on {count} items, p = {chance:.3g}", "zh": "{count} 题平均 {old:.3f} -> {new:.3f}，p = {chance:.3g}"},
    "fresh-pooled": {"en": "mean {old:.3f} -> {new:.3f} on {fresh} fresh items and the golden set, {count} together, p = {chance:.3g}", "zh": "{fresh} 道新题加 golden 题集共 {count} 题，平均 {old:.3f} -> {new:.3f}，p = {chance:.3g}"},
    "mean": {"en": "mean {old:.3f} -> {new:.3f} on {count} items", "zh": "{count} 题平均 {old:.3f} -> {new:.3f}"},
    "no-form": {"en": "no item asks for a form", "zh": "没有题目规定回答格式"},
    "form": {"en": "well formed: {old:.1%} -> {new:.1%}", "zh": "格式正确：{old:.1%} -> {new:.1%}"},
    "context": {"en": "num_ctx {old} -> {new}", "zh": "num_ctx {old} -> {new}"},
    "size": {"en": "the file is {times:.2f} times as large", "zh": "文件大小是原来的 {times:.2f} 倍"},
    "finite": {"en": "the loss stayed finite", "zh": "训练损失没有发散"},
    "diverged": {"en": "the loss diverged", "zh": "训练损失发散了"},
    "truncated": {"en": "{share:.0%} of the training rows were cut", "zh": "{share:.0%} 的训练数据被截断"},
    "eval-loss": {"en": "held-out loss {old:.3f} -> {new:.3f}", "zh": "留出数据的损失 {old:.3f} -> {new:.3f}"},
    # --- what the gate will be able to tell
    "golden-none": {"en": "no golden set: a person will decide. ft2ollama collect export golden.jsonl --format golden drafts one", "zh": "没有 golden 题集：将由人来决定。起草一份：ft2ollama collect export golden.jsonl --format golden"},
    "golden-none-alone": {"en": "no golden set, and thin_evidence: true: the gate decides from the fresh questions alone", "zh": "没有 golden 题集，但 thin_evidence: true：只按新题决定"},
    "golden-few": {"en": "{count} golden questions, {wanted} are wanted: a person will decide", "zh": "golden 题集只有 {count} 题，需要 {wanted} 题：将由人来决定"},
    "fresh-none": {"en": "no fresh questions: nothing can show a gain. Collect more rows, or raise curate: {{fresh_share}}", "zh": "没有新题：无法看出进步。请多收集数据，或提高 curate: {{fresh_share}}"},
    "fresh-few": {"en": "{count} fresh questions are too few to show a gain: {least} are the least. Collect more rows, or raise curate: {{fresh_share}}", "zh": "只有 {count} 道新题，看不出进步：至少要 {least} 道。请多收集数据，或提高 curate: {{fresh_share}}"},
    "fresh-with-golden": {"en": "{count} fresh questions are too few to show a gain by themselves: together with the golden set {wins} answers must come out better and none worse", "zh": "{count} 道新题不足以看出进步：与 golden 题集合在一起，要有 {wins} 道答得更好、没有一道变差"},
    "fresh-wins": {"en": "{count} fresh questions: about {wins} of them must come out better to show a gain", "zh": "有 {count} 道新题：大约要有 {wins} 道答得更好才能看出进步"},
    "leaks-many": {"en": "{count} of {rows} rows ask what the gate asks, so they are not trained on: put the questions of its sets in other words", "zh": "{rows} 行中有 {count} 行与评测题同问，不参加训练：请把题集换一种问法"},
    # --- verdicts
    "PASS": {"en": "better, and not worse anywhere", "zh": "更好，而且没有变差的地方"},
    "NO_BENEFIT": {"en": "nothing shows that it is better: {rules}", "zh": "看不出更好：{rules}"},
    "FAIL": {"en": "below what the gate asks: {rules}", "zh": "没有达到要求：{rules}"},
    "NEEDS_HUMAN": {"en": "too few questions to tell: {rules}", "zh": "题目太少，无法判断：{rules}"},
    # --- what a cycle is doing
    "begins": {"en": "cycle {run} of {line} begins", "zh": "{line} 的周期 {run} 开始"},
    "going-on": {"en": "going on with cycle {run}, which is {state}", "zh": "继续周期 {run}，当前状态 {state}"},
    "curated": {"en": "{rows} rows: {kept} kept, {fresh} held out for the gate, {left} left out", "zh": "{rows} 行：保留 {kept}，留给评测 {fresh}，不用 {left}"},
    "registering": {"en": "registering and proving {tag}", "zh": "正在注册并验证 {tag}"},
    "against-base": {"en": "{alias} does not exist yet: the new model is held against the base, {base}", "zh": "还没有 {alias}：新模型与基座 {base} 比较"},
    "asking": {"en": "asking {model}: {waiting} of {count} questions", "zh": "正在向 {model} 提问：{count} 题中的 {waiting} 题"},
    "removed": {"en": "removed: {what}", "zh": "已删除：{what}"},
    "untold": {"en": "nobody was told by {hook}: {error}", "zh": "{hook} 没能发出通知：{error}"},
    # --- notes of curation
    "cap-waits": {"en": "{count} of the model's own answers wait: they may be {cap:.0%} of new samples; collect review some, or grounded_cap: 1", "zh": "{count} 个模型自己的回答暂缓：它们最多占新样本的 {cap:.0%}；可用 collect review 审核一部分，或设 grounded_cap: 1"},
    "room-waits": {"en": "{count} rows wait: max_samples is {most}", "zh": "{count} 行暂缓：max_samples 是 {most}"},
    "no-general": {"en": "no general_data: only the ledger's own history works against forgetting", "zh": "没有 general_data：只有账本里的历史数据能防止遗忘"},
    "corrected-since": {"en": "{count} rows say what people corrected later at other questions, such as \"{answer}\"; if that is out of date: corrected_since: drop under curate:", "zh": "有 {count} 行的回答后来在别的问法下被人纠正，例如“{answer}”；如果已经过时，在 curate: 下设 corrected_since: drop"},
    "general-leaks": {"en": "{count} conversations of general_data ask what the gate asks: not trained on", "zh": "general_data 中有 {count} 段对话的问题与评测题相同或相近：不用于训练"},
    "few-rows": {"en": "{rows} new rows are few: {fresh} held out for the gate, none to measure the loss (from {enough} on: {then})", "zh": "新数据只有 {rows} 行：留给评测 {fresh} 行，不测验证损失（从 {enough} 行起留 {then} 行）"},
    "few-fresh": {"en": "only {fresh} of {wanted} rows could be held out: the others ask like each other, or like what was trained on", "zh": "想留出 {wanted} 行，只留出 {fresh} 行：其余的问题彼此相近，或与训练过的相近"},
}  # fmt: skip

# What each rule of the gate is about, for people who read its name for the first time.
RULES: Mapping[str, Mapping[Language, str]] = {
    "artefact": {"en": "the right model was asked", "zh": "问的是该问的模型"},
    "stopped": {"en": "answers end", "zh": "回答会结束"},
    "distinct": {"en": "no repetition", "zh": "不重复啰嗦"},
    "must_pass": {"en": "must-pass questions", "zh": "必对题"},
    "golden": {"en": "not worse on your questions", "zh": "您的题集没有变差"},
    "evidence": {"en": "enough questions to tell", "zh": "题目够多，能下结论"},
    "regressions": {"en": "what was right stays right", "zh": "原来对的仍然对"},
    "fresh": {"en": "better on held-out questions", "zh": "留出的新题答得更好"},
    "general": {"en": "other things not forgotten", "zh": "没有忘记别的"},
    "refusal": {"en": "still says no where it should", "zh": "该拒答的仍拒答"},
    "form": {"en": "well-formed answers", "zh": "回答格式正确"},
    "speed": {"en": "not slower", "zh": "没有变慢"},
    "context": {"en": "context not shorter", "zh": "上下文没有变短"},
    "size": {"en": "not larger", "zh": "没有变大"},
    "loss": {"en": "training went well", "zh": "训练正常"},
    "truncated": {"en": "rows fit", "zh": "数据没有被截断"},
    "eval_loss": {"en": "held-out loss", "zh": "验证损失"},
}  # fmt: skip
STATES: Mapping[str, Mapping[Language, str]] = {
    "CREATED": {"en": "begun", "zh": "已开始"},
    "SNAPSHOTTED": {"en": "rows taken", "zh": "已取数据"},
    "CURATED": {"en": "rows judged", "zh": "已筛选"},
    "TRAINED": {"en": "trained", "zh": "已训练"},
    "EXPORTED": {"en": "exported", "zh": "已导出"},
    "REGISTERED": {"en": "in Ollama, proved", "zh": "已注册并验证"},
    "EVALUATED": {"en": "asked", "zh": "已评测"},
    "APPROVED": {"en": "approved", "zh": "已批准"},
    "NEEDS_HUMAN": {"en": "waits for you", "zh": "等您决定"},
    "SWAPPING": {"en": "being put in place", "zh": "正在切换"},
    "PROMOTED": {"en": "promoted", "zh": "已上线"},
    "REJECTED": {"en": "rejected", "zh": "未通过"},
    "FAILED": {"en": "failed", "zh": "失败"},
    "ABANDONED": {"en": "abandoned", "zh": "已放弃"},
}  # fmt: skip
_VERDICT = re.compile(r"(PASS|NO_BENEFIT|FAIL|NEEDS_HUMAN)(?:: (.*))?", re.DOTALL)


class Sentence(str):
    """A sentence of the table: an English string, with its name and values for other languages.

    values: numbers and texts, as JSON holds them. Raises KeyError where a value is missing.
    """

    name: str
    values: Mapping[str, Any]

    def __new__(cls, name: str, /, **values: Any) -> Sentence:
        """The sentence `name` of SENTENCES."""
        made = super().__new__(cls, SENTENCES[name]["en"].format(**values))
        made.name, made.values = name, values
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str], Mapping[str, Any]]:
        """What copy and pickle make it anew of."""
        return (self.name,), self.values


def told(text: str, language: Language) -> str:
    """A sentence in this language; any other text as it is."""
    if not isinstance(text, Sentence):
        return text
    values = dict(text.values)
    if language != "en" and str(values.get("state")).upper() in STATES:
        values["state"] = STATES[str(values["state"]).upper()][language]
    return SENTENCES[text.name][language].format(**values)


def kept(text: str) -> dict[str, Any]:
    """What the ledger keeps of a reason: {"why": English, "said": [name, values]}."""
    if isinstance(text, Sentence):
        return {"why": str(text), "said": [text.name, dict(text.values)]}
    return {"why": text}


def from_kept(detail: Mapping[str, Any]) -> str:
    """The reason of a row that `kept` wrote; its English where this version lacks the sentence."""
    name, values = detail.get("said") or ("", {})
    if name in SENTENCES:
        return Sentence(name, **values)
    return str(detail.get("why", ""))


def verdict(kind: str, rules: Iterable[str]) -> Sentence:
    """What a verdict of the gate means. kind: PASS, NO_BENEFIT, FAIL, NEEDS_HUMAN."""
    return Sentence(kind, rules=", ".join(rules))


def ended(error: str | None, language: Language) -> str:
    """Why a cycle ended as it did: a verdict ("FAIL: golden, speed") in words, else as it is."""
    found = _VERDICT.fullmatch(error or "")
    if not found:
        return error or ""
    rules = [name for name in (found[2] or "").split(", ") if name]
    named = (f"{name} ({RULES[name][language]})" if name in RULES else name for name in rules)
    return told(Sentence(found[1], rules=", ".join(named)), language)
