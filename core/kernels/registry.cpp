#include "core/kernels/registry.h"

#include <array>

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

const Variant& best_variant(const Problem& problem, Pass pass) {
  for (const Variant& variant : variants()) {
    if (!variant.supports(problem, pass)) return variant;
  }
  throw Error("no variant computes the " + std::string(name(pass)) + " pass of this problem");
}

}  // namespace nalab
