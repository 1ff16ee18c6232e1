// What the tests of the kernels share: random inputs, guarded and strided memory, running a variant.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstring>
#include <map>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "core/attention.h"
#include "core/kernels/registry.h"
#include "core/parallel.h"
#include "tests/core/definition.h"
#include "tests/core/threads.h"

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

/// The views of a bundle, by the names of the list.
template <class Bundle, class Memory>
Bundle views_of(const Problem& problem, std::map<std::string_view, Memory>& tensors) {
  Bundle bundle;
  visit_tensors(problem, bundle, [&](const TensorInfo& info, auto& view) { view = tensors.at(info.name).view(); });
  return bundle;
}

/// Owned inputs of a problem and dout, by the names of the list; equal seeds give equal tensors.
class Data {
 public:
  Data(const Problem& problem, uint64_t seed) : problem_(problem) {
    std::mt19937_64 random(seed);
    for (const TensorInfo& info : tensors_of(problem, Pass::backward)) {
      if (info.role != Role::input && info.role != Role::output_gradient) continue;
      tensors_.emplace(info.name, random_tensor(info.type, info.shape, random));
    }
  }

  /// Requires a tensor that the problem has.
  Tensor& operator[](std::string_view name) { return tensors_.find(name)->second; }
  const Tensor& operator[](std::string_view name) const { return tensors_.find(name)->second; }
  bool has(std::string_view name) const { return tensors_.contains(name); }

  Inputs inputs() const {
    Inputs inputs;
    visit_tensors(problem_, inputs, [this](const TensorInfo& info, auto& view) { view = (*this)[info.name].view(); });
    return inputs;
  }

