"""The library's passes as operators of torch.library: fixed results, none of which shares memory with an argument.

Absent gradients are empty tensors. heads_first: tokens and weights are [batch, heads, X..., dim], extra tokens
[batch, heads, tokens, dim]. Derivatives are in _autograd.py.
"""

from __future__ import annotations

import functools

import torch

from .. import _core
from .._threads import requested_beside_torch

_NEIGHBORHOOD = "int[] window, int[] stride, int[] dilation, bool[] causal"
_ATTENTION = f"Tensor? rpb, Tensor? extra_k, Tensor? extra_v, {_NEIGHBORHOOD}, float? scale, str variant"
_WEIGHTS = f"Tensor? rpb, Tensor? extra_k, {_NEIGHBORHOOD}, float? scale, str variant, bool heads_first"
_VALUES = f"Tensor? extra_v, {_NEIGHBORHOOD}, str variant, bool heads_first"

_library = torch.library.Library("nalab", "DEF")


def _operator(schema):
    """Registers a function as the CPU's kernel of an operator."""

    def register(function):
        name = schema.partition("(")[0]
        _library.define(schema)
        _library.impl(name, function, "CPU")
        return function

    return register


def _fake(name):
    """Registers a function that gives results without numbers, for torch.compile, where PyTorch has such."""
    if hasattr(torch.library, "register_fake"):
        return torch.library.register_fake(f"nalab::{name}", lib=_library)
    return lambda function: function


def _rows(tensor):
    """A tensor as the library can read it: without a gradient, elements of a head next to each other."""
    if tensor is None:
        return None
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


@functools.lru_cache(maxsize=None)
def _maker(dtype, heads_first):
    empty, single = torch.empty, torch.float32
    if not heads_first:
        return lambda name, shape, is_single: empty(shape, dtype=single if is_single else dtype)

    def make(name, shape, is_single):
        if name == "drpb":
            return empty(shape, dtype=single)
        first = (shape[0], shape[-2], *shape[1:-2], shape[-1])
        return empty(first, dtype=single if is_single else dtype).movedim(1, -2)

    return make


def _compute(pass_, like, tensors, neighborhood, scale, variant, heads_first=False):
    tensors = {name: _rows(tensor) for name, tensor in tensors.items()}
    if heads_first:
        for name, tensor in tensors.items():
            if tensor is not None and name != "rpb":
                tensors[name] = tensor.movedim(1, -2)
    threads = requested_beside_torch(torch.get_num_threads)
    make = _maker(like.dtype, heads_first)
    results = _core.compute(pass_, tensors, *neighborhood, scale, variant, threads, make)
    if heads_first:
        return {name: tensor if name == "drpb" else tensor.movedim(-2, 1) for name, tensor in results.items()}
    return results


def _given(results, like, *names):
    return tuple(results[name] if name in results else like.new_empty(0) for name in names)


@_operator(f"forward(Tensor q, Tensor k, Tensor v, {_ATTENTION}) -> (Tensor out, Tensor lse)")
def _forward(q, k, v, rpb, extra_k, extra_v, window, stride, dilation, causal, scale, variant):
    tensors = {"q": q, "k": k, "v": v, "rpb": rpb, "extra_k": extra_k, "extra_v": extra_v}
    results = _compute("forward", q, tensors, (window, stride, dilation, causal), scale, variant)
    return results["out"], results["lse"]


@_fake("forward")
def _(q, k, v, rpb, extra_k, extra_v, window, stride, dilation, causal, scale, variant):
    return q.new_empty((*q.shape[:-1], v.shape[-1])), q.new_empty(q.shape[:-1], dtype=torch.float32)


@_operator(
    f"backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, {_ATTENTION}) -> "
    "(Tensor dq, Tensor dk, Tensor dv, Tensor drpb, Tensor dextra_k, Tensor dextra_v)"
)
def _backward(dout, q, k, v, out, lse, rpb, extra_k, extra_v, window, stride, dilation, causal, scale, variant):
    tensors = {"q": q, "k": k, "v": v, "rpb": rpb, "extra_k": extra_k, "extra_v": extra_v}
    tensors.update(dout=dout, out=out, lse=lse)
    results = _compute("backward", q, tensors, (window, stride, dilation, causal), scale, variant)
    return _given(results, q, "dq", "dk", "dv", "drpb", "dextra_k", "dextra_v")


