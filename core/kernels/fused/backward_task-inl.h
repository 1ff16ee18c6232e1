// One task of the backward pass of fused: a super tile, its memory, and the five products. See backward.cpp.
#include <algorithm>
#include <numbers>

#include "core/kernels/fused/backward_memory-inl.h"
#include "core/kernels/fused/backward_sums.h"
#include "core/kernels/registry.h"
#include "core/kernels/tile/gradient_sums.h"
#include "core/kernels/tile/key_walk-inl.h"
#include "core/kernels/tile/transpose-inl.h"
#include "core/ordered_tasks.h"

#if defined(NALAB_CORE_KERNELS_FUSED_BACKWARD_TASK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_FUSED_BACKWARD_TASK_INL_H_
#undef NALAB_CORE_KERNELS_FUSED_BACKWARD_TASK_INL_H_
#else
#define NALAB_CORE_KERNELS_FUSED_BACKWARD_TASK_INL_H_
#endif

#ifndef NALAB_CORE_KERNELS_FUSED_BACKWARD_TASK_ONCE
#define NALAB_CORE_KERNELS_FUSED_BACKWARD_TASK_ONCE

namespace nalab::fused {

/// A backward call.
struct BackwardCall {
  const Problem& problem;
  const Tiling& tiling;
  const Inputs& in;
  const SavedForBackward& saved;
  const Gradients& gradients;
  const Execution& execution;
};

/// What its tasks share.
struct BackwardShared {
  const BackwardCall& call;
  const tile::LaneShape shape;
  const tile::SuperTiles supers;
  const BackwardOrder order;
  const tile::KeyGradients sums;
  const tile::TileBiases& biases;
  const tile::BiasSums& bias_sums;
};

}  // namespace nalab::fused

#endif  // NALAB_CORE_KERNELS_FUSED_BACKWARD_TASK_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

using namespace tile::HWY_NAMESPACE;

/// target[c] += factor * x[c] for c in [0, dim).
HWY_INLINE void AddScaled(const float* HWY_RESTRICT x, float factor, int64_t dim, float* HWY_RESTRICT target) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const VF factors = hn::Set(d, factor);
  int64_t c = 0;
  for (; c + lanes <= dim; c += lanes) {
    hn::StoreU(hn::MulAdd(hn::Load(d, x + c), factors, hn::LoadU(d, target + c)), d, target + c);
  }
  for (; c < dim; ++c) target[c] += factor * x[c];
}

/// One super tile of one kv head, from packing its queries to storing their gradients.
template <GradientArithmetic Arithmetic>
class BackwardTask {
  static constexpr int Lanes = Arithmetic::kLanes;
  static constexpr int kRows = Arithmetic::kRows;
  static constexpr int kVectors = Arithmetic::kVectors;

 public:
  HWY_ATTR BackwardTask(const BackwardShared& shared, const tile::SuperTile& super, const OrderedTasks::Task& task,
                        const GradientPrivate<Arithmetic>& mine)
      : shared_(shared),
        problem_(shared.call.problem),
        tiling_(shared.call.tiling),
        in_(shared.call.in),
        saved_(shared.call.saved),
        super_(super),
        task_(task),
        mine_(mine),
        scale_(factor_as_float(problem_.effective_scale())),
        exponent_scale_(factor_as_float(problem_.effective_scale() * std::numbers::log2e)),
        keys_{mine.keys, problem_.head_dim},
        values_{mine.values, problem_.head_dim_v},
        dk_{mine.dk, row_step(problem_.head_dim)},
        dv_{mine.dv, row_step(problem_.head_dim_v)},
        panels_{mine.values, mine.key_panels, Arithmetic::panel_stride(tiling_.block_keys)},
        walk_(problem_, tiling_, shared.shape, shared.biases.places, in_, super, mine.list),
        own_keys_(walk_.keys_of_super(super)),
        places_(walk_.places_of_keys()) {}

  void HWY_ATTR Run() {
    task_.pass(walk_.order_of({own_keys_[0].begin, own_keys_[1].begin, own_keys_[2]}));
    if (problem_.relative_bias) mine_.bias.set_to_zero(places_);
    PrefetchQueries(0);
    while (walk_.next_block()) {
      PackBlock();
      for (int64_t i = 0; i < walk_.tiles(); ++i) {
        const KeyList keys = walk_.keys_of(i);
        if (keys.count > 0) Visit(i, keys);
      }
      AddBlock();
    }
    for (int64_t i = 0; i < walk_.tiles(); ++i) {
      for (int64_t h = 0; h < tiling_.heads; ++h) StoreResults(i, h);
    }
    if (problem_.relative_bias) AddBias();
  }

