"""Arrays of the callers' kinds, for results."""

from __future__ import annotations

import functools
import math
import sys
from typing import Any, Callable, Iterable, NamedTuple

from . import _core

Array = Any  # an array on the CPU that speaks DLPack or the buffer protocol


class Description(tuple):
    """A tensor as (address, shape, strides, type) to the library: nalab.torch knows all that of its own."""


class Maker(NamedTuple):
    """Makes results of the kind of an array: empty() before a call, finish() after it."""

    empty: Callable[[str, tuple[int, ...], bool], Any]  # (name, shape, whether in float32 or the type of the array)
    convert: Callable[[Any], Any] | None = None  # what is left to do after the call, if anything

    def finish(self, array: Any) -> Any:
        return array if self.convert is None else self.convert(array)


def maker(like: Array, others: Iterable[Array] = ()) -> Maker:
    """The maker of arrays of the kind of `like`. Refuses tensors of PyTorch, these and `others`, that need a gradient, or
    whose memory does not hold their numbers."""
    kind = type(like)
    family = _family(kind)
    if family == "numpy" and {kind, type(None)}.issuperset(map(type, others)):
        return _numpy_maker(like.dtype)
    for array in (like, *others):
        if getattr(array, "requires_grad", False) and sys.modules["torch"].is_grad_enabled():
            raise _core.Error("the array needs a gradient, which nalab.torch records and this function does not")
        if hasattr(array, "is_neg") and array.is_neg():
            raise _core.Error("the tensor's numbers have the wrong sign in memory: call resolve_neg() first")
    if family == "numpy":
        return _numpy_maker(like.dtype)
    if family == "torch":
        return _torch_maker(like)
    if hasattr(like, "__array_namespace__"):  # the array API standard: JAX and others whose arrays are not written to
        return Maker(_own_empty(str(like.dtype)), like.__array_namespace__().from_dlpack)
    return Maker(_own_empty(getattr(like, "format", "float32")), memoryview)


@functools.lru_cache(maxsize=64)
def _family(kind):
    """The package that a class is of; numpy or torch where it derives from a class of theirs."""
    packages = [base.__module__.partition(".")[0] for base in kind.__mro__]
    return next((package for package in packages if package in ("numpy", "torch")), packages[0])


_LARGE = 1 << 14  # elements


@functools.lru_cache(maxsize=16)
def _numpy_maker(dtype):
    numpy = sys.modules["numpy"]
    single, own_name = numpy.dtype("float32"), "f32" if dtype.itemsize == 4 else "f16"

    def empty(name, shape, is_single):
        kind, own = (single, "f32") if is_single else (dtype, own_name)
        if math.prod(shape) < _LARGE:
            return numpy.empty(shape, kind)
        # NumPy's own large arrays begin 16 bytes after a multiple of 64: vectors would lie across cache lines.
        return numpy.ndarray(shape, kind, _core.make_array(shape, own))

    return Maker(empty)


def torch_empty(torch, shape, dtype):
    """An uninitialised tensor on the CPU; a large one in memory that earlier results have left, since the system would
    have to clear the pages of new memory."""
    if math.prod(shape) < _LARGE:
        return torch.empty(shape, dtype=dtype, device="cpu")
    return torch.from_dlpack(_core.make_capsule(shape, _own_name(str(dtype)[6:])))


def _torch_maker(like):
    torch = sys.modules["torch"]
    single, dtype = torch.float32, like.dtype
    return Maker(lambda name, shape, is_single: torch_empty(torch, shape, single if is_single else dtype))


def _own_name(type_name):
    return {"float16": "f16", "e": "f16", "bfloat16": "bf16"}.get(type_name, "f32")


def _own_empty(type_name):
    other = _own_name(type_name)
    return lambda name, shape, is_single: _core.make_array(list(shape), "f32" if is_single else other)
