"""PARAMETER values that make a good model bad.

The bars are far outside what model cards recommend, so that taste is no fault: llama.cpp's
repeat_penalty punishes every token of the last 64, line ends and words like "the" among them, and
from about 1.3 on sentences fall apart; above a temperature of 1.5 rare tokens win too often.
"""

from __future__ import annotations

from collections.abc import Iterator

from ft2ollama.prove.findings import Check, Finding, checked
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served

MOST_PENALTY, LEAST_PENALTY = 1.3, 0.9
MOST_EXTRA_PENALTY = 1.5  # presence_penalty, frequency_penalty
MOST_TEMPERATURE = 1.5
LEAST_CONTEXT = 2048  # Ollama's own default before 0.5.13; 4096 since
LEAST_REPLY = 64
_BELOW = "in the Modelfile below"


def check_parameters(served: Served, reference: Reference) -> Check:
    """Sampling, length of the context, length of a reply."""
    found = [*_penalties(served), *_temperature(served), *_lengths(served, reference)]
    names = ("temperature", "repeat_penalty", "num_ctx", "top_p", "top_k")
    given = [f"{name} {served.shown.parameters[name]}" for name in names
             if name in served.shown.parameters]  # fmt: skip
    return checked("parameters", ", ".join(given) or "none set: the server's defaults", found)


def _penalties(served: Served) -> Iterator[Finding]:
    value = served.parameter("repeat_penalty")
    if value is not None and not LEAST_PENALTY <= value < MOST_PENALTY:
        done = "punishes every word it has used" if value > 1 else "rewards repeating itself"
        yield Finding(
            "penalty",
            f"repeat_penalty {value:g} {done}",
            f"1.0 is none, 1.1 was Ollama's default; {value:g} makes good models write nonsense",
            f"PARAMETER repeat_penalty 1.0     # {_BELOW}",
        )
    for name in ("presence_penalty", "frequency_penalty"):
        extra = served.parameter(name)
        if extra is not None and abs(extra) > MOST_EXTRA_PENALTY:
            yield Finding(
                "penalty",
                f"{name} {extra:g} punishes every word it has used",
                f"0 is none; beyond {MOST_EXTRA_PENALTY:g} sentences fall apart",
                f"PARAMETER {name} 0     # {_BELOW}",
            )


def _temperature(served: Served) -> Iterator[Finding]:
    value = served.parameter("temperature")
    if value is not None and value > MOST_TEMPERATURE:
        yield Finding(
            "temperature",
            f"temperature {value:g} makes the model choose words at random",
            f"Ollama's default is 0.8; above {MOST_TEMPERATURE:g} unlikely words win too often",
            f"PARAMETER temperature 0.7     # {_BELOW}",
        )


def _lengths(served: Served, reference: Reference) -> Iterator[Finding]:
    context, reply = served.parameter("num_ctx"), served.parameter("num_predict")
    least = context_of(reference)
    if context is not None and context < least:
        why = f"it was trained on texts of up to {least} tokens" if reference.cutoff else (
            f"below {least} tokens the beginning of ordinary conversations is cut off"
        )  # fmt: skip
        yield Finding(
            "context-short",
            f"num_ctx {context:.0f} is too short for this model",
            why,
            f"PARAMETER num_ctx {max(least, 4096)}     # {_BELOW}",
        )
    if reply is not None and 0 < reply < LEAST_REPLY:
        yield Finding(
            "reply-cut",
            f"num_predict {reply:.0f} breaks answers off",
            f"an answer has at most {reply:.0f} tokens, about {reply * 0.75:.0f} words",
            f"PARAMETER num_predict -1     # {_BELOW}",
        )


def context_of(reference: Reference) -> int:
    """Tokens that the context must hold at least."""
    return reference.cutoff or LEAST_CONTEXT
