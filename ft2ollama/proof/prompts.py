"""Prompt proof: for every conversation the server's prompt is the one of training.

Compared by the best that the server offers for the conversation:

    ids               `context` of /api/generate on a throw-away model: every Ollama, but no tools
                      and no switch for thinking
    text and count    `_debug_render_only` (Ollama >= 0.11.5) and the number of tokens
    count and reply   the number of tokens, and the greedy continuation of the chat against that of
                      the training text fed raw: two prompts of one length rarely go on alike
    count             the same where a server that looks for tool calls and thoughts keeps part of
                      the continuation back; the template that it shows, executed by us, has to
                      give the training text too
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ft2ollama.errors import UserError
from ft2ollama.gotemplate import prompt as go_prompt
from ft2ollama.gotemplate.ollama_data import api_messages
from ft2ollama.ollama_api import Ollama, quiet_options
from ft2ollama.proof.cases import Prompt
from ft2ollama.proof.differences import Decode, ids_difference, marked, text_difference

Tick = Callable[[int, int], None]

_REPLY_TOKENS = 10
_TAGS = re.compile(r"</?think>|\s+")


@dataclass(frozen=True)
class PromptCheck:
    """One conversation: `equal` by `method`.  difference: lines for people, "" when equal."""

    name: str
    method: str
    equal: bool
    expected_tokens: int
    got_tokens: int
    difference: str = ""


def prove_prompts(
    server: Ollama,
    model: str,
    prompts: Sequence[Prompt],
    *,
    decode: Decode | None = None,
    tick: Tick | None = None,
) -> list[PromptCheck]:
    """Compare the server's prompt with the trainer's for every conversation.

    prompts: `expected_prompts(template, tokenizer, cases)`, or read from a run's prompts.jsonl.
    decode: token ids -> text with control tokens, for readable differences.
    """
    checks = []
    adds = adds_bos(server, model)
    for number, prompt in enumerate(prompts, 1):
        checks.append(_check(server, model, prompt, decode, adds=adds))
        if tick:
            tick(number, len(prompts))
    return checks


def adds_bos(server: Ollama, model: str) -> bool:
    """Whether the server puts BOS in front of every prompt, raw ones too, by the GGUF's keys."""
    info = server.show(model).model_info
    given = info.get("tokenizer.ggml.add_bos_token")
    if isinstance(given, bool):
        return given
    # llama.cpp src/llama-vocab.cpp: without the key by the kind of vocabulary
    return info.get("tokenizer.ggml.model") == "llama" or (
        info.get("tokenizer.ggml.pre") in ("llama3", "llama-v3", "llama-bpe", "falcon3", "tekken")
    )


def _check(
    server: Ollama, model: str, prompt: Prompt, decode: Decode | None, *, adds: bool
) -> PromptCheck:
    if not prompt.tools and prompt.thinking is None:
        got = server.prompt_ids(model, api_messages(prompt.messages))
        if got is not None:
            difference = ids_difference(prompt.ids, got, decode)
            return _result(prompt, "ids", len(got), difference)
    try:
        return _by_text(server, model, prompt) or _by_reply(server, model, prompt, adds=adds)
    except UserError as error:  # "does not support tools": the served template has lost them
        return _result(prompt, "refused", 0, f"{error.what}: {error.why}")


def _result(prompt: Prompt, method: str, got: int, difference: str) -> PromptCheck:
    return PromptCheck(prompt.name, method, not difference, len(prompt.ids), got, difference)


def _by_text(server: Ollama, model: str, prompt: Prompt) -> PromptCheck | None:
    messages, tools = api_messages(prompt.messages), list(prompt.tools) or None
    text = server.prompt_text(model, messages, tools=tools, think=prompt.thinking)
    if text is None:
        return None
    if text not in (prompt.text, prompt.bare):
        wanted = prompt.text if prompt.bos and text.startswith(prompt.bos) else prompt.bare
        return _result(prompt, "text", 0, text_difference(wanted, text))
    count = server.prompt_tokens(model, messages, tools=tools, think=prompt.thinking)
    return _result(prompt, "text and count", count, _count_difference(prompt, count))


def _by_reply(server: Ollama, model: str, prompt: Prompt, *, adds: bool) -> PromptCheck:
    text = prompt.bare if adds else prompt.text
    options = {**quiet_options(server.is_local), "num_predict": _REPLY_TOKENS}
    chat = server.chat(
        model,
        api_messages(prompt.messages),
        options=options,
        tools=list(prompt.tools) or None,
        think=prompt.thinking,
    )
    if chat.prompt_tokens != len(prompt.ids):
        why = _by_own_engine(server, model, prompt, text)
        difference = _count_difference(prompt, chat.prompt_tokens) + (f"; {why}" if why else "")
        return _result(prompt, "count", chat.prompt_tokens, difference)
    raw = _TAGS.sub("", server.complete(model, text, tokens=_REPLY_TOKENS).text)
    said = _TAGS.sub("", chat.thinking + chat.text)
    # 0.9.3 gives the first piece twice where a model that may think begins with something else
    if said == raw or (prompt.thinking and said.endswith(raw)):
        return _result(prompt, "count and reply", chat.prompt_tokens, "")
    parted = _by_own_engine(server, model, prompt, text)
    if (prompt.tools or prompt.thinking) and raw.startswith(said):  # a tag it waits to see closed
        return _result(prompt, "count", chat.prompt_tokens, parted)
    went = f"{marked(said)!r}, and after the trained prompt with {marked(raw)!r}"
    parted = parted or f"as many tokens, but the model goes on with {went}"
    return _result(prompt, "count and reply", chat.prompt_tokens, parted)


def _count_difference(prompt: Prompt, count: int) -> str:
    if count == len(prompt.ids):
        return ""
    return f"{len(prompt.ids)} tokens trained, {count} served"


def _by_own_engine(server: Ollama, model: str, prompt: Prompt, wanted: str) -> str:
    """Where the prompts part, by our own execution of the template that the server shows."""
    shown = server.show(model)
    try:
        got = go_prompt(
            shown.template,
            prompt.messages,
            system=shown.system,
            tools=prompt.tools,
            thinking=prompt.thinking,
        )
    except UserError:  # a template of a later Ollama
        return ""
    return text_difference(wanted, got)
