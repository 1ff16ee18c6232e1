"""nalab.torch against the oracle with autograd: functions, operators on the weights, merging, modules."""

import copy
import pickle

import nalab
import nalab.torch as nt
import numpy as np
import oracle
import pytest
import torch
from problems import PROBLEMS, Problem, assert_close, doubles, run_in_child, run_script

NAMES = {"extra_k": "additional_keys", "extra_v": "additional_values"}
FUNCTIONS = {1: nt.na1d, 2: nt.na2d, 3: nt.na3d}
QK = {1: nt.na1d_qk, 2: nt.na2d_qk, 3: nt.na3d_qk}
AV = {1: nt.na1d_av, 2: nt.na2d_av, 3: nt.na3d_av}


def leaves(problem, dtype=torch.float32):
    return {name: tensor.requires_grad_() for name, tensor in problem.tensors(dtype).items()}


def options(problem):
    renamed = problem.neighborhood
    return dict(kernel_size=renamed["window"], stride=renamed["stride"], dilation=renamed["dilation"],
                is_causal=renamed["causal"])  # fmt: skip


def renamed(tensors, **more):
    own = {"q": "query", "k": "key", "v": "value", **NAMES, **more}
    return {own.get(name, name): tensor for name, tensor in tensors.items()}


def random_like(tensor, seed):
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)).to(tensor.dtype)


def heads_first(tensor):
    return tensor.movedim(-2, 1)


def assert_gradients(tensors, exact, dtype):
    for name, tensor in tensors.items():
        assert tensor.grad.dtype == tensor.dtype
        assert_close("d" + name, tensor.grad, exact[name].grad, dtype, gradient=True)


@pytest.mark.parametrize("with_lse", [False, True])
def test_attention(problem, dtype, with_lse):
    tensors, scale = leaves(problem, dtype), problem.scale
    exact = doubles(problem.tensors(dtype))
    function = FUNCTIONS[len(problem.layout)]
    results = function(**renamed(tensors), **options(problem), scale=scale, return_lse=with_lse)
    out, lse = results if with_lse else (results, None)
    exact_out, exact_lse = oracle.attention(problem.oracle(), scale=scale, **exact)
    assert_close("out", out, exact_out, dtype)
    dout = random_like(out, 2)
    loss, exact_loss = (out * dout).sum(), (exact_out * dout.double()).sum()
    if with_lse:
        assert_close("lse", lse, exact_lse, dtype)
        dlse = random_like(lse, 3)
        loss, exact_loss = loss.float() + (lse * dlse).sum(), exact_loss + (exact_lse * dlse.double()).sum()
    loss.backward()
    exact_loss.backward()
    assert_gradients(tensors, exact, dtype)


def test_operators_on_the_weights(problem, dtype):
    problem_tensors, rank = problem.tensors(dtype), len(problem.layout)
    tensors = {n: t if n == "rpb" else heads_first(t).contiguous() for n, t in problem_tensors.items()}
    tensors = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    exact = doubles(problem_tensors)
    of_weights = {name: tensors[name] for name in ("q", "k", "rpb", "extra_k") if name in tensors}
    of_values = {name: tensors[name] for name in ("v", "extra_v") if name in tensors}
    scale = 1.0 if problem.scale is None else problem.scale
    attn = QK[rank](**renamed(of_weights), **options(problem), scale=scale)
    exact_attn = oracle.weights(problem.oracle(), scale=scale, **{n: exact[n] for n in of_weights})
    assert attn.is_contiguous()
    assert_close("attn", attn, heads_first(exact_attn), dtype)
    weights = attn.float().softmax(-1).to(dtype)
    out = AV[rank](weights, **renamed(of_values), **options(problem))
    exact_out = oracle.values(problem.oracle(), exact_attn.softmax(-1), **{n: exact[n] for n in of_values})
    loose = dtype != torch.float32  # the weights are rounded between the operators
    assert_close("out", out, heads_first(exact_out), torch.bfloat16 if loose else dtype)
    if loose:
        return  # test_weights and test_values compare gradients in these types
    dout = random_like(out, 2)
    out.backward(dout)
    exact_out.backward(dout.movedim(1, -2).double())
    for name, tensor in tensors.items():
        grad = exact[name].grad if name == "rpb" else heads_first(exact[name].grad)
        assert_close("d" + name, tensor.grad, grad, dtype, gradient=True)


