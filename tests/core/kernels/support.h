// What the tests of the kernels share: random inputs, guarded and strided memory, running a variant.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstring>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "core/kernels/attention.h"
#include "core/kernels/registry.h"

namespace nalab {

// Found by GoogleTest, which prints the bytes of what it does not know.
inline void PrintTo(const Problem& problem, std::ostream* out) { *out << problem.id(); }
inline void PrintTo(ElementType type, std::ostream* out) { *out << name(type); }

}  // namespace nalab

namespace nalab::test {

/// The id of a problem, as far as it can be part of a test's name: letters, digits and underscores.
inline std::string test_name(const Problem& problem) {
  std::string text = problem.id();
  for (char& c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return text;
}

inline constexpr std::array kElementTypes{ElementType::f32, ElementType::bf16, ElementType::f16};

/// The instruction sets that this CPU can run.
inline std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (Isa isa : all_isas()) {
    if (cpu_supports(isa)) isas.push_back(isa);
  }
  return isas;
}

/// Calls f(row, b, x1, x2, x3, h) for every row of `dim` adjacent elements, in row-major order.
template <class T, class F>
void for_each_row(const TokenView<T>& view, F f) {
  for (int64_t b = 0; b < view.shape.batch; ++b) {
    for (int64_t x1 = 0; x1 < view.shape.layout[0]; ++x1) {
      for (int64_t x2 = 0; x2 < view.shape.layout[1]; ++x2) {
        for (int64_t x3 = 0; x3 < view.shape.layout[2]; ++x3) {
          for (int64_t h = 0; h < view.shape.heads; ++h) f(view.row(b, x1, x2, x3, h), b, x1, x2, x3, h);
        }
      }
    }
  }
}

/// All elements in row-major order.
inline std::vector<double> to_double(const ConstTensorView& view) {
  std::vector<double> values;
  with_element_type(view.type, [&](auto element) {
    for_each_row(view.as<decltype(element)>(), [&](const auto* row, auto...) {
      for (int64_t c = 0; c < view.shape.dim; ++c) values.push_back(static_cast<double>(to_float(row[c])));
    });
  });
  return values;
}

/// Rounds x into one element; i counts in row-major order of a contiguous tensor.
inline void set(Tensor& tensor, int64_t i, double x) {
  with_element_type(tensor.type(), [&](auto element) {
    using T = decltype(element);
    tensor.data<T>()[i] = from_float<T>(static_cast<float>(x));
  });
}

/// Flat index of the first element of a row of a contiguous tensor.
inline int64_t row_index(const TokenShape& shape, int64_t b, const std::array<int64_t, 3>& x, int64_t h) {
  return (((b * shape.layout[0] + x[0]) * shape.layout[1] + x[1]) * shape.layout[2] + x[2]) * shape.heads * shape.dim +
         h * shape.dim;
}

/// Normally distributed elements, rounded to the type.
inline Tensor random_tensor(ElementType type, const TokenShape& shape, std::mt19937_64& random) {
  Tensor tensor(type, shape);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < tensor.elements(); ++i) set(tensor, i, normal(random));
  return tensor;
}

/// Owned inputs of a problem; equal seeds give equal tensors.
struct Data {
  Tensor q, k, v, extra_k, extra_v, dout;

  Data(const Problem& p, uint64_t seed) {
    std::mt19937_64 random(seed);
    q = random_tensor(p.type, q_shape(p), random);
    k = random_tensor(p.type, k_shape(p), random);
    v = random_tensor(p.type, v_shape(p), random);
    dout = random_tensor(p.type, out_shape(p), random);
    if (p.extra_tokens > 0) {
      extra_k = random_tensor(p.type, extra_k_shape(p), random);
      extra_v = random_tensor(p.type, extra_v_shape(p), random);
    }
  }

  Inputs inputs() const { return {q.view(), k.view(), v.view(), extra_k.view(), extra_v.view()}; }
};

/// Memory between two guards that nobody may touch. All of it starts as bytes 0xFF, which are NaN in every type: memory
/// that is read before it is written shows, and so does memory that is never written.
class GuardedMemory {
 public:
  explicit GuardedMemory(int64_t size) : size_(size), memory_(size + 2 * kGuard) {
    std::fill(memory_.begin(), memory_.end(), std::byte{0xFF});
  }
  std::span<std::byte> bytes() { return {memory_.data() + kGuard, static_cast<std::size_t>(size_)}; }
  /// Whether the guards are as they were.
  bool intact() const {
    const auto untouched = [](std::byte b) { return b == std::byte{0xFF}; };
    return std::all_of(memory_.begin(), memory_.begin() + kGuard, untouched) &&
           std::all_of(memory_.begin() + kGuard + size_, memory_.end(), untouched);
  }

