"""nalab's functions against the oracle: results and gradients of every problem, in every type."""

import nalab
import oracle
import pytest
import torch
from problems import PROBLEMS, Problem, assert_close, doubles


def split(tensors):
    """Those that attention takes by position, and the others."""
    return [tensors[name] for name in "qkv"], {n: t for n, t in tensors.items() if n not in "qkv"}


def test_forward_and_backward(problem, dtype):
    tensors = problem.tensors(dtype)
    exact = doubles(tensors)
    (q, k, v), others = split(tensors)
    options = dict(problem.neighborhood, scale=problem.scale, **others)
    out, lse = nalab.attention(q, k, v, return_lse=True, **options)
    (exact_q, exact_k, exact_v), exact_others = split(exact)
    exact_out, exact_lse = oracle.attention(
        problem.oracle(), exact_q, exact_k, exact_v, scale=problem.scale, **exact_others
    )
    assert out.dtype == dtype and lse.dtype == torch.float32
    assert_close("out", out, exact_out, dtype)
    assert_close("lse", lse, exact_lse, dtype)

    dout = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    gradients = nalab.attention_backward(dout, q, k, v, out, lse, **options)
    exact_out.backward(dout.double())
    for name, tensor in exact.items():
        gradient = getattr(gradients, "d" + name)
        assert gradient.dtype == (torch.float32 if name == "rpb" else dtype)
        assert_close("d" + name, gradient, tensor.grad, dtype, gradient=True)
    absent = {"extra_k", "extra_v", "rpb"} - set(exact)
    assert all(getattr(gradients, "d" + name) is None for name in absent)


def test_weights(problem, dtype):
    tensors = problem.tensors(dtype)
    exact = {name: tensor for name, tensor in doubles(tensors).items() if name in ("q", "k", "rpb", "extra_k")}
    own = {name: tensors[name] for name in exact}
    scale = 1.0 if problem.scale is None else problem.scale
    attn = nalab.weights(**own, **problem.neighborhood, scale=problem.scale)
    exact_attn = oracle.weights(problem.oracle(), scale=scale, **exact)
    assert attn.dtype == dtype
    assert_close("attn", attn, exact_attn, dtype)

    dattn = torch.randn(attn.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    gradients = nalab.weights_backward(dattn, **own, **problem.neighborhood, scale=problem.scale)
    shown = exact_attn.isfinite()
    exact_attn[shown].backward(dattn.double()[shown])
    for name, tensor in exact.items():
        assert_close("d" + name, getattr(gradients, "d" + name), tensor.grad, dtype, gradient=True)


def test_values(problem, dtype):
    tensors = {name: tensor for name, tensor in problem.tensors(dtype).items() if name in ("v", "extra_v")}
    shape = (problem.batch, *problem.layout, problem.heads, problem.slots + problem.extra_tokens)
    attn = torch.rand(shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    exact, exact_attn = doubles(tensors), attn.double().requires_grad_()
    out = nalab.values(attn, **tensors, **problem.neighborhood)
    exact_out = oracle.values(problem.oracle(), exact_attn, **exact)
    assert_close("out", out, exact_out, dtype)

    dout = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    gradients = nalab.values_backward(dout, attn, **tensors, **problem.neighborhood)
    exact_out.backward(dout.double())
    for name, tensor in {**exact, "attn": exact_attn}.items():
        assert_close("d" + name, getattr(gradients, "d" + name), tensor.grad, dtype, gradient=True)


@pytest.mark.parametrize("variant", [variant.name for variant in nalab.variants() if variant.device == "cpu"])
def test_every_variant(variant):
    problem = Problem("self attention", (4, 5), (4, 5), heads=2) if variant == "dense" else PROBLEMS[6]
    q, k, v = (problem.tensors()[name] for name in "qkv")
    out = nalab.attention(q, k, v, variant=variant, **problem.neighborhood)
    exact, _ = oracle.attention(problem.oracle(), q.double(), k.double(), v.double())
    assert_close("out", out, exact, torch.float32)
    assert nalab.plan(problem.layout, problem.window, variant=variant).variant == variant


@pytest.mark.parametrize("variant", [variant.name for variant in nalab.variants() if variant.device == "cuda"])
def test_a_gpu_computes_or_is_said_to_be_missing(variant):
    problem = Problem("self attention", (4, 5), (4, 5), heads=2, head_dim=8)
    q, k, v = (problem.tensors(torch.bfloat16)[name] for name in "qkv")
    try:
        out = nalab.attention(q, k, v, variant=variant, **problem.neighborhood)
    except nalab.Error as error:
        assert str(error) in (f"{variant} needs a build with CUDA", f"{variant} needs an sm_90 GPU; none is here")
        return
    exact, _ = oracle.attention(problem.oracle(), q.double(), k.double(), v.double())
    assert_close("out", out, exact, torch.bfloat16)


def test_threads_change_no_bits():
    problem = Problem("", (31, 29), 7, heads=3, head_dim=16, rpb=True)
    (q, k, v), others = split(problem.tensors())
    results = []
    try:
        for threads in (1, 2, 3):
            nalab.set_num_threads(threads)
            assert nalab.get_num_threads() == threads
            out, lse = nalab.attention(q, k, v, return_lse=True, **problem.neighborhood, **others)
            gradients = nalab.attention_backward(out, q, k, v, out, lse, **problem.neighborhood, **others)
            results.append((out, lse, gradients.dq, gradients.dk, gradients.dv, gradients.drpb))
    finally:
        nalab.set_num_threads(0)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
