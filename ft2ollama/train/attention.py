"""Attention inside each document of a row that holds several, without a mask of tokens x tokens.

In: q [1, heads, tokens, d], k and v [1, kv heads, tokens, d] of documents that lie end to end, and
their borders `cu_seq_lens_q` [documents + 1] (transformers' name).  Out: [1, tokens, heads, d], as
transformers' attention functions give it. `register()` makes it known to transformers under `NAME`;
a call without borders goes to transformers' own SDPA. Where `cu_seq_lens_k` says that documents
have more keys than tokens, those before their own are the first document: a beginning that all
share (batches.py). That is for CPUs only.

On a CPU, documents up to `SHORT` tokens are attended to by batched matrix products with the
probabilities kept for the backward pass; torch's flash kernel for CPUs takes two to six times as
long there (benchmarks/RESULTS.md). Longer ones go to that kernel one by one. On CUDA all documents
go to torch's variable-length FlashAttention in one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "ft2ollama_documents"
SHORT = 256  # tokens; from about 350 on the flash kernel is as fast and needs less memory
_WASTE = 1.3  # pairs of tokens computed in a padded group / pairs that count


@dataclass(frozen=True)
class Formula:
    """softmax(scale * q k^T) v.  window: tokens a query sees, itself included; None: all before.

    softcap: the scores' limit, tanh(score / softcap) * softcap.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None


def register() -> None:
    """Make `NAME` a value of a model's `attn_implementation`."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def placeholder_mask(device: torch.device) -> torch.Tensor:
    """A 4-D mask, which transformers' models hand on unread: none is built, none is needed."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function; the module docstring says what it does.

    more: sliding_window, softcap, cu_seq_lens_*, max_length_q, dropout as transformers passes them.
    """
    borders = more.get("cu_seq_lens_q")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    softcap, window = more.get("softcap"), more.get("sliding_window")
    formula = Formula(scale, window, softcap)
    if borders is None and softcap is None:
        mask, more = attention_mask, {**more, "scaling": scaling}
        out: torch.Tensor = sdpa_attention_forward(module, query, key, value, mask, **more)[0]
        return out, None
    if borders is None:
        mask = _mask(query.shape[2], key.shape[2], window, query.device)
        mask = mask if attention_mask is None else attention_mask
        return _plain(query, key, value, mask, formula).transpose(1, 2), None
    if query.device.type == "cuda" and softcap is None:
        return _varlen(query, key, value, borders, int(more["max_length_q"]), scale, window), None
    ends = borders.tolist()
    keys = more.get("cu_seq_lens_k")
    shared = 0 if keys is None or int(keys[-1]) == ends[-1] else ends[1]
    return by_document(query, key, value, ends, formula, shared), None


def by_document(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: Sequence[int],
    formula: Formula,
    shared: int = 0,
) -> torch.Tensor:
    """[1, tokens, heads, d]: runs of short documents together, long ones one by one.

    shared: tokens of the first document, which all others go on from; 0: each is by itself.
    """
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # as for torch's own attention: one type, and no more casts
        lower = torch.get_autocast_dtype(kind)
        q, k, v = (x.to(lower) for x in (query, key, value))
        with torch.autocast(kind, enabled=False):
            return by_document(q, k, v, borders, formula, shared)
    pieces = []
    for short, run, behind in _runs(borders, formula, shared):
        for low, high in [(run[0][0], run[-1][1])] if short else run:
            q, k, v = (x[:, :, low:high] for x in (query, key, value))
            before = [x[:, :, :behind] for x in (key, value)] if behind else []
            if short:
                groups = group_lengths(tuple(high - low for low, high in run), behind)
                rows = (x[0].transpose(0, 1) for x in (q, k, v, *before))
                pieces.append(_ShortDocuments.apply(groups, formula, *rows)[None])
                continue
            if before:
                k, v = (torch.cat(both, 2) for both in zip(before, (k, v), strict=True))
            pieces.append(_long(q, k, v, formula).transpose(1, 2))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def _runs(
    borders: Sequence[int], formula: Formula, shared: int
) -> Iterator[tuple[bool, list[tuple[int, int]], int]]:
    """(are they short, borders of each document, keys before their own) of neighbours."""
    documents = [(low, high, shared if low else 0) for low, high in pairwise(borders)]

    def kind(document: tuple[int, int, int]) -> tuple[bool, int]:
        low, high, behind = document
        return high - low + behind <= SHORT and formula.softcap is None, behind

    for (short, behind), run in groupby(documents, kind):
        yield short, [(low, high) for low, high, _ in run], behind


def _long(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, formula: Formula
) -> torch.Tensor:
    """[1, heads, tokens, d] of one document, whose tokens are the last of the keys."""
    length, keys, window = query.shape[2], key.shape[2], formula.window
    if formula.softcap is not None:
        mask = _mask(length, keys, window, query.device)
        return _plain(query, key, value, mask, formula)
    heads_per_key = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, heads_per_key), repeat_kv(value, heads_per_key)
    plain = length == keys and (window is None or length <= window)
    mask = None if plain else _mask(length, keys, window, query.device)
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=formula.scale
    )


def _plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    formula: Formula,
) -> torch.Tensor:
    """Attention as the formula says, for scores that no kernel here can cap (Gemma 2)."""
    heads_per_key = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, heads_per_key), repeat_kv(value, heads_per_key)
    scores = (query @ key.transpose(-1, -2)).float() * formula.scale
    if formula.softcap is not None:
        scores = torch.tanh(scores / formula.softcap) * formula.softcap
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1).to(query.dtype)
    return weights @ value


def _mask(queries: int, keys: int, window: int | None, device: torch.device) -> torch.Tensor:
    """[queries, keys]: True where a query may look; a window of w is the query and w - 1 before."""
    back = torch.arange(keys - queries, keys, device=device)[:, None]
    back = back - torch.arange(keys, device=device)
    return back >= 0 if window is None else (back >= 0) & (back < window)


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """torch's FlashAttention over documents (torch 2.11 and later).  CUDA only."""
    from torch.nn.attention.varlen import varlen_attn

    heads_per_key = query.shape[1] // key.shape[1]
    # 2.11 infers grouped heads, 2.13 must be told; repeated keys are right in both.
    key, value = repeat_kv(key, heads_per_key), repeat_kv(value, heads_per_key)
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    size = (-1 if window is None else window - 1, 0)
    out = varlen_attn(q, k, v, borders, borders, longest, longest, scale=scale, window_size=size)
    return out[None]


