"""Neighborhood attention on CPUs.

Each token of a layout of one, two or three axes attends to a window of tokens around it. Arrays are heads last:

    q, out                [batch, X..., heads, head_dim], X... the token layout
    k, v                  [batch, X..., heads_kv, head_dim]; v may have another head_dim
    lse                   [batch, X..., heads], float32
    extra_k, extra_v      [batch, extra tokens, heads_kv, head_dim]: every query attends to them
    rpb                   [heads, 2 w1 - 1, (2 w2 - 1, (2 w3 - 1))], float32

They may be any arrays on the CPU that speak DLPack or the buffer protocol (NumPy, PyTorch, JAX) in float32, bfloat16 or
float16, with any strides as long as the elements of a head lie next to each other. Nothing is copied. Results come back
as the kind of the first array. Requests that the library refuses raise Error, a ValueError.

nalab.torch has the functions and modules that PyTorch users know from natten, with gradients; nalab.natten stands in for
natten itself.
"""

from ._core import Error, __version__
from ._describe import Plan, Simulation, Variant, plan, sim, variants
from ._functions import (
    Gradients,
    attention,
    attention_backward,
    merge,
    permute,
    unpermute,
    values,
    values_backward,
    weights,
    weights_backward,
)
from ._results import read_results
from ._threads import get_num_threads, set_num_threads

__all__ = [
    "Error",
    "Gradients",
    "Plan",
    "Simulation",
    "Variant",
    "__version__",
    "attention",
    "attention_backward",
    "get_num_threads",
    "merge",
    "permute",
    "plan",
    "read_results",
    "set_num_threads",
    "sim",
    "unpermute",
    "values",
    "values_backward",
    "variants",
    "weights",
    "weights_backward",
]
