"""nalab.natten: what programs written for each generation of natten see, against the oracle."""

import importlib
import importlib.metadata
import importlib.util
import sys
import types
import warnings

import nalab.natten
import oracle
import pytest
import torch
from problems import Problem, assert_close

VERSIONS = ["0.14.4", "0.14.5", "0.14.6", "0.15.1", "0.17.3", "0.17.5", "0.20.0", "0.21.0"]


@pytest.fixture
def natten(request):
    version = request.param
    nalab.natten.install(version)
    yield importlib.import_module("natten")
    nalab.natten.uninstall()


def with_natten(*versions):
    return pytest.mark.parametrize("natten", versions, indirect=True)


@with_natten(*VERSIONS)
def test_the_package_is_found(natten):
    version = natten.__version__
    assert importlib.metadata.version("natten") == version
    assert importlib.util.find_spec("natten").name == "natten"
    assert importlib.util.find_spec("natten.nothing") is None
    generation = float(".".join(version.split(".")[:2]))
    assert hasattr(natten, "context") == (generation >= 0.17)
    names = dir(importlib.import_module("natten.functional"))
    assert ("natten2dqkrpb" in names) == (version < "0.17.5")
    assert ("natten2dqk" in names) == ("0.14.6" <= version < "0.17.5")
    assert ("na3d_qk" in names) == (0.15 <= generation < 0.2 or generation == 0.17)
    assert ("na2d" in names) == (generation >= 0.17)
    assert isinstance(natten.NeighborhoodAttention2D, type)
    assert hasattr(natten, "NeighborhoodAttention3D") == (generation >= 0.15)


def test_uninstall_leaves_nothing():
    nalab.natten.uninstall()
    assert importlib.util.find_spec("natten") is None and "natten" not in sys.modules
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("natten")


def test_install_refuses(monkeypatch):
    for version in ("0.13", "new", "", None):
        with pytest.raises(ValueError, match="must be 0.14 or later"):
            nalab.natten.install(version)
    nalab.natten.install("0.17.5")
    nalab.natten.install("0.17.5")
    with pytest.raises(ValueError, match="natten 0.17.5 is installed already"):
        nalab.natten.install("0.20.0")
    nalab.natten.uninstall()
    monkeypatch.setitem(sys.modules, "natten", types.ModuleType("natten"))
    with pytest.raises(ValueError, match="another natten has been imported"):
        nalab.natten.install()


def heads_first(tensors):
    return {name: t if name == "rpb" else t.movedim(-2, 1) for name, t in tensors.items()}


def split_problem(rank, **more):
    return Problem("", (9, 8, 7)[:rank], 3, dilation=2, heads=2, head_dim=6, rpb=True, **more)


def assert_scores(actual, problem, tensors, bias=True, **more):
    expected = oracle.weights(
        problem.oracle(), tensors["q"].double(), tensors["k"].double(), rpb=tensors["rpb"].double() if bias else None, **more
    )
    assert_close("attn", actual, expected.movedim(-2, 1), torch.float32)


def assert_sums(actual, problem, attn, tensors, **more):
    expected = oracle.values(problem.oracle(), attn.movedim(1, -2).double(), tensors["v"].double(), **more)
    assert_close("out", actual, expected.movedim(-2, 1), torch.float32)


