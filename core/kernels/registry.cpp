#include "core/kernels/registry.h"

#include <array>
#include <limits>

#include "core/error.h"
#include "core/kernels/variants.h"

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

/// Seconds that one thread is expected to need.
double expected_seconds(const Variant& variant, const Problem& problem, Pass pass) {
  return static_cast<double>(make_plan(variant, problem, pass).executed_flops()) / variant.expected_flops_per_second;
}

}  // namespace

const Variant& best_variant(const Problem& problem, Pass pass) {
  if (is_split(pass)) {
    const Variant* best = nullptr;
    double least = std::numeric_limits<double>::infinity();
    for (const Variant& variant : variants()) {
      if (variant.is_oracle || variant.supports(problem, pass)) continue;
      const double seconds = expected_seconds(variant, problem, pass);
      if (seconds >= least) continue;
      least = seconds;
      best = &variant;
    }
    return *best;
  }
  for (const Variant& variant : variants()) {
    if (!variant.supports(problem, pass)) return variant;
  }
  throw Error("no variant computes the " + std::string(name(pass)) + " pass of this problem");
}

}  // namespace nalab
