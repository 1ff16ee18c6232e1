"""The definition word by word: the keys of every query are gathered, softmax is dense, all in PyTorch's float64.

Slow, and independent of the library: gradients are autograd's.
"""

import itertools
import math

import torch


def axis_slots(extent, window, stride, dilation, causal):
    """For each coordinate of an axis its window's slots: (coordinate of the key, offset + window - 1), None if hidden."""
    slots = []
    for coordinate in range(extent):
        group, position = coordinate % dilation, coordinate // dilation
        length = len(range(group, extent, dilation))
        first = position // stride * stride
        left, right = window // 2, window // 2 + window % 2 - 1
        if causal:
            start = max(min(first + stride - 1, length - 1) - left - right, 0)
            end = position + 1
        else:
            leader = min(first + stride // 2, length - 1)
            start = max(leader - left, 0)
            if leader + right >= length:
                start -= leader + right + 1 - length
            end = start + window
        slots.append(
            [
                (p * dilation + group, p - position + window - 1) if p < end else None
                for p in range(start, start + window)
            ]
        )
    return slots


def spread(value, rank):
    return [value] * rank if isinstance(value, (int, bool)) else list(value)


class Neighborhood:
    """Keys of every query: `keys` and `offsets` index the flattened layout and bias table, [tokens, slots]; `hidden`."""

    def __init__(self, layout, window, stride=1, dilation=1, causal=False):
        rank = len(layout)
        window, causal = spread(window, rank), spread(causal, rank)
        axes = [
            axis_slots(*axis) for axis in zip(layout, window, spread(stride, rank), spread(dilation, rank), causal)
        ]
        keys, offsets, hidden = [], [], []
        for query in itertools.product(*(range(n) for n in layout)):
            rows = ([], [], [])
            for slot in itertools.product(*(axis[x] for axis, x in zip(axes, query))):
                key = offset = 0
                for place, extent, w in zip(slot, layout, window):
                    key = key * extent + (place[0] if place else 0)
                    offset = offset * (2 * w - 1) + (place[1] if place else 0)
                for row, value in zip(rows, (key, offset, any(place is None for place in slot))):
                    row.append(value)
            keys.append(rows[0])
            offsets.append(rows[1])
            hidden.append(rows[2])
        self.layout = tuple(layout)
        self.keys, self.offsets, self.hidden = torch.tensor(keys), torch.tensor(offsets), torch.tensor(hidden)


def gather(neighborhood, tokens, heads):
    """[batch, heads, queries, slots, dim] of tokens [batch, X..., heads_kv, dim]."""
    flat = tokens.flatten(1, -3)[:, neighborhood.keys]
    return flat.permute(0, 3, 1, 2, 4).repeat_interleave(heads // tokens.shape[-2], 1)


def extra(tokens, heads):
    """[batch, heads, 1, extra tokens, dim]."""
    return tokens.permute(0, 2, 1, 3).repeat_interleave(heads // tokens.shape[2], 1).unsqueeze(2)


def weights(neighborhood, q, k, scale=1.0, rpb=None, extra_k=None):
    """Scores [batch, X..., heads, slots + extra tokens]; hidden slots hold -infinity."""
    heads = q.shape[-2]
    queries = q.flatten(1, -3).transpose(1, 2).unsqueeze(3)  # [batch, heads, queries, 1, dim]
    scores = scale * (queries * gather(neighborhood, k, heads)).sum(-1)
    if rpb is not None:
        scores = scores + rpb.flatten(1)[:, neighborhood.offsets]
    scores = scores.masked_fill(neighborhood.hidden, -math.inf)
    if extra_k is not None:
        scores = torch.cat([scores, scale * (queries * extra(extra_k, heads)).sum(-1)], -1)
    return scores.transpose(1, 2).unflatten(1, neighborhood.layout)


def values(neighborhood, attn, v, extra_v=None):
    """Sums of values weighted by attn [batch, X..., heads, slots + extra tokens]; hidden slots add nothing."""
    heads = attn.shape[-2]
    attn = attn.flatten(1, -3).transpose(1, 2)  # [batch, heads, queries, slots]
    slots = neighborhood.keys.shape[1]
    shown = attn[..., :slots].masked_fill(neighborhood.hidden, 0.0)
    out = (shown.unsqueeze(-1) * gather(neighborhood, v, heads)).sum(3)
    if extra_v is not None:
        out = out + (attn[..., slots:].unsqueeze(-1) * extra(extra_v, heads)).sum(3)
    return out.transpose(1, 2).unflatten(1, neighborhood.layout)


def attention(neighborhood, q, k, v, scale=None, rpb=None, extra_k=None, extra_v=None):
    """(out, lse)."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = weights(neighborhood, q, k, scale, rpb, extra_k)
    return values(neighborhood, scores.softmax(-1), v, extra_v), scores.logsumexp(-1)
