"""A run's model in transformers that answers: the base alone, or with what was trained on it.

In: a run, its base, messages.  Out: text piece by piece, thoughts apart from the answer.

What was trained without quantization speaks in float32 on a CPU and in bfloat16 on a GPU, as the
trainer's reference replies do (reference.py); a 4- or 8-bit base is loaded as the training loaded
it. The base is loaded before the adapter is put on it, so that both can be measured with one load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.errors import UsageError
from ft2ollama.ollama_chat import Thought
from ft2ollama.template import ChatTemplate
from ft2ollama.thoughts import Unfolding
from ft2ollama.train.model import choose_dtype, load_base, quiet_libraries
from ft2ollama.train.quantized import quantization

if TYPE_CHECKING:
    from ft2ollama.config import Config
    from ft2ollama.runs import Run

_ROWS = 4  # computed together for the loss

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Spoken:
    """A whole answer. steps, seconds: of writing, without the prompt and the first token."""

    text: str
    thinking: str
    ids: tuple[int, ...]
    stopped: bool
    steps: int
    seconds: float


@dataclass(frozen=True)
class Style:
    """How tokens are chosen: the likeliest at temperature 0, else drawn by a seeded generator."""

    temperature: float = 0.0
    seed: int = 0


class Speaker:
    """A model with the chat template of its training.

    thinking: None leaves it to the template. The template's system prompt is said before
    conversations that have none of their own.
    """

    def __init__(
        self,
        model: Any,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        *,
        thinking: bool | None = None,
    ) -> None:
        self._model, self._template, self._tokenizer = model, template, tokenizer
        self._thinking = thinking
        self._stop = {tokenizer.id(word) for word in template.stop} - {None}
        marks = {mark.strip() for mark in template.thought_marks}
        self._marks = {id: mark for mark in marks if (id := tokenizer.id(mark)) is not None}
        text = model.config.get_text_config()
        self._longest = int(getattr(text, "max_position_embeddings", None) or 1 << 30)

    def prompt(self, messages: Messages) -> str:
        """The text that the model is given; TemplateRefusal for roles it refuses."""
        system = self._template.system
        if system and (not messages or messages[0]["role"] != "system"):
            messages = [{"role": "system", "content": system}, *messages]
        return self._template.render(
            list(messages), add_generation_prompt=True, thinking=self._thinking
        )

    def stream(
        self, messages: Messages, *, limit: int, style: Style | None = None
    ) -> Iterator[str | Thought | Spoken]:
        """Yield thoughts and answer piece by piece, then the whole `Spoken`.

        limit: tokens. Raises UsageError for a conversation that the model's context cannot hold.
        """
        prompt_text = self.prompt(messages)
        prompt, _ = self._tokenizer.encode(prompt_text)
        if len(prompt) >= self._longest:
            raise UsageError(
                "the conversation is longer than the model's context",
                f"{len(prompt)} tokens, the model takes {self._longest}",
                "/reset",
            )
        limit = min(limit, self._longest - len(prompt))
        marks = self._template.thought_marks
        unfolding = Unfolding(marks, begun=prompt_text.rstrip().endswith(marks[0].strip()))
        ids: list[int] = []
        stopped, began = False, 0.0
        for token in tokens(self._model, prompt, limit, choice(style or Style())):
            began = began or time.monotonic()
            if token in self._stop:
                stopped = True
                break
            ids.append(token)
            yield from unfolding.news(self._text(ids), unfinished=True)
        seconds = time.monotonic() - began if began else 0.0
        steps = max(0, len(ids) + stopped - 1)
        yield from unfolding.news(self._text(ids))
        yield Spoken(unfolding.answer, unfolding.thought, tuple(ids), stopped, steps, seconds)

    def reply(self, messages: Messages, *, limit: int) -> Spoken:
        """One whole greedy answer."""
        *_, last = self.stream(messages, limit=limit)
        assert isinstance(last, Spoken)
        return last

    def _text(self, ids: Sequence[int]) -> str:
        """As reference.py writes a reply: special tokens left out, but those round a thought."""
        parts, start = [], 0
        for place, token in enumerate(ids):
            if token in self._marks:
                parts += [self._tokenizer.decode(ids[start:place]), self._marks[token]]
                start = place + 1
        return "".join([*parts, self._tokenizer.decode(ids[start:])])


Choose = Callable[[Any], int]


def choice(style: Style) -> Choose:
    """A function from the logits of a place, [vocabulary], to the next token."""
    import torch

    if style.temperature == 0:
        return lambda logits: int(logits.argmax())
    generator = torch.Generator().manual_seed(style.seed)

    def draw(logits: Any) -> int:
        chances = torch.softmax(logits.float().cpu() / style.temperature, -1)
        return int(torch.multinomial(chances, 1, generator=generator))

    return draw


def tokens(model: Any, prompt: Sequence[int], limit: int, choose: Choose) -> Iterator[int]:
    """At most `limit` tokens after the prompt, with a KV cache; the caller knows when to stop."""
    import torch

    past, ids = None, torch.tensor([list(prompt)], device=model.device)
    for _ in range(limit):
        with torch.inference_mode():
            output = model(input_ids=ids, past_key_values=past, use_cache=True)
        token = choose(output.logits[0, -1])
        yield token
        past, ids = output.past_key_values, torch.tensor([[token]], device=model.device)


def load_for_speaking(folder: Path, device: str, config: Config | None = None) -> tuple[Any, str]:
    """(the model of a folder, its number format in words).

    config: of the training, for a base that was quantized; a trained whole model has none.
    """
    quiet_libraries()
    wanted = quantization(config) if config is not None else None
    if config is None or wanted is None:
        dtype = "float32" if device == "cpu" else "bfloat16"
        return load_base(folder, dtype, device).eval(), dtype
    dtype, _ = choose_dtype(config.compute_dtype, device, pure_bf16=config.pure_bf16)
    model = load_base(folder, dtype, device, quantization=wanted, attention=config.flash_attn)
    return model.eval(), str(wanted)


def load_tuned(run: Run, base: Path, device: str, config: Config) -> tuple[Any, str]:
    """(what the run trained, its number format). base: unused by a run with a whole model."""
    if run.is_whole:
        return load_for_speaking(run.model, device)
    model, kind = load_for_speaking(base, device, config)
    return put_adapter(model, run), kind


def put_adapter(model: Any, run: Run) -> Any:
    """The model with the run's adapter on it, not merged."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(run.adapter)).eval()


def held_out_loss(
    model: Any, samples: Sequence[Any], tick: Callable[[int, int], None] | None = None
) -> float:
    """Mean cross entropy in nats over the learned tokens, as the training's eval_loss.

    samples: of data/samples.py; rows of like length are computed together, four at a time.
    """
    import torch

    from ft2ollama.data.render import IGNORED
    from ft2ollama.train.batches import Collator, rows
    from ft2ollama.train.loss import learned_loss

    ordered = sorted(rows(samples), key=lambda row: len(row["input_ids"]))
    collate, total, learned = Collator(0), 0.0, 0
    for start in range(0, len(ordered), _ROWS):
        batch = {
            name: tensor.to(model.device)
            for name, tensor in collate(ordered[start : start + _ROWS]).items()
        }
        with torch.inference_mode():
            total += float(learned_loss(model, batch, 1))
        learned += int((batch["labels"][:, 1:] != IGNORED).sum())
        if tick:
            tick(min(start + _ROWS, len(ordered)), len(ordered))
    return total / max(learned, 1)
