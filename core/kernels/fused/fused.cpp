// fused: online softmax over tiles, weights never in memory: Faster NA (2403.04690) section 3.3 and Generalized NA
// (2504.16922), for CPUs.
//
// A task is a super tile of queries of one dilation group of one kv head: see tile/key_walk-inl.h.
#include "core/kernels/fused/fused.h"

#include "core/kernels/tile/super_tiles.h"
#include "core/kernels/variants.h"
#include "core/tensor/row.h"
#include "core/tensor/workspace.h"
#include "core/tuning/cost_model.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/fused/fused.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <cmath>
#include <limits>
#include "core/kernels/tile/bf16_tile-inl.h"
#include "core/kernels/tile/float_tile-inl.h"
#include "core/kernels/tile/key_walk-inl.h"
#include "core/kernels/tile/transpose-inl.h"
#include "hwy/contrib/math/math-inl.h"

#ifndef NALAB_CORE_KERNELS_FUSED_ONCE
#define NALAB_CORE_KERNELS_FUSED_ONCE

namespace nalab::fused {

inline constexpr double kLn2 = 0.69314718055994531;

/// A forward call: what its tasks share.
struct ForwardCall {
  const Problem& problem;
  const Tiling& tiling;
  const Inputs& in;
  const Outputs* out;  ///< null: pack only
  const Execution& execution;
};

/// The factor of the products in a tile's scores, and that which makes them exponents of 2. Without a bias scores are
/// not scaled before their exponents are; biases are added to scaled ones.
struct ScoreScales {
  float of_products, of_scores, exponent;

  explicit ScoreScales(const Problem& p) {
    const double scale = std::abs(p.effective_scale());
    const double later = p.relative_bias ? 1.0 : scale;
    of_products = factor_as_float(p.relative_bias ? scale : 1.0);
    of_scores = factor_as_float(later);
    exponent = factor_as_float(later / kLn2);
  }
};

}  // namespace nalab::fused

#endif  // NALAB_CORE_KERNELS_FUSED_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

using namespace tile::HWY_NAMESPACE;

/// State of one query tile of one head while its super tile walks over the keys.
struct TileState {
  float* queries;  ///< packed
  float* out;      ///< [head_dim_v padded][lanes], not yet divided by the sums
  float* maxima;   ///< [lanes]
  float* sums;     ///< [lanes]
};

/// One worker's memory.
template <TileArithmetic Arithmetic>
struct Private {
  float* keys;      ///< packed, [block_keys]
  float* values;    ///< panels
  float* scores;    ///< [block_keys padded][lanes]
  ListMemory list;  ///< [block_keys padded]
  float* rows;      ///< [lanes][max(head_dim, head_dim_v)], in float, between lanes and tensors
  TileState tiles[kMaxQueryTiles];

  Private(const Problem& problem, const Tiling& tiling, WorkspaceCutter& cutter) {
    constexpr int64_t kLanes = Arithmetic::kLanes;
    const int64_t padded_keys = tiling.block_keys + Arithmetic::kRows;
    keys = cutter.take<float>(tiling.block_keys * Arithmetic::key_floats(problem.head_dim));
    values = cutter.take<float>(Arithmetic::panel_floats(tiling.block_keys, problem.head_dim_v));
    scores = cutter.take<float>(padded_keys * kLanes);
    list.index = cutter.take<int32_t>(padded_keys);
    list.lanes = cutter.take<uint32_t>(padded_keys);
    if (problem.relative_bias) list.bias = cutter.take<int32_t>(padded_keys);
    rows = cutter.take<float>(kLanes * std::max(problem.head_dim, problem.head_dim_v));
    for (int64_t i = 0; i < tiling.query_tiles(); ++i) {
      tiles[i].queries = cutter.take<float>(Arithmetic::query_floats(problem.head_dim));
      tiles[i].out = cutter.take<float>(padded_columns(problem) * kLanes);
      tiles[i].maxima = cutter.take<float>(kLanes);
      tiles[i].sums = cutter.take<float>(kLanes);
    }
  }

  static int64_t padded_columns(const Problem& problem) { return problem.head_dim_v + Arithmetic::kRows; }
};

/// One super tile of one kv head, from packing its queries to storing its results.
template <TileArithmetic Arithmetic>
class ForwardTask {
  static constexpr int Lanes = Arithmetic::kLanes;
  static constexpr int kRows = Arithmetic::kRows;
  static constexpr int kStep = Arithmetic::kStep;

