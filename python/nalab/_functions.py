"""Attention, its gradients, and the operators around it."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Sequence, Union

from . import _core
from ._arrays import Array, maker
from ._threads import requested

PerAxis = Union[int, Sequence[int]]  # one integer for all axes of the layout, or one for each
PerAxisBool = Union[bool, Sequence[bool]]


class Gradients(NamedTuple):
    """Gradients of the inputs, each shaped as what it is the gradient of; None for inputs that are absent."""

    dq: Optional[Array] = None
    dk: Optional[Array] = None
    dv: Optional[Array] = None
    dextra_k: Optional[Array] = None
    dextra_v: Optional[Array] = None
    drpb: Optional[Array] = None
    dattn: Optional[Array] = None


def _compute(pass_, like, tensors, window, stride, dilation, causal, scale, variant, wants_lse=False):
    make = maker(like, tensors.values())
    results = _core.compute(
        pass_, tensors, window, stride, dilation, causal, scale, variant, requested(), wants_lse, make.empty
    )
    if make.convert is None:
        return results
    return {name: array if tensors.get(name) is not None else make.convert(array) for name, array in results.items()}


def attention(
    q: Array,
    k: Array,
    v: Array,
    window: PerAxis,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
    causal: PerAxisBool = False,
    scale: Optional[float] = None,
    rpb: Optional[Array] = None,
    extra_k: Optional[Array] = None,
    extra_v: Optional[Array] = None,
    variant: Optional[str] = None,
    return_lse: bool = False,
    out: Optional[Array] = None,
) -> Any:
    """Neighborhood attention: softmax(scale * q k^T + bias over the window of each query) v.

    Args:
        q: queries [batch, X..., heads, head_dim]; X... are the one to three axes of the token layout.
        k: keys [batch, X..., heads_kv, head_dim]; heads_kv divides heads.
        v: values [batch, X..., heads_kv, head_dim_v].
        window: keys that a query sees along each axis; window * dilation is at most the extent.
        stride: neighbouring queries that share one window, 1 to window.
        dilation: only every dilation-th token is a neighbour.
        causal: whether keys after the query are hidden.
        scale: of the scores; None: 1 / sqrt(head_dim).
        rpb: relative positional bias [heads, 2 w1 - 1, ...], float32, added to the scaled scores: entry p' - p + w - 1
            along each axis for a query at position p and a key at p'.
        extra_k, extra_v: tokens [batch, E, heads_kv, ...] that every query attends to.
        variant: how it is computed, by a name of variants(); None: the one expected to be fastest.
        return_lse: whether the log-sum-exp is returned too.
        out: array to write to: out's shape, the type of q or float32.

    Returns:
        out [batch, X..., heads, head_dim_v] in the type of q, or (out, lse): lse [batch, X..., heads] is the natural
        log of the sum of exp(score), float32.
    """
    tensors = {"q": q, "k": k, "v": v, "extra_k": extra_k, "extra_v": extra_v, "rpb": rpb, "out": out}
    results = _compute("forward", q, tensors, window, stride, dilation, causal, scale, variant, bool(return_lse))
    return (results["out"], results["lse"]) if return_lse else results["out"]


def attention_backward(
    dout: Array,
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    lse: Array,
    window: PerAxis,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
    causal: PerAxisBool = False,
    scale: Optional[float] = None,
    rpb: Optional[Array] = None,
    extra_k: Optional[Array] = None,
    extra_v: Optional[Array] = None,
    variant: Optional[str] = None,
) -> Gradients:
    """Gradients of sum(out * dout) with respect to the inputs of attention.

    dout has the shape and type of out; out and lse are as attention(..., return_lse=True) gave them; the others as there.
    """
    tensors = {"q": q, "k": k, "v": v, "extra_k": extra_k, "extra_v": extra_v, "rpb": rpb, "out": out, "lse": lse}
    tensors["dout"] = dout
    return Gradients(**_compute("backward", q, tensors, window, stride, dilation, causal, scale, variant))


def weights(
    q: Array,
    k: Array,
    window: PerAxis,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
    causal: PerAxisBool = False,
    scale: Optional[float] = None,
    rpb: Optional[Array] = None,
    extra_k: Optional[Array] = None,
    variant: Optional[str] = None,
    out: Optional[Array] = None,
) -> Array:
    """The scores of every window slot: scale * q k^T + bias, for callers who work on the weights themselves.

    Returns:
        attn [batch, X..., heads, K + E]: the K = w1 w2 w3 slots in row-major order from the start of the window, -inf
        where a causal axis hides the key, then the E extra tokens. Here the scale is 1 if None.

    With softmax between them, weights and values give what attention gives. Arguments as those of attention.
    """
    tensors = {"q": q, "k": k, "extra_k": extra_k, "rpb": rpb, "attn": out}
    return _compute("weights", q, tensors, window, stride, dilation, causal, scale, variant)["attn"]


def weights_backward(
    dattn: Array,
    q: Array,
    k: Array,
    window: PerAxis,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
    causal: PerAxisBool = False,
    scale: Optional[float] = None,
    rpb: Optional[Array] = None,
    extra_k: Optional[Array] = None,
    variant: Optional[str] = None,
) -> Gradients:
    """Gradients of sum(attn * dattn) with respect to q, k, extra_k and rpb (of which only the presence matters)."""
    tensors = {"q": q, "k": k, "extra_k": extra_k, "rpb": rpb, "dattn": dattn}
    return Gradients(**_compute("weights_backward", q, tensors, window, stride, dilation, causal, scale, variant))


def values(
    attn: Array,
    v: Array,
    window: PerAxis,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
    causal: PerAxisBool = False,
    extra_v: Optional[Array] = None,
    variant: Optional[str] = None,
    out: Optional[Array] = None,
) -> Array:
    """Sums of values, weighted by attn [batch, X..., heads, K + E] whose slots are those of weights().

    v [batch, X..., heads_kv, head_dim_v]; returns [batch, X..., heads, head_dim_v]. Slots that a causal axis hides add
    nothing, whatever they hold.
    """
    tensors = {"attn": attn, "v": v, "extra_v": extra_v, "out": out}
    return _compute("values", v, tensors, window, stride, dilation, causal, None, variant)["out"]


def values_backward(
    dout: Array,
    attn: Array,
    v: Array,
    window: PerAxis,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
    causal: PerAxisBool = False,
    extra_v: Optional[Array] = None,
    variant: Optional[str] = None,
) -> Gradients:
    """Gradients of sum(out * dout) with respect to attn (0 in hidden slots), v and extra_v."""
    tensors = {"attn": attn, "v": v, "extra_v": extra_v, "dout": dout}
    return Gradients(**_compute("values_backward", v, tensors, window, stride, dilation, causal, None, variant))


def merge(outs: Sequence[Array], lses: Sequence[Array]) -> tuple[Array, Array]:
    """Attention over the union of disjoint sets of keys, from the attention over each: (out, lse).

    outs: [batch, X..., heads, head_dim_v] of one shape and type; lses: [batch, X..., heads], float32, natural log.
    """
    outs, lses = list(outs), list(lses)
    if not outs:
        raise _core.Error("there are no partial attentions to merge")
    make = maker(outs[0], (*outs[1:], *lses))
    out, lse = _core.merge(outs, lses, requested(), make.empty)
    return make.finish(out), make.finish(lse)


def permute(tokens: Array, tile: PerAxis, dilation: PerAxis = 1) -> Array:
    """Copies tokens [batch, X..., heads, dim] to [batch, tokens, heads, dim], those of a tile next to each other.

    Dilation groups follow each other in row-major order, in a group its tiles, in a tile its tokens.
    """
    make = maker(tokens)
    return make.finish(_core.permute(tokens, tile, dilation, requested(), make.empty))


def unpermute(permuted: Array, layout: PerAxis, tile: PerAxis, dilation: PerAxis = 1) -> Array:
    """The inverse of permute: [batch, tokens, heads, dim] to [batch, *layout, heads, dim]."""
    make = maker(permuted)
    return make.finish(_core.unpermute(permuted, layout, tile, dilation, requested(), make.empty))
