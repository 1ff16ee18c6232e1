// Refusal of tensors that do not fit a call.
#pragma once

#include <string_view>

#include "core/tensor/tensor.h"

namespace nalab {

/// Throws Error that names the tensor if it is missing or has another shape or element type.
void check_input(std::string_view tensor, const ConstTensorView& view, const TokenShape& shape, ElementType type);
/// As check_input; results may also be f32.
void check_output(std::string_view tensor, const ConstTensorView& view, const TokenShape& shape, ElementType type);

}  // namespace nalab
