// fused: online softmax over tiles, weights never in memory: Faster NA (2403.04690) section 3.3 and Generalized NA
// (2504.16922), for CPUs.
//
// A task is a super tile of queries of one dilation group of one kv head: see tile/key_walk-inl.h.
#include "core/kernels/fused/fused.h"

#include "core/kernels/tile/super_tiles.h"
#include "core/kernels/tile/visited_groups.h"
#include "core/kernels/variants.h"
#include "core/tensor/row.h"
#include "core/tensor/workspace.h"
#include "core/tuning/cost_model.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/fused/fused.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>
#include "core/kernels/tile/bf16_tile-inl.h"
#include "core/kernels/tile/float_tile-inl.h"
#include "core/kernels/tile/key_walk-inl.h"
#include "core/kernels/tile/matrix_tile-inl.h"
#include "core/kernels/tile/rows-inl.h"
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

/// Results of a super tile that an arithmetic leaves out, since it cannot take the numbers that they are made of.
struct Misfits {
  uint32_t* queries;  ///< [query tiles]: the lanes of which it computes nothing
  uint32_t* columns;  ///< [query tiles][head_dim_v]: the lanes of which it computes all but this column of out

  Misfits(const Problem& problem, const Tiling& tiling, WorkspaceCutter& cutter)
      : queries(cutter.take<uint32_t>(tiling.query_tiles())),
        columns(cutter.take<uint32_t>(tiling.query_tiles() * problem.head_dim_v)) {}
};

/// One worker's memory.
template <TileArithmetic Arithmetic>
struct Private {
  float* keys;      ///< packed, [block_keys]
  float* values;    ///< panels
  float* scores;    ///< of a visit
  float* packing;   ///< while keys are packed
  ListMemory list;  ///< [block_keys padded]
  float* rows;      ///< [lanes][max(head_dim, head_dim_v)], in float, between lanes and tensors
  TileState tiles[kMaxQueryTiles];

  Private(const Problem& problem, const Tiling& tiling, WorkspaceCutter& cutter) {
    constexpr int64_t kLanes = Arithmetic::kLanes;
    keys = cutter.take<float>(Arithmetic::block_rows(tiling.block_keys) * Arithmetic::key_floats(problem.head_dim));
    values = cutter.take<float>(Arithmetic::panel_floats(tiling.block_keys, problem.head_dim_v));
    scores = cutter.take<float>(Arithmetic::score_floats(tiling.block_keys));
    packing = cutter.take<float>(Arithmetic::packing_floats(problem.head_dim, problem.head_dim_v));
    list = take_list(problem, tiling.block_keys + Arithmetic::kRows, cutter);
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
                       const tile::SuperTile& super, const Private<Arithmetic>& mine, const Misfits* misfits)
      : problem_(call.problem),
        tiling_(call.tiling),
        in_(call.in),
        biases_(biases),
        super_(super),
        mine_(mine),
        misfits_(misfits),
        scales_(problem_),
        block_{mine.keys, mine.values, Arithmetic::panel_stride(tiling_.block_keys)},
        walk_(problem_, tiling_, shape, biases.places, in_, super, mine.list) {}

