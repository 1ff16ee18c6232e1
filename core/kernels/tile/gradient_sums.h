// Where backward passes sum dk, dv and drpb, and how they store them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/geometry/bias.h"
#include "core/parallel.h"
#include "core/problem.h"
#include "core/tensor/row.h"
#include "core/tensor/workspace.h"
#include "core/tensors.h"

namespace nalab::tile {

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

/// dk, dv and those of the extra tokens, in float: the tensors themselves, or a workspace if they are not float.
struct KeyGradients {
  TokenView<float> dk, dv, dextra_k, dextra_v;
  bool in_place = true;

  void set_to_zero(Workers& workers) const {
    for (const auto& view : {dk, dv, dextra_k, dextra_v}) tile::set_to_zero(view, workers);
  }
  /// Rounds sums that are not in place, and stores them.
  void store(const Gradients& gradients, Workers& workers) const {
    if (in_place) return;
    tile::store(dk, gradients.dk, workers);
    tile::store(dv, gradients.dv, workers);
    tile::store(dextra_k, gradients.dextra_k, workers);
    tile::store(dextra_v, gradients.dextra_v, workers);
  }
};

/// Gradients of the problem's type, if it is not float, are summed in a workspace.
inline KeyGradients cut_sums(const Problem& problem, const Gradients& gradients, WorkspaceCutter& cutter) {
  if (problem.type == ElementType::f32) {
    return {gradients.dk.as<float>(), gradients.dv.as<float>(), gradients.dextra_k.as<float>(),
            gradients.dextra_v.as<float>()};
  }
  const auto take = [&](const TokenShape& shape) -> TokenView<float> {
    return {cutter.take<float>(shape.elements()), shape, TokenStrides::contiguous(shape)};
  };
  return {take(k_shape(problem)), take(v_shape(problem)), take(extra_k_shape(problem)), take(extra_v_shape(problem)),
          false};
}

/// Sums of drpb of each head, in parts to which tasks add in their order: in double, since an entry has as many terms
/// as there are queries.
class BiasSums {
 public:
  BiasSums(const Problem& problem, int64_t parts, WorkspaceCutter& cutter)
      : heads_(problem.heads), table_(problem.axes3()) {
    if (!problem.relative_bias) return;
    parts_ = parts;
    sums_ = cutter.take<double>(parts_ * heads_ * table_.size());
  }

  /// [entries] of a head.
  double* of(int64_t part, int64_t head) const { return sums_ + (part * heads_ + head) * table_.size(); }

  /// Without a bias there is nothing to do, here and in store().
  void set_to_zero(Workers& workers) const {
    workers.for_each(parts_ * heads_, [&](int64_t i, int) { std::fill_n(of(0, i), table_.size(), 0.0); });
  }
  /// Adds up the parts, rounds and stores.
  void store(const TensorView& drpb, Workers& workers) const {
    if (parts_ == 0) return;
    const TokenView<float> target = drpb.as<float>();
    workers.for_each(heads_, [&](int64_t head, int) {
      double* const sums = of(0, head);
      for (int64_t part = 1; part < parts_; ++part) {
        for (int64_t i = 0; i < table_.size(); ++i) sums[i] += of(part, head)[i];
      }
      for (int64_t i = 0; i < table_.size(); ++i) {
        *target.row(head, token_at(table_.extents(), i), 0) = static_cast<float>(sums[i]);
      }
    });
  }

 private:
  int64_t heads_;
  geometry::BiasTable table_;
  int64_t parts_ = 0;  ///< 0 without a bias
  double* sums_ = nullptr;
};

}  // namespace nalab::tile
