// One task of the backward pass of fused: a super tile, from packing its queries to storing their gradients. See
// backward.cpp.
#include <algorithm>
#include <numbers>
#include <optional>
#include <type_traits>

#include "core/kernels/fused/backward_memory-inl.h"
#include "core/kernels/fused/backward_sums.h"
#include "core/kernels/fused/float_products-inl.h"
#include "core/kernels/registry.h"
#include "core/kernels/tile/fetch.h"
#include "core/kernels/tile/gradient_sums.h"
#include "core/kernels/tile/key_walk-inl.h"
#include "core/kernels/tile/rows-inl.h"
#include "core/kernels/tile/transpose-inl.h"
#include "core/ordered_tasks.h"
#include "core/tensor/row.h"

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

/// Memory for pairs of a query and a key that are visited in float, since the products' arithmetic cannot take their
/// numbers: of one query tile and the rows of a block.
template <int Lanes>
struct MisfitPairs {
  ListMemory list;  ///< [block_keys padded]
  typename FloatProducts<Lanes>::Memory products;

  MisfitPairs(const Problem& problem, int64_t block_keys, WorkspaceCutter& cutter)
      : list(take_list(problem, block_keys + FloatProducts<Lanes>::kListPadding, cutter)),
        products(problem, block_keys, 1, cutter) {}
};

/// An arithmetic that takes all numbers has none.
struct NoMisfitPairs {
  NoMisfitPairs(const Problem&, int64_t, WorkspaceCutter&) {}
};

/// One worker's memory.
template <GradientProducts Products>
struct GradientPrivate {
  using Arithmetic = typename Products::Arithmetic;
  using Misfits = std::conditional_t<Arithmetic::kTakesAll, NoMisfitPairs, MisfitPairs<Arithmetic::kLanes>>;

  BlockGradients gradients;
  ListMemory list;  ///< [rows of a block padded]
  float* rows;      ///< [lanes][head_dim]: results in float, between lanes and tensors
  tile::PlaceSums bias;
  typename Products::Memory products;
  Misfits misfits;

  GradientPrivate(const Problem& problem, const Tiling& tiling, WorkspaceCutter& cutter)
      : gradients(problem, Arithmetic::block_rows(tiling.block_keys), cutter),
        list(take_list(problem, Arithmetic::block_rows(tiling.block_keys) + Products::kListPadding, cutter)),
        rows(cutter.take<float>(Arithmetic::kLanes * problem.head_dim)),
        bias(problem, tiling, cutter),
        products(problem, tiling.block_keys, tiling.query_tiles(), cutter),
        misfits(problem, tiling.block_keys, cutter) {}
};

/// One super tile of one kv head, from packing its queries to storing their gradients.
template <GradientProducts Products>
class BackwardTask {
  using Arithmetic = typename Products::Arithmetic;
  static constexpr int Lanes = Arithmetic::kLanes;

 public:
  HWY_ATTR BackwardTask(const BackwardShared& shared, const tile::SuperTile& super, const OrderedTasks::Task& task,
                        GradientPrivate<Products>& mine)
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
        products_(problem_, tiling_.block_keys, exponent_scale_, mine.gradients, mine.products),
        walk_(problem_, tiling_, shared.shape, shared.biases.places, in_, super, mine.list),
        own_keys_(walk_.keys_of_super(super)),
        places_(walk_.places_of_keys()) {}

  /// Returns whether there were pairs that the products' arithmetic could not take.
  bool HWY_ATTR Run() {
    task_.pass(walk_.order_of({own_keys_[0].begin, own_keys_[1].begin, own_keys_[2]}));
    if (problem_.relative_bias) mine_.bias.set_to_zero(places_);
    PrefetchQueries(0);
    while (walk_.next_block()) {
      ComputeBlock();
      AddBlock();
    }
    for (int64_t i = 0; i < walk_.tiles(); ++i) {
      for (int64_t h = 0; h < tiling_.heads; ++h) StoreResults(i, h);
    }
    if (problem_.relative_bias) AddBias();
    return any_misfits_;
  }

 private:
  int64_t number(int64_t i, int64_t head) const { return i * tiling_.heads + head; }

  /// Prefetches what ReadQueries reads, if it is far: hardware sees no pattern in it.
  void PrefetchQueries(int64_t i) const {
    if (!walk_.far()) return;
    for (const ConstTensorView* tensor : {&in_.q, &saved_.dout, &saved_.out}) {
      const TokenStrides& strides = tensor->strides;
      const int64_t element = size_of(tensor->type);
      const auto* const data = static_cast<const std::byte*>(tensor->data);
      for (int lane = 0; lane < Lanes; ++lane) {
        const Token token = walk_.query(i, lane);
        const int64_t row = super_.batch * strides.batch + token[0] * strides.layout[0] + token[1] * strides.layout[1] +
                            token[2] * strides.layout[2] + super_.head * strides.heads;
        for (int64_t c = 0; c < tensor->shape.dim * tiling_.heads * element; c += kAlignment) {
          tile::fetch<tile::CacheLevel::second>(data + row * element + c);
        }
      }
    }
  }

