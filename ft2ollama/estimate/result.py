"""A job on a machine -> memory by terms, disk and minutes.

In: a `Job` and a `Place` (a CPU or a card). Out: an `Estimate`; `as_dict` is what a run records, to
be compared with what was measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ft2ollama.estimate import memory
from ft2ollama.estimate.cards import Card
from ft2ollama.estimate.clock import REFERENCE, cpu_seconds, gpu_seconds, token_flops
from ft2ollama.estimate.disk import choose_type, disk_terms
from ft2ollama.estimate.job import Job
from ft2ollama.machine import Speed

if TYPE_CHECKING:
    from ft2ollama.config import Config

TOLERANCE = 0.1  # what the formula misses by, more or less
Fits = Literal["yes", "tight", "no"]

# Seconds per billion weights, and bytes/s; benchmarks/RESULTS.md has the runs.
_EXPORT = {"plain": 6.0, "blocks": 14.0}
_EXPORT_START = 1.0
_START = 8.0  # importing torch, transformers and peft, and what is shown of the data
_LOADING_BYTES = 5e8
_PUBLISH_BYTES = 2.5e8
_REPLY_TOKENS = 16  # mean length of a reference reply, at most 48
_READING_BYTES = 12e9  # weights a CPU reads per second while it writes a reply


@dataclass(frozen=True)
class Place:
    """Where it runs.

    name: for people.  capacity: bytes that are there, free: bytes that are free.  card: None on a
    CPU, which then has `speed` (of all its threads) and perhaps native bfloat16.
    """

    name: str
    capacity: float
    free: float
    card: Card | None = None
    speed: Speed = REFERENCE
    native_bf16: bool = True

    @property
    def device(self) -> str:
        """cpu or cuda."""
        return "cpu" if self.card is None else "cuda"


@dataclass(frozen=True)
class Term:
    """One line of the sum. words: its formula, in words.  gb: 10^9 bytes."""

    name: str
    words: str
    gb: float


@dataclass(frozen=True)
class Stage:
    """minutes: 0 when they are not known."""

    name: str
    words: str
    minutes: float


@dataclass(frozen=True)
class Estimate:
    """peak_gb: the largest of the moments in `phases`.  terms: those of the training steps.

    token_mb: what each further token of a micro-batch adds.  tokens_per_s: while training.
    ram_gb: main memory, which is the same as the peak on a CPU.  minutes: of the training itself.
    """

    place: str
    device: str
    capacity_gb: float
    free_gb: float
    terms: tuple[Term, ...]
    phases: tuple[Term, ...]
    peak_gb: float
    ram_gb: float
    token_mb: float
    disk: tuple[Term, ...]
    stages: tuple[Stage, ...]
    minutes: float
    tokens_per_s: float
    steps: int
    fits: Fits

    @property
    def disk_gb(self) -> float:
        """All of the disk terms."""
        return sum(term.gb for term in self.disk)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for run.json and --json, rounded to what can be known."""
        return {**rounded(asdict(self)), "disk_gb": round(self.disk_gb, 2)}


def rounded(value: Any) -> Any:
    """Floats to three digits after the point, at any depth."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def estimate(
    job: Job,
    place: Place,
    *,
    kind: str,
    save_steps: int = 0,
    keep: int | None = None,
    unpacked: float = 0.0,
) -> Estimate:
    """The whole bill. kind: GGUF type of the export."""
    job = settled(job, place)
    terms = _terms(job, place)
    phases = _phases(job, place, sum(term.gb for term in terms))
    peak = max(phase.gb for phase in phases)
    rate = 1 / seconds_per_token(job, place)
    disk = disk_terms(job, kind, save_steps=save_steps, keep=keep, unpacked=unpacked)
    stages = _stages(job, place, rate, kind, disk[-1][2])
    return Estimate(
        place=place.name,
        device=place.device,
        capacity_gb=place.capacity / 1e9,
        free_gb=place.free / 1e9,
        terms=terms,
        phases=phases,
        peak_gb=peak,
        ram_gb=peak if place.card is None else _host_gb(job),
        token_mb=_per_token(job, place) / 1e6,
        disk=tuple(Term(name, words, size / 1e9) for name, words, size in disk),
        stages=stages,
        minutes=stages[1].minutes,
        tokens_per_s=rate,
        steps=job.steps,
        fits=fits(peak, place),
    )


def bill(config: Config, job: Job, place: Place, *, unpacked: float = 0.0) -> Estimate:
    """The estimate of a job with its config's export and proof. unpacked: see disk_terms."""
    adapter = config.export_as == "adapter"
    return estimate(
        job,
        place,
        kind="adapter" if adapter else choose_type(config.export_quant, job.shape),
        save_steps=config.save_steps,
        keep=config.save_total_limit,
        unpacked=unpacked,
    )


