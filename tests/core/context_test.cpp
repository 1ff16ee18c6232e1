#include "core/context.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/attention.h"
#include "core/parallel.h"
#include "tests/core/kernels/backward.h"
#include "tests/core/support.h"
#include "tests/core/threads.h"

namespace nalab {
namespace {

TEST(Context, TakesTheThreadsThatAreAskedFor) {
  const test::ScopedEnvironment environment("NALAB_THREADS");
  environment.unset();
  EXPECT_EQ(Context(3).threads(), 3);
  EXPECT_EQ(Context(3).workers().threads(), 3);
  EXPECT_EQ(Context().threads(), hardware_threads());
  environment.set("5");
  EXPECT_EQ(Context().threads(), 5);
  EXPECT_EQ(Context(2).threads(), 2);
  environment.set("none");
  EXPECT_EQ(test::error_of([] { Context context; }), "NALAB_THREADS 'none' must be a number from 1 to 1024");
  for (const int threads : {-1, -1000, 1025}) {
    EXPECT_EQ(test::error_of([&] { Context context(threads); }),
              "threads " + std::to_string(threads) + " must be from 0 to 1024");
  }
}

TEST(Workspaces, HaveTheirSizeAndAreAligned) {
  Context context(1);
  for (const int64_t size : {0, 1, 64, 1000, 999}) {
    const Context::Workspace workspace(context, size);
    EXPECT_EQ(workspace.bytes().size(), static_cast<std::size_t>(size));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(workspace.bytes().data()) % kAlignment, 0u);
  }
}

TEST(Workspaces, AreUsedAgainOnceTheyAreFree) {
  Context context(1);
  const auto place_of = [&](int64_t size) { return Context::Workspace(context, size).bytes().data(); };
  const std::byte* const first = place_of(4096);
  EXPECT_EQ(place_of(4096), first);
  EXPECT_EQ(place_of(17), first) << "a smaller one";
  std::optional<Context::Workspace> one, two;
  one.emplace(context, 4096);
  two.emplace(context, 1 << 20);
  EXPECT_EQ(one->bytes().data(), first);
  const std::byte* const second = two->bytes().data();
  EXPECT_NE(second, first) << "in use";
  one.reset();
  two.reset();
  EXPECT_EQ(place_of(1 << 20), second) << "the largest one";
  EXPECT_EQ(place_of(64), second) << "the largest one";
}

/// A problem of a host thread, and what a context of its own makes of it.
struct Job {
  Problem problem;
  std::string_view variant;
  test::Data data{problem, 1};
  std::vector<std::vector<std::byte>> expected;

  Job(Problem p, std::string_view name) : problem(std::move(p)), variant(name) {
    Context alone(2);
    expected = run(alone);
  }

  /// The bits of out, lse and the gradients.
  std::vector<std::vector<std::byte>> run(Context& context) const {
    auto outputs = test::tensors_for<Outputs, test::GuardedTensor>(problem, problem.type);
    auto gradients = test::tensors_for<Gradients, test::GuardedTensor>(problem, problem.type);
    const auto out = test::views_of<Outputs>(problem, outputs);
    attention_forward(problem, data.inputs(), out, context, {.variant = variant});
    attention_backward(problem, data.inputs(), {out.out, out.lse, data["dout"].view()},
                       test::views_of<Gradients>(problem, gradients), context, {.variant = variant});
    std::vector<std::vector<std::byte>> bits;
    for (auto* tensors : {&outputs, &gradients}) {
      for (auto& tensor : *tensors) {
        EXPECT_TRUE(tensor.intact());
        bits.push_back(tensor.bits());
      }
    }
    return bits;
  }
};

TEST(Context, SeveralHostThreadsAtOnceGetTheBitsThatEachGetsAlone) {
  const Problem plane{.axes = {{.extent = 19, .window = 7}, {.extent = 23, .window = 5, .stride = 2}},
                      .heads = 2,
                      .heads_kv = 2,
                      .head_dim = 16,
                      .head_dim_v = 24,
                      .extra_tokens = 3};
  Problem causal{.axes = {{.extent = 301, .window = 40, .causal = true}}, .batch = 2, .head_dim = 8, .head_dim_v = 8};
  causal.type = ElementType::bf16;
  const Problem tokens{.axes = {{.extent = 6, .window = 6}, {.extent = 40, .window = 40}}, .head_dim = 32};
  std::vector<Job> jobs;
  jobs.emplace_back(plane, "fused");
  jobs.emplace_back(causal, "fused");
  jobs.emplace_back(tokens, "dense");
  jobs.emplace_back(plane, "gemm");
  jobs.emplace_back(causal, "naive");
  for (const int threads : {1, 2, 3}) {
    Context shared(threads);
    std::vector<int> same(jobs.size(), 0);
    std::vector<std::thread> hosts;
    constexpr int kRounds = 4;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      hosts.emplace_back([&, i] {
        for (int round = 0; round < kRounds; ++round) same[i] += jobs[i].run(shared) == jobs[i].expected;
      });
    }
    for (std::thread& host : hosts) host.join();
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      EXPECT_EQ(same[i], kRounds) << jobs[i].variant << " " << jobs[i].problem.id() << " " << threads << " threads";
    }
  }
}

TEST(Context, LeavesOtherUsersOfThreadsAlone) {
  Context one(1);
  Workers two(2);
  EXPECT_TRUE(test::tasks_meet(two, 2));
  // Nor does a task of the context.
  one.workers().for_each(1, [&](int64_t, int) { EXPECT_TRUE(test::tasks_meet(two, 2)); });
}

}  // namespace
}  // namespace nalab
