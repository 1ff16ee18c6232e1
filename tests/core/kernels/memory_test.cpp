// Memory that a call takes, by an allocator that counts: a program of its own, since it replaces operator new.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/kernels/attention.h"
#include "core/kernels/registry.h"
#include "core/tensor/buffer.h"
#include "tests/core/kernels/problems.h"

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

/// Beside the workspace: copies of problems, lists of views, what TBB asks for a task.
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

/// What it holds does not matter, as long as it is quick to compute with.
Tensor zeros(ElementType type, const TokenShape& shape) {
  Tensor tensor(type, shape);
  std::memset(tensor.view().data, 0, static_cast<std::size_t>(tensor.elements() * size_of(type)));
  return tensor;
}

class Memory : public testing::TestWithParam<std::tuple<std::string_view, ElementType, int>> {
 protected:
  /// Calls a pass and expects it to take the workspace that the variant states, and next to nothing beside it.
  template <class F>
  void expect_stated(const Problem& problem, Pass pass, const F& call) {
    const int64_t stated = find_variant(variant_).workspace_bytes(problem, pass, workers_.threads());
    call();  // the first call starts threads
    const int64_t bytes = peak_bytes(call);
    EXPECT_GE(bytes, stated) << problem.id() << " " << name(pass);
    EXPECT_LE(bytes, stated + kSmall) << problem.id() << " " << name(pass);
  }

  std::string_view variant_ = std::get<0>(GetParam());
  ElementType type_ = std::get<1>(GetParam());
  Workers workers_{std::get<2>(GetParam())};
};

TEST_P(Memory, IsTheStatedWorkspace) {
  for (const int64_t n : {1, 3}) {
    for (const Problem& given : problems(n)) {
      Problem problem = test::problem_of(find_variant(variant_), given);
      if (problem.is_self_attention() && problem.tokens() > 2000) continue;  // long, and nothing new
      problem.type = type_;
      const Tensor q = zeros(type_, q_shape(problem)), k = zeros(type_, k_shape(problem)),
                   v = zeros(type_, v_shape(problem)), dout = zeros(type_, out_shape(problem)),
                   extra_k = zeros(type_, extra_k_shape(problem)), extra_v = zeros(type_, extra_v_shape(problem));
      const Inputs inputs{q.view(), k.view(), v.view(), extra_k.view(), extra_v.view()};
      Tensor out(type_, out_shape(problem)), lse(ElementType::f32, lse_shape(problem));
      expect_stated(problem, Pass::forward, [&] {
        attention_forward(variant_, problem, inputs, {out.view(), lse.view()}, workers_);
      });
      if (find_variant(variant_).supports(problem, Pass::backward)) continue;
      Tensor dq(type_, q_shape(problem)), dk(type_, k_shape(problem)), dv(type_, v_shape(problem)),
          dextra_k(type_, extra_k_shape(problem)), dextra_v(type_, extra_v_shape(problem));
      expect_stated(problem, Pass::backward, [&] {
        attention_backward(variant_, problem, inputs, {out.view(), lse.view(), dout.view()},
                           {dq.view(), dk.view(), dv.view(), dextra_k.view(), dextra_v.view()}, workers_);
      });
    }
  }
}

/// The reference takes what it likes.
std::vector<std::string_view> measured_variants() {
  std::vector<std::string_view> names;
  for (const Variant& variant : variants()) {
    if (variant.name != "reference") names.push_back(variant.name);
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
  const Variant& fused = find_variant("fused");
  for (std::size_t i = 0; i < problems(1).size(); ++i) {
    const int64_t least = fused.workspace_bytes(problems(1)[i], Pass::forward, 1);
    for (const int64_t n : {2, 4, 8, 16, 32, 64}) {
      const Problem problem = problems(n)[i];
      const int64_t bytes = fused.workspace_bytes(problem, Pass::forward, 1);
      EXPECT_LE(bytes, 2 * least) << problem.id() << ": tiles differ, but not by much";
      EXPECT_LE(bytes, 1 << 20) << problem.id();
      for (const int threads : {2, 4}) {
        EXPECT_EQ(fused.workspace_bytes(problem, Pass::forward, threads), threads * bytes) << problem.id();
      }
    }
  }
}

}  // namespace
}  // namespace nalab
