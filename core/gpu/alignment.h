// Where a kernel can store its results.
#pragma once

#include "core/tensors.h"

namespace nalab::gpu {

/// Throws Error unless 16 bytes of a row can be stored at once wherever 16 bytes of a row of `out` begin: its address
/// and the strides of heads, tokens and, with several of them, batch entries are multiples of 16 bytes.
void check_alignment(const TensorView& out);

}  // namespace nalab::gpu
