"""What the ledger keeps of one exchange and of what people said about it, before it is a row.

In: what the proxy heard or an importer read.  Out: `Exchange` and `Feedback` with the identities by
which the same thing is known again.
"""

from __future__ import annotations

import json
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

Origin = Literal["model", "human", "correction"]
FeedbackKind = Literal["thumb", "score", "correction", "comment", "label"]


@dataclass(frozen=True)
class Exchange:
    """One question to a model and its answer.

    messages: the conversation up to and with the question, as OpenAI messages; the last one is the
    user's (or a tool's).  question: its text without retrieved context.  contexts: what was
    retrieved, [{"text": ..., "source": ..., "score": ...}].
    ts_ms: milliseconds since 1970.  ext_id: its id where it comes from, "" if it has none.
    rid: given by the proxy, for which the same words said twice are two exchanges; an import leaves
    it "" and gets `content_rid`: a row that is imported twice is one.
    origin: who wrote the answer: the model, a person, or a person who corrected the model.
    complete: the answer was heard to its end.  raw: the source's own row, for what we do not know.
    """

    messages: Sequence[Mapping[str, Any]]
    question: str
    answer: str
    ts_ms: int
    rid: str = ""
    ext_id: str = ""
    contexts: Sequence[Mapping[str, Any]] = ()
    context_extractor: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    thinking: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    origin: Origin = "model"
    complete: bool = True
    done_reason: str = ""
    http_status: int | None = None
    route: str = ""
    model: str = ""
    model_digest: str = ""
    chat_id: str = ""
    message_id: str = ""
    user_hmac: str = ""
    task: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    latency_ms: float | None = None
    ttft_ms: float | None = None
    raw: str = ""
    consent: str = ""
    expires_ms: int | None = None

    @property
    def content_sha256(self) -> str:
        """Identity of what was said, whoever recorded it and when."""
        said = {
            "messages": list(self.messages),
            "answer": self.answer,
            "tool_calls": list(self.tool_calls),
            "contexts": [context.get("text", "") for context in self.contexts],
        }
        return sha256(canonical(said).encode()).hexdigest()

    def content_rid(self, kind: str, uri: str) -> str:
        """The row's id when it has no better one: the same row of the same source gets the same."""
        return sha256("\n".join((kind, uri, self.ext_id, self.content_sha256)).encode()).hexdigest()


@dataclass(frozen=True)
class Feedback:
    """What a person (or a tool) said of an answer.

    value: thumb 1 or -1, score as given.  text: the correction or the comment.  rid, or message_id
    (with chat_id where message ids repeat): which answer.  origin: where it was said.
    """

    kind: FeedbackKind
    ts_ms: int
    origin: str
    rid: str = ""
    chat_id: str = ""
    message_id: str = ""
    value: float | None = None
    text: str = ""
    actor_hmac: str = ""


def canonical(value: object) -> str:
    """JSON with sorted keys and nothing optional, for hashing."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def new_rid(ts_ms: int) -> str:
    """An id for a captured exchange: 12 hex digits of the time, 20 of chance."""
    return f"{ts_ms:012x}{secrets.token_hex(10)}"


def question_key(text: str) -> str:
    """sha256 of a question without case, width, spaces and closing punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(folded.split())
    return sha256(words.rstrip(".?!。？！…").encode()).hexdigest()
