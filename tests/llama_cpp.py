"""llama.cpp in this process (xllamacpp) as a judge of GGUF files: next-token distributions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


class LlamaCpp:
    """A model GGUF, perhaps with an adapter GGUF on it; one thread, nothing printed."""

    def __init__(self, model: Path, adapter: Path | None = None, *, n_ctx: int = 512) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.verbosity = -1
        params.warmup = False
        params.fit_params = False
        params.cpuparams.n_threads = 1
        params.n_ctx = n_ctx
        params.n_parallel = 1
        if adapter:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        self._server = xllamacpp.Server(params)

    def logprobs(self, ids: Sequence[int], n_vocab: int) -> np.ndarray:
        """Log-probabilities of the token after `ids`: [n_vocab], of the raw logits."""
        answer = self._server.handle_completions(
            {
                "prompt": list(ids),
                "n_predict": 1,
                "n_probs": n_vocab,
                "temperature": 0,
                # An end token would leave no entry; another is forced, the probabilities stay raw.
                "logit_bias": [[100, 1e4]],
            }
        )
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        out = np.full(n_vocab, np.nan)
        for entry in top:
            out[entry["id"]] = entry["logprob"]
        assert not np.isnan(out).any()
        return out


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler divergence in nats of log-probabilities `q` from `p`: [n] each."""
    return float(np.sum(np.exp(p) * (p - q)))
