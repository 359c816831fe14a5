"""Conversation -> token ids and labels, by the same template object that is published.

The learned part is found by prefix rendering: the text up to an assistant turn, with the
generation prompt, must be a prefix of the whole text, and so must the text up to the end of the
turn; what lies between is the answer. It is cut after its last stop token, so the model learns to
stop and nothing after it. Character spans become token labels through the tokenizer's offsets.

A text that holds a special token as plain characters is refused: inside the prompt it would become
a control token, in training here and in Ollama alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ft2ollama.data.conversation import Conversation, Message
from ft2ollama.data.problems import BadRow
from ft2ollama.errors import DataError
from ft2ollama.template import ChatTemplate

IGNORED = -100  # the label that torch's cross entropy leaves out
_SHOWN = 20


@dataclass(frozen=True)
class Sample:
    """ids: tokens of the whole conversation; labels: the same, IGNORED where nothing is learned."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @cached_property
    def learned(self) -> int:
        """How many tokens the loss sees."""
        return sum(label != IGNORED for label in self.labels)


class Tokenizer:
    """tokenizer.json of a model folder, read by the `tokenizers` library itself."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Loaded

        self._tokenizer = Loaded.from_file(str(folder / "tokenizer.json"))
        added = self._tokenizer.get_added_tokens_decoder()
        self.special = tuple(token.content for token in added.values() if token.special)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """ids and character offsets; the template has written every special token itself."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of `ids`."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def id(self, token: str) -> int | None:
        """The id of a token written in full."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())


def render_all(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: Tokenizer,
    *,
    cutoff_len: int,
    train_on_prompt: bool = False,
    mask_history: bool = False,
    system: str = "",
) -> list[Sample]:
    """Render every conversation; raises DataError listing all that cannot be trained on."""
    samples, problems = [], []
    for conversation in conversations:
        try:
            samples.append(
                render(
                    _with_system(conversation.messages, system),
                    template,
                    tokenizer,
                    cutoff_len=cutoff_len,
                    train_on_prompt=train_on_prompt,
                    mask_history=mask_history,
                )
            )
        except BadRow as error:
            problems.append(f"{conversation.place}: {error}")
    if problems:
        more = [f"... and {len(problems) - _SHOWN} more"] * (len(problems) > _SHOWN)
        raise DataError(
            f"{len(problems)} conversation(s) cannot be trained on",
            "\n".join(problems[:_SHOWN] + more),
            "mend or remove the rows named above, or raise cutoff_len if they are too long",
        )
    return samples


def render(
    messages: Sequence[Message],
    template: ChatTemplate,
    tokenizer: Tokenizer,
    *,
    cutoff_len: int,
    train_on_prompt: bool = False,
    mask_history: bool = False,
) -> Sample:
    """One conversation as ids and labels; raises BadRow when it cannot be trained on as it is."""
    _refuse_special_tokens(messages, tokenizer.special)
    text = template.render(messages)
    ids, offsets = tokenizer.encode(text)
    if len(ids) > cutoff_len:
        raise BadRow(f"is {len(ids)} tokens long, cutoff_len is {cutoff_len}")
    spans = answer_spans(messages, text, template)
    if mask_history:
        spans = spans[-1:]
    if train_on_prompt:
        spans = [(0, spans[-1][1])]
    labels = tuple(
        token if any(low <= start and end <= high for low, high in spans) else IGNORED
        for token, (start, end) in zip(ids, offsets, strict=True)
    )
    if labels.count(IGNORED) == len(labels):
        raise BadRow("no token of the answer is left to learn")
    return Sample(tuple(ids), labels)


def answer_spans(
    messages: Sequence[Message], text: str, template: ChatTemplate
) -> list[tuple[int, int]]:
    """Character spans [start, end) of the assistant turns in `text`, each with its stop token."""
    spans = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        head = template.render(messages[:number], add_generation_prompt=True)
        turn = template.render(messages[: number + 1])
        if not (text.startswith(turn) and turn.startswith(head)):
            raise BadRow(
                f"turn {number + 1}: the chat template changes earlier text when turns are added, "
                "so what is learned cannot be told from the prompt"
            )
        spans.append((len(head), _end_of_answer(turn, len(head), template.stop)))
    return spans


def _end_of_answer(turn: str, start: int, stop: Sequence[str]) -> int:
    """The position after the last stop token of the turn; without one the model would not stop."""
    ends = [place + len(word) for word in stop if (place := turn.rfind(word, start)) >= 0]
    if not ends:
        raise BadRow(f"the chat template ends no answer with one of {', '.join(stop)}")
    return max(ends)


def _refuse_special_tokens(messages: Sequence[Message], special: Sequence[str]) -> None:
    for number, message in enumerate(messages, 1):
        for token in special:
            if token in message["content"]:
                raise BadRow(f"turn {number}: the text holds the special token {token}")


def _with_system(messages: Sequence[Message], system: str) -> Sequence[Message]:
    if not system or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]
