"""PyTorch's threads."""

import ctypes

import torch


def gomp_parallel() -> int:
    """The address of GOMP_parallel in the OpenMP runtime that PyTorch runs on; 0 if it runs on another kind of threads."""
    try:
        function = ctypes.CDLL(torch._C.__file__).GOMP_parallel  # looked for in what it is linked to, too
    except (AttributeError, OSError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0
