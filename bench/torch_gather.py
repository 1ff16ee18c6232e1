"""What users without a kernel have: neighborhood attention on one axis as a plain gather, compiled by PyTorch.

Times the forward pass of the music problems of configs/small_windows.yaml, f32:

    python bench/torch_gather.py [--threads 2] [--rounds 30] [--filter TEXT]

Keys and values of each query's window are gathered by a tensor of indices, and torch.compile makes loops of it. Only
PyTorch (2.4 or later, its CPU part) and a C++ compiler are needed. Which way of writing it is fastest depends on the
problem, so each problem runs in four: heads last [batch, tokens, heads, head_dim], as nalab's tensors are, or heads first
[batch, heads, tokens, head_dim], and products as sums or as einsum. The table has the fastest, and medians of the others.
Before anything is timed, results for some queries, borders included, are compared with a loop that follows the definition
word by word.

A round takes some samples of every problem and form in turn, so that a change on the machine affects all alike. Compare
with what ran in the same minutes: nalab run configs/small_windows.yaml --filter music
"""

import argparse
import math
import statistics
import time

import torch

WINDOW = 5
DILATIONS = (1, 8, 64, 512)
SHAPES = ((4096, 2, 12), (4096, 2, 24), (4096, 4, 32), (1024, 12, 64))  # tokens, heads, head_dim
WARM_UPS = 3  # calls of a case before its samples of a round
SAMPLES_OF_ROUND = 10


def window_start(position, length, window):
    """First position of the window of a query within its dilation group: centred, and moved inside at borders."""
    return min(max(position - window // 2, 0), length - window)


def window_indices(tokens, window, dilation):
    """[tokens, window]: the tokens that each query attends to."""
    indices = torch.empty(tokens, window, dtype=torch.int64)
    for token in range(tokens):
        group, position = token % dilation, token // dilation
        start = window_start(position, (tokens - group + dilation - 1) // dilation, window)
        indices[token] = torch.arange(start, start + window) * dilation + group
    return indices


def sums_heads_last(q, k, v, indices):
    """q, k, v: [batch, tokens, heads, head_dim]."""
    scores = (q[:, :, None] * k[:, indices]).sum(-1) * q.shape[-1] ** -0.5  # [batch, tokens, window, heads]
    return (scores.softmax(2)[..., None] * v[:, indices]).sum(2)


def sums_heads_first(q, k, v, indices):
    """q, k, v: [batch, heads, tokens, head_dim]."""
    scores = (q[:, :, :, None] * k[:, :, indices]).sum(-1) * q.shape[-1] ** -0.5  # [batch, heads, tokens, window]
    return (scores.softmax(3)[..., None] * v[:, :, indices]).sum(3)


def einsum_heads_last(q, k, v, indices):
    """As sums_heads_last."""
    scores = torch.einsum("bthd,btwhd->btwh", q, k[:, indices]) * q.shape[-1] ** -0.5
    return torch.einsum("btwh,btwhd->bthd", scores.softmax(2), v[:, indices])


def einsum_heads_first(q, k, v, indices):
    """As sums_heads_first."""
    scores = torch.einsum("bhtd,bhtwd->bhtw", q, k[:, :, indices]) * q.shape[-1] ** -0.5
    return torch.einsum("bhtw,bhtwd->bhtd", scores.softmax(3), v[:, :, indices])


FORMS = {
    "sums, heads last": sums_heads_last,
    "sums, heads first": sums_heads_first,
    "einsum, heads last": einsum_heads_last,
    "einsum, heads first": einsum_heads_first,
}


def attend_by_definition(q, k, v, token, window, dilation):
    """Output of one query, [heads, head_dim] in double; q, k, v: [tokens, heads, head_dim]."""
    tokens, heads, head_dim = q.shape
    group, position = token % dilation, token // dilation
    start = window_start(position, len(range(group, tokens, dilation)), window)
    keys = [group + dilation * p for p in range(start, start + window)]
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros(heads, head_dim, dtype=torch.float64)
    for head in range(heads):
        scores = [float(q[token, head] @ k[key, head]) / math.sqrt(head_dim) for key in keys]
        largest = max(scores)
        weights = [math.exp(score - largest) for score in scores]
        for key, weight in zip(keys, weights):
            out[head] += weight / sum(weights) * v[key, head]
    return out


class Case:
    """One problem in one form: its tensors, and samples of its time."""

    def __init__(self, tokens, heads, head_dim, dilation, form):
        self.problem = f"{tokens} tokens, {heads} heads of {head_dim}, dilation {dilation}"
        self.form = form
        self.heads_first = form.endswith("heads first")
        self.dilation = dilation
        self.tensors = [torch.randn(1, tokens, heads, head_dim) for _ in range(3)]
        if self.heads_first:
            self.tensors = [t.transpose(1, 2).contiguous() for t in self.tensors]
        self.indices = window_indices(tokens, WINDOW, dilation)
        # For its shape alone: else PyTorch would make code for all shapes once it sees a second one.
        self.gather = torch.compile(FORMS[form], dynamic=False, fullgraph=True)
        self.milliseconds = []

    def call(self):
        return self.gather(*self.tensors, self.indices)

    def check(self):
        """Ends the script if a query's output is wrong."""
        out, q, k, v = (t[0].transpose(0, 1) if self.heads_first else t[0] for t in (self.call(), *self.tensors))
        tokens = q.shape[0]
        borders = {0, 1, *(n * self.dilation for n in (1, 2, 3)), *(tokens - 1 - n * self.dilation for n in (0, 1, 2))}
        for token in sorted(borders | set(range(5, tokens, 97))):
            expected = attend_by_definition(q, k, v, token, WINDOW, self.dilation)
            error = (out[token] - expected).abs().max().item()
            if not error < 1e-5:
                raise SystemExit(f"{self.problem}, {self.form}: token {token} is wrong by {error}")

    def sample(self):
        for _ in range(WARM_UPS):
            self.call()
        for _ in range(SAMPLES_OF_ROUND):
            start = time.perf_counter()
            self.call()
            self.milliseconds.append(1e3 * (time.perf_counter() - start))


def print_table(cases):
    print("| problem | fastest form | median ms | quartiles | medians of the others |\n| --- | --- | ---: | --- | --- |")
    for problem in dict.fromkeys(case.problem for case in cases):
        forms = sorted(
            (case for case in cases if case.problem == problem), key=lambda case: statistics.median(case.milliseconds)
        )
        low, median, high = statistics.quantiles(forms[0].milliseconds, n=4)
        others = ", ".join(f"{case.form} {statistics.median(case.milliseconds):.3f}" for case in forms[1:])
        print(f"| {problem} | {forms[0].form} | {median:.3f} | {low:.3f} to {high:.3f} | {others} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30, help=f"of {SAMPLES_OF_ROUND} samples each")
    parser.add_argument("--filter", default="", help="only problems whose name contains this")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    torch._dynamo.config.cache_size_limit = 1000  # more than there are problems
    with torch.inference_mode():
        cases = [
            Case(*shape, dilation, form)
            for shape in SHAPES
            for dilation in DILATIONS
            if WINDOW * dilation <= shape[0]  # a window must fit into its dilation group
            for form in FORMS
        ]
        cases = [case for case in cases if arguments.filter in case.problem]
        for case in cases:
            case.check()
        for _ in range(arguments.rounds):
            for case in cases:
                case.sample()

    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, f32, window {WINDOW}")
    print_table(cases)


if __name__ == "__main__":
    main()