def test_merged_attention_has_the_gradients_of_the_union():
    problem = Problem("", (9, 7), 3, heads=2, extra_tokens=4, batch=2)
    whole, parts = leaves(problem), leaves(problem)
    out = nt.na2d(**renamed(whole), kernel_size=3)
    q, k, v, extra_k, extra_v = (parts[name] for name in ("q", "k", "v", "extra_k", "extra_v"))
    first = nt.na2d(q, k, v, 3, additional_keys=extra_k[:, :1], additional_values=extra_v[:, :1], return_lse=True)
    hide = torch.full((2, 1, 1), -torch.inf)  # of a window of one: extra tokens alone
    second = nt.na2d(
        q, k, v, 1, rpb=hide, additional_keys=extra_k[:, 1:], additional_values=extra_v[:, 1:], return_lse=True
    )
    merged, _ = nt.merge_attentions([first[0], second[0]], [first[1], second[1]])
    assert_close("out", merged, out, torch.float32)
    dout = random_like(out, 2)
    out.backward(dout)
    merged.backward(dout)
    assert_gradients(parts, whole, torch.float32)


def test_merge_with_a_part_without_keys():
    out, lse = torch.randn(1, 4, 2, 8, requires_grad=True), torch.randn(1, 4, 2, requires_grad=True)
    empty = torch.full((1, 4, 2, 8), torch.nan)
    merged, merged_lse = nt.merge_attentions([out, empty], [lse, torch.full((1, 4, 2), -torch.inf)])
    assert torch.equal(merged, out) and torch.allclose(merged_lse, lse)
    (merged.sum() + merged_lse.sum()).backward()
    assert torch.allclose(out.grad, torch.ones_like(out)) and torch.allclose(lse.grad, torch.ones_like(lse))


def test_generic_is_the_function_of_the_rank():
    for problem in (PROBLEMS[2], PROBLEMS[6], PROBLEMS[9]):
        tensors = renamed(problem.tensors())
        function = FUNCTIONS[len(problem.layout)]
        expected = function(**tensors, **options(problem))
        assert torch.equal(nt.neighborhood_attention_generic(**tensors, **options(problem)), expected)


