"""What a call through Python costs beyond the call in C++: medians of both, in rounds that take turns.

    python bench/python/overhead.py [--nalab build/release/nalab] [--threads 2] [--rounds 5]

The C++ times are those of `nalab run`, which keeps its plan and its results' memory. Python's are from NumPy, without and
with `out=`, from nalab.torch without and with a gradient to be recorded, and once more after a product of matrices on
PyTorch's own threads, so that they are awake.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import tempfile
from pathlib import Path

import numpy
import torch
from problems import ALLIN1, NAT, TINY, VIDEO, in_turns, medians

import nalab
import nalab.torch


def cpp_samples(problem, options, folder):
    """Seconds of the forward pass in C++, of one run."""
    config = {
        "name": "overhead",
        "timing": {"warmups": 3, "min_samples": options.samples, "max_samples": options.samples, "min_seconds": 0,
                   "max_seconds": 60},
        "verify": {"budget_seconds": 0.5, "sampled_queries": 4},
        "variants": [nalab.plan(problem.layout, problem.window, 1, problem.dilation, batch=problem.batch,
                                heads=problem.heads, head_dim=problem.head_dim).variant],
        "types": ["f32"],
        "passes": ["forward"],
        "problems": [{"label": problem.name, "layout": list(problem.layout), "window": list(problem.window),
                      "dilation": list(problem.dilation), "batch": problem.batch, "heads": problem.heads,
                      "head_dim": problem.head_dim}],
    }  # fmt: skip
    path, results = Path(folder) / "overhead.yaml", Path(folder) / "overhead.h5"
    path.write_text(json.dumps(config))  # JSON is YAML
    results.unlink(missing_ok=True)
    command = [options.nalab, "run", str(path), "-o", str(results), "--threads", str(options.threads)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return list(nalab.read_results(results)["samples"][0])


def python_calls(problem):
    tensors = [torch.randn(problem.batch, *problem.layout, problem.heads, problem.head_dim) for _ in range(3)]
    arrays = [t.numpy() for t in tensors]
    out = torch.empty_like(tensors[0]).numpy()
    recorded = [t.clone().requires_grad_() for t in tensors]
    function = {1: nalab.torch.na1d, 2: nalab.torch.na2d, 3: nalab.torch.na3d}[problem.rank]
    window = dict(dilation=problem.dilation)
    awake = torch.randn(128, 128)

    def between(call):
        return lambda: (awake @ awake, call())[1]

    return {
        "NumPy": lambda: nalab.attention(*arrays, problem.window, **window),
        "NumPy, out=": lambda: nalab.attention(*arrays, problem.window, **window, out=out),
        "torch": lambda: function(*tensors, problem.window, **window),
        "torch, recorded": lambda: function(*recorded, problem.window, **window),
        "torch, after a product": between(lambda: function(*tensors, problem.window, **window)),
        "product": lambda: awake @ awake,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nalab", default="build/release/nalab")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=30, help="of each round")
    parser.add_argument("--batch", type=int, default=1, help="times the batch of each problem, for calls that take longer")
    parser.add_argument("--evict", action="store_true", help="64 MiB are written before each call from Python")
    parser.add_argument("--filter", default="", help="only problems whose name matches this regular expression")
    options = parser.parse_args()
    evicted = numpy.zeros(64 << 18, numpy.float32)
    before = (lambda: evicted.fill(0)) if options.evict else (lambda: None)
    torch.set_num_threads(options.threads)
    nalab.set_num_threads(options.threads)
    names = ["C++", "NumPy", "NumPy, out=", "torch", "torch, recorded", "torch, after a product"]
    print(f"PyTorch {torch.__version__}, NumPy {numpy.__version__}, {options.threads} threads; us\n")
    print("| problem | " + " | ".join(names) + " |\n| --- |" + " ---: |" * len(names))
    for problem in [TINY, *NAT, *ALLIN1, *VIDEO]:
        if not re.search(options.filter, problem.name):
            continue
        problem = dataclasses.replace(problem, batch=problem.batch * options.batch)
        own = []
        calls, times = python_calls(problem), {}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.rounds):
                own += cpp_samples(problem, options, folder)
                for name, samples in in_turns(calls, 1, options.samples, before=before).items():
                    times.setdefault(name, []).extend(samples)
        result = medians({"C++": own, **times})
        result["torch, after a product"] -= result["product"]
        print(f"| {problem.name} | " + " | ".join(f"{1e6 * result[name]:.1f}" for name in names) + " |", flush=True)


if __name__ == "__main__":
    main()
