"""What a BPE model makes of a word: used only to decide whether a difference matters."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from converters.tokenizer_json import Merge, TokenizerJson


def bpe(word: str, ranks: Mapping[Merge, int]) -> list[str]:
    """The pieces of a word: join the pair of lowest rank, leftmost first, until none is left."""
    parts = list(word)
    while len(parts) > 1:
        rank, at = min((ranks.get(pair, len(ranks)), i) for i, pair in enumerate(pairwise(parts)))
        if rank == len(ranks):
            break
        parts[at : at + 2] = ["".join(parts[at : at + 2])]
    return parts


def whole_words_split(tokenizer: TokenizerJson) -> list[str]:
    """Ordinary tokens that the merges cut into several: [] means lookup and merging agree."""
    ranks: dict[Merge, int] = {}
    for rank, pair in enumerate(tokenizer.merges):
        ranks.setdefault(pair, rank)
    added = {token.text for token in tokenizer.added}
    return [text for text in tokenizer.vocab if text not in added and len(bpe(text, ranks)) > 1]
