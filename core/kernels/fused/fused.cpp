// fused: online softmax over tiles, weights never in memory: Faster NA (2403.04690) section 3.3 and Generalized NA
// (2504.16922), for CPUs.
//
// A task is a super tile of queries of one dilation group of one kv head: see walk-inl.h.
#include "core/kernels/fused/fused.h"

#include "core/kernels/fused/tiles.h"
#include "core/kernels/variants.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/fused/fused.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <cmath>
#include <limits>
#include "core/kernels/fused/bf16_tile-inl.h"
#include "core/kernels/fused/tile-inl.h"
#include "core/kernels/fused/transpose-inl.h"
#include "core/kernels/fused/walk-inl.h"
#include "hwy/contrib/math/math-inl.h"

#ifndef NALAB_CORE_KERNELS_FUSED_ONCE
#define NALAB_CORE_KERNELS_FUSED_ONCE

namespace nalab::fused {

/// State of one micro tile of one head while its super tile walks over the keys.
struct Micro {
  float* queries;  ///< [head_dim][lanes]
  float* out;      ///< [head_dim_v padded][lanes], not yet divided by the sums
  float* maxima;   ///< [lanes]
  float* sums;     ///< [lanes]
};

/// One worker's memory.
struct Private {
  float* keys;    ///< [block_keys][head_dim]
  float* values;  ///< [panels][block_keys][kRows], kPanelGap apart
  float* scores;  ///< [block_keys padded][lanes]
  ListMemory list;
  float* rows;    ///< [lanes][max(head_dim, head_dim_v)], in float, between lanes and tensors
  float* micros;  ///< [micros] of micro_floats each
};

inline constexpr double kLn2 = 0.69314718055994531;

inline int64_t micro_floats(const Problem& problem, const Tiles& tiles) {
  return tiles.lanes * (problem.head_dim + padded(problem.head_dim_v) + 2);
}

inline Private cut_private(const Problem& problem, const Tiles& tiles, WorkspaceCutter& cutter) {
  Private p;
  p.keys = cutter.take<float>(tiles.block_keys * problem.head_dim);
  p.values = cutter.take<float>((tiles.block_keys + kPanelGap) * padded(problem.head_dim_v));
  p.scores = cutter.take<float>(padded(tiles.block_keys) * tiles.lanes);
  p.list.index = cutter.take<int32_t>(padded(tiles.block_keys));
  p.list.lanes = cutter.take<uint32_t>(padded(tiles.block_keys));
  p.rows = cutter.take<float>(tiles.lanes * std::max(problem.head_dim, problem.head_dim_v));
  p.micros = cutter.take<float>(tiles.micros() * micro_floats(problem, tiles));
  return p;
}

inline int64_t private_bytes(const Problem& problem, const Tiles& tiles) {
  WorkspaceCutter cutter(nullptr);
  cut_private(problem, tiles, cutter);
  return cutter.size();
}

}  // namespace nalab::fused

#endif  // NALAB_CORE_KERNELS_FUSED_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

/// One super tile of one kv head, from packing its queries to storing its results.
template <class Arithmetic>
class SuperTile : public Walk<Arithmetic, SuperTile<Arithmetic>> {
  using Base = Walk<Arithmetic, SuperTile>;
  using Base::axes_, Base::in_, Base::lanes_, Base::placed_, Base::problem_, Base::super_, Base::tiles_;
  static constexpr int Lanes = Arithmetic::kLanes;
  static constexpr int kRows = Arithmetic::kRows;
  static constexpr int kStep = Arithmetic::kStep;

 public:
  SuperTile(const Problem& problem, const Tiles& tiles, const LaneShape& shape, const Inputs& in, const Outputs* out,
            const Private& mine)
      : Base(problem, tiles, shape, in, mine.list),
        out_(out),
        mine_(mine),
        panels_(geometry::ceil_div(problem.head_dim_v, kRows)),
        scale_(factor_as_float(std::abs(problem.effective_scale()))),
        exponent_scale_(factor_as_float(std::abs(problem.effective_scale()) / kLn2)),
        block_{mine.keys, mine.values, tiles.block_keys * kRows + kPanelGap} {}

  void HWY_ATTR Run(const Super& super) {
    Base::Place(super);
    for (int64_t i = 0; i < placed_; ++i) {
      for (int64_t h = 0; h < tiles_.heads; ++h) PackQueries(i, h);
    }
    values_finite_ = true;
    Base::VisitKeys();
    if (out_ == nullptr) return;
    for (int64_t i = 0; i < placed_; ++i) {
      for (int64_t h = 0; h < tiles_.heads; ++h) StoreResults(i, h);
    }
  }

 private:
  friend Base;

  Micro micro(int64_t spatial, int64_t head) const {
    float* p = mine_.micros + (spatial * tiles_.heads + head) * micro_floats(problem_, tiles_);
    Micro m;
    m.queries = p;
    m.out = m.queries + Lanes * problem_.head_dim;
    m.maxima = m.out + Lanes * padded(problem_.head_dim_v);
    m.sums = m.maxima + Lanes;
    return m;
  }

