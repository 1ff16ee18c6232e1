"""The calls of hopper_calls.cpp on PyTorch tensors, and problems as the rest of the folder's scripts name them."""

import ctypes
import dataclasses
import math

import torch


@dataclasses.dataclass(frozen=True)
class Problem:
    """As core/problem.h has it; tuples have an entry for each axis."""

    layout: tuple
    window: tuple
    stride: tuple
    dilation: tuple = ()
    causal: tuple = ()
    batch: int = 1
    heads: int = 1
    heads_kv: int = 0  # 0: as heads
    head_dim: int = 128
    head_dim_v: int = 0  # 0: as head_dim
    extra_tokens: int = 0
    scale: float = math.nan  # NaN: 1 / sqrt(head_dim)
    f16: bool = False

    @property
    def dtype(self):
        return torch.float16 if self.f16 else torch.bfloat16

    @property
    def kv(self):
        return self.heads_kv or self.heads

    @property
    def dim_v(self):
        return self.head_dim_v or self.head_dim

    @property
    def effective_scale(self):
        return self.head_dim**-0.5 if math.isnan(self.scale) else self.scale

    def per_axis(self, name, default):
        return getattr(self, name) or (default,) * len(self.layout)

    def axes(self):
        """Extents, windows, strides, dilations, whether causal: each with an entry for each axis."""
        return self.layout, self.window, self.stride, self.per_axis("dilation", 1), self.per_axis("causal", 0)

    def text(self):
        def product(values):
            return "x".join(str(v) for v in values)

        return (
            f"{product(self.layout)}_w{product(self.window)}_s{product(self.stride)}"
            f"_d{product(self.per_axis('dilation', 1))}_c{product(self.per_axis('causal', 0))}"
            f"_b{self.batch}_h{self.heads}_kv{self.kv}_dk{self.head_dim}_dv{self.dim_v}_e{self.extra_tokens}"
            f"_scale{self.scale}_{'f16' if self.f16 else 'bf16'}"
        )


_INTEGERS = ("batch", "heads", "heads_kv", "head_dim", "head_dim_v", "extra_tokens", "f16")


class _Call(ctypes.Structure):
    _fields_ = (
        [("rank", ctypes.c_int64)]
        + [(name, ctypes.c_int64 * 3) for name in ("extent", "window", "stride", "dilation", "causal")]
        + [(name, ctypes.c_int64) for name in _INTEGERS]
        + [("scale", ctypes.c_double)]
        + [(name, ctypes.c_void_p) for name in ("q", "k", "v", "extra_k", "extra_v", "out", "lse")]
    )


class Tensors:
    """Random inputs of a problem, and results full of NaN, on the GPU; heads last."""

    def __init__(self, problem, seed=0):
        torch.manual_seed(seed)

        def random(*shape):
            return torch.randn(shape, device="cuda", dtype=problem.dtype)

        lead = (problem.batch, *problem.layout)
        self.q = random(*lead, problem.heads, problem.head_dim)
        self.k = random(*lead, problem.kv, problem.head_dim)
        self.v = random(*lead, problem.kv, problem.dim_v)
        extra = (problem.batch, problem.extra_tokens, problem.kv)
        self.extra_k = random(*extra, problem.head_dim) if problem.extra_tokens else None
        self.extra_v = random(*extra, problem.dim_v) if problem.extra_tokens else None
        self.out = torch.full((*lead, problem.heads, problem.dim_v), math.nan, device="cuda", dtype=problem.dtype)
        self.lse = torch.full((*lead, problem.heads), math.nan, device="cuda")


class Library:
    """The calls; each throws RuntimeError with the library's message."""

    def __init__(self, path):
        self._library = ctypes.CDLL(path)
        for name in ("nalab_shapes", "nalab_run", "nalab_recomputed"):
            getattr(self._library, name).restype = ctypes.c_int64
        self._library.nalab_open.restype = ctypes.c_void_p
        self._library.nalab_close.argtypes = (ctypes.c_void_p,)

    def __getattr__(self, name):
        function = getattr(self._library, "nalab_" + name)

        def call(*arguments):
            message = ctypes.create_string_buffer(1000)
            result = function(*arguments, message, ctypes.c_int64(len(message)))
            if message.value:
                raise RuntimeError(message.value.decode())
            return result

        return call

    @staticmethod
    def _call(problem, tensors):
        call = _Call(rank=len(problem.layout), scale=problem.scale)
        for name, values in zip(("extent", "window", "stride", "dilation", "causal"), problem.axes()):
            getattr(call, name)[: len(values)] = values
        integers = (problem.batch, problem.heads, problem.kv, problem.head_dim, problem.dim_v, problem.extra_tokens)
        for name, value in zip(_INTEGERS, (*integers, int(problem.f16))):
            setattr(call, name, value)
        if tensors is not None:
            for name in ("q", "k", "v", "extra_k", "extra_v", "out", "lse"):
                tensor = getattr(tensors, name)
                setattr(call, name, None if tensor is None else tensor.data_ptr())
        return call

    def names_of_shapes(self, problem, most):
        """Of the tile shapes that suit a problem, the best first."""
        names = ctypes.create_string_buffer(200 * most)
        self.shapes(ctypes.byref(self._call(problem, None)), ctypes.c_int64(most), names, ctypes.c_int64(len(names)))
        return names.value.decode().split()

    def forward(self, problem, tensors, shape=""):
        return Forward(self, self._call(problem, tensors), tensors, shape)

    def close(self, forward):
        self._library.nalab_close(forward)


class Forward:
    """A call that is ready to run on the current stream; its tiles are those of a name, or the plan's choice."""

    def __init__(self, library, call, tensors, shape):
        self._library, self._tensors = library, tensors
        executed = ctypes.c_int64()
        self._forward = ctypes.c_void_p(library.open(ctypes.byref(call), shape.encode(), ctypes.byref(executed)))
        self.executed_flops = executed.value

    def run(self):
        self._library.run(self._forward, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))

    def recomputed(self):
        """Groups of 16 queries that the last call has computed twice."""
        return self._library.recomputed(self._forward)

    def close(self):
        self._library.close(self._forward)
