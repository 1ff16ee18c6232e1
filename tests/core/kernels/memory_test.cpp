// Memory that a call takes, by an allocator that counts: a program of its own, since it replaces operator new.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <string_view>

#include "core/attention.h"
#include "core/kernels/registry.h"
#include "core/tensor/buffer.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/operators/split.h"

namespace {

std::atomic<int64_t> allocated = 0, peak = 0;

void* counted(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  const int64_t now = allocated += static_cast<int64_t>(malloc_usable_size(memory));
  int64_t before = peak;
  while (before < now && !peak.compare_exchange_weak(before, now)) {
  }
  return memory;
}

void release(void* memory) {
  if (memory != nullptr) allocated -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

// Whatever other forms there are call one of these.
void* operator new(std::size_t size) { return counted(std::malloc(size)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto bytes = static_cast<std::size_t>(alignment);
  return counted(std::aligned_alloc(bytes, (size + bytes - 1) / bytes * bytes));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace nalab {
namespace {

/// Beside the workspace: copies of problems, lists of views, lists of calls.
constexpr int64_t kSmall = 32 << 10;

/// The most that was allocated at any moment of f(), beyond what was before.
template <class F>
int64_t peak_bytes(const F& f) {
  const int64_t before = allocated;
  peak = before;
  f();
  return peak - before;
}

TEST(CountingAllocator, SeesBuffersAndVectors) {
  EXPECT_EQ(peak_bytes([] {}), 0);
  const int64_t buffer = peak_bytes([] { AlignedBuffer<float>(1 << 18)[7] = 1; });
  EXPECT_GE(buffer, 1 << 20);
  EXPECT_LE(buffer, (1 << 20) + 4096 + 64);
  const int64_t both = peak_bytes([] {
    const std::vector<double> first(1000, 1.0);
    const std::vector<double> second(2000, first[3]);
    EXPECT_EQ(second[5], 1);
  });
  EXPECT_GE(both, 24'000);
  EXPECT_LE(both, 24'000 + 64);
}

/// Problems of one window each, in 1-D, 2-D and 3-D; the tokens grow with the square of n.
std::vector<Problem> problems(int64_t n) {
  const Axis axis{.extent = 37 * n, .window = 7, .stride = 2};
  return {{.axes = {{.extent = 601 * n * n, .window = 63, .dilation = 3}},
           .heads = 2,
           .heads_kv = 2,
           .head_dim = 32,
           .head_dim_v = 40,
           .extra_tokens = 5},
          {.axes = {axis, axis}, .batch = 2, .heads = 4, .heads_kv = 2, .head_dim = 16, .head_dim_v = 16},
          {.axes = {{.extent = 11 * n, .window = 5},
                    {.extent = 12 * n, .window = 4, .causal = true},
                    {.extent = 13, .window = 5}},
           .head_dim = 24,
           .head_dim_v = 24}};
}

/// As problems(), with biases; the table of the second grows with its window.
std::vector<Problem> biased_problems(int64_t n) {
  return {{.axes = {{.extent = 37 * n, .window = 7, .stride = 2}, {.extent = 7, .window = 4, .causal = true}},
           .heads = 4,
           .heads_kv = 2,
           .head_dim = 16,
           .head_dim_v = 24,
           .extra_tokens = 3,
           .relative_bias = true},
          {.axes = {{.extent = 61 * n, .window = 61 * n}},
           .heads = 2,
           .head_dim = 16,
           .head_dim_v = 16,
           .relative_bias = true}};
}

/// What it holds does not matter, as long as it is quick to compute with.
Tensor zeros(ElementType type, const TokenShape& shape) {
  Tensor tensor(type, shape);
  std::memset(tensor.view().data, 0, static_cast<std::size_t>(tensor.elements() * size_of(type)));
  return tensor;
}

class Memory : public testing::TestWithParam<std::tuple<std::string_view, ElementType, int>> {
 protected:
  /// Calls a plan and expects it to take the workspace that it states, and next to nothing beside it: all of it at the
  /// first call of a context, none at the second.
  template <class F>
  void expect_stated(const Plan& plan, const F& call) {
    const int64_t stated = plan.workspace_bytes(threads_);
    Context context(threads_);
    const auto again = [&] { call(context); };
    const int64_t first = peak_bytes(again);
    EXPECT_GE(first, stated) << plan.to_string();
    EXPECT_LE(first, stated + kSmall) << plan.to_string();
    EXPECT_LE(peak_bytes(again), kSmall) << plan.to_string();
  }

  std::string_view variant_ = std::get<0>(GetParam());
  ElementType type_ = std::get<1>(GetParam());
  int threads_ = std::get<2>(GetParam());
};

TEST_P(Memory, IsTheStatedWorkspace) {
  const Variant& variant = find_variant(variant_);
  for (const int64_t n : {1, 3}) {
    std::vector<Problem> all = problems(n);
    for (const Problem& biased : biased_problems(n)) all.push_back(biased);
    for (const Problem& given : all) {
      Problem problem = test::problem_of(variant, given);
      // Without its bias it is like the others.
      if (problem.relative_bias != given.relative_bias) continue;
      if (problem.is_self_attention() && problem.tokens() > 2000) continue;  // long, and nothing new
      problem.type = type_;
      std::map<std::string_view, Tensor> tensors;
      for (const TensorInfo& info : tensors_of(problem, Pass::backward))
        tensors.emplace(info.name, zeros(info.type, info.shape));
      const auto inputs = test::views_of<Inputs>(problem, tensors);
      const auto outputs = test::views_of<Outputs>(problem, tensors);
      const auto saved = test::views_of<SavedForBackward>(problem, tensors);
      const auto gradients = test::views_of<Gradients>(problem, tensors);
      if (!variant.supports(problem, Pass::forward)) {
        const Plan plan = make_plan(problem, Pass::forward, {.variant = variant_});
        expect_stated(plan, [&](Context& context) { attention_forward(plan, inputs, outputs, context); });
      }
      if (!variant.supports(problem, Pass::backward)) {
        const Plan plan = make_plan(problem, Pass::backward, {.variant = variant_});
        expect_stated(plan, [&](Context& context) { attention_backward(plan, inputs, saved, gradients, context); });
      }
    }
  }
}

TEST_P(Memory, OfTheSplitOperatorsIsTheStatedWorkspace) {
  const Variant& variant = find_variant(variant_);
  std::vector<Problem> all = problems(2);
  for (const Problem& biased : biased_problems(2)) all.push_back(biased);
  for (Problem problem : all) {
    problem.type = type_;
    for (const Pass pass : test::kSplitPasses) {
      if (variant.supports(problem, pass)) continue;
      std::map<std::string_view, Tensor> tensors;
      test::Views views;
      for (const TensorInfo& info : tensors_of(problem, pass)) {
        views[info.name] = tensors.emplace(info.name, zeros(info.type, info.shape)).first->second.view();
      }
      const Plan plan = make_plan(problem, pass, {.variant = variant_});
      expect_stated(plan, [&](Context& context) { test::call_split(plan, pass, views, context); });
    }
  }
}

/// The reference takes what it likes.
std::vector<std::string_view> measured_variants() {
  std::vector<std::string_view> names;
  for (const Variant& variant : variants()) {
    if (!variant.is_oracle && variant.device == Device::cpu) names.push_back(variant.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Of, Memory,
                         testing::Combine(testing::ValuesIn(measured_variants()),
                                          testing::Values(ElementType::f32, ElementType::bf16),
                                          testing::Values(1, 2, 4)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) + "_" +
                                  std::string(name(std::get<1>(test.param))) + "_" +
                                  std::to_string(std::get<2>(test.param)) + "_threads";
                         });

/// Threads times the working set of a tile, which a second-level cache holds, for 4096 times the tokens as well.
TEST(FusedWorkspace, DoesNotGrowWithTokens) {
  const auto plan_of = [](const Problem& problem) { return make_plan(problem, Pass::forward, {.variant = "fused"}); };
  for (std::size_t i = 0; i < problems(1).size(); ++i) {
    const int64_t least = plan_of(problems(1)[i]).workspace_bytes(1);
    for (const int64_t n : {2, 4, 8, 16, 32, 64}) {
      const Plan plan = plan_of(problems(n)[i]);
      EXPECT_LE(plan.workspace_bytes(1), 2 * least) << plan.to_string() << ": tiles differ, but not by much";
      EXPECT_LE(plan.workspace_bytes(1), 1 << 20) << plan.to_string();
      for (const int threads : {2, 4}) {
        EXPECT_EQ(plan.workspace_bytes(threads), threads * plan.workspace_bytes(1)) << plan.to_string();
      }
    }
  }
}

}  // namespace
}  // namespace nalab
