"""What lands on the disk, from the download to Ollama's copy.

In: a `Job`, the export's type and what is already there. Out: terms in bytes. The size of a GGUF
file comes from the converter's own plan of types, tensor by tensor.
"""

from __future__ import annotations

from ft2ollama.estimate.job import Job
from ft2ollama.estimate.shape import Shape

SMALL = 1_000_000_000  # weights: the export's own border between Q8_0 and Q4_K_M (quant_choice.py)
_TOKENIZER = 8_000_000  # bytes of vocabulary and metadata in a GGUF file


def choose_type(wanted: str, shape: Shape) -> str:
    """The GGUF type `auto` will come to: nearly exact for a small model, Q4_K_M for a large one."""
    if wanted != "auto":
        return wanted
    fits = shape.hidden % 256 == 0 and shape.ffn % 256 == 0
    return "Q4_K_M" if shape.weights >= SMALL and fits else "Q8_0"


def gguf_bytes(shape: Shape, kind: str) -> float:
    """Bytes of the model as a GGUF file."""
    from converters.quants.fallbacks import bits_per_weight
    from converters.quants.mix import ModelFacts, plan

    shapes = _tensors(shape)
    arch = "llama" if shape.experts == 1 else "qwen3moe"
    facts = ModelFacts(
        arch, shape.layers, shape.heads, shape.kv_heads, 0 if shape.experts == 1 else shape.experts
    )
    bits = bits_per_weight(plan(kind, shapes, facts), shapes)
    return shape.weights * bits / 8 + _TOKENIZER


def _tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """GGUF names and shapes [n_out, n_in] of a decoder of this size."""
    names = {
        "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
        "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
    }  # fmt: skip
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (shape.vocab, shape.hidden)}
    if not shape.tied:
        found["output.weight"] = (shape.vocab, shape.hidden)
    for layer in range(shape.layers):
        for name, n_in, n_out, copies in shape.linears:
            experts = (copies,) if copies > 1 else ()
            kind = names[name] + ("_exps" if experts else "")
            found[f"blk.{layer}.{kind}.weight"] = (*experts, n_out, n_in)
    return found


def disk_terms(
    job: Job, kind: str, *, save_steps: int, keep: int | None, unpacked: float = 0.0
) -> tuple[tuple[str, str, float], ...]:
    """(what, in words, bytes). kind: GGUF type, or "adapter".  save_steps, keep: of checkpoints.

    unpacked: bytes that a GGUF base takes as safetensors in the cache.
    """
    base = job.stored or 2.0 * job.shape.weights
    adapter = 4.0 * job.trained if job.method == "lora" else 2.0 * job.shape.weights
    count = min(keep or 10**9, max(1, job.steps // save_steps)) if save_steps else 1
    state = adapter + 8.0 * job.trained
    gguf = 2.0 * job.trained if kind == "adapter" else gguf_bytes(job.shape, kind)
    often = f"every {save_steps} steps" if save_steps else "one, while it runs or after Ctrl-C"
    return (
        ("base model", "as it is stored" if job.stored else "2 bytes a weight, to download", base),
        *((("base, unpacked", "float32 in the cache, once", unpacked),) if unpacked else ()),
        (f"checkpoints ({count})", f"{often}: weights that learn and Adam's state", count * state),
        ("adapter" if job.method == "lora" else "tuned model", "what is learned", adapter),
        ("GGUF file", kind, gguf),
        ("Ollama's copy", "the same bytes in its store", gguf),
    )
