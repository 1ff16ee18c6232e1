"""Derivatives of the operators, by the library's own backward passes."""

from __future__ import annotations

import torch
from torch.autograd import Function

from . import _operators
from ._operators import can_skip_dispatcher, operators

_NO_SECOND = "nalab.torch has no second derivatives: call backward() without create_graph"


class _Once(Function):
    """Hands gradients on, and refuses to be differentiated. `inputs`: what they would be differentiated by."""

    @staticmethod
    def forward(ctx, count, *gradients_and_inputs):
        return tuple(gradient.view_as(gradient) for gradient in gradients_and_inputs[:count])

    @staticmethod
    def backward(ctx, *gradients):
        raise NotImplementedError(_NO_SECOND)


def _once(gradients, inputs):
    """The gradients, which refuse a second derivative if a graph is made of them."""
    if not torch.is_grad_enabled():
        return gradients
    return _Once.apply(len(gradients), *gradients, *(tensor for tensor in inputs if tensor is not None))


def _for(tensor, gradient):
    return None if tensor is None else gradient


def _forward(ctx, tensors, parameters):
    *neighborhood, scale, variant = parameters
    out, lse = _operators.forward(can_skip_dispatcher(tensors), tensors, neighborhood, scale, variant, True)
    ctx.save_for_backward(*tensors, out, lse)
    ctx.parameters = parameters
    return out, lse


class Attention(Function):
    """out alone: lse has no part in the gradient."""

    @staticmethod
    def forward(ctx, q, k, v, rpb, extra_k, extra_v, *parameters):
        return _forward(ctx, (q, k, v, rpb, extra_k, extra_v), parameters)[0]

    @staticmethod
    def backward(ctx, dout):
        q, k, v, rpb, extra_k, extra_v, out, lse = ctx.saved_tensors
        gradients = operators.backward(dout, q, k, v, out, lse, rpb, extra_k, extra_v, *ctx.parameters)
        return _attention_gradients(ctx, gradients, (dout, q, k, v, rpb, extra_k, extra_v))


class AttentionWithLse(Function):
    """out and lse, both with gradients.

    The gradient of a score s with weight p is p (dout.v - sum(dout * out) + dlse). The backward pass knows no dlse, but is
    given it by one more channel: 1 of dout, -dlse of out, 0 of v.
    """

    @staticmethod
    def forward(ctx, q, k, v, rpb, extra_k, extra_v, *parameters):
        return _forward(ctx, (q, k, v, rpb, extra_k, extra_v), parameters)

    @staticmethod
    def backward(ctx, dout, dlse):
        q, k, v, rpb, extra_k, extra_v, out, lse = ctx.saved_tensors
        dim = v.shape[-1]
        wide_dout = torch.cat([dout, torch.ones_like(dout[..., :1])], -1)
        wide_out = torch.cat([out, -dlse.unsqueeze(-1).to(out.dtype)], -1)
        wide_v, wide_extra_v = (None if t is None else torch.nn.functional.pad(t, (0, 1)) for t in (v, extra_v))
        dq, dk, dv, drpb, dextra_k, dextra_v = operators.backward(
            wide_dout, q, k, wide_v, wide_out, lse, rpb, extra_k, wide_extra_v, *ctx.parameters
        )
        gradients = dq, dk, dv[..., :dim], drpb, dextra_k, dextra_v[..., :dim] if extra_v is not None else dextra_v
        return _attention_gradients(ctx, gradients, (dout, dlse, q, k, v, rpb, extra_k, extra_v))


def _attention_gradients(ctx, gradients, inputs):
    dq, dk, dv, drpb, dextra_k, dextra_v = _once(gradients, inputs)
    *_, rpb, extra_k, extra_v = inputs
    absent = (None,) * len(ctx.parameters)
    return dq, dk, dv, _for(rpb, drpb), _for(extra_k, dextra_k), _for(extra_v, dextra_v), *absent


class Weights(Function):
    @staticmethod
    def forward(ctx, q, k, rpb, extra_k, *parameters):
        ctx.save_for_backward(q, k, rpb, extra_k)
        ctx.parameters = parameters
        return operators.weights(q, k, rpb, extra_k, *parameters)

    @staticmethod
    def backward(ctx, dattn):
        q, k, rpb, extra_k = ctx.saved_tensors
        gradients = operators.weights_backward(dattn, q, k, rpb, extra_k, *ctx.parameters)
        dq, dk, drpb, dextra_k = _once(gradients, (dattn, q, k, rpb, extra_k))
        return dq, dk, _for(rpb, drpb), _for(extra_k, dextra_k), *(None,) * len(ctx.parameters)


class Values(Function):
    @staticmethod
    def forward(ctx, attn, v, extra_v, *parameters):
        ctx.save_for_backward(attn, v, extra_v)
        ctx.parameters = parameters
        return operators.values(attn, v, extra_v, *parameters)

    @staticmethod
    def backward(ctx, dout):
        attn, v, extra_v = ctx.saved_tensors
        gradients = operators.values_backward(dout, attn, v, extra_v, *ctx.parameters)
        dattn, dv, dextra_v = _once(gradients, (dout, attn, v, extra_v))
        return dattn, dv, _for(extra_v, dextra_v), *(None,) * len(ctx.parameters)


class Merge(Function):
    """parts: all outs, then all lses."""

    @staticmethod
    def forward(ctx, *parts):
        count = len(parts) // 2
        out, lse = operators.merge(parts[:count], parts[count:])
        ctx.save_for_backward(*parts, out, lse)
        return out, lse

    @staticmethod
    def backward(ctx, dout, dlse):
        *parts, out, lse = ctx.saved_tensors
        count = len(parts) // 2
        douts, dlses = [], []
        for part, part_lse in zip(parts[:count], parts[count:]):
            share = torch.where(torch.isneginf(part_lse), torch.zeros_like(lse), (part_lse - lse).exp())
            nothing = share.unsqueeze(-1) == 0
            douts.append((share.unsqueeze(-1) * dout).to(part.dtype))
            moved = (dout * (part - out)).masked_fill(nothing, 0).sum(-1, dtype=torch.float32)
            dlses.append(share * (moved + dlse))
        return _once((*douts, *dlses), (dout, dlse, *parts))
