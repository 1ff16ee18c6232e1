"""natten 0.17: fused functions na1d, na2d, na3d, heads last, whose fifth argument is the dilation; the operators on the
weights, heads first; modules that refuse inputs smaller than their window."""

from __future__ import annotations

from .. import torch as _torch
from ..torch._modules import _NeighborhoodAttention
from . import _common, _context
from ._common import ignore, set_names, values, weights

_FUSED = {1: _torch.na1d, 2: _torch.na2d, 3: _torch.na3d}


class _Module(_NeighborhoodAttention):
    def __init__(self, dim, num_heads, kernel_size, dilation=1, is_causal=False, rel_pos_bias=False, qkv_bias=True,
                 qk_scale=None, attn_drop=0.0, proj_drop=0.0, use_experimental_ops=False):  # fmt: skip
        ignore(use_experimental_ops=use_experimental_ops)
        super().__init__(dim, num_heads, kernel_size, dilation=dilation or 1, is_causal=is_causal,
                         rel_pos_bias=rel_pos_bias, qkv_bias=qkv_bias, qk_scale=qk_scale or None, attn_drop=attn_drop,
                         proj_drop=proj_drop)  # fmt: skip
        for name, value in self.neighborhood.items():
            setattr(self, name, value)
        self.attn_drop_rate = attn_drop


class NeighborhoodAttention1D(_Module):
    rank = 1


class NeighborhoodAttention2D(_Module):
    rank = 2


class NeighborhoodAttention3D(_Module):
    rank = 3


def _make(rank):
    def qk(query, key, kernel_size, dilation=1, additional_keys=None, is_causal=False, rpb=None):
        return weights(rank, query, key, kernel_size, dilation, rpb, additional_keys, is_causal)

    def av(attn, value, kernel_size, dilation=1, additional_values=None, is_causal=False):
        return values(rank, attn, value, kernel_size, dilation, additional_values, is_causal)

    def fused(query, key, value, kernel_size, dilation=1, is_causal=False, rpb=None, scale=None, additional_keys=None,
              additional_values=None, xformers_kwargs=None):  # fmt: skip
        ignore(xformers_kwargs=xformers_kwargs)
        return _FUSED[rank](
            query, key, value, kernel_size, dilation=dilation, is_causal=is_causal, scale=scale or None, rpb=rpb,
            additional_keys=additional_keys, additional_values=additional_values,
        )  # fmt: skip

    return set_names({f"na{rank}d_qk": qk, f"na{rank}d_av": av, f"na{rank}d": fused})


FUNCTIONS = {**_make(1), **_make(2), **_make(3)}
globals().update(FUNCTIONS)


def _earlier_names():
    """Names of 0.14, which 0.17 still had up to 0.17.4."""
    from . import v014, v015

    names = {name: value for name, value in v015.FUNCTIONS.items() if name.startswith("natten")}
    return {**names, **v014._LATE}


def contents(version, patch):
    """Names by module."""
    modules = {
        "NeighborhoodAttention1D": NeighborhoodAttention1D,
        "NeighborhoodAttention2D": NeighborhoodAttention2D,
        "NeighborhoodAttention3D": NeighborhoodAttention3D,
    }
    context = _context.names()
    functions = {**FUNCTIONS, **(_earlier_names() if (patch or 0) < 5 else {})}
    by_rank = {
        f"{prefix}{rank}d": {f"NeighborhoodAttention{rank}D": list(modules.values())[rank - 1]}
        for prefix in ("na", "natten")
        for rank in (1, 2, 3)
    }
    return {
        **by_rank,
        "functional": {**functions, **context},
        "context": context,
        "types": _common.types_module(),
        **_common.utils_modules(),
        "flops": {"add_natten_handle": _common.add_natten_handle},
        "": {**modules, **context, "__version__": version},
    }
