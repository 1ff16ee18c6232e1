// What one worker of the backward pass of fused keeps in its part of the workspace.
#include <algorithm>
#include <cstdint>

#include "core/geometry/axis.h"
#include "core/kernels/tile/float_gradients-inl.h"
#include "core/kernels/tile/key_walk-inl.h"
#include "core/problem.h"
#include "core/tensor/workspace.h"
#include "core/tiling.h"

#if defined(NALAB_CORE_KERNELS_FUSED_BACKWARD_MEMORY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_FUSED_BACKWARD_MEMORY_INL_H_
#undef NALAB_CORE_KERNELS_FUSED_BACKWARD_MEMORY_INL_H_
#else
#define NALAB_CORE_KERNELS_FUSED_BACKWARD_MEMORY_INL_H_
#endif

#ifndef NALAB_CORE_KERNELS_FUSED_BACKWARD_MEMORY_ONCE
#define NALAB_CORE_KERNELS_FUSED_BACKWARD_MEMORY_ONCE

namespace nalab::fused {

/// Floats from one packed row to the next: whole vectors of every instruction set, and a cache line more, since rows
/// a power of 2 apart would share sets of the first-level cache.
inline int64_t row_step(int64_t dim) { return geometry::ceil_div(dim, 16) * 16 + 16; }

}  // namespace nalab::fused

#endif  // NALAB_CORE_KERNELS_FUSED_BACKWARD_MEMORY_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

using namespace tile::HWY_NAMESPACE;

/// State of one query tile of one head while its super tile walks over the keys.
struct GradientState {
  float* queries;     ///< packed
  float* dout;        ///< packed
  float* query_rows;  ///< [lanes][row_step]
  float* dout_rows;   ///< [lanes][row_step]
  float* dq;          ///< [head_dim padded][lanes], not yet scaled
  float* lse2;        ///< [lanes]: log-sum-exp in base 2
  float* delta;       ///< [lanes]: sum of out * dout
};

/// One worker's memory.
template <GradientArithmetic Arithmetic>
struct GradientPrivate {
  float* keys;        ///< [block_keys + 1][head_dim], the last row unused
  float* key_panels;  ///< panels of keys
  float* values;      ///< [block_keys + 1][head_dim_v]
  float* dk;          ///< [block_keys + 1][row_step], not yet scaled; the last row takes what belongs to no key
  float* dv;          ///< [block_keys + 1][row_step]
  float* weights;     ///< [block_keys padded][lanes]
  ListMemory list;    ///< [block_keys padded]
  float* rows;        ///< [lanes][max(head_dim, head_dim_v)], in float, between lanes and tensors
  float* out;         ///< packed out of a query tile
  tile::PlaceSums bias;
  GradientState tiles[kMaxQueryTiles];

  GradientPrivate(const Problem& problem, const Tiling& tiling, WorkspaceCutter& cutter)
      : bias(problem, tiling, cutter) {
    constexpr int64_t kLanes = Arithmetic::kLanes;
    const int64_t dim = problem.head_dim, dim_v = problem.head_dim_v;
    const int64_t padded_keys = tiling.block_keys + Arithmetic::kListPadding;
    keys = cutter.take<float>((tiling.block_keys + 1) * Arithmetic::key_floats(dim));
    key_panels = cutter.take<float>(Arithmetic::panel_floats(tiling.block_keys, dim));
    values = cutter.take<float>((tiling.block_keys + 1) * Arithmetic::key_floats(dim_v));
    dk = cutter.take<float>((tiling.block_keys + 1) * row_step(dim));
    dv = cutter.take<float>((tiling.block_keys + 1) * row_step(dim_v));
    weights = cutter.take<float>(padded_keys * kLanes);
    list.index = cutter.take<int32_t>(padded_keys);
    list.lanes = cutter.take<uint32_t>(padded_keys);
    if (problem.relative_bias) list.bias = cutter.take<int32_t>(padded_keys);
    rows = cutter.take<float>(kLanes * std::max(dim, dim_v));
    out = cutter.take<float>(Arithmetic::query_floats(dim_v));
    for (int64_t i = 0; i < tiling.query_tiles(); ++i) {
      tiles[i].queries = cutter.take<float>(Arithmetic::query_floats(dim));
      tiles[i].dout = cutter.take<float>(Arithmetic::query_floats(dim_v));
      tiles[i].query_rows = cutter.take<float>(kLanes * row_step(dim));
      tiles[i].dout_rows = cutter.take<float>(kLanes * row_step(dim_v));
      tiles[i].dq = cutter.take<float>(kLanes * padded_columns(problem));
      tiles[i].lse2 = cutter.take<float>(kLanes);
      tiles[i].delta = cutter.take<float>(kLanes);
    }
  }

  static int64_t padded_columns(const Problem& problem) { return problem.head_dim + Arithmetic::kRows; }
};

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_FUSED_BACKWARD_MEMORY_INL_H_
