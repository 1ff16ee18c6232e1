// Where the backward pass of fused sums dk, dv and drpb, and in which order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernels/tile/super_tiles.h"
#include "core/parallel.h"
#include "core/tensor/row.h"
#include "core/tensor/workspace.h"
#include "core/tensors.h"

namespace nalab::fused {

/// dk, dv and those of the extra tokens, in float: the tensors themselves, or a workspace if they are not float.
struct KeyGradients {
  TokenView<float> dk, dv, dextra_k, dextra_v;
};

/// Calls body(batch, token) for every token of every batch entry, in parallel.
template <class Body>
void for_each_token(const TokenShape& shape, Workers& workers, const Body& body) {
  constexpr int64_t kTokens = 64;
  const int64_t tokens = shape.batch * shape.tokens();
  workers.for_each(geometry::ceil_div(tokens, kTokens), [&](int64_t task, int) {
    for (int64_t i = task * kTokens; i < std::min((task + 1) * kTokens, tokens); ++i) {
      body(i / shape.tokens(), token_at(shape.layout, i % shape.tokens()));
    }
  });
}

/// Sets all rows of a tensor to 0, in parallel.
inline void set_to_zero(const TokenView<float>& view, Workers& workers) {
  for_each_token(view.shape, workers, [&](int64_t batch, const Token& token) {
    for (int64_t h = 0; h < view.shape.heads; ++h) {
      std::fill_n(view.row(batch, token[0], token[1], token[2], h), view.shape.dim, 0.0f);
    }
  });
}

/// Rounds sums to the element type of a tensor and stores them, in parallel.
inline void store(const TokenView<float>& sums, const TensorView& target, Workers& workers) {
  for_each_token(sums.shape, workers, [&](int64_t batch, const Token& token) {
    for (int64_t h = 0; h < sums.shape.heads; ++h) {
      store_row(target, batch, token, h, sums.row(batch, token[0], token[1], token[2], h));
    }
  });
}

/// Sums of drpb of each head of each batch entry, to which the tasks add in their order: in double, since an entry has
/// as many terms as there are queries.
class BiasSums {
 public:
  BiasSums(const Problem& problem, WorkspaceCutter& cutter) : heads_(problem.heads), table_(problem.axes3()) {
    if (!problem.relative_bias) return;
    batch_ = problem.batch;
    sums_ = cutter.take<double>(batch_ * heads_ * table_.size());
  }

  /// [entries] of a head.
  double* of(int64_t batch, int64_t head) const { return sums_ + (batch * heads_ + head) * table_.size(); }

  /// Without a bias there is nothing to do, here and in store().
  void set_to_zero(Workers& workers) const {
    workers.for_each(batch_ * heads_, [&](int64_t i, int) { std::fill_n(of(0, i), table_.size(), 0.0); });
  }
  /// Adds up the batch, rounds and stores.
  void store(const TensorView& drpb, Workers& workers) const {
    if (batch_ == 0) return;
    const TokenView<float> target = drpb.as<float>();
    workers.for_each(heads_, [&](int64_t head, int) {
      double* const sums = of(0, head);
      for (int64_t b = 1; b < batch_; ++b) {
        for (int64_t i = 0; i < table_.size(); ++i) sums[i] += of(b, head)[i];
      }
      for (int64_t i = 0; i < table_.size(); ++i) {
        *target.row(head, token_at(table_.extents(), i), 0) = static_cast<float>(sums[i]);
      }
    });
  }

 private:
  int64_t heads_;
  geometry::BiasTable table_;
  int64_t batch_ = 0;  ///< 0 without a bias
  double* sums_ = nullptr;
};

/// The order in which the super tiles add to a key, and to drpb. It depends on the problem and the tiling, never on the
/// thread count.
class BackwardOrder {
 public:
  BackwardOrder(const tile::SuperTiles& supers, const Tiling& tiling) : of_group_(supers.of_group()) {
    const tile::SuperTile typical = supers.at(of_group_ / 2);
    const int64_t keys = geometry::size(geometry::keys_of_any(supers.mask(typical.group), typical.tokens));
    if (keys < kBlocks * tiling.block_keys) spaces_ = supers.count() / of_group_;
  }

  /// The number of the super tile that comes i-th.
  int64_t operator()(int64_t i) const { return spaces_ == 0 ? i : i % spaces_ * of_group_ + i / spaces_; }

 private:
  /// Tasks of this many blocks follow each other over the same keys, which they find in the third-level cache. Shorter
  /// ones would wait for each other: those of other heads, batch entries and dilation groups come between them.
  static constexpr int64_t kBlocks = 8;

  int64_t of_group_;
  int64_t spaces_ = 0;
};

}  // namespace nalab::fused
