// Offsets beyond 2^31 elements, where 32-bit index math gives silently wrong results: in the index math itself, and in
// every variant on tensors with huge strides, of which only a few pages are ever touched.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/compare.h"
#include "core/kernels/unfused/neighbors.h"
#include "core/kernels/unfused/weight_rows.h"
#include "tests/core/kernels/backward.h"

namespace nalab {
namespace {

constexpr int64_t kHuge = int64_t{1} << 31;

/// Distance in elements, without an array that holds both.
int64_t distance(const float* from, const float* to) {
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) - reinterpret_cast<uintptr_t>(from)) / 4;
}

TEST(Offsets, OfContiguousTensorsAreCountedIn64Bits) {
  const TokenShape shape{3, {1 << 11, 1 << 12, 1 << 13}, 7, 128};
  EXPECT_EQ(shape.elements(), int64_t{3} * 7 * 128 << 36);
  const TokenStrides strides = TokenStrides::contiguous(shape);
  EXPECT_EQ(strides.layout[1], int64_t{7 * 128} << 13);
  EXPECT_EQ(strides.layout[0], int64_t{7 * 128} << 25);
  EXPECT_EQ(strides.batch, int64_t{7 * 128} << 36);
  float base[1];
  const TokenView<float> view{base, shape, strides};
  const int64_t last_token = (int64_t{1} << 36) - 1;
  EXPECT_EQ(distance(base, view.row(2, (1 << 11) - 1, (1 << 12) - 1, (1 << 13) - 1, 6)),
            (2 * (int64_t{1} << 36) + last_token) * 7 * 128 + 6 * 128);
  const TokenShape of_rows{3, shape.layout, 7, 10368};
  const unfused::WeightRows rows{base, of_rows, TokenStrides::contiguous(of_rows)};
  EXPECT_EQ(distance(base, rows.row(2, {(1 << 11) - 1, (1 << 12) - 1, (1 << 13) - 1}, 6)),
            ((2 * (int64_t{1} << 36) + last_token) * 7 + 6) * 10368);
}

TEST(Offsets, OfKeysAndQueriesAreCountedIn64Bits) {
  const std::array<Axis, 3> axes{
      {{.extent = 1 << 20, .window = 2}, {.extent = 1 << 11, .window = 3}, {.extent = 1 << 12, .window = 2}}};
  TokenShape shape{1, {axes[0].extent, axes[1].extent, axes[2].extent}, 2, 64};
  const TokenStrides strides = TokenStrides::contiguous(shape);
  const geometry::Token last{axes[0].extent - 1, axes[1].extent - 1, axes[2].extent - 1};
  for (const auto offsets_of : {unfused::key_offsets, unfused::query_offsets}) {
    std::vector<int64_t> offsets(64);
    const int64_t count = offsets_of(axes, last, strides, offsets.data());
    EXPECT_GT(count, 1);
    const int64_t own = last[0] * strides.layout[0] + last[1] * strides.layout[1] + last[2] * strides.layout[2];
    EXPECT_GT(own, 1024 * kHuge);
    EXPECT_EQ(offsets.at(static_cast<std::size_t>(count - 1)), own);
  }
}

/// A tensor with gaps of more than 2^31 elements between tokens, in memory that is reserved but not there.
class SparseTensor {
 public:
  SparseTensor(ElementType type, const TokenShape& shape) : bytes_(4 * kHuge * size_of(type)) {
    memory_ = mmap(nullptr, static_cast<std::size_t>(bytes_), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    // Batch entries, tokens of the last axis and heads lie closer than tokens of the other axes.
    const TokenStrides strides{1 << 24, {2 * kHuge + 512, kHuge + 256, 1 << 20}, 1 << 12};
    view_ = {memory_, type, shape, strides};
  }
  SparseTensor(const SparseTensor&) = delete;
  ~SparseTensor() {
    if (is_there()) munmap(memory_, static_cast<std::size_t>(bytes_));
  }

  /// With the elements of another tensor.
  void fill(const ConstTensorView& source) {
    with_element_type(source.type, [&](auto element) {
      using T = decltype(element);
      const auto target = view_.as<T>();
      test::for_each_row(source.as<T>(), [&](const T* row, auto... where) {
        std::copy_n(row, source.shape.dim, target.row(where...));
      });
    });
  }
  bool is_there() const { return memory_ != MAP_FAILED; }
  TensorView view() const { return view_; }

 private:
  int64_t bytes_;
  void* memory_;
  TensorView view_;
};

/// `type` is the problem's.
void check(std::string_view tensor, ElementType type, const TensorView& computed, const std::vector<double>& expected) {
  const TensorKind kind = tensor.front() == 'd' ? TensorKind::gradient : TensorKind::output;
  const auto values = test::to_double(computed);
  const auto errors = compare(std::span(values), std::span(expected), tolerance(type, kind), 1);
  EXPECT_TRUE(errors.ok) << tensor << ": " << errors.to_string();
}

TEST(Offsets, BeyondTwoToThe31AreRightInEveryVariant) {
  const Problem given{.axes = {{.extent = 2, .window = 2}, {.extent = 2, .window = 1}, {.extent = 5, .window = 3}},
                      .batch = 2,
                      .heads = 2,
                      .heads_kv = 1,
                      .head_dim = 20,
                      .head_dim_v = 12};
  test::for_every_backward(given, [](const Variant& variant, Problem problem) {
    for (ElementType type : {ElementType::f32, ElementType::bf16}) {
      problem.type = type;
      const test::Data data(problem, 12);
      const auto forward = reference::forward(problem, data.inputs());
      const auto backward = test::expected_gradients(problem, data);
      std::map<std::string_view, SparseTensor> tensors;
      for (const TensorInfo& info : tensors_of(problem, Pass::backward)) {
        auto& [name, tensor] = *tensors.try_emplace(info.name, info.type, info.shape).first;
        if (!tensor.is_there()) GTEST_SKIP() << "this machine does not reserve so much address space";
        if (data.has(name)) tensor.fill(data[name].view());
      }
      const auto in = test::views_of<Inputs>(problem, tensors);
      const auto out = test::views_of<Outputs>(problem, tensors);
      const auto saved = test::views_of<SavedForBackward>(problem, tensors);
      const auto gradients = test::views_of<Gradients>(problem, tensors);
      for (const test::Setting& setting : test::settings(variant, problem, Pass::forward)) {
        SCOPED_TRACE(std::string(variant.name) + " " + setting.text() + " " + problem.id());
        test::with_workspace(
            test::plan_of(variant, problem, Pass::forward, setting, false), setting,
            [&](const Plan& plan, const Execution& execution) { variant.forward(plan, in, out, execution); });
        check("out", type, out.out, forward.out);
        check("lse", type, out.lse, forward.lse);
      }
      for (const test::Setting& setting : test::settings(variant, problem, Pass::backward)) {
        SCOPED_TRACE(std::string(variant.name) + " " + setting.text() + " " + problem.id());
        test::with_workspace(test::plan_of(variant, problem, Pass::backward, setting, false), setting,
                             [&](const Plan& plan, const Execution& execution) {
                               variant.backward(plan, in, saved, gradients, execution);
                             });
        check("dq", type, gradients.dq, backward[0]);
        check("dk", type, gradients.dk, backward[1]);
        check("dv", type, gradients.dv, backward[2]);
      }
    }
  });
}

}  // namespace
}  // namespace nalab
