"""What the generations share."""

from __future__ import annotations

import logging
import math
import typing
import warnings

from torch.nn.functional import pad

from ..torch import _functional
from ..torch._modules import _NeighborhoodAttention


def set_names(functions):
    """Functions by their names, which they are told."""
    for name, function in functions.items():
        function.__name__ = function.__qualname__ = name
    return functions


def weights(rank, query, key, kernel_size, dilation, rpb=None, additional_keys=None, is_causal=False):
    """Scores without a scale, heads first."""
    return _functional.weights_of(
        rank, query, key, kernel_size, 1, dilation or 1, is_causal, 1.0, rpb, additional_keys, True
    )


def values(rank, attn, value, kernel_size, dilation, additional_values=None, is_causal=False):
    """Weighted sums of values, heads first."""
    return _functional.values_of(rank, attn, value, kernel_size, 1, dilation or 1, is_causal, additional_values, True)


def square_window(rank, slots):
    """The kernel size along each axis of a window of so many slots."""
    return slots if rank == 1 else math.isqrt(slots)


_warned = set()


def ignore(**arguments):
    """Says once for each name that it changes nothing, if it was given."""
    new = sorted(name for name, given in arguments.items() if given and name not in _warned)
    if new:
        _warned.update(new)
        warnings.warn(f"nalab.natten ignores {', '.join(new)}: nalab chooses its kernels itself", stacklevel=3)


class Padded(_NeighborhoodAttention):
    """The modules before 0.17: inputs smaller than window * dilation are filled with zeros at their end, which are
    attended to, and cropped after."""

    padded_axes = slice(None)  # of the layout

    def forward(self, x):
        layout = list(x.shape[1:-1])
        least = [w * d for w, d in zip(self.neighborhood["kernel_size"], self.neighborhood["dilation"])]
        missing = [max(0, need - extent) for need, extent in zip(least, layout)]
        if x.dim() != self.rank + 2 or not any(missing[self.padded_axes]):
            return super().forward(x)
        amounts = [0, 0]  # from the last axis to the first, as pad has them
        padded = range(len(layout))[self.padded_axes]
        for axis in reversed(range(len(layout))):
            amounts += [0, missing[axis] if axis in padded else 0]
        y = super().forward(pad(x, amounts))
        return y[(slice(None), *(slice(0, extent) for extent in layout))]


def types_module():
    """natten.types: names for annotations."""
    names = {"NoneType": type(None)}
    for rank in (1, 2, 3):
        integers, booleans = typing.Tuple[(int,) * rank], typing.Tuple[(bool,) * rank]
        names[f"Dimension{rank}DType"] = integers
        names[f"Dimension{rank}DTypeOrDed"] = typing.Union[int, integers]
        names[f"CausalArg{rank}DType"] = booleans
        names[f"CausalArg{rank}DTypeOrDed"] = typing.Union[bool, booleans]
    names["DimensionType"] = typing.Union[tuple(names[f"Dimension{rank}DType"] for rank in (1, 2, 3))]
    names["DimensionTypeOrDed"] = typing.Union[int, names["DimensionType"]]
    names["CausalArgType"] = typing.Union[tuple(names[f"CausalArg{rank}DType"] for rank in (1, 2, 3))]
    names["CausalArgTypeOrDed"] = typing.Union[bool, names["CausalArgType"]]
    return names


def check_all_args(rank, kernel_size, *others):
    """One tuple of `rank` values for each argument."""
    return tuple(tuple(_functional.spread(value, rank)) for value in (kernel_size, *others))


def utils_modules():
    """natten.utils and natten.utils.log."""
    return {"utils": {"check_all_args": check_all_args}, "utils.log": {"get_logger": logging.getLogger}}


def add_natten_handle(counter, *_arguments, **_options):
    """natten.flops: nalab's operators are counted by nalab.plan; the counter comes back as it is."""
    return counter
