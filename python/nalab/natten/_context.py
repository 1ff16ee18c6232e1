"""natten's switches: they are remembered, and change nothing."""

from __future__ import annotations

import enum
import types


class MemoryUsagePreference(enum.Enum):
    Default = 0
    Strict = 1
    Unrestricted = 2


_state = types.SimpleNamespace(memory=MemoryUsagePreference.Default)


def _switch(enabled=False):
    """(setter, getter) of a switch."""
    own = types.SimpleNamespace(enabled=enabled)

    def use(mode=True, *_arguments, **_options):
        own.enabled = bool(mode)
        return own.enabled

    return use, lambda: own.enabled


use_fused_na, is_fused_na_enabled = _switch()
use_fna, is_fna_enabled = use_fused_na, is_fused_na_enabled
use_kv_parallelism_in_fused_na, is_kv_parallelism_in_fused_na_enabled = _switch()
use_deterministic_algorithms, are_deterministic_algorithms_enabled = _switch()
use_tf32_in_gemm_na, is_tf32_in_gemm_na_enabled = _switch()
use_tiled_na, is_tiled_na_enabled = _switch()
use_gemm_na, is_gemm_na_enabled = _switch()
use_flex_attention, should_use_flex_attention = _switch()
force_flex_attention, should_force_flex_attention = _switch()
allow_flex_compile, is_flex_compile_allowed = _switch()
allow_flex_compile_backprop, is_flex_compile_backprop_allowed = _switch()
_tune, is_autotuner_enabled = _switch()


def use_autotuner(forward_pass=None, backward_pass=None, *_arguments, **_options):
    _tune(bool(forward_pass or backward_pass))


def disable_autotuner():
    _tune(False)


def disable_flex_compile():
    allow_flex_compile(False)


def disable_flex_compile_backprop():
    allow_flex_compile_backprop(False)


def enable_tf32():
    return use_tf32_in_gemm_na(True)


def disable_tf32():
    return use_tf32_in_gemm_na(False)


def enable_gemm_na():
    return use_gemm_na(True)


def disable_gemm_na():
    return use_gemm_na(False)


def enable_tiled_na():
    return use_tiled_na(True)


def disable_tiled_na():
    return use_tiled_na(False)


def set_memory_usage_preference(pref="default"):
    choices = {choice.name.lower(): choice for choice in MemoryUsagePreference}
    if pref not in choices:
        raise ValueError(f"memory usage preference {pref!r} must be one of {', '.join(choices)}")
    _state.memory = choices[pref]


def get_memory_usage_preference():
    return _state.memory


def is_memory_usage_default():
    return _state.memory is MemoryUsagePreference.Default


def is_memory_usage_strict():
    return _state.memory is MemoryUsagePreference.Strict


def is_memory_usage_unrestricted():
    return _state.memory is MemoryUsagePreference.Unrestricted


def has_cuda():
    return False


def has_half(*_device):
    return True


has_bfloat = has_half


def has_fused_na(*_device):
    return True


has_fna = has_fused_na


def has_gemm(*_device):
    return False


has_tf32_gemm = has_fp32_gemm = has_fp64_gemm = has_gemm


def names():
    """All of them."""
    return {name: value for name, value in globals().items() if not name.startswith("_") and name not in _OTHERS}


_OTHERS = {"annotations", "enum", "types", "names"}