 public:
  HWY_ATTR ForwardTask(const ForwardCall& call, const tile::LaneShape& shape, const tile::TileBiases& biases,
                       const tile::SuperTile& super, const Private<Arithmetic>& mine)
      : problem_(call.problem),
        tiling_(call.tiling),
        in_(call.in),
        biases_(biases),
        super_(super),
        mine_(mine),
        panels_(geometry::ceil_div(problem_.head_dim_v, kRows)),
        scales_(problem_),
        block_{mine.keys, mine.values, Arithmetic::panel_stride(tiling_.block_keys)},
        walk_(problem_, tiling_, shape, biases.places, in_, super, mine.list) {}

  void HWY_ATTR Run(const Outputs& out) {
    PackAllQueries();
    while (walk_.next_block()) {
      PackBlock();
      for (int64_t i = 0; i < walk_.tiles(); ++i) {
        const KeyList keys = walk_.keys_of(i);
        if (keys.count == 0) continue;
        for (int64_t h = 0; h < tiling_.heads; ++h) Visit(keys, biases_.of(super_.head + h), state(i, h));
      }
    }
    for (int64_t i = 0; i < walk_.tiles(); ++i) {
      for (int64_t h = 0; h < tiling_.heads; ++h) StoreResults(out, i, h);
    }
  }

  /// All of Run except visits and results.
  void HWY_ATTR Pack() {
    PackAllQueries();
    while (walk_.next_block()) {
      PackBlock();
      for (int64_t i = 0; i < walk_.tiles(); ++i) walk_.keys_of(i);
    }
  }

 private:
  const TileState& state(int64_t i, int64_t head) const { return mine_.tiles[i * tiling_.heads + head]; }

  void HWY_ATTR PackAllQueries() {
    for (int64_t i = 0; i < walk_.tiles(); ++i) {
      for (int64_t h = 0; h < tiling_.heads; ++h) PackQueries(i, h);
    }
  }

  /// Packs the queries of one head of a query tile and starts their state.
  void HWY_ATTR PackQueries(int64_t i, int64_t h) {
    const TileState& m = state(i, h);
    // A negative scale changes the sign of the queries, exactly, so that the greatest score has the greatest weight.
    const float sign = problem_.effective_scale() < 0 ? -1.0f : 1.0f;
    const int64_t dim = problem_.head_dim;
    const float* row[Lanes];
    with_element_type(in_.q.type, [&](auto element) HWY_ATTR {
      const auto q = in_.q.template as<decltype(element)>();
      for (int lane = 0; lane < Lanes; ++lane) {
        const Token token = walk_.query(i, lane);
        row[lane] =
            AsFloats(q.row(super_.batch, token[0], token[1], token[2], super_.head + h), dim, mine_.rows + lane * dim);
      }
    });
    Arithmetic::PackQueries(row, dim, sign, m.queries);
    std::fill(m.out, m.out + Lanes * mine_.padded_columns(problem_), 0.0f);
    std::fill(m.maxima, m.maxima + Lanes, LaneBiases{biases_.of(super_.head + h)}.no_score());
    std::fill(m.sums, m.sums + Lanes, 0.0f);
  }

  void HWY_ATTR PackBlock() {
    values_finite_ = true;
    for (const tile::Segment& segment : walk_.segments()) {
      walk_.with_rows(segment, [&](const auto& rows) HWY_ATTR {
        const bool finite =
            Arithmetic::PackKeys(rows.key, rows.key_step, problem_.head_dim, rows.value, rows.value_step,
                                 problem_.head_dim_v, rows.count, segment.first, block_, mine_.rows);
        values_finite_ = values_finite_ && finite;
      });
    }
  }

