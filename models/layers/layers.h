// The operations of a graph as steps of a program: oneDNN where it has them, nalab for attention.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/geometry/axis.h"
#include "core/parallel.h"
#include "core/simd/isa.h"
#include "core/tensor/buffer.h"
#include "core/tensor/element.h"
#include "models/graph.h"
#include "models/layers/onednn.h"
#include "models/weights.h"

namespace nalab::models {

/// What the steps of a program share.
struct Backend {
  Workers& workers;
  std::string variant;  ///< of the attention step that is being made
  std::optional<Isa> isa = {};
  std::string arithmetic = {};  ///< of attention
  OneDnn onednn{workers.threads()};
  AlignedBuffer<std::byte> workspace = {};  ///< of the attention step that needs most

  void reserve(int64_t bytes);
};

/// One value of a batch: contiguous, channels last, in the program's memory.
struct Buffer {
  std::byte* data = nullptr;
  ElementType type = ElementType::f32;
  int64_t batch = 1;
  Extent extent;

  int64_t tokens() const { return batch * extent.tokens(); }
  int64_t elements() const { return batch * extent.elements(); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  /// First byte of an element.
  std::byte* at(int64_t element) const { return data + element * size_of(type); }
};

/// What a step is made of. Buffers, backend and constants outlive it; weights are copied.
struct Site {
  Backend& backend;
  const Weights& weights;
  Constants& constants;
  std::vector<Buffer> inputs;
  Buffer output;

  const Buffer& x() const { return inputs.front(); }
  const std::vector<float>& parameter(const std::string& name) const { return weights.at(name); }
  /// A parameter as a row of numbers.
  memory row(const std::string& name, int rank = 1) const {
    return constants.row([name](const Weights& w) { return w.at(name); }, rank);
  }
};

/// Copies numbers to a buffer, rounded to its type.
void set_values(const Buffer& buffer, std::span<const float> values);

/// Some rows of gamma * weight_factor * W, those of some outputs: [rows, in].
std::vector<float> scaled_weight(const Linear& linear, const Weights& weights, geometry::Range rows, int64_t in);

/// Computes the output from the inputs; throws dnnl::error.
using Step = std::function<void()>;

Step make_step(const Input& input, const Site& site);
Step make_step(const Convolution& convolution, const Site& site);
Step make_step(const Linear& linear, const Site& site);
Step make_step(const Gelu& gelu, const Site& site);
Step make_step(const LayerNorm& norm, const Site& site);
Step make_step(const Attention& attention, const Site& site);
Step make_step(const MergePatches& merge, const Site& site);
Step make_step(const Mean& mean, const Site& site);
Step make_step(const Constant& constant, const Site& site);
Step make_step(const PixelNorm& norm, const Site& site);
Step make_step(const InstanceNorm& norm, const Site& site);
Step make_step(const Upsample& upsample, const Site& site);
Step make_step(const AddPositions& positions, const Site& site);
Step make_step(const UpsampleByFilter& upsample, const Site& site);

/// make(T{}) with the element type of a buffer: float or bf16.
template <class Make>
Step for_type(const Buffer& buffer, const Make& make) {
  if (buffer.type == ElementType::bf16) return make(bf16{});
  return make(float{});
}

/// A whole cut into equal pieces of about `wanted`, the last one possibly smaller.
struct Cut {
  int64_t whole = 0, piece = 1;

  static Cut about(int64_t whole, int64_t wanted) {
    const int64_t pieces = (whole + wanted - 1) / wanted;
    return {whole, (whole + pieces - 1) / pieces};
  }
  int64_t pieces() const { return (whole + piece - 1) / piece; }
  int64_t first(int64_t i) const { return i * piece; }
  int64_t size(int64_t i) const { return std::min(piece, whole - first(i)); }
};

}  // namespace nalab::models
