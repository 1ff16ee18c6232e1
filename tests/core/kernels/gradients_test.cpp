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
#include "tests/core/kernels/bounds.h"

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

TEST(Gradients, AreFiniteDifferencesOfOut) {
  for (const Problem& given : problems()) {
    // Variants of self attention have a problem of their own.
    for (const Problem& problem : {given, given.self_attention()}) {
      if (given.relative_bias && !problem.relative_bias) continue;  // as one without from the beginning
      test::Data data(problem, 3);
      vector<Tensor*> inputs;
      const Inputs views = data.inputs();
      visit_tensors(problem, views, [&](const TensorInfo& info, const auto&) { inputs.push_back(&data[info.name]); });
      for (Tensor* tensor : inputs) test::to_grid(*tensor);
      const vector<double> dout = test::to_double(data["dout"].view());
      const auto loss = [&] { return test::dot(reference::forward(problem, data.inputs()).out, dout); };
      vector<test::Differences> differences;
      for (Tensor* tensor : inputs) differences.push_back(test::differences(*tensor, loss));
      const vector<vector<double>> bounds = test::gradient_bounds(problem, data, test::kFloatUnit);
      for (const Variant& variant : variants()) {
        if (variant.supports(problem, Pass::backward)) continue;
        for (const Setting& setting : test::settings(variant, problem, Pass::backward)) {
          const auto gradients = run(variant, problem, data, setting);
          ASSERT_EQ(gradients.size(), differences.size());
          for (std::size_t t = 0; t < gradients.size(); ++t) {
            const auto& [derivatives, remainder] = differences[t];
            ASSERT_EQ(gradients[t].size(), derivatives.size());
            for (std::size_t i = 0; i < gradients[t].size(); ++i) {
              ASSERT_NEAR(gradients[t][i], derivatives[i], remainder + bounds[t][i])
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
    // Of both sides each.
    for (int64_t i = 0; i < first.elements(); ++i) {
      test::set(data["dout"], i, 3 * std::abs(first.data<float>()[i]) + 0.5 * std::abs(second.data<float>()[i]));
    }
    const vector<vector<double>> bounds = test::gradient_bounds(problem, data, test::kFloatUnit);
    for (std::size_t t = 0; t < one.size(); ++t) {
      for (std::size_t i = 0; i < one[t].size(); ++i) {
        ASSERT_NEAR(mixed[t][i], 3 * one[t][i] - 0.5 * two[t][i], 2 * bounds[t][i]) << gradients_of(problem)[t].name;
        ASSERT_EQ(none[t][i], 0) << gradients_of(problem)[t].name;
      }
    }
  });
}

TEST(Gradients, AddUp) {
  for_every_setting([](const Variant& variant, const Problem& problem, const Setting& setting) {
    const test::Data data(problem, 8);
    test::expect_sum_rules(problem, data, run(variant, problem, data, setting), test::kFloatUnit);
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