@dataclass(frozen=True)
class Group:
    """Documents that are padded to one length while they are attended to.

    count x length slots; slots[i] is the slot of the token at tokens[i]. None: every slot, or every
    token, in order.  behind: keys of the shared beginning before their own.
    """

    count: int
    length: int
    slots: torch.Tensor | None
    tokens: torch.Tensor | None
    behind: int = 0


@lru_cache(maxsize=16)  # every layer of a step asks for the same ones
def group_lengths(lengths: tuple[int, ...], behind: int = 0) -> tuple[Group, ...]:
    """Documents of similar length together, so that little of a group is padding."""
    starts = torch.tensor([0, *lengths]).cumsum(0).tolist()
    members: list[list[int]] = []
    useful = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        pairs = lengths[index] * (behind + lengths[index])
        longest = lengths[members[-1][0]] if members else 0
        most = longest * (behind + longest)
        if members and (len(members[-1]) + 1) * most <= _WASTE * (useful + pairs):
            members[-1].append(index)
            useful += pairs
        else:
            members.append([index])
            useful = pairs
    return tuple(_group(sorted(chosen), lengths, starts, behind) for chosen in members)


def _group(chosen: list[int], lengths: Sequence[int], starts: Sequence[int], behind: int) -> Group:
    longest = max(lengths[index] for index in chosen)
    slots = [row * longest + i for row, index in enumerate(chosen) for i in range(lengths[index])]
    tokens = [starts[index] + i for index in chosen for i in range(lengths[index])]
    return Group(
        len(chosen),
        longest,
        None if len(slots) == len(chosen) * longest else torch.tensor(slots),
        None if len(tokens) == starts[-1] else torch.tensor(tokens),
        behind,
    )


