"""Problems that every test of numbers walks: all that the contract has, awkward shapes first. And helpers."""

import dataclasses
import math
import os
import signal
import subprocess
import sys

import oracle
import torch

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Frobenius norm and largest difference, relative, of results and of gradients.
BOUNDS = {
    torch.float32: ((2e-6, 2e-5), (1e-5, 2e-5)),
    torch.float16: ((2e-3, 1e-2), (4e-3, 1e-2)),
    torch.bfloat16: ((8e-3, 4e-2), (1.6e-2, 4e-2)),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    name: str
    layout: tuple
    window: object
    stride: object = 1
    dilation: object = 1
    causal: object = False
    batch: int = 1
    heads: int = 1
    heads_kv: int = None
    head_dim: int = 8
    head_dim_v: int = None
    extra_tokens: int = 0
    rpb: bool = False
    scale: float = None

    @property
    def neighborhood(self):
        return dict(window=self.window, stride=self.stride, dilation=self.dilation, causal=self.causal)

    @property
    def slots(self):
        return math.prod(oracle.spread(self.window, len(self.layout)))

    def shapes(self):
        kv = self.heads_kv or self.heads
        dim, dim_v = self.head_dim, self.head_dim_v or self.head_dim
        shapes = {
            "q": (self.batch, *self.layout, self.heads, dim),
            "k": (self.batch, *self.layout, kv, dim),
            "v": (self.batch, *self.layout, kv, dim_v),
        }
        if self.extra_tokens:
            shapes["extra_k"] = (self.batch, self.extra_tokens, kv, dim)
            shapes["extra_v"] = (self.batch, self.extra_tokens, kv, dim_v)
        if self.rpb:
            windows = oracle.spread(self.window, len(self.layout))
            shapes["rpb"] = (self.heads, *(2 * w - 1 for w in windows))
        return shapes

    def tensors(self, dtype=torch.float32, seed=1):
        """Random inputs; rpb is float32 whatever the type."""
        generator = torch.Generator().manual_seed(seed)
        return {
            name: torch.randn(shape, generator=generator).to(torch.float32 if name == "rpb" else dtype)
            for name, shape in self.shapes().items()
        }

    def oracle(self):
        return oracle.Neighborhood(
            self.layout, self.window, self.stride, self.dilation, self.causal
        )


PROBLEMS = [
    Problem("one token", (1,), 1),
    Problem("a window of one", (5, 3), 1, heads=2),
    Problem("1-D, prime extent", (17,), 5, batch=2, heads=3, head_dim=12, rpb=True),
    Problem("1-D, even window, dilation cut short", (19,), 4, dilation=4, heads=2, head_dim=7, rpb=True),
    Problem("1-D, causal with stride", (23,), 6, stride=3, causal=True, heads=2, extra_tokens=3),
    Problem("the window is the layout", (5, 7), (5, 7), heads=2, rpb=True),
    Problem("2-D", (9, 11), 3, batch=2, heads=2, head_dim=16, rpb=True, scale=0.3),
    Problem("2-D, all at once", (13, 10), (5, 4), (2, 3), (2, 1), (False, True), 2, 4, 2, 12, 5, 2, True),
    Problem("2-D, blocked windows", (8, 8), 4, stride=4, heads=1, head_dim_v=3),
    Problem("3-D", (4, 5, 6), (3, 2, 5), heads=2, rpb=True),
    Problem("3-D, one kv head", (5, 6, 7), (2, 3, 3), (1, 2, 1), (2, 1, 2), (True, False, False), 1, 6, 1, extra_tokens=1),
    Problem("a negative scale", (11,), 3, heads=2, scale=-0.7),
]


def assert_close(name, actual, expected, dtype, gradient=False):
    """By the bounds of the contract; expected in double."""
    actual, expected = actual.detach().double(), expected.detach().double()
    assert actual.shape == expected.shape, f"{name}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    frobenius, largest = BOUNDS[dtype][gradient]
    finite = torch.isfinite(expected)
    assert torch.equal(torch.isfinite(actual), finite), f"{name}: other elements are infinite or NaN"
    difference, reference = (actual - expected)[finite], expected[finite]
    if reference.numel() == 0:
        return
    if reference.abs().max() <= 1e-12:
        assert difference.abs().max() <= 1e-5, f"{name}: off by {difference.abs().max():.2e} from 0"
        return
    error = difference.norm() / reference.norm()
    assert error <= frobenius, f"{name}: error {error:.2e} exceeds {frobenius:.1e}"
    error = difference.abs().max() / reference.abs().max()
    assert error <= largest, f"{name}: greatest error {error:.2e} exceeds {largest:.1e}"


def doubles(tensors):
    """The tensors in float64, with gradients to be had."""
    return {name: tensor.detach().double().requires_grad_() for name, tensor in tensors.items()}


def run_in_child(body):
    """The exit code of a forked child, which is killed after 60 seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_script(code):
    """What a program prints in an interpreter of its own, which must end well within 60 seconds."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout.strip()