def peak_gb(job: Job, place: Place) -> float:
    """The largest of the moments, in GB."""
    job = settled(job, place)
    training = sum(term.gb for term in _terms(job, place))
    return max(phase.gb for phase in _phases(job, place, training))


def settled(job: Job, place: Place) -> Job:
    """The job with as many layers computed again as do not fit, where that is left to us."""
    if not job.recompute_auto or place.card is None:
        return job
    made = job
    for layers in range(job.shape.layers + 1):
        made = replace(job, recompute=layers / job.shape.layers, recompute_auto=False)
        if fits(sum(term.gb for term in _terms(made, place)), place) == "yes":
            break
    return made


def fits(gb: float, place: Place) -> Fits:
    """no: not even if the estimate is a tenth too high. tight: not if it is a tenth too low."""
    if gb * (1 - TOLERANCE) * 1e9 > place.capacity:
        return "no"
    return "tight" if gb * (1 + TOLERANCE) * 1e9 > place.free else "yes"


def seconds_per_token(job: Job, place: Place) -> float:
    """Of the training, on that place."""
    job = settled(job, place)
    flops = token_flops(job.shape, job.way, job.rows.mean, job.trained, frozen=job.method == "lora")
    if place.card is not None:
        return gpu_seconds(job.shape, job.way, place.card, flops, job.micro_batch)
    return cpu_seconds(
        job.shape, job.way, place.speed, flops, native=place.native_bf16, rank=job.rank
    )


def _per_token(job: Job, place: Place) -> float:
    """Bytes that one more token of a micro-batch takes, allocator included."""
    if place.card is not None:
        held, work = memory.token_bytes(job.shape, job.way, job.rank)
        return memory.FRAGMENTS * (held + work)
    held, logits = memory.cpu_token_bytes(job.shape, job.way, job.rank)
    return memory.CPU_FRAGMENTS[_width(job)] * held + logits


def _width(job: Job) -> int:
    return 4 if job.bits == 32 else 2


def _terms(job: Job, place: Place) -> tuple[Term, ...]:
    shape, way = job.shape, job.way
    linear = way.frozen * memory.linear_bytes(shape.linear_weights, way.bits, double=way.double)
    other = way.frozen * shape.other_weights * way.other_bytes
    bits = {4: "4.13 bits" if way.double else "4.5 bits"}.get(way.bits, f"{way.bits} bits")
    trained = job.trained
    held, work = memory.token_bytes(shape, way, job.rank)
    tokens = job.micro_batch
    logits = memory.logit_bytes(shape, way)
    working = "logits of the learned tokens" if work == logits else "one layer's gradients"
    if place.card is None:
        held, work = memory.cpu_token_bytes(shape, way, job.rank)
        working = "logits of the learned tokens"
        libraries = Term("libraries", "torch, transformers, peft", memory.CPU_LIBRARIES / 1e9)
        waste = (memory.CPU_FRAGMENTS[_width(job)] - 1) * tokens * held
    else:
        libraries = Term("CUDA context", "and cuBLAS's workspace", way.context / 1e9)
        waste = (memory.FRAGMENTS - 1) * tokens * (held + work)
    what = "adapter" if job.method == "lora" else "trained weights"
    width = 2 if job.pure else 4
    kind = "bfloat16" if job.pure else "float32"
    if (copies := way.state_bytes - 4 * width) > 0:
        kind += f", and {copies} bytes each for autocast"
    found = (
        Term("weights", f"{shape.linear_weights / 1e9:.3g} B linear, frozen, at {bits}", linear),
        Term("embeddings", f"{shape.other_weights / 1e9:.3g} B, not quantized", other),
        Term(what, f"{trained / 1e6:,.1f} M, {kind}", (width + max(0, copies)) * trained),
        Term("gradients", "of the same weights", width * trained),
        Term("optimizer", "AdamW: two moments of each", 2 * width * trained),
        Term("dequantized", "two weight matrices while they multiply",
             memory.dequantized(shape, way.bits)),
        Term("activations", _activation_words(job, tokens), held * tokens),
        Term("working set", working, work * tokens),
        Term("allocator", "kept between tensors", waste),
    )  # fmt: skip
    return (*(replace(one, gb=one.gb / 1e9) for one in found if one.gb), libraries)