@with_natten("0.14.1", "0.14.5", "0.14.6", "0.15.1", "0.17.4")
@pytest.mark.parametrize("rank", [1, 2])
def test_names_of_0_14(natten, rank):
    f = importlib.import_module("natten.functional")
    problem = split_problem(rank)
    tensors = problem.tensors()
    q, k, v, rpb = (heads_first(tensors)[name] for name in ("q", "k", "v", "rpb"))
    qkrpb, av = getattr(f, f"natten{rank}dqkrpb"), getattr(f, f"natten{rank}dav")
    version = natten.__version__
    attn = qkrpb(q, k, rpb, 2) if version == "0.14.1" else qkrpb(q, k, rpb, 3, 2)
    assert_scores(attn, problem, tensors)
    attn = attn.softmax(-1)
    out = av(attn, v, 2) if version in ("0.14.1", "0.14.5") else av(attn, v, 3, 2)
    assert_sums(out, problem, attn, tensors)
    if version >= "0.14.6":
        assert_scores(getattr(f, f"natten{rank}dqk")(q, k, 3, 2), problem, tensors, bias=False)
        assert_scores(qkrpb(q, k, None, 3, 2), problem, tensors, bias=False)
    if version == "0.14.6":
        assert torch.equal(getattr(f, f"NATTEN{rank}DQKRPBFunction").apply(q, k, rpb, 3, 2), qkrpb(q, k, rpb, 3, 2))


@with_natten("0.15.1")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_names_of_0_15(natten, rank):
    f = importlib.import_module("natten.functional")
    problem = split_problem(rank, extra_tokens=2)
    tensors = problem.tensors()
    q, k, v, rpb, extra_k, extra_v = (heads_first(tensors)[n] for n in ("q", "k", "v", "rpb", "extra_k", "extra_v"))
    window = (3, 3, 2, 2) if rank == 3 else (3, 2)  # kernel_size_d, kernel_size, dilation_d, dilation
    attn = getattr(f, f"na{rank}d_qk_with_bias")(q, k, rpb, *window, additional_keys=extra_k)
    assert_scores(attn, problem, tensors, extra_k=tensors["extra_k"].double())
    attn = attn.softmax(-1)
    out = getattr(f, f"na{rank}d_av")(attn, v, *window, additional_values=extra_v)
    assert_sums(out, problem, attn, tensors, extra_v=tensors["extra_v"].double())
    assert_scores(getattr(f, f"na{rank}d_qk")(q, k, *window), problem, tensors, bias=False)
    assert_scores(getattr(f, f"natten{rank}dqkrpb")(q, k, rpb, *window), problem, tensors)


@with_natten("0.17.5")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_names_of_0_17(natten, rank):
    f = importlib.import_module("natten.functional")
    problem = Problem("", (9, 8, 7)[:rank], 3, dilation=2, causal=(True, False, False)[:rank], heads=2, rpb=True)
    tensors = problem.tensors()
    q, k, v, rpb = (heads_first(tensors)[name] for name in ("q", "k", "v", "rpb"))
    causal = problem.causal
    attn = getattr(f, f"na{rank}d_qk")(q, k, 3, 2, is_causal=causal, rpb=rpb)
    assert_scores(attn, problem, tensors)
    attn = attn.softmax(-1)
    assert_sums(getattr(f, f"na{rank}d_av")(attn, v, 3, 2, is_causal=causal), problem, attn, tensors)
    out = getattr(f, f"na{rank}d")(tensors["q"], tensors["k"], tensors["v"], 3, 2, causal, tensors["rpb"], 0.2)
    exact, _ = oracle.attention(problem.oracle(), scale=0.2, **{n: t.double() for n, t in tensors.items()})
    assert_close("out", out, exact, torch.float32)
    # As natten has it, a scale of 0 is the default.
    assert torch.equal(f.na1d(q1 := torch.randn(1, 9, 2, 8), q1, q1, 3, scale=0), f.na1d(q1, q1, q1, 3))


@with_natten("0.20.0", "0.21.0")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_names_of_0_20(natten, rank):
    f = importlib.import_module("natten.functional")
    problem = Problem("", (9, 8, 7)[:rank], 3, stride=2, dilation=2, heads=2, extra_tokens=3)
    t = problem.tensors()
    exact, exact_lse = oracle.attention(problem.oracle(), **{n: x.double() for n, x in t.items()})
    for function in (getattr(natten, f"na{rank}d"), f.neighborhood_attention_generic):
        out, lse = function(
            t["q"], t["k"], t["v"], 3, 2, 2, additional_keys=t["extra_k"], additional_values=t["extra_v"], return_lse=True
        )
        assert_close("out", out, exact, torch.float32)
        assert_close("lse", lse, exact_lse, torch.float32)


