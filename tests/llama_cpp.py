"""llama.cpp in this process (xllamacpp) as a judge of GGUF files: next-token distributions."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class LlamaCpp:
    """A model GGUF, perhaps with an adapter GGUF on it; one thread, nothing printed.

    exact: a float32 KV cache and no flash attention; the default float16 cache alone costs 4e-3 in
    log-probability.
    """

    def __init__(
        self, model: Path, adapter: Path | None = None, *, n_ctx: int = 512, exact: bool = False
    ) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.verbosity = -1
        params.warmup = False
        params.fit_params = False
        params.cpuparams.n_threads = 1
        params.n_ctx = n_ctx
        params.n_parallel = 1
        if exact:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.flash_attn_type = off
        if adapter:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        self._server = xllamacpp.Server(params)
        # Destroyed before its loop has begun, a server waits for that loop for ever.
        self._server.handle_completions({"prompt": [0], "n_predict": 1, "cache_prompt": False})

    def logprobs(self, ids: Sequence[int], n_vocab: int) -> np.ndarray:
        """Log-probabilities of the token after `ids`: [n_vocab], of the raw logits."""
        answer = self._server.handle_completions(
            {
                "prompt": list(ids),
                "n_predict": 1,
                "n_probs": n_vocab,
                "temperature": 0,
                "cache_prompt": False,
                # An end token would leave no entry; another is forced, the probabilities stay raw.
                "logit_bias": [[100, 1e4]],
            }
        )
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        out = np.full(n_vocab, np.nan)
        for entry in top:
            out[entry["id"]] = entry["logprob"]
        assert not np.isnan(out).any()
        # They come as single floats in JSON; their sum is off by some 1e-5, more than F16's error.
        return np.asarray(out - np.logaddexp.reduce(out))

    def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Token ids of a text; special tokens in it are recognised."""
        body = {"content": text, "add_special": add_special, "parse_special": True}
        request = urllib.request.Request(
            self._server.listening_address + "/tokenize",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            ids: list[int] = json.load(answer)["tokens"]
        return ids


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler divergence in nats of log-probabilities `q` from `p`: [n] each."""
    return float(np.sum(np.exp(p) * (p - q)))
