"""What newer PyTorch adds: torch.compile, checks of operators, gradients by finite differences, data loaders."""

import nalab.torch as nt
import pytest
import torch
from problems import PROBLEMS

if not hasattr(torch.library, "opcheck"):
    pytest.skip("needs PyTorch 2.4 or later", allow_module_level=True)

operators = torch.ops.nalab
WINDOW = ([3, 3], [1, 1], [2, 1], [False, True])


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def tensors(extra=True):
    q, k, v = random(2, 6, 5, 4, 8), random(2, 6, 5, 2, 8), random(2, 6, 5, 2, 4)
    more = (random(4, 5, 5), random(2, 3, 2, 8), random(2, 3, 2, 4)) if extra else (None,) * 3
    return q, k, v, *more


@pytest.mark.parametrize("extra", [False, True])
def test_opcheck(extra):
    q, k, v, rpb, extra_k, extra_v = tensors(extra)
    check = torch.library.opcheck
    attention = (*WINDOW, None, "")
    out, lse = operators.forward(q, k, v, rpb, extra_k, extra_v, *attention)
    check(operators.forward.default, (q, k, v, rpb, extra_k, extra_v, *attention))
    check(operators.backward.default, (out, q, k, v, out, lse, rpb, extra_k, extra_v, *attention))
    for heads_first in (False, True):
        q_, k_, v_, ek_, ev_ = (
            t if t is None or not heads_first else t.movedim(-2, 1) for t in (q, k, v, extra_k, extra_v)
        )
        weights, values = (*WINDOW, 0.5, "", heads_first), (*WINDOW, "", heads_first)
        attn = operators.weights(q_, k_, rpb, ek_, *weights)
        check(operators.weights.default, (q_, k_, rpb, ek_, *weights))
        check(operators.weights_backward.default, (attn, q_, k_, rpb, ek_, *weights))
        out_ = operators.values(attn, v_, ev_, *values)
        check(operators.values.default, (attn, v_, ev_, *values))
        check(operators.values_backward.default, (out_, attn, v_, ev_, *values))
    check(operators.merge.default, ([out, out], [lse, lse]))


def results_and_gradients(function, inputs, parameters=()):
    inputs = [x.detach().requires_grad_() for x in inputs]
    results = function(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    loss = sum((r * torch.linspace(-1, 1, r.numel()).view(r.shape)).sum() for r in results)
    return [*results, *torch.autograd.grad(loss, [*inputs, *parameters])]


def assert_compiled_alike(function, inputs, parameters=(), **options):
    compiled = torch.compile(function, fullgraph=True, **options)
    with torch.no_grad():
        assert_all_close([compiled(*inputs)], [function(*inputs)])
    assert_all_close(*(results_and_gradients(f, inputs, parameters) for f in (compiled, function)))


def assert_all_close(got, expected):
    for a, b in zip(got, expected):
        for x, y in zip(*((t if isinstance(t, tuple) else (t,)) for t in (a, b))):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("rank, module", [(1, nt.NeighborhoodAttention1D), (2, nt.NeighborhoodAttention2D)])
def test_compiled_modules(rank, module, backend):
    torch.manual_seed(rank)  # of the parameters
    layer = module(24, 3, 3, dilation=2, rel_pos_bias=True)
    assert_compiled_alike(layer, [random(2, *(9, 8)[:rank], 24)], list(layer.parameters()), backend=backend)


def test_compiled_functions():
    q, k, v, rpb, extra_k, extra_v = tensors()

    def attend(q, k, v, rpb, extra_k, extra_v):
        return nt.na2d(q, k, v, 3, dilation=(2, 1), rpb=rpb, additional_keys=extra_k, additional_values=extra_v, return_lse=True)

    def permuted(q, k, v, rpb):  # heads first in memory
        q, k, v = (t.movedim(1, -2) for t in (q, k, v))
        return nt.na2d(q, k, v, 3, rpb=rpb).movedim(-2, 1)

    def split(q, k, v, rpb):
        return nt.na2d_av(nt.na2d_qk(q, k, 3, rpb=rpb, is_causal=(True, False)).softmax(-1), v, 3, is_causal=(True, False))

    first = [t.movedim(-2, 1).contiguous() for t in (q, k, v)]
    assert_compiled_alike(attend, [q, k, v, rpb, extra_k, extra_v], backend="aot_eager")
    assert_compiled_alike(permuted, [*first, rpb], backend="aot_eager")
    assert_compiled_alike(split, [*first, rpb], backend="aot_eager")


def test_compiled_merge():
    def both(q, k, v):
        first = nt.na2d(q, k, v, 3, return_lse=True)
        second = nt.na2d(q, k, v, 3, scale=0.1, return_lse=True)
        return nt.merge_attentions([first[0], second[0]], [first[1], second[1]])

    assert_compiled_alike(both, tensors()[:3], backend="aot_eager")


def test_compiled_under_autocast():
    layer = nt.NeighborhoodAttention1D(16, 2, 3, rel_pos_bias=True)

    def call(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(x)

    x = random(2, 9, 16)
    got = torch.compile(call, fullgraph=True, backend="aot_eager")(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, call(x), rtol=2e-2, atol=2e-2)


def test_shapes_may_change():
    compiled = torch.compile(lambda q: nt.na1d(q, q, q, 3), fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in (5, 9, 14):
        q = random(1, tokens, 2, 8)
        torch.testing.assert_close(compiled(q), nt.na1d(q, q, q, 3))


def test_fake_tensors_have_the_shapes():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        q, k, v = torch.empty(2, 6, 5, 4, 8), torch.empty(2, 6, 5, 2, 8), torch.empty(2, 6, 5, 2, 4)
        out, lse = nt.na2d(q, k, v, 3, return_lse=True)
        attn = nt.na2d_qk(q.movedim(-2, 1), k.movedim(-2, 1), 3, additional_keys=torch.empty(2, 2, 3, 8))
    assert out.shape == (2, 6, 5, 4, 4) and lse.shape == (2, 6, 5, 4) and attn.shape == (2, 4, 6, 5, 12)


@pytest.mark.parametrize("problem", [PROBLEMS[2], PROBLEMS[7]], ids=lambda problem: problem.name)
def test_gradients_by_finite_differences(problem):
    """In double by the oracle elsewhere; here of the library itself, in float32 with large steps."""
    inputs = {name: tensor.requires_grad_() for name, tensor in problem.tensors().items()}
    names, function = list(inputs), {1: nt.na1d, 2: nt.na2d}[len(problem.layout)]
    own = {"q": "query", "k": "key", "v": "value", "extra_k": "additional_keys", "extra_v": "additional_values"}

    def call(*tensors):
        window = dict(zip(("kernel_size", "stride", "dilation", "is_causal"), problem.neighborhood.values()))
        return function(**{own.get(n, n): t for n, t in zip(names, tensors)}, **window, return_lse=True)

    assert torch.autograd.gradcheck(call, tuple(inputs.values()), eps=3e-2, atol=3e-3, rtol=3e-2, fast_mode=True)


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        x = random(1, 20 + index, 2, 8)
        return nt.na1d(x, x, x, 5).sum()


def test_data_loader_that_forks():
    expected = [Rows()[i] for i in range(6)]
    loader = torch.utils.data.DataLoader(Rows(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    torch.testing.assert_close(list(loader), expected)
