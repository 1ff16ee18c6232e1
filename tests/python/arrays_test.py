"""Arrays of every kind and layout: read where they lie, results as the caller's kind, refusals with a sentence."""

import nalab
import numpy as np
import pytest
import torch

Q, K, V = (np.random.default_rng(i).standard_normal((2, 6, 5, 4, 8)).astype(np.float32) for i in range(3))
OUT, LSE = nalab.attention(Q, K, V, 3, return_lse=True)


def backward(dout, q, k, v):
    return nalab.attention_backward(dout, q, k, v, OUT, LSE, 3)


LAYOUTS = {
    "heads first": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -2, 1)), 1, -2),
    "a slice of a larger array": lambda x: np.pad(x, [(1, 1)] * 4 + [(0, 3)])[1:-1, 1:-1, 1:-1, 1:-1, :-3],
    "one of three in a row": lambda x: np.stack([x, x, x], -3)[..., 1, :, :],
    "tokens backwards": lambda x: np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides(layout):
    q, k, v = (LAYOUTS[layout](x) for x in (Q, K, V))
    out, lse = nalab.attention(q, k, v, 3, return_lse=True)
    np.testing.assert_allclose(out, OUT, rtol=0, atol=2e-6)
    np.testing.assert_allclose(lse, LSE, rtol=0, atol=2e-6)
    for got, expected in zip(backward(LAYOUTS[layout](V), q, k, v)[:3], backward(V, Q, K, V)[:3]):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)


def test_one_head_of_keys_for_all():
    shared = np.broadcast_to(K[..., :1, :], K.shape)  # stride 0 along heads
    np.testing.assert_array_equal(
        nalab.attention(Q, shared, V, 3), nalab.attention(Q, np.ascontiguousarray(shared), V, 3)
    )


@pytest.mark.parametrize("layout", ["heads first", "a slice of a larger array", "one of three in a row"])
def test_out_is_written_in_place(layout):
    out = LAYOUTS[layout](np.zeros_like(OUT))
    base = out.base if out.base is not None else out
    assert nalab.attention(Q, K, V, 3, out=out) is out
    np.testing.assert_allclose(out, OUT, rtol=0, atol=2e-6)
    assert np.count_nonzero(base) == np.count_nonzero(out)  # nothing else was touched
    wide = np.zeros(OUT.shape, np.float32)
    nalab.attention(*(x.astype(np.float16) for x in (Q, K, V)), 3, out=wide)  # float32 results of float16
    np.testing.assert_allclose(wide, OUT, rtol=0, atol=1e-2)


def test_results_are_of_the_callers_kind():
    assert type(OUT) is np.ndarray and OUT.dtype == np.float32
    t = nalab.attention(*map(torch.from_numpy, (Q, K, V)), 3)
    assert type(t) is torch.Tensor and np.array_equal(t.numpy(), OUT)
    m = nalab.attention(*map(memoryview, (Q, K, V)), 3)
    assert type(m) is memoryview and np.array_equal(np.asarray(m), OUT)


def test_large_results_of_numpy_are_aligned():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    q = np.zeros((1, 80, 80, 2, 64), np.float32)
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        out, lse = nalab.attention(*[q.astype(dtype)] * 3, 3, return_lse=True)
        assert out.dtype == dtype and lse.dtype == np.float32
        assert out.ctypes.data % 64 == 0 and out.flags.writeable and out.flags.c_contiguous
        kept = out + 1
        del out  # its memory lives no longer than it does
        nalab.attention(*[q.astype(dtype)] * 3, 3)
        assert (kept == 1).all() and (lse == lse[0, 0, 0, 0]).all()


