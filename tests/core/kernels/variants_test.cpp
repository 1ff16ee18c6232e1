// Every variant of the registry against the reference, on awkward problems and at random.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/compare.h"
#include "core/kernels/reference.h"
#include "tests/core/kernels/support.h"

namespace nalab {
namespace {

using test::Setting;

/// A problem with inputs and what is expected of them.
struct Case {
  explicit Case(const Problem& p, uint64_t seed) : problem(p), data(p, seed) {
    expected = reference::forward(problem, data.inputs());
    values_scale = std::max(test::max_abs(test::to_double(data.v.view())), 1e-3);
  }
  Problem problem;
  test::Data data;
  reference::Forward expected;
  double values_scale = 1;
};

/// The problem that a variant runs in place of another one.
Problem problem_of(const Variant& variant, const Problem& problem) {
  return variant.self_attention_only ? problem.self_attention() : problem;
}

/// Cases by problem, so that variants share the reference's work.
class Cases {
 public:
  const Case& of(const Problem& problem) { return cases_.try_emplace(problem.id(), problem, 17).first->second; }

 private:
  std::map<std::string, Case> cases_;
};

void check(const Case& c, const std::vector<double>& out, const std::vector<double>& lse) {
  const Tolerance bound = tolerance(c.problem.type, TensorKind::output, c.expected.max_abs_score);
  const Comparison out_errors = compare(std::span(out), std::span(c.expected.out), bound, c.values_scale);
  EXPECT_TRUE(out_errors.ok) << "out: " << out_errors.to_string();
  const Comparison lse_errors = compare(std::span(lse), std::span(c.expected.lse), bound, c.values_scale);
  EXPECT_TRUE(lse_errors.ok) << "lse: " << lse_errors.to_string();
}

void run_and_check(const Variant& variant, const Case& c, const Setting& setting) {
  SCOPED_TRACE(std::string(variant.name) + " " + c.problem.id() + " " + setting.text());
  auto result = test::run_forward(variant, c.problem, c.data.inputs(), setting);
  check(c, result.out.values(), result.lse.values());
}

struct Awkward {
  const char* name;
  Problem problem;
};

std::vector<Awkward> awkward_problems() {
  const std::vector<Axis> plane{{.extent = 7, .window = 3}, {.extent = 5, .window = 4}};
  return {
      {"prime", {.axes = {{.extent = 97, .window = 13}}, .heads = 2, .heads_kv = 2, .head_dim = 32, .head_dim_v = 32}},
      {"one_token", {.axes = {{}}, .batch = 5, .heads = 6, .heads_kv = 3, .head_dim = 16, .head_dim_v = 8}},
      {"one_token_in_three_axes",
       {.axes = {{}, {}, {}}, .batch = 7, .heads = 4, .heads_kv = 1, .head_dim = 5, .extra_tokens = 3}},
      {"window_one", {.axes = {{.extent = 31}}, .heads = 2, .heads_kv = 1, .head_dim = 24, .head_dim_v = 9}},
      {"window_is_extent", {.axes = {{.extent = 37, .window = 37}}, .heads = 3, .head_dim = 64, .head_dim_v = 40}},
      {"window_is_extent_in_a_plane",
       {.axes = {{.extent = 7, .window = 7}, {.extent = 11, .window = 11, .stride = 4}}, .batch = 2}},
      {"window_is_extent_in_space",
       {.axes = {{.extent = 3, .window = 3}, {.extent = 1}, {.extent = 9, .window = 9, .stride = 9}},
        .heads = 2,
        .extra_tokens = 5}},
      {"window_is_extent_causal", {.axes = {{.extent = 19, .window = 19, .stride = 5, .causal = true}}}},
      {"even_window_last_stride_group_cut", {.axes = {{.extent = 29, .window = 8, .stride = 3}}}},
      {"blocked_last_block_cut", {.axes = {{.extent = 22, .window = 8, .stride = 8}}, .heads = 2, .heads_kv = 2}},
      {"blocked_causal", {.axes = {{.extent = 22, .window = 6, .stride = 6, .causal = true}}}},
      {"ragged_dilation",
       {.axes = {{.extent = 23, .window = 3, .stride = 2, .dilation = 5, .causal = true},
                 {.extent = 10, .window = 2, .dilation = 4}}}},
      {"each_token_its_own_group", {.axes = {{.extent = 17, .dilation = 17}}, .batch = 3, .extra_tokens = 1}},
      {"causal_along_one_axis_of_two",
       {.axes = {{.extent = 13, .window = 5}, {.extent = 11, .window = 4, .stride = 3, .causal = true}}}},
      {"space_of_all_kinds",
       {.axes = {{.extent = 5, .window = 3, .stride = 2},
                 {.extent = 7, .window = 3, .dilation = 2},
                 {.extent = 6, .window = 4, .stride = 4, .causal = true}},
        .heads = 4,
        .heads_kv = 2,
        .head_dim = 20,
        .head_dim_v = 28}},
      {"mqa", {.axes = plane, .batch = 2, .heads = 5, .heads_kv = 1, .head_dim = 16, .head_dim_v = 16}},
      {"gqa_more_extra_tokens_than_keys",
       {.axes = plane, .batch = 2, .heads = 6, .heads_kv = 2, .head_dim = 16, .head_dim_v = 16, .extra_tokens = 37}},
      {"head_dim_1", {.axes = plane, .heads = 3, .head_dim = 1, .head_dim_v = 1}},
      {"head_dim_13", {.axes = plane, .heads = 3, .head_dim = 13, .head_dim_v = 7}},
      {"head_dim_80", {.axes = plane, .heads = 2, .head_dim = 80, .head_dim_v = 96, .extra_tokens = 1}},
      {"head_dim_256", {.axes = plane, .heads = 2, .head_dim = 256, .head_dim_v = 256}},
      {"head_dim_v_1", {.axes = plane, .head_dim = 33, .head_dim_v = 1}},
      {"scale_negative", {.axes = plane, .head_dim = 16, .head_dim_v = 16, .scale = -0.4}},
      {"scale_zero", {.axes = plane, .head_dim = 16, .head_dim_v = 16, .extra_tokens = 2, .scale = 0.0}},
      {"scale_zero_one_key", {.axes = {{.extent = 7}}, .head_dim = 16, .head_dim_v = 16, .scale = 0.0}},
      {"scale_large", {.axes = plane, .head_dim = 16, .head_dim_v = 16, .scale = 50.0}},
  };
}

class AwkwardProblems : public ::testing::TestWithParam<Awkward> {};

TEST_P(AwkwardProblems, EveryVariantTypeAndInstructionSet) {
  Cases cases;
  for (ElementType type : test::kElementTypes) {
    Problem given = GetParam().problem;
    given.type = type;
    ASSERT_NO_THROW(given.validate());
    for (const Variant& variant : variants()) {
      const Problem problem = problem_of(variant, given);
      if (variant.supports(problem, Pass::forward)) continue;
      for (Isa isa : test::supported_isas()) {
        for (ElementType out_type : {ElementType::f32, type}) {
          run_and_check(variant, cases.of(problem), {.isa = isa, .out_type = out_type});
          if (type == ElementType::f32) break;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AwkwardProblems, ::testing::ValuesIn(awkward_problems()),
                         [](const auto& test) { return test.param.name; });

/// Small valid problems of all kinds.
class RandomProblems {
 public:
  explicit RandomProblems(uint64_t seed) : random_(seed) {}

  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }

  Problem next() {
    Problem problem;
    const int64_t rank = pick(1, 3);
    for (int64_t i = 0; i < rank; ++i) {
      Axis axis{.extent = pick(1, rank == 1 ? 70 : rank == 2 ? 10 : 6)};
      axis.dilation = pick(0, 1) == 0 ? 1 : pick(1, axis.extent);
      axis.window = pick(0, 4) == 0 ? axis.extent / axis.dilation : pick(1, axis.extent / axis.dilation);
      axis.stride = pick(0, 2) == 0 ? 1 : pick(1, axis.window);
      axis.causal = pick(0, 2) == 0;
      problem.axes.push_back(axis);
    }
    problem.heads_kv = pick(1, 2);
    problem.heads = problem.heads_kv * pick(1, 3);
    problem.head_dim = pick(1, 40);
    problem.head_dim_v = pick(0, 1) == 0 ? problem.head_dim : pick(1, 40);
    problem.extra_tokens = pick(0, 2) == 0 ? pick(1, 20) : 0;
    if (pick(0, 3) == 0) problem.scale = std::uniform_real_distribution<double>(-1, 1)(random_);
    // Enough rows that a tensor's norm is not by chance small against its terms.
    problem.batch = std::max<int64_t>(pick(1, 2), 24 / (problem.tokens() * problem.heads) + 1);
    problem.type = test::kElementTypes[static_cast<std::size_t>(pick(0, 2))];
    return problem;
  }

 private:
  std::mt19937_64 random_;
};

TEST(RandomProblems, EveryVariantOnFiveHundred) {
  RandomProblems problems(2204);
  const std::vector<Isa> isas = test::supported_isas();
  for (int i = 0; i < 500 && !::testing::Test::HasFailure(); ++i) {
    const Problem given = problems.next();
    ASSERT_NO_THROW(given.validate());
    const Setting setting{.isa = isas[static_cast<std::size_t>(i) % isas.size()],
                          .out_type = problems.pick(0, 1) == 0 ? ElementType::f32 : given.type,
                          .threads = static_cast<int>(problems.pick(1, 3))};
    Cases cases;
    for (const Variant& variant : variants()) {
      const Problem problem = problem_of(variant, given);
      if (!variant.supports(problem, Pass::forward)) run_and_check(variant, cases.of(problem), setting);
    }
  }
}

/// A problem large enough that every thread has work: several tiles, heads and batch entries.
Problem for_threads() {
  return {
      .axes = {{.extent = 19, .window = 7, .stride = 2}, {.extent = 23, .window = 5, .dilation = 2, .causal = true}},
      .batch = 2,
      .heads = 4,
      .heads_kv = 2,
      .head_dim = 24,
      .head_dim_v = 40,
      .extra_tokens = 3};
}

TEST(Threads, ResultsAreTheSameBitsForEveryNumber) {
  for (ElementType type : test::kElementTypes) {
    Problem given = for_threads();
    given.type = type;
    for (const Variant& variant : variants()) {
      const Problem problem = problem_of(variant, given);
      if (variant.supports(problem, Pass::forward)) continue;
      const test::Data data(problem, 5);
      for (Isa isa : test::supported_isas()) {
        const auto run = [&](int threads) {
          return test::run_forward(variant, problem, data.inputs(), {isa, type, threads});
        };
        auto one = run(1);
        for (int threads : {2, 3, 7}) {
          auto several = run(threads);
          EXPECT_EQ(one.out.bits(), several.out.bits()) << variant.name << " " << name(isa) << " " << threads;
          EXPECT_EQ(one.lse.bits(), several.lse.bits()) << variant.name << " " << name(isa) << " " << threads;
        }
      }
    }
  }
}

TEST(StridedViews, GapsAreNeitherReadNorWritten) {
  for (ElementType type : test::kElementTypes) {
    Problem given{.axes = {{.extent = 5, .window = 3, .stride = 2},
                           {.extent = 6, .window = 2, .dilation = 2},
                           {.extent = 4, .window = 3, .causal = true}},
                  .batch = 2,
                  .heads = 4,
                  .heads_kv = 2,
                  .head_dim = 19,
                  .head_dim_v = 21,
                  .extra_tokens = 3,
                  .type = type};
    for (const Variant& variant : variants()) {
      const Problem problem = problem_of(variant, given);
      if (variant.supports(problem, Pass::forward)) continue;
      const Case c(problem, 23);
      test::StridedTensor q(c.data.q.view()), k(c.data.k.view()), v(c.data.v.view());
      test::StridedTensor extra_k(c.data.extra_k.view()), extra_v(c.data.extra_v.view());
      const Inputs inputs{q.view(), k.view(), v.view(), extra_k.view(), extra_v.view()};
      for (Isa isa : test::supported_isas()) {
        SCOPED_TRACE(std::string(variant.name) + " " + std::string(name(isa)) + " " + problem.id());
        test::StridedTensor out(type, out_shape(problem)), lse(ElementType::f32, lse_shape(problem));
        test::with_workspace(variant, problem, Pass::forward, {.isa = isa}, [&](const Execution& execution) {
          variant.forward(problem, inputs, {out.view(), lse.view()}, execution);
        });
        check(c, test::to_double(out.view()), test::to_double(lse.view()));
        EXPECT_TRUE(out.gaps_intact());
        EXPECT_TRUE(lse.gaps_intact());
      }
    }
  }
}

}  // namespace
}  // namespace nalab
