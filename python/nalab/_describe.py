"""What the library would do and why, and how much of a window's sparsity tiles can turn into speed."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional, Sequence, Union

from . import _core
from ._functions import PerAxis, PerAxisBool
from ._threads import requested


class Variant(NamedTuple):
    """One way to compute attention."""

    name: str
    paper_term: str  # what the papers call it
    summary: str
    device: str  # cpu, or cuda: then it needs a GPU and a build for it


class Plan(NamedTuple):
    """What would run for a problem."""

    variant: str
    pass_: str
    arithmetic: str
    isa: str  # the limit on the instructions used
    tiling: Optional[str]  # None if the variant has no tiles
    threads: int
    workspace_bytes: int
    tensor_bytes: int  # of the tensors that the pass must read and write once
    useful_flops: int  # 2 for each multiply-add that the definition needs
    executed_flops: int  # masked ones included
    problem: str
    others: Mapping[str, str]  # for every other variant why it is not used; empty if a variant was asked for


class Simulation(NamedTuple):
    """Tiles that a tiled kernel visits, and the bounds that follow for its speedup over self attention."""

    q_tile: tuple[int, ...]
    kv_tile: tuple[int, ...]
    tiles_total: int  # KV tiles of self attention
    tiles_visited_worst: int  # by the query tile that visits most
    tiles_visited_mean: float
    partial_tiles_share: float  # share of the visited tiles that need a mask
    wasted_share: float  # share of the multiply-adds that the mask throws away
    sparsity: float  # share of self attention's pairs that is not attended
    speedup_worst: float  # if all query tiles take as long as the worst: the papers' simulated speedup
    speedup_mean: float
    speedup_flops: float  # the FLOP-wise bound
    perfectly_block_sparse: bool


def variants() -> list[Variant]:
    """All variants in the library's order of preference."""
    return [Variant(*fields) for fields in _core.variants()]


def plan(
    layout: Union[int, Sequence[int]],
    window: PerAxis,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
    causal: PerAxisBool = False,
    *,
    batch: int = 1,
    heads: int = 1,
    heads_kv: Optional[int] = None,
    head_dim: int = 64,
    head_dim_v: Optional[int] = None,
    extra_tokens: int = 0,
    rpb: bool = False,
    dtype: str = "float32",
    pass_: str = "forward",
    variant: Optional[str] = None,
) -> Plan:
    """What would run for contiguous arrays of a problem, and why.

    pass_: forward, backward, weights, weights_backward, values or values_backward. The others are as those of attention.
    """
    heads_kv = heads if heads_kv is None else heads_kv
    head_dim_v = head_dim if head_dim_v is None else head_dim_v
    extents = (batch, heads, heads_kv, head_dim, head_dim_v, extra_tokens)
    dtype = getattr(dtype, "__name__", str(dtype).replace("torch.", ""))  # NumPy's scalar types have such names
    fields = _core.plan(
        layout, window, stride, dilation, causal, *extents, bool(rpb), dtype, str(pass_), variant, requested()
    )
    return Plan(**fields)


def sim(
    layout: Union[int, Sequence[int]],
    window: PerAxis,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
    causal: PerAxisBool = False,
    *,
    extra_tokens: int = 0,
    q_tile: Optional[PerAxis] = None,
    kv_tile: Optional[PerAxis] = None,
    kv_tiling: str = "static",
    tiling: str = "multi",
) -> Simulation:
    """The analytic model of tiled kernels (Generalized Neighborhood Attention, 2504.16922).

    q_tile, kv_tile: tokens of a tile along each axis; None: those of the published figures. kv_tiling: "static", or
    "dynamic" if KV tiles begin at the first key that is seen. tiling: "multi" for boxes of the layout, "single" for as
    many consecutive tokens of the flattened layout.
    """
    if kv_tiling not in ("static", "dynamic"):
        raise _core.Error(f"kv_tiling {kv_tiling!r} must be 'static' or 'dynamic'")
    if tiling not in ("multi", "single"):
        raise _core.Error(f"tiling {tiling!r} must be 'multi' or 'single'")
    fields = _core.sim(
        layout, window, stride, dilation, causal, extra_tokens, q_tile, kv_tile, kv_tiling == "dynamic",
        tiling == "single",
    )  # fmt: skip
    return Simulation(**fields)
