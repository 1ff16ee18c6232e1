"""natten 0.20 and later: all heads last; the fifth argument of na1d, na2d and na3d is the stride; no bias."""

from __future__ import annotations

import torch

from .. import torch as _torch
from .._core import Error
from ..torch._modules import _NeighborhoodAttention
from . import _common, _context
from ._common import ignore, set_names

_FUSED = {1: _torch.na1d, 2: _torch.na2d, 3: _torch.na3d}
HAS_LIBNATTEN = True


class _Module(_NeighborhoodAttention):
    def __init__(self, embed_dim=None, num_heads=None, kernel_size=None, stride=1, dilation=1, is_causal=False,
                 qkv_bias=True, qk_scale=None, proj_drop=0.0, *, dim=None):  # fmt: skip
        embed_dim = dim if embed_dim is None else embed_dim  # 0.20.0 called it dim
        if None in (embed_dim, num_heads, kernel_size):
            raise TypeError("embed_dim, num_heads and kernel_size are required")
        super().__init__(embed_dim, num_heads, kernel_size, stride, dilation, is_causal, qkv_bias=qkv_bias,
                         qk_scale=qk_scale or None, proj_drop=proj_drop)  # fmt: skip
        for name, value in self.neighborhood.items():
            setattr(self, name, value)

    def forward(self, x, **kernels):
        ignore(**kernels)
        return super().forward(x)


class NeighborhoodAttention1D(_Module):
    rank = 1


class NeighborhoodAttention2D(_Module):
    rank = 2


class NeighborhoodAttention3D(_Module):
    rank = 3


def _attend(rank, query, key, value, kernel_size, stride, dilation, is_causal, scale, keys, values, return_lse, kernels):
    ignore(**kernels)
    if query.dim() != rank + 3:
        raise Error(f"na{rank}d: query has {query.dim()} axes, must have {rank + 3}")
    return _FUSED[rank](
        query, key, value, kernel_size, stride, dilation, is_causal, scale or None, additional_keys=keys,
        additional_values=values, return_lse=return_lse,
    )  # fmt: skip


def _make(rank):
    def attention(query, key, value, kernel_size, stride=1, dilation=1, is_causal=False, scale=None,
                  additional_keys=None, additional_values=None, attention_kwargs=None, backend=None,
                  q_tile_shape=None, kv_tile_shape=None, backward_q_tile_shape=None, backward_kv_tile_shape=None,
                  backward_kv_splits=None, backward_use_pt_reduction=False, run_persistent_kernel=True,
                  kernel_schedule=None, torch_compile=False, return_lse=False, **kernels):  # fmt: skip
        kernels.update(
            attention_kwargs=attention_kwargs, backend=backend, q_tile_shape=q_tile_shape, kv_tile_shape=kv_tile_shape,
            backward_q_tile_shape=backward_q_tile_shape, backward_kv_tile_shape=backward_kv_tile_shape,
            backward_kv_splits=backward_kv_splits, backward_use_pt_reduction=backward_use_pt_reduction,
            kernel_schedule=kernel_schedule, torch_compile=torch_compile,
        )  # fmt: skip
        own_rank = query.dim() - 3 if rank is None else rank
        if own_rank not in _FUSED:
            raise Error(f"neighborhood_attention_generic: query has {query.dim()} axes, must have 4 to 6")
        return _attend(own_rank, query, key, value, kernel_size, stride, dilation, is_causal, scale, additional_keys,
                       additional_values, return_lse, kernels)  # fmt: skip

    return attention


FUNCTIONS = set_names(
    {"na1d": _make(1), "na2d": _make(2), "na3d": _make(3), "neighborhood_attention_generic": _make(None)}
)
globals().update(FUNCTIONS)


def attention(query, key, value, is_causal=False, scale=None, *positional, return_lse=False, **kernels):
    """Self and cross attention [batch, tokens, heads, head_dim], of a window that is the whole sequence."""
    if any(argument is not None for argument in positional):
        # What follows the scale there are lengths of sequences.
        raise NotImplementedError("nalab.natten takes what follows scale by name alone")
    for name in kernels:
        if "seqlen" in name and kernels[name] is not None:
            raise NotImplementedError(f"nalab.natten has no sequences of varied length: {name} must be None")
    ignore(**kernels)
    tokens, keys = query.shape[1], key.shape[1]
    if tokens == keys:
        return _torch.na1d(query, key, value, tokens, is_causal=is_causal, scale=scale or None, return_lse=return_lse)
    if is_causal:
        raise NotImplementedError(f"causal attention of {tokens} queries and {keys} keys must have as many of both")
    # The keys are additional tokens; a bias of -infinity hides the window of one.
    own_key = key.new_zeros(*query.shape[:2], *key.shape[2:])
    own_value = value.new_zeros(*query.shape[:2], *value.shape[2:])
    hide = torch.full((query.shape[2], 1), -torch.inf)
    return _torch.na1d(query, own_key, own_value, 1, scale=scale or None, rpb=hide, additional_keys=key,
                       additional_values=value, return_lse=return_lse)  # fmt: skip


def merge_attentions(outputs, lse_tensors, torch_compile=True, use_autograd_fix=True):
    """(out, lse) over the union of disjoint sets of keys; its gradients are exact without further ado."""
    return _torch.merge_attentions(outputs, lse_tensors)


def contents(version, patch):
    """Names by module."""
    modules = {
        "NeighborhoodAttention1D": NeighborhoodAttention1D,
        "NeighborhoodAttention2D": NeighborhoodAttention2D,
        "NeighborhoodAttention3D": NeighborhoodAttention3D,
    }
    functions = {**FUNCTIONS, "attention": attention, "merge_attentions": merge_attentions}
    context = {name: v for name, v in _context.names().items() if not name.startswith(("has_", "enable_", "disable_t"))}
    top = {name: value for name, value in functions.items() if name != "neighborhood_attention_generic"}
    return {
        "functional": functions,
        "modules": modules,
        "context": context,
        "types": _common.types_module(),
        **_common.utils_modules(),
        "flops": {"add_natten_handle": _common.add_natten_handle},
        "": {**modules, **top, **context, "HAS_LIBNATTEN": HAS_LIBNATTEN, "__version__": version},
    }
