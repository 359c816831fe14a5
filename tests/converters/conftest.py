"""Tiny models with the right family's tokenizer, PEFT adapters on them, and two judges.

The judges are transformers (+ peft) on the folder and llama.cpp (through xllamacpp) on the file.
Weights have std 0.1 and norms differ from 1, so that a wrong permutation, scale or norm moves the
log-probabilities by far more than rounding does.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import LlamaCpp
from tiny_settings import SMALL

CORPUS = [
    "The quick brown fox jumps over the lazy dog 1234567890 times, doesn't it?",
    "Größe, naïve café, 你好，世界！ こんにちは 👋🏽 1+1=2\n\tdef f(x):\n        return x ** 2\n\n",
    "<html> &amp; \\n C:\\path 3.14159e-10 ... !!! ??? I'LL WE'VE they're we'd",
] * 4
PROMPTS = (  # ids below the tiny vocabulary; lengths 1, 7 and 40
    [5],
    [11, 200, 3, 77, 150, 42, 99],
    [int(i) for i in np.random.default_rng(3).integers(0, 300, 40)],
)


@contextmanager
def quiet() -> Iterator[None]:
    """torch and peft warn about themselves; the suite turns warnings into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def train_tokenizer(folder: Path, *, size: int = 320, digits: bool = True) -> None:
    """A byte-level BPE tokenizer with SmolLM's structure, saved by transformers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if digits:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    fast.save_pretrained(folder)


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_base(tie_word_embeddings=True, ...) -> folder of a tiny random Llama, cached."""
    made: dict[str, Path] = {}

    def make(**overrides: Any) -> Path:
        key = json.dumps(overrides, sort_keys=True)
        if key not in made:
            made[key] = _tiny_llama(tmp_path_factory.mktemp("base"), overrides)
        return made[key]

    return make


def _tiny_llama(folder: Path, overrides: dict[str, Any]) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {**SMALL, "initializer_range": 0.1}
    dtype = overrides.pop("save_dtype", "float32")
    settings |= overrides
    torch.manual_seed(0)
    with quiet():
        model = LlamaForCausalLM(LlamaConfig(**settings))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" in name:
                    weight.uniform_(0.5, 1.5)
        model.to(getattr(torch, dtype)).save_pretrained(folder)
    train_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def base(make_base: Callable[..., Path]) -> Path:
    """The plain tiny model: untied, grouped queries, float32."""
    return make_base()


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_adapter(base, r=4, use_rslora=True, ...) -> PEFT folder with random A and B."""

    def make(base: Path, save: dict[str, Any] | None = None, **overrides: Any) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        folder = tmp_path_factory.mktemp("adapter")
        settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
            torch.manual_seed(1)
            tuned = get_peft_model(model, LoraConfig(**(settings | overrides)))
            with torch.no_grad():
                for name, weight in tuned.named_parameters():
                    if "lora_" in name:
                        weight.normal_(0, 0.1)
            tuned.save_pretrained(folder, **(save or {}))
        return folder

    return make


def load_tuned(base: Path, adapter: Path | None = None) -> Any:
    """The transformers model, with the adapter by peft if there is one; float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if adapter:
            model = PeftModel.from_pretrained(model, adapter)
    return model.eval()


def hf_logprobs(base: Path, adapter: Path | None = None) -> np.ndarray:
    """Log-probabilities after each of PROMPTS by transformers and peft: [prompts, vocabulary]."""
    return model_logprobs(load_tuned(base, adapter))


def model_logprobs(model: Any) -> np.ndarray:
    """The same for a loaded model."""
    import torch

    with quiet(), torch.no_grad():
        rows = [model(torch.tensor([ids])).logits[0, -1].log_softmax(-1) for ids in PROMPTS]
        return torch.stack(rows).double().numpy()


class Runtime(LlamaCpp):
    """llama.cpp on a GGUF file, as exact as it can be, asked for all of PROMPTS."""

    def __init__(self, model: Path, adapter: Path | None = None) -> None:
        super().__init__(model, adapter, n_ctx=256, exact=True)

    def after_prompts(self, n_vocab: int = 320) -> np.ndarray:
        """Log-probabilities after each of PROMPTS: [prompts, n_vocab]."""
        return np.stack([self.logprobs(ids, n_vocab) for ids in PROMPTS])


@pytest.fixture(scope="session")
def judge() -> Any:
    """judge.hf(base, adapter), judge.tuned(base, adapter), judge.runtime(model, adapter)."""
    pytest.importorskip("xllamacpp")

    class Judge:
        hf = staticmethod(hf_logprobs)
        tuned = staticmethod(load_tuned)
        runtime = Runtime
        logprobs = staticmethod(model_logprobs)
        quiet = staticmethod(quiet)

    return Judge