@pytest.mark.parametrize("of", ["one of three in a row", "heads first", "expanded", "last axis apart"])
def test_strides(of):
    q, k, v = (torch.randn(2, 6, 5, 3, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    expected = nt.na2d(q, k, v, 3)
    if of == "one of three in a row":
        q, k, v = torch.stack([q, k, v], 3).unbind(3)
    elif of == "heads first":
        q, k, v = (t.movedim(-2, 1).contiguous().movedim(1, -2) for t in (q, k, v))
    elif of == "last axis apart":
        q, k, v = (t.movedim(-1, 1).contiguous().movedim(1, -1) for t in (q, k, v))
    else:
        k, v = k[:1].expand_as(k), v[:1].expand_as(v)
        expected = nt.na2d(q, k.contiguous(), v.contiguous(), 3)
    q.requires_grad_()
    out = nt.na2d(q, k, v, 3)
    assert torch.allclose(out, expected, atol=2e-6)
    out.sum().backward()  # a gradient whose strides are all 0
    assert q.grad.shape == q.shape


@pytest.mark.parametrize("rank, module", [(1, nt.NeighborhoodAttention1D), (2, nt.NeighborhoodAttention2D),
                                          (3, nt.NeighborhoodAttention3D)])  # fmt: skip
@pytest.mark.parametrize("bias", [False, True])
def test_module(rank, module, bias):
    torch.manual_seed(rank)
    layout, dilation = (9, 8, 7)[:rank], (2, 1, 1)[:rank]
    layer = module(24, 3, 3, dilation=dilation, rel_pos_bias=bias, qkv_bias=bias)
    names = {"qkv.weight", "proj.weight", "proj.bias"} | ({"qkv.bias", "rpb"} if bias else set())
    assert set(layer.state_dict()) == names
    x = torch.randn(2, *layout, 24, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    exact = {name: p.detach().double().requires_grad_() for name, p in layer.named_parameters()}
    exact_x = x.detach().double().requires_grad_()
    qkv = torch.nn.functional.linear(exact_x, exact["qkv.weight"], exact.get("qkv.bias"))
    q, k, v = qkv.unflatten(-1, (3, 3, 8)).unbind(-3)
    out, _ = oracle.attention(oracle.Neighborhood(layout, 3, 1, dilation), q, k, v, rpb=exact.get("rpb"))
    exact_y = torch.nn.functional.linear(out.flatten(-2), exact["proj.weight"], exact["proj.bias"])
    exact_y.square().sum().backward()
    assert_close("y", y, exact_y, torch.float32)
    assert_close("dx", x.grad, exact_x.grad, torch.float32, gradient=True)
    for name, parameter in layer.named_parameters():
        assert_close(name, parameter.grad, exact[name].grad, torch.float32, gradient=True)


def test_module_drops_weights_in_training_alone():
    torch.manual_seed(0)
    layer = nt.NeighborhoodAttention2D(16, 2, 3, rel_pos_bias=True, attn_drop=0.5)
    x = torch.randn(1, 5, 6, 16)
    assert not torch.allclose(layer(x), layer(x))
    layer.attn_drop.p = 1e-9
    dropped_none = layer(x)  # by the two operators
    layer.eval()
    assert torch.allclose(dropped_none, layer(x), atol=1e-6) and torch.equal(layer(x), layer(x))


def test_modules_refuse():
    for call, sentence in [
        (lambda: nt.NeighborhoodAttention2D(10, 3, 3), "embed_dim 10 must be a multiple of num_heads 3"),
        (lambda: nt.NeighborhoodAttention2D(12, 3, (3, 3, 3)), "kernel_size .* must be one value, or 2"),
        (lambda: nt.NeighborhoodAttention2D(12, 3, 3)(torch.zeros(1, 9, 12)), "input has 3 axes, must have 4"),
        (lambda: nt.NeighborhoodAttention1D(12, 3, 5)(torch.zeros(1, 4, 12)), "window 5 must be at most 4"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            call()


def test_autocast():
    layer = nt.NeighborhoodAttention1D(16, 2, 3, rel_pos_bias=True)
    x = torch.randn(1, 9, 16)
    q = torch.randn(1, 9, 2, 8)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        assert y.dtype == torch.bfloat16
        assert nt.na1d(q, q, q, 3).dtype == torch.bfloat16
        assert nt.na1d_qk(q.movedim(2, 1), q.movedim(2, 1), 3).dtype == torch.bfloat16
    assert torch.allclose(y.float(), expected, atol=3e-2)
    y.float().sum().backward()
    assert layer.rpb.grad.dtype == torch.float32


def test_threads_follow_torch(monkeypatch):
    seen = []
    compute = nalab._core.compute

    def spy(*arguments):
        seen.append(arguments[8])
        return compute(*arguments)

    monkeypatch.delenv("NALAB_THREADS", raising=False)
    monkeypatch.setattr(nalab._core, "compute", spy)
    q = torch.zeros(1, 9, 2, 8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        nt.na1d(q, q, q, 3)
        nalab.set_num_threads(2)
        nt.na1d(q, q, q, 3)
        nalab.set_num_threads(0)
        monkeypatch.setenv("NALAB_THREADS", "5")
        nt.na1d(q, q, q, 3)
    finally:
        torch.set_num_threads(before)
        nalab.set_num_threads(0)
    assert seen == [3, 2, 5]


def test_training_step_after_fork():
    layer = nt.NeighborhoodAttention1D(16, 2, 3, rel_pos_bias=True)
    before = torch.get_num_threads()
    x = torch.randn(4, 300, 16)
    torch.set_num_threads(1)  # PyTorch's own threads do not outlive a fork
    nalab.set_num_threads(2)
    try:
        layer(x).sum().backward()
        assert run_in_child(lambda: layer(x).sum().backward()) == 0
    finally:
        nalab.set_num_threads(0)
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_large_results_are_tensors_like_others(dtype):
    q, k, v = (torch.randn(1, 80, 40, 2, 32).to(dtype) for _ in range(3))
    out = nt.na2d(q, k, v, 3)
    halves = [nt.na2d(*(t[..., i : i + 1, :] for t in (q, k, v)), 3) for i in range(2)]
    assert out.dtype == dtype and out.is_contiguous() and torch.equal(out, torch.cat(halves, -2))
    assert torch.equal(copy.deepcopy(out), out) and torch.equal(pickle.loads(pickle.dumps(out)), out)
    with torch.inference_mode():
        assert torch.equal(nt.na2d(q, k, v, 3).share_memory_(), out)
    inputs = [t.clone().requires_grad_() for t in (q, k, v)]
    nt.na2d(*inputs, 3).float().square().sum().backward()
    parts = [t.detach()[..., :1, :].requires_grad_() for t in inputs]
    nt.na2d(*parts, 3).float().square().sum().backward()
    for whole, part in zip(inputs, parts):
        assert torch.equal(whole.grad[..., :1, :], part.grad)
        whole.grad.zero_()


@pytest.mark.parametrize("recorded", [False, True])
def test_numbers_of_other_libraries_are_numbers(recorded):
    q = torch.randn(1, 9, 8, 2, 8, requires_grad=recorded)
    same = nt.na2d(q, q, q, 3, dilation=2, is_causal=True)
    assert torch.equal(nt.na2d(q, q, q, np.array(3), dilation=torch.tensor(2), is_causal=np.True_), same)
    assert torch.equal(nt.na2d(q, q, q, np.int64(3), dilation=(np.array(2), 2), is_causal=True), same)
    with pytest.raises(ValueError, match="3..* must be an integer"):
        nt.na2d(q, q, q, np.array(3.0))


def test_refusals():
    q = torch.randn(1, 9, 2, 8)
    for call, error, sentence in [
        (lambda: nt.na1d(q.double(), q, q, 3), ValueError, "tensor q is float64"),
        (lambda: nt.na2d(q, q, q, 3), ValueError, "na2d: query has 4 axes, must have 5"),
        (lambda: nt.na1d(q, q, [1], 3), ValueError, "na1d: value must be a torch.Tensor, not list"),
        (lambda: nt.na1d(q, q, q, 10), ValueError, "axis 1: window 10 must be at most 9"),
        (lambda: nt.na1d(q, q, q, (3, 3)), ValueError, "window .3, 3. must be an integer, or 1"),
        (lambda: nt.na1d(q, q.bfloat16(), q, 3), ValueError, "tensor k is bf16, must be f32"),
        (lambda: nt.na1d(q, q, q, None), ValueError, "window None must be an integer"),
        (lambda: nt.na1d(q.clone().requires_grad_(), q, q, 3.0), ValueError, "3.0 must be an integer, or 1 of them"),
        (lambda: nt.na1d_qk(q, q, None), ValueError, "None must be an integer, or 1 of them"),
        (lambda: nt.na1d(q, q, q, 3, rpb=np.zeros((2, 5))), ValueError, "na1d: rpb must be a torch.Tensor, not ndarray"),
        (lambda: nt.na1d(q.to_sparse(), q, q, 3), ValueError, "query is torch.sparse_coo, must be torch.strided"),
        (lambda: nt.merge_attentions([q.numpy()], [q]), ValueError, "must be a torch.Tensor, not ndarray"),
        (lambda: nt.neighborhood_attention_generic([q], q, q, 3), ValueError, "query must be a torch.Tensor, not list"),
        (lambda: nt.merge_attentions([], []), ValueError, "0 outputs and 0 lse_tensors"),
        (lambda: nt.neighborhood_attention_generic(q[0], q, q, 3), ValueError, "query has 3 axes"),
    ]:
        with pytest.raises(error, match=sentence):
            call()


@pytest.mark.parametrize("function", [lambda q: nt.na1d(q, q, q, 3), lambda q: nt.na1d(q, q, q, 3, return_lse=True)[1],
                                      lambda q: nt.na1d_qk(q, q, 3), lambda q: nt.na1d_av(q.softmax(-1), q, 3)])  # fmt: skip
def test_what_is_missing_is_said(function):
    from torch.autograd import forward_ad

    x = torch.randn(1, 9, 9, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        gradient.sum().backward()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), torch.ones_like(x))
        with pytest.raises(NotImplementedError, match="no forward-mode"):
            function(dual)
    if hasattr(torch, "func"):
        with pytest.raises(NotImplementedError, match="vmap and other transforms of torch.func"):
            torch.func.vmap(function)(x.detach().unsqueeze(0))
        with pytest.raises(NotImplementedError, match="vmap and other transforms of torch.func"):
            torch.func.grad(lambda x: function(x).sum())(x.detach())


def test_numbers_of_numpy_are_numbers():
    for q in (torch.randn(1, 9, 2, 8), torch.randn(1, 9, 2, 8, requires_grad=True)):
        same = nt.na1d(q, q, q, np.int64(3), dilation=np.array([2]), is_causal=np.True_)
        assert torch.equal(same, nt.na1d(q, q, q, 3, dilation=2, is_causal=True))


def test_nested_tensors_are_refused():
    nested = torch.nested.nested_tensor([torch.randn(9, 2, 8)]) if hasattr(torch, "nested") else None
    if nested is None or not hasattr(nested, "is_nested"):
        pytest.skip("this PyTorch has no nested tensors")
    with pytest.raises(NotImplementedError, match="na1d does not take nested tensors"):
        nt.na1d(nested, nested, nested, 3)


def test_no_additional_tokens_have_gradients_too():
    q, k, v = (torch.randn(1, 7, 2, 8, requires_grad=True) for _ in range(3))
    none = torch.zeros(1, 0, 2, 8, requires_grad=True)
    out = nt.na1d(q, k, v, 3, additional_keys=none, additional_values=none)
    out.sum().backward()
    assert none.grad.shape == none.shape and q.grad is not None
    torch.testing.assert_close(out, nt.na1d(q, k, v, 3))


def small():
    return [torch.randn(1, 70, 2, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def watched_by_a_mode(call):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        seen = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.seen.append(str(function))
            return function(*args, **(kwargs or {}))

    with Watch() as watch:
        call()
    return watch.seen


def watched_by_the_profiler(call):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    return [event.key for event in profile.key_averages()]


@pytest.mark.parametrize("watched", [watched_by_a_mode, watched_by_the_profiler])
def test_what_watches_operators_sees_a_call(watched):
    q, k, v = small()
    seen = watched(lambda: nt.na1d(q, k, v, 3))
    assert any(name.replace(".", "::").startswith("nalab::forward") for name in seen), seen


def test_tensors_whose_sign_is_pending():
    q, k, v = small()
    pending = (-q)._neg_view()
    assert pending.is_neg()
    assert torch.equal(nt.na1d(pending, k, v, 3), nt.na1d(q, k, v, 3))
    with pytest.raises(nalab.Error, match="resolve_neg"):
        nalab.attention(pending, k, v, 3)


def test_merge_refuses_what_needs_a_gradient_wherever_it_stands():
    out, lse = torch.randn(1, 9, 2, 8), torch.randn(1, 9, 2)
    for outs, lses in [([out, out.clone().requires_grad_()], [lse, lse]), ([out, out], [lse, lse.clone().requires_grad_()])]:
        with pytest.raises(nalab.Error, match="needs a gradient"):
            nalab.merge(outs, lses)


def test_after_fork_whatever_threads_torch_has():
    q, k, v = small()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        out = nt.na1d(q, k, v, 3)  # on PyTorch's threads, which a child does not have

        def body():
            assert torch.equal(nt.na1d(q, k, v, 3), out)

        assert run_in_child(body) == 0
    finally:
        torch.set_num_threads(before)


def test_first_import_after_fork():
    code = """
import os, numpy, nalab, torch
x = torch.randn(300, 300)
torch.set_num_threads(3)
x @ x, torch.exp(torch.randn(1 << 20))  # starts PyTorch's threads
child = os.fork()
if child == 0:
    import nalab.torch
    q = torch.ones(1, 70, 2, 8)
    os._exit(0 if torch.equal(nalab.torch.na1d(q, q, q, 3), q) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_script(code) == "0"


def test_interpreter_ends_after_arrays_of_own_classes():
    code = """
import numpy, nalab
class Own(numpy.ndarray):
    pass
x = numpy.zeros((1, 9, 2, 8), "f4").view(Own)
nalab.attention(x, x, x, 3)
print("done")
"""
    assert run_script(code) == "done"
