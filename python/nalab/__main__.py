"""python -m nalab: what the library sees of this machine, how long a problem takes, and the model of tiles."""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import nalab

from . import _core
from ._threads import requested


def _extents(text):
    """30x48x80 or 30,48,80."""
    return [int(part) for part in text.replace("x", ",").split(",")]


def _add_problem(command):
    command.add_argument("--layout", type=_extents, required=True, help="tokens along each axis, such as 30x48x80")
    command.add_argument("--window", type=_extents, required=True, help="one value for each axis, or one for all")
    command.add_argument("--stride", type=_extents, default=[1])
    command.add_argument("--dilation", type=_extents, default=[1])
    command.add_argument("--causal", type=_extents, default=[0], metavar="0|1")
    command.add_argument("--extra-tokens", type=int, default=0, help="tokens that every query attends to")


def _problem(options):
    return options.layout, options.window, options.stride, options.dilation, options.causal


def _show(fields):
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name.rstrip('_').replace('_', ' '):{width}}  {f'{value:.6g}' if isinstance(value, float) else value}")


def _info(_options):
    machine = _core.machine(requested())
    _show({"version": nalab.__version__, **machine, "isas": " ".join(machine["isas"])})
    print()
    _show({variant.name: variant.summary for variant in nalab.variants()})


def _sim(options):
    tiles = dict(q_tile=options.q_tile, kv_tile=options.kv_tile, kv_tiling=options.kv_tiling)
    _show(nalab.sim(*_problem(options), extra_tokens=options.extra_tokens, **tiles)._asdict())


def _profile(options):
    try:
        import numpy
    except ImportError:
        raise _core.Error("python -m nalab profile needs NumPy") from None
    heads_kv = options.heads_kv or options.heads
    random = numpy.random.default_rng(1).standard_normal
    tokens = (options.batch, *options.layout)

    def tensor(*shape):
        return random(shape, dtype=numpy.float32).astype(options.dtype)

    q, k, v = (tensor(*tokens, heads, options.head_dim) for heads in (options.heads, heads_kv, heads_kv))
    arguments = dict(zip(("window", "stride", "dilation", "causal"), _problem(options)[1:]), variant=options.variant)
    if options.extra_tokens:
        shape = (options.batch, options.extra_tokens, heads_kv, options.head_dim)
        arguments.update(extra_k=tensor(*shape), extra_v=tensor(*shape))
    out, lse = nalab.attention(q, k, v, **arguments, return_lse=True)
    calls = {"forward": lambda: nalab.attention(q, k, v, **arguments, out=out)}
    if options.backward:
        calls["backward"] = lambda: nalab.attention_backward(q, q, k, v, out, lse, **arguments)
    for pass_, call in calls.items():
        call()
        times = []
        while len(times) < 3 or sum(times) < options.seconds:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        plan = nalab.plan(*_problem(options), batch=options.batch, heads=options.heads, heads_kv=heads_kv,
                          head_dim=options.head_dim, extra_tokens=options.extra_tokens, dtype=options.dtype, pass_=pass_,
                          variant=options.variant)  # fmt: skip
        median = statistics.median(times)
        print(f"{pass_}: {' '.join(filter(None, plan[:1] + plan[2:5]))}, {plan.threads} threads")
        print(
            f"  median {1e3 * median:.4g} ms, least {1e3 * min(times):.4g} ms of {len(times)} calls; "
            f"{plan.useful_flops / median / 1e9:.4g} GFLOP/s of useful work"
        )


def _parser():
    parser = argparse.ArgumentParser(prog="python -m nalab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="the CPU as the library sees it, and its variants")
    sim = commands.add_parser("sim", help="tiles that a kernel visits, and the speedup that they allow")
    _add_problem(sim)
    sim.add_argument("--q-tile", type=_extents)
    sim.add_argument("--kv-tile", type=_extents)
    sim.add_argument("--kv-tiling", choices=["static", "dynamic"], default="static")
    profile = commands.add_parser("profile", help="the time of calls from NumPy on this machine")
    _add_problem(profile)
    for name, default in (("batch", 1), ("heads", 1), ("heads-kv", None), ("head-dim", 64)):
        profile.add_argument(f"--{name}", type=int, default=default)
    profile.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    profile.add_argument("--variant")
    profile.add_argument("--backward", action="store_true", help="the backward pass too")
    profile.add_argument("--seconds", type=float, default=1.0, help="of each pass")
    return parser


def main(arguments=None):
    options = _parser().parse_args(arguments)
    try:
        {"info": _info, "sim": _sim, "profile": _profile}[options.command](options)
    except _core.Error as error:
        print(f"nalab: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
