// Numbers at the edge, in every variant and way to run: scores far apart, weights that are rounded, results beyond the
// range of their type.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "core/compare.h"
#include "core/kernels/reference/reference.h"
#include "tests/core/kernels/backward.h"
#include "tests/core/kernels/bounds.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"
#include "tests/core/operators/split.h"

namespace nalab {
namespace {

using test::Setting;

/// Calls f(variant, problem, setting) for every variant that computes a pass of a problem, in every type and way.
template <class F>
void for_every_way(const Problem& given, Pass pass, const F& f) {
  for (const ElementType type : test::kElementTypes) {
    for (const Variant& variant : variants()) {
      Problem problem = test::problem_of(variant, given);
      problem.type = type;
      if (variant.is_oracle || variant.supports(problem, pass)) continue;
      for (const Setting& setting : test::settings(variant, problem, pass)) {
        SCOPED_TRACE(std::string(variant.name) + " " + problem.id() + " " + setting.text());
        f(variant, problem, setting);
      }
    }
  }
}

Problem plane() {
  return {.axes = {{.extent = 9, .window = 5, .stride = 2}, {.extent = 11, .window = 4, .causal = true}},
          .batch = 2,
          .heads = 4,
          .heads_kv = 2,
          .head_dim = 8,
          .head_dim_v = 5,
          .extra_tokens = 3};
}

void expect_agrees(std::string_view tensor, const Problem& problem, const std::vector<double>& values,
                   const std::vector<double>& expected, double value_scale) {
  const TensorKind kind = tensor.front() == 'd' ? TensorKind::gradient : TensorKind::output;
  const auto errors = compare(std::span(values), std::span(expected), tolerance(problem.type, kind), value_scale);
  EXPECT_TRUE(errors.ok) << tensor << ": " << errors.to_string();
}

/// Queries of 1 and keys of -1, 0 or 1 in the first channel: scores are exactly -scale, 0 or scale.
test::Data with_exact_scores(const Problem& problem) {
  test::Data data(problem, 31);
  for (const char* name : {"q", "k", "extra_k"}) {
    Tensor& tensor = data[name];
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      const bool first = i % problem.head_dim == 0;
      test::set(tensor, i, !first ? 0.0 : name[0] == 'q' ? 1.0 : static_cast<double>(i / problem.head_dim % 3 - 1));
    }
  }
  return data;
}

// The weights of the greatest scores are equal, and all others are 0: the bounds of ordinary scores hold.
TEST(Edges, ScoresFarApartLeaveNothingButTheGreatest) {
  for (const double scale : {1e4, -1e4, 1e30, -1e30}) {
    Problem given = plane();
    given.scale = scale;
    for_every_way(given, Pass::forward, [&](const Variant& variant, const Problem& problem, const Setting& setting) {
      const test::Data data = with_exact_scores(problem);
      const auto expected = reference::forward(problem, data.inputs());
      auto result = test::run_forward(variant, problem, data.inputs(), setting);
      expect_agrees("out", problem, result.out.values(), expected.out, 1);
      expect_agrees("lse", problem, result.lse.values(), expected.lse, 1);
    });
  }
}

// Those of k and q are sums that cancel; those of v are the weights themselves.
TEST(Edges, GradientsOfScoresFarApartAreThoseOfTheGreatest) {
  for (const double scale : {1e4, -1e4, 1e30}) {
    Problem given = plane();
    given.scale = scale;
    for_every_way(given, Pass::backward, [&](const Variant& variant, const Problem& problem, const Setting& setting) {
      const test::Data data = with_exact_scores(problem);
      auto results = test::run_backward(variant, problem, data, setting);
      const auto expected = test::expected_gradients(problem, data);
      const auto list = test::gradients_of(problem);
      for (std::size_t i = 0; i < list.size(); ++i) {
        const std::vector<double> values = results[i].values();
        for (const double x : values) ASSERT_FALSE(std::isnan(x)) << list[i].name;
        // Beside a score of 1e30 the saved lse has no room for the number of the greatest.
        if (scale == 1e30 || (list[i].name != "dv" && list[i].name != "dextra_v")) continue;
        // Beside one of 1e4 it is off by up to 2^-11; it and the score are rounded once more as powers of 2.
        const Tolerance ordinary = tolerance(problem.type, TensorKind::gradient);
        const Tolerance bound{ordinary.frobenius + 0x1p-9, ordinary.max_abs + 0x1p-9};
        const auto errors = compare(std::span(values), std::span(expected[i]), bound, 1);
        EXPECT_TRUE(errors.ok) << list[i].name << ": " << errors.to_string();
      }
    });
  }
}

// Of each query by itself, and whatever the type of what it is made of: it is computed in float32.
TEST(Edges, LseIsExactToTheRoundingsOfItsTerms) {
  for (const double scale : {0.3, 3.0}) {
    Problem given = plane();
    given.head_dim = 37;
    given.scale = scale;
    for_every_way(given, Pass::forward, [&](const Variant& variant, const Problem& problem, const Setting& setting) {
      test::Data data(problem, 53);
      const std::vector<double> expected = reference::forward(problem, data.inputs()).lse;
      const std::vector<double> lse = test::run_forward(variant, problem, data.inputs(), setting).lse.values();
      // The sum of weights is that before they are rounded to bf16.
      const test::LseBound bound(problem, data, setting.arithmetic.starts_with("bf16") ? test::kCubicError : 0);
      for (std::size_t i = 0; i < lse.size(); ++i) ASSERT_NEAR(lse[i], expected[i], bound.at(expected[i])) << i;
    });
  }
}

/// Expects the results of a type of 16 bits to be those of float, rounded.
void expect_rounded(std::string_view tensor, ElementType type, const std::vector<double>& results,
                    const std::vector<double>& floats) {
  for (std::size_t i = 0; i < floats.size(); ++i) {
    const auto x = static_cast<float>(floats[i]);
    const float expected = type == ElementType::bf16 ? to_float(from_float<bf16>(x)) : to_float(from_float<f16>(x));
    ASSERT_EQ(results[i], static_cast<double>(expected)) << tensor << " " << i;
  }
}

// Kernels round rows by vectors, and what is left of a row one number at a time.
TEST(Edges, ResultsAreRoundedAsSingleNumbersAre) {
  Problem given = plane();
  given.head_dim = given.head_dim_v = 37;
  for_every_way(given, Pass::forward, [](const Variant& variant, const Problem& problem, const Setting& setting) {
    if (problem.type == ElementType::f32) return;
    const test::Data data(problem, 59);
    const Setting typed = setting.with_out(problem.type);
    expect_rounded("out", problem.type, test::run_forward(variant, problem, data.inputs(), typed).out.values(),
                   test::run_forward(variant, problem, data.inputs(), setting).out.values());
  });
  for_every_way(given, Pass::backward, [](const Variant& variant, const Problem& problem, const Setting& setting) {
    if (problem.type == ElementType::f32) return;
    const test::Data data(problem, 59);
    const test::Saved saved(problem, reference::forward(problem, data.inputs()), ElementType::f32);
    const SavedForBackward views{saved.out.view(), saved.lse.view(), data["dout"].view()};
    auto typed = test::run_backward(variant, problem, data, views, setting.with_out(problem.type));
    auto floats = test::run_backward(variant, problem, data, views, setting);
    const auto list = test::gradients_of(problem);
    for (std::size_t t = 0; t < list.size(); ++t) {
      expect_rounded(list[t].name, problem.type, typed[t].values(), floats[t].values());
    }
  });
}

/// What the mean of sums of weights may be off by, if each is rounded to bf16: by up to 2^-9 of it, to either side and
/// evenly. Six times what that leaves in the mean square; all that weights cut short lose is some 20 times as much.
double mean_bound(const Problem& problem, const test::Data& data) {
  Problem split = problem;
  split.scale = problem.effective_scale();
  const auto p = test::softmax_rows(reference::weights(split, data.inputs()), problem.keys_per_query());
  const auto queries = static_cast<double>(problem.tokens() * problem.heads);
  return 6 * test::kBf16Unit / std::sqrt(3) * std::sqrt(test::dot(p, p)) / queries;
}

// Weights cut instead of rounded would make every sum too small.
TEST(Edges, RoundedWeightsAddUpToOneOnAverage) {
  Problem given{
      .axes = {{.extent = 12, .window = 9}, {.extent = 13, .window = 8}}, .heads = 2, .head_dim = 16, .head_dim_v = 16};
  for_every_way(given, Pass::forward, [](const Variant& variant, const Problem& problem, const Setting& setting) {
    test::Data data(problem, 37);
    for (int64_t i = 0; i < data["v"].elements(); ++i) test::set(data["v"], i, 1.0);
    const auto out = test::run_forward(variant, problem, data.inputs(), setting).out.values();
    const double mean = std::accumulate(out.begin(), out.end(), 0.0) / static_cast<double>(out.size());
    EXPECT_NEAR(mean, 1.0, mean_bound(problem, data));
    for (const double x : out) ASSERT_NEAR(x, 1.0, 0x1p-8);
  });
  for_every_way(given, Pass::backward, [](const Variant& variant, const Problem& problem, const Setting& setting) {
    test::Data data(problem, 37);
    for (int64_t i = 0; i < data["dout"].elements(); ++i) test::set(data["dout"], i, 1.0);
    const auto dv = test::run_backward(variant, problem, data, setting).at(2).values();
    const double sum = std::accumulate(dv.begin(), dv.end(), 0.0);
    const auto queries = static_cast<double>(problem.tokens() * problem.heads * problem.head_dim_v);
    EXPECT_NEAR(sum / queries, 1.0, mean_bound(problem, data));
  });
}

// Two keys, values (1, 0) and (0, 1): results are the weights, whose ratio is e to the difference of the scores. That
// is rounded a few times, and so is what exp makes of it.
TEST(Edges, WeightsAreExponentialsOfTheScores) {
  const Problem given{.axes = {{.extent = 2, .window = 2}}, .batch = 127, .head_dim = 1, .head_dim_v = 2, .scale = 1.0};
  for_every_way(given, Pass::forward, [](const Variant& variant, const Problem& problem, const Setting& setting) {
    if (problem.type != ElementType::f32) return;
    test::Data data(problem, 43);
    for (int64_t i = 0; i < data["v"].elements(); ++i) test::set(data["v"], i, i % 4 == 0 || i % 4 == 3 ? 1 : 0);
    for (int64_t i = 0; i < data["q"].elements(); ++i) {
      test::set(data["q"], i, 1);
      test::set(data["k"], i, i % 2 == 0 ? 0 : -0.17 * static_cast<double>(i / 2));
    }
    const auto out = test::run_forward(variant, problem, data.inputs(), setting).out.values();
    const auto keys = test::to_double(data["k"].view());
    for (std::size_t b = 0; b < static_cast<std::size_t>(problem.batch); ++b) {
      const double score = keys[2 * b + 1], bound = 0x1p-23 * (4 - 2 * score);
      ASSERT_NEAR(out[4 * b + 1] / out[4 * b] / std::exp(score), 1, bound) << "score " << score;
    }
  });
}

// Scores are rounded differently here and in the forward pass, and beside great ones the lse hardly tells: what a query
// gives to the values is no more than its gradient all the same.
TEST(Edges, NoWeightOfTheBackwardPassExceedsOne) {
  Problem given = plane();
  given.scale = 1e30;
  for_every_way(given, Pass::backward, [](const Variant& variant, const Problem& problem, const Setting& setting) {
    test::Data data(problem, 47);
    for (int64_t i = 0; i < data["dout"].elements(); ++i) test::set(data["dout"], i, 1);
    const auto dv = test::run_backward(variant, problem, data, setting).at(2).values();
    const auto queries = static_cast<double>(problem.batch * problem.tokens() * problem.heads);
    for (const double x : dv) ASSERT_LE(x, queries);
  });
}

// Sums over keys are made of partial sums.
TEST(Edges, ManyKeysOfAQueryAreSummedInBlocks) {
  const Problem given{.axes = {{.extent = 607, .window = 600}}, .head_dim = 3, .head_dim_v = 37};
  for_every_way(given, Pass::forward, [](const Variant& variant, const Problem& problem, const Setting& setting) {
    if (problem.type != ElementType::f32) return;
    const test::Data data(problem, 53);
    const std::vector<reference::Query> queries{{}, {.token = {0, 0, 300}}, {.token = {0, 0, 606}}};
    const auto expected = reference::forward(problem, data.inputs(), queries);
    const auto out = test::run_forward(variant, problem, data.inputs(), setting).out.values();
    std::vector<double> values;
    for (const auto& query : queries) {
      const auto first = out.begin() + query.token[2] * problem.head_dim_v;
      values.insert(values.end(), first, first + problem.head_dim_v);
    }
    expect_agrees("out", problem, values, expected.out, 1);
  });
}

// Halves end at 65504; what is rounded to infinity there is said by the reference, but for what lies at the very end.
TEST(Edges, HalvesAreInfiniteOnlyWhereTheReferenceSaysSo) {
  Problem given = plane();
  given.type = ElementType::f16;
  for (const Variant& variant : variants()) {
    const Problem problem = test::problem_of(variant, given);
    if (variant.is_oracle || variant.supports(problem, Pass::backward)) continue;
    test::Data data(problem, 41);
    for (const char* name : {"v", "extra_v"}) {
      for (int64_t i = 0; i < data[name].elements(); ++i) test::set(data[name], i, i % 2 == 0 ? 65504 : -65504);
    }
    for (int64_t i = 0; i < data["dout"].elements(); ++i) test::set(data["dout"], i, 30000);
    const auto forward = reference::forward(problem, data.inputs());
    const auto expected = test::expected_gradients(problem, data);
    const auto half = [](double x) { return std::abs(to_float(from_float<f16>(static_cast<float>(x)))); };
    const auto check = [&](std::string_view tensor, const std::vector<double>& values,
                           const std::vector<double>& reference) {
      int64_t infinite = 0;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const bool low = std::isinf(half(0.99 * reference[i])), high = std::isinf(half(1.01 * reference[i]));
        if (low) {
          ASSERT_TRUE(std::isinf(values[i])) << tensor << " " << i << ": " << values[i];
        }
        if (!high) {
          ASSERT_TRUE(std::isfinite(values[i])) << tensor << " " << i << ": " << values[i];
        }
        infinite += low ? 1 : 0;
      }
      if (tensor == "dv") {
        EXPECT_GT(infinite, 0);
      }
    };
    for (const Setting& each : test::settings(variant, problem, Pass::forward)) {
      SCOPED_TRACE(std::string(variant.name) + " " + each.text());
      auto result = test::run_forward(variant, problem, data.inputs(), each.with_out(ElementType::f16));
      for (const double x : result.out.values()) ASSERT_TRUE(std::isfinite(x));
    }
    for (const Setting& each : test::settings(variant, problem, Pass::backward)) {
      SCOPED_TRACE(std::string(variant.name) + " " + each.text());
      auto results = test::run_backward(variant, problem, data, forward, each.with_out(ElementType::f16));
      check("dv", results[2].values(), expected[2]);
    }
  }
}

}  // namespace
}  // namespace nalab
