"""Functions by natten's names."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Union

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._core import Error
from . import _autograd
from ._operators import can_skip_dispatcher, forward, is_compiling, operators, spread, transform

PerAxis = Union[int, Sequence[int]]
PerAxisBool = Union[bool, Sequence[bool]]

if hasattr(torch, "get_autocast_dtype"):  # PyTorch 2.4

    def _autocast_dtype():
        return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

else:

    def _autocast_dtype():
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None


def _check(name, rank, tensors, others):
    """Refuses what no operator takes. By name, tensors over a layout of this rank, and others, which may be None."""
    if not is_compiling() and transform() is not None:
        raise NotImplementedError(f"{name} does not work in vmap and other transforms of torch.func: call it outside")
    for tensor_name, tensor in tensors.items():
        _check_tensor(name, tensor_name, tensor)
        if tensor.dim() != rank + 3:
            raise Error(
                f"{name}: {tensor_name} has {tensor.dim()} axes, must have {rank + 3}: batch, heads, head_dim and {rank} "
                "of the token layout"
            )
    for tensor_name, tensor in others.items():
        if tensor is not None:
            _check_tensor(name, tensor_name, tensor)


def _check_tensor(name, tensor_name, tensor):
    """Those on the meta device may come: they ask for shapes alone."""
    if not isinstance(tensor, Tensor):
        raise Error(f"{name}: {tensor_name} must be a torch.Tensor, not {type(tensor).__name__}")
    if tensor.is_nested:
        raise NotImplementedError(f"{name} does not take nested tensors: pad them, or call it for each")
    if tensor.device.type not in ("cpu", "meta"):
        raise Error(f"{name}: {tensor_name} is on {tensor.device}, must be on the CPU")
    if tensor.layout is not torch.strided:
        raise Error(f"{name}: {tensor_name} is {tensor.layout}, must be torch.strided: call to_dense() first")


def _cast(*tensors):
    """The tensors in autocast's type, if it is on."""
    dtype = _autocast_dtype()
    if dtype is None:
        return tensors
    return tuple(None if tensor is None else tensor.to(dtype) for tensor in tensors)


def _single(rpb):
    return None if rpb is None else rpb.float()


def _is_recorded(tensors):
    """Whether a derivative may be asked for."""
    if forward_ad._current_level >= 0:
        if any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
            raise NotImplementedError("nalab.torch has no forward-mode differentiation: use backward()")
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def _attend(name, rank, query, key, value, kernel_size, stride, dilation, is_causal, scale, rpb, extra, return_lse):
    tensors = (query, key, value, rpb, *extra)
    direct = _autocast_dtype() is None and can_skip_dispatcher(tensors) and query.dim() == rank + 3
    if not direct:
        others = {"rpb": rpb, "additional_keys": extra[0], "additional_values": extra[1]}
        _check(name, rank, {"query": query, "key": key, "value": value}, others)
        query, key, value, *extra = _cast(query, key, value, *extra)
    tensors = (query, key, value, _single(rpb), *extra)
    neighborhood = (kernel_size, stride, dilation, is_causal)
    if _is_recorded(tensors):
        function = _autograd.AttentionWithLse if return_lse else _autograd.Attention
        return function.apply(*tensors, *(spread(p, rank) for p in neighborhood), scale, "")
    out, lse = forward(direct, tensors, neighborhood, scale, "", return_lse)
    return (out, lse) if return_lse else out


_ATTENTION_DOC = """Neighborhood attention on {axes}: softmax(scale * q k^T + bias over each query's window) v.

    Args:
        query: [batch, {layout}, heads, head_dim].
        key: [batch, {layout}, heads_kv, head_dim]; heads_kv divides heads.
        value: [batch, {layout}, heads_kv, head_dim_v].
        kernel_size: keys that a query sees along each axis, odd or even; kernel_size * dilation is at most the extent.
        stride: neighbouring queries that share one window, 1 to kernel_size.
        dilation: only every dilation-th token is a neighbour.
        is_causal: whether keys after the query are hidden.
        scale: of the scores; None: head_dim ** -0.5.
        rpb: relative positional bias [heads, 2 kernel_size - 1, ...], added to the scaled scores in float32.
        additional_keys, additional_values: [batch, tokens, heads_kv, head_dim]: every query attends to them.
        return_lse: whether the log-sum-exp of the scores is returned too.

    Returns:
        out [batch, {layout}, heads, head_dim_v], or (out, lse) with lse [batch, {layout}, heads] in float32. Both have
        gradients.
    """

_WEIGHTS_DOC = """The scores of every window slot on {axes}: scale * q k^T + bias, with gradients.

    Args:
        query, key: [batch, heads, {layout}, head_dim].
        kernel_size, dilation, is_causal, stride: as those of na{rank}d.
        additional_keys: [batch, heads, tokens, head_dim].
        rpb: relative positional bias [heads, 2 kernel_size - 1, ...].
        scale: of the scores; callers often scale the query instead.

    Returns:
        [batch, heads, {layout}, slots of the window + tokens]; -inf where a causal axis hides the key.
    """

