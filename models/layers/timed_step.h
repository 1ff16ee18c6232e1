// What programs and trainers share: their buffers, and steps that are timed and may come in several variants.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "models/layers/layers.h"
#include "models/program.h"

namespace nalab::models {

inline double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The values of a graph, yet without memory.
inline std::vector<Buffer> buffers_of(const Graph& graph, int64_t batch, ElementType type) {
  std::vector<Buffer> buffers;
  for (const Node& node : graph.nodes()) {
    buffers.push_back({nullptr, node.precision == Precision::full ? ElementType::f32 : type, batch, node.extent});
  }
  return buffers;
}

inline std::vector<int64_t> bytes_of(const std::vector<Buffer>& buffers) {
  std::vector<int64_t> bytes;
  for (const Buffer& buffer : buffers) bytes.push_back(buffer.elements() * size_of(buffer.type));
  return bytes;
}

/// All bits set: no number in float32, nor in bf16.
inline void make_no_numbers(AlignedBuffer<std::byte>& memory) {
  std::fill_n(memory.data(), memory.size(), std::byte{0xFF});
}

/// A step, in as many forms as there are variants of attention if it is attention.
struct TimedStep {
  std::vector<Step> forms;
  bool is_attention = false;

  void run(std::size_t variant, Seconds& seconds) const {
    if (!is_attention) return forms.front()();
    const double start = steady_seconds();
    forms[variant]();
    seconds.attention += steady_seconds() - start;
  }
};

/// The step that make() gives; of attention for each variant, to which it sets the backend's. Throws Error if there is
/// no variant.
template <class Make>
TimedStep for_each_variant(bool is_attention, const std::vector<std::string>& variants, Backend& backend,
                           const Make& make) {
  if (variants.empty()) throw Error("there must be at least one variant of attention");
  TimedStep step{{}, is_attention};
  for (std::size_t i = 0; i < (is_attention ? variants.size() : 1); ++i) {
    backend.variant = variants[i];
    step.forms.push_back(make());
  }
  return step;
}

}  // namespace nalab::models
