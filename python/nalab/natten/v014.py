"""natten 0.14: operators on the weights, heads first, and modules that pad. Odd windows of one size along all axes."""

from __future__ import annotations

from ._common import Padded, set_names, square_window, values, weights


class _Module(Padded):
    """Before 0.14.5 the kernel size came before the heads, and there was always a bias."""

    def __init__(self, dim, num_heads, kernel_size, dilation=1, bias=True, qkv_bias=True, qk_scale=None, attn_drop=0.0,
                 proj_drop=0.0):  # fmt: skip
        super().__init__(dim, num_heads, kernel_size, dilation=dilation or 1, rel_pos_bias=bias, qkv_bias=qkv_bias,
                         qk_scale=qk_scale or None, attn_drop=attn_drop, proj_drop=proj_drop)  # fmt: skip
        self.kernel_size, self.dilation = kernel_size, dilation or 1
        self.window_size = self.kernel_size * self.dilation


class NeighborhoodAttention1D(_Module):
    rank = 1


class NeighborhoodAttention2D(_Module):
    rank = 2


class _EarlyModule(_Module):
    def __init__(self, dim, kernel_size, num_heads, qkv_bias=True, qk_scale=None, attn_drop=0.0, proj_drop=0.0,
                 dilation=None):  # fmt: skip
        super().__init__(dim, num_heads, kernel_size, dilation, True, qkv_bias, qk_scale, attn_drop, proj_drop)


class EarlyNeighborhoodAttention1D(_EarlyModule):
    rank = 1


class EarlyNeighborhoodAttention2D(_EarlyModule):
    rank = 2


def _make(rank):
    def qk(query, key, kernel_size, dilation):
        return weights(rank, query, key, kernel_size, dilation)

    def qkrpb(query, key, rpb, kernel_size, dilation):
        return weights(rank, query, key, kernel_size, dilation, rpb)

    def av(attn, value, kernel_size, dilation):
        return values(rank, attn, value, kernel_size, dilation)

    def early_qkrpb(query, key, rpb, dilation):
        return weights(rank, query, key, (rpb.shape[-1] + 1) // 2, dilation, rpb)

    def early_av(attn, value, dilation):
        return values(rank, attn, value, square_window(rank, attn.shape[-1]), dilation)

    prefix = f"natten{rank}d"
    late = {f"{prefix}qk": qk, f"{prefix}qkrpb": qkrpb, f"{prefix}av": av}
    return set_names(late), set_names({f"{prefix}qkrpb": early_qkrpb, f"{prefix}av": early_av})


_LATE, _EARLY = ({**one, **two} for one, two in zip(_make(1), _make(2)))
globals().update(_LATE)

# Some programs call the autograd functions themselves.
_CLASSES = {
    f"NATTEN{rank}D{name}Function": type(name, (), {"apply": staticmethod(_LATE[f"natten{rank}d{name.lower()}"])})
    for rank in (1, 2)
    for name in ("QKRPB", "AV")
}


def contents(version, patch):
    """Names by module; the last of the generation without a patch number."""
    patch = 6 if patch is None else patch
    functions = {**_LATE, **_CLASSES}
    one, two = NeighborhoodAttention1D, NeighborhoodAttention2D
    if patch == 5:
        functions = {name: (_EARLY if name.endswith("av") else _LATE)[name] for name in _EARLY}
    elif patch < 5:
        functions, one, two = _EARLY, EarlyNeighborhoodAttention1D, EarlyNeighborhoodAttention2D
    modules = {"NeighborhoodAttention1D": one, "NeighborhoodAttention2D": two, "NeighborhoodAttention": two}
    return {
        "": {**modules, "__version__": version},
        "functional": functions,
        "natten1d": {"NeighborhoodAttention1D": one},
        "natten2d": {"NeighborhoodAttention2D": two},
    }
