"""The two configs of a new line, with a reason beside every value: loop.yaml and train.yaml.

In: what was collected, a model, a name, a machine.  Out: two files that `retrain` takes as they
are. train.yaml is what `init` proposes for the rows that would be trained on now, without their
data: each cycle brings its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import func, select

from ft2ollama.errors import DataError, UsageError
from ft2ollama.estimate import Place
from ft2ollama.init import Answers, Proposal, config_text, ollama_name, propose
from ft2ollama.language import Language
from ft2ollama.loop import tables as t
from ft2ollama.loop.curate.dataset import Lineage, write_dataset
from ft2ollama.loop.curate.pipeline import curate
from ft2ollama.loop.curate.rules import Needs
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.curate.store import read_inputs
from ft2ollama.loop.ledger import Ledger, now_ms
from ft2ollama.loop.settings import Gate, Trigger

FILES = ("loop.yaml", "train.yaml")
_NO_DATA = ("dataset", "dataset_dir", "val_size", "ollama_name")
_LOOP: Mapping[Language, str] = {
    "en": """\
# {name}: what was collected -> curated, trained, held against the live model, swapped if better.
# Written by ft2ollama init --loop. Every key: docs/loop-config.md
#   ft2ollama retrain {path} --dry-run      # what would be learned, what the gate could tell
#   ft2ollama retrain {path}
#   ft2ollama schedule {path}               # every week

name: {name}                 # what people use: {name}:latest moves when a new model is better
train: train.yaml          # how it is trained; the rows come from the ledger

# sets:                    # questions for the gate; {items} golden ones, and it decides alone
#   golden: golden.jsonl   # not worse here; a draft: ft2ollama collect export golden.jsonl --format golden
#   must_pass: must.jsonl  # none of these may go wrong
#   general: general.jsonl # what it should still know
# trigger:                 # of --if-due
#   rows: {rows}              # new rows that are enough at any time
#   few: {few}                # new rows that are enough after `days` without a promotion
#   days: {days:g}
# curate:
#   pii_keep: [help@example.com]  # public addresses that look like personal data
#   general_data: chat.jsonl      # ordinary conversations against forgetting
# notify:
#   webhook: https://example.com/hook
""",
    "zh": """\
# {name}：收集的数据 -> 筛选、训练、与现用模型比较，更好才切换。
# 由 ft2ollama init --loop 生成。全部键的说明：docs/loop-config.md
#   ft2ollama retrain {path} --dry-run      # 会学什么，评测能看出什么
#   ft2ollama retrain {path}
#   ft2ollama schedule {path}               # 每周一次

name: {name}                 # 用户使用的名称：新模型更好时 {name}:latest 才切换
train: train.yaml          # 怎样训练；数据来自账本

# sets:                    # 评测用的题集；golden 有 {items} 题时自动决定
#   golden: golden.jsonl   # 这里不能变差；起草：ft2ollama collect export golden.jsonl --format golden
#   must_pass: must.jsonl  # 一题都不能错
#   general: general.jsonl # 不该忘记的其他知识
# trigger:                 # --if-due 的条件
#   rows: {rows}              # 新数据达到这么多行就重训
#   few: {few}                # 超过 days 天没有上线时，这么多行就够
#   days: {days:g}
# curate:
#   pii_keep: [help@example.com]  # 看似个人信息、其实公开的地址
#   general_data: chat.jsonl      # 防止遗忘的普通对话
# notify:
#   webhook: https://example.com/hook
""",
}


@dataclass(frozen=True)
class Start:
    """texts: of the files, by name.  proposal: what train.yaml takes.  rows: kept now."""

    texts: Mapping[str, str]
    proposal: Proposal
    rows: int


def most_asked(ledger: Ledger) -> str:
    """The Ollama model that gave most of the recorded answers, as `ollama:NAME`; else ""."""
    one = t.exchange
    count = func.count().label("count")
    wanted = select(one.c.model, count).where(one.c.model.is_not(None), one.c.route.is_not(None))
    with ledger.read() as connection:
        row = connection.execute(wanted.group_by(one.c.model).order_by(count.desc())).first()
    return f"ollama:{row.model}" if row and row.model else ""


def start(ledger: Ledger, answers: Answers, place: Place, folder: Path) -> Start:
    """Both texts, for files in `folder`. answers.data does not count.

    Raises DataError when nothing that was collected can be trained on, UsageError when a file is
    there already, and what `init.propose` raises.
    """
    for name in FILES:
        if (folder / name).exists():
            raise UsageError(
                f"{folder / name} is there already", "nothing was overwritten",
                "ft2ollama init --loop another-folder",
            )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ft2ollama-") as temporary:
        rows = _write_rows(ledger, Path(temporary))
        data = str(Path(temporary) / "train.jsonl")
        proposal = propose(replace(answers, data=data), place)
    loop = _LOOP[answers.language].format(
        name=ollama_name(answers.name), path=folder / "loop.yaml", items=Gate().min_items,
        **Trigger().model_dump(),
    )  # fmt: skip
    train = config_text(folder / "train.yaml", proposal, head="loop head", without=_NO_DATA)
    return Start({"loop.yaml": loop, "train.yaml": train}, proposal, rows)


def _write_rows(ledger: Ledger, folder: Path) -> int:
    now = now_ms()
    needs = Needs(CurateConfig(), now_ms=now)
    with ledger.read() as connection:
        inputs = read_inputs(connection, "", needs, 42)
    found = curate(inputs)
    if not found.train:
        raise DataError(
            "nothing that was collected can be trained on yet",
            f"{len(inputs.new)} rows in {ledger.name}",
            "ft2ollama collect serve, or collect import FILE; collect preview says why rows go",
        )
    write_dataset(folder, found, inputs, Lineage(created_ms=now))
    return int(found.counts["kept"])


def write(start: Start, folder: Path) -> list[Path]:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in start.texts.items():
        with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    return [folder / name for name in start.texts]
