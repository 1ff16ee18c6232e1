// What one worker of the backward pass of fused keeps in its part of the workspace, and the contract of the products
// that it is for.
#include <algorithm>
#include <concepts>
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

inline Rows take_rows(int64_t count, int64_t dim, WorkspaceCutter& cutter) {
  return {cutter.take<float>(count * row_step(dim)), row_step(dim)};
}

/// What belongs to the queries of one head of a query tile, in float: rows [lanes], padded with zeros.
struct QueryRows {
  Rows q, dout, out;
  float* lse2;  ///< [lanes]: log-sum-exp in base 2
};

/// dk and dv of a block, [keys][row_step], not yet scaled: what a task adds to those of the whole tensor.
struct BlockGradients {
  Rows dk, dv;

  /// Rows of keys, and one more that takes what belongs to no key.
  BlockGradients(const Problem& problem, int64_t rows, WorkspaceCutter& cutter)
      : dk(take_rows(rows + 1, problem.head_dim, cutter)), dv(take_rows(rows + 1, problem.head_dim_v, cutter)) {}

  void set_to_zero(int64_t rows) const {
    std::fill_n(dk.data, rows * dk.step, 0.0f);
    std::fill_n(dv.data, rows * dv.step, 0.0f);
  }
};

/// Adds padding to a list: a row that belongs to no key, and that no lane attends to.
inline void pad_list(const ListMemory& memory, int64_t count, int64_t padding, int64_t row) {
  std::fill_n(memory.index + count, padding, static_cast<int32_t>(row));
  std::fill_n(memory.lanes + count, padding, 0u);
}

/// Calls f(where its lanes are) for every row of a list, by groups or not.
template <class Arithmetic, class F>
HWY_INLINE void for_each_listed(const KeyList& list, const F& f) {
  constexpr int64_t kGroup = Arithmetic::kGroup;
  for (int64_t i = 0; i < list.count; ++i) {
    const int64_t first = kGroup == 1 ? i : list.index[i] * kGroup;
    for (int64_t n = first; n < first + kGroup; ++n) f(n);
  }
}

/// A visit of the queries of one head of a query tile to keys of a block.
struct GradientVisit {
  const KeyList& list;
  const float* biases;  ///< [places][lanes], and null without a bias
  float* bias_sums;     ///< [places][lanes] of drpb; null without a bias
};

/// The five products of a task, by blocks of keys:
///
///   BeginBlock, PackKeys for all segments, FinishBlock
///   for each query tile that sees keys of the block, in each head: Visit, after PackQueries when it comes first
///   AddToKeys
///
/// Query tiles (of each head) have numbers. Memory is one worker's, constructed of (problem, block_keys, the number of
/// query tiles, cutter).
template <class P>
concept GradientProducts = requires(P& products, int64_t n, const KeyRows<typename P::Arithmetic::Element>& rows,
                                    const GradientVisit& visit, typename P::Arithmetic::Scope& scope,
                                    const BlockGradients& gradients) {
  requires TileArithmetic<typename P::Arithmetic>;
  requires std::constructible_from<typename P::Memory, const Problem&, int64_t, int64_t, WorkspaceCutter&>;
  /// Keys up to a multiple of this are read and written beyond the end of a list: its padding names the row
  /// block_keys.
  requires P::kListPadding >= 0;
  /// Where the rows of a query tile are expected before PackQueries packs them and begins its sums.
  { products.rows_of(n) } -> std::same_as<QueryRows>;
  products.PackQueries(scope, n);
  products.BeginBlock();
  products.PackKeys(rows, n);  // from row n of the block on
  products.FinishBlock(n);     // of n rows
  products.Visit(scope, n, visit);
  products.AddToKeys(scope);
  /// Of an arithmetic that does not take all numbers: whether a query tile may see some in this block, and the
  /// lanes that Visit must not see at a row of it.
  requires P::Arithmetic::kTakesAll || requires {
    { products.may_misfit(n) } -> std::same_as<bool>;
    { products.misfit_lanes(n, n) } -> std::same_as<uint32_t>;
  };
  /// [head_dim padded][lanes] of a query tile, not yet scaled.
  { products.dq(n) } -> std::same_as<float*>;
};

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_FUSED_BACKWARD_MEMORY_INL_H_
