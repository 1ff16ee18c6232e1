"""Neighborhood attention by compiled FlexAttention, whose blocks of 128 x 128 are tiles of 128 tokens.

Tokens lie in the order of tiles; bringing them there is left out of the time. Blocks that nobody attends to are
skipped, blocks within every window are computed without a mask. Of the tiles whose extents divide the layout's, those
that leave the fewest blocks are taken.
"""

import itertools
import math

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128


def first_key(coordinate, axis):
    """Of a query's window along an axis (extent, window, stride), without dilation and causal axes."""
    extent, window, stride = axis
    leader = torch.clamp(coordinate // stride * stride + stride // 2, max=extent - 1)
    return torch.clamp(leader - window // 2, min=0, max=extent - window)


def blocks_of(axes, tile, device):
    """Of the blocks [query tile, key tile]: which have a pair that attends, and which have no other."""
    some = every = torch.ones(1, 1, dtype=torch.bool, device=device)
    for axis, size in zip(axes, tile):
        extent, window, _ = axis
        key = torch.arange(extent, device=device)
        first = first_key(key, axis)
        pairs = (key >= first[:, None]) & (key < first[:, None] + window)
        pairs = pairs.reshape(extent // size, size, extent // size, size).transpose(1, 2)
        some = torch.kron(some.int(), pairs.any(-1).any(-1).int()).bool()
        every = torch.kron(every.int(), pairs.all(-1).all(-1).int()).bool()
    return some, every


def listed(blocks):
    """Numbers and indices of a row's blocks, as BlockMask wants them."""
    count = blocks.sum(-1, dtype=torch.int32)
    return count[None, None], torch.argsort(blocks.int(), dim=-1, descending=True, stable=True).int()[None, None]


class Flex:
    """A problem whose extents tiles of 128 tokens divide; a call computes out and lse of tokens in the tiles' order."""

    def __init__(self, problem, tensors):
        axes = list(zip(problem.layout, problem.window, problem.stride))
        tiles = [
            tile
            for tile in itertools.product(*([s for s in range(1, BLOCK + 1) if n % s == 0] for n in problem.layout))
            if math.prod(tile) == BLOCK
        ]
        self.tile = min(tiles, key=lambda tile: blocks_of(axes, tile, tensors.q.device)[0].sum().item())
        self._layout = problem.layout
        some, every = blocks_of(axes, self.tile, tensors.q.device)
        self._mask = BlockMask.from_kv_blocks(
            *listed(some & ~every), *listed(every), BLOCK_SIZE=BLOCK, mask_mod=self._attends(axes)
        )
        self._inputs = [self._to_tiles(x) for x in (tensors.q, tensors.k, tensors.v)]
        torch.compiler.reset()  # it would keep eight shapes, and compute the ninth without compiling
        self._compiled = torch.compile(flex_attention, dynamic=False)

    def _attends(self, axes):
        tile = self.tile

        def coordinates(token):
            within, block = token % BLOCK, token // BLOCK
            found = []
            for (extent, _, _), size in zip(reversed(axes), reversed(tile)):
                found.append(block % (extent // size) * size + within % size)
                block, within = block // (extent // size), within // size
            return reversed(found)

        def attends(_batch, _head, query, key):
            inside = query >= 0
            for axis, q, k in zip(axes, coordinates(query), coordinates(key)):
                first = first_key(q, axis)
                inside = inside & (k >= first) & (k < first + axis[1])
            return inside

        return attends

    def _order(self):
        rank = len(self.tile)
        split = [n for extent, size in zip(self._layout, self.tile) for n in (extent // size, size)]
        return split, [2 * axis for axis in range(rank)] + [2 * axis + 1 for axis in range(rank)]

    def _to_tiles(self, x):
        """[batch, layout, heads, dim] to [batch, heads, tokens, dim]."""
        split, order = self._order()
        batch, heads, dim = x.shape[0], *x.shape[-2:]
        x = x.reshape(batch, *split, heads, dim).permute(0, *(1 + i for i in order), -2, -1)
        return x.reshape(batch, -1, heads, dim).transpose(1, 2).contiguous()

    def __call__(self):
        self._results = self._compiled(*self._inputs, block_mask=self._mask, return_lse=True)

    def store(self, tensors):
        """What the last call has computed, in the order of tensors.out and lse."""
        split, order = self._order()
        back = [order.index(i) for i in range(len(order))]
        for result, target in zip(self._results, (tensors.out, tensors.lse)):
            x = result.transpose(1, 2)
            tiled = x.reshape(x.shape[0], *(split[i] for i in order), *x.shape[2:])
            kept = range(1 + len(order), tiled.dim())
            target.copy_(tiled.permute(0, *(1 + i for i in back), *kept).reshape(target.shape))
