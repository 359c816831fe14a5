"""Every pre-tokenizer we recognise: llama.cpp gives the ids that `tokenizers` gives.

One vocabulary serves all families. It was trained without any pre-tokenizer, so that its merges
cross every boundary and a text that is split at one other place gets other ids.
"""

from __future__ import annotations

import functools
import json
import random

import pytest
from hypothesis import given, settings
from split_patterns import (
    CL100K,
    DEEPSEEK_CODER,
    DEEPSEEK_V3,
    GPT4O,
    LLAMA3,
    QWEN2,
    QWEN35,
    SEED,
    TEKKEN,
)
from vocab_runtime import runtime
from vocab_texts import FRAGMENTS, composed, no_wide_space, plain, texts

from converters.pretokenizer import NFC_NOTE, NOTES
from converters.vocab import read_vocabulary

pytestmark = pytest.mark.oracle

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[gMASK]", "<tool>")
DIGITS = {"type": "Digits", "individual_digits": True}
NFC = {"type": "NFC"}


def byte_level(*, words=False):
    how = {"add_prefix_space": False, "trim_offsets": True, "use_regex": words}
    return {"type": "ByteLevel", **how}


def split(regex, behavior="Isolated", *, invert=False):
    pattern = {"Regex": regex}
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


FAMILIES = {  # case: name, steps, normalizer, whether whole words skip the merges
    "GPT-2": ("gpt-2", [byte_level(words=True)], None, False),
    "OLMo": ("gpt-2", [byte_level(words=True)], NFC, False),
    "SmolLM2": ("smollm", [DIGITS, byte_level(words=True)], None, False),
    "Llama 3": ("llama-bpe", [split(LLAMA3), byte_level()], None, True),
    "Phi-4": ("smaug-bpe", [split(LLAMA3), byte_level()], None, False),
    "tiktoken": (
        "smaug-bpe",
        [split(CL100K, "Removed", invert=True), byte_level()],
        None,
        False,
    ),
    "GLM-4": ("glm4", [split(LLAMA3), byte_level()], None, True),
    "ChatGLM": ("chatglm-bpe", [split(LLAMA3), byte_level()], None, False),
    "Qwen2": ("qwen2", [split(QWEN2), byte_level()], NFC, False),
    "Qwen3.5": ("qwen35", [split(QWEN35), byte_level()], NFC, False),
    "Seed": ("seed-coder", [split(SEED), byte_level()], None, False),
    "gpt-oss": ("gpt-4o", [split(GPT4O), byte_level()], None, False),
    "Mistral": ("tekken", [split(TEKKEN), byte_level()], None, True),
    "DeepSeek-V3": ("deepseek-v3", [*map(split, DEEPSEEK_V3), byte_level()], None, False),
    "DeepSeek-Coder": (
        "deepseek-coder",
        [*map(split, DEEPSEEK_CODER), DIGITS, byte_level()],
        None,
        False,
    ),
}


WITHOUT = {"gpt-4o": [plain], "tekken": [plain], "deepseek-coder": [no_wide_space]}


@functools.cache
def vocabulary():
    """Vocabulary and merges, trained on random sequences of the fragments."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    draw = random.Random(0)
    corpus = ["".join(draw.choices(FRAGMENTS, k=8)) for _ in range(3000)]
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def content(case):
    """tokenizer.json of a family."""
    name, steps, normalizer, ignore_merges = FAMILIES[case]
    vocab, merges = vocabulary()
    glm = ("glm" in name) * ["[gMASK]"]
    added = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *glm, "<tool>"]
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": len(vocab) + i, "content": text, "special": text != "<tool>"}
            | dict.fromkeys(("normalized", "lstrip", "rstrip", "single_word"), False)
            for i, text in enumerate(added)
        ],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": list(merges),
            "ignore_merges": ignore_merges,
        },
    }


@pytest.fixture(params=FAMILIES)
def family(request, tmp_path):
    """case, vocabulary, ids by llama.cpp, ids by tokenizers."""
    return (request.param, *both(content(request.param), tmp_path))


def both(file, folder):
    from tokenizers import Tokenizer

    (folder / "tokenizer.json").write_text(json.dumps(file))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    found = read_vocabulary(folder, {"vocab_size": 4096})
    server = runtime(found, folder / "m.gguf")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return found, server.tokenize, lambda text: tokenizer.encode(text).ids


def test_same_ids(family):
    case, found, ours, theirs = family
    name, _, normalizer, _ = FAMILIES[case]
    assert found.tokens.pre == name
    assert found.notes() == [NOTES.get(name)] * (name in NOTES) + [NFC_NOTE] * (
        normalizer is not None
    )

    @settings(max_examples=120, deadline=None, derandomize=True, database=None)
    @given(texts(*SPECIAL))
    def check(text):
        for leave_out in WITHOUT.get(name, (composed,) if normalizer else ()):
            text = leave_out(text)
        assert ours(text) == theirs(text)

    check()


DIFFERENT = [
    *[(case, text) for case in ("gpt-oss", "Mistral") for text in ("हिन्दी", "ขึ้น", "ПриветМир")],
    *[("DeepSeek-Coder", text) for text in ("\u0301\u3000", "^\u2028")],
]


@pytest.mark.parametrize(("case", "text"), DIFFERENT)
def test_where_the_runtime_splits_differently(case, text, tmp_path):
    """What the note says. If it fails, llama.cpp has learnt it and the note can go."""
    found, ours, theirs = both(content(case), tmp_path)
    assert NOTES[found.tokens.pre] in found.notes()
    assert ours(text) != theirs(text)


def test_letters_that_are_not_composed(tmp_path):
    """What the note on NFC says."""
    _, ours, theirs = both(content("Qwen2"), tmp_path)
    assert ours("e\u0301") != theirs("e\u0301") == theirs("é")


@pytest.mark.parametrize("case", ["gpt-oss", "Mistral"])
def test_whole_words_that_the_merges_do_not_lead_to(case, tmp_path):
    """Looking whole words up first is part of the runtime's name, and a switch in the file."""
    file = content(case)
    model = file["model"]
    model["ignore_merges"] = not model["ignore_merges"]
    found, ours, theirs = both(file, tmp_path)
    assert found.notes() == [NOTES[found.tokens.pre]]
    assert ours("CamelCase naïve 12") == theirs("CamelCase naïve 12")

    model["merges"] = [pair for pair in model["merges"] if "".join(pair) != "world"]
    found, ours, theirs = both(file, tmp_path)
    assert "'world'" in found.notes()[-1]
    assert ours("world") != theirs("world")