class _ShortDocuments(torch.autograd.Function):  # type: ignore[misc]
    """softmax(q k^T) v per document by batched products.  q: [tokens, heads, d], k, v: kv heads.

    before: keys and values [behind, kv heads, d] that every document has in front of its own.
    Scores and softmax are float32, like those of the flash kernels; the rest has the type of q.
    """

    @staticmethod
    def forward(
        ctx: Any,
        groups: tuple[Group, ...],
        formula: Formula,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *before: torch.Tensor,
    ) -> torch.Tensor:
        out = torch.empty(query.shape, dtype=query.dtype)
        saved = []
        for group in groups:
            q = _spread(query, group, key.shape[1])
            k, v = _spread(key, group), _spread(value, group)
            if before:
                k, v = _behind(before[0], k, group), _behind(before[1], v, group)
            keys = group.behind + group.length
            bias = torch.zeros(group.length, keys)
            seen = _mask(group.length, keys, formula.window, bias.device)
            bias.masked_fill_(~seen, float("-inf"))
            bias = bias.repeat(q.shape[1] // group.length, 1)
            scores = torch.baddbmm(bias, q.float(), k.float().transpose(1, 2), alpha=formula.scale)
            weights = scores.softmax(-1).to(q.dtype)
            out = _collect(torch.bmm(weights, v), group, query.shape, out)
            saved += [q, k, v, weights]
        ctx.save_for_backward(*saved)
        ctx.groups, ctx.scale, ctx.kv_shape = groups, formula.scale, key.shape
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        saved = iter(ctx.saved_tensors)
        dq = torch.empty(grad.shape, dtype=grad.dtype)
        dkv = [torch.empty(ctx.kv_shape, dtype=grad.dtype) for _ in range(2)]
        kept = ctx.groups[0].behind
        before = [grad.new_zeros(kept, *ctx.kv_shape[1:]) for _ in range(2 if kept else 0)]
        for group in ctx.groups:
            q, k, v, weights = (next(saved) for _ in range(4))
            g = _spread(grad, group, ctx.kv_shape[1])
            dweights = torch.bmm(g, v.transpose(1, 2))
            dscores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype)
            dscores = dscores.mul_(ctx.scale)
            dq = _collect(torch.bmm(dscores, k), group, dq.shape, dq)
            both = (torch.bmm(dscores.transpose(1, 2), q), torch.bmm(weights.transpose(1, 2), g))
            for number, d in enumerate(both):
                own = d
                if kept:
                    common, own = d.split([kept, group.length], 1)
                    common = common.unflatten(0, (group.count, -1)).sum(0)
                    before[number] += common.transpose(0, 1)
                dkv[number] = _collect(own, group, ctx.kv_shape, dkv[number])
        return None, None, dq, *dkv, *before


def _behind(before: torch.Tensor, own: torch.Tensor, group: Group) -> torch.Tensor:
    """[behind, kv heads, d] in front of [count * kv heads, length, d] of each document."""
    common = before.transpose(0, 1).repeat(group.count, 1, 1)
    return torch.cat([common, own], 1)


def _spread(x: torch.Tensor, group: Group, batches: int | None = None) -> torch.Tensor:
    """[tokens, heads, d] -> [count * batches, heads / batches * length, d], zero where padded."""
    _, heads, size = x.shape
    kept = batches or heads
    padded = x if group.tokens is None else x[group.tokens]
    if group.slots is not None:
        spaced = x.new_zeros(group.count * group.length, heads, size)
        padded = spaced.index_copy_(0, group.slots, padded)
    parts = padded.reshape(group.count, group.length, kept, heads // kept, size)
    return parts.permute(0, 2, 3, 1, 4).reshape(group.count * kept, -1, size)


def _collect(y: torch.Tensor, group: Group, shape: torch.Size, into: torch.Tensor) -> torch.Tensor:
    """The inverse of `_spread`: [tokens, heads, d], in the places of the group's tokens."""
    kept = y.shape[0] // group.count
    parts = y.reshape(group.count, kept, shape[1] // kept, group.length, shape[2])
    rows = parts.permute(0, 3, 1, 2, 4).reshape(group.count * group.length, shape[1], shape[2])
    if group.slots is not None:
        rows = rows[group.slots]
    return rows if group.tokens is None else into.index_copy_(0, group.tokens, rows)
