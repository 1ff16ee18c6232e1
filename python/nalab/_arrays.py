"""Arrays of the callers' kinds, for results."""

from __future__ import annotations

import sys
from typing import Any, Callable, Iterable

from . import _core

Array = Any  # an array on the CPU that speaks DLPack or the buffer protocol


class Description(tuple):
    """A tensor as (address, shape, strides, type) to the library: nalab.torch knows all that of its own."""


class Maker:
    """Makes results of the kind of an array: empty() before a call, finish() after it."""

    def __init__(self, empty: Callable[[str, tuple[int, ...], bool], Any], finish: Callable[[Any], Any] | None = None):
        self.empty = empty  # (name, shape, whether in float32 or the type of the array)
        self._finish = finish

    def finish(self, array: Any) -> Any:
        return array if self._finish is None else self._finish(array)


def maker(like: Array, others: Iterable[Array] = ()) -> Maker:
    """The maker of arrays of the kind of `like`. Refuses tensors of PyTorch, these and `others`, that need a gradient."""
    for array in (like, *others):
        if getattr(array, "requires_grad", False) and sys.modules["torch"].is_grad_enabled():
            raise _core.Error("the array needs a gradient, which nalab.torch records and this function does not")
    kind = type(like).__module__.partition(".")[0]
    if kind == "numpy":
        return Maker(_numpy_empty(like.dtype))
    if kind == "torch" or hasattr(like, "requires_grad"):  # subclasses of tensors too
        return _torch_maker(like)
    if hasattr(like, "__array_namespace__"):  # the array API standard: JAX and others whose arrays are not written to
        return Maker(_own_empty(str(like.dtype)), like.__array_namespace__().from_dlpack)
    return Maker(_own_empty(getattr(like, "format", "float32")), memoryview)


def _numpy_empty(dtype):
    numpy = sys.modules["numpy"]
    empty, single = numpy.empty, numpy.float32
    return lambda name, shape, is_single: empty(shape, single if is_single else dtype)


def _torch_maker(like):
    torch = sys.modules["torch"]
    empty, single, dtype = torch.empty, torch.float32, like.dtype
    return Maker(lambda name, shape, is_single: empty(shape, dtype=single if is_single else dtype, device="cpu"))


_OWN_NAMES = {"float16": "f16", "e": "f16", "bfloat16": "bf16"}


def _own_empty(type_name):
    other = _OWN_NAMES.get(type_name, "f32")
    return lambda name, shape, is_single: _core.make_array(list(shape), "f32" if is_single else other)
