// gemm: neighborhood attention as batched matrix products, unfused: Faster NA (2403.04690) section 3.2, for CPUs, and
// beyond it for three axes.
//
// Queries are cut into multi-dimensional tiles; the keys that a tile attends to are its haloed key tile. Three passes
// over the whole problem, one after the other: PN multiplies each query tile with its haloed keys and scatters the
// attended scores to the rows of weights in memory; the softmax runs over those rows; NN gathers them into the tile
// again, zero where a query does not attend, and multiplies with the haloed values. Tile shapes and tile products are
// those of fused, so that what differs between the two is the way the weights take through memory.
//
// The backward pass makes the weights again, has PN multiply dout with the values to a second set of rows, turns these
// into the gradients of the scores, and has NN multiply them with the keys for dq. For dk and dv, IN cuts the keys into
// tiles and multiplies each with its haloed queries: the inverse neighborhood.
//
// On a matrix unit the products alone are the unit's: weights stay floats in memory. Results that depend on numbers
// which the unit cannot take are computed again, in float; others keep their bits.
#include "core/kernels/gemm/workspace.h"
#include "core/kernels/tile/super_tiles.h"
#include "core/kernels/variants.h"
#include "core/tuning/cost_model.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/gemm/gemm.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <algorithm>
#include <cmath>
#include "core/kernels/gemm/inverse_tile-inl.h"
#include "core/kernels/gemm/super_tile-inl.h"
#include "core/kernels/unfused/extra_tokens-inl.h"
#include "core/kernels/unfused/passes-inl.h"

#ifndef NALAB_CORE_KERNELS_GEMM_ONCE
#define NALAB_CORE_KERNELS_GEMM_ONCE

namespace nalab::gemm {

/// (key lane, query) pairs that the tiles of keys of one head of one batch entry visit in IN; extra tokens not counted.
inline int64_t inverse_visited_pairs(const Problem& problem, const Tiling& tiling) {
  const auto axes = problem.axes3();
  int64_t pairs = tiling.lanes;
  for (int i = 0; i < geometry::kAxes; ++i) {
    int64_t queries = 0;
    for (int64_t group = 0; group < axes[i].dilation; ++group) {
      const geometry::AxisMask mask = axes[i].group_mask(group);
      const geometry::TileAxis cut{mask.length, tiling.query[i]};
      for (int64_t tile = 0; tile < cut.count(); ++tile) queries += mask.queries_of_any(cut.range(tile)).size();
    }
    pairs *= queries;
  }
  return pairs;
}

/// Whether a matrix unit takes the gradients of scores, which are scaled before they are multiplied.
inline bool gradients_in_range(const Plan& plan) {
  const double scale = std::abs(plan.problem().effective_scale());
  return plan.pass() == Pass::forward || (0x1p-20 <= scale && scale <= 0x1p20);
}

}  // namespace nalab::gemm

#endif  // NALAB_CORE_KERNELS_GEMM_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::gemm::HWY_NAMESPACE {

/// Calls body(super tile, worker) for all super tiles.
template <class Body>
void ForEachSuperTile(const tile::SuperTiles& supers, Workers& workers, const Body& body) {
  workers.for_each(supers.count(), [&](int64_t task, int worker) {
    const tile::SuperTile super = supers.at(task);
    if (geometry::size(super.tokens) > 0) body(super, worker);
  });
}

/// What computes the results that operators leave out.
template <class Operators>
using CarefulOperators = FloatOperators<Operators::kLanes>;

template <class Operators>
ProductFloats FloatsOf(const Problem& problem, const Tiling& tiling) {
  const int64_t dim = std::max(problem.head_dim, problem.head_dim_v);
  return Operators::floats(dim, tiling).with(CarefulOperators<Operators>::floats(dim, tiling));
}

/// The operators over the whole problem.
template <class T, class Operators>
class Products {
 public:
  Products(const Plan& plan, const Execution& execution)
      : problem_(plan.problem()),
        tiling_(plan.tiling()),
        workers_(execution.workers),
        workspace_(problem_, plan.pass(), tiling_, FloatsOf<Operators>(problem_, tiling_), execution.workspace.data()),
        shape_(tiling_.query) {}

