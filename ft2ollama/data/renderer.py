"""Conversation -> token ids and labels, by the same template object that is published.

In: conversations, template, tokenizer, rules.  Out: samples, the row each came from, and problems.

`turns.py` decides what text a learned answer has and which part of it is learned; here it becomes
tokens. Each answer begins with a token of its own, as it does at inference: where the text alone
would merge the end of the prompt with the beginning of the answer, the two are encoded apart. Its
last learned token is a stop token, or the row is a problem.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise

from ft2ollama.data.conversation import Conversation
from ft2ollama.data.guards import control_tokens
from ft2ollama.data.problems import BadRow, Problem
from ft2ollama.data.samples import IGNORED, Rendered, Rules, Sample
from ft2ollama.data.tokenizer import DATA_START, Encoded, Tokenizer
from ft2ollama.data.tools import as_ollama_gives
from ft2ollama.data.truncate import shortened, whole_turns
from ft2ollama.data.turns import Draft, Talk, drafts, make_talk
from ft2ollama.template import ChatTemplate

_BATCH = 256  # conversations encoded at once


class Renderer:
    """Template, tokenizer and rules together; renders any number of conversations."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer, rules: Rules) -> None:
        self.template, self.tokenizer, self.rules = template, tokenizer, rules
        self.control = control_tokens(template, tokenizer.special)
        self._stop = {tokenizer.id(word) for word in template.stop} - {None}

    def render(self, conversations: Iterable[Conversation]) -> Rendered:
        """All of them, in batches."""
        found, rows = Rendered(), enumerate(conversations)
        while batch := list(islice(rows, _BATCH)):
            self._render_batch(batch, found)
        return found

    def talk(self, conversation: Conversation) -> Talk:
        """The conversation as the template takes it; raises BadRow."""
        return make_talk(
            as_ollama_gives(conversation) if self.rules.ollama_tools else conversation,
            self.template,
            control=self.control,
            system=self.rules.system,
            thinking=self.rules.thinking,
            special_as_text=self.rules.special_tokens_in_text == "text",
        )

    def drafts(self, talk: Talk) -> list[Draft]:
        """The texts to encode; raises BadRow."""
        rules = self.rules
        weightless = rules.train_on_prompt and bool(talk.unlearned)
        return drafts(talk, only_last=rules.mask_history, weightless=weightless)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Every text, with guarded ones by themselves."""
        plain = iter(self.tokenizer.encode_all([text for text in texts if DATA_START not in text]))
        return [
            self.tokenizer.encode_guarded(text, self.control) if DATA_START in text else next(plain)
            for text in texts
        ]

    def sample(self, draft: Draft, encoded: Encoded | None = None) -> Sample:
        """One text as ids and labels, however long; raises BadRow."""
        encoded = encoded or self.encode([draft.text])[0]
        starts = [answer.start for answer in draft.answers]
        if any(_reaches_over(encoded, start, len(draft.text)) for start in starts):
            encoded = self._apart(draft.text, starts)
        return self._labelled(draft, encoded)

    def _render_batch(self, batch: list[tuple[int, Conversation]], found: Rendered) -> None:
        ready: list[tuple[int, Conversation, Talk, list[Draft]]] = []
        refused: dict[int, Problem] = {}
        for row, conversation in batch:
            try:
                talk = self.talk(conversation)
                ready.append((row, conversation, talk, self.drafts(talk)))
            except BadRow as error:
                refused[row] = error.at(conversation.place)
        encoded = iter(self.encode([draft.text for *_, texts in ready for draft in texts]))
        made = {
            row: (c, talk, [(d, next(encoded)) for d in texts]) for row, c, talk, texts in ready
        }
        for row, _ in batch:
            if row in refused:
                found.problems.append(refused[row])
            else:
                self._finish(row, *made[row], found)

    def _finish(
        self,
        row: int,
        conversation: Conversation,
        talk: Talk,
        texts: list[tuple[Draft, Encoded]],
        found: Rendered,
    ) -> None:
        limit = self.rules.cutoff_len
        try:
            samples = [self.sample(draft, encoded) for draft, encoded in texts]
            longest = max(len(sample.ids) for sample in samples)
            if longest <= limit:
                found.add(row, samples)
                return
            kept = self._cut(talk) if self.rules.cutoff_policy == "truncate" else []
            found.add(row, kept)
            found.problems.append(self._too_long(conversation.place, longest, kept))
        except BadRow as error:
            found.problems.append(error.at(conversation.place))

    def _cut(self, talk: Talk) -> list[Sample]:
        """What of a conversation fits: whole turns, else the first under a shorter question."""
        limit, rules = self.rules.cutoff_len, self.rules
        kept: list[Sample] = []
        for draft in drafts(talk):
            ends = [len(self.sample(Draft(draft.text[: a.end], (a,))).ids) for a in draft.answers]
            fitting = whole_turns(draft, ends, limit, only_last=rules.mask_history)
            kept += [self.sample(fitting)] if fitting else []
        if not kept:
            short = shortened(talk, limit, lambda draft: len(self.sample(draft).ids))
            kept += [self.sample(short)] if short else []
        return kept[-1:] if rules.mask_history else kept

    def _too_long(self, place: str, tokens: int, kept: list[Sample]) -> Problem:
        values = {"tokens": tokens, "cutoff_len": self.rules.cutoff_len}
        policy = self.rules.cutoff_policy
        if policy == "error":
            return Problem("too-long", place, values=values)
        if kept:
            values["kept"] = max(len(sample.ids) for sample in kept)
            return Problem("cut-to-length", place, values=values, severity="warning")
        return Problem("dropped-too-long", place, values=values, severity="warning")

    def _labelled(self, draft: Draft, encoded: Encoded) -> Sample:
        ids = array("i", encoded.ids)
        labels = array("i", [IGNORED]) * len(ids)
        if self.rules.train_on_prompt:
            spans = _without(draft)
        else:
            spans = [span for answer in draft.answers for span in answer.learned]
        for low, high in spans:
            first, last = _tokens(encoded, low, high)
            labels[first : last + 1] = ids[first : last + 1]
        for answer in draft.answers:
            _, last = _tokens(encoded, answer.start, answer.end)
            if answer.learned and labels[last] not in self._stop:
                raise BadRow("no-stop", stop=", ".join(self.template.stop))
        return Sample(ids, labels)

    def _apart(self, text: str, starts: Sequence[int]) -> Encoded:
        """The text encoded in pieces, cut where answers begin."""
        edges = [0, *starts, len(text)]
        pieces = [text[low:high] for low, high in pairwise(edges)]
        return Encoded.joined(
            [
                self.tokenizer.encode_after(piece, self.control)
                if number
                else self.encode([piece])[0]
                for number, piece in enumerate(pieces)
            ],
            edges[:-1],
        )


def _without(draft: Draft) -> list[tuple[int, int]]:
    """All of a text but its answers of weight 0."""
    found, low = [], 0
    for answer in draft.answers:
        if not answer.learned:
            found.append((low, answer.start))
            low = answer.end
    return [(a, b) for a, b in (*found, (low, draft.answers[-1].end)) if a < b]


def _tokens(encoded: Encoded, low: int, high: int) -> tuple[int, int]:
    """First and last token of a span of characters; white space may belong to no token."""
    first = next((t for t in map(encoded.token_at, range(low, high)) if t is not None), None)
    last = next(
        (t for t in map(encoded.token_at, range(high - 1, low - 1, -1)) if t is not None), None
    )
    if first is None or last is None:
        raise BadRow("nothing-learned")
    return first, last


def _reaches_over(encoded: Encoded, start: int, end: int) -> bool:
    """Does one token hold the end of the prompt and the beginning of the answer?"""
    first, _ = _tokens(encoded, start, end)
    return encoded.begins_at(first) < start