@with_natten("0.21.0")
@pytest.mark.parametrize("causal, keys", [(False, 11), (True, 11), (False, 5)])
def test_attention_of_0_20(natten, causal, keys):
    q, k, v = torch.randn(2, 11, 4, 8), torch.randn(2, keys, 2, 8), torch.randn(2, keys, 2, 6)
    out, lse = natten.attention(q, k, v, is_causal=causal, return_lse=True)
    k, v = (x.repeat_interleave(2, 2).double().movedim(2, 1) for x in (k, v))
    scores = q.double().movedim(2, 1) @ k.transpose(-1, -2) * 8**-0.5
    if causal:
        scores = scores.masked_fill(torch.ones(11, 11).triu(1).bool(), -torch.inf)
    assert_close("out", out, (scores.softmax(-1) @ v).movedim(1, 2), torch.float32)
    assert_close("lse", lse, scores.logsumexp(-1).movedim(1, 2), torch.float32)
    first, second = (natten.attention(q, k_, v_, return_lse=True) for k_, v_ in [(q[:, :, :2], q[:, :, :2])] * 2)
    merged, _ = natten.merge_attentions([first[0], second[0]], [first[1], second[1]], torch_compile=False)
    assert torch.allclose(merged, first[0], atol=1e-6)


@with_natten("0.21.0")
def test_kernel_arguments_are_ignored_with_one_warning(natten):
    q = torch.randn(1, 9, 2, 8)
    nalab.natten._common._warned.clear()
    with pytest.warns(UserWarning, match="ignores backend, q_tile_shape, some_new_knob"):
        out = natten.na1d(q, q, q, 3, backend="cutlass-fna", q_tile_shape=(64,), some_new_knob=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(out, natten.na1d(q, q, q, 3, backend="flex-fna"))


@with_natten("0.17.5")
def test_switches_are_remembered(natten):
    assert natten.has_fused_na() and natten.has_bfloat() and not natten.has_cuda()
    assert not natten.is_fna_enabled()
    natten.use_fused_na(True, kv_parallel=False)
    assert natten.context.is_fused_na_enabled()
    natten.use_fused_na(False)
    natten.use_autotuner(forward_pass=True, warmup_steps_forward=3)
    assert natten.is_autotuner_enabled()
    natten.disable_autotuner()
    assert not natten.is_autotuner_enabled()
    natten.set_memory_usage_preference("strict")
    assert natten.is_memory_usage_strict()
    with pytest.raises(ValueError, match="'much' must be one of default, strict, unrestricted"):
        natten.set_memory_usage_preference("much")
    natten.set_memory_usage_preference()
    assert natten.utils.check_all_args(2, 3, (1, 2), False) == ((3, 3), (1, 2), (False, False))
    assert importlib.import_module("natten.types").Dimension2DTypeOrDed
    assert isinstance(natten.na2d, types.ModuleType)


def module_oracle(layer, x, layout, window, dilation, heads):
    """The output of a module for inputs that fill the layout; without the last projection."""
    p = {name: parameter.detach().double() for name, parameter in layer.named_parameters()}
    qkv = torch.nn.functional.linear(x.double(), p["qkv.weight"], p.get("qkv.bias"))
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).unbind(-3)
    out, _ = oracle.attention(oracle.Neighborhood(layout, window, 1, dilation), q, k, v, rpb=p.get("rpb"))
    return torch.nn.functional.linear(out.flatten(-2), p["proj.weight"], p["proj.bias"])


CONSTRUCTORS = {  # window 5, dilation 2, 3 heads, in the order of each version
    "0.14.4": lambda m: m(12, 5, 3, True, None, 0.0, 0.0, 2),
    "0.14.6": lambda m: m(12, 3, 5, 2, True),
    "0.15.1": lambda m: m(12, 3, 5, 2),
    "0.17.5": lambda m: m(12, 3, 5, 2, False, True),
    "0.21.0": lambda m: m(12, 3, 5, 1, 2),
}