  /// Rows of one head of a query tile's tokens, in float, padded with zeros.
  void HWY_ATTR ReadRows(const ConstTensorView& tensor, const Token (&tokens)[Lanes], int64_t head, const Rows& rows) {
    const int64_t dim = tensor.shape.dim;
    with_element_type(tensor.type, [&](auto element) HWY_ATTR {
      const auto view = tensor.as<decltype(element)>();
      for (int lane = 0; lane < Lanes; ++lane) {
        const auto& [x1, x2, x3] = tokens[lane];
        simd::HWY_NAMESPACE::CopyToFloats(view.row(super_.batch, x1, x2, x3, head), dim, rows[lane]);
        std::fill(rows[lane] + dim, rows[lane] + rows.step, 0.0f);
      }
    });
  }

  /// Reads what belongs to the queries of one head of a query tile.
  void HWY_ATTR ReadQueries(int64_t i, int64_t h, const QueryRows& rows) {
    const int64_t head = super_.head + h;
    Token tokens[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) tokens[lane] = walk_.query(i, lane);
    ReadRows(in_.q, tokens, head, rows.q);
    ReadRows(saved_.dout, tokens, head, rows.dout);
    ReadRows(saved_.out, tokens, head, rows.out);
    const auto lse = saved_.lse.template as<float>();
    for (int lane = 0; lane < Lanes; ++lane) {
      const auto& [x1, x2, x3] = tokens[lane];
      rows.lse2[lane] = static_cast<float>(std::numbers::log2e * *lse.row(super_.batch, x1, x2, x3, head));
    }
  }

  void HWY_ATTR ComputeBlock() {
    // Closed before the task waits for others.
    typename Arithmetic::Scope scope;
    PackBlock();
    for (int64_t i = 0; i < walk_.tiles(); ++i) {
      const KeyList keys = walk_.keys_of(i);
      if (keys.count > 0) Visit(scope, i, keys);
    }
    products_.AddToKeys(scope);
  }

  /// Packs a block's keys and values and begins their sums.
  void HWY_ATTR PackBlock() {
    mine_.gradients.set_to_zero(Arithmetic::block_rows(walk_.used()));
    PackKeys(products_);
    floats_.reset();
  }

  template <class AnyProducts>
  void HWY_ATTR PackKeys(AnyProducts& products) {
    products.BeginBlock();
    for (const tile::Segment& segment : walk_.segments()) {
      walk_.with_rows(segment, [&](const auto& rows) HWY_ATTR { products.PackKeys(rows, segment.first); });
    }
    products.FinishBlock(walk_.used());
  }

  /// Prefetches rows [begin, end) of the block in dk and dv, which will soon be added to, if they are far.
  void PrefetchSums(int64_t begin, int64_t end) const {
    if (!walk_.far()) return;
    for (const tile::Segment& segment : walk_.segments()) {
      const geometry::Range rows =
          geometry::intersect({begin, end}, {segment.first, segment.first + segment.x3.size()});
      if (!rows.empty()) {
        WithSums(segment, [&](const TokenView<float>& view, const Token& first, int64_t step, const Rows&, float) {
          const float* row = view.row(super_.batch, first[0], first[1], first[2], super_.head_kv);
          row += (rows.begin - segment.first) * step;
          for (int64_t n = 0; n < rows.size(); ++n, row += step) {
            for (int64_t c = 0; c < view.shape.dim; c += 16) tile::fetch<tile::CacheLevel::second>(row + c);
          }
        });
      }
    }
  }

  void HWY_ATTR Visit(typename Arithmetic::Scope& scope, int64_t i, KeyList list) {
    // Query tiles are visited in order: each is packed when it is first needed, its rows fetched during the visit
    // before.
    for (; packed_ <= i; ++packed_) {
      for (int64_t h = 0; h < tiling_.heads; ++h) {
        ReadQueries(packed_, h, products_.rows_of(number(packed_, h)));
        products_.PackQueries(scope, number(packed_, h));
      }
      if (packed_ + 1 < walk_.tiles()) PrefetchQueries(packed_ + 1);
    }
    const int64_t share = geometry::ceil_div(walk_.used(), walk_.tiles());
    PrefetchSums(i * share, (i + 1) * share);
    KeepInside(walk_.inside(i), list);
    pad_list(mine_.list, list.count, Products::kListPadding, tiling_.block_keys);
    for (int64_t h = 0; h < tiling_.heads; ++h) VisitHead(scope, i, h, list);
  }

