#include "core/tensor/check.h"

#include <string>

#include "core/error.h"

namespace nalab {

namespace {

std::string text(const TokenShape& s) {
  std::string layout;
  for (int64_t extent : s.layout) layout += ", " + std::to_string(extent);
  return "[" + std::to_string(s.batch) + layout + ", " + std::to_string(s.heads) + ", " + std::to_string(s.dim) + "]";
}

void check(std::string_view tensor, const ConstTensorView& view, const TokenShape& shape, ElementType type,
           bool or_f32) {
  const std::string subject = "tensor " + std::string(tensor);
  if (!view.present()) throw Error(subject + " is missing");
  if (view.shape != shape) throw Error(subject + " has shape " + text(view.shape) + ", must be " + text(shape));
  if (view.type != type && !(or_f32 && view.type == ElementType::f32)) {
    throw Error(subject + " is " + std::string(name(view.type)) + ", must be " + std::string(name(type)) +
                (or_f32 && type != ElementType::f32 ? " or f32" : ""));
  }
}

}  // namespace

void check_input(std::string_view tensor, const ConstTensorView& view, const TokenShape& shape, ElementType type) {
  check(tensor, view, shape, type, false);
}

void check_output(std::string_view tensor, const ConstTensorView& view, const TokenShape& shape, ElementType type) {
  check(tensor, view, shape, type, true);
}

}  // namespace nalab
