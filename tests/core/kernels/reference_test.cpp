// The oracle itself: by hand, against attention written out here, and by finite differences.
#include "core/kernels/reference/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "tests/core/definition.h"
#include "tests/core/kernels/bounds.h"
#include "tests/core/kernels/support.h"

namespace nalab {
namespace {

using std::vector;

Tensor tensor_of(const TokenShape& shape, const vector<double>& values) {
  Tensor tensor(ElementType::f32, shape);
  for (std::size_t i = 0; i < values.size(); ++i) test::set(tensor, static_cast<int64_t>(i), values[i]);
  return tensor;
}

void expect_near(const vector<double>& values, const vector<double>& expected, double bound) {
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], bound) << "at " << i;
}

TEST(Reference, MembershipIsTheDefinition) {
  for (int64_t extent = 1; extent <= 12; ++extent) {
    test::for_every_axis(extent, [](const Axis& axis) {
      const auto mask = test::mask_of(axis);
      for (int64_t i = 0; i < axis.extent; ++i) {
        for (int64_t j = 0; j < axis.extent; ++j) {
          ASSERT_EQ(reference::attends(axis, i, j),
                    mask.at(static_cast<std::size_t>(i)).at(static_cast<std::size_t>(j)))
              << testing::PrintToString(axis) << " query " << i << " key " << j;
        }
      }
    });
  }
}

// Two tokens, one head, one channel; scores of the first query are 0 and ln 3, of the second 0 and 0.
TEST(Reference, TwoTokensByHand) {
  const Problem problem{.axes = {{.extent = 2, .window = 2}}, .head_dim = 1, .head_dim_v = 1, .scale = 1.0};
  const double ln3 = std::log(3.0);
  const Tensor q = tensor_of(q_shape(problem), {1, 0});
  const Tensor k = tensor_of(k_shape(problem), {0, ln3});
  const Tensor v = tensor_of(v_shape(problem), {10, 20});
  const Tensor dout = tensor_of(out_shape(problem), {1, 0});
  const Inputs inputs{q.view(), k.view(), v.view(), {}, {}};
  const auto forward = reference::forward(problem, inputs);
  // ln 3 is rounded to float; no result grows faster than 10 times it.
  const double bound = 10 * test::kFloatUnit;
  expect_near(forward.out, {0.25 * 10 + 0.75 * 20, 15}, bound);
  expect_near(forward.lse, {std::log(4.0), std::log(2.0)}, bound);
  EXPECT_NEAR(forward.max_abs_score, ln3, bound);
  // dp = (10, 20), delta = 17.5, ds = (0.25 * -7.5, 0.75 * 2.5).
  const auto backward = reference::backward(problem, inputs, dout.view());
  expect_near(backward.dv, {0.25, 0.75}, bound);
  expect_near(backward.dq, {1.875 * ln3, 0}, bound);
  expect_near(backward.dk, {-1.875, 1.875}, bound);
  EXPECT_TRUE(backward.dextra_k.empty());
}

/// Within a unit, relative to the size of each.
void expect_near(const vector<double>& values, const vector<double>& expected, const vector<double>& sizes,
                 double unit) {
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_NEAR(values[i], expected[i], unit * sizes.at(i)) << "at " << i;
  }
}

