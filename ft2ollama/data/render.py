"""Many conversations -> samples: in several processes where that pays, and only once.

In: conversations, template, tokenizer, rules.  Out: `Rendered`, in the order of the conversations.

One process renders some thousand conversations a second, so that most data sets take less time than
a second process takes to start; from `_ONE` on there is one for each core. They are spawned, not
forked: the threads of `tokenizers` and torch do not survive a fork. From `_KEPT` conversations on
the result is kept by content (token_cache.py): a second run with the same data reads it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from ft2ollama import machine
from ft2ollama.data import token_cache
from ft2ollama.data.conversation import Conversation
from ft2ollama.data.renderer import Renderer
from ft2ollama.data.samples import IGNORED, Rendered, Rules, Sample
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.files import sha256_file
from ft2ollama.template import ChatTemplate

__all__ = ["IGNORED", "Rendered", "Renderer", "Rules", "Sample", "Tokenizer", "render_all"]

_ONE = 20_000  # conversations up to which one process renders them
_MOST = 8  # processes, unless the config names a number
_KEPT = 5_000  # conversations from which the cache pays: below, rendering takes a second or two
_CHUNK = 2_000  # conversations handed to a process at once


def render_all(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: Tokenizer,
    rules: Rules,
    *,
    workers: int | None = None,
) -> Rendered:
    """Samples and problems of all conversations; nothing is raised for a row.

    workers: `preprocessing_num_workers`; None chooses by the number of conversations.
    """
    if len(conversations) < _KEPT:
        return _rendered(conversations, template, tokenizer, rules, workers or 1)
    settings = [asdict(template), asdict(rules), sha256_file(tokenizer.file)]
    key = token_cache.cache_key(conversations, settings)
    found = token_cache.read(key)
    if found is None:
        count = workers or _processes(len(conversations))
        found = _rendered(conversations, template, tokenizer, rules, count)
        token_cache.write(key, found)
    return found


def _processes(conversations: int) -> int:
    if conversations <= _ONE:
        return 1
    return min(machine.cores(), _MOST)


def _rendered(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: Tokenizer,
    rules: Rules,
    workers: int,
) -> Rendered:
    if workers == 1:
        return Renderer(template, tokenizer, rules).render(conversations)
    size = max(1, min(_CHUNK, -(-len(conversations) // workers)))
    chunks = [conversations[at : at + size] for at in range(0, len(conversations), size)]
    whole = Rendered()
    for number, part in enumerate(_by_processes(chunks, template, tokenizer, rules, workers)):
        whole.samples += part.samples
        whole.rows += [row + number * size for row in part.rows]
        whole.problems += part.problems
    return whole


def _by_processes(
    chunks: Sequence[Sequence[Conversation]],
    template: ChatTemplate,
    tokenizer: Tokenizer,
    rules: Rules,
    workers: int,
) -> Iterator[Rendered]:
    with ProcessPoolExecutor(
        min(workers, len(chunks) or 1),
        mp_context=get_context("spawn"),
        initializer=_start,
        initargs=(template, tokenizer.file.parent, rules),
    ) as pool:
        yield from pool.map(_work, chunks)


_renderer: list[Renderer] = []  # of this worker process


def _start(template: ChatTemplate, folder: Path, rules: Rules) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    _renderer.append(Renderer(template, Tokenizer(folder), rules))


def _work(chunk: Sequence[Conversation]) -> Rendered:
    return _renderer[0].render(chunk)
