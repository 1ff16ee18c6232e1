"""Merging, permutation, and descriptions."""

import nalab
import numpy as np
import pytest
import torch
from problems import Problem, assert_close


def test_merge_is_attention_over_the_union():
    problem = Problem("", (9, 7), 3, heads=2, extra_tokens=4, batch=2)
    t = problem.tensors()
    whole, whole_lse = nalab.attention(**t, window=3, return_lse=True)
    first, second = slice(0, 1), slice(1, 4)
    # The window and the first extra token; then the other extra tokens, without the window: a bias of -inf hides the
    # window of one, so that nothing but extra tokens is left.
    a = nalab.attention(
        t["q"], t["k"], t["v"], 3, extra_k=t["extra_k"][:, first], extra_v=t["extra_v"][:, first], return_lse=True
    )
    hide = torch.full((2, 1, 1), -torch.inf)
    b = nalab.attention(
        t["q"], t["k"], t["v"], 1, rpb=hide, extra_k=t["extra_k"][:, second], extra_v=t["extra_v"][:, second],
        return_lse=True,
    )  # fmt: skip
    out, lse = nalab.merge([a[0], b[0]], [a[1], b[1]])
    assert_close("out", out, whole, torch.float32)
    assert_close("lse", lse, whole_lse, torch.float32)


def test_merge_refuses():
    out, lse = np.zeros((1, 4, 2, 8), np.float32), np.zeros((1, 4, 2), np.float32)
    for outs, lses, sentence in [
        ([], [], "no partial attentions"),
        ([out, out], [lse], "more outs than lses"),
        ([out], [lse, lse], "more lses than outs"),
        ([out, out[:, :3]], [lse, lse], r"out\[1\] has shape \[1, 3, 2, 8\]"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            nalab.merge(outs, lses)


@pytest.mark.parametrize("type_", [np.float32, np.float16])
@pytest.mark.parametrize("layout, tile, dilation", [((7,), 3, 2), ((5, 6), (2, 4), (1, 2)), ((3, 4, 5), (2, 3, 2), 1)])
def test_permutation(layout, tile, dilation, type_):
    x = np.arange(2 * np.prod(layout) * 3 * 2, dtype=type_).reshape(2, *layout, 3, 2)
    permuted = nalab.permute(x, tile, dilation)
    assert permuted.shape == (2, np.prod(layout), 3, 2) and permuted.dtype == type_
    rank = len(layout)
    tiles, dilations = (([value] * rank if isinstance(value, int) else list(value)) for value in (tile, dilation))

    def place(token):  # dilation groups in row-major order, in a group tiles, in a tile tokens
        groups = [x % d for x, d in zip(token, dilations)]
        positions = [x // d for x, d in zip(token, dilations)]
        return groups, [p // t for p, t in zip(positions, tiles)], positions

    order = sorted(np.ndindex(*layout), key=place)
    assert np.array_equal(permuted, np.stack([x[(slice(None), *token)] for token in order], 1))
    assert np.array_equal(nalab.unpermute(permuted, layout, tile, dilation), x)


def test_unpermute_refuses_another_layout():
    with pytest.raises(ValueError, match=r"layout \[3, 3\] does not have the 8 tokens"):
        nalab.unpermute(np.zeros((1, 8, 1, 2), np.float32), (3, 3), 2)
    wrapped = (7, 7905747460161236407)  # whose product is 1 in 64 bits
    with pytest.raises(ValueError, match="does not have the 1 tokens"):
        nalab.unpermute(np.zeros((1, 1, 1, 8), np.float32), wrapped, 1)


def test_plan_says_what_and_why():
    plan = nalab.plan((56, 56), 7, heads=2, head_dim=32, dtype="bfloat16", pass_="backward", rpb=True)
    assert plan.pass_ == "backward" and plan.problem.endswith("bf16_rpb")
    assert set(plan.others) == {variant.name for variant in nalab.variants()} - {plan.variant}
    assert "self attention only" in plan.others["dense"]
    assert plan.useful_flops > 0 and plan.executed_flops >= plan.useful_flops
    assert nalab.plan(64, 5, variant="naive").others == {}
    with pytest.raises(ValueError, match="dense computes self attention only"):
        nalab.plan(64, 5, variant="dense")


def test_simulation_of_a_published_figure():
    # HunyuanVideo, window 18x24x24, stride 16x8x8: perfectly block-sparse with tiles of the stride's extents.
    result = nalab.sim((30, 48, 80), (18, 24, 24), (16, 8, 8))
    assert result.q_tile == (4, 8, 8) and result.kv_tile == (2, 8, 8)
    assert result.perfectly_block_sparse and result.wasted_share == 0
    assert nalab.sim((30, 48, 80), (18, 24, 24)).speedup_worst < result.speedup_worst <= result.speedup_flops
    with pytest.raises(ValueError, match="kv_tiling 'both'"):
        nalab.sim(64, 5, kv_tiling="both")
    with pytest.raises(ValueError, match="q_tile"):
        nalab.sim(64, 5, q_tile=0)


def test_version_is_that_of_the_project():
    assert nalab.__version__.count(".") == 2
