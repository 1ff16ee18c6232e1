#include "core/kernels/registry.h"

#include <array>

#include "core/error.h"
#include "core/kernels/variants.h"

namespace nalab {

std::span<const Variant> variants() {
  static const std::array list{reference::variant(), dense::variant(), naive::variant(),
                               gemm::variant(),      fused::variant(), fused::static_variant()};
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

}  // namespace nalab