_VALUES_DOC = """Sums of values by weights of window slots on {axes}, with gradients.

    Args:
        attn: [batch, heads, {layout}, slots of the window + tokens], slots as na{rank}d_qk has them.
        value: [batch, heads, {layout}, head_dim_v].
        kernel_size, dilation, is_causal, stride: as those of na{rank}d.
        additional_values: [batch, heads, tokens, head_dim_v].

    Returns:
        [batch, heads, {layout}, head_dim_v].
    """


def _make(rank):
    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        dilation: PerAxis = 1,
        is_causal: PerAxisBool = False,
        scale: Optional[float] = None,
        rpb: Optional[Tensor] = None,
        additional_keys: Optional[Tensor] = None,
        additional_values: Optional[Tensor] = None,
        return_lse: bool = False,
    ) -> Any:
        extra = (additional_keys, additional_values)
        return _attend(
            f"na{rank}d", rank, query, key, value, kernel_size, stride, dilation, is_causal, scale, rpb, extra, return_lse
        )

    def weights(
        query: Tensor,
        key: Tensor,
        kernel_size: PerAxis,
        dilation: PerAxis = 1,
        additional_keys: Optional[Tensor] = None,
        is_causal: PerAxisBool = False,
        rpb: Optional[Tensor] = None,
        stride: PerAxis = 1,
        scale: float = 1.0,
    ) -> Tensor:
        return weights_of(rank, query, key, kernel_size, stride, dilation, is_causal, scale, rpb, additional_keys, True)

    def values(
        attn: Tensor,
        value: Tensor,
        kernel_size: PerAxis,
        dilation: PerAxis = 1,
        additional_values: Optional[Tensor] = None,
        is_causal: PerAxisBool = False,
        stride: PerAxis = 1,
    ) -> Tensor:
        return values_of(rank, attn, value, kernel_size, stride, dilation, is_causal, additional_values, True)

    words = {
        "axes": ("one axis", "two axes", "three axes")[rank - 1],
        "layout": ", ".join(f"X{i + 1}" for i in range(rank)),
        "rank": rank,
    }
    functions = {f"na{rank}d": attention, f"na{rank}d_qk": weights, f"na{rank}d_av": values}
    for (name, function), doc in zip(functions.items(), (_ATTENTION_DOC, _WEIGHTS_DOC, _VALUES_DOC)):
        function.__name__ = function.__qualname__ = name
        function.__doc__ = doc.format(**words)
    return tuple(functions.values())


def weights_of(rank, query, key, kernel_size, stride, dilation, is_causal, scale, rpb, additional_keys, heads_first):
    """na*_qk with tensors heads first or last."""
    others = {"rpb": rpb, "additional_keys": additional_keys}
    _check(f"na{rank}d_qk", rank, {"query": query, "key": key}, others)
    query, key, additional_keys = _cast(query, key, additional_keys)
    tensors = (query, key, _single(rpb), additional_keys)
    parameters = (*(spread(p, rank) for p in (kernel_size, stride, dilation, is_causal)), scale, "", heads_first)
    if not _is_recorded(tensors):
        return operators.weights(*tensors, *parameters)
    return _autograd.Weights.apply(*tensors, *parameters)


def values_of(rank, attn, value, kernel_size, stride, dilation, is_causal, additional_values, heads_first):
    """na*_av with tensors heads first or last."""
    _check(f"na{rank}d_av", rank, {"attn": attn, "value": value}, {"additional_values": additional_values})
    tensors = _cast(attn, value, additional_values)
    parameters = (*(spread(p, rank) for p in (kernel_size, stride, dilation, is_causal)), "", heads_first)
    if not _is_recorded(tensors):
        return operators.values(*tensors, *parameters)
    return _autograd.Values.apply(*tensors, *parameters)


na1d, na1d_qk, na1d_av = _make(1)
na2d, na2d_qk, na2d_av = _make(2)
na3d, na3d_qk, na3d_av = _make(3)


def neighborhood_attention_generic(query: Tensor, key: Tensor, value: Tensor, *args, **kwargs):
    """na1d, na2d or na3d, whichever the number of axes asks for; arguments as theirs."""
    _check_tensor("neighborhood_attention_generic", "query", query)
    functions = {4: na1d, 5: na2d, 6: na3d}
    if query.dim() not in functions:
        raise Error(f"neighborhood_attention_generic: query has {query.dim()} axes, must have 4 to 6")
    return functions[query.dim()](query, key, value, *args, **kwargs)


def merge_attentions(outputs: Sequence[Tensor], lse_tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Attention over the union of disjoint sets of keys, from the attention over each.

    Args:
        outputs: [batch, X..., heads, head_dim] of one shape and type.
        lse_tensors: [batch, X..., heads], float32, as return_lse=True gives them.

    Returns:
        (out, lse), with gradients: also those of queries and keys are exact, since lse has gradients too.
    """
    if len(outputs) != len(lse_tensors) or len(outputs) == 0:
        raise Error(f"{len(outputs)} outputs and {len(lse_tensors)} lse_tensors must be as many, and at least one")
    _check("merge_attentions", 0, {}, {f"part {i}": tensor for i, tensor in enumerate((*outputs, *lse_tensors))})
    parts = (*outputs, *lse_tensors)
    if not _is_recorded(parts):
        return operators.merge(list(outputs), list(lse_tensors))
    return _autograd.Merge.apply(*parts)
