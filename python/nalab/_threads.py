"""How many threads calls use."""

import operator

from . import _core

_requested = 0  # 0: NALAB_THREADS, else the hardware's


def set_num_threads(threads: int) -> None:
    """Sets the number of threads of later calls, the calling one included: 1 to 1024; 0 for the default.

    The default is NALAB_THREADS if it is set, else what the hardware has; in nalab.torch, torch.get_num_threads() takes
    the hardware's place. Results do not depend on the number: the bits are the same.
    """
    global _requested
    number = operator.index(threads) if hasattr(threads, "__index__") and not isinstance(threads, bool) else -1
    if not 0 <= number <= 1024:
        raise _core.Error(f"threads {threads!r} must be an integer from 1 to 1024, or 0 for the default")
    _requested = number


def get_num_threads() -> int:
    """The number of threads that calls use."""
    return _core.choose_threads(_requested)


def requested() -> int:
    """What set_num_threads was told last; 0 for the default."""
    return _requested


def requested_beside_torch(get_num_threads) -> int:
    """What calls through nalab.torch ask for: PyTorch's number unless nalab was given one."""
    return _requested or _core.threads_of_environment() or get_num_threads()