  /// Packs the queries of one head of a micro tile and starts their state.
  void HWY_ATTR PackQueries(int64_t i, int64_t h) {
    const Micro m = micro(i, h);
    // A negative scale changes the sign of the queries, exactly, so that the greatest score has the greatest weight.
    const float sign = problem_.effective_scale() < 0 ? -1.0f : 1.0f;
    const int64_t dim = problem_.head_dim;
    const float* row[Lanes];
    with_element_type(in_.q.type, [&](auto element) HWY_ATTR {
      const auto q = in_.q.template as<decltype(element)>();
      for (int lane = 0; lane < Lanes; ++lane) {
        const Token token = Base::query(i, lane);
        row[lane] =
            AsFloats(q.row(super_.batch, token[0], token[1], token[2], super_.head + h), dim, mine_.rows + lane * dim);
      }
    });
    Arithmetic::PackQueries(row, dim, sign, m.queries);
    std::fill(m.out, m.out + Lanes * padded(problem_.head_dim_v), 0.0f);
    std::fill(m.maxima, m.maxima + Lanes, kNoScore);
    std::fill(m.sums, m.sums + Lanes, 0.0f);
  }

  template <class T>
  void HWY_ATTR PackRows(const KeyRows<T>& rows) {
    const bool finite = Arithmetic::PackKeys(rows.key, rows.key_step, problem_.head_dim, rows.value, rows.value_step,
                                             problem_.head_dim_v, rows.count, Base::used(), block_, mine_.rows);
    values_finite_ = values_finite_ && finite;
  }

  void HWY_ATTR Visit(int64_t i, const KeyList& list) {
    if (out_ == nullptr) return;
    for (int64_t h = 0; h < tiles_.heads; ++h) Visit(list, micro(i, h));
  }

  void BlockVisited(int64_t) { values_finite_ = true; }

  /// One step of the online softmax.
  void HWY_ATTR Visit(const KeyList& list, const Micro& m) {
    constexpr int kVectors = Arithmetic::kVectors;
    const Floats d;
    const VF scale = hn::Set(d, exponent_scale_);
    VF before[kVectors], maxima[kVectors], sums[kVectors], correction[kVectors];
    for (int v = 0; v < kVectors; ++v) before[v] = hn::Load(d, m.maxima + v * kStep);
    Arithmetic::Scores(m.queries, block_, problem_.head_dim, list, mine_.scores, m.maxima);
    for (int v = 0; v < kVectors; ++v) maxima[v] = hn::Load(d, m.maxima + v * kStep);
    Arithmetic::Weigh(list, exponent_scale_, maxima, mine_.scores, sums);
    for (int v = 0; v < kVectors; ++v) {
      const VF fall = hn::Mul(hn::Sub(before[v], maxima[v]), scale);
      correction[v] = simd::HWY_NAMESPACE::Exp2NonPositive(d, fall);
      const VF sum = hn::MulAdd(hn::Load(d, m.sums + v * kStep), correction[v], sums[v]);
      hn::Store(sum, d, m.sums + v * kStep);
    }
    if (values_finite_ || list.all_attend) {
      Arithmetic::template AddValues<false>(mine_.scores, block_, panels_, list, correction, m.out);
    } else {
      Arithmetic::template AddValues<true>(mine_.scores, block_, panels_, list, correction, m.out);
    }
  }

  void HWY_ATTR StoreResults(int64_t i, int64_t h) {
    const Micro m = micro(i, h);
    const int64_t head = super_.head + h;
    const int64_t dim_v = problem_.head_dim_v;
    const Floats d;
    HWY_ALIGN float inverse[Lanes], lse[Lanes];
    for (int first = 0; first < Lanes; first += kStep) {
      const VF sum = hn::Load(d, m.sums + first);
      hn::Store(hn::Div(hn::Set(d, 1.0f), sum), d, inverse + first);
      const VF value = hn::MulAdd(hn::Load(d, m.maxima + first), hn::Set(d, scale_), hn::Log(d, sum));
      // No weight at all: every score was -infinity, and the definition gives NaN.
      hn::Store(hn::IfThenElse(hn::Gt(sum, hn::Zero(d)), value, hn::NaN(d)), d, lse + first);
    }
    // Floats go straight to their place.
    const bool in_place = out_->out.type == ElementType::f32;
    const uint32_t inside = lanes_[i].inside();
    Token token[Lanes];
    float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      token[lane] = Base::query(i, lane);
      const auto& [x1, x2, x3] = token[lane];
      row[lane] = in_place && (inside >> lane & 1) != 0
                      ? out_->out.template as<float>().row(super_.batch, x1, x2, x3, head)
                      : mine_.rows + lane * dim_v;
    }
    LanesToRows<Lanes>(m.out, dim_v, inverse, row);
    const TokenView<float> lse_of = out_->lse.template as<float>();
    for (int lane = 0; lane < Lanes; ++lane) {
      if ((inside >> lane & 1) == 0) continue;
      const auto& [x1, x2, x3] = token[lane];
      if (!in_place) store_row(out_->out, super_.batch, token[lane], head, row[lane]);
      *lse_of.row(super_.batch, x1, x2, x3, head) = lse[lane];
    }
  }

  const Outputs* const out_;
  const Private& mine_;
  const int64_t panels_;
  const float scale_;           ///< of scores; its sign is the queries'
  const float exponent_scale_;  ///< weights are powers of 2
  const Block block_;
  bool values_finite_ = true;
};

