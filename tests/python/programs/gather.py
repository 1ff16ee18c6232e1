"""natten in plain PyTorch: a gather and dense sums, for programs that are to run without nalab."""

import functools
import pathlib
import sys

import pytest
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import oracle  # noqa: E402

neighborhood = functools.lru_cache(maxsize=None)(oracle.Neighborhood)


def qkrpb(query, key, rpb, kernel_size, dilation):
    """natten 0.14.6's natten1dqkrpb and natten2dqkrpb; heads first."""
    window = neighborhood(tuple(query.shape[2:-1]), kernel_size, 1, dilation)
    return oracle.weights(window, query.movedim(1, -2), key.movedim(1, -2), rpb=rpb).movedim(-2, 1)


def av(attn, value, kernel_size, dilation):
    """natten 0.14.6's natten1dav and natten2dav; heads first."""
    window = neighborhood(tuple(value.shape[2:-1]), kernel_size, 1, dilation)
    return oracle.values(window, attn.movedim(1, -2), value.movedim(1, -2)).movedim(-2, 1)


def module_forward(module, x):
    """The forward pass of natten's modules, heads last."""
    qkv = module.qkv(x).unflatten(-1, (3, module.num_heads, -1))
    window = neighborhood(tuple(x.shape[1:-1]), module.kernel_size, module.stride, module.dilation)
    out, _ = oracle.attention(window, *qkv.unbind(-3), scale=module.scale)
    return module.proj(out.flatten(-2))


def fill(module, seed=1):
    """Random weights, biases that start as zeros among them: else a wrong one would go unseen."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.dim() == 1 or name.endswith("rpb"):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = noise * 0.5 if name.endswith("rpb") else parameter.data + 0.1 * noise
    return module.eval()


def assert_same(own, expected, bound=1e-4):
    """Tensors, or structures of them, whose relative difference in norm is at most the bound."""
    if isinstance(expected, torch.Tensor):
        error = ((own - expected).norm() / expected.norm()).item()
        assert error <= bound, f"relative difference {error:.2e}"
        assert expected.norm() > 0
        return
    assert len(own) == len(expected) > 0
    for a, b in zip(own, expected):
        assert_same(a, b, bound)


def package_without_init(name):
    """A package whose __init__ does not run, since it imports what its models do not need. Skips if it is missing."""
    import importlib.util
    import types

    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"needs {name}", allow_module_level=True)
    package = types.ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package