@with_natten(*CONSTRUCTORS)
@pytest.mark.parametrize("rank", [1, 2])
def test_modules(natten, rank):
    torch.manual_seed(rank)
    layer = CONSTRUCTORS[natten.__version__](getattr(natten, f"NeighborhoodAttention{rank}D"))
    has_bias = natten.__version__ < "0.2"
    assert set(layer.state_dict()) == {"qkv.weight", "qkv.bias", "proj.weight", "proj.bias"} | ({"rpb"} if has_bias else set())
    layout = (11, 12)[:rank]
    x = torch.randn(2, *layout, 12)
    assert_close("y", layer(x), module_oracle(layer, x, layout, 5, 2, 3), torch.float32)

    small = torch.randn(2, *(9, 10)[:rank], 12)  # needs 10
    if natten.__version__ >= "0.17":
        with pytest.raises(ValueError, match="axis 1: window 5 must be at most 4"):
            layer(small)
        return
    filled = torch.zeros(2, *(10, 10)[:rank], 12)
    filled[:, :9] = small
    expected = module_oracle(layer, filled, (10, 10)[:rank], 5, 2, 3)[:, :9]
    assert_close("y", layer(small), expected, torch.float32)


@with_natten("0.15.1")
def test_the_module_of_three_axes_in_0_15(natten):
    torch.manual_seed(3)
    layer = natten.NeighborhoodAttention3D(12, 3, 3, 5, dilation=2, dilation_d=1)
    assert layer.rpb.shape == (3, 9, 5, 5)
    filled = torch.zeros(1, 5, 6, 7, 12)
    filled[:, :, :5] = torch.randn(1, 5, 5, 7, 12)
    expected = module_oracle(layer, filled, (5, 6, 7), (5, 3, 3), (1, 2, 2), 3)[:, :, :5]
    assert_close("y", layer(filled[:, :, :5]), expected, torch.float32)
    with pytest.raises(ValueError, match="axis 1: window 5 must be at most 4"):
        layer(filled[:, :4])  # natten adds nothing along the depth


@with_natten("0.20.0")
def test_the_module_of_0_20_takes_dim(natten):
    layer = natten.NeighborhoodAttention1D(dim=12, num_heads=3, kernel_size=3)
    assert layer(torch.randn(1, 5, 12)).shape == (1, 5, 12)
    with pytest.raises(TypeError, match="embed_dim, num_heads and kernel_size are required"):
        natten.NeighborhoodAttention1D(num_heads=3, kernel_size=3)


def test_versions_with_a_suffix_are_those_without():
    for version, plain in (("0.14.4+torch1121cu116", "0.14.4"), ("0.17.3+torch240cu121", "0.17.3")):
        names = []
        for name in (version, plain):
            nalab.natten.install(name)
            names.append(set(dir(importlib.import_module("natten.functional"))))
            assert importlib.import_module("natten").__version__ == name
            nalab.natten.uninstall()
        assert names[0] == names[1]


@with_natten("0.15.1", "0.17.3")
def test_the_bias_of_earlier_names_is_called_rpb(natten):
    functional = importlib.import_module("natten.functional")
    q, rpb = torch.randn(1, 2, 6, 6, 8), torch.randn(2, 5, 5)
    attn = functional.natten2dqkrpb(q, q, rpb=rpb, kernel_size=3, dilation=1)
    torch.testing.assert_close(attn, functional.natten2dqkrpb(q, q, rpb, 3, 1))


@with_natten("0.21.5")
def test_lengths_of_sequences_are_not_ignored(natten):
    q, lengths = torch.randn(1, 6, 2, 8), torch.tensor([3, 3])
    with pytest.raises(NotImplementedError, match="takes what follows scale by name alone"):
        importlib.import_module("natten.functional").attention(q, q, q, False, None, lengths, lengths)
