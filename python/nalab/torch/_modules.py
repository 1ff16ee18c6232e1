"""Modules by natten's names, with its names of parameters: qkv, rpb, proj."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn

from .._core import Error
from ._functional import PerAxis, PerAxisBool, _attend, values_of, weights_of
from ._operators import spread


class _NeighborhoodAttention(nn.Module):
    """Neighborhood attention with projections of its inputs and outputs: x [batch, X..., embed_dim] to the same shape.

    Args:
        embed_dim: channels; num_heads divides it.
        num_heads: heads of embed_dim / num_heads channels.
        kernel_size, stride, dilation, is_causal: as those of the function; one value for all axes, or one for each.
        rel_pos_bias: whether a relative positional bias [num_heads, 2 kernel_size - 1, ...], `rpb`, is learnt.
        qkv_bias: whether the first projection has a bias.
        qk_scale: of the scores; None: head_dim ** -0.5.
        attn_drop: dropout of the weights in training; with it the weights are made in memory.
        proj_drop: dropout after the last projection.
    """

    rank: int

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        dilation: PerAxis = 1,
        is_causal: PerAxisBool = False,
        rel_pos_bias: bool = False,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ):
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads != 0:
            raise Error(f"embed_dim {embed_dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.scale = self.head_dim**-0.5 if qk_scale is None else qk_scale
        given = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation, "is_causal": is_causal}
        self.neighborhood = {name: tuple(spread(value, self.rank)) for name, value in given.items()}
        for name, values in self.neighborhood.items():
            if len(values) != self.rank:
                raise Error(f"{name} {values} must be one value, or {self.rank} of them")
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        if rel_pos_bias:
            self.rpb = nn.Parameter(torch.zeros(num_heads, *(2 * w - 1 for w in self.neighborhood["kernel_size"])))
            nn.init.trunc_normal_(self.rpb, std=0.02, mean=0.0, a=-2.0, b=2.0)
        else:
            self.register_parameter("rpb", None)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        if x.dim() != self.rank + 2:
            raise Error(f"input has {x.dim()} axes, must have {self.rank + 2}: batch, the token layout, channels")
        q, k, v = qkv.view(*x.shape[:-1], 3, self.num_heads, self.head_dim).unbind(-3)
        window = self.neighborhood.values()
        if self.training and self.attn_drop.p > 0:
            attn = weights_of(self.rank, q, k, *window, self.scale, self.rpb, None, False)
            out = values_of(self.rank, self.attn_drop(attn.softmax(-1)), v, *window, None, False)
        else:
            name = type(self).__name__
            out = _attend(name, self.rank, q, k, v, *window, self.scale, self.rpb, (None, None), False)
        return self.proj_drop(self.proj(out.flatten(-2)))

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, head_dim={self.head_dim}, "
            + "".join(f"{name}={value}, " for name, value in self.neighborhood.items())
            + f"rel_pos_bias={self.rpb is not None}"
        )


class NeighborhoodAttention1D(_NeighborhoodAttention):
    __doc__ = _NeighborhoodAttention.__doc__
    rank = 1


class NeighborhoodAttention2D(_NeighborhoodAttention):
    __doc__ = _NeighborhoodAttention.__doc__
    rank = 2


class NeighborhoodAttention3D(_NeighborhoodAttention):
    __doc__ = _NeighborhoodAttention.__doc__
    rank = 3
