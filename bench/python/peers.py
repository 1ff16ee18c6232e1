"""nalab beside what else computes neighborhood attention on CPUs from Python, in one run: forward, and forward + backward.

    python bench/python/peers.py [--threads 2] [--rounds 5] [--filter REGEX]

Columns: nalab.torch; natten, if a natten with CPU kernels (0.17.5 or earlier) is installed; a gather of keys and values in
plain PyTorch; FlexAttention, compiled (PyTorch 2.5 or later; its backward pass has no CPU kernels); PyTorch's dense attention
with a mask. Medians of interleaved rounds in ms; a dash stands for what cannot compute a problem, or would need more than
--memory GiB for a mask or a gather. Every result is compared with nalab's first, to 1e-4.
"""

import argparse
import functools
import itertools
import os
import re
import sys

import torch
from problems import ALLIN1, NAT, VIDEO, in_turns, medians

import nalab
import nalab.torch


@functools.lru_cache(maxsize=1)
def keys_of(problem):
    """[tokens, slots]: the flattened keys that each query attends to."""
    axes = []
    for extent, window, dilation in zip(problem.layout, problem.window, problem.dilation):
        x = torch.arange(extent)
        group, position = x % dilation, x // dilation
        length = (extent - group + dilation - 1) // dilation
        start = torch.minimum((position - window // 2).clamp(min=0), length - window)
        axes.append((start[:, None] + torch.arange(window)) * dilation + group[:, None])
    keys = torch.zeros(1, 1, dtype=torch.int64)
    for axis, extent in zip(axes, problem.layout):
        keys = (keys[:, None, :, None] * extent + axis[None, :, None, :]).reshape(keys.shape[0] * extent, -1)
    return keys


class TooLarge(Exception):
    pass


def require(gigabytes, options):
    if gigabytes > options.memory:
        raise TooLarge


def nalab_call(problem, options):
    function = {1: nalab.torch.na1d, 2: nalab.torch.na2d, 3: nalab.torch.na3d}[problem.rank]
    return lambda q, k, v: function(q, k, v, problem.window, dilation=problem.dilation)


def natten_call(problem, options):
    import natten.functional

    qk, av = (getattr(natten.functional, f"na{problem.rank}d_{name}") for name in ("qk", "av"))

    def call(q, k, v):
        q, k, v = (t.movedim(-2, 1).contiguous() for t in (q, k, v))
        attn = qk(q * problem.head_dim**-0.5, k, problem.window, problem.dilation).softmax(-1)
        return av(attn, v, problem.window, problem.dilation).movedim(1, -2)

    return call


def gather_call(problem, options):
    keys = keys_of(problem)
    require(3 * problem.batch * problem.heads * problem.head_dim * keys.numel() * 4 / 2**30, options)

    def call(q, k, v):
        q, k, v = (t.flatten(1, -3) for t in (q, k, v))
        scores = torch.einsum("bthd,btwhd->btwh", q, k[:, keys]) * problem.head_dim**-0.5
        return torch.einsum("btwh,btwhd->bthd", scores.softmax(2), v[:, keys]).unflatten(1, problem.layout)

    return call


def mask_call(problem, options):
    require(problem.tokens**2 * 5 * problem.heads / 2**30, options)
    mask = torch.zeros(problem.tokens, problem.tokens, dtype=torch.bool).scatter_(1, keys_of(problem), True)

    def call(q, k, v):
        q, k, v = (t.flatten(1, -3).transpose(1, 2) for t in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).unflatten(1, problem.layout)

    return call


def flex_call(problem, options):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    require(problem.tokens**2 / 2**30, options)
    x = torch.arange(problem.tokens)
    coordinates, starts, groups = [], [], []
    for axis in reversed(range(problem.rank)):
        extent, window, dilation = problem.layout[axis], problem.window[axis], problem.dilation[axis]
        c = x % extent
        x = x // extent
        group, position = c % dilation, c // dilation
        length = (extent - group + dilation - 1) // dilation
        coordinates.append(position.contiguous())
        groups.append(group.contiguous())
        starts.append(torch.minimum((position - window // 2).clamp(min=0), length - window))
    windows = list(reversed(problem.window))

    def attends(_batch, _head, query, key):
        inside = key >= 0
        for i, window in enumerate(windows):
            offset = coordinates[i][key] - starts[i][query]
            inside = inside & (groups[i][key] == groups[i][query]) & (offset >= 0) & (offset < window)
        return inside

    mask = create_block_mask(attends, None, None, problem.tokens, problem.tokens, device="cpu")
    compiled = torch.compile(flex_attention, dynamic=False)

    def call(q, k, v):
        q, k, v = (t.flatten(1, -3).transpose(1, 2) for t in (q, k, v))
        return compiled(q, k, v, block_mask=mask).transpose(1, 2).unflatten(1, problem.layout)

    return call


PEERS = {"nalab": nalab_call, "natten": natten_call, "gather": gather_call, "Flex": flex_call, "masked": mask_call}


def prepare(problem, options, backward):
    """{peer: call} of those that compute the problem, checked against nalab."""
    shape = (problem.batch, *problem.layout, problem.heads, problem.head_dim)
    tensors = [torch.randn(shape, requires_grad=backward) for _ in range(3)]
    dout = torch.randn(shape)
    calls, expected = {}, None
    for name, make in PEERS.items():
        try:
            attend = make(problem, options)

            def call(attend=attend):
                out = attend(*tensors)
                return torch.autograd.grad(out, tensors, dout) if backward else (out,)

            results = call()
        except (ImportError, TooLarge, NotImplementedError):
            continue
        except Exception as error:  # FlexAttention's compiler has many of its own
            if name != "Flex":
                raise
            print(f"Flex, {problem.name}: {type(error).__name__}", file=sys.stderr)
            continue
        expected = expected or results
        for own, other in zip(expected, results):
            error = ((own - other).norm() / own.norm()).item()
            if error > 1e-4:
                raise SystemExit(f"{name}, {problem.name}: differs from nalab by {error:.1e}")
        calls[name] = call
    return calls


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=10, help="of each round")
    parser.add_argument("--memory", type=float, default=4, help="GiB that a mask or a gather may take")
    parser.add_argument("--filter", default="", help="only problems whose name matches this regular expression")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    nalab.set_num_threads(options.threads)
    wait = os.environ.get("OMP_WAIT_POLICY", "default")
    print(f"PyTorch {torch.__version__}, nalab {nalab.__version__}, {options.threads} threads, OMP_WAIT_POLICY {wait}, f32, ms\n")
    print("| problem | pass | " + " | ".join(PEERS) + " |")
    print("| --- | --- |" + " ---: |" * len(PEERS))
    for problem, backward in itertools.product(NAT + ALLIN1 + VIDEO, (False, True)):
        if not re.search(options.filter, problem.name):
            continue
        with torch.set_grad_enabled(backward):
            times = medians(in_turns(prepare(problem, options, backward), options.rounds, options.samples))
        cells = [f"{1e3 * times[name]:.3g}" if name in times else "-" for name in PEERS]
        print(f"| {problem.name} | {'both' if backward else 'forward'} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