def test_arrays_of_derived_classes_are_numpys():
    class Derived(np.ndarray):
        pass

    out = nalab.attention(*(x.view(Derived) for x in (Q, K, V)), 3)
    assert type(out) is np.ndarray and np.array_equal(out, OUT)


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_memory_of_results_is_used_again_and_bounded():
    q = np.ones((1, 80, 80, 2, 64), np.float32)  # 3.3 MB
    t = torch.from_numpy(q)
    for call, address in (
        (lambda: nalab.attention(q, q, q, 3), lambda out: out.ctypes.data),
        (lambda: nalab.attention(t, t, t, 3), lambda out: out.data_ptr()),
    ):
        first = call()
        kept, first = address(first), None
        first, second = call(), call()
        assert address(first) == kept != address(second)
        assert (first == 1).all() and (second == 1).all()
        del first, second
        before = resident_bytes()
        many = [call() for _ in range(60)]  # 200 MB
        assert resident_bytes() - before > 100e6
        del many
        assert resident_bytes() - before < 80e6  # 64 MiB


def test_small_results_share_pages():
    q = memoryview(np.ones((1, 8, 1, 8), np.float32))  # results of 256 bytes, whose memory is the library's own too
    many = [np.asarray(nalab.attention(q, q, q, 3)) for _ in range(100)]
    assert len({x.ctypes.data // 4096 for x in many}) < 50
    assert all((x == 1).all() and x.ctypes.data % 64 == 0 for x in many)


def test_numpy_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    narrow = [x.astype(ml_dtypes.bfloat16) for x in (Q, K, V)]
    out, lse = nalab.attention(*narrow, 3, return_lse=True)
    assert out.dtype == ml_dtypes.bfloat16 and lse.dtype == np.float32
    same = nalab.attention(*(torch.from_numpy(x.view(np.int16)).view(torch.bfloat16) for x in narrow), 3)
    assert np.array_equal(out.view(np.int16), same.view(torch.int16).numpy())


class Immutable:
    """An array by the array API standard that nobody can write to, as those of JAX are."""

    def __init__(self, array):
        self.array = array
        self.dtype = array.dtype

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __array_namespace__(self):
        return self

    @staticmethod
    def from_dlpack(array):
        return Immutable(np.from_dlpack(array))


def test_array_api():
    out, lse = nalab.attention(*map(Immutable, (Q, K, V)), 3, return_lse=True)
    assert type(out) is Immutable and type(lse) is Immutable
    assert np.array_equal(out.array, OUT) and np.array_equal(lse.array, LSE)
    half = nalab.attention(*(Immutable(x.astype(np.float16)) for x in (Q, K, V)), 3)
    assert half.array.dtype == np.float16


def test_jax():
    jax = pytest.importorskip("jax")
    out = nalab.attention(*map(jax.numpy.asarray, (Q, K, V)), 3)
    assert isinstance(out, jax.Array) and np.array_equal(np.asarray(out), OUT)
    narrow = nalab.attention(*(jax.numpy.asarray(x, jax.numpy.bfloat16) for x in (Q, K, V)), 3)
    assert narrow.dtype == jax.numpy.bfloat16


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: nalab.attention(Q.astype(np.float64), K, V, 3), "tensor q is float64, must be float32, bfloat16 or"),
        (lambda: nalab.attention(Q, K.astype(np.float16), V, 3), "tensor k is f16, must be f32"),
        (lambda: nalab.attention(Q.astype(np.int32), K, V, 3), "tensor q is int32, must be"),
        (lambda: nalab.attention([[1.0]], K, V, 3), "tensor q must be an array that speaks DLPack .* this list does not"),
        (lambda: nalab.attention(Q, K, None, 3), "tensor v is missing"),
        (lambda: nalab.attention(Q, K[:, :5], V, 3), r"tensor k has shape \[2, 5, 5, 4, 8\], must be \[2, 6, 5, 4, 8\]"),
        (lambda: nalab.attention(Q[0, 0, 0], K, V, 3), r"tensor q has shape \[4, 8\], must have 4 to 6 axes"),
        (lambda: nalab.attention(Q[:0], K[:0], V[:0], 3), "batch 0 must be at least 1"),
        (lambda: nalab.attention(Q, K[..., :3, :], V, 3), "heads_kv"),
        (lambda: nalab.attention(Q, K, V, (3, 6)), "axis 2: window 6 must be at most 5"),
        (lambda: nalab.attention(Q, K, V, (3, 3, 3)), r"window \(3, 3, 3\) must be an integer, or 2 of them"),
        (lambda: nalab.attention(Q, K, V, 3.0), "window 3.0 must be an integer"),
        (lambda: nalab.attention(Q, K, V, np.array(3.0)), r"window array\(3.\) must be an integer"),
        (lambda: nalab.attention(Q, K, V, np.ones((2, 2))), r"window array\(\[\[1., 1.\], \[1., 1.\]\]\) must be an"),
        (lambda: nalab.attention(Q, K, V, 3, scale=np.ones((2, 2))), r"\[1., 1.\]\]\) must be a number, or None"),
        (lambda: nalab.attention(Q, K, V, "33"), "window '33' must be an integer"),
        (lambda: nalab.attention(Q, K, V, b"33"), "window b'33' must be an integer"),
        (lambda: nalab.attention(Q, K, V, None), "window None must be an integer"),
        (lambda: nalab.attention(Q, K, V, 3, causal=None), "causal None must be an integer"),
        (lambda: nalab.attention(Q, K, V, 3, stride=(1, 4)), "axis 2: stride 4"),
        (lambda: nalab.attention(Q, K, V, 3, dilation=0), "axis 1: dilation 0"),
        (lambda: nalab.attention(Q, K, V, 3, causal=(0, 2)), "axis 2: causal 2 must be 0 or 1"),
        (lambda: nalab.attention(Q, K, V, 3, scale="large"), "scale 'large' must be a number"),
        (lambda: nalab.attention(Q, K, V, 3, scale=float("nan")), "scale nan"),
        (lambda: nalab.attention(Q, K, V, 3, variant="fast"), "variant 'fast' is none of fused"),
        (lambda: nalab.attention(Q, K, V, 3, variant=3), "variant 3 must be a name, or None"),
        (lambda: nalab.attention(Q.astype(">f4"), K, V, 3), "tensor q must be an array .* this ndarray of >f4 does not"),
        (lambda: nalab.attention(Q > 0, K, V, 3), "tensor q is bool, must be float32"),
        (lambda: nalab.attention(Q, K, V, 3, rpb=np.zeros((4, 5, 4), np.float32)), r"rpb has shape \[4, 5, 4\]"),
        (lambda: nalab.attention(Q, K, V, 3, rpb=np.zeros((4, 5, 5), np.float16)), "rpb is f16, must be f32"),
        (lambda: nalab.attention(Q, K, V, 3, extra_k=K[:, 0, :2]), "extra_v is missing"),
        (lambda: nalab.attention(Q, K, V, 3, out=Q), "out would be written, and shares memory"),
        (lambda: nalab.attention(Q, K, V, 3, out=read_only(OUT)), "out is read-only"),
        (lambda: nalab.attention(Q, K, V, 3, out=np.zeros((2, 6, 5, 4, 7), np.float32)), "out has shape"),
        (lambda: nalab.attention(Q, K, V, 3, out=np.zeros_like(OUT, dtype=np.float16)), "out is f16, must be f32"),
        (
            lambda: nalab.attention(Q, K, V, 3, out=np.lib.stride_tricks.as_strided(OUT.copy(), strides=(0, 0, 0, 0, 4))),
            "share an address",
        ),
        (lambda: nalab.attention(np.moveaxis(Q, 1, -1), K, V, 3), "its last axis has stride 160, must be 1"),
        (lambda: nalab.attention(torch.from_numpy(Q).requires_grad_(), K, V, 3), "needs a gradient"),
        (lambda: nalab.attention(torch.empty(Q.shape, device="meta"), K, V, 3), "tensor q"),
        (lambda: nalab.permute(Q[:0], 2), r"tensor tokens has shape \[0, 6, 5, 4, 8\], must have elements"),
        (lambda: nalab.permute(Q, None), "tile None must be an integer"),
        (lambda: nalab.permute(Q, (2, 0)), "^axis 2: tile 0 must be at least 1"),
        (lambda: nalab.permute(Q[:, 0], 2, dilation=-1), "^axis 1: dilation -1 must be at least 1"),
        (lambda: nalab.unpermute(nalab.permute(Q, 2), (6, 5), (2, -3)), "^axis 2: tile -3 must be at least 1"),
        (lambda: nalab.unpermute(nalab.permute(Q, 2), None, 2), "layout None must be an integer"),
        (lambda: nalab.plan(None, 3), "layout None must be an integer"),
        (lambda: nalab.plan(56, 7, heads=1.5), "heads 1.5 must be an integer"),
        (lambda: nalab.plan(56, 7, batch=2**63), "batch is an integer of more than 64 bits"),
        (lambda: nalab.plan(56, 7, extra_tokens=-(2**70)), "extra_tokens is an integer of more than 64 bits"),
        (lambda: nalab.plan((56, 10**400), 7), "layout is an integer of more than 64 bits"),
        (lambda: nalab.sim(56, 7, extra_tokens="3"), "extra_tokens '3' must be an integer"),
        (lambda: nalab.attention(Q, K, V, (3, 10**5000)), "window is an integer of more than 64 bits"),
        (lambda: nalab.set_num_threads(10**30), "must be an integer from 1 to 1024"),
        (lambda: nalab.set_num_threads(True), "threads True must be an integer"),
        (lambda: nalab.set_num_threads(-1), "threads -1 must be an integer from 1 to 1024"),
        (lambda: nalab.values(np.zeros((2, 6, 5, 4, 8), np.float32), V, 3), r"attn has shape .* must be \[2, 6, 5, 4, 9\]"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert isinstance(caught.value, nalab.Error) and "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    same = nalab.attention(Q, K, V, np.array([3, 3]), causal=[np.True_, np.False_], scale=np.float32(0.5))
    assert np.array_equal(same, nalab.attention(Q, K, V, [np.int32(3), 3], causal=(True, False), scale=0.5))
    assert np.array_equal(nalab.attention(Q, K, V, 3, causal=np.True_), nalab.attention(Q, K, V, 3, causal=True))
    assert nalab.plan(np.array([9, 9]), 3, heads=np.int64(2), dtype=np.float16).problem == (
        nalab.plan([9, 9], 3, heads=2, dtype="float16").problem
    )
    assert nalab.plan(np.array(9), 3).problem == nalab.plan(9, 3).problem
    nalab.set_num_threads(np.int64(2))
    assert nalab.get_num_threads() == 2
    nalab.set_num_threads(0)


def test_what_is_no_array_is_refused():
    with pytest.raises(ValueError, match="tensor q must be an array"):
        nalab.attention((Q, K), K, V, 3)
    k = torch.from_numpy(K).requires_grad_()
    with pytest.raises(ValueError, match="needs a gradient"):
        nalab.attention(torch.from_numpy(Q), k, torch.from_numpy(V), 3)


def test_masked_arrays_are_refused():
    masked = np.ma.masked_where(Q > 1, Q)
    refused = "tensor q is a MaskedArray, whose mask would be ignored"
    with pytest.raises(ValueError, match=refused):
        nalab.attention(masked, K, V, 3)
    with pytest.raises(ValueError, match=refused):
        nalab.attention(masked, np.ma.asarray(K), np.ma.asarray(V), 3)
    with pytest.raises(ValueError, match="tensor out is a MaskedArray"):
        nalab.attention(Q, K, V, 3, out=np.ma.asarray(np.empty_like(OUT)))
    assert np.array_equal(nalab.attention(masked.data, K, V, 3), OUT)


def test_additional_tokens_that_disagree_are_refused():
    extra = np.zeros((2, 3, 4, 8), np.float32)
    with pytest.raises(ValueError, match="extra_k has 3 tokens, extra_v 0: they must have as many"):
        nalab.attention(Q, K, V, 3, extra_k=extra, extra_v=extra[:, :0])