  /// An arithmetic that takes all numbers stores all results, or misfits alone. Another one stores what it can, and
  /// fills the misfits in: returns whether there are any.
  bool HWY_ATTR Run(const Outputs& out) {
    if constexpr (!Arithmetic::kTakesAll) {
      std::fill_n(misfits_->columns, tiling_.query_tiles() * problem_.head_dim_v, 0u);
    }
    PackAllQueries();
    while (walk_.next_block()) {
      PackBlock();
      for (int64_t i = 0; i < walk_.tiles(); ++i) {
        const KeyList keys = walk_.keys_of(i);
        if (keys.count == 0) continue;
        if constexpr (!Arithmetic::kTakesAll) AddMisfits(i, keys);
        for (int64_t h = 0; h < tiling_.heads; ++h) {
          Arithmetic::Visit(scope_,
                            {block_,
                             problem_.head_dim,
                             problem_.head_dim_v,
                             keys,
                             {biases_.of(super_.head + h), scales_.of_products},
                             scales_.exponent,
                             values_finite_},
                            state(i, h), mine_.scores);
        }
      }
    }
    for (int64_t i = 0; i < walk_.tiles(); ++i) {
      for (int64_t h = 0; h < tiling_.heads; ++h) {
        uint32_t lanes = walk_.inside(i);
        if constexpr (!Arithmetic::kTakesAll) {
          uint32_t& misfits = misfits_->queries[number(i, h)];
          misfits |= SumsOutOfRange(state(i, h).sums);
          any_misfits_ = any_misfits_ || (misfits & lanes) != 0;
          lanes &= ~misfits;
        } else if (misfits_ != nullptr) {
          lanes &= misfits_->queries[number(i, h)];
        }
        StoreResults(out, i, h, lanes);
      }
    }
    return any_misfits_;
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
  int64_t number(int64_t i, int64_t head) const { return i * tiling_.heads + head; }
  const TileState& state(int64_t i, int64_t head) const { return mine_.tiles[number(i, head)]; }

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
    std::fill(m.maxima, m.maxima + Lanes, LaneBiases{biases_.of(super_.head + h)}.no_score());
    with_element_type(in_.q.type, [&](auto element) HWY_ATTR {
      using T = decltype(element);
      const auto q = in_.q.template as<T>();
      const auto k = in_.k.template as<T>();
      for (int lane = 0; lane < Lanes; ++lane) {
        const auto& [x1, x2, x3] = walk_.query(i, lane);
        row[lane] = AsFloats(q.row(super_.batch, x1, x2, x3, super_.head + h), dim, mine_.rows + lane * dim);
        if constexpr (!Arithmetic::kTakesAll) {
          // A query attends to itself: with its own score for a maximum no sum of weights is far below 1.
          const T* const key = k.row(super_.batch, x1, x2, x3, super_.head_kv);
          m.maxima[lane] = sign * scales_.of_products * DotOfRows(row[lane], key, dim);
        }
      }
    });
    std::fill(m.out, m.out + Lanes * mine_.padded_columns(problem_), 0.0f);
    std::fill(m.sums, m.sums + Lanes, 0.0f);
    const uint32_t misfits = Arithmetic::PackQueries(row, dim, sign, m.queries, mine_.packing);
    if constexpr (!Arithmetic::kTakesAll) misfits_->queries[number(i, h)] = misfits;
  }

  void HWY_ATTR PackBlock() {
    values_finite_ = true;
    misfit_keys_.clear();
    misfit_values_.clear();
    for (const tile::Segment& segment : walk_.segments()) {
      walk_.with_rows(segment, [&](const auto& rows) HWY_ATTR {
        const bool finite =
            Arithmetic::PackKeys(rows.key, rows.key_step, problem_.head_dim, rows.value, rows.value_step,
                                 problem_.head_dim_v, rows.count, segment.first, block_, mine_.packing);
        values_finite_ = values_finite_ && finite;
        if constexpr (!Arithmetic::kTakesAll) {
          if (!finite) FindMisfits(rows, segment.first);
        }
      });
    }
    Arithmetic::FinishBlock(walk_.used(), problem_.head_dim, problem_.head_dim_v, block_, mine_.packing);
  }

  /// Notes the rows of a block whose numbers the arithmetic does not take.
  template <class T>
  void FindMisfits(const KeyRows<T>& rows, int64_t first) {
    for (int64_t n = 0; n < rows.count; ++n) {
      if (!Arithmetic::fits(rows.key + n * rows.key_step, problem_.head_dim)) misfit_keys_.push_back(first + n);
      for (int64_t c = 0; c < problem_.head_dim_v; ++c) {
        if (!Arithmetic::fits(rows.value + n * rows.value_step + c, 1)) misfit_values_.push_back({first + n, c});
      }
    }
  }

  /// Adds the results of a query tile that depend on such rows of the block.
  void AddMisfits(int64_t i, const KeyList& keys) {
    for (int64_t h = 0; h < tiling_.heads; ++h) {
      for (const int64_t row : misfit_keys_) misfits_->queries[number(i, h)] |= keys.lanes[row];
      for (const auto& [row, column] : misfit_values_) {
        misfits_->columns[number(i, h) * problem_.head_dim_v + column] |= keys.lanes[row];
        any_misfits_ = any_misfits_ || (keys.lanes[row] & walk_.inside(i)) != 0;
      }
    }
  }

