"""What to change so that it fits, or what would still fit: typed as key=value, with the price.

In: a `Job`, the `Place` and the keys this version's config has. Out: `Suggestion`s, the cheapest
first. Only settings that exist are suggested.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from ft2ollama.estimate.job import Job
from ft2ollama.estimate.result import Fits, Place, fits, peak_gb, seconds_per_token

_MOST = 5
_CUTOFFS = (4096, 2048, 1024, 512, 256)


@dataclass(frozen=True)
class Suggestion:
    """settings: key=value words.  price: what it costs.  times: duration against the job's own."""

    settings: str
    gb: float
    times: float
    fits: Fits
    price: str


@dataclass(frozen=True)
class Compared:
    """One method on this machine, everything else the same."""

    name: str
    gb: float
    times: float
    fits: Fits


Change = tuple[str, Job, str]  # key=value words, the job with them, the price

_SAME = "the same learning"
_NF4 = (
    "4-bit base: train and serve on the same bits, or lose up to 0.15 nat when it is merged into "
    "16-bit weights"
)

_QUIET = "proof_replies=0"
_NO_PROOF = "publish has no replies of the trainer to compare Ollama's with"
_BF16 = "rounds the frozen weights; slow where the CPU has no bfloat16"
_LORA = "an adapter instead of all weights"


def compare(job: Job, place: Place) -> tuple[Compared, ...]:
    """Memory and time of every method for this job."""
    job = replace(job, replies=0)  # they are the same for all
    own = seconds_per_token(job, place)
    others = (
        *(replace(job, method="lora", bits=bits) for bits in (4, 8, 16, 32)),
        replace(job, method="freeze", bits=max(16, job.bits)),
        replace(job, method="full", bits=max(16, job.bits)),
    )
    found = []
    for other in others:
        gb = peak_gb(other, place)
        times = seconds_per_token(other, place) / own
        found.append(Compared(other.name, gb, times, fits(gb, place)))
    return tuple(found)


def suggest(job: Job, place: Place, keys: Collection[str]) -> tuple[Suggestion, ...]:
    """What makes it fit, the cheapest first; if it fits already, a larger batch where that pays.

    keys: of this version's config.
    """
    state = fits(peak_gb(job, place), place)
    families = [_larger(job)] if state == "yes" else _families(job, place, keys)
    found = []
    for family in families:
        tried = [_weighed(job, place, *one) for one in family]
        good = [one for one in tried if one.fits == "yes"]
        if state == "no":
            good = good or [one for one in tried if one.fits == "tight"]
        if state == "yes":
            good = [one for one in good if one.times < 0.97]
        found += good[:1]
    return tuple(sorted(found, key=lambda one: one.fits != "yes")[:_MOST])


def _families(job: Job, place: Place, keys: Collection[str]) -> list[Iterator[Change]]:
    """The changes; first of all no float32 replies where it is they that do not fit."""
    steps = peak_gb(replace(job, replies=0), place)
    if fits(peak_gb(job, place), place) == fits(steps, place):
        return _smaller(job, keys)
    quiet = replace(job, replies=0)
    return [
        iter([(_QUIET, quiet, _NO_PROOF)]),
        *(_with(_QUIET, family) for family in _smaller(quiet, keys)),
    ]


def _with(words: str, family: Iterator[Change]) -> Iterator[Change]:
    for more, job, price in family:
        yield f"{words} {more}", job, price


def _weighed(job: Job, place: Place, words: str, other: Job, price: str) -> Suggestion:
    gb = peak_gb(other, place)
    times = seconds_per_token(other, place) / seconds_per_token(job, place)
    return Suggestion(words, gb, times, fits(gb, place), price)


def _smaller(job: Job, keys: Collection[str]) -> list[Iterator[Change]]:
    """Families of changes; of each the first that fits is the mildest."""
    found = [_batches(job, "", _SAME)]
    if job.bits == 32 and job.device == "cpu":
        found.append(iter([("compute_dtype=bfloat16", replace(job, bits=16), _BF16)]))
    if job.method == "full":
        other = replace(job, method="lora")
        found.append(_batches(other, "finetuning_type=lora", _LORA))
    if "quantization_bit" in keys and job.method == "lora" and job.bits > 8:
        other = replace(job, bits=4)
        found.append(_batches(other, "quantization_bit=4", _NF4))
        found.append(_cuts(replace(other, batch=1), "quantization_bit=4 " + _batch_words(other, 1)))
    found.append(_cuts(job, ""))
    if job.batch > 1:
        found.append(_cuts(replace(job, batch=1), _batch_words(job, 1)))
    return found


def _larger(job: Job) -> Iterator[Change]:
    """A larger micro-batch of the same step: fewer passes over the weights."""
    if job.device == "cpu" or job.packed:
        return
    for factor in (8, 4, 2):
        if job.accumulation % factor == 0:
            other = replace(job, batch=job.batch * factor, accumulation=job.accumulation // factor)
            yield _batch_words(job, other.batch), other, _SAME


def _batches(job: Job, before: str, price: str) -> Iterator[Change]:
    """The job itself if `before` changed it, then halved micro-batches of the same step."""
    if before:
        yield before, job, price
    batch = job.batch
    while batch > 1:
        batch = batch // 2 if batch % 2 == 0 else 1
        other = replace(job, batch=batch, accumulation=job.accumulation * job.batch // batch)
        yield f"{before} {_batch_words(job, batch)}".strip(), other, price


def _batch_words(job: Job, batch: int) -> str:
    more = job.accumulation * job.batch // batch
    return f"per_device_train_batch_size={batch} gradient_accumulation_steps={more}"


def _cuts(job: Job, before: str) -> Iterator[Change]:
    """Shorter conversations, the longest first."""
    rows = job.rows
    longest = min(rows.longest, job.cutoff_len)
    for tokens in _CUTOFFS:
        if tokens >= longest:
            continue
        other = replace(job, cutoff_len=tokens, rows=rows.cut(tokens))
        price = f"conversations of more than {tokens:,} tokens are not learned"
        if rows.known:
            lost = rows.longer_than(tokens)
            price = f"{lost:,} of {rows.count:,} conversations are longer and would be left out"
        yield f"{before} cutoff_len={tokens}".strip(), other, price