 private:
  static constexpr int64_t kGuard = 4096;
  int64_t size_;
  AlignedBuffer<std::byte> memory_;
};

/// A tensor inside a larger one: gaps of 0xFF bytes along every extent, but along dim only between rows.
class StridedTensor {
 public:
  StridedTensor(ElementType type, const TokenShape& shape)
      : type_(type),
        shape_(shape),
        strides_(TokenStrides::contiguous(larger(shape))),
        memory_(larger(shape).elements() * size_of(type)) {}
  /// With the elements of another tensor.
  explicit StridedTensor(const ConstTensorView& source) : StridedTensor(source.type, source.shape) {
    with_element_type(type_, [&](auto element) {
      using T = decltype(element);
      const auto target = view().as<T>();
      for_each_row(source.as<T>(),
                   [&](const T* row, auto... where) { std::copy_n(row, shape_.dim, target.row(where...)); });
    });
  }

  TensorView view() { return {memory_.bytes().data() + first() * size_of(type_), type_, shape_, strides_}; }

  /// Whether everything but the elements is as it was. Overwrites the elements.
  bool gaps_intact() {
    with_element_type(type_, [&](auto element) {
      for_each_row(view().as<decltype(element)>(), [&](auto* row, auto...) {
        std::memset(static_cast<void*>(row), 0xFF, static_cast<std::size_t>(shape_.dim) * sizeof *row);
      });
    });
    const auto bytes = memory_.bytes();
    return memory_.intact() &&
           std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0xFF}; });
  }

 private:
  static TokenShape larger(TokenShape shape) {
    shape.batch += 1;
    for (int64_t& extent : shape.layout) extent += 1;
    shape.heads += 1;
    shape.dim += 3;
    return shape;
  }
  /// The element that the view starts at: one further along every extent.
  int64_t first() const {
    return strides_.batch + strides_.layout[0] + strides_.layout[1] + strides_.layout[2] + strides_.heads + 1;
  }

  ElementType type_;
  TokenShape shape_;
  TokenStrides strides_;
  GuardedMemory memory_;
};

/// A result in guarded memory, contiguous.
class GuardedTensor {
 public:
  GuardedTensor(ElementType type, const TokenShape& shape)
      : type_(type), shape_(shape), memory_(shape.elements() * size_of(type)) {}
  TensorView view() { return {memory_.bytes().data(), type_, shape_, TokenStrides::contiguous(shape_)}; }
  std::vector<double> values() { return to_double(view()); }
  /// The very bits.
  std::vector<std::byte> bits() { return {memory_.bytes().begin(), memory_.bytes().end()}; }
  bool intact() const { return memory_.intact(); }

 private:
  ElementType type_;
  TokenShape shape_;
  GuardedMemory memory_;
};

/// How a test runs a variant.
struct Setting {
  Isa isa = Isa::baseline;
  ElementType out_type = ElementType::f32;
  int threads = 2;

  std::string text() const {
    return std::string(name(isa)) + " out " + std::string(name(out_type)) + " threads " + std::to_string(threads);
  }
};

/// Calls f with a guarded workspace of exactly the stated size, and checks the guards.
template <class F>
void with_workspace(const Variant& variant, const Problem& problem, Pass pass, const Setting& setting, F f) {
  Workers workers(setting.threads);
  GuardedMemory workspace(variant.workspace_bytes(problem, pass, setting.threads));
  f(Execution{setting.isa, workers, workspace.bytes()});
  EXPECT_TRUE(workspace.intact()) << "wrote outside the workspace";
}

struct ForwardResult {
  GuardedTensor out, lse;
};

/// Runs a supported problem and checks that nothing but the results and the workspace is written.
inline ForwardResult run_forward(const Variant& variant, const Problem& problem, const Inputs& inputs,
                                 const Setting& setting) {
  ForwardResult result{{setting.out_type, out_shape(problem)}, {ElementType::f32, lse_shape(problem)}};
  with_workspace(variant, problem, Pass::forward, setting, [&](const Execution& execution) {
    variant.forward(problem, inputs, {result.out.view(), result.lse.view()}, execution);
  });
  EXPECT_TRUE(result.out.intact()) << "wrote outside out";
  EXPECT_TRUE(result.lse.intact()) << "wrote outside lse";
  return result;
}

/// Greatest finite |x|: what a zero tensor is measured against.
inline double max_abs(const std::vector<double>& values) {
  double greatest = 0;
  for (double x : values) {
    if (std::isfinite(x)) greatest = std::max(greatest, std::abs(x));
  }
  return greatest;
}

}  // namespace nalab::test
