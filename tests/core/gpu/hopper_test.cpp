// The kernels of core/gpu/hopper/ on a GPU, against the reference. Skipped where there is none.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/compare.h"
#include "core/gpu/device.h"
#include "core/kernels/reference/reference.h"
#include "tests/core/gpu/problems.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"
#include "tests/core/support.h"

namespace nalab::gpu {
namespace {

class Hopper : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = why_not_here(Device::cuda)) GTEST_SKIP() << *reason;
  }
};

/// A problem with inputs and what is expected of them.
struct Case {
  Case(const Problem& p, nalab::test::Data d)
      : problem(p), data(std::move(d)), expected(reference::forward(problem, data.inputs())) {}
  Problem problem;
  nalab::test::Data data;
  reference::Forward expected;
};

/// Expects the results of a shape, twice the same bits, to be the reference's.
void expect_right(const Case& c, const TileShape& shape) {
  SCOPED_TRACE(c.problem.id() + " " + to_string(shape));
  const auto call = backend()->open(c.problem, c.problem, make_tile_plan(c.problem, shape), c.data.inputs());
  std::vector<std::vector<std::byte>> bits;
  nalab::test::GuardedTensor out(c.problem.type, out_shape(c.problem)), lse(ElementType::f32, lse_shape(c.problem));
  for (int i = 0; i < 2; ++i) {
    call->forward();
    call->download({out.view(), lse.view()});
    bits.push_back(out.bits());
    bits.push_back(lse.bits());
  }
  EXPECT_TRUE(bits[0] == bits[2] && bits[1] == bits[3]) << "a second call differs";
  const Tolerance bound = tolerance(c.problem.type, TensorKind::output, c.expected.max_abs_score);
  const auto out_errors = compare(std::span<const double>(out.values()), std::span(c.expected.out), bound, 5);
  EXPECT_TRUE(out_errors.ok) << "out: " << out_errors.to_string();
  const auto lse_errors = compare(std::span<const double>(lse.values()), std::span(c.expected.lse), bound, 1);
  EXPECT_TRUE(lse_errors.ok) << "lse: " << lse_errors.to_string();
}

/// The best shape of each mask, and others, with and without turns.
void expect_right(const Case& c, std::size_t others) {
  for (TileShape shape : test::some_shapes(c.problem, others)) {
    for (const int turns : {0, 1}) {
      shape.ping_pong = turns;
      expect_right(c, shape);
    }
  }
}

/// Those of the plan's tests, in both types, with 64 and 128 channels.
std::vector<Problem> device_problems() {
  std::vector<Problem> problems = test::plan_problems();
  for (std::size_t i = 0; i < problems.size(); ++i) {
    problems[i].head_dim = problems[i].head_dim_v = i % 2 == 0 ? 128 : 64;
    problems[i].type = i % 3 == 0 ? ElementType::f16 : ElementType::bf16;
  }
  return problems;
}

class HopperTiles : public Hopper, public testing::WithParamInterface<Problem> {};

TEST_P(HopperTiles, OfEveryKind) { expect_right(Case(GetParam(), {GetParam(), 1}), 3); }

INSTANTIATE_TEST_SUITE_P(Problems, HopperTiles, testing::ValuesIn(device_problems()), [](const auto& test) {
  return std::to_string(test.index) + "_" + nalab::test::test_name(test.param);
});

TEST_F(Hopper, AwkwardProblems) {
  for (const auto& [name, awkward] : nalab::test::awkward_problems()) {
    for (const ElementType type : {ElementType::bf16, ElementType::f16}) {
      SCOPED_TRACE(name);
      Problem problem = awkward;
      problem.type = type;
      if (!find_variant("hopper").supports(problem, Pass::forward)) expect_right(Case(problem, {problem, 5}), 1);
    }
  }
}

// More than 65535, which is as far as the axes of a grid of thread blocks go.
TEST_F(Hopper, ManyHeadsAndBatchEntries) {
  Problem problem{.axes = {{.extent = 3, .window = 2}}, .head_dim = 8, .head_dim_v = 8, .type = ElementType::bf16};
  for (const auto& [heads, batch] : {std::pair<int64_t, int64_t>{70000, 1}, {1, 70000}}) {
    problem.heads = problem.heads_kv = heads;
    problem.batch = batch;
    expect_right(Case(problem, {problem, 5}), 0);
  }
}

