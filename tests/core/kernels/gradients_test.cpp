// What must hold of gradients whatever the numbers are: they are derivatives, linear in dout, add up, and reach exactly
// what they depend on. For every variant, the reference among them.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/compare.h"
#include "tests/core/definition.h"
#include "tests/core/kernels/backward.h"

namespace nalab {
namespace {

using std::vector;
using test::gradients_of;
using test::Setting;
using Token = std::array<int64_t, 3>;

/// Several tiles, each cut short; last stride groups cut short; GQA, batch entries, extra tokens.
vector<Problem> problems() {
  return {
      {.axes = {{.extent = 8, .window = 5, .stride = 3}},
       .batch = 2,
       .heads = 2,
       .heads_kv = 1,
       .head_dim = 3,
       .head_dim_v = 5,
       .extra_tokens = 2},
      {.axes = {{.extent = 5, .window = 3, .stride = 2, .causal = true}, {.extent = 7, .window = 2, .dilation = 3}},
       .heads = 3,
       .heads_kv = 3,
       .head_dim = 6,
       .head_dim_v = 2,
       .scale = -0.7},
      {.axes = {{.extent = 3, .window = 2},
                {.extent = 3, .window = 3, .stride = 2},
                {.extent = 5, .window = 2, .stride = 2, .causal = true}},
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 2,
       .head_dim_v = 4,
       .extra_tokens = 1},
      {.axes = {{}}, .batch = 2, .heads = 2, .head_dim = 3, .head_dim_v = 4},
      {.axes = {{.extent = 5, .window = 4, .stride = 2, .causal = true}, {.extent = 6, .window = 3, .dilation = 2}},
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 3,
       .head_dim_v = 2,
       .extra_tokens = 1,
       .relative_bias = true,
       .scale = -0.7},
      {.axes = {{.extent = 2, .window = 2}, {.extent = 5, .window = 5}},
       .batch = 2,
       .heads = 2,
       .head_dim = 3,
       .head_dim_v = 4,
       .relative_bias = true},
  };
}

/// Calls f(variant, problem, setting) for every variant, problem and way to run.
template <class F>
void for_every_setting(F f) {
  for (const Problem& given : problems()) {
    test::for_every_backward(given, [&](const Variant& variant, const Problem& problem) {
      for (const Setting& setting : test::settings(variant, problem, Pass::backward)) {
        SCOPED_TRACE(std::string(variant.name) + " " + setting.text() + " " + problem.id());
        f(variant, problem, setting);
      }
    });
  }
}

vector<vector<double>> run(const Variant& variant, const Problem& problem, const test::Data& data,
                           const Setting& setting) {
  vector<vector<double>> gradients;
  for (auto& tensor : test::run_backward(variant, problem, data, setting)) gradients.push_back(tensor.values());
  return gradients;
}

double dot(const vector<double>& a, const vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b.at(i);
  return sum;
}

TEST(Gradients, AreFiniteDifferencesOfOut) {
  // Multiples of 2^-10, so that every step below is exact in float.
  constexpr double kGrid = 0x1p-10;
  constexpr double kStep = 0x1p-6;
  for (const Problem& given : problems()) {
    // Variants of self attention have a problem of their own.
    for (const Problem& problem : {given, given.self_attention()}) {
      if (given.relative_bias && !problem.relative_bias) continue;  // as one without from the beginning
      test::Data data(problem, 3);
      vector<Tensor*> inputs;
      const Inputs views = data.inputs();
      visit_tensors(problem, views, [&](const TensorInfo& info, const auto&) { inputs.push_back(&data[info.name]); });
      for (Tensor* tensor : inputs) {
        for (int64_t i = 0; i < tensor->elements(); ++i) {
          test::set(*tensor, i, std::round(tensor->data<float>()[i] / kGrid) * kGrid);
        }
      }
      const vector<double> dout = test::to_double(data["dout"].view());
      const auto loss_at = [&](Tensor& tensor, int64_t i, double x) {
        test::set(tensor, i, x);
        return dot(reference::forward(problem, data.inputs()).out, dout);
      };
      vector<vector<double>> differences;
      for (Tensor* tensor : inputs) {
        vector<double>& gradient = differences.emplace_back();
        for (int64_t i = 0; i < tensor->elements(); ++i) {
          const double x = tensor->data<float>()[i];
          const auto difference = [&](double step) {
            return loss_at(*tensor, i, x + step) - loss_at(*tensor, i, x - step);
          };
          // Central differences of fourth order: their error goes with the step to the fourth.
          gradient.push_back((8 * difference(kStep) - difference(2 * kStep)) / (12 * kStep));
          test::set(*tensor, i, x);
        }
      }
      for (const Variant& variant : variants()) {
        if (variant.supports(problem, Pass::backward)) continue;
        for (const Setting& setting : test::settings(variant, problem, Pass::backward)) {
          const auto gradients = run(variant, problem, data, setting);
          ASSERT_EQ(gradients.size(), differences.size());
          for (std::size_t t = 0; t < gradients.size(); ++t) {
            ASSERT_EQ(gradients[t].size(), differences[t].size());
            for (std::size_t i = 0; i < gradients[t].size(); ++i) {
              ASSERT_NEAR(gradients[t][i], differences[t][i], 2e-5)
                  << variant.name << " " << setting.text() << " " << problem.id() << " "
                  << gradients_of(problem)[t].name << " at " << i;
            }
          }
        }
      }
    }
  }
}

TEST(Gradients, AreLinearInDout) {
  for_every_setting([](const Variant& variant, const Problem& problem, const Setting& setting) {
    test::Data data(problem, 6);
    std::mt19937_64 random(7);
    const Tensor first = test::random_tensor(problem.type, out_shape(problem), random);
    const Tensor second = test::random_tensor(problem.type, out_shape(problem), random);
    const auto with_dout = [&](double a, double b) {
      for (int64_t i = 0; i < first.elements(); ++i) {
        test::set(data["dout"], i, a * first.data<float>()[i] + b * second.data<float>()[i]);
      }
      return run(variant, problem, data, setting);
    };
    const auto one = with_dout(1, 0), two = with_dout(0, 1), mixed = with_dout(3, -0.5), none = with_dout(0, 0);
    for (std::size_t t = 0; t < one.size(); ++t) {
      const double scale = test::max_abs(one[t]) + test::max_abs(two[t]);
      for (std::size_t i = 0; i < one[t].size(); ++i) {
        ASSERT_NEAR(mixed[t][i], 3 * one[t][i] - 0.5 * two[t][i], 1e-5 * scale + 1e-6) << gradients_of(problem)[t].name;
        ASSERT_EQ(none[t][i], 0) << gradients_of(problem)[t].name;
      }
    }
  });
}

/// Sums over the rows of each kv head of each batch entry, by channel.
vector<double> sum_by_kv_head(const Problem& problem, const TokenShape& shape, const vector<double>& values) {
  vector<double> sums(static_cast<std::size_t>(problem.batch * problem.heads_kv * shape.dim), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto flat = static_cast<int64_t>(i);
    const int64_t kv = flat / shape.dim % shape.heads * problem.heads_kv / shape.heads;
    const int64_t b = flat / (shape.elements() / shape.batch);
    sums.at(static_cast<std::size_t>((b * problem.heads_kv + kv) * shape.dim + flat % shape.dim)) += values[i];
  }
  return sums;
}

TEST(Gradients, AddUp) {
  for_every_setting([](const Variant& variant, const Problem& problem, const Setting& setting) {
    const test::Data data(problem, 8);
    const auto gradients = run(variant, problem, data, setting);
    const auto sum_of_keys = [&](std::size_t tensor, std::size_t extra) {
      const auto list = gradients_of(problem);
      auto sums = sum_by_kv_head(problem, list[tensor].shape, gradients[tensor]);
      if (problem.extra_tokens == 0) return sums;
      const auto more = sum_by_kv_head(problem, list[extra].shape, gradients[extra]);
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += more[i];
      return sums;
    };
    // The weights of a query sum to one: dv summed over the keys is dout summed over the queries.
    const auto dv = sum_of_keys(2, 4);
    const auto dout = sum_by_kv_head(problem, out_shape(problem), test::to_double(data["dout"].view()));
    for (std::size_t i = 0; i < dv.size(); ++i) EXPECT_NEAR(dv[i], dout[i], 2e-5) << "dv";
    // The same number added to all scores of a query changes nothing: dk summed over the keys is zero.
    for (double x : sum_of_keys(1, 3)) EXPECT_NEAR(x, 0, 2e-5) << "dk";
    // Scores are linear in q and in k: both q dq and k dk sum to the scores times their gradients.
    double k_dk = dot(gradients[1], test::to_double(data["k"].view()));
    if (problem.extra_tokens > 0) k_dk += dot(gradients[3], test::to_double(data["extra_k"].view()));
    EXPECT_NEAR(dot(gradients[0], test::to_double(data["q"].view())), k_dk, 1e-4);
    // As dk: the biases of a head pass on nothing in all, where extra tokens have no part of it.
    if (!problem.relative_bias || problem.extra_tokens > 0) return;
    for (int64_t h = 0; h < problem.heads; ++h) {
      double sum = 0;
      for (int64_t i = 0; i < problem.bias_entries(); ++i) {
        sum += gradients.back()[static_cast<std::size_t>(h * problem.bias_entries() + i)];
      }
      EXPECT_NEAR(sum, 0, 2e-5) << "drpb";
    }
  });
}

/// Elements of a tensor's gradient that may not be zero, or may not stay what they were, when something is done to one
/// query: its own row of dq, the rows of the keys that it attends to, and their entries of drpb.
bool reached(const Problem& problem, const test::LayoutMask& mask, std::size_t tensor, int64_t flat,
             const reference::Query& query) {
  const TokenShape shape = gradients_of(problem)[tensor].shape;
  if (gradients_of(problem)[tensor].over == Over::offsets) {
    return flat / shape.tokens() == query.head &&
           mask.attends_at(query.token, token_at(shape.layout, flat % shape.tokens()));
  }
  const int64_t head = flat / shape.dim % shape.heads;
  const int64_t index = flat / (shape.dim * shape.heads) % shape.tokens();
  const Token token{index / (shape.layout[1] * shape.layout[2]), index / shape.layout[2] % shape.layout[1],
                    index % shape.layout[2]};
  if (flat / (shape.elements() / shape.batch) != query.batch) return false;
  if (tensor == 0) return head == query.head && token == query.token;
  return head == query.head * problem.heads_kv / problem.heads && (tensor >= 3 || mask.attends(query.token, token));
}

/// Calls f(query, flat index of the first element of its row of out) for some queries.
template <class F>
void for_some_queries(const Problem& problem, F f) {
  const TokenShape shape = out_shape(problem);
  const int64_t rows = shape.elements() / shape.dim;
  for (int64_t row = 0; row < rows; row += 1 + rows / 6) {
    const int64_t index = row / shape.heads % shape.tokens();
    f(reference::Query{row / shape.heads / shape.tokens(),
                       {index / (shape.layout[1] * shape.layout[2]), index / shape.layout[2] % shape.layout[1],
                        index % shape.layout[2]},
                       row % shape.heads},
      row * shape.dim);
  }
}

/// Several micro tiles along each axis, so that a tile holds keys that a query does not attend to.
vector<Problem> larger_problems() {
  return {
      {.axes = {{.extent = 67, .window = 9, .stride = 4}},
       .batch = 2,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 5,
       .head_dim_v = 9,
       .extra_tokens = 2},
      {.axes = {{.extent = 11, .window = 3}, {.extent = 13, .window = 4, .stride = 3, .causal = true}},
       .heads = 2,
       .head_dim = 17,
       .head_dim_v = 8},
      {.axes = {{.extent = 4, .window = 3}, {.extent = 5, .window = 2, .dilation = 2}, {.extent = 9, .window = 4}},
       .head_dim = 4,
       .head_dim_v = 4},
      {.axes = {{.extent = 7, .window = 4, .stride = 2}, {.extent = 13, .window = 3, .dilation = 2, .causal = true}},
       .heads = 2,
       .head_dim = 5,
       .head_dim_v = 4,
       .extra_tokens = 1,
       .relative_bias = true},
  };
}

template <class F>
void for_every_larger_setting(F f) {
  for (const Problem& given : larger_problems()) {
    for (ElementType type : {ElementType::f32, ElementType::bf16}) {
      test::for_every_backward(given, [&](const Variant& variant, Problem problem) {
        problem.type = type;
        for (const Setting& setting : test::settings(variant, problem, Pass::backward)) {
          SCOPED_TRACE(std::string(variant.name) + " " + setting.text() + " " + problem.id());
          f(variant, problem, setting);
          if (::testing::Test::HasFailure()) return;
        }
      });
    }
  }
}

// As dk and dv of keys that no query attends to: there are none, but queries whose dout is zero give nothing either.
TEST(Gradients, AreExactlyZeroWhereNoDoutReaches) {
  for_every_larger_setting([](const Variant& variant, const Problem& problem, const Setting& setting) {
    const test::LayoutMask mask(problem);
    test::Data data(problem, 9);
    for (int64_t i = 0; i < data["dout"].elements(); ++i) test::set(data["dout"], i, 0);
    for_some_queries(problem, [&](const reference::Query& query, int64_t row) {
      for (int64_t c = 0; c < problem.head_dim_v; ++c)
        test::set(data["dout"], row + c, 1 + 0.5 * static_cast<double>(c));
      const auto gradients = run(variant, problem, data, setting);
      for (int64_t c = 0; c < problem.head_dim_v; ++c) test::set(data["dout"], row + c, 0);
      for (std::size_t t = 0; t < gradients.size(); ++t) {
        for (std::size_t i = 0; i < gradients[t].size(); ++i) {
          ASSERT_TRUE(std::isfinite(gradients[t][i]));
          if (reached(problem, mask, t, static_cast<int64_t>(i), query)) continue;
          ASSERT_EQ(gradients[t][i], 0) << gradients_of(problem)[t].name << " at " << i;
        }
      }
      EXPECT_GT(test::max_abs(gradients[2]), 0);
    });
  });
}

TEST(Gradients, NanInAQueryOrItsDoutReachesItAndTheKeysThatItAttendsTo) {
  for_every_larger_setting([](const Variant& variant, const Problem& problem, const Setting& setting) {
    const test::LayoutMask mask(problem);
    test::Data data(problem, 10);
    const auto clean = run(variant, problem, data, setting);
    for_some_queries(problem, [&](const reference::Query& query, int64_t row) {
      for (Tensor* tensor : {&data["q"], &data["dout"]}) {
        const int64_t element = row / problem.head_dim_v * tensor->shape().dim + query.token[2] % tensor->shape().dim;
        const double old = test::to_double(tensor->view()).at(static_cast<std::size_t>(element));
        test::set(*tensor, element, std::numeric_limits<double>::quiet_NaN());
        const auto spoilt = run(variant, problem, data, setting);
        test::set(*tensor, element, old);
        bool any = false;
        for (std::size_t t = 0; t < clean.size(); ++t) {
          for (std::size_t i = 0; i < clean[t].size(); ++i) {
            if (reached(problem, mask, t, static_cast<int64_t>(i), query)) {
              // NaN in one channel of dout reaches dv in that channel alone.
              ASSERT_TRUE(t != 0 || std::isnan(spoilt[t][i])) << "dq at " << i;
              any = any || std::isnan(spoilt[t][i]);
            } else {
              ASSERT_EQ(spoilt[t][i], clean[t][i]) << gradients_of(problem)[t].name << " at " << i;
            }
          }
        }
        EXPECT_TRUE(any);
      }
    });
  });
}

}  // namespace
}  // namespace nalab
