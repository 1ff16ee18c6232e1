"""The forward pass on a Hopper GPU beside cuDNN's self attention of tensors of the same size, and FlexAttention.

    python bench/gpu/peers.py build/release/bench/libhopper_calls.so [CASE,CASE,...]

Needs PyTorch with CUDA. For each case the tile shapes that the plan ranks first are tried, each with and without
taking turns; the best one is compared. Both are timed in turns, with events; a ratio is that of one turn. All that a
call needs is inside: heads are last, nothing is permuted, lse is written. cuDNN has heads first, which suits it.

With FLEX=1, compiled FlexAttention of the same windows takes its turns too (flex.py; needs a C compiler). FLEX,
CANDIDATES and ROUNDS are read from the environment. With OUT, a folder, results go to OUT/peers.jsonl as well.
"""

import dataclasses
import json
import math
import os
import random
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from check import compare
from hopper_calls import Library, Problem, Tensors

HUNYUAN = Problem((30, 48, 80), (18, 24, 24), (1, 1, 1), heads=24)
COSMOS = Problem((16, 44, 80), (16, 24, 16), (1, 1, 1), heads=32)
FLUX = Problem((256, 256), (80, 80), (1, 1), heads=24)
LINE = Problem((32768,), (2048,), (1,), heads=24)
DENSE = Problem((115200,), (115200,), (1,), heads=24)


def other(problem, **changes):
    return dataclasses.replace(problem, **changes)


CASES = {
    "hunyuan_1x1x1": HUNYUAN,
    "hunyuan_16x8x8": other(HUNYUAN, stride=(16, 8, 8)),
    "cosmos_1x1x1": COSMOS,
    "cosmos_1x8x16": other(COSMOS, stride=(1, 8, 16)),
    "flux_1x1": FLUX,
    "flux_16x16": other(FLUX, stride=(16, 16)),
    "line_1": LINE,
    "line_256": other(LINE, stride=(256,)),
    "hunyuan_1x1x1_f16": other(HUNYUAN, f16=True),
    "hunyuan_1x1x1_d64": other(HUNYUAN, head_dim=64),
    "flux_1x1_f16": other(FLUX, f16=True),
    "flux_16x16_d64": other(FLUX, stride=(16, 16), head_dim=64),
    "dense": DENSE,
    "dense_f16": other(DENSE, f16=True),
    "dense_d64": other(DENSE, head_dim=64),
}
CANDIDATES = int(os.environ.get("CANDIDATES", "10"))
ROUNDS = int(os.environ.get("ROUNDS", "7"))
FLEX = os.environ.get("FLEX") == "1"
if FLEX:
    from flex import Flex


def milliseconds(run):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def self_attention(problem):
    """cuDNN's, as a call without arguments."""
    torch.manual_seed(1)
    shape = (problem.batch, problem.heads, math.prod(problem.layout), problem.head_dim)
    q, k, v = (torch.randn(shape, device="cuda", dtype=problem.dtype) for _ in range(3))

    def run():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    return run


def fastest(library, problem, tensors):
    """The best of the first tile shapes by name, with the plan's own choice; prints all."""
    tried = {}
    shapes = library.names_of_shapes(problem, CANDIDATES)
    for shape in [s.removesuffix("_ping_pong") + turns for s in shapes for turns in ("", "_ping_pong")]:
        forward = library.forward(problem, tensors, shape)
        milliseconds(forward.run)
        tried[shape] = min(milliseconds(forward.run) for _ in range(2))
        rate = forward.executed_flops / tried[shape] * 1e-9
        print(f"   {tried[shape]:8.3f} ms {rate:6.1f} TFLOP/s executed  {shape}", flush=True)
        forward.close()
    return min(tried, key=tried.get), shapes[0]


def measure(library, name):
    problem = CASES[name]
    tensors = Tensors(problem)
    best, choice = fastest(library, problem, tensors)
    baseline = self_attention(problem)
    milliseconds(baseline)
    forward, first = library.forward(problem, tensors, best), library.forward(problem, tensors, choice)
    flex = Flex(problem, tensors) if FLEX and problem.window != problem.layout else None
    runs = [baseline, forward.run, first.run] + ([flex] if flex else [])
    if flex:
        milliseconds(flex)
    rounds = [[milliseconds(run) for run in runs] for _ in range(ROUNDS)]
    right = True
    for call in (first, forward):
        tensors.out.fill_(math.nan)
        tensors.lse.fill_(math.nan)
        call.run()
        out, lse, ok = compare(problem, tensors, random.Random(0))
        right = right and ok and call.recomputed() == 0
        right = right and not (tensors.out.isnan().any() or tensors.lse.isnan().any())
        call.close()

    def ratios(column, over=0):
        values = sorted(row[over] / row[column] for row in rounds)
        return statistics.median(values), values[0], values[-1]

    theirs, ours = (statistics.median(row[i] for row in rounds) for i in (0, 1))
    flops = 4.0 * math.prod(problem.layout) * problem.heads * problem.head_dim
    result = {
        "case": name,
        "problem": problem.text(),
        "shape": best,
        "choice": choice,
        "ratio": ratios(1),
        "choice_ratio": ratios(2),
        "ms": ours,
        "cudnn_ms": theirs,
        "useful_tflops": flops * math.prod(problem.window) / ours * 1e-9,
        "cudnn_tflops": flops * math.prod(problem.layout) / theirs * 1e-9,
        "out": out,
        "lse": lse,
        "right": right,
        "rounds": rounds,
    }
    if flex:
        flex.store(tensors)
        flex_right = compare(problem, tensors, random.Random(0))[2]
        result |= {"flex_tile": flex.tile, "flex_ratio": ratios(3), "over_flex": ratios(1, over=3), "flex_right": flex_right}
    ratio, choice_ratio = result["ratio"], result["choice_ratio"]
    print(
        f"{name}: {ratio[0]:.2f}x [{ratio[1]:.2f} {ratio[2]:.2f}], the plan's choice {choice_ratio[0]:.2f}x"
        f" [{choice_ratio[1]:.2f} {choice_ratio[2]:.2f}]; {ours:.3f} ms ({result['useful_tflops']:.0f} TFLOP/s useful),"
        f" cuDNN {theirs:.2f} ms ({result['cudnn_tflops']:.0f}); errors out {out[0]:.1e} {out[1]:.1e} lse {lse[1]:.1e}"
        f" {'right' if result['right'] else 'WRONG'}",
        flush=True,
    )
    if flex:
        over = "{:.2f}x [{:.2f} {:.2f}]"
        print(
            f"   FlexAttention, tiles of {'x'.join(map(str, flex.tile))}: {over.format(*result['flex_ratio'])} over cuDNN;"
            f" nalab {over.format(*result['over_flex'])} over it; {'right' if flex_right else 'WRONG'}",
            flush=True,
        )
    if "OUT" in os.environ:
        with open(os.path.join(os.environ["OUT"], "peers.jsonl"), "a") as file:
            file.write(json.dumps(result) + "\n")


def main():
    library = Library(sys.argv[1])
    print(torch.cuda.get_device_name(), "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version(), flush=True)
    for name in sys.argv[2].split(",") if len(sys.argv) > 2 else CASES:
        measure(library, name)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
