"""The words around the findings of `ft2ollama data ...`, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from ft2ollama.language import Language

_WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "set": "data set",
        "rows": "rows",
        "usable": "usable",
        "dropped": "dropped",
        "characters": "characters",
        "tokens": "tokens",
        "learned": "learned",
        "longest": "longest",
        "script": "answers in",
        "held": "held out",
        "roles": "per role",
        "template": "template",
        "han": "Chinese",
        "kana": "Japanese",
        "hangul": "Korean",
        "latin": "Latin script",
        "cyrillic": "Cyrillic",
        "arabic": "Arabic",
        "devanagari": "Devanagari",
        "thai": "Thai",
        "none": "no letters",
        "errors": "problems in rows that cannot be trained on: {count}",
        "warnings": "worth a look: {count}",
        "clean": "{count} rows, and nothing to mend",
        "times": "{count} ×",
        "more": "… and {count} more",
        "fix": "→",
        "report": "all of them, with places and fixes: {path}",
        "no_model": "characters are counted; --model NAME or a config counts tokens",
        "strict": "--strict: warnings count as errors",
        "cutoff": "cutoff_len",
        "over": "rows over it",
        "lost": "learned, if cut",
        "dropped_tokens": "learned, if left out",
        "padding": "padding",
        "packing": "packed full",
        "cost": "what cutoff_len would cost",
        "cost_note": "padding: of batches of {batch}, drawn at random. packed full: when rows are "
        "packed into sequences of that length",
        "length": "length in {unit}",
        "counts": "{tokens} tokens, {learned} learned",
        "cut_here": "cutoff_len {cutoff} ends here: {left} tokens, {lost} of them learned, "
        "do not fit",
        "legend": "green and underlined: learned · grey: only read · purple: control token · "
        "<e4 bd>: bytes of a character that the next token completes",
        "legend_plain": "⟦...⟧ is learned · │ stands between tokens · "
        "<e4 bd>: bytes of a character that the next token completes",
        "shortest": "shortest",
        "median": "median",
        "longest_row": "longest",
        "row": "row",
    },
    "zh": {
        "set": "数据集",
        "rows": "行数",
        "usable": "可用",
        "dropped": "不可用",
        "characters": "字符",
        "tokens": "token",
        "learned": "要学的",
        "longest": "最长",
        "script": "回答的文字",
        "held": "验证集",
        "roles": "各角色",
        "template": "模板",
        "han": "中文",
        "kana": "日文",
        "hangul": "韩文",
        "latin": "拉丁字母",
        "cyrillic": "西里尔字母",
        "arabic": "阿拉伯文",
        "devanagari": "天城文",
        "thai": "泰文",
        "none": "无文字",
        "errors": "{count} 个问题使这些行不能用于训练",
        "warnings": "{count} 处值得看一看",
        "clean": "{count} 行，没有需要修改的",
        "times": "{count} 处",
        "more": "……还有 {count} 处",
        "fix": "→",
        "report": "完整清单（位置和改法）：{path}",
        "no_model": "这里按字符计数；给出 --model 名称或配置文件可按 token 计数",
        "strict": "--strict：警告也算错误",
        "cutoff": "cutoff_len",
        "over": "超长的行",
        "lost": "截断会丢的",
        "dropped_tokens": "去掉会丢的",
        "padding": "填充",
        "packing": "打包后占满",
        "cost": "不同 cutoff_len 的代价",
        "cost_note": "丢的是要学的 token。填充：每批 {batch} 行，随机抽取。"
        "打包：把多行装进该长度的序列",
        "length": "长度（{unit}）",
        "counts": "{tokens} 个 token，其中 {learned} 个要学",
        "cut_here": "cutoff_len {cutoff} 到此为止：后面 {left} 个 token（{lost} 个要学）放不下",
        "legend": "绿色下划线：要学的 · 灰色：只读的 · 紫色：控制 token · "
        "<e4 bd>：一个字的部分字节，由下一个 token 补全",
        "legend_plain": "⟦...⟧ 是要学的 · │ 分隔 token · "
        "<e4 bd>：一个字的部分字节，由下一个 token 补全",
        "shortest": "最短",
        "median": "中位",
        "longest_row": "最长",
        "row": "行",
    },
}


def words(language: Language) -> Mapping[str, str]:
    """Every word by its name."""
    return _WORDS[language]
