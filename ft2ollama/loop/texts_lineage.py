"""What `ft2ollama lineage` says, in English and Chinese: names of facts, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping

from ft2ollama.language import Language

WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "model": "model", "version": "version", "cycle": "cycle", "run": "run", "base": "base",
        "dataset": "data set", "rows": "rows", "file": "file", "statement": "statement",
        "digest": "digest {digest} at {host}",
        "of": "of {line}",
        "from": "{count} from {source}",
        "same": "sha256 {digest}, as it was exported",
        "other": "sha256 {digest}; {exported} was exported: the server or somebody rewrote it",
        "unknown": "sha256 not known",
        "in-toto": "in-toto, SLSA provenance v1; unsigned",
        "no-statement": "none: written when a cycle is promoted",
        "not-here": "only the ledger that made it knows them",
        "made-from": "{name} is not the version itself: it was made from {tag}",
        "stranger": "the ledger of this machine has no such cycle; this is what the model says of itself",
        "no-cycle": "no cycle made it: it was published from a run",
        "disagree": "its GGUF and its LICENSE do not agree on {names}: one of them was replaced",
        "silent": "{name} does not say where it is from",
        "silent-why": "neither its GGUF nor its LICENSE has a mark of ft2ollama (digest {digest})",
        "no-model": "Ollama at {host} has no {name}",
        "row": "row {rid}",
        "unseen": "the row waits: no cycle has judged it",
        "no-row": "there is no row {rid}",
        "no-row-why": "ids are shown by collect review, and by lineage NAME --rows",
        "verdict": "verdict", "rule": "rule", "samples": "samples", "state": "state",
        "source": "source", "role": "role",
    },
    "zh": {
        "model": "模型", "version": "版本", "cycle": "周期", "run": "训练", "base": "基座",
        "dataset": "数据集", "rows": "数据", "file": "文件", "statement": "声明",
        "digest": "摘要 {digest}，位于 {host}",
        "of": "属于 {line}",
        "from": "{source} {count} 行",
        "same": "sha256 {digest}，与导出时一致",
        "other": "sha256 {digest}；导出时是 {exported}：服务器或别人改写过",
        "unknown": "sha256 未知",
        "in-toto": "in-toto，SLSA provenance v1；未签名",
        "no-statement": "无：周期上线时才写入",
        "not-here": "只有产生它的账本知道",
        "made-from": "{name} 不是这个版本本身，而是由 {tag} 改成的",
        "stranger": "本机账本没有这个周期；以下是模型自己携带的信息",
        "no-cycle": "不是由周期产生的：直接从一次训练发布",
        "disagree": "GGUF 与 LICENSE 的 {names} 不一致：其中一个被换过",
        "silent": "{name} 没有说明来历",
        "silent-why": "GGUF 和 LICENSE 里都没有 ft2ollama 的标记（摘要 {digest}）",
        "no-model": "{host} 的 Ollama 没有 {name}",
        "row": "数据 {rid}",
        "unseen": "这行数据还在等待：没有周期处理过它",
        "no-row": "没有这行数据：{rid}",
        "no-row-why": "collect review 和 lineage NAME --rows 会显示编号",
        "verdict": "结论", "rule": "规则", "samples": "样本", "state": "状态",
        "source": "来源", "role": "用途",
    },
}  # fmt: skip