  /// One step of the online softmax. biases: those of the head, or null.
  void HWY_ATTR Visit(const KeyList& list, const float* biases, const TileState& m) {
    constexpr int kVectors = Arithmetic::kVectors;
    const Floats d;
    const VF scale = hn::Set(d, scales_.exponent);
    VF before[kVectors], maxima[kVectors], sums[kVectors], correction[kVectors];
    for (int v = 0; v < kVectors; ++v) before[v] = hn::Load(d, m.maxima + v * kStep);
    Arithmetic::Scores(m.queries, block_, problem_.head_dim, list, {biases, scales_.of_products}, mine_.scores,
                       m.maxima);
    for (int v = 0; v < kVectors; ++v) maxima[v] = hn::Load(d, m.maxima + v * kStep);
    Arithmetic::Weigh(list, scales_.exponent, maxima, mine_.scores, sums);
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

  void HWY_ATTR StoreResults(const Outputs& out, int64_t i, int64_t h) {
    const TileState& m = state(i, h);
    const int64_t head = super_.head + h;
    const int64_t dim_v = problem_.head_dim_v;
    const Floats d;
    HWY_ALIGN float inverse[Lanes], lse[Lanes];
    for (int first = 0; first < Lanes; first += kStep) {
      const VF sum = hn::Load(d, m.sums + first);
      hn::Store(hn::Div(hn::Set(d, 1.0f), sum), d, inverse + first);
      const VF value = hn::MulAdd(hn::Load(d, m.maxima + first), hn::Set(d, scales_.of_scores), hn::Log(d, sum));
      // No weight at all: every score was -infinity, and the definition gives NaN.
      hn::Store(hn::IfThenElse(hn::Gt(sum, hn::Zero(d)), value, hn::NaN(d)), d, lse + first);
    }
    // Floats go straight to their place.
    const bool in_place = out.out.type == ElementType::f32;
    const uint32_t inside = walk_.inside(i);
    Token token[Lanes];
    float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      token[lane] = walk_.query(i, lane);
      const auto& [x1, x2, x3] = token[lane];
      row[lane] = in_place && (inside >> lane & 1) != 0
                      ? out.out.template as<float>().row(super_.batch, x1, x2, x3, head)
                      : mine_.rows + lane * dim_v;
    }
    LanesToRows<Lanes>(m.out, dim_v, inverse, row);
    const TokenView<float> lse_of = out.lse.template as<float>();
    for (int lane = 0; lane < Lanes; ++lane) {
      if ((inside >> lane & 1) == 0) continue;
      const auto& [x1, x2, x3] = token[lane];
      if (!in_place) store_row(out.out, super_.batch, token[lane], head, row[lane]);
      *lse_of.row(super_.batch, x1, x2, x3, head) = lse[lane];
    }
  }

  const Problem& problem_;
  const Tiling& tiling_;
  const Inputs& in_;
  const tile::TileBiases& biases_;
  const tile::SuperTile& super_;
  const Private<Arithmetic>& mine_;
  const int64_t panels_;
  const ScoreScales scales_;  ///< their sign is the queries'
  const Block block_;
  KeyWalk<Arithmetic> walk_;
  bool values_finite_ = true;  ///< of the block
};

/// Calls body with a value of the arithmetic's type for the lanes of a tiling.
template <class Body>
void WithArithmetic(std::string_view name, const Tiling& tiling, const Body& body) {
#if HWY_TARGET == HWY_AVX3
  if (name == kBf16Dot) return tiling.lanes == 32 ? body(Bf16Arithmetic<32>()) : body(Bf16Arithmetic<16>());
#endif
  static_cast<void>(name);
  tiling.lanes == 32 ? body(FloatArithmetic<32>()) : body(FloatArithmetic<16>());
}

template <class Arithmetic>
int64_t PrivateBytesOf(const Problem& problem, const Tiling& tiling) {
  return carved_bytes([&](WorkspaceCutter& cutter) { Private<Arithmetic>(problem, tiling, cutter); });
}

int64_t PrivateBytes(std::string_view arithmetic, const Problem& problem, const Tiling& tiling) {
  int64_t bytes = 0;
  WithArithmetic(arithmetic, tiling, [&](auto a) { bytes = PrivateBytesOf<decltype(a)>(problem, tiling); });
  return bytes;
}

