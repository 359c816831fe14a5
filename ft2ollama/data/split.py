"""Training and validation rows, split by the hash of the conversation.

The hash decides, not the position: a row stays on its side when the data grows or is reordered, and
two copies of one conversation can never stand on both sides.
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
    keys = {id(item): _key(item) for item in conversations}
    distinct = sorted(set(keys.values()))
    if val_size < 1:
        chosen = {key for key in distinct if int(key[:8], 16) / 16**8 < val_size}
    else:
        chosen = set(distinct[: int(val_size)])
    train = [item for item in conversations if keys[id(item)] not in chosen]
    val = [item for item in conversations if keys[id(item)] in chosen]
    return train, val


def _key(conversation: Conversation) -> str:
    return sha256_text(json.dumps(conversation.messages, ensure_ascii=False))
