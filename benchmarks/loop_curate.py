"""How long curation takes: rows of a RAG chat -> verdicts and a data set, on one core.

    python benchmarks/loop_curate.py [ROWS] [--alike]

Chinese questions with four contexts of about 500 characters, a tenth liked, some disliked, a sixth
corrected, with phone numbers and invented figures among them. --alike: all questions are of one
form, which is the worst case for finding groups.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from ft2ollama.loop.curate.dataset import Lineage, write_dataset
from ft2ollama.loop.curate.pipeline import curate
from ft2ollama.loop.curate.rules import Needs
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.curate.store import read_inputs
from ft2ollama.loop.ledger import Ledger, add_exchanges, add_feedback
from ft2ollama.loop.records import Exchange, Feedback

_RNG = random.Random(3)
_FORMS = ("请问{}的{}是什么？", "{}怎么{}？", "如何处理{}中的{}问题？", "{}和{}有什么区别？",
          "我想了解{}的{}流程", "{}支持{}吗？")  # fmt: skip


def words(count: int) -> str:
    """Chinese letters by chance."""
    return "".join(chr(0x4E00 + _RNG.randrange(3000)) for _ in range(count))


_TOPICS = [words(_RNG.randint(4, 9)) for _ in range(2000)]
_DOCS = [f"{words(300)}{topic}为{_RNG.randint(1, 999)}元，{words(150)}" for topic in _TOPICS]


def row(number: int, forms: tuple[str, ...]) -> Exchange:
    """A captured exchange."""
    topic = _RNG.randrange(len(_TOPICS))
    question = _RNG.choice(forms).format(_TOPICS[topic], words(6))
    if _RNG.random() < 0.05:
        question += f"我的电话是 138{_RNG.randrange(10**8):08d}"
    contexts = [_DOCS[topic], *_RNG.choices(_DOCS, k=3)]
    start = _RNG.randrange(60)
    answer = f"根据资料，{_DOCS[topic][start : start + _RNG.randint(80, 300)]}"
    if _RNG.random() < 0.05:
        answer += f"共{_RNG.randint(1000, 9999)}件"
    said = "\n".join(f'<source id="{n}">{text}</source>' for n, text in enumerate(contexts, 1))
    prompt = f"### Task:\nRespond to the user query.\n<context>\n{said}\n</context>\n\n{question}"
    return Exchange([{"role": "user", "content": prompt}], question, answer, ts_ms=number,
                    rid=f"{number:032x}", done_reason="stop", http_status=200,
                    contexts=[{"text": text} for text in contexts])  # fmt: skip


def opinion(one: Exchange) -> list[Feedback]:
    """What somebody said of it, if anybody did."""
    chance = _RNG.random()
    if chance < 0.13:
        return [Feedback("thumb", 1, "t", rid=one.rid, value=1 if chance < 0.1 else -1)]
    text = f"{one.answer[:60]}，改为{_RNG.randint(1, 99)}天。"
    return [Feedback("correction", 1, "t", rid=one.rid, text=text)] if chance < 0.3 else []


def main() -> None:
    """Fill a ledger, curate it, print seconds of one core."""
    counts = [int(word) for word in sys.argv[1:] if word.isdigit()]
    count = counts[0] if counts else 10_000
    forms = ("请问关于我们公司所经营的产品{}的{}是什么？",) if "--alike" in sys.argv else _FORMS
    folder = Path(tempfile.mkdtemp())
    with Ledger.open(folder / "ledger.db") as ledger:
        rows = [row(number, forms) for number in range(count)]
        for start in range(0, count, 500):
            with ledger.begin() as connection:
                part = rows[start : start + 500]
                add_exchanges(connection, ("proxy", "x"), part)
                add_feedback(connection, [said for one in part for said in opinion(one)])
        began = time.process_time()
        with ledger.engine.connect() as connection:
            needs = Needs(CurateConfig(grounded_cap=0.9))
            inputs = read_inputs(connection, "shop", needs, 7)
        read = time.process_time()
        found = curate(inputs)
        judged = time.process_time()
        write_dataset(folder / "data", found, inputs, Lineage())
        done = time.process_time()
    print(f"{count} rows: {done - began:.1f} s of one core (read {read - began:.1f}, "
          f"curate {judged - read:.1f}, write {done - judged:.1f})")  # fmt: skip
    print(found.counts, f"{len(found.train)} samples")


if __name__ == "__main__":
    main()
