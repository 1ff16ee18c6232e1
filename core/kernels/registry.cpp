#include "core/kernels/registry.h"

#include <array>

#include "core/error.h"
#include "core/kernels/variants.h"
#include "core/tuning/cost_model.h"

namespace nalab {

std::span<const Variant> variants() {
  static const std::array list{fused::variant(), dense::variant(), gemm::variant(), naive::variant(),
                               reference::variant()};
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

/// Whether gemm's tiles pay in a split operator, or naive is faster: docs/performance.md, "The weights themselves".
bool tiles_pay(const Problem& problem, Pass pass) {
  // Sums of values gain least: naive's operands stay in the cache.
  if (pass == Pass::values) return problem.keys_per_query() >= 512;
  if (problem.rank() == 1 || problem.keys_per_query() >= 128) return true;
  const Tiling tiling = find_variant("gemm").candidates(problem, pass, host_machine(), 1).front();
  return 2 * tuning::visited_pairs(problem, tiling) < 3 * problem.attended_pairs();
}

}  // namespace

const Variant& best_variant(const Problem& problem, Pass pass) {
  if (is_split(pass)) return find_variant(tiles_pay(problem, pass) ? "gemm" : "naive");
  for (const Variant& variant : variants()) {
    if (!variant.supports(problem, pass)) return variant;
  }
  throw Error("no variant computes the " + std::string(name(pass)) + " pass of this problem");
}

}  // namespace nalab