 private:
  const GradientState& state(int64_t i, int64_t head) const { return mine_.tiles[i * tiling_.heads + head]; }

  /// Prefetches what PackQueries reads: hardware sees no pattern in it.
  void PrefetchQueries(int64_t i) const {
    for (const ConstTensorView* tensor : {&in_.q, &saved_.dout, &saved_.out}) {
      const TokenStrides& strides = tensor->strides;
      const int64_t element = size_of(tensor->type);
      const auto* const data = static_cast<const std::byte*>(tensor->data);
      for (int lane = 0; lane < Lanes; ++lane) {
        const Token token = walk_.query(i, lane);
        const int64_t row = super_.batch * strides.batch + token[0] * strides.layout[0] + token[1] * strides.layout[1] +
                            token[2] * strides.layout[2] + super_.head * strides.heads;
        for (int64_t c = 0; c < tensor->shape.dim * tiling_.heads * element; c += kAlignment) {
          __builtin_prefetch(data + row * element + c, 0, 2);
        }
      }
    }
  }

  /// Rows of one head of a query tile's tokens, in float: `memory` holds them, `step` floats apart, and they are padded
  /// with zeros.
  void HWY_ATTR PackRows(const ConstTensorView& tensor, const Token (&tokens)[Lanes], int64_t head, float* memory,
                         int64_t step) {
    const int64_t dim = tensor.shape.dim;
    with_element_type(tensor.type, [&](auto element) HWY_ATTR {
      const auto view = tensor.as<decltype(element)>();
      for (int lane = 0; lane < Lanes; ++lane, memory += step) {
        const auto& [x1, x2, x3] = tokens[lane];
        simd::HWY_NAMESPACE::CopyToFloats(view.row(super_.batch, x1, x2, x3, head), dim, memory);
        std::fill(memory + dim, memory + step, 0.0f);
      }
    });
  }

