// What oneDNN may not do here, and what it refuses.
#pragma once

#include <oneapi/dnnl/dnnl.hpp>
#include <string>

#include "core/error.h"
#include "core/simd/isa.h"
#include "core/tensor/element.h"
#include "models/layers/onednn.h"

namespace nalab::models {

/// oneDNN keeps to the instructions that the kernels keep to. It takes a limit only before its first use: throws Error
/// if there was another one.
void limit_instructions(Isa isa);

/// Calls f, which may use oneDNN, on one thread, once its instructions are limited. What oneDNN refuses is an Error,
/// and so is a type that models lack.
template <class F>
decltype(auto) with_onednn(ElementType type, const F& f) {
  if (type == ElementType::f16) throw Error("models compute in f32 and bf16, not in f16");
  const OneThread here;
  try {
    return f();
  } catch (const dnnl::error& error) {
    throw Error("oneDNN, in " + std::string(name(type)) + " on this CPU: " + error.message);
  }
}

}  // namespace nalab::models
