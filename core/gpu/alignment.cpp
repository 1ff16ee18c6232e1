#include "core/gpu/alignment.h"

#include <algorithm>
#include <cstdint>

#include "core/error.h"

namespace nalab::gpu {

void check_alignment(const TensorView& out) {
  constexpr int64_t kBytes = 16;
  const TokenStrides& s = out.strides;
  const int64_t elements = kBytes / size_of(out.type);
  const bool aligned = reinterpret_cast<std::uintptr_t>(out.data) % kBytes == 0;
  if (!aligned || s.heads % elements != 0 || (out.shape.batch > 1 && s.batch % elements != 0) ||
      std::ranges::any_of(s.layout, [&](int64_t stride) { return stride % elements != 0; })) {
    throw Error("out: its address and the strides of heads, tokens and batch must be multiples of 16 bytes");
  }
}

}  // namespace nalab::gpu