  const StoredWeights& stored() const { return workspace_.stored(); }

  void PointwiseNeighborhood(const TokenView<const T>& queries, const TokenView<const T>& keys,
                             const TokenView<const T>& extra, float factor, const BiasTables& biases,
                             const WeightRows& rows) const {
    ForEachSuperTile({problem_, tiling_}, workers_, [&](const tile::SuperTile& super, int worker) {
      Compute(worker, [&](auto operators, Misfits* misfits) {
        SuperTile<T, decltype(operators)>(problem_, tiling_, shape_, workspace_, worker, super, misfits)
            .PointwiseNeighborhood(queries, keys, extra, factor, biases, rows);
      });
    });
  }

  void NeighborhoodNeighborhood(const ConstWeightRows& rows, const TokenView<const T>& values,
                                const TokenView<const T>& extra, const TensorView& sums) const {
    ForEachSuperTile({problem_, tiling_}, workers_, [&](const tile::SuperTile& super, int worker) {
      Compute(worker, [&](auto operators, Misfits* misfits) {
        SuperTile<T, decltype(operators)>(problem_, tiling_, shape_, workspace_, worker, super, misfits)
            .NeighborhoodNeighborhood(rows, values, extra, sums);
      });
    });
  }

  void InverseNeighborhood(const ConstWeightRows& rows, const TokenView<const T>& queries, const TensorView& sums,
                           const TensorView& extra_sums) const {
    const auto supers = tile::SuperTiles::of_keys(problem_, tiling_);
    ForEachSuperTile(supers, workers_, [&](const tile::SuperTile& super, int worker) {
      Compute(worker, [&](auto operators, Misfits* misfits) {
        InverseTile<T, decltype(operators)>(problem_, tiling_, workspace_, worker, super, misfits)
            .InverseNeighborhood(rows, queries, sums);
      });
    });
    unfused::HWY_NAMESPACE::ExtraNeighborhood(problem_, queries, rows, stored().extra, stored().partial, extra_sums,
                                              workers_);
  }

 private:
  /// Has a task computed by the operators, and in float what they leave out. task(operators, misfits)
  template <class Task>
  void Compute(int worker, const Task& task) const {
    if constexpr (Operators::kTakesAll) {
      task(Operators(), nullptr);
    } else {
      const int64_t tiles = tiling_.query_tiles();
      Misfits misfits{workspace_.of(worker).misfits, std::max(problem_.head_dim, problem_.head_dim_v)};
      misfits.clear(tiles);
      task(Operators(), &misfits);
      if (!misfits.any(tiles)) return;
      ++tile::careful_tasks;
      task(CarefulOperators<Operators>(), &misfits);
    }
  }

  const Problem& problem_;
  const Tiling& tiling_;
  Workers& workers_;
  const Workspace workspace_;
  const tile::LaneShape shape_;
};

/// Calls body with a value of the type of the operators of an arithmetic on elements T.
template <class T, class Body>
void WithOperators(std::string_view name, const Tiling& tiling, const Body& body) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (std::is_same_v<T, bf16>) {
    if (name == kBf16Amx) return body(MatrixOperators<simd::HWY_NAMESPACE::AmxUnit, 1>());
  } else if constexpr (std::is_same_v<T, float>) {
    if (name == kF32Amx3) return body(MatrixOperators<simd::HWY_NAMESPACE::AmxUnit, 3>());
  }
#endif
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  if constexpr (std::is_same_v<T, bf16>) {
    if (name == kBf16AmxEmulated) return body(MatrixOperators<simd::HWY_NAMESPACE::EmulatedUnit, 1>());
  } else if constexpr (std::is_same_v<T, float>) {
    if (name == kF32Amx3Emulated) return body(MatrixOperators<simd::HWY_NAMESPACE::EmulatedUnit, 3>());
  }