def _activation_words(job: Job, tokens: int) -> str:
    row = tokens // job.batch_rows
    layers = job.shape.layers
    again = f" ({round(job.recompute * layers)} computed again)" if job.recompute else ""
    return f"{layers} layers{again}, {job.batch_rows} x {row:,} tokens"


def _phases(job: Job, place: Place, training: float) -> tuple[Term, ...]:
    """The moments that can be the peak."""
    stored = job.stored or 2.0 * job.shape.weights
    training_term = Term("training", "a step with the longest conversations", training)
    writing = "base and adapter once more, in float32"
    if place.card is not None:
        writing = "base and adapter once more, in 16 bits"
        gb = (2.0 * job.shape.weights + memory.CONTEXT) / 1e9
        return (training_term, *((Term("reference replies", writing, gb),) if job.replies else ()))
    loading = memory.cpu_loading(job.shape, job.way, stored) / 1e9
    held, _ = memory.cpu_token_bytes(job.shape, job.way, job.rank)
    left = memory.CPU_FRAGMENTS[_width(job)] * held * job.micro_batch
    gb = memory.cpu_replies(job.shape, stored, left) / 1e9
    return (
        training_term,
        Term("reading the base", "its file and the weights side by side", loading),
        *((Term("reference replies", writing, gb),) if job.replies else ()),
    )


def _host_gb(job: Job) -> float:
    """Main memory beside a GPU: the libraries with CUDA's, and one file of the base at a time."""
    stored = job.stored or 2.0 * job.shape.weights
    return 3.0 + min(stored, 5e9) / 1e9


def _stages(job: Job, place: Place, rate: float, kind: str, gguf: float) -> tuple[Stage, ...]:
    billions = job.shape.weights / 1e9
    busy = " (as busy as it is now)" if place.card is None else ""
    tokens = f"{job.tokens:,.0f} tokens at about {rate:,.0f} tokens/s{busy}"
    training = job.tokens / rate / 60
    if not job.rows.known and job.max_steps <= 0:
        tokens = f"no data: {1e6 / rate / 60:,.0f} minutes per million tokens"
    stored = job.stored or 2.0 * job.shape.weights
    loading = _START + stored / _LOADING_BYTES
    found = [
        Stage("loading", "libraries and base", loading / 60),
        Stage("training", f"{job.steps:,} steps, {tokens}" if job.steps else tokens, training),
    ]
    if job.replies:
        reading = _READING_BYTES if place.card is None else place.card.bandwidth
        each = _REPLY_TOKENS * (4.0 * job.shape.weights / reading + 0.03)
        found.append(
            Stage("reference replies", f"{job.replies} in float32", job.replies * each / 60)
        )
    if kind != "adapter":
        slow = _EXPORT["plain" if kind in ("F16", "BF16", "F32", "Q8_0") else "blocks"]
        seconds = _EXPORT_START + slow * billions
    else:
        seconds = 1.0
    found.append(Stage("export", f"to {kind}, {gguf / 1e9:.2f} GB", seconds / 60))
    found.append(
        Stage("publish", "copy into Ollama, and its proof", (10 + gguf / _PUBLISH_BYTES) / 60)
    )
    return tuple(found)
