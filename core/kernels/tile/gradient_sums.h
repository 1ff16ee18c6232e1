// Where backward passes sum dk, dv and drpb, and how they store them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/geometry/bias.h"
#include "core/parallel.h"
#include "core/problem.h"
#include "core/tensor/workspace.h"
#include "core/tensors.h"

namespace nalab::tile {

/// Tokens of a tensor that a task clears or stores.
inline constexpr int64_t kTokensOfTask = 64;

inline int64_t token_tasks(const TokenShape& shape) {
  return shape.elements() == 0 ? 0 : geometry::ceil_div(shape.batch * shape.tokens(), kTokensOfTask);
}

/// Calls body(batch, token) for the tokens of a task.
template <class Body>
void for_each_token(const TokenShape& shape, int64_t task, const Body& body) {
  const int64_t begin = task * kTokensOfTask, end = std::min(begin + kTokensOfTask, shape.batch * shape.tokens());
  for (int64_t i = begin; i < end; ++i) body(i / shape.tokens(), token_at(shape.layout, i % shape.tokens()));
}

/// Sets the rows of a task's tokens to 0.
inline void set_to_zero(const TokenView<float>& view, int64_t task) {
  // The heads of a token are mostly one piece of memory.
  const int64_t heads = view.shape.heads, pieces = view.strides.heads == view.shape.dim ? 1 : heads;
  for_each_token(view.shape, task, [&](int64_t batch, const Token& token) {
    for (int64_t h = 0; h < pieces; ++h) std::fill_n(view.row(batch, token, h), heads / pieces * view.shape.dim, 0.0f);
  });
}

/// Sets all rows of some tensors to 0, in parallel.
template <std::size_t N>
void set_to_zero(const std::array<TokenView<float>, N>& views, Workers& workers) {
  int64_t tasks = 0;
  for (const auto& view : views) tasks += token_tasks(view.shape);
  workers.for_each(tasks, [&](int64_t task, int) {
    const TokenView<float>* view = views.data();
    while (task >= token_tasks(view->shape)) task -= token_tasks(view++->shape);
    set_to_zero(*view, task);
  });
}

/// Rounds sums, whose heads lie end to end, to the element type of a tensor and stores them, in parallel:
/// round_row(floats, count, elements).
template <class RoundRow>
void store(const TokenView<float>& sums, const TensorView& target, Workers& workers, const RoundRow& round_row) {
  if (sums.shape.elements() == 0) return;
  with_element_type(target.type, [&](auto element) {
    const auto to = target.as<decltype(element)>();
    const int64_t heads = sums.shape.heads, pieces = to.strides.heads == to.shape.dim ? 1 : heads;
    workers.for_each(token_tasks(sums.shape), [&](int64_t task, int) {
      for_each_token(sums.shape, task, [&](int64_t batch, const Token& token) {
        for (int64_t h = 0; h < pieces; ++h) {
          round_row(sums.row(batch, token, h), heads / pieces * sums.shape.dim, to.row(batch, token, h));
        }
      });
    });
  });
}

/// dk, dv and those of the extra tokens, in float: the tensors themselves, or a workspace if they are not float.
struct KeyGradients {
  TokenView<float> dk, dv, dextra_k, dextra_v;
  bool in_place = true;

  /// Those of some batch entries.
  KeyGradients of_entries(geometry::Range entries) const {
    const auto part = [&](TokenView<float> view) {
      if (view.shape.elements() > 0) view.data += entries.begin * view.strides.batch;
      view.shape.batch = entries.size();
      return view;
    };
    return {part(dk), part(dv), part(dextra_k), part(dextra_v), in_place};
  }

  void set_to_zero(Workers& workers) const { tile::set_to_zero(std::array{dk, dv, dextra_k, dextra_v}, workers); }
  /// By the calling thread alone.
  void set_to_zero() const {
    for (const TokenView<float>& view : {dk, dv, dextra_k, dextra_v}) {
      for (int64_t task = 0; task < token_tasks(view.shape); ++task) tile::set_to_zero(view, task);
    }
  }
  /// Rounds sums that are not in place, and stores them.
  template <class RoundRow>
  void store(const Gradients& gradients, Workers& workers, const RoundRow& round_row) const {
    if (in_place) return;
    tile::store(dk, gradients.dk, workers, round_row);
    tile::store(dv, gradients.dv, workers, round_row);
    tile::store(dextra_k, gradients.dextra_k, workers, round_row);
    tile::store(dextra_v, gradients.dextra_v, workers, round_row);
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
    if (parts_ == 0) return;
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