  /// The lanes whose sum of weights is so great that products with values may be infinite, or so small (by a bias: a
  /// query's own score alone weighs 1) that they may be subnormal, as bits.
  static uint32_t SumsOutOfRange(const float* sums) {
    uint32_t lanes = 0;
    for (int lane = 0; lane < Lanes; ++lane) {
      if (!(0x1p-24f <= sums[lane] && sums[lane] <= 0x1p60f)) lanes |= 1u << lane;
    }
    return lanes;
  }

  /// Stores the results of some lanes of a query tile, and misfit columns of others.
  void HWY_ATTR StoreResults(const Outputs& out, int64_t i, int64_t h, uint32_t lanes) {
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
    Token token[Lanes];
    float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      token[lane] = walk_.query(i, lane);
      const auto& [x1, x2, x3] = token[lane];
      row[lane] = in_place && (lanes >> lane & 1) != 0
                      ? out.out.template as<float>().row(super_.batch, x1, x2, x3, head)
                      : mine_.rows + lane * dim_v;
    }
    LanesToRows<Lanes>(m.out, dim_v, inverse, row);
    const TokenView<float> lse_of = out.lse.template as<float>();
    for (int lane = 0; lane < Lanes; ++lane) {
      if ((lanes >> lane & 1) == 0) continue;
      const auto& [x1, x2, x3] = token[lane];
      if (!in_place) StoreRow(out.out, super_.batch, token[lane], head, row[lane]);
      *lse_of.row(super_.batch, x1, x2, x3, head) = lse[lane];
    }
    if (Arithmetic::kTakesAll && misfits_ != nullptr) {
      for (int64_t c = 0; c < dim_v; ++c) {
        uint32_t asked = misfits_->columns[number(i, h) * dim_v + c] & walk_.inside(i);
        for (; asked != 0; asked &= asked - 1) {
          const int lane = std::countr_zero(asked);
          StoreElement(out.out, token[lane], head, c, m.out[c * Lanes + lane] * inverse[lane]);
        }
      }
    }
  }

  void StoreElement(const TensorView& tensor, const Token& token, int64_t head, int64_t c, float x) const {
    with_element_type(tensor.type, [&](auto element) {
      using T = decltype(element);
      tensor.as<T>().row(super_.batch, token, head)[c] = from_float<T>(x);
    });
  }

  const Problem& problem_;
  const Tiling& tiling_;
  const Inputs& in_;
  const tile::TileBiases& biases_;
  const tile::SuperTile& super_;
  const Private<Arithmetic>& mine_;
  const Misfits* const misfits_;
  const ScoreScales scales_;  ///< their sign is the queries'
  const Block block_;
  KeyWalk<Arithmetic> walk_;
  bool values_finite_ = true;  ///< of the block
  bool any_misfits_ = false;
  std::vector<int64_t> misfit_keys_;                        ///< rows of the block
  std::vector<std::pair<int64_t, int64_t>> misfit_values_;  ///< rows of the block, and columns
  typename Arithmetic::Scope scope_;
};

/// Calls body with a value of the arithmetic's type for the lanes of a tiling.
template <class Body>
void WithArithmetic(std::string_view name, const Tiling& tiling, const Body& body) {
#if HWY_TARGET == HWY_AVX3
  if (name == kBf16Dot) return tiling.lanes == 32 ? body(Bf16Arithmetic<32>()) : body(Bf16Arithmetic<16>());
  if (name == kBf16Amx) return body(MatrixArithmetic<AmxUnit, 1>());
  if (name == kF32Amx3) return body(MatrixArithmetic<AmxUnit, 3>());
#endif
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  if (name == kBf16AmxEmulated) return body(MatrixArithmetic<EmulatedUnit, 1>());
  if (name == kF32Amx3Emulated) return body(MatrixArithmetic<EmulatedUnit, 3>());
#endif
  static_cast<void>(name);
  tiling.lanes == 32 ? body(FloatArithmetic<32>()) : body(FloatArithmetic<16>());
}

/// What computes the queries whose numbers an arithmetic cannot take.
template <class Arithmetic>
using CarefulArithmetic = FloatArithmetic<Arithmetic::kLanes>;

