"""Neighborhood attention for PyTorch on CPUs, with gradients, by the names that users of natten know.

Functions na1d, na2d, na3d and modules are heads last, [batch, X..., heads, head_dim] and [batch, X..., dim]; the operators
na*_qk and na*_av on the weights between the two products are heads first, [batch, heads, X..., head_dim], as natten's are.
Tensors may be float32, bfloat16 or float16, of any strides. Under autocast on the CPU they are cast to its type.

All are operators of torch.library (torch.ops.nalab), and torch.compile(fullgraph=True) takes them from PyTorch 2.4 on. The
number of threads is that of nalab.set_num_threads, else NALAB_THREADS, else torch.get_num_threads(). Results do not depend
on it. Not there: second derivatives, torch.func transforms such as vmap, forward-mode differentiation, nested tensors.
"""

from ._functional import (
    merge_attentions,
    na1d,
    na1d_av,
    na1d_qk,
    na2d,
    na2d_av,
    na2d_qk,
    na3d,
    na3d_av,
    na3d_qk,
    neighborhood_attention_generic,
)
from ._modules import NeighborhoodAttention1D, NeighborhoodAttention2D, NeighborhoodAttention3D

__all__ = [
    "NeighborhoodAttention1D",
    "NeighborhoodAttention2D",
    "NeighborhoodAttention3D",
    "merge_attentions",
    "na1d",
    "na1d_av",
    "na1d_qk",
    "na2d",
    "na2d_av",
    "na2d_qk",
    "na3d",
    "na3d_av",
    "na3d_qk",
    "neighborhood_attention_generic",
]
