"""PyTorch's attention on CPUs beside nalab, in turn on one machine.

    python tools/peers.py [--nalab build/release/nalab] [--threads 2] [--rounds 5] [--types bf16,f32] [--filter REGEX]
                          [--backward] [--flex]

Not part of the build: needs PyTorch 2.6 or later (its CPU part), and for --flex a C++ compiler. Self attention is held against
scaled_dot_product_attention, heads and all in one call; with --flex, windows are held against compiled FlexAttention whose
blocks of 128 tokens follow the stride's tiles (tiled token order), as block-sparse as it can be.

In each round every peer takes a few samples of a case, one after the other, after a warm-up of its own: nalab by `nalab run` in a
process of its own. The table has medians over all rounds, GFLOP/s of attended pairs, and nalab's time as a share. Its
arithmetic is the one that the row names.
"""

import argparse
import csv
import json
import math
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

SAMPLES_OF_ROUND = 5

# label, layout, window, stride, heads, head_dim
CASES = (
    ("dense 8192, d 128", (8192,), (8192,), (1,), 1, 128),
    ("dense 8192, d 64", (8192,), (8192,), (1,), 1, 64),
    ("dense 1024, 16 heads of 64", (1024,), (1024,), (1,), 16, 64),
    ("dense 32768, d 128", (32768,), (32768,), (1,), 1, 128),
    ("HunyuanVideo", (30, 48, 80), (18, 24, 24), (1, 1, 1), 1, 128),
    ("HunyuanVideo stride 16x8x8", (30, 48, 80), (18, 24, 24), (16, 8, 8), 1, 128),
    ("Cosmos-7B", (16, 44, 80), (16, 24, 16), (1, 1, 1), 1, 128),
    ("Cosmos-7B stride 1x8x16", (16, 44, 80), (16, 24, 16), (1, 8, 16), 1, 128),
    ("FLUX", (256, 256), (80, 80), (1, 1), 1, 128),
    ("FLUX stride 16x16", (256, 256), (80, 80), (16, 16), 1, 128),
)
TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def is_dense(case):
    return case[1] == case[2]


def nalab_seconds(options, case, type_name, folder):
    """Samples of one round, their useful FLOP, and the arithmetic."""
    label, layout, window, stride, heads, dim = case
    problem = {"label": label, "layout": list(layout), "window": list(window), "stride": list(stride), "heads": heads,
               "head_dim": dim}
    config = {
        "name": "peers",
        "timing": {"warmups": 1, "min_samples": SAMPLES_OF_ROUND, "max_samples": SAMPLES_OF_ROUND, "min_seconds": 0,
                   "max_seconds": 60},
        "verify": {"budget_seconds": 0.5, "sampled_queries": 4},
        "store": {"tensors": "sample"},
        "variants": ["dense" if is_dense(case) else "fused"],
        "types": [type_name],
        "passes": ["forward_backward" if options.backward else "forward"],
        "problems": [problem],
    }
    path = Path(folder) / "peers.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    results, report = Path(folder) / "peers.h5", Path(folder) / "report"
    results.unlink(missing_ok=True)
    command = [options.nalab, "run", str(path), "-o", str(results), "--threads", str(options.threads)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    subprocess.run([options.nalab, "report", str(results), "-o", str(report), "--format", "csv"], check=True,
                   capture_output=True)
    with open(report / "peers.csv", newline="") as file:
        row = next(csv.DictReader(file))
    if row["status"] != "done":
        raise SystemExit(f"peers.py: {label}: {row['status']}: {row['reason']}")
    return float(row["median_seconds"]), int(row["useful_flops"]), row["arithmetic"]


def flex_attention_of(case):
    """(q, k, v) -> out by FlexAttention, with tokens in the order of tiles."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    _, layout, window, stride, _, _ = case
    tile = [s if s > 1 else t for s, t in zip(stride, {3: (2, 8, 8), 2: (8, 16)}[len(layout)])]
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in layout), indexing="ij"), -1).reshape(-1, len(layout))
    key = torch.zeros(len(grid), dtype=torch.int64)
    for axis, n in enumerate(layout):  # tiles in row-major order, then tokens in a tile
        key = key * math.ceil(n / tile[axis]) + grid[:, axis] // tile[axis]
    for axis in range(len(layout)):
        key = key * tile[axis] + grid[:, axis] % tile[axis]
    tokens = grid[torch.argsort(key)]
    coordinates, starts = [], []  # one tensor an axis: FlexAttention's compiler takes no others
    for axis, (n, w, s) in enumerate(zip(layout, window, stride)):
        coordinates.append(tokens[:, axis].contiguous())
        leader = torch.clamp(coordinates[axis] // s * s + s // 2, max=n - 1)
        starts.append(torch.clamp(leader - w // 2, min=0, max=n - w))

    def attends(_batch, _head, query, key_token):
        inside = key_token >= 0
        for axis, w in enumerate(window):
            offset = coordinates[axis][key_token] - starts[axis][query]
            inside = inside & (offset >= 0) & (offset < w)
        return inside

    mask = create_block_mask(attends, None, None, len(tokens), len(tokens), device="cpu", _compile=True)
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda q, k, v: compiled(q, k, v, block_mask=mask)


def torch_samples(options, case, attention, type_name, samples):
    _, layout, _, _, heads, dim = case
    shape = (1, heads, math.prod(layout), dim)
    q, k, v, dout = (torch.randn(shape, dtype=torch.float32).to(TYPES[type_name]) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_(options.backward)
    times = []
    for i in range(samples + 1):  # the first warms up
        begin = time.perf_counter()
        out = attention(q, k, v)
        if options.backward:
            torch.autograd.grad(out, (q, k, v), dout)
        times.append(time.perf_counter() - begin)
    return times[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nalab", default="build/release/nalab")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--types", default="bf16,f32")
    parser.add_argument("--filter", default="")
    parser.add_argument("--backward", action="store_true", help="forward + backward")
    parser.add_argument("--flex", action="store_true", help="compiled FlexAttention for windows")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, {options.threads} threads, {options.rounds} rounds, "
          f"{'forward + backward' if options.backward else 'forward'}; medians")
    print("| case | type | arithmetic | nalab, ms | GFLOP/s | PyTorch, ms | GFLOP/s | PyTorch / nalab |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES:
        if not re.search(options.filter, case[0]) or not (is_dense(case) or options.flex):
            continue
        attention = F.scaled_dot_product_attention if is_dense(case) else flex_attention_of(case)
        for type_name in options.types.split(","):
            own, peer = [], []
            with tempfile.TemporaryDirectory() as folder, torch.set_grad_enabled(options.backward):
                for _ in range(options.rounds):
                    seconds, flops, arithmetic = nalab_seconds(options, case, type_name, folder)
                    own.append(seconds)
                    peer += torch_samples(options, case, attention, type_name, SAMPLES_OF_ROUND)
            a, b = statistics.median(own), statistics.median(peer)
            print(f"| {case[0]} | {type_name} | {arithmetic} | {a * 1e3:.1f} | {flops / a / 1e9:.0f} | {b * 1e3:.1f} | "
                  f"{flops / b / 1e9:.0f} | {b / a:.2f} |", flush=True)


if __name__ == "__main__":
    main()