/// Attention by flat loops over all pairs of tokens, with the exponentials as they are.
reference::Forward plain_attention(const Problem& p, const test::Data& data) {
  const test::LayoutMask mask(p);
  const auto axes = p.axes3();
  const auto q = test::to_double(data["q"].view()), k = test::to_double(data["k"].view()),
             v = test::to_double(data["v"].view());
  const bool extra = p.extra_tokens > 0;
  const auto extra_k = extra ? test::to_double(data["extra_k"].view()) : vector<double>{};
  const auto extra_v = extra ? test::to_double(data["extra_v"].view()) : vector<double>{};
  const auto rpb = p.relative_bias ? test::to_double(data["rpb"].view()) : vector<double>{};
  const int64_t tokens = p.tokens();
  const auto coordinates = [&axes](int64_t token) -> std::array<int64_t, 3> {
    return {token / (axes[1].extent * axes[2].extent), token / axes[2].extent % axes[1].extent, token % axes[2].extent};
  };
  const auto at = [](const vector<double>& values, int64_t i) { return values.at(static_cast<std::size_t>(i)); };
  // Of the table [heads, 2 w1 - 1, 2 w2 - 1, 2 w3 - 1], by the distance within a dilation group.
  const auto bias = [&](int64_t head, int64_t query, int64_t key) {
    if (!p.relative_bias) return 0.0;
    int64_t index = head;
    for (std::size_t a = 0; a < 3; ++a) {
      const int64_t distance = coordinates(key)[a] / axes[a].dilation - coordinates(query)[a] / axes[a].dilation;
      index = index * (2 * axes[a].window - 1) + distance + axes[a].window - 1;
    }
    return at(rpb, index);
  };
  reference::Forward result;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = 0; i < tokens; ++i) {
      for (int64_t h = 0; h < p.heads; ++h) {
        const int64_t kv = h * p.heads_kv / p.heads;
        double sum = 0;
        vector<double> out(static_cast<std::size_t>(p.head_dim_v), 0.0);
        const auto add = [&](const vector<double>& keys, const vector<double>& values, int64_t row, double added) {
          double score = 0;
          for (int64_t c = 0; c < p.head_dim; ++c) {
            score += at(q, ((b * tokens + i) * p.heads + h) * p.head_dim + c) * at(keys, row * p.head_dim + c);
          }
          const double scale = p.scale.value_or(1 / std::sqrt(static_cast<double>(p.head_dim)));
          const double weight = std::exp(score * scale + added);
          sum += weight;
          for (int64_t c = 0; c < p.head_dim_v; ++c) {
            out[static_cast<std::size_t>(c)] += weight * at(values, row * p.head_dim_v + c);
          }
        };
        for (int64_t j = 0; j < tokens; ++j) {
          if (!mask.attends(coordinates(i), coordinates(j))) continue;
          add(k, v, (b * tokens + j) * p.heads_kv + kv, bias(h, i, j));
        }
        for (int64_t j = 0; j < p.extra_tokens; ++j) {
          add(extra_k, extra_v, (b * p.extra_tokens + j) * p.heads_kv + kv, 0);
        }
        for (double x : out) result.out.push_back(x / sum);
        result.lse.push_back(std::log(sum));
      }
    }
  }
  return result;
}

