"""Training and validation rows, split by the hash of the conversation.

The hash decides, not the position: a row stays on its side when the data grows or is reordered, and
two copies of one conversation can never stand on both sides. The tools that a conversation offers
belong to it; where it came from and which answers count do not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ft2ollama.data.conversation import Conversation
from ft2ollama.files import sha256_text


def split(
    conversations: Sequence[Conversation], val_size: float
) -> tuple[list[Conversation], list[Conversation]]:
    """(training, validation). val_size: below 1 a share, else a count of distinct conversations."""
    if not val_size:
        return list(conversations), []
    keys = {id(item): key_of(item) for item in conversations}
    chosen = held_out(set(keys.values()), val_size)
    train = [item for item in conversations if keys[id(item)] not in chosen]
    val = [item for item in conversations if keys[id(item)] in chosen]
    return train, val


def held_out(keys: set[str], val_size: float) -> set[str]:
    """The keys of the validation side."""
    if val_size < 1:
        return {key for key in keys if int(key[:8], 16) / 16**8 < val_size}
    return set(sorted(keys)[: int(val_size)])


def key_of(conversation: Conversation) -> str:
    """Hash of what is said and which tools are offered."""
    said = json.dumps(conversation.messages, ensure_ascii=False)
    if conversation.tools:
        said += json.dumps(conversation.tools, ensure_ascii=False, sort_keys=True)
    return sha256_text(said)