 private:
  Problem problem_;
  std::map<std::string_view, Tensor> tensors_;
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

/// Extents that a StridedTensor leaves gaps along, as bits.
enum Gaps : unsigned { kBatchGap = 1, kX1Gap = 2, kX2Gap = 4, kX3Gap = 8, kHeadsGap = 16, kDimGap = 32, kAllGaps = 63 };

/// A tensor inside a larger one: gaps of 0xFF bytes along any extents, but along dim only between rows.
class StridedTensor {
 public:
  StridedTensor(ElementType type, const TokenShape& shape, unsigned gaps = kAllGaps)
      : type_(type),
        shape_(shape),
        gaps_(gaps),
        strides_(TokenStrides::contiguous(larger(shape, gaps))),
        memory_(larger(shape, gaps).elements() * size_of(type)) {}
  /// With the elements of another tensor.
  explicit StridedTensor(const ConstTensorView& source, unsigned gaps = kAllGaps)
      : StridedTensor(source.type, source.shape, gaps) {
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
  static TokenShape larger(TokenShape shape, unsigned gaps) {
    const auto gap = [gaps](unsigned bit, int64_t by) { return (gaps & bit) != 0 ? by : 0; };
    shape.batch += gap(kBatchGap, 1);
    for (int axis = 0; axis < 3; ++axis) shape.layout[axis] += gap(kX1Gap << axis, 1);
    shape.heads += gap(kHeadsGap, 1);
    shape.dim += gap(kDimGap, 3);
    return shape;
  }
  /// The element that the view starts at: one further along every extent with a gap.
  int64_t first() const {
    const auto gap = [this](unsigned bit, int64_t by) { return (gaps_ & bit) != 0 ? by : 0; };
    int64_t element = gap(kBatchGap, strides_.batch) + gap(kHeadsGap, strides_.heads) + gap(kDimGap, 1);
    for (int axis = 0; axis < 3; ++axis) element += gap(kX1Gap << axis, strides_.layout[axis]);
    return element;
  }

  ElementType type_;
  TokenShape shape_;
  unsigned gaps_;
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

/// A tensor for each view of a bundle, in the order of the list; results are of a type of their own. Memory: Tensor,
/// GuardedTensor or StridedTensor, with what its constructor takes beside type and shape.
template <class Bundle, class Memory = Tensor, class... More>
std::vector<Memory> tensors_for(const Problem& problem, ElementType result_type, const More&... more) {
  std::vector<Memory> tensors;
  Bundle bundle;
  visit_tensors(problem, bundle, [&](const TensorInfo& info, const auto&) {
    const bool free_type = info.is_result() && info.type == problem.type;  // lse is f32 whatever the problem is
    tensors.emplace_back(free_type ? result_type : info.type, info.shape, more...);
  });
  return tensors;
}

/// Their views.
template <class Bundle, class Memory>
Bundle views_of(const Problem& problem, std::vector<Memory>& tensors) {
  Bundle bundle;
  std::size_t i = 0;
  visit_tensors(problem, bundle, [&](const TensorInfo&, auto& view) { view = tensors[i++].view(); });
  return bundle;
}

/// The elements of a bundle between gaps.
template <class Bundle>
std::vector<StridedTensor> strided(const Problem& problem, const Bundle& bundle, unsigned gaps = kAllGaps) {
  std::vector<StridedTensor> tensors;
  visit_tensors(problem, bundle,
                [&](const TensorInfo&, const ConstTensorView& view) { tensors.emplace_back(view, gaps); });
  return tensors;
}

/// How a test runs a variant.
struct Setting {
  Isa isa = Isa::baseline;
  std::string_view arithmetic = {};  ///< empty: the preferred one
  std::string_view tiling = {};      ///< empty: the best
  bool may_flatten = true;           ///< false: as for tensors whose tokens do not lie in a row
  ElementType out_type = ElementType::f32;
  int threads = 2;

  Setting with_out(ElementType type) const {
    Setting setting = *this;
    setting.out_type = type;
    return setting;
  }
  Setting with_threads(int count) const {
    Setting setting = *this;
    setting.threads = count;
    return setting;
  }

  std::string text() const {
    return std::string(name(isa)) + " " + std::string(arithmetic) + " " + std::string(tiling) +
           (may_flatten ? "" : " not flattened") + " out " + std::string(name(out_type)) + " threads " +
           std::to_string(threads);
  }
};

/// Every way to run a supported problem that differs in what is computed: targets, arithmetics, kinds of tiling.
inline std::vector<Setting> settings(const Variant& variant, const Problem& problem, Pass pass) {
  std::vector<Setting> found;
  for (const Arithmetic& arithmetic : arithmetics()) {
    if (!variant.takes(arithmetic, pass) || !arithmetic.computes(problem.type, pass)) continue;
    std::vector<Setting> kinds{{.tiling = kBestTiling}};
    if (variant.candidates != nullptr) {
      const auto offered = variant.candidates(problem, pass, arithmetic, host_machine(), kAllCandidates);
      const auto offers = [&](const auto& kind) { return std::any_of(offered.begin(), offered.end(), kind); };
      if (offers([](const Tiling& t) { return t.has_static_kv(); })) kinds.push_back({.tiling = kStaticTiling});
      if (offers([](const Tiling& t) { return t.flat; }))
        kinds.push_back({.tiling = kBestTiling, .may_flatten = false});
    }
    for (const Isa isa : supported_isas()) {
      // The features of these limits have no target of their own.
      const bool same_target = (isa == Isa::avx512bf16 && !arithmetic.needs.contains(CpuFeatures::avx512bf16())) ||
                               (isa == Isa::amx && !arithmetic.needs.contains(CpuFeatures::amx()));
      // The oracle is compiled once.
      if (!available(arithmetic, isa) || same_target || (variant.is_oracle && isa != Isa::baseline)) continue;
      for (Setting setting : kinds) {
        setting.isa = isa;
        setting.arithmetic = arithmetic.name;
        found.push_back(setting);
      }
    }
  }
  return found;
}

/// The plan of a setting for tensors whose tokens lie in a row or not.
inline Plan plan_of(const Variant& variant, const Problem& problem, Pass pass, const Setting& setting,
                    bool in_a_row = true) {
  return make_plan(problem, pass,
                   {.variant = variant.name,
                    .arithmetic = setting.arithmetic,
                    .tiling = setting.tiling,
                    .isa = setting.isa,
                    .tokens_in_a_row = in_a_row && setting.may_flatten});
}

/// Calls f(plan, execution) with a guarded workspace of exactly the stated size, and checks the guards.
template <class F>
void with_workspace(const Plan& plan, const Setting& setting, F f) {
  Workers& workers = workers_of(setting.threads);
  GuardedMemory workspace(plan.workspace_bytes(setting.threads));
  f(plan, Execution{workers, workspace.bytes()});
  EXPECT_TRUE(workspace.intact()) << "wrote outside the workspace";
}

struct ForwardResult {
  GuardedTensor out, lse;
};

/// Runs a plan on supported inputs and checks that nothing but the results and the workspace is written.
inline ForwardResult run_forward(const Plan& made, const Inputs& inputs, const Setting& setting) {
  const Problem& problem = made.problem();
  ForwardResult result{{setting.out_type, out_shape(problem)}, {ElementType::f32, lse_shape(problem)}};
  with_workspace(made, setting, [&](const Plan& plan, const Execution& execution) {
    plan.variant().forward(plan, inputs, {result.out.view(), result.lse.view()}, execution);
  });
  EXPECT_TRUE(result.out.intact()) << "wrote outside out";
  EXPECT_TRUE(result.lse.intact()) << "wrote outside lse";
  return result;
}

inline ForwardResult run_forward(const Variant& variant, const Problem& problem, const Inputs& inputs,
                                 const Setting& setting) {
  return run_forward(plan_of(variant, problem, Pass::forward, setting, tokens_in_a_row(problem, inputs)), inputs,
                     setting);
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
