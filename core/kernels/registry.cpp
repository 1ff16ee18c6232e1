#include "core/kernels/registry.h"

#include <algorithm>
#include <array>
#include <limits>

#include "core/error.h"
#include "core/kernels/banded/strips.h"
#include "core/kernels/variants.h"
#include "core/tuning/cost_model.h"

namespace nalab {

std::span<const Variant> variants() {
  static const std::array list{fused::variant(), banded::variant(),    dense::variant(),  gemm::variant(),
                               naive::variant(), reference::variant(), hopper::variant(), hopper::dense_variant()};
  return list;
}

const Variant& find_variant(std::string_view name) {
  std::string names;
  for (const Variant& variant : variants()) {
    if (variant.name == name) return variant;
    names += (names.empty() ? "" : ", ") + std::string(variant.name);
  }
  throw Error("variant '" + std::string(name) + "' is none of " + names);
}

namespace {

/// Keys of a query up to which banded is faster than tiles of bf16: docs/matrix_unit.md for banded in float, and
/// docs/small_windows.md, "On the matrix unit".
int64_t most_keys_beside_matrix_unit(const Problem& problem, Pass pass) {
  const int64_t dim = std::max(problem.head_dim, problem.head_dim_v);
  const Variant& banded = find_variant("banded");
  const Arithmetic& unit = find_arithmetic(kBf16Amx);
  if (problem.rank() == 1) return 48;
  if (banded.takes(unit, pass) && banded.pays(unit, problem, pass)) {
    if (problem.is_self_attention()) return dim > 32 ? 144 : 200;  // tiles waste nothing
    return dim > 32 ? 169 : 343;
  }
  return dim > 64 ? 64 : dim > 32 ? 100 : 150;
}

/// The same for tiles of dot products: "Dot products of bf16" there. Backward they are not far ahead of floats.
int64_t most_keys_beside_dot_products(const Problem& problem, Pass pass) {
  const int64_t dim = std::max(problem.head_dim, problem.head_dim_v);
  if (pass == Pass::backward) return 216;
  if (problem.rank() == 1) return 24;
  return dim > 64 ? 100 : dim > 32 ? 144 : 289;
}

int64_t most_keys_beside(std::string_view tiles, const Problem& problem, Pass pass) {
  if (tiles == kBf16Amx) return most_keys_beside_matrix_unit(problem, pass);
  if (tiles == kBf16Dot) return most_keys_beside_dot_products(problem, pass);
  return std::numeric_limits<int64_t>::max();
}

/// Whether the pairs that tiles compute for one that attends, times the share of the lanes of strips that have a query,
/// are more than `least`: where axes are short, tiles waste little, and strips of few heads are not full.
bool gains_in_pairs(const Problem& problem, Pass pass, double least) {
  const banded::LaneOrder order(problem, banded::kMaxLanes);
  const double share = static_cast<double>(order.lanes()) / static_cast<double>(order.strips() * banded::kMaxLanes);
  // Tiles compute all pairs that attend, at least. To count them takes longer than all the rest of a plan.
  if (share > least) return true;
  const Tiling tiling =
      find_variant("fused").candidates(problem, pass, find_arithmetic(kF32Fma), host_machine(), 1).front();
  return share * static_cast<double>(tuning::visited_pairs(problem, tiling)) /
             static_cast<double>(problem.attended_pairs()) >
         least;
}

/// Whether banded is faster than fused, as far as it was measured: docs/small_windows.md, "Where bands end". Its rate
/// hardly depends on the window, and that of tiles grows with it.
bool bands_pay(const Problem& problem, Pass pass, std::string_view tiles) {
  if (find_variant("banded").supports(problem, pass)) return false;
  const bool backward = pass == Pass::backward, wide = std::max(problem.head_dim, problem.head_dim_v) > 64;
  const int64_t keys = problem.keys_per_query() - problem.extra_tokens;
  if (problem.extra_tokens > 2 * keys) return false;
  if (keys > most_keys_beside(tiles, problem, pass)) return false;
  // Where queries share windows, tiles waste little.
  const auto shares = [](const Axis& axis) { return axis.stride > 1 && 4 * axis.stride > axis.window; };
  if (std::ranges::any_of(problem.axes, shares)) return keys <= 64;
  if (problem.rank() == 1) return keys <= (backward ? 33 : 64);
  const bool space = problem.rank() == 3;
  const int64_t most = backward && !space ? (wide ? 169 : 289) : wide ? (backward ? 125 : 216) : 343;
  return keys <= most && gains_in_pairs(problem, pass, backward && space ? 1.05 : 0.8);
}

/// Whether naive is faster than banded, backward: wide rows of few keys, of which bands make little.
bool rows_pay(const Problem& problem, Pass pass) {
  return pass == Pass::backward && std::min(problem.head_dim, problem.head_dim_v) >= 256 &&
         problem.heads == problem.heads_kv && problem.keys_per_query() <= 32;
}

/// Whether gemm's tiles pay in a split operator, or naive is faster: docs/performance.md, "The weights themselves".
bool tiles_pay(const Problem& problem, Pass pass) {
  // Sums of values gain least: naive's operands stay in the cache.
  if (pass == Pass::values) return problem.keys_per_query() >= 512;
  if (problem.rank() == 1 || problem.keys_per_query() >= 128) return true;
  const Tiling tiling =
      find_variant("gemm").candidates(problem, pass, find_arithmetic(kF32Fma), host_machine(), 1).front();
  return 2 * tuning::visited_pairs(problem, tiling) < 3 * problem.attended_pairs();
}

}  // namespace

const Variant& best_variant(const Problem& problem, Pass pass, bool tiled, std::string_view tiles) {
  if (is_split(pass)) return find_variant(tiled || tiles_pay(problem, pass) ? "gemm" : "naive");
  if (!tiled && rows_pay(problem, pass)) return find_variant("naive");
  if (!tiled && bands_pay(problem, pass, tiles)) return find_variant("banded");
  for (const Variant& variant : variants()) {
    if (variant.device != Device::cpu || (tiled && variant.candidates == nullptr)) continue;
    if (!variant.supports(problem, pass)) return variant;
  }
  throw Error("no variant computes the " + std::string(name(pass)) + " pass of this problem");
}

}  // namespace nalab
