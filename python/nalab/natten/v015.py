"""natten 0.15: as 0.14.6, with three axes, additional tokens, and names na*_qk and na*_av."""

from __future__ import annotations

from . import _common, _context
from ._common import Padded, set_names, values, weights
from .v014 import NeighborhoodAttention1D, NeighborhoodAttention2D


class NeighborhoodAttention3D(Padded):
    rank = 3
    padded_axes = slice(1, None)  # natten 0.15 adds nothing along the depth

    def __init__(self, dim, num_heads, kernel_size, kernel_size_d=None, dilation=1, dilation_d=None, bias=True,
                 qkv_bias=True, qk_scale=None, attn_drop=0.0, proj_drop=0.0):  # fmt: skip
        dilation = dilation or 1
        window = (kernel_size_d or kernel_size, kernel_size, kernel_size)
        dilations = (dilation_d or dilation, dilation, dilation)
        super().__init__(dim, num_heads, window, dilation=dilations, rel_pos_bias=bias, qkv_bias=qkv_bias,
                         qk_scale=qk_scale or None, attn_drop=attn_drop, proj_drop=proj_drop)  # fmt: skip
        self.kernel_size, self.kernel_size_d = kernel_size, window[0]
        self.dilation, self.dilation_d = dilation, dilations[0]
        self.window_size, self.window_size_d = kernel_size * dilation, window[0] * dilations[0]


def _make(rank):
    def qk(query, key, kernel_size, dilation, additional_keys=None):
        return weights(rank, query, key, kernel_size, dilation, None, additional_keys)

    def qk_with_bias(query, key, bias, kernel_size, dilation, additional_keys=None):
        return weights(rank, query, key, kernel_size, dilation, bias, additional_keys)

    def av(attn, value, kernel_size, dilation, additional_values=None):
        return values(rank, attn, value, kernel_size, dilation, additional_values)

    def qkrpb(query, key, rpb, kernel_size, dilation):
        return weights(rank, query, key, kernel_size, dilation, rpb)

    return qk, qk_with_bias, av, qkrpb


def _make_3d():
    def spread(kernel_size_d, kernel_size, dilation_d, dilation):
        return (kernel_size_d, kernel_size, kernel_size), (dilation_d, dilation, dilation)

    def qk(query, key, kernel_size_d, kernel_size, dilation_d, dilation, additional_keys=None):
        own = spread(kernel_size_d, kernel_size, dilation_d, dilation)
        return weights(3, query, key, *own, None, additional_keys)

    def qk_with_bias(query, key, bias, kernel_size_d, kernel_size, dilation_d, dilation, additional_keys=None):
        own = spread(kernel_size_d, kernel_size, dilation_d, dilation)
        return weights(3, query, key, *own, bias, additional_keys)

    def av(attn, value, kernel_size_d, kernel_size, dilation_d, dilation, additional_values=None):
        own = spread(kernel_size_d, kernel_size, dilation_d, dilation)
        return values(3, attn, value, *own, additional_values)

    def qkrpb(query, key, rpb, kernel_size_d, kernel_size, dilation_d, dilation):
        return weights(3, query, key, *spread(kernel_size_d, kernel_size, dilation_d, dilation), rpb)

    return qk, qk_with_bias, av, qkrpb


FUNCTIONS = {}
for _rank, (_qk, _qk_with_bias, _av, _qkrpb) in ((1, _make(1)), (2, _make(2)), (3, _make_3d())):
    FUNCTIONS.update(
        set_names({f"na{_rank}d_qk": _qk, f"na{_rank}d_qk_with_bias": _qk_with_bias, f"na{_rank}d_av": _av})
    )
    FUNCTIONS.update({f"natten{_rank}dqk": _qk, f"natten{_rank}dqkrpb": _qkrpb, f"natten{_rank}dav": _av})
globals().update(FUNCTIONS)


def contents(version, patch):
    """Names by module. There is no natten.context: programs tell 0.17 by it."""
    modules = {
        "NeighborhoodAttention1D": NeighborhoodAttention1D,
        "NeighborhoodAttention2D": NeighborhoodAttention2D,
        "NeighborhoodAttention3D": NeighborhoodAttention3D,
    }
    switches = {name: value for name, value in _context.names().items() if name.startswith(("has_", "enable", "disable"))}
    switches = {name: value for name, value in switches.items() if "fna" not in name and "fused" not in name}
    return {
        "": {**modules, **switches, "__version__": version},
        "functional": {**FUNCTIONS, **switches},
        **{f"natten{rank}d": {f"NeighborhoodAttention{rank}D": list(modules.values())[rank - 1]} for rank in (1, 2, 3)},
        "flops": {"add_natten_handle": _common.add_natten_handle},
    }
