// Rows of floats to tensors of any element type, by vectors.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/geometry/token.h"
#include "core/simd/convert-inl.h"
#include "core/tensor/tensor.h"

#if defined(NALAB_CORE_KERNELS_TILE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_ROWS_INL_H_
#undef NALAB_CORE_KERNELS_TILE_ROWS_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_ROWS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

/// target[c] = x[c], rounded, for c in [0, n).
struct RoundRow {
  template <class T>
  HWY_ATTR void operator()(const float* x, int64_t n, T* target) const {
    if constexpr (std::is_same_v<T, float>) {
      std::copy_n(x, n, target);
    } else {
      simd::HWY_NAMESPACE::CopyFromFloats(x, n, target);
    }
  }
};

/// nalab::store_row.
inline void HWY_ATTR StoreRow(const TensorView& tensor, int64_t batch, const geometry::Token& token, int64_t head,
                              const float* values) {
  with_element_type(tensor.type, [&](auto element) HWY_ATTR {
    RoundRow()(values, tensor.shape.dim, tensor.as<decltype(element)>().row(batch, token, head));
  });
}

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_TILE_ROWS_INL_H_
