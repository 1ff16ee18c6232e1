"""What a call through Python costs beyond the same call in C++: medians, in one process, on the same arrays and threads.

    python bench/python/overhead.py [--calls build/release/bench/libpython_calls.so] [--threads 2] [--rounds 60]

The C++ calls (calls.cpp) keep their plan and their results' memory, and run on PyTorch's threads as those from Python do.
Python's are from NumPy without and with `out=`, from nalab.torch without and with a gradient to be recorded, and after a
product of matrices, not timed, so that PyTorch's threads are awake. All take turns, in another order in each round, with
four calls at a time after two that are not counted.
"""

import argparse
import ctypes
import dataclasses
import random
import re
import statistics
import time

import numpy
import torch
from problems import ALLIN1, NAT, TINY, VIDEO

import nalab
import nalab.torch
from nalab.torch._openmp import gomp_parallel

NAMES = ["C++", "NumPy", "NumPy, out=", "torch", "torch, recorded", "torch, after a product"]
SLOW = 0.1  # seconds: of such calls one at a time is enough


def nothing():
    pass


def cpp_call(problem, arrays, out, lse, options):
    """A function (calls, before) -> seconds."""
    numbers = ctypes.c_int64 * problem.rank
    size = [ctypes.c_int64(n) for n in (problem.batch, problem.heads, problem.head_dim)]
    function = ctypes.CDLL(options.calls).nalab_time_forward

    def call(calls, before):
        seconds = (ctypes.c_double * calls)()
        tensors = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, out, lse)]
        hook = ctypes.CFUNCTYPE(None)(before) if before is not nothing else ctypes.c_void_p()
        if function(problem.rank, numbers(*problem.layout), numbers(*problem.window), numbers(*problem.dilation), *size,
                    *tensors, ctypes.c_void_p(gomp_parallel()), options.threads, hook, calls, seconds):  # fmt: skip
            raise SystemExit(1)
        return list(seconds)

    return call


def python_call(attend):
    def call(calls, before):
        seconds = []
        for _ in range(calls):
            before()
            start = time.perf_counter()
            attend()
            seconds.append(time.perf_counter() - start)
        return seconds

    return call


def calls_of(problem, options):
    """{name: (function, what comes before each call)}, by NAMES"""
    tensors = [torch.randn(problem.batch, *problem.layout, problem.heads, problem.head_dim) for _ in range(3)]
    arrays = [t.numpy() for t in tensors]
    out = torch.empty_like(tensors[0]).numpy()
    lse = torch.empty(out.shape[:-1]).numpy()
    recorded = [t.clone().requires_grad_() for t in tensors]
    function = {1: nalab.torch.na1d, 2: nalab.torch.na2d, 3: nalab.torch.na3d}[problem.rank]
    arguments = dict(window=problem.window, dilation=problem.dilation)
    awake = torch.randn(128, 128)
    evicted = numpy.zeros(64 << 18, numpy.float32)
    before = (lambda: evicted.fill(0)) if options.evict else nothing
    from_torch = python_call(lambda: function(*tensors, problem.window, dilation=problem.dilation))
    functions = [
        cpp_call(problem, arrays, out, lse, options),
        python_call(lambda: nalab.attention(*arrays, **arguments)),
        python_call(lambda: nalab.attention(*arrays, **arguments, out=out)),
        from_torch,
        python_call(lambda: function(*recorded, problem.window, dilation=problem.dilation)),
    ]
    return {**{name: (call, before) for name, call in zip(NAMES, functions)},
            NAMES[-1]: (from_torch, lambda: (before(), awake @ awake))}  # fmt: skip


def medians(calls, rounds):
    """Seconds by name."""
    slow = calls["C++"][0](1, nothing)[0] > SLOW
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name in random.sample(list(calls), len(calls)):
            call, before = calls[name]
            times[name] += call(1, before) if slow else call(6, before)[2:]
    return {name: statistics.median(own) for name, own in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="build/release/bench/libpython_calls.so")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batch", type=int, default=1, help="times the batch of each problem, for calls that take longer")
    parser.add_argument("--evict", action="store_true", help="64 MiB are written before each call")
    parser.add_argument("--filter", default="", help="only problems whose name matches this regular expression")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    nalab.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, NumPy {numpy.__version__}, {options.threads} threads; us, and % over C++\n")
    print("| problem | " + " | ".join(NAMES) + " |\n| --- |" + " ---: |" * len(NAMES))
    for problem in [TINY, *NAT, *ALLIN1, *VIDEO]:
        if not re.search(options.filter, problem.name):
            continue
        problem = dataclasses.replace(problem, batch=problem.batch * options.batch)
        result = medians(calls_of(problem, options), options.rounds)
        base = result["C++"]
        cells = [f"{1e6 * result[name]:.1f} ({100 * (result[name] / base - 1):+.1f})" for name in NAMES[1:]]
        print(f"| {problem.name} | {1e6 * base:.1f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