// What a query attends to decides; the other keys of its tiles do not matter.
TEST_F(Hopper, NanAndInfinities) {
  std::mt19937_64 random(3);
  const float bad[] = {NAN, INFINITY, -INFINITY};
  for (Problem problem : test::plan_problems()) {
    problem.head_dim = problem.head_dim_v = 64;
    problem.type = ElementType::bf16;
    nalab::test::Data data(problem, 7);
    for (const std::string_view name : {"q", "k", "v", "extra_k", "extra_v"}) {
      if (data.has(name)) nalab::test::set(data[name], random() % data[name].elements(), bad[random() % 3]);
    }
    expect_right(Case(problem, std::move(data)), 1);
  }
}

// Products that a compiler drops are faster than any clock allows.
TEST_F(Hopper, ThePeakIsOneThatCanBe) {
  const PeakRate rate = measure_peak();
  EXPECT_GT(rate.one_thread, 0);
  EXPECT_GT(rate.all_threads, rate.one_thread);
}

// A masked score that is greater than the bias that masks it. Bounds that grow with scores would let it pass.
TEST_F(Hopper, HugeScoresOfMaskedKeys) {
  const Problem problem{.axes = {{.extent = 24, .window = 9}, {.extent = 24, .window = 9}}, .type = ElementType::bf16};
  nalab::test::GuardedTensor out(problem.type, out_shape(problem)), lse(ElementType::f32, lse_shape(problem));
  for (const double huge : {1e32, -1e32}) {
    nalab::test::Data data(problem, 9);
    nalab::test::set(data["k"], 0, huge);
    const auto expected = reference::forward(problem, data.inputs());
    for (const TileShape& shape : test::some_shapes(problem, 3)) {
      SCOPED_TRACE(to_string(shape));
      const auto call = backend()->open(problem, problem, make_tile_plan(problem, shape), data.inputs());
      call->forward();
      call->download({out.view(), lse.view()});
      const std::vector<double> values = out.values(), sums = lse.values();
      for (std::size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], expected.out[i], 3e-2);
      for (std::size_t i = 0; i < sums.size(); ++i) {
        ASSERT_NEAR(sums[i], expected.lse[i], 1e-2 * std::max(1.0, std::abs(expected.lse[i])));
      }
    }
  }
}

/// From one key to the next, slowly, fast, and so fast that sums overflow and queries are computed again.
TEST_F(Hopper, RisingAndFallingScores) {
  for (const ElementType type : {ElementType::bf16, ElementType::f16}) {
    for (const double step : {0.5, -0.5, 4.0, -4.0, 60.0, -60.0}) {
      SCOPED_TRACE(step);
      const Problem problem{
          .axes = {{.extent = 500, .window = 401}}, .heads = 2, .head_dim = 8, .head_dim_v = 8, .type = type};
      nalab::test::Data data(problem, 5);
      for (int64_t i = 0; i < data["k"].elements(); ++i) {
        nalab::test::set(data["k"], i, static_cast<double>(i / 16) * step);
        nalab::test::set(data["q"], i, 0.125);
      }
      expect_right(Case(problem, std::move(data)), 3);
    }
  }
}

/// As in the emulator's test: references that are rounded by dozens.
TEST_F(Hopper, EqualScoresOfGreatMagnitude) {
  const Problem problem{
      .axes = {{.extent = 200, .window = 161}}, .head_dim = 8, .head_dim_v = 8, .type = ElementType::bf16};
  for (int great = 11000; great < 23000; great += 256) {
    SCOPED_TRACE(great);
    nalab::test::Data data(problem, 5);
    for (const std::string_view name : {"q", "k"}) {
      for (int64_t i = 0; i < data[name].elements(); ++i) nalab::test::set(data[name], i, great);
    }
    expect_right(Case(problem, std::move(data)), 1);
  }
}

// They would overrun their place in shared memory.
TEST_F(Hopper, RefusesMoreBiasesThanThereIsRoomFor) {
  const Problem problem{.axes = {{.extent = 24, .window = 9}, {.extent = 24, .window = 9}}, .type = ElementType::bf16};
  const nalab::test::Data data(problem, 1);
  for (TileShape shape : test::some_shapes(problem, 3)) {
    if (shape.mask != MaskMode::one_hot) continue;
    shape.bias_slots = 1;
    EXPECT_EQ(nalab::test::error_of(
                  [&] { backend()->open(problem, problem, make_tile_plan(problem, shape), data.inputs()); }),
              "hopper: the tiles " + to_string(shape) + " have room for fewer biases than the plan needs");
  }
}

}  // namespace
}  // namespace nalab::gpu