template <class Arithmetic>
void ForwardOf(const ForwardCall& call) {
  WorkspaceCutter shared(call.execution.workspace.data());
  const tile::TileBiases biases(call.problem, call.tiling, shared);
  biases.make(call.in.rpb, call.execution.workers);
  const WorkerMemory memory{call.execution.workspace.data() + shared.size(),
                            PrivateBytesOf<Arithmetic>(call.problem, call.tiling)};
  const tile::LaneShape shape(call.tiling.query);
  const tile::SuperTiles supers(call.problem, call.tiling);
  call.execution.workers.for_each(supers.count(), [&](int64_t task, int worker) HWY_ATTR {
    const tile::SuperTile super = supers.at(task);
    if (geometry::size(super.tokens) == 0) return;
    WorkspaceCutter cutter = memory.of(worker);
    const Private<Arithmetic> mine(call.problem, call.tiling, cutter);
    [[maybe_unused]] const typename Arithmetic::Scope scope;
    ForwardTask<Arithmetic> forward(call, shape, biases, super, mine);
    call.out == nullptr ? forward.Pack() : forward.Run(*call.out);
  });
}

void Forward(std::string_view arithmetic, const ForwardCall& call) {
  WithArithmetic(arithmetic, call.tiling, [&](auto a) { ForwardOf<decltype(a)>(call); });
}

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::fused {

void forward(const Plan& plan, const Problem& problem, const Inputs& inputs, const Outputs& outputs,
             const Execution& execution) {
  NALAB_SELECT(plan.isa(), Forward)
  (plan.arithmetic().name, {problem, plan.tiling(), inputs, &outputs, execution});
}

void pack(const Plan& plan, const Problem& problem, const Inputs& inputs, const Execution& execution) {
  NALAB_SELECT(plan.isa(), Forward)
  (plan.arithmetic().name, {problem, plan.tiling(), inputs, nullptr, execution});
}

std::optional<std::string> unsupported(const std::string& variant, const Problem& problem, Pass pass) {
  if (is_split(pass)) {
    return variant + " never has the weights in memory: naive and gemm compute the pass " + name(pass);
  }
  // Places of keys, at most 32 for an entry, are numbered in 32 bits.
  constexpr int64_t kMaxEntries = int64_t{1} << 26;
  if (problem.relative_bias && problem.bias_entries() > kMaxEntries) {
    return variant + " takes at most " + std::to_string(kMaxEntries) + " biases a head, the windows need " +
           std::to_string(problem.bias_entries());
  }
  return std::nullopt;
}

bool takes(const Arithmetic& arithmetic, Pass pass) {
  return arithmetic.name == kF32Fma || (arithmetic.name == kBf16Dot && pass == Pass::forward);
}

PlanCost cost(const PlanChoice& choice) {
  const Problem& problem = choice.problem;
  PlanCost cost;
  if (choice.pass == Pass::backward) {
    cost = backward_workspace(choice);
  } else {
    cost.shared_bytes =
        carved_bytes([&](WorkspaceCutter& cutter) { tile::TileBiases(problem, *choice.tiling, cutter); });
    cost.bytes_per_worker = NALAB_SELECT(choice.isa, PrivateBytes)(choice.arithmetic->name, problem, *choice.tiling);
  }
  cost.executed_flops = problem.batch * problem.heads * tuning::visited_pairs(problem, *choice.tiling) *
                        problem.flops_per_pair(choice.pass);
  return cost;
}

Variant variant() {
  return {
      .name = "fused",
      .paper_term = "fused NA (Faster NA, section 3.3; Generalized NA)",
      .summary = "Online softmax over multi-dimensional tiles; whole tiles outside the window are never visited.",
      .expected_flops_per_second = 50e9,
      .supports = [](const Problem& problem, Pass pass) { return unsupported("fused", problem, pass); },
      .takes = takes,
      .candidates =
          [](const Problem& problem, Pass pass, const Machine& machine, std::size_t most) {
            using geometry::KvTiling;
            auto tilings = tuning::candidates(problem, pass, KvTiling::dynamic_tiles, machine, most);
            const auto fixed =
                tuning::candidates(problem, pass, KvTiling::static_tiles, machine, most - tilings.size());
            tilings.insert(tilings.end(), fixed.begin(), fixed.end());
            return tilings;
          },
      .cost = cost,
      .forward = [](const Plan& plan, const Inputs& inputs, const Outputs& outputs,
                    const Execution& execution) { forward(plan, plan.problem(), inputs, outputs, execution); },
      .backward =
          [](const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
             const Execution& execution) { backward(plan, plan.problem(), inputs, saved, gradients, execution); },
      .pack = [](const Plan& plan, const Inputs& inputs,
                 const Execution& execution) { pack(plan, plan.problem(), inputs, execution); },
  };
}

}  // namespace nalab::fused
#endif  // HWY_ONCE
