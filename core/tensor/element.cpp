#include "core/tensor/element.h"

#include <string>

#include "core/error.h"

namespace nalab {

std::string_view name(ElementType type) {
  switch (type) {
    case ElementType::bf16:
      return "bf16";
    case ElementType::f16:
      return "f16";
    case ElementType::f32:
      break;
  }
  return "f32";
}

ElementType parse_element_type(std::string_view text) {
  for (ElementType type : {ElementType::f32, ElementType::bf16, ElementType::f16}) {
    if (text == name(type)) return type;
  }
  throw Error("element type '" + std::string(text) + "' is none of f32, bf16, f16");
}

}  // namespace nalab
