"""The problems that the scripts of this folder time, and how."""

import dataclasses
import math
import statistics
import time


@dataclasses.dataclass(frozen=True)
class Problem:
    name: str
    layout: tuple
    window: tuple
    dilation: tuple
    heads: int
    head_dim: int
    batch: int = 1

    @property
    def rank(self):
        return len(self.layout)

    @property
    def tokens(self):
        return math.prod(self.layout)


def square(name, size, heads, dilation=1):
    return Problem(name, (size, size), (7, 7), (dilation, dilation), heads, 32)


TINY = Problem("tiny: 16 tokens, one head of 8", (16,), (3,), (1,), 1, 8)
NAT = [square(f"NAT level {i + 1}", 56 >> i, 2 << i) for i in range(4)] + [square("DiNAT level 1", 56, 2, 8)]
ALLIN1 = [
    Problem(f"allin1, dilation {d}", (4096,), (5,), (d,), 2, 12, 4) for d in (1, 32, 512)
]  # 41 s of four instruments
VIDEO = [Problem("HunyuanVideo", (30, 48, 80), (18, 24, 24), (1, 1, 1), 1, 128)]


def in_turns(calls, rounds, samples, seconds=2.0):
    """Seconds of each call: {name: samples}, in rounds that take turns, so that a change on the machine affects all
    alike. A slow call gives fewer samples, at least one a round."""
    times = {name: [] for name in calls}
    for name in calls:
        calls[name]()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(samples):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
                if time.perf_counter() - begin > seconds:
                    break
    return times


def medians(times):
    return {name: statistics.median(own) for name, own in times.items()}
