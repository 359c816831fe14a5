"""The words of retrain, loop, schedule and collect around what they found, in two languages.

What the loop itself says (reasons, findings, verdicts) is in loop/texts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ft2ollama.language import Language

_Command = TypeVar("_Command", bound=Callable[..., Any])

_WORDS: Mapping[str, Mapping[Language, str]] = {
    # --- retrain
    "busy": {"en": "another run is at work on {line}", "zh": "另一个进程正在处理 {line}"},
    "nothing due": {"en": "nothing due: {why}", "zh": "不需要重训：{why}"},
    "is now": {"en": "{line} is {run} now", "zh": "{line} 现在是 {run}"},
    "back": {"en": "  back: ft2ollama rollback {line}", "zh": "  回退：ft2ollama rollback {line}"},
    "wants person": {"en": "cycle {run} wants a person: {why}", "zh": "周期 {run} 需要人来决定：{why}"},
    "ask it": {"en": "  ask it yourself: ft2ollama chat {model} \"...\"", "zh": "  自己问一问：ft2ollama chat {model} \"……\""},
    "all answers": {"en": "  every answer: ft2ollama loop answers {run}", "zh": "  全部回答：ft2ollama loop answers {run}"},
    "decide": {"en": "  then: ft2ollama loop approve {run}     # or: loop reject", "zh": "  然后：ft2ollama loop approve {run}     # 或 loop reject"},
    "not promoted": {"en": "cycle {run} was not promoted: {why}; its rows wait again", "zh": "周期 {run} 没有上线：{why}；它的数据留待下次"},
    "is it better": {"en": "cycle {run}: is it better?", "zh": "周期 {run}：变好了吗？"},
    "rule": {"en": "rule", "zh": "规则"},
    "found": {"en": "found", "zh": "结果"},
    # --- retrain --dry-run
    "open": {"en": "cycle {run} is open, {state}: retrain goes on with it", "zh": "周期 {run} 未完成（{state}）：retrain 会继续它"},
    "due": {"en": "due: {why}", "zh": "该重训了：{why}"},
    "not due": {"en": "not due: {why}", "zh": "还不用重训：{why}"},
    "rows": {"en": "rows", "zh": "数据行"},
    "kept": {"en": "kept", "zh": "保留"},
    "samples": {"en": "{count} samples to train on", "zh": "训练样本 {count} 条"},
    "for the gate": {"en": "for the gate", "zh": "留给评测"},
    "held out": {"en": "held out", "zh": "不参加训练"},
    "left out": {"en": "left out", "zh": "不用"},
    "gate title": {"en": "what the gate will be able to tell", "zh": "评测能看出什么"},
    "alone": {"en": "enough questions: the gate decides alone", "zh": "题目够多：评测可以自动决定"},
    # --- answers
    "wanted": {"en": "wanted", "zh": "应答"},
    "before": {"en": "old", "zh": "旧"},
    "after": {"en": "new", "zh": "新"},
    "no answers": {"en": "cycle {run} has asked nothing yet", "zh": "周期 {run} 还没有提问"},
    "answers": {"en": "{count} questions of cycle {run}", "zh": "周期 {run} 的 {count} 道题"},
    # --- loop approve, reject
    "approved": {"en": "{run} is approved", "zh": "已批准 {run}"},
    "swaps": {"en": "  ft2ollama retrain CONFIG --resume     # swaps", "zh": "  ft2ollama retrain CONFIG --resume     # 切换上线"},
    "rejected": {"en": "{run} is rejected; its rows wait again", "zh": "已否决 {run}；它的数据留待下次"},
    # --- schedule
    "into table": {"en": "into your table: crontab -e", "zh": "写进您的 crontab：crontab -e"},
    "prompt": {"en": "on the command prompt:", "zh": "在命令提示符下运行："},
    "no ledger": {"en": "FT2OLLAMA_LEDGER is not written down, it may hold a password: set it there", "zh": "FT2OLLAMA_LEDGER 可能含密码，没有写入：请在那里设置"},
    "setx": {"en": "the task does not know {one}: setx {words}", "zh": "计划任务不知道 {one}：setx {words}"},
    "files for": {"en": "files for {folder}; --install writes them", "zh": "这些文件属于 {folder}；加 --install 写入"},
    "wrote": {"en": "wrote {path}", "zh": "已写入 {path}"},
    "enable": {"en": "  systemctl --user daemon-reload && systemctl --user enable --now {unit}.timer", "zh": "  systemctl --user daemon-reload && systemctl --user enable --now {unit}.timer"},
    "linger": {"en": "  loginctl enable-linger     # so that it runs while you are not logged in", "zh": "  loginctl enable-linger     # 未登录时也运行"},
    # --- collect
    "nothing yet": {"en": "nothing yet: ft2ollama collect serve --consent all, or collect import FILE", "zh": "还没有数据：ft2ollama collect serve --consent all，或 collect import 文件"},
    "ledger": {"en": "ledger: {name}", "zh": "账本：{name}"},
    "source": {"en": "source", "zh": "来源"},
    "complete": {"en": "complete", "zh": "完整"},
    "incomplete": {"en": "incomplete", "zh": "不完整"},
    "background": {"en": "background", "zh": "后台任务"},
    "erased": {"en": "erased", "zh": "已删除"},
    "feedback": {"en": "feedback: {told}", "zh": "反馈：{told}"},
    "none": {"en": "none", "zh": "无"},
    "waiting": {"en": "; {count} wait for their answer", "zh": "；{count} 条还没找到对应的回答"},
    "rejected rows": {"en": "rejected on import: {count}", "zh": "导入时拒收：{count}"},
    "most": {"en": "most {count} a day", "zh": "单日最多 {count}"},
    "spool": {"en": "{count} bytes wait in the spool: {path}; a proxy writes them", "zh": "暂存文件里有 {count} 字节：{path}；代理会写入账本"},
    "unwanted": {"en": "records that no ledger takes: {path}", "zh": "账本不接受的记录：{path}"},
    "empty file": {"en": "no row of the ledger is wanted; the file is empty: ft2ollama collect status", "zh": "账本中没有符合条件的数据，文件是空的：ft2ollama collect status"},
    "exported": {"en": "{count} exchanges as {form}", "zh": "已导出 {count} 条（{form}）"},
    "drafted": {"en": "{count} questions drafted from what people wrote, corrected or liked", "zh": "已从人工撰写、改正或点赞的回答起草 {count} 道题"},
    "no fact": {"en": "{count} left out: a long answer without a number gives no fact to expect", "zh": "略去 {count} 条：回答较长又没有数字，定不出应含的内容"},
    "untaught": {"en": "a question that stands here word by word is not trained on: ask it in other words, and mend what is expected", "zh": "与这里一字不差的问题不会参加训练：请换一种问法，并核对应含的内容"},
    "use draft": {"en": "  then in the config of retrain: sets: {{golden: {path}}}", "zh": "  然后写进 retrain 的配置：sets: {{golden: {path}}}"},
    "no such rows": {"en": "nothing in the ledger is like that", "zh": "账本里没有符合条件的数据"},
    "and more": {"en": "  and {count} more", "zh": "  另有 {count} 条"},
    "when": {"en": "when", "zh": "时间"},
    "model": {"en": "model", "zh": "模型"},
    "asked": {"en": "question", "zh": "问题"},
    "erase?": {"en": "Erase {count} exchanges? This cannot be undone", "zh": "删除 {count} 条？无法撤销"},
    "in run": {"en": "{count} of them are in run {run} of {line}: {names}", "zh": "其中 {count} 条在 {line} 的 {run} 中：{names}"},
    "unpublished": {"en": "not published, {state}", "zh": "未发布（{state}）"},
    "its data": {"en": "  its data, which may hold the text: {path}", "zh": "  它的数据文件，可能含有这些文字：{path}"},
    "no model": {"en": "no model was trained on them, or judged by them", "zh": "没有模型用它们训练或评测过"},
    "are erased": {"en": "{count} exchanges are erased", "zh": "已删除 {count} 条"},
    # --- collect serve
    "passes": {"en": "{address} passes everything on to {upstream}", "zh": "{address} 把一切转给 {upstream}"},
    "keeps all": {"en": "  questions and answers are kept in {ledger}", "zh": "  问题和回答存入 {ledger}"},
    "keeps header": {"en": "  those with X-F2O-Consent are kept in {ledger}", "zh": "  带 X-F2O-Consent 的请求存入 {ledger}"},
    "keeps none": {"en": "  nothing is kept (--consent none)", "zh": "  什么都不存（--consent none）"},
    "point": {"en": "  point your application at it: OLLAMA_HOST={address}", "zh": "  让您的应用连接它：OLLAMA_HOST={address}"},
    "everybody": {"en": "everybody who reaches this machine can use the model and is recorded: --tokens FILE, or --host 127.0.0.1", "zh": "能访问本机的人都能使用模型，并会被记录：请用 --tokens 文件，或 --host 127.0.0.1"},
    "fast": {"en": "--fast: a crash may lose the last exchanges", "zh": "--fast：崩溃时可能丢失最后几条"},
    "ctrl-c": {"en": "  Ctrl-C ends it", "zh": "  按 Ctrl-C 结束"},
    "ended": {"en": "ended: {counts}", "zh": "已结束：{counts}"},
    "ledger away": {"en": "{what}; records go to the spool until it is back", "zh": "{what}；恢复之前记录写入暂存文件"},
    "ledger failed": {"en": "the ledger failed, records go to the spool: {problem}", "zh": "账本出错，记录写入暂存文件：{problem}"},
    "ledger back": {"en": "the ledger is back", "zh": "账本已恢复"},
}  # fmt: skip


def lang_option(command: _Command) -> _Command:
    """`--lang en|zh`; default by $FT2OLLAMA_LANG, else the locale."""
    option = click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the texts.")
    return option(command)


def word(name: str, language: Language, /, **values: Any) -> str:
    """A text of the table."""
    return _WORDS[name][language].format(**values)
