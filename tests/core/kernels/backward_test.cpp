// The backward pass of every variant that has one, against the reference.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/compare.h"
#include "tests/core/definition.h"
#include "tests/core/kernels/backward.h"

namespace nalab {
namespace {

using test::run_backward;
using test::Setting;

/// A problem with inputs and what is expected of them.
struct Case {
  explicit Case(const Problem& p) : problem(p), data(p, 41) {
    forward = reference::forward(problem, data.inputs());
    expected = test::expected_gradients(problem, data);
  }
  Problem problem;
  test::Data data;
  reference::Forward forward;
  std::vector<std::vector<double>> expected;
};

/// Cases by problem, so that variants share the reference's work.
class Cases {
 public:
  const Case& of(const Problem& problem) { return cases_.try_emplace(problem.id(), problem).first->second; }

 private:
  std::map<std::string, Case> cases_;
};

void run_and_check(const Variant& variant, const Case& c, const Setting& setting) {
  SCOPED_TRACE(std::string(variant.name) + " " + c.problem.id() + " " + setting.text());
  auto results = run_backward(variant, c.problem, c.data, c.forward, setting);
  const Tolerance bound = tolerance(c.problem.type, TensorKind::gradient, c.forward.max_abs_score);
  const auto list = test::gradients_of(c.problem);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::vector<double> values = results[i].values();
    const Comparison errors = compare(std::span(values), std::span(c.expected[i]), bound, test::max_abs(c.expected[2]));
    EXPECT_TRUE(errors.ok) << list[i].name << ": " << errors.to_string();
  }
}

class AwkwardBackward : public ::testing::TestWithParam<test::Awkward> {};

TEST_P(AwkwardBackward, EveryVariantTypeAndWayToRun) {
  Cases cases;
  for (ElementType type : test::kElementTypes) {
    Problem given = GetParam().problem;
    given.type = type;
    test::for_every_backward(given, [&](const Variant& variant, const Problem& problem) {
      for (const Setting& setting : test::settings(variant, problem, Pass::backward)) {
        run_and_check(variant, cases.of(problem),
                      setting.with_out(setting.isa == Isa::baseline ? ElementType::f32 : type));
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AwkwardBackward, ::testing::ValuesIn(test::awkward_problems()),
                         [](const auto& test) { return test.param.name; });

TEST(RandomBackward, EveryVariantOnTwoHundred) {
  test::RandomProblems problems(2403);
  for (std::size_t i = 0; i < 200 && !::testing::Test::HasFailure(); ++i) {
    const Problem given = problems.next();
    const auto threads = static_cast<int>(problems.pick(1, 3));
    Cases cases;
    test::for_every_backward(given, [&](const Variant& variant, const Problem& problem) {
      const auto settings = test::settings(variant, problem, Pass::backward);
      run_and_check(variant, cases.of(problem), settings[i % settings.size()].with_threads(threads));
    });
  }
}

class ThreadsBackward : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(WithABias, ThreadsBackward, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "yes" : "no"; });

TEST_P(ThreadsBackward, ResultsAreTheSameBitsForEveryNumber) {
  for (ElementType type : test::kElementTypes) {
    const Problem given{
        .axes = {{.extent = 11, .window = 7, .stride = 2}, {.extent = 13, .window = 5, .dilation = 2, .causal = true}},
        .batch = 2,
        .heads = 4,
        .heads_kv = 2,
        .head_dim = 16,
        .head_dim_v = 24,
        .extra_tokens = 3,
        .relative_bias = GetParam(),
        .type = type};
    test::for_every_backward(given, [type](const Variant& variant, const Problem& problem) {
      if (problem.relative_bias != GetParam()) return;  // without its bias it is that of the other test
      const test::Data data(problem, 5);
      const auto list = test::gradients_of(problem);
      for (const Setting& setting : test::settings(variant, problem, Pass::backward)) {
        const Setting typed = setting.with_out(type);
        auto one = run_backward(variant, problem, data, typed.with_threads(1));
        for (int threads : {2, 3, 7}) {
          auto several = run_backward(variant, problem, data, typed.with_threads(threads));
          for (std::size_t i = 0; i < list.size(); ++i) {
            EXPECT_EQ(one[i].bits(), several[i].bits())
                << variant.name << " " << setting.text() << " " << threads << " threads, " << list[i].name;
          }
        }
      }
    });
  }
}

// dq of a query depends only on what it attends to; dk and dv of a key only on the queries that attend to it and on
// what those attend to.
TEST(NonFiniteBackward, KeyOrValueReachesNothingBeyondTheQueriesThatAttendToIt) {
  const Problem given{.axes = {{.extent = 29, .window = 5, .stride = 2}},
                      .batch = 2,
                      .heads = 4,
                      .heads_kv = 2,
                      .head_dim = 6,
                      .head_dim_v = 5};
  test::for_every_backward(given, [](const Variant& variant, const Problem& problem) {
    const auto mask = test::mask_of(problem.axes[0]);
    const int64_t tokens = problem.tokens();
    test::Data data(problem, 43);
    for (const Setting& each : test::settings(variant, problem, Pass::backward)) {
      const Setting setting = each.with_threads(1);
      auto clean = run_backward(variant, problem, data, setting);
      for (int64_t bad = 0; bad < tokens; ++bad) {
        Tensor& tensor = bad % 2 == 0 ? data["k"] : data["v"];
        SCOPED_TRACE(std::string(variant.name) + " " + setting.text() + " bad token " + std::to_string(bad));
        const int64_t b = bad % 2;
        const int64_t kv = bad / 2 % 2;
        const int64_t element = test::row_index(tensor.shape(), b, {0, 0, bad}, kv) + 1;
        const double old = test::to_double(tensor.view())[static_cast<std::size_t>(element)];
        test::set(tensor, element, std::numeric_limits<double>::quiet_NaN());
        auto spoilt = run_backward(variant, problem, data, setting);
        test::set(tensor, element, old);
        // Tokens whose dq, and whose dk and dv, the bad value may reach.
        std::set<int64_t> queries;
        std::set<int64_t> keys;
        for (int64_t q = 0; q < tokens; ++q) {
          if (!mask[static_cast<std::size_t>(q)][static_cast<std::size_t>(bad)]) continue;
          queries.insert(q);
          for (int64_t k : test::attended(problem.axes[0], q)) keys.insert(k);
        }
        const auto list = test::gradients_of(problem);
        for (std::size_t i = 0; i < list.size(); ++i) {
          const std::vector<double> before = clean[i].values();
          const std::vector<double> after = spoilt[i].values();
          const TokenShape shape = clean[i].view().shape;
          for (std::size_t n = 0; n < before.size(); ++n) {
            const auto flat = static_cast<int64_t>(n);
            const int64_t head_kv = flat / shape.dim % shape.heads * problem.heads_kv / shape.heads;
            const int64_t token = flat / (shape.dim * shape.heads) % tokens;
            const bool same_group = flat / (shape.elements() / shape.batch) == b && head_kv == kv;
            if (same_group && (i == 0 ? queries : keys).contains(token)) {
              ASSERT_TRUE(i != 0 || std::isnan(after[n])) << list[i].name << " at " << n;
            } else {
              ASSERT_EQ(after[n], before[n]) << list[i].name << " at " << n;
            }
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace nalab
