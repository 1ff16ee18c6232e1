"""The library's passes as operators of torch.library: fixed results, none of which shares memory with an argument.

Absent gradients are empty tensors. heads_first: tokens and weights are [batch, heads, X..., dim], extra tokens
[batch, heads, tokens, dim]. Derivatives are in _autograd.py.
"""

from __future__ import annotations

import torch

from .. import _core
from .._arrays import Description, torch_empty
from .._threads import requested_beside_torch
from ._openmp import gomp_parallel

_NEIGHBORHOOD = "int[] window, int[] stride, int[] dilation, bool[] causal"
_ATTENTION = f"Tensor? rpb, Tensor? extra_k, Tensor? extra_v, {_NEIGHBORHOOD}, float? scale, str variant"
_WEIGHTS = f"Tensor? rpb, Tensor? extra_k, {_NEIGHBORHOOD}, float? scale, str variant, bool heads_first"
_VALUES = f"Tensor? extra_v, {_NEIGHBORHOOD}, str variant, bool heads_first"

is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)
# Not in the oldest PyTorch.
_can_skip = hasattr(torch._C, "_len_torch_dispatch_stack") and hasattr(torch._C, "_len_torch_function_stack")

transform = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: None)

_library = torch.library.Library("nalab", "DEF")

# The threads of PyTorch's last operator spin for milliseconds, and would compete with threads of the library's own.
_core.use_openmp(gomp_parallel())


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
    """A tensor whose elements of a head lie next to each other."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


_TYPES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def _described(name, tensor):
    """A tensor as the library takes it, without the time that an export by DLPack needs."""
    if tensor.dtype not in _TYPES:
        raise _core.Error(
            f"tensor {name} is {str(tensor.dtype)[6:]}, must be float32, bfloat16 or float16: convert it first"
        )
    return Description((tensor.data_ptr(), tensor.shape, tensor.stride(), _TYPES[tensor.dtype]))


def _itself(name, tensor):
    return tensor


# From PyTorch 2.10 on, tensors tell C++ what they are faster than Python could.
_describe = _itself if hasattr(torch.Tensor, "__dlpack_c_exchange_api__") else _described


def _heads_last(name, tensor):
    return tensor if name in ("rpb", "drpb") else tensor.movedim(1, -2)


class _Maker:
    """Makes results beside `like` and keeps them; the library gets their descriptions."""

    def __init__(self, like, heads_first):
        self.made = {}
        self._like, self._heads_first = like, heads_first

    def __call__(self, name, shape, is_single):
        if self._heads_first and name != "drpb":
            made = self.made[name] = self._empty((shape[0], shape[-2], *shape[1:-2], shape[-1]), is_single)
            return _describe(name, made.movedim(1, -2))
        made = self.made[name] = self._empty(shape, is_single)
        return _describe(name, made)

    def _empty(self, shape, is_single):
        return torch_empty(torch, shape, torch.float32 if is_single else self._like.dtype)


def _compute(pass_, like, tensors, neighborhood, scale, variant, heads_first=False, wants_lse=False):
    rows = {name: _rows(tensor) for name, tensor in tensors.items() if tensor is not None}
    if heads_first:
        rows = {name: _heads_last(name, tensor) for name, tensor in rows.items()}
    # rows keep what is described
    described = rows if _describe is _itself else {name: _describe(name, tensor) for name, tensor in rows.items()}
    make = _Maker(like, heads_first)
    threads = requested_beside_torch(torch.get_num_threads)
    _core.compute(pass_, described, *neighborhood, scale, variant, threads, wants_lse, make)
    return make.made


def _gradients(results, inputs, like):
    """The gradients of inputs by name. The library gives none of inputs that are absent or have no elements."""
    return tuple(
        results[f"d{name}"] if f"d{name}" in results else _like(tensor, like) for name, tensor in inputs.items()
    )


def _like(tensor, like):
    return like.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape)


@_operator(f"forward(Tensor q, Tensor k, Tensor v, {_ATTENTION}) -> (Tensor out, Tensor lse)")
def _forward(q, k, v, rpb, extra_k, extra_v, window, stride, dilation, causal, scale, variant, wants_lse=True):
    tensors = {"q": q, "k": k, "v": v, "rpb": rpb, "extra_k": extra_k, "extra_v": extra_v}
    neighborhood = (window, stride, dilation, causal)
    results = _compute("forward", q, tensors, neighborhood, scale, variant, wants_lse=wants_lse)
    return results["out"], results.get("lse")


@_fake("forward")
def _(q, k, v, rpb, extra_k, extra_v, window, stride, dilation, causal, scale, variant):
    return q.new_empty((*q.shape[:-1], v.shape[-1])), q.new_empty(q.shape[:-1], dtype=torch.float32)


@_operator(
    f"backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, {_ATTENTION}) -> "
    "(Tensor dq, Tensor dk, Tensor dv, Tensor drpb, Tensor dextra_k, Tensor dextra_v)"
)
def _backward(dout, q, k, v, out, lse, rpb, extra_k, extra_v, window, stride, dilation, causal, scale, variant):
    inputs = {"q": q, "k": k, "v": v, "rpb": rpb, "extra_k": extra_k, "extra_v": extra_v}
    tensors = {**inputs, "dout": dout, "out": out, "lse": lse}
    results = _compute("backward", q, tensors, (window, stride, dilation, causal), scale, variant)
    return _gradients(results, inputs, q)


@_fake("backward")
def _(dout, q, k, v, out, lse, rpb, extra_k, extra_v, window, stride, dilation, causal, scale, variant):
    return tuple(_like(tensor, q) for tensor in (q, k, v, rpb, extra_k, extra_v))


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
    inputs = {"q": q, "k": k, "rpb": rpb, "extra_k": extra_k}
    neighborhood = (window, stride, dilation, causal)
    results = _compute("weights_backward", q, {**inputs, "dattn": dattn}, neighborhood, scale, variant, heads_first)
    return _gradients(results, inputs, q)


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
    inputs = {"attn": attn, "v": v, "extra_v": extra_v}
    neighborhood = (window, stride, dilation, causal)
    results = _compute("values_backward", v, {**inputs, "dout": dout}, neighborhood, None, variant, heads_first)
    return _gradients(results, inputs, v)


@_fake("values_backward")
def _(dout, attn, v, extra_v, window, stride, dilation, causal, variant, heads_first):
    return v.new_empty(attn.shape), v.new_empty(v.shape), _like(extra_v, v)


@_operator("merge(Tensor[] outs, Tensor[] lses) -> (Tensor out, Tensor lse)")
def _merge(outs, lses):
    outs = [_rows(out) for out in outs]
    make = _Maker(outs[0], False)
    described = [[_describe(name, tensor) for tensor in tensors] for name, tensors in (("out", outs), ("lse", lses))]
    _core.merge(*described, requested_beside_torch(torch.get_num_threads), make)
    return make.made["out"], make.made["lse"]


@_fake("merge")
def _(outs, lses):
    return outs[0].new_empty(outs[0].shape), lses[0].new_empty(lses[0].shape)


operators = torch.ops.nalab


def _seen_by_torch():
    """Whether something that watches operators is on: a tracer, a transform, a profiler, a mode."""
    return (
        is_compiling()  # first: torch.compile cannot trace the others
        or torch._C._get_tracing_state() is not None
        or transform() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch.autograd._profiler_enabled()
    )


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def can_skip_dispatcher(tensors):
    """Whether PyTorch's dispatcher would hand the tensors to the kernel as they are."""
    if not _can_skip or _seen_by_torch():
        return False
    for tensor in tensors:
        if tensor is not None and not (
            type(tensor) in _PLAIN
            and tensor.is_cpu
            and tensor.layout is torch.strided
            and not tensor.is_nested
            and not tensor.is_neg()
        ):
            return False
    return True


def spread(value, rank):
    """A list of one value for each axis; the operators refuse other lengths."""
    if getattr(value, "ndim", None) == 0:  # a number of NumPy's or PyTorch's
        value = value.item()
    values = list(value) if hasattr(value, "__iter__") else [value] * rank
    for one in values:
        if one is None or isinstance(one, (float, str)):
            raise _core.Error(f"{value!r} must be an integer, or {rank} of them, one for each axis of the layout")
    return values


def forward(direct, tensors, neighborhood, scale, variant, wants_lse):
    """operators.forward; `direct`, if can_skip_dispatcher, without the microseconds that PyTorch's dispatcher takes, and
    without an lse that nobody wants.

    Of the neighborhood, one value may stand for all axes.
    """
    if direct:
        return _forward(*tensors, *neighborhood, scale, variant, wants_lse)
    return operators.forward(*tensors, *(spread(p, tensors[0].dim() - 3) for p in neighborhood), scale, variant)
