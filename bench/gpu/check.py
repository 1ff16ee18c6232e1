"""Random problems on the GPU against float64 arithmetic on sampled queries.

    python bench/gpu/check.py build/release/bench/libhopper_calls.so COUNT [SEED [SECONDS]]

Needs PyTorch with CUDA. The keys of a query are found from the definition, query by query, and from nothing of nalab's
own geometry. Tile shapes are the plan's choice or random ones. Results are full of NaN before; each call runs twice and
must give the same bits. Some inputs hold NaN, infinities and huge keys; on the others nothing may be computed twice.
"""

import itertools
import math
import random
import sys
import time

import torch

from hopper_calls import Library, Problem, Tensors

BOUNDS = {torch.bfloat16: (8e-3, 4e-2), torch.float16: (2e-3, 1e-2)}  # Frobenius, largest
MOST_QUERIES = 48


def keys_on_axis(length, window, stride, dilation, causal, i):
    """Coordinates that the query at coordinate i attends to along an axis."""
    group, p = i % dilation, i // dilation
    n = (length - group + dilation - 1) // dilation
    left, right = window // 2, window // 2 + window % 2 - 1
    first = p // stride * stride
    if causal:
        leader = min(first + stride - 1, n - 1)
        start, end = max(leader - left - right, 0), p + 1
    else:
        leader = min(first + stride // 2, n - 1)
        start = max(leader - left, 0)
        if leader + right >= n:
            start += n - leader - right - 1
        end = start + window
    return [x * dilation + group for x in range(start, end)]


def reference(problem, tensors, query):
    """out [heads, dim_v] and lse [heads] of one query (batch, token) in float64."""
    batch, token = query
    axes = zip(*problem.axes(), token)
    index = torch.cartesian_prod(*(torch.tensor(keys_on_axis(*axis)) for axis in axes)).reshape(-1, len(token)).cuda()
    at = (batch, *index.T)
    k, v = tensors.k[at].double(), tensors.v[at].double()
    if problem.extra_tokens:
        k = torch.cat([k, tensors.extra_k[batch].double()])
        v = torch.cat([v, tensors.extra_v[batch].double()])
    group = problem.heads // problem.kv
    q = tensors.q[(batch, *token)].double().reshape(problem.kv, group, problem.head_dim)
    s = torch.einsum("kgd,nkd->kgn", q, k) * problem.effective_scale
    top = s.nan_to_num(-math.inf, math.inf, -math.inf).amax(-1, keepdim=True)
    p = torch.exp(s - top)
    lse = top[..., 0] + p.sum(-1).log()
    p = p / p.sum(-1, keepdim=True)
    return torch.einsum("kgn,nkd->kgd", p, v).reshape(problem.heads, -1), lse.reshape(-1)


def errors(x, expected):
    x, expected = x.double(), expected.double()
    if not torch.equal(x.isnan(), expected.isnan()) or not torch.equal(x.isinf(), expected.isinf()):
        return math.inf, math.inf
    finite = expected.isfinite()
    difference, expected = (x - expected)[finite], expected[finite]
    if expected.numel() == 0:
        return 0.0, 0.0
    frobenius = difference.norm() / expected.norm().clamp_min(1e-12)
    largest = difference.abs().max() / expected.abs().max().clamp_min(1e-12)
    return frobenius.item(), largest.item()


def sampled_queries(problem, source):
    corners = list(itertools.product(range(problem.batch), itertools.product(*({0, n - 1} for n in problem.layout))))
    source.shuffle(corners)
    queries = set(corners[:16])
    while len(queries) < min(MOST_QUERIES, problem.batch * math.prod(problem.layout)):
        queries.add((source.randrange(problem.batch), tuple(source.randrange(n) for n in problem.layout)))
    return sorted(queries)


def compare(problem, tensors, source):
    """Errors of out and lse on sampled queries, and whether they are within bounds and all results are written."""
    queries = sampled_queries(problem, source)
    expected = [reference(problem, tensors, query) for query in queries]
    found = [(tensors.out[(b, *x)], tensors.lse[(b, *x)]) for b, x in queries]
    out = errors(torch.stack([f[0] for f in found]), torch.stack([e[0] for e in expected]))
    lse = errors(torch.stack([f[1] for f in found]), torch.stack([e[1] for e in expected]))
    frobenius, largest = BOUNDS[problem.dtype]
    ok = out[0] <= frobenius and out[1] <= largest and lse[0] <= frobenius and lse[1] <= largest
    return out, lse, ok


def random_problem(source):
    rank = source.choice([1, 2, 2, 3, 3, 3])
    most = {1: 2000, 2: 70, 3: 24}[rank]
    layout, window, stride, dilation, causal = [], [], [], [], []
    for _ in range(rank):
        n = source.randint(1, most)
        d = source.choice([1, 1, 1, source.randint(1, min(n, 4))])
        w = source.choice([source.randint(1, n // d), n // d, min(n // d, source.randint(1, 9))])
        layout.append(n)
        dilation.append(d)
        window.append(w)
        stride.append(source.choice([1, 1, source.randint(1, w), w]))
        causal.append(source.choice([0, 0, 0, 1]))
    kv = source.choice([1, 1, 2])
    dims = [8, 16, 32, 40, 64, 64, 80, 96, 104, 128, 128, 128]
    dim = source.choice(dims)
    return Problem(
        tuple(layout),
        tuple(window),
        tuple(stride),
        tuple(dilation),
        tuple(causal),
        batch=source.choice([1, 1, 2, 3]),
        heads=kv * source.choice([1, 1, 2, 3]),
        heads_kv=kv,
        head_dim=dim,
        head_dim_v=source.choice([dim, dim, source.choice(dims)]),
        extra_tokens=source.choice([0, 0, 0, 1, 7, 130, 300]),
        scale=source.choice([math.nan, math.nan, math.nan, 0.0, -0.2, 0.3]),
        f16=source.random() < 0.4,
    )


def poison(tensors, source):
    """NaN, infinities and, in keys, scores greater than the bias that masks, in a few numbers of the inputs."""
    for name in ("q", "k", "v", "extra_k", "extra_v"):
        tensor = getattr(tensors, name)
        if tensor is None or source.random() < 0.4:
            continue
        values = [math.nan, math.inf, -math.inf]
        if name in ("k", "extra_k") and tensor.dtype == torch.bfloat16:
            values += [1e32, -1e32]
        flat = tensor.view(-1)
        for _ in range(source.randint(1, 3)):
            flat[source.randrange(flat.numel())] = source.choice(values)


def bits(tensor):
    return tensor.view(torch.int16 if tensor.element_size() == 2 else torch.int32).clone()


def check(library, problem, tensors, shape, source, finite):
    """Runs a problem; what is wrong, as text, or nothing. Also the errors."""
    forward = library.forward(problem, tensors, shape)
    forward.run()
    out, lse, ok = compare(problem, tensors, source)
    wrong = [] if ok else [f"out {out} lse {lse}"]
    if finite and (tensors.out.isnan().any() or tensors.lse.isnan().any()):
        wrong.append("not all is written")
    if finite and forward.recomputed():
        wrong.append("something was computed twice")
    first = bits(tensors.out), bits(tensors.lse)
    forward.run()
    if not (torch.equal(first[0], bits(tensors.out)) and torch.equal(first[1], bits(tensors.lse))):
        wrong.append("a second call differs")
    forward.close()
    return ", ".join(wrong), (*out, lse[1])


def main():
    library = Library(sys.argv[1])
    count, seed = int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    deadline = time.time() + (float(sys.argv[4]) if len(sys.argv) > 4 else math.inf)
    checked = failures = 0
    worst = {torch.bfloat16: (0.0,) * 3, torch.float16: (0.0,) * 3}
    for i in range(count):
        if time.time() > deadline or failures >= 25:
            break
        source = random.Random(1000 * seed + i)
        problem = random_problem(source)
        tensors = Tensors(problem, i)
        finite = source.random() >= 0.15
        if not finite:
            poison(tensors, source)
        names = library.names_of_shapes(problem, 400)
        shape = source.choice([names[0], source.choice(names[:20]), source.choice(names)])
        shape = shape.removesuffix("_ping_pong") + source.choice(["", "_ping_pong"])
        print(i, problem.text(), shape, "" if finite else "non-finite", flush=True)
        wrong, errors_of = check(library, problem, tensors, shape, source, finite)
        checked += 1
        if wrong:
            failures += 1
            print("   FAILED", wrong, flush=True)
        else:
            worst[problem.dtype] = tuple(map(max, worst[problem.dtype], errors_of))
    print(f"checked {checked}, failures {failures}; worst errors (out: Frobenius, largest; lse: largest)")
    for dtype, values in worst.items():
        print(f"   {dtype}", " ".join(f"{value:.1e}" for value in values))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
