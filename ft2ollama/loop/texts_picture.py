"""What `loop status` says beside the sentences of texts.py, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from ft2ollama.language import Language

WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "title": "The loop",
        "made": "as of {when}; ledger {ledger}",
        "live": "live now",
        "since": "since {when}",
        "by-ledger": "by the ledger: no server answered",
        "unlisted": "none of the versions here: something else moved the name",
        "no-name": "the name does not exist yet",
        "waiting": "rows that wait",
        "of": "{count} of {wanted}",
        "due": "due", "not-due": "not due", "open": "a cycle is at work",
        "last": "last cycle", "no-cycle": "none yet",
        "person": "waits for you",
        "person-how": "ft2ollama loop approve {run}     # or: loop reject",
        "collected": "Rows collected by day", "collected-line": "collected",
        "collected-note": "{count} rows from {first} to {last}, most {most} a day; all lines share them",
        "nothing": "nothing was collected yet: ft2ollama collect serve, or collect import FILE",
        "began": "a cycle began",
        "meter": "Is it time?",
        "meter-note": "{rows} rows are enough at any time; {few} are, {days:g} days after the last promotion",
        "taken": "What became of the rows of each cycle",
        "keep": "trained on", "eval_fresh": "held out for the gate", "drop": "left out", "pending": "not judged yet",
        "scores": "Scores before and after, cycle by cycle",
        "scores-note": "mean score on the same questions, 0 to 1: ring = the model in place then, dot = the new one",
        "before": "in place", "after": "new",
        "gate": "The gate, rule by rule",
        "gate-note": "✓ passed   ✗ failed   ○ not shown: no gain seen, or too few questions   – not measured; rest the pointer on a mark for what was found",
        "gate-last": "What the gate found in {run}",
        "moves": "What {alias} was, and when",
        "publish": "promoted", "rollback": "rolled back",
        "when": "when", "what": "what", "version": "version", "who": "by", "cycle": "cycle", "begun": "begun",
        "took": "took", "state": "state", "why": "why", "rule": "rule", "found": "found", "rows": "rows",
        "kept-held-left": "kept/held/out",
        "items": "{count} questions", "rules": "{count} rules",
        "no-lines": "no cycle yet: ft2ollama retrain CONFIG",
        "minutes": "{n} min", "hours": "{n:.1f} h", "seconds": "{n} s",
    },
    "zh": {
        "title": "循环",
        "made": "截至 {when}；账本 {ledger}",
        "live": "当前上线",
        "since": "自 {when}",
        "by-ledger": "据账本：没有服务器应答",
        "unlisted": "不是这里的任何版本：名字被别的程序移动过",
        "no-name": "这个名字还不存在",
        "waiting": "等待的数据",
        "of": "{count} / {wanted}",
        "due": "该训练了", "not-due": "还不到时候", "open": "有周期正在进行",
        "last": "最近的周期", "no-cycle": "还没有",
        "person": "等您决定",
        "person-how": "ft2ollama loop approve {run}     # 或：loop reject",
        "collected": "每天收集的数据", "collected-line": "收集",
        "collected-note": "{first} 至 {last} 共 {count} 行，一天最多 {most} 行；各条线共用",
        "nothing": "还没有收集到数据：ft2ollama collect serve，或 collect import 文件",
        "began": "周期开始",
        "meter": "该训练了吗？",
        "meter-note": "达到 {rows} 行随时训练；距上次上线 {days:g} 天后，{few} 行即可",
        "taken": "每个周期的数据去向",
        "keep": "用于训练", "eval_fresh": "留给评测", "drop": "不用", "pending": "尚未筛选",
        "scores": "各周期前后的得分",
        "scores-note": "同一批问题的平均得分，0 到 1：空心为当时上线的模型，实心为新模型",
        "before": "当时上线", "after": "新模型",
        "gate": "评测门槛逐项结果",
        "gate-note": "✓ 通过   ✗ 未通过   ○ 看不出来：没有进步，或题目太少   – 未测；把鼠标停在标记上可看到详情",
        "gate-last": "{run} 的评测结果",
        "moves": "{alias} 先后是什么版本",
        "publish": "上线", "rollback": "回退",
        "when": "时间", "what": "动作", "version": "版本", "who": "操作者", "cycle": "周期", "begun": "开始",
        "took": "用时", "state": "状态", "why": "原因", "rule": "规则", "found": "结果", "rows": "数据",
        "kept-held-left": "训练/评测/不用",
        "items": "{count} 题", "rules": "{count} 项",
        "no-lines": "还没有周期：ft2ollama retrain CONFIG",
        "minutes": "{n} 分钟", "hours": "{n:.1f} 小时", "seconds": "{n} 秒",
    },
}  # fmt: skip
SETS: Mapping[str, Mapping[Language, str]] = {
    "golden": {"en": "golden", "zh": "golden（您的题集）"},
    "fresh": {"en": "fresh", "zh": "fresh（新内容）"},
    "must_pass": {"en": "must_pass", "zh": "must_pass（必对题）"},
    "general": {"en": "general", "zh": "general（其他知识）"},
    "refusal": {"en": "refusal", "zh": "refusal（该拒答的）"},
}


def took(ms: int, words: Mapping[str, str]) -> str:
    """A length of time, shortly."""
    seconds = round(ms / 1000)
    if seconds < 120:
        return words["seconds"].format(n=seconds)
    if seconds < 7200:
        return words["minutes"].format(n=round(seconds / 60))
    return words["hours"].format(n=seconds / 3600)