template <class Arithmetic>
void ForwardOf(const Problem& problem, const Tiles& tiles, const Inputs& in, const Outputs* out,
               const Execution& execution) {
  const int64_t bytes = private_bytes(problem, tiles);
  const LaneShape shape(tiles.micro);
  const Supers supers(problem, tiles);
  execution.workers.for_each(supers.count(), [&](int64_t task, int worker) HWY_ATTR {
    const Super super = supers.at(task);
    if (geometry::size(super.queries) == 0) return;
    WorkspaceCutter cutter(execution.workspace.data() + worker * bytes);
    const Private mine = cut_private(problem, tiles, cutter);
    SuperTile<Arithmetic>(problem, tiles, shape, in, out, mine).Run(super);
  });
}

template <template <int> class Arithmetic>
void ForwardIn(const Problem& problem, const Tiles& tiles, const Inputs& in, const Outputs* out,
               const Execution& execution) {
  const auto run = tiles.lanes == 32 ? ForwardOf<Arithmetic<32>> : ForwardOf<Arithmetic<16>>;
  run(problem, tiles, in, out, execution);
}

void Forward(const Problem& problem, const Tiles& tiles, const Inputs& in, const Outputs* out,
             const Execution& execution) {
#if HWY_TARGET == HWY_AVX3
  if (problem.type == ElementType::bf16 && execution.isa == Isa::avx512bf16) {
    return ForwardIn<Bf16Arithmetic>(problem, tiles, in, out, execution);
  }
#endif
  ForwardIn<FloatArithmetic>(problem, tiles, in, out, execution);
}

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::fused {

void forward(const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution,
             KvTiling tiling) {
  NALAB_SELECT(execution.isa, Forward)
  (problem, choose_tiles(problem, Pass::forward, tiling), inputs, &outputs, execution);
}

void pack(const Problem& problem, const Inputs& inputs, const Execution& execution, KvTiling tiling) {
  NALAB_SELECT(execution.isa, Forward)
  (problem, choose_tiles(problem, Pass::forward, tiling), inputs, nullptr, execution);
}

int64_t workspace_bytes(const Problem& problem, Pass pass, int threads, KvTiling tiling) {
  const Tiles tiles = choose_tiles(problem, pass, tiling);
  if (pass == Pass::backward) return backward_workspace_bytes(problem, tiles, threads);
  return threads * private_bytes(problem, tiles);
}

int64_t executed_flops(const Problem& problem, Pass pass, KvTiling tiling) {
  const int64_t dims =
      pass == Pass::forward ? problem.head_dim + problem.head_dim_v : 3 * problem.head_dim + 2 * problem.head_dim_v;
  return 2 * problem.batch * problem.heads * visited_pairs(problem, choose_tiles(problem, pass, tiling)) * dims;
}

namespace {

template <KvTiling tiling>
Variant variant_with(std::string_view name, std::string_view paper_term, std::string_view summary) {
  return {
      .name = name,
      .paper_term = paper_term,
      .summary = summary,
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; },
      .workspace_bytes = [](const Problem& problem, Pass pass,
                            int threads) { return workspace_bytes(problem, pass, threads, tiling); },
      .executed_flops = [](const Problem& problem, Pass pass) { return executed_flops(problem, pass, tiling); },
      .forward = [](const Problem& problem, const Inputs& inputs, const Outputs& outputs,
                    const Execution& execution) { forward(problem, inputs, outputs, execution, tiling); },
      .backward = [](const Problem& problem, const Inputs& inputs, const SavedForBackward& saved,
                     const Gradients& gradients,
                     const Execution& execution) { backward(problem, inputs, saved, gradients, execution, tiling); },
      .pack = [](const Problem& problem, const Inputs& inputs,
                 const Execution& execution) { pack(problem, inputs, execution, tiling); },
  };
}

}  // namespace

Variant variant() {
  return variant_with<KvTiling::dynamic_tiles>(
      "fused", "fused NA (Faster NA, section 3.3; Generalized NA), dynamic KV tiling",
      "Online softmax over multi-dimensional tiles; whole tiles outside the window are never visited.");
}

Variant static_variant() {
  return variant_with<KvTiling::static_tiles>(
      "fused_static", "fused NA (Generalized NA), static KV tiling",
      "As fused, with KV tiles on a fixed grid, as token permutation needs it.");
}

}  // namespace nalab::fused
#endif  // HWY_ONCE
