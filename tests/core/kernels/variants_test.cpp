// Every variant of the registry against the reference, on awkward problems and at random.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "core/compare.h"
#include "core/kernels/reference/reference.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"

namespace nalab {
namespace {

using test::Setting;

/// A problem with inputs and what is expected of them.
struct Case {
  explicit Case(const Problem& p, uint64_t seed) : problem(p), data(p, seed) {
    expected = reference::forward(problem, data.inputs());
    values_scale = std::max(test::max_abs(test::to_double(data["v"].view())), 1e-3);
  }
  Problem problem;
  test::Data data;
  reference::Forward expected;
  double values_scale = 1;
};

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

class AwkwardProblems : public ::testing::TestWithParam<test::Awkward> {};

TEST_P(AwkwardProblems, EveryVariantTypeAndWayToRun) {
  Cases cases;
  for (ElementType type : test::kElementTypes) {
    Problem given = GetParam().problem;
    given.type = type;
    ASSERT_NO_THROW(given.validate());
    for (const Variant& variant : variants()) {
      const Problem problem = test::problem_of(variant, given);
      if (variant.supports(problem, Pass::forward)) continue;
      for (const Setting& setting : test::settings(variant, problem, Pass::forward)) {
        for (ElementType out_type : {ElementType::f32, type}) {
          run_and_check(variant, cases.of(problem), setting.with_out(out_type));
          if (type == ElementType::f32) break;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AwkwardProblems, ::testing::ValuesIn(test::awkward_problems()),
                         [](const auto& test) { return test.param.name; });

TEST(RandomProblems, EveryVariantOnFiveHundred) {
  test::RandomProblems problems(2204);
  for (std::size_t i = 0; i < 500 && !::testing::Test::HasFailure(); ++i) {
    const Problem given = problems.next();
    ASSERT_NO_THROW(given.validate());
    const ElementType out_type = problems.pick(0, 1) == 0 ? ElementType::f32 : given.type;
    const auto threads = static_cast<int>(problems.pick(1, 3));
    Cases cases;
    for (const Variant& variant : variants()) {
      const Problem problem = test::problem_of(variant, given);
      if (variant.supports(problem, Pass::forward)) continue;
      const auto settings = test::settings(variant, problem, Pass::forward);
      run_and_check(variant, cases.of(problem), settings[i % settings.size()].with_out(out_type).with_threads(threads));
    }
  }
}

// Such a problem is self attention: the tokens in a row are not causal.
TEST(Dense, AnAxisOfOneTokenMayBeCausal) {
  const Problem plane{.axes = {{.extent = 7, .window = 7}, {.extent = 1, .causal = true}}, .heads = 3, .head_dim = 16};
  Problem space = plane;
  space.axes.insert(space.axes.begin(), {.extent = 2, .window = 2});
  const Variant& dense = find_variant("dense");
  for (const Problem& problem : {plane, space}) {
    const Case c(problem, 29);
    for (const Setting& setting : test::settings(dense, problem, Pass::forward)) run_and_check(dense, c, setting);
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

class Threads : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(WithABias, Threads, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "yes" : "no"; });

TEST_P(Threads, ResultsAreTheSameBitsForEveryNumber) {
  for (ElementType type : test::kElementTypes) {
    Problem given = for_threads();
    given.relative_bias = GetParam();
    given.type = type;
    for (const Variant& variant : variants()) {
      const Problem problem = test::problem_of(variant, given);
      // Without its bias it is that of the other test.
      if (problem.relative_bias != given.relative_bias) continue;
      if (variant.supports(problem, Pass::forward)) continue;
      const test::Data data(problem, 5);
      for (const Setting& setting : test::settings(variant, problem, Pass::forward)) {
        SCOPED_TRACE(std::string(variant.name) + " " + setting.text());
        const auto run = [&](int threads) {
          return test::run_forward(variant, problem, data.inputs(), setting.with_out(type).with_threads(threads));
        };
        auto one = run(1);
        for (int threads : {2, 3, 7}) {
          auto several = run(threads);
          EXPECT_EQ(one.out.bits(), several.out.bits()) << threads;
          EXPECT_EQ(one.lse.bits(), several.lse.bits()) << threads;
        }
      }
    }
  }
}

class StridedViews : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(WithABias, StridedViews, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "yes" : "no"; });

TEST_P(StridedViews, GapsAreNeitherReadNorWritten) {
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
                  .relative_bias = GetParam(),
                  .type = type};
    for (const Variant& variant : variants()) {
      const Problem problem = test::problem_of(variant, given);
      // Without its bias it is that of the other test.
      if (problem.relative_bias != given.relative_bias) continue;
      if (variant.supports(problem, Pass::forward)) continue;
      const Case c(problem, 23);
      auto memory = test::strided(problem, c.data.inputs());
      const auto inputs = test::views_of<Inputs>(problem, memory);
      for (const Setting& setting : test::settings(variant, problem, Pass::forward)) {
        SCOPED_TRACE(std::string(variant.name) + " " + setting.text() + " " + problem.id());
        auto results = test::tensors_for<Outputs, test::StridedTensor>(problem, type);
        const auto outputs = test::views_of<Outputs>(problem, results);
        test::with_workspace(
            test::plan_of(variant, problem, Pass::forward, setting, false), setting,
            [&](const Plan& plan, const Execution& execution) { variant.forward(plan, inputs, outputs, execution); });
        check(c, test::to_double(outputs.out), test::to_double(outputs.lse));
        for (auto& tensor : results) EXPECT_TRUE(tensor.gaps_intact());
      }
    }
  }
}

}  // namespace
}  // namespace nalab
