"""Where in the training answers does the trained model write the right word and the base another?

In: base and trained model, samples.  Out: effect.json for the effect proof: up to `_PLACES` places,
those with the clearest lead on both sides, so that rounding does not turn them, and how far the
training moved the model at all. One pass of each model over a few samples; no text is generated.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ft2ollama.data.samples import IGNORED, Sample
from ft2ollama.data.tokenizer import Tokenizer

_ANSWERS, _PLACES, _PER_ANSWER = 8, 8, 2
_LONGEST = 512  # tokens of a sample


@dataclass(frozen=True)
class Scored:
    """A model on the n learned tokens of a sample, all [n]; logarithms of probabilities.

    best: the token it would write.  first, second: of the likeliest and the next.  right: of the
    token that stands there.
    """

    best: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    right: torch.Tensor


def choose_samples(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """A few training samples that are cheap to read."""
    short = [one for one in samples if len(one.ids) <= _LONGEST]
    return random.Random(seed).sample(short, min(_ANSWERS, len(short)))


def score(model: Any, samples: Sequence[Sample]) -> list[Scored]:
    """The model's choices at the learned tokens of every sample."""
    return [_score(model, sample) for sample in samples]


def _score(model: Any, sample: Sample) -> Scored:
    ids = torch.tensor([list(sample.ids)], device=model.device)
    learned = torch.tensor(_learned(sample), device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, learned - 1]  # they stand one token before
    logprobs = logits.float().log_softmax(-1)
    top = logprobs.topk(2)
    right = logprobs.gather(1, ids[0, learned][:, None])[:, 0]
    parts = (top.indices[:, 0], top.values[:, 0], top.values[:, 1], right)
    return Scored(*(part.cpu() for part in parts))


def effect(
    samples: Sequence[Sample],
    base: Sequence[Scored],
    trained: Sequence[Scored],
    tokenizer: Tokenizer,
    *,
    bos: str,
) -> dict[str, Any]:
    """What effect.json holds. bos: the token that a server may add by itself."""
    places: list[dict[str, Any]] = []
    for number, (sample, before, after) in enumerate(zip(samples, base, trained, strict=True), 1):
        own = sorted(_places(sample, before, after, tokenizer), key=lambda p: -p["lead"])
        places += [{"place": f"training answer {number}", **one} for one in own[:_PER_ANSWER]]
    places.sort(key=lambda place: -place["lead"])  # by text later: a server keeps beginnings
    changed = sum(int((b.best != a.best).sum()) for b, a in zip(base, trained, strict=True))
    return {
        "answers": len(samples),
        "tokens": sum(len(_learned(sample)) for sample in samples),
        "changed": changed,
        "loss_before": _loss(base),
        "loss_after": _loss(trained),
        "bos": bos,
        "places": sorted(places[:_PLACES], key=lambda place: str(place["text"])),
    }


def _places(
    sample: Sample, before: Scored, after: Scored, tokenizer: Tokenizer
) -> Iterator[dict[str, Any]]:
    ids = list(sample.ids)
    for row, at in enumerate(_learned(sample)):
        taught, base = int(after.best[row]), int(before.best[row])
        if taught != ids[at] or base == taught:
            continue
        words = [_word(tokenizer, token) for token in (taught, base)]
        text = tokenizer.decode(ids[:at], skip_special_tokens=False)
        if not all(words) or words[0] == words[1] or tokenizer.encode(text)[0] != ids[:at]:
            continue
        lead = min(
            float(after.first[row] - after.second[row]),
            float(before.first[row] - before.right[row]),
        )
        yield {
            "text": text,
            "taught": words[0],
            "base": words[1],
            "lead": round(lead, 4),
        }


def _word(tokenizer: Tokenizer, token: int) -> str:
    """The token as text; "" for control tokens, blanks and parts of a character."""
    text = tokenizer.decode([token]).strip()
    return "" if "\ufffd" in text else text


def _learned(sample: Sample) -> list[int]:
    return [at for at, label in enumerate(sample.labels) if at and label != IGNORED]


def _loss(scored: Sequence[Scored]) -> float:
    """Mean loss over all learned tokens."""
    right = torch.cat([one.right for one in scored]) if scored else torch.zeros(0)
    return round(-float(right.mean()), 4) if len(right) else 0.0
