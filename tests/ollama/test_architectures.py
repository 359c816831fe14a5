"""Our files in a real Ollama: the greedy replies of every family are those of transformers + peft.

Tokens are compared one by one (tiny_families.py says how text can do that). The Ollama that PyPI
holds is 0.9.3 built for Intel GPUs and run without one, so some families fail in it for reasons of
its own; those are pinned here too, so that a change is noticed. With another Ollama on PATH every
family is compared.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tiny_families import ALPHABET, FAMILIES, PROMPTS, STEPS, make_adapter, make_base, replies

import converters
from ft2ollama.ollama_api import Ollama, ServerError
from ft2ollama.ollama_server import Server
from ft2ollama.proof import Prompt, prove_prompts

pytestmark = [pytest.mark.ollama, pytest.mark.oracle]
OPTIONS = {
    "temperature": 0,
    "repeat_penalty": 1,
    "num_predict": STEPS,
    "num_ctx": 256,
    "num_thread": 1,
    "num_gpu": 0,
}
FROM_PYPI = shutil.which("ollama") is None
# What that build says of the families it cannot run, in its log.
REFUSED = {
    "mixtral": "op not implemented",  # its graph has an operation of the GPU's for experts
    "qwen2moe": "op not implemented",
    "qwen3moe": "op not implemented",
    "smollm3": "unknown model architecture: 'smollm3'",
    "mistral3": "undefined symbol: ggml_backend_sycl_init",  # Ollama's own engine: GPU only there
}
# It computes glm4's attn_output and ffn_down with a call that refuses an adapter's sum.
BESIDE = {"glm4": ["q_proj", "k_proj", "v_proj", "gate_up_proj"]}


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """make("qwen2") -> base folder, adapter folder."""

    def run(family: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(family)
        base = make_base(FAMILIES[family], folder / "base")
        return base, make_adapter(base, FAMILIES[family].adapter, folder / "adapter")

    return run


def answers(server: Ollama, name: str, gguf: Path, adapter: Path | None = None) -> list[str]:
    """Greedy replies to PROMPTS of a model made from the files; the last request unloads it."""
    server.create(name, gguf=gguf, adapter=adapter, template="{{ .Prompt }}")
    got = []
    for prompt in PROMPTS:
        body = {"model": name, "prompt": prompt, "raw": True, "stream": False, "options": OPTIONS}
        body["keep_alive"] = 0 if prompt == PROMPTS[-1] else "1m"
        reply = httpx.post(f"{server.host}/api/generate", json=body, timeout=60)
        reply.raise_for_status()
        data = reply.json()
        assert (data["prompt_eval_count"], data["eval_count"]) == (len(prompt), STEPS)
        got.append(data["response"])
    return got


def said(server: Server, since: int) -> str:
    """What the log has got since it had so many bytes."""
    return server.log.read_bytes()[since:].decode("utf-8", "replace")


def compare(expected: list[str], got: list[str]) -> int:
    """Tokens compared; all are equal, and they are enough to mean something."""
    assert [text[: len(clear)] for clear, text in zip(expected, got, strict=True)] == expected
    assert set("".join(got)) <= set(ALPHABET)
    tokens = sum(map(len, expected))
    assert tokens >= len(PROMPTS) * STEPS // 2, "too few clear tokens: choose another model"
    return tokens


@pytest.mark.parametrize("family", [f for f in FAMILIES if not FROM_PYPI or f not in REFUSED])
def test_replies_are_those_of_transformers(
    family: str,
    make: Callable[[str], tuple[Path, Path]],
    ollama: Ollama,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    base, adapter = make(family)
    norms = not (FROM_PYPI and family == "qwen3")
    plain = replies(base, head_norms=norms)
    tuned = replies(base, adapter, head_norms=norms)
    assert plain != tuned
    if not norms:  # this build leaves out Qwen3's norms of q and k, and only those
        assert plain != replies(base)
    files = [tmp_path / name for name in ("base.gguf", "merged.gguf", "lora.gguf")]
    converters.write_model(base, files[0], outtype="F32")
    converters.write_model(base, files[1], adapter=adapter, outtype="F32")
    record_property("base", compare(plain, answers(ollama, family, files[0])))
    record_property("merged", compare(tuned, answers(ollama, family, files[1])))
    if modules := BESIDE.get(family):
        adapter = make_adapter(base, {"target_modules": modules}, tmp_path / "adapter")
        tuned = replies(base, adapter)
    converters.write_adapter(adapter, base, files[2], outtype="F32")
    beside = answers(ollama, family, files[0], files[2])
    record_property("adapter", compare(tuned, beside))


@pytest.mark.skipif(not FROM_PYPI, reason="pins what the build on PyPI cannot do")
@pytest.mark.parametrize("family", REFUSED)
def test_a_family_the_server_cannot_run_is_said_so(
    family: str,
    make: Callable[[str], tuple[Path, Path]],
    ollama: Ollama,
    ollama_server: Server,
    tmp_path: Path,
) -> None:
    """The reason is in the log only; our error ends the publishing and says what to try."""
    converters.write_model(make(family)[0], tmp_path / "m.gguf", outtype="F32")
    ollama.create(f"{family}-no", gguf=tmp_path / "m.gguf", template="{{ .Prompt }}")
    seen = ollama_server.log.stat().st_size
    chat = Prompt("user", ({"role": "user", "content": "P"},), "P", (1,))
    with pytest.raises(ServerError) as caught:
        prove_prompts(ollama, f"{family}-no", [chat])
    assert caught.value.status == 500
    assert REFUSED[family] in said(ollama_server, seen)
    assert "does not know the architecture" in caught.value.fix
    assert ollama.version()  # the server lives


@pytest.mark.skipif(not FROM_PYPI, reason="pins what the build on PyPI cannot do")
def test_glm4_with_an_adapter_on_two_of_its_layers(
    make: Callable[[str], tuple[Path, Path]], ollama: Ollama, ollama_server: Server, tmp_path: Path
) -> None:
    """Merged it runs, see above: the reason why merging is the default."""
    base, adapter = make("glm4")
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    converters.write_adapter(adapter, base, tmp_path / "a.gguf", outtype="F32")
    seen = ollama_server.log.stat().st_size
    with pytest.raises(httpx.HTTPStatusError):
        answers(ollama, "glm4-no", tmp_path / "m.gguf", tmp_path / "a.gguf")
    assert "GGML_ASSERT(a->op == GGML_OP_MUL_MAT)" in said(ollama_server, seen)