  static void HWY_ATTR Transpose(const float* memory, int64_t step, int64_t dim, float* lanes) {
    const float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) row[lane] = memory + lane * step;
    RowsToLanes<Lanes>(row, dim, lanes);
  }

  /// Packs the queries of one head of a query tile with what belongs to them, and starts their state.
  void HWY_ATTR PackQueries(int64_t i, int64_t h) {
    const GradientState& m = state(i, h);
    const int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v, head = super_.head + h;
    Token tokens[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) tokens[lane] = walk_.query(i, lane);
    PackRows(in_.q, tokens, head, m.query_rows, row_step(dim));
    Transpose(m.query_rows, row_step(dim), dim, m.queries);
    PackRows(saved_.dout, tokens, head, m.dout_rows, row_step(dim_v));
    Transpose(m.dout_rows, row_step(dim_v), dim_v, m.dout);
    PackRows(saved_.out, tokens, head, mine_.rows, dim_v);
    Transpose(mine_.rows, dim_v, dim_v, mine_.out);
    // A query with a single key has out equal to the value: so delta is dout * value to the last bit, and dq is 0.
    Arithmetic::LaneProducts(mine_.out, m.dout, dim_v, m.delta);
    const auto lse = saved_.lse.template as<float>();
    for (int lane = 0; lane < Lanes; ++lane) {
      const auto& [x1, x2, x3] = tokens[lane];
      m.lse2[lane] = static_cast<float>(std::numbers::log2e * *lse.row(super_.batch, x1, x2, x3, head));
    }
    std::fill(m.dq, m.dq + Lanes * mine_.padded_columns(problem_), 0.0f);
    queries_finite_[i * tiling_.heads + h] = Arithmetic::AllFinite(m.queries, Lanes * dim);
    dout_finite_[i * tiling_.heads + h] = Arithmetic::AllFinite(m.dout, Lanes * dim_v);
  }

  void HWY_ATTR PackBlock() {
    keys_finite_ = true;
    for (const tile::Segment& segment : walk_.segments()) {
      walk_.with_rows(segment, [&](const auto& rows) HWY_ATTR { PackKeys(rows, segment.first); });
    }
  }

  /// Packs keys and values from row `first` of the block on, and starts their sums.
  template <class T>
  void HWY_ATTR PackKeys(const KeyRows<T>& rows, int64_t first) {
    for (int64_t n = 0; n < rows.count; ++n) {
      simd::HWY_NAMESPACE::CopyToFloats(rows.key + n * rows.key_step, problem_.head_dim, keys_[first + n]);
      std::fill_n(dk_[first + n], dk_.step, 0.0f);
      std::fill_n(dv_[first + n], dv_.step, 0.0f);
    }
    // Values take the place of the forward pass's keys, and keys that of its values: in dout v^T and dq.
    const bool finite = Arithmetic::PackKeys(rows.value, rows.value_step, problem_.head_dim_v, rows.key, rows.key_step,
                                             problem_.head_dim, rows.count, first, panels_, mine_.rows);
    keys_finite_ = keys_finite_ && finite;
  }

  /// Prefetches rows [begin, end) of the block in dk and dv, which will soon be added to.
  void PrefetchSums(int64_t begin, int64_t end) const {
    for (const tile::Segment& segment : walk_.segments()) {
      const geometry::Range rows =
          geometry::intersect({begin, end}, {segment.first, segment.first + segment.x3.size()});
      if (!rows.empty()) {
        WithSums(segment, [&](const TokenView<float>& view, const Token& first, int64_t step, const Rows&, float) {
          const float* row = view.row(super_.batch, first[0], first[1], first[2], super_.head_kv);
          row += (rows.begin - segment.first) * step;
          for (int64_t n = 0; n < rows.size(); ++n, row += step) {
            for (int64_t c = 0; c < view.shape.dim; c += 16) __builtin_prefetch(row + c, 1, 2);
          }
        });
      }
    }
  }

  void HWY_ATTR Visit(int64_t i, KeyList list) {
    // Query tiles are visited in order: each is packed when it is first needed, its rows fetched during the visit
    // before.
    for (; packed_ <= i; ++packed_) {
      for (int64_t h = 0; h < tiling_.heads; ++h) PackQueries(packed_, h);
      if (packed_ + 1 < walk_.tiles()) PrefetchQueries(packed_ + 1);
    }
    const int64_t share = geometry::ceil_div(walk_.used(), walk_.tiles());
    PrefetchSums(i * share, (i + 1) * share);
    const uint32_t inside = walk_.inside(i);
    if ((inside & kAllLanes<Lanes>) != kAllLanes<Lanes>) {
      for (int64_t n = 0; n < list.count; ++n) mine_.list.lanes[n] &= inside;
      list.all_attend = false;
    }
    // Register tiles of keys are filled up with a row that belongs to no key, and that no lane attends to.
    for (int64_t n = list.count; n < list.count + Arithmetic::kListPadding; ++n) {
      mine_.list.index[n] = static_cast<int32_t>(tiling_.block_keys);
      mine_.list.lanes[n] = 0;
    }
    for (int64_t h = 0; h < tiling_.heads; ++h) VisitHead(i, h, list);
  }

  void HWY_ATTR VisitHead(int64_t i, int64_t h, const KeyList& list) {
    const GradientState& m = state(i, h);
    const int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v;
    float* const weights = mine_.weights;
    const auto careful = [&](bool finite) { return !finite && !list.all_attend; };
    Arithmetic::WeightsFromLse(m.queries, keys_, dim, list, exponent_scale_, shared_.biases.of(super_.head + h), m.lse2,
                               weights);
    Choose(careful(dout_finite_[i * tiling_.heads + h]), [&](auto is_careful) HWY_ATTR {
      Arithmetic::template AddOuter<is_careful>(weights, {m.dout_rows, row_step(dim_v)}, dim_v, list, dv_);
    });
    Arithmetic::ScoreGradients(m.dout, values_, dim_v, list, m.delta, weights);
    if (problem_.relative_bias) Arithmetic::AddToPlaces(weights, list, mine_.bias.of(h));
    Choose(careful(keys_finite_), [&](auto is_careful) HWY_ATTR { AddKeys<is_careful>(weights, list, m.dq); });
    Choose(careful(queries_finite_[i * tiling_.heads + h]), [&](auto is_careful) HWY_ATTR {
      Arithmetic::template AddOuter<is_careful>(weights, {m.query_rows, row_step(dim)}, dim, list, dk_);
    });
  }

  /// dq[c][lane] += sum over the listed keys of key[c] * gradients[n][lane].
  template <bool Careful>
  HWY_NOINLINE void AddKeys(const float* gradients, const KeyList& list, float* dq) {
    VF one[kVectors];
    for (VF& x : one) x = hn::Set(Floats(), 1.0f);
    Arithmetic::template AddValues<Careful>(gradients, panels_, geometry::ceil_div(problem_.head_dim, kRows), list, one,
                                            dq);
  }

  template <class F>
  static void HWY_ATTR Choose(bool condition, const F& f) {
    condition ? f(std::true_type()) : f(std::false_type());
  }

  /// Adds dk and dv of the block, after all earlier tasks that add to them.
  void HWY_ATTR AddBlock() {
    task_.wait_for_earlier([&](int64_t earlier) { return Required(shared_.supers.at(shared_.order(earlier))); });
    for (const tile::Segment& segment : walk_.segments()) {
      WithSums(segment, [&](const TokenView<float>& view, const Token& first, int64_t step, const Rows& block,
                            float factor) HWY_ATTR {
        float* row = view.row(super_.batch, first[0], first[1], first[2], super_.head_kv);
        for (int64_t n = 0; n < segment.x3.size(); ++n, row += step) {
          AddScaled(block[segment.first + n], factor, view.shape.dim, row);
        }
      });
    }
    task_.pass(walk_.order_of_next());
  }

  /// Adds the task's part of drpb, after all earlier tasks of its heads.
  void HWY_ATTR AddBias() {
    for (int64_t h = 0; h < tiling_.heads; ++h) mine_.bias.fold(places_, h);
    task_.wait_for_earlier([&](int64_t earlier) {
      const tile::SuperTile other = shared_.supers.at(shared_.order(earlier));
      return other.batch == super_.batch && other.head == super_.head ? OrderedTasks::kEnd : OrderedTasks::kStart;
    });
    for (int64_t h = 0; h < tiling_.heads; ++h) {
      mine_.bias.add_to(h, shared_.bias_sums.of(super_.batch, super_.head + h));
    }
  }

  /// The number in the order of keys that an earlier super tile must have reached before this one may add the block.
  int64_t Required(const tile::SuperTile& other) const {
    if (other.batch != super_.batch || other.head_kv != super_.head_kv || geometry::size(other.tokens) == 0) {
      return OrderedTasks::kStart;
    }
    const tile::Segment& first = walk_.segments().front();
    const tile::Segment& last = walk_.segments().back();
    const int64_t end = walk_.order_of(last) + last.x3.size();
    if (last.is_extra()) return end;
    if (other.group != super_.group) return OrderedTasks::kStart;
    const geometry::Box keys = walk_.keys_of_super(other);
    const bool apart = geometry::intersect(keys[0], {first.x1, last.x1 + 1}).empty() ||
                       geometry::intersect(keys[1], own_keys_[1]).empty() ||
                       geometry::intersect(keys[2], own_keys_[2]).empty();
    return apart ? OrderedTasks::kStart : end;
  }

  /// Calls f(where sums are, coordinates of a segment's first key, distance of its keys, the block's part, factor) for
  /// dk and dv.
  template <class F>
  void HWY_ATTR WithSums(const tile::Segment& segment, const F& f) const {
    const tile::KeyGradients& sums = shared_.sums;
    walk_.with_place(segment, sums.dk, sums.dextra_k, [&](const auto& view, const Token& first, int64_t step) HWY_ATTR {
      f(view, first, step, dk_, scale_);
    });
    walk_.with_place(segment, sums.dv, sums.dextra_v, [&](const auto& view, const Token& first, int64_t step) HWY_ATTR {
      f(view, first, step, dv_, 1.0f);
    });
  }

  void HWY_ATTR StoreResults(int64_t i, int64_t h) {
    const GradientState& m = state(i, h);
    // Floats go straight to their place.
    const TensorView& dq = shared_.call.gradients.dq;
    const bool in_place = dq.type == ElementType::f32;
    const uint32_t inside = walk_.inside(i);
    HWY_ALIGN float factors[Lanes];
    Token tokens[Lanes];
    float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      factors[lane] = scale_;
      tokens[lane] = walk_.query(i, lane);
      const auto& [x1, x2, x3] = tokens[lane];
      row[lane] = in_place && (inside >> lane & 1) != 0
                      ? dq.template as<float>().row(super_.batch, x1, x2, x3, super_.head + h)
                      : mine_.rows + lane * problem_.head_dim;
    }
    LanesToRows<Lanes>(m.dq, problem_.head_dim, factors, row);
    for (int lane = 0; lane < Lanes && !in_place; ++lane) {
      if ((inside >> lane & 1) != 0) store_row(dq, super_.batch, tokens[lane], super_.head + h, row[lane]);
    }
  }

  const BackwardShared& shared_;
  const Problem& problem_;
  const Tiling& tiling_;
  const Inputs& in_;
  const SavedForBackward& saved_;
  const tile::SuperTile& super_;
  const OrderedTasks::Task& task_;
  const GradientPrivate<Arithmetic>& mine_;
  const float scale_;
  const float exponent_scale_;  ///< weights are powers of 2
  const Rows keys_, values_, dk_, dv_;
  const Block panels_;  ///< rows of values, panels of keys
  KeyWalk<Arithmetic> walk_;
  const geometry::Box own_keys_;
  const geometry::Box places_;  ///< of all keys that it visits: where the sums of drpb are
  int64_t packed_ = 0;          ///< query tiles whose queries are packed
  bool keys_finite_ = true;     ///< of the block
  bool queries_finite_[kMaxQueryTiles];
  bool dout_finite_[kMaxQueryTiles];
};

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_FUSED_BACKWARD_TASK_INL_H_