vector<Problem> small_problems() {
  return {
      {.axes = {{.extent = 5, .window = 5}}, .head_dim = 3, .head_dim_v = 3},
      {.axes = {{.extent = 3, .window = 3}, {.extent = 4, .window = 4}},
       .batch = 2,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 3,
       .head_dim_v = 5,
       .extra_tokens = 2},
      {.axes = {{.extent = 9, .window = 4, .stride = 3, .causal = true}},
       .head_dim = 2,
       .head_dim_v = 1,
       .scale = -0.7},
      {.axes = {{.extent = 7, .window = 2, .dilation = 3}, {.extent = 3, .window = 2, .stride = 2}},
       .heads = 3,
       .heads_kv = 3,
       .head_dim = 4,
       .head_dim_v = 2},
      {.axes = {{.extent = 2, .window = 2},
                {.extent = 3, .window = 2, .causal = true},
                {.extent = 5, .window = 2, .stride = 2, .dilation = 2}},
       .heads = 6,
       .heads_kv = 2,
       .head_dim = 2,
       .head_dim_v = 3,
       .extra_tokens = 1,
       .scale = 0.9},
      {.axes = {{.extent = 4}}, .heads = 2, .head_dim = 3, .head_dim_v = 4},
      {.axes = {{.extent = 5, .window = 5}}, .head_dim = 3, .head_dim_v = 3, .relative_bias = true},
      {.axes = {{.extent = 3, .window = 3}, {.extent = 5, .window = 4, .stride = 2}},
       .batch = 2,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 3,
       .head_dim_v = 2,
       .extra_tokens = 2,
       .relative_bias = true},
      {.axes = {{.extent = 9, .window = 4, .stride = 3, .causal = true}},
       .batch = 2,
       .heads = 2,
       .head_dim = 2,
       .head_dim_v = 1,
       .relative_bias = true,
       .scale = -0.7},
      {.axes = {{.extent = 2, .window = 2},
                {.extent = 3, .window = 2, .causal = true},
                {.extent = 5, .window = 2, .stride = 2, .dilation = 2}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 2,
       .head_dim_v = 3,
       .relative_bias = true},
      {.axes = {{.extent = 3}}, .heads = 2, .head_dim = 3, .head_dim_v = 4, .relative_bias = true},
  };
}

class SmallProblems : public ::testing::TestWithParam<Problem> {};
INSTANTIATE_TEST_SUITE_P(Reference, SmallProblems, ::testing::ValuesIn(small_problems()),
                         [](const auto& test) { return test::test_name(test.param); });

TEST_P(SmallProblems, EqualsAttentionWrittenOutPlainly) {
  for (ElementType type : test::kElementTypes) {
    Problem problem = GetParam();
    problem.type = type;
    const test::Data data(problem, 1);
    const auto result = reference::forward(problem, data.inputs());
    const auto expected = plain_attention(problem, data);
    const auto sizes = test::term_sizes(problem, Pass::forward, data);
    const double unit = test::kDoubleUnit * test::roundings(problem, sizes.greatest_score);
    expect_near(result.out, expected.out, sizes.of.at("out"), unit);
    expect_near(result.lse, expected.lse, sizes.of.at("lse"), unit);
  }
}

TEST_P(SmallProblems, ChosenQueriesEqualTheirRowsOfTheWhole) {
  const Problem& problem = GetParam();
  const test::Data data(problem, 2);
  const auto whole = reference::forward(problem, data.inputs());
  const auto axes = problem.axes3();
  vector<reference::Query> queries;
  vector<double> out;
  vector<double> lse;
  const TokenShape shape = out_shape(problem);
  for (int64_t n = 0; n < 10; ++n) {
    const reference::Query query{n % problem.batch,
                                 {(n * 5 + 1) % axes[0].extent, (n * 7 + 2) % axes[1].extent, n * 3 % axes[2].extent},
                                 (n * 11 + 1) % problem.heads};
    queries.push_back(query);
    const int64_t row = test::row_index(shape, query.batch, query.token, query.head);
    out.insert(out.end(), whole.out.begin() + row, whole.out.begin() + row + shape.dim);
    lse.push_back(whole.lse.at(static_cast<std::size_t>(row / shape.dim)));
  }
  const auto sample = reference::forward(problem, data.inputs(), queries);
  EXPECT_EQ(sample.out, out);
  EXPECT_EQ(sample.lse, lse);
  EXPECT_TRUE(reference::forward(problem, data.inputs(), {}).out.empty());
}

TEST_P(SmallProblems, GradientsOfChosenQueriesAndKeysAreThoseOfAll) {
  const Problem& problem = GetParam();
  const test::Data data(problem, 5);
  const auto all = reference::backward(problem, data.inputs(), data["dout"].view());
  const auto forward = reference::forward(problem, data.inputs());
  const Tensor out = tensor_of(out_shape(problem), forward.out), lse = tensor_of(lse_shape(problem), forward.lse);
  const SavedForBackward saved{out.view(), lse.view(), data["dout"].view()};
  // Every third row, from the last one to the first.
  const auto for_some_rows = [](const TokenShape& shape, const auto& visit) {
    const int64_t rows = shape.elements() / shape.dim;
    for (int64_t row = rows - 1; row >= 0; row -= 3) {
      const int64_t token = row / shape.heads % shape.tokens();
      visit(row / (shape.heads * shape.tokens()),
            std::array<int64_t, 3>{token / (shape.layout[1] * shape.layout[2]),
                                   token / shape.layout[2] % shape.layout[1], token % shape.layout[2]},
            row % shape.heads, row);
    }
  };
  const auto append_row = [](const vector<double>& tensor, int64_t row, int64_t dim, vector<double>& rows) {
    rows.insert(rows.end(), tensor.begin() + row * dim, tensor.begin() + (row + 1) * dim);
  };
  const auto sizes = test::term_sizes(problem, Pass::backward, data);
  // out and lse are rounded to float, the one as a part of delta, the other of the weights.
  const double unit = test::kFloatUnit * (1 + test::max_abs(forward.lse));
  std::vector<reference::Query> queries;
  vector<double> dq, dk, dv, dk_sizes, dv_sizes;
  for_some_rows(q_shape(problem), [&](int64_t b, const auto& token, int64_t head, int64_t row) {
    queries.push_back({b, token, head});
    append_row(all.dq, row, problem.head_dim, dq);
  });
  EXPECT_EQ(reference::backward_queries(problem, data.inputs(), data["dout"].view(), queries).dq, dq);
  std::vector<reference::Key> keys;
  for (const bool extra : {true, false}) {
    if (extra && problem.extra_tokens == 0) continue;
    for_some_rows(extra ? extra_k_shape(problem) : k_shape(problem),
                  [&](int64_t b, const auto& token, int64_t head, int64_t row) {
                    keys.push_back({b, token, head, extra});
                    append_row(extra ? all.dextra_k : all.dk, row, problem.head_dim, dk);
                    append_row(extra ? all.dextra_v : all.dv, row, problem.head_dim_v, dv);
                    append_row(sizes.of.at(extra ? "dextra_k" : "dk"), row, problem.head_dim, dk_sizes);
                    append_row(sizes.of.at(extra ? "dextra_v" : "dv"), row, problem.head_dim_v, dv_sizes);
                  });
  }
  if (problem.relative_bias) {
    std::vector<reference::Offset> offsets;
    vector<double> drpb, drpb_sizes;
    for_some_rows(rpb_shape(problem), [&](int64_t head, const auto& index, int64_t, int64_t row) {
      offsets.push_back({head, index});
      append_row(all.drpb, row, 1, drpb);
      append_row(sizes.of.at("drpb"), row, 1, drpb_sizes);
    });
    expect_near(reference::backward_bias(problem, data.inputs(), saved, offsets), drpb, drpb_sizes, unit);
  }
  const auto some = reference::backward_keys(problem, data.inputs(), saved, keys);
  expect_near(some.dk, dk, dk_sizes, unit);
  expect_near(some.dv, dv, dv_sizes, unit);
}

TEST_P(SmallProblems, GradientsEqualFiniteDifferences) {
  const Problem& problem = GetParam();
  test::Data data(problem, 3);
  const Inputs inputs = data.inputs();
  visit_tensors(problem, inputs, [&](const TensorInfo& info, const auto&) { test::to_grid(data[info.name]); });
  const vector<double> dout = test::to_double(data["dout"].view());
  const auto loss = [&] {
    const auto out = reference::forward(problem, data.inputs()).out;
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
    return sum;
  };
  const auto gradients = reference::backward(problem, data.inputs(), data["dout"].view());
  const auto check = [&](const char* input, const vector<double>& gradient) {
    SCOPED_TRACE(input);
    if (!data.has(input)) {
      EXPECT_TRUE(gradient.empty());
      return;
    }
    EXPECT_EQ(test::max_abs(gradient) > 1e-3, problem.keys_per_query() > 1 || input == std::string("v"))
        << "a gradient of zero would show nothing";
    const auto [derivatives, remainder] = test::differences(data[input], loss);
    // Beside the remainder: what 2^-53 of the loss becomes over a step.
    expect_near(gradient, derivatives, 2 * remainder + test::kDoubleUnit * 0x1p10 * test::max_abs(dout));
  };
  check("q", gradients.dq);
  check("k", gradients.dk);
  check("v", gradients.dv);
  check("extra_k", gradients.dextra_k);
  check("extra_v", gradients.dextra_v);
  check("rpb", gradients.drpb);
}

TEST_P(SmallProblems, SumRulesOfTheGradients) {
  const Problem& problem = GetParam();
  const test::Data data(problem, 4);
  vector<vector<double>> gradients = test::expected_gradients(problem, data);
  test::expect_sum_rules(problem, data, gradients, test::kDoubleUnit);
}

// As above; the bias of the next key is ln 2, so that the scores of the first query are 0 and ln 6. That of the one
// before is ln 4.
TEST(Reference, TwoTokensWithBiasesByHand) {
  Problem problem{.axes = {{.extent = 2, .window = 2}}, .head_dim = 1, .head_dim_v = 1, .relative_bias = true};
  problem.scale = 0.5;
  const double ln2 = std::log(2.0), ln3 = std::log(3.0);
  const Tensor q = tensor_of(q_shape(problem), {1, 0});
  const Tensor k = tensor_of(k_shape(problem), {0, 2 * ln3});
  const Tensor v = tensor_of(v_shape(problem), {10, 20});
  const Tensor rpb = tensor_of(rpb_shape(problem), {2 * ln2, 0, ln2});
  const Tensor dout = tensor_of(out_shape(problem), {7, 0});
  const Inputs inputs{q.view(), k.view(), v.view(), {}, {}, rpb.view()};
  const auto forward = reference::forward(problem, inputs);
  // Logarithms are rounded to float, together by 1.5 units in a score; no result grows faster than 10 times a score.
  const double bound = 15 * test::kFloatUnit;
  expect_near(forward.out, {10.0 / 7 + 20 * 6.0 / 7, 10 * 4.0 / 5 + 20.0 / 5}, bound);
  expect_near(forward.lse, {std::log(7.0), std::log(5.0)}, bound);
  EXPECT_NEAR(forward.max_abs_score, std::log(6.0), bound) << "biases are part of the scores";
  // dp = (70, 140), delta = 130, ds = (1/7 * -60, 6/7 * 10): the bias is not scaled, its gradient neither.
  const auto backward = reference::backward(problem, inputs, dout.view());
  expect_near(backward.drpb, {0, -60.0 / 7, 60.0 / 7}, bound);
  expect_near(backward.dk, {-30.0 / 7, 30.0 / 7}, bound);
}

TEST(Reference, WindowOfOneIsTheValueItself) {
  const Problem problem{
      .axes = {{.extent = 3}, {.extent = 5}}, .batch = 2, .heads = 4, .heads_kv = 2, .head_dim = 6, .head_dim_v = 3};
  const test::Data data(problem, 9);
  const auto result = reference::forward(problem, data.inputs());
  const auto v = test::to_double(data["v"].view());
  for (int64_t token = 0; token < 2 * 15; ++token) {
    for (int64_t h = 0; h < 4; ++h) {
      for (int64_t c = 0; c < 3; ++c) {
        EXPECT_EQ(result.out.at(static_cast<std::size_t>((token * 4 + h) * 3 + c)),
                  v.at(static_cast<std::size_t>((token * 2 + h / 2) * 3 + c)));
      }
    }
  }
}

TEST(Reference, LargeScoresNeitherOverflowNorUnderflow) {
  const Problem problem{.axes = {{.extent = 2, .window = 2}}, .head_dim = 1, .head_dim_v = 1, .scale = 1.0};
  const Tensor q = tensor_of(q_shape(problem), {1000, -1000});
  const Tensor k = tensor_of(k_shape(problem), {1000, 999});
  const Tensor v = tensor_of(v_shape(problem), {3, 4});
  const auto result = reference::forward(problem, {q.view(), k.view(), v.view(), {}, {}});
  EXPECT_EQ(result.out, (vector<double>{3, 4}));
  EXPECT_EQ(result.lse, (vector<double>{1e6, -999000}));
  EXPECT_EQ(result.max_abs_score, 1e6);
}

}  // namespace
}  // namespace nalab