  void HWY_ATTR VisitHead(typename Arithmetic::Scope& scope, int64_t i, int64_t h, KeyList list) {
    if constexpr (Arithmetic::kTakesAll) {
      products_.Visit(scope, number(i, h), visit_of(h, list));
    } else {
      const int64_t misfits = products_.may_misfit(number(i, h)) ? TakeMisfits(number(i, h), list) : 0;
      products_.Visit(scope, number(i, h), visit_of(h, list));
      if (misfits > 0) VisitMisfits(i, h, misfits);
    }
  }

  GradientVisit visit_of(int64_t h, const KeyList& list) const {
    return {list, shared_.biases.of(super_.head + h), problem_.relative_bias ? mine_.bias.of(h) : nullptr};
  }

  /// Moves the pairs whose numbers do not fit from a list to that of the misfits, and returns its length.
  int64_t TakeMisfits(int64_t number, KeyList& list) {
    const ListMemory& misfits = mine_.misfits.list;
    int64_t count = 0;
    for_each_listed<Arithmetic>(list, [&](int64_t row) {
      const uint32_t lanes = list.lanes[row] & products_.misfit_lanes(number, row);
      if (lanes == 0) return;
      mine_.list.lanes[row] &= ~lanes;
      misfits.index[count] = static_cast<int32_t>(row);
      misfits.lanes[count] = lanes;
      if (problem_.relative_bias) misfits.bias[count] = list.bias[row];
      ++count;
    });
    list.all_attend = list.all_attend && count == 0;
    return count;
  }

  /// Visits the misfits of one head of a query tile, and gives them back to the list, for the next head.
  void HWY_ATTR VisitMisfits(int64_t i, int64_t h, int64_t count) {
    any_misfits_ = true;
    const ListMemory& misfits = mine_.misfits.list;
    for (int64_t n = 0; n < count; ++n) mine_.list.lanes[misfits.index[n]] |= misfits.lanes[n];
    if (!floats_) {
      floats_.emplace(problem_, tiling_.block_keys, exponent_scale_, mine_.gradients, mine_.misfits.products);
      PackKeys(*floats_);
    }
    ReadQueries(i, h, floats_->rows_of(0));
    NoScope scope;
    floats_->PackQueries(scope, 0);
    pad_list(misfits, count, FloatProducts<Lanes>::kListPadding, tiling_.block_keys);
    floats_->Visit(scope, 0, visit_of(h, {misfits.index, misfits.lanes, count, false, misfits.bias}));
    float* const dq = products_.dq(number(i, h));
    for (int64_t n = 0; n < problem_.head_dim * Lanes; ++n) dq[n] += floats_->dq(0)[n];
  }

  /// Lanes beyond the layout attend to nothing: others' sums are made of them too.
  void KeepInside(uint32_t inside, KeyList& list) {
    if ((inside & kAllLanes<Lanes>) == kAllLanes<Lanes>) return;
    for_each_listed<Arithmetic>(list, [&](int64_t n) { mine_.list.lanes[n] &= inside; });
    list.all_attend = false;
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
      f(view, first, step, mine_.gradients.dk, scale_);
    });
    walk_.with_place(segment, sums.dv, sums.dextra_v, [&](const auto& view, const Token& first, int64_t step) HWY_ATTR {
      f(view, first, step, mine_.gradients.dv, 1.0f);
    });
  }

  void HWY_ATTR StoreResults(int64_t i, int64_t h) {
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
    LanesToRows<Lanes>(products_.dq(number(i, h)), problem_.head_dim, factors, row);
    for (int lane = 0; lane < Lanes && !in_place; ++lane) {
      if ((inside >> lane & 1) != 0) StoreRow(dq, super_.batch, tokens[lane], super_.head + h, row[lane]);
    }
  }

  const BackwardShared& shared_;
  const Problem& problem_;
  const Tiling& tiling_;
  const Inputs& in_;
  const SavedForBackward& saved_;
  const tile::SuperTile& super_;
  const OrderedTasks::Task& task_;
  GradientPrivate<Products>& mine_;
  const float scale_;
  const float exponent_scale_;  ///< weights are powers of 2
  Products products_;
  std::optional<FloatProducts<Lanes>> floats_;  ///< of misfits, if the block has any
  KeyWalk<Arithmetic> walk_;
  const geometry::Box own_keys_;
  const geometry::Box places_;  ///< of all keys that it visits: where the sums of drpb are
  int64_t packed_ = 0;          ///< query tiles whose queries are packed
  bool any_misfits_ = false;
};

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_FUSED_BACKWARD_TASK_INL_H_