@_fake("backward")
def _(dout, q, k, v, out, lse, rpb, extra_k, extra_v, window, stride, dilation, causal, scale, variant):
    return tuple(_like(tensor, q) for tensor in (q, k, v, rpb, extra_k, extra_v))


def _like(tensor, q):
    return q.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape)


@_operator(f"weights(Tensor q, Tensor k, {_WEIGHTS}) -> Tensor")
def _weights(q, k, rpb, extra_k, window, stride, dilation, causal, scale, variant, heads_first):
    tensors = {"q": q, "k": k, "rpb": rpb, "extra_k": extra_k}
    neighborhood = (window, stride, dilation, causal)
    return _compute("weights", q, tensors, neighborhood, scale, variant, heads_first)["attn"]


@_fake("weights")
def _(q, k, rpb, extra_k, window, stride, dilation, causal, scale, variant, heads_first):
    slots = 1
    for extent in window * (q.dim() - 3 if len(window) == 1 else 1):
        slots = slots * extent
    if extra_k is not None:
        slots = slots + extra_k.shape[2 if heads_first else 1]
    return q.new_empty((*q.shape[:-1], slots))


@_operator(
    f"weights_backward(Tensor dattn, Tensor q, Tensor k, {_WEIGHTS}) -> "
    "(Tensor dq, Tensor dk, Tensor drpb, Tensor dextra_k)"
)
def _weights_backward(dattn, q, k, rpb, extra_k, window, stride, dilation, causal, scale, variant, heads_first):
    tensors = {"dattn": dattn, "q": q, "k": k, "rpb": rpb, "extra_k": extra_k}
    neighborhood = (window, stride, dilation, causal)
    results = _compute("weights_backward", q, tensors, neighborhood, scale, variant, heads_first)
    return _given(results, q, "dq", "dk", "drpb", "dextra_k")


@_fake("weights_backward")
def _(dattn, q, k, rpb, extra_k, window, stride, dilation, causal, scale, variant, heads_first):
    return tuple(_like(tensor, q) for tensor in (q, k, rpb, extra_k))


@_operator(f"values(Tensor attn, Tensor v, {_VALUES}) -> Tensor")
def _values(attn, v, extra_v, window, stride, dilation, causal, variant, heads_first):
    tensors = {"attn": attn, "v": v, "extra_v": extra_v}
    return _compute("values", v, tensors, (window, stride, dilation, causal), None, variant, heads_first)["out"]


@_fake("values")
def _(attn, v, extra_v, window, stride, dilation, causal, variant, heads_first):
    return v.new_empty((*attn.shape[:-1], v.shape[-1]))


@_operator(
    f"values_backward(Tensor dout, Tensor attn, Tensor v, {_VALUES}) -> (Tensor dattn, Tensor dv, Tensor dextra_v)"
)
def _values_backward(dout, attn, v, extra_v, window, stride, dilation, causal, variant, heads_first):
    tensors = {"dout": dout, "attn": attn, "v": v, "extra_v": extra_v}
    neighborhood = (window, stride, dilation, causal)
    results = _compute("values_backward", v, tensors, neighborhood, None, variant, heads_first)
    return _given(results, v, "dattn", "dv", "dextra_v")


@_fake("values_backward")
def _(dout, attn, v, extra_v, window, stride, dilation, causal, variant, heads_first):
    return v.new_empty(attn.shape), v.new_empty(v.shape), _like(extra_v, v)


@_operator("merge(Tensor[] outs, Tensor[] lses) -> (Tensor out, Tensor lse)")
def _merge(outs, lses):
    threads = requested_beside_torch(torch.get_num_threads)
    lses = [lse.detach() for lse in lses]
    return _core.merge([_rows(out) for out in outs], lses, threads, _maker(outs[0].dtype, False))


@_fake("merge")
def _(outs, lses):
    return outs[0].new_empty(outs[0].shape), lses[0].new_empty(lses[0].shape)


operators = torch.ops.nalab