template <class Arithmetic>
int64_t PrivateBytesOf(const Problem& problem, const Tiling& tiling) {
  const auto bytes = [&](auto a) {
    return carved_bytes([&](WorkspaceCutter& cutter) { Private<decltype(a)>(problem, tiling, cutter); });
  };
  if constexpr (Arithmetic::kTakesAll) return bytes(Arithmetic());
  return carved_bytes([&](WorkspaceCutter& cutter) { Misfits(problem, tiling, cutter); }) +
         std::max(bytes(Arithmetic()), bytes(CarefulArithmetic<Arithmetic>()));
}

int64_t PrivateBytes(std::string_view arithmetic, const Problem& problem, const Tiling& tiling) {
  int64_t bytes = 0;
  WithArithmetic(arithmetic, tiling, [&](auto a) { bytes = PrivateBytesOf<decltype(a)>(problem, tiling); });
  return bytes;
}

/// What the tasks of a call share.
struct ForwardShared {
  const ForwardCall& call;
  const tile::LaneShape shape;
  const tile::SuperTiles supers;
  const tile::TileBiases& biases;
};

/// Computes a super tile, or packs it; returns whether results are left out. misfits: see ForwardTask::Run; null: none.
template <class Arithmetic>
HWY_NOINLINE bool RunTask(const ForwardShared& shared, const tile::SuperTile& super, WorkspaceCutter cutter,
                          const Misfits* misfits) {
  const ForwardCall& call = shared.call;
  const Private<Arithmetic> mine(call.problem, call.tiling, cutter);
  ForwardTask<Arithmetic> task(call, shared.shape, shared.biases, super, mine, misfits);
  if (call.out != nullptr) return task.Run(*call.out);
  task.Pack();
  return false;
}

template <class Arithmetic>
void ForwardOf(const ForwardCall& call) {
  WorkspaceCutter cutter(call.execution.workspace.data());
  const tile::TileBiases biases(call.problem, call.tiling, cutter);
  biases.make(call.in.rpb, call.execution.workers);
  const WorkerMemory memory{call.execution.workspace.data() + cutter.size(),
                            PrivateBytesOf<Arithmetic>(call.problem, call.tiling)};
  const ForwardShared shared{call, tile::LaneShape(call.tiling.query), {call.problem, call.tiling}, biases};
  call.execution.workers.for_each(shared.supers.count(), [&](int64_t number, int worker) HWY_ATTR {
    const tile::SuperTile super = shared.supers.at(number);
    if (geometry::size(super.tokens) == 0) return;
    WorkspaceCutter mine = memory.of(worker);
    if constexpr (Arithmetic::kTakesAll) {
      RunTask<Arithmetic>(shared, super, mine, nullptr);
    } else {
      const Misfits misfits(call.problem, call.tiling, mine);
      if (!RunTask<Arithmetic>(shared, super, mine, &misfits)) return;
      ++tile::careful_tasks;
      RunTask<CarefulArithmetic<Arithmetic>>(shared, super, mine, &misfits);
    }
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
  return arithmetic.name == kF32Fma || arithmetic.name == kBf16Dot || arithmetic.parts(pass) > 0;
}

bool pays(const Arithmetic& arithmetic, const Problem& problem, Pass pass) {
  // Backward, dot products take whole groups of 32 keys, which small windows do not fill: docs/matrix_unit.md, "Dot
  // products of bf16".
  constexpr int64_t kLeastKeys = 64;
  return arithmetic.name != kBf16Dot || pass == Pass::forward || problem.keys_per_query() >= kLeastKeys;
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
  // On a unit, or what stands for one, keys come in groups.
  const int64_t pairs = choice.arithmetic->parts(choice.pass) > 0
                            ? choice.tiling->lanes * tile::visited_group_rows(problem, *choice.tiling, tile::kUnitStep)
                            : tuning::visited_pairs(problem, *choice.tiling);
  cost.executed_flops = problem.batch * problem.heads * pairs * problem.flops_per_pair(choice.pass);
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
      .pays = pays,
      .candidates =
          [](const Problem& problem, Pass pass, const Arithmetic& arithmetic, const Machine& machine,
             std::size_t most) {
            using geometry::KvTiling;
            auto tilings = tuning::candidates(problem, pass, arithmetic, KvTiling::dynamic_tiles, machine, most);
            const auto fixed =
                tuning::candidates(problem, pass, arithmetic, KvTiling::static_tiles, machine, most - tilings.size());
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