#endif
  static_cast<void>(name);
  tiling.lanes == 32 ? body(FloatOperators<32>()) : body(FloatOperators<16>());
}

void Run(const Plan& plan, const unfused::Call& call, const Execution& execution) {
  with_element_type(plan.problem().type, [&](auto element) {
    using T = decltype(element);
    const std::string_view arithmetic = gradients_in_range(plan) ? plan.arithmetic().name : kF32Fma;
    WithOperators<T>(arithmetic, plan.tiling(), [&](auto operators) {
      const Products<T, decltype(operators)> products(plan, execution);
      unfused::HWY_NAMESPACE::Passes<T, Products<T, decltype(operators)>>(plan, products, execution.workers).Run(call);
    });
  });
}

/// What a worker keeps for products.
ProductFloats ProductMemory(std::string_view arithmetic, const Problem& problem, const Tiling& tiling) {
  ProductFloats floats;
  with_element_type(problem.type, [&](auto element) {
    WithOperators<decltype(element)>(arithmetic, tiling,
                                     [&](auto operators) { floats = FloatsOf<decltype(operators)>(problem, tiling); });
  });
  return floats;
}

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::gemm {

namespace {

void run(const Plan& plan, const unfused::Call& call, const Execution& execution) {
  NALAB_SELECT(plan.isa(), Run)(plan, call, execution);
}

/// Channels of all products with tiles of queries, and with tiles of keys.
struct Channels {
  int64_t of_queries = 0, of_keys = 0;
};

Channels channels(const Problem& p, Pass pass) {
  const int64_t k = p.head_dim, v = p.head_dim_v;
  switch (pass) {
    case Pass::forward:
      return {k + v, 0};
    case Pass::backward:
      return {2 * k + v, k + v};
    case Pass::weights:
      return {k, 0};
    case Pass::weights_backward:
      return {k, k};
    case Pass::values:
      return {v, 0};
    case Pass::values_backward:
      return {v, v};
  }
  return {};
}

PlanCost cost(const PlanChoice& choice) {
  const Problem& p = choice.problem;
  const Tiling& tiling = *choice.tiling;
  const ProductFloats floats = NALAB_SELECT(choice.isa, ProductMemory)(choice.arithmetic->name, p, tiling);
  const Channels channels = gemm::channels(p, choice.pass);
  const int64_t products = tuning::visited_pairs(p, tiling) * channels.of_queries +
                           (inverse_visited_pairs(p, tiling) + p.tokens() * p.extra_tokens) * channels.of_keys;
  return {
      .shared_bytes = carved_bytes([&](WorkspaceCutter& cutter) { stored_weights(p, choice.pass, cutter); }),
      .bytes_per_worker =
          carved_bytes([&](WorkspaceCutter& cutter) { cut_private(p, choice.pass, tiling, floats, cutter); }),
      .executed_flops = 2 * p.batch * p.heads * products,
  };
}

}  // namespace

Variant variant() {
  return {
      .name = "gemm",
      .paper_term = "GEMM-based NA (Faster NA, section 3.2)",
      .summary =
          "Matrix products of query tiles with haloed key tiles, unfused: the weights of all queries are stored.",
      .expected_flops_per_second = 50e9,
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; },
      // The split operators take weights of any size.
      .takes =
          [](const Arithmetic& arithmetic, Pass pass) {
            return arithmetic.name == kF32Fma || (!is_split(pass) && arithmetic.parts(Pass::forward) > 0);
          },
      // Both passes are made of the same operators, and so are their tiles.
      .candidates =
          [](const Problem& problem, Pass, const Arithmetic& arithmetic, const Machine& machine, std::size_t most) {
            return tuning::candidates(problem, Pass::forward, arithmetic, geometry::KvTiling::dynamic_tiles, machine,
                                      most);
          },
      .cost = cost,
      .forward = unfused::forward<run>,
      .backward = unfused::backward<run>,
      .split = &unfused::kSplitOperators<run>,
  };
}

}  // namespace nalab::gemm
#endif  // HWY_ONCE
