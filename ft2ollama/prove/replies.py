"""The last word: are the served replies what the reference could have said?

In: what is served and the reference.  Out: a `Check`. Asked greedily and without penalties, so that
only template, weights and runtime speak; run when nothing else was found, because any fault above
makes replies differ. The reference judges by its surprise (train/surprise), not by equal texts.
"""

from __future__ import annotations

from importlib.util import find_spec

from ft2ollama import machine
from ft2ollama.ollama_api import quiet_options
from ft2ollama.proof import Tick
from ft2ollama.prove.findings import Check, Finding, checked
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served
from ft2ollama.train.plan import parameters

QUESTIONS = (
    "What is the capital of France?",
    "Name three colours.",
    "你好，请介绍一下你自己。",
)
TOKENS = 40
MOST = 1.5  # nats per token above the reference's own reply; garbage is 4 and more above
_BYTES = 4  # float32


def check_replies(served: Served, reference: Reference, tick: Tick | None = None) -> Check:
    """Unknown where torch or the memory for the reference is missing."""
    if reference.template is None:
        return Check("replies", "unknown", reference.no_template)
    if find_spec("torch") is None:
        return Check("replies", "unknown", "torch is not installed")
    need, free = parameters(reference.base.folder) * _BYTES, machine.memory()[1]
    if need > 0.7 * free:
        return Check(
            "replies", "unknown",
            f"the reference needs {need / 1e9:.0f} GB, {free / 1e9:.0f} GB are free",
        )  # fmt: skip
    return _compare(served, reference, tick)


def _compare(served: Served, reference: Reference, tick: Tick | None) -> Check:
    from ft2ollama.train.surprise import Asked, surprises

    encode = reference.tokenizer.encode
    options = {**quiet_options(served.server.is_local), "num_predict": TOKENS}
    asked, answers = [], []
    for number, question in enumerate(QUESTIONS, 1):
        messages = [{"role": "user", "content": question}]
        system = served.shown.system
        talk = [{"role": "system", "content": system}, *messages] if system else messages
        answer = served.server.chat(served.name, messages, options=options)
        asked.append(Asked(encode(reference.prompt(talk) or "")[0], encode(answer.text)[0]))
        answers.append(answer)
        if tick:
            tick(number, len(QUESTIONS))
    stop = {reference.tokenizer.id(word) for word in reference.ends}
    found = surprises(reference.base.folder, reference.adapter, asked, stop, TOKENS)
    worst = max(range(len(found)), key=lambda i: found[i].given - found[i].own)
    excess = found[worst].given - found[worst].own
    if excess > MOST:
        said = answers[worst].text[:60]
        own = reference.tokenizer.decode(found[worst].ids)[:60]
        fault = Finding(
            "replies",
            "Ollama says what the reference would not say",
            f"to {QUESTIONS[worst]!r}: {said!r}; the reference: {own!r} "
            f"({excess:.1f} nats per token above its own reply)",
            _fix(served, reference),
        )
        return checked("replies", "", [fault])
    mean = sum(one.given - one.own for one in found) / len(found)
    return Check(
        "replies",
        "ok",
        f"{len(found)} greedy replies are what the reference says ({mean:+.2f} nats per token)",
    )


def _fix(served: Served, reference: Reference) -> str:
    if served.adapters and reference.adapter is None:
        return "say which adapter the Modelfile's ADAPTER was trained as: --adapter FOLDER"
    return (
        "prompts and weights are right, so the runtime is not: update Ollama, or export another "
        "type (Q8_0)"
    )
