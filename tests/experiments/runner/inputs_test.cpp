// Inputs and sampled queries: the same for any number of threads, and what they claim to be.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "experiments/runner/tensors.h"
#include "experiments/runner/verification.h"

namespace nalab {
namespace {

using config::RowPass;
using runner::GroupTensors;

Problem problem_of(ElementType type) {
  Problem p;
  p.axes = {{.extent = 41, .window = 5}, {.extent = 37, .window = 3}};
  p.heads = p.heads_kv = 3;
  p.head_dim = 20;
  p.head_dim_v = 12;
  p.extra_tokens = 5;
  p.type = type;
  return p;
}

std::vector<std::vector<float>> all_inputs(const Problem& p, int64_t seed, int threads) {
  Workers workers(threads);
  std::vector<std::vector<float>> data;
  for (const store::StoredTensor& t : GroupTensors(p, RowPass::forward_backward, seed, workers).stored()) {
    if (t.name == "q" || t.name == "k" || t.name == "v" || t.name == "extra_k" || t.name == "extra_v" ||
        t.name == "dout") {
      data.push_back(t.data);
    }
  }
  return data;
}

TEST(Inputs, AreTheSameForAnyNumberOfThreads) {
  for (const ElementType type : {ElementType::f32, ElementType::bf16, ElementType::f16}) {
    const auto one = all_inputs(problem_of(type), 1, 1);
    EXPECT_EQ(one.size(), 6u);
    for (const int threads : {2, 5}) EXPECT_EQ(all_inputs(problem_of(type), 1, threads), one);
  }
}

TEST(Inputs, AreTheSameForAProblemAndItsSelfAttention) {
  const Problem p = problem_of(ElementType::f32);
  EXPECT_EQ(all_inputs(p, 1, 2), all_inputs(p.self_attention(), 1, 2));
}

TEST(Inputs, DependOnSeedProblemAndTensor) {
  const Problem p = problem_of(ElementType::f32);
  Problem other = p;
  other.batch = 2;
  const auto inputs = all_inputs(p, 1, 1);
  EXPECT_NE(all_inputs(p, 2, 1)[0], inputs[0]);
  EXPECT_NE(all_inputs(other, 1, 1)[0][0], inputs[0][0]);
  EXPECT_NE(inputs[0], inputs[1]);
}

TEST(Inputs, AreStandardNormal) {
  const std::vector<float> q = all_inputs(problem_of(ElementType::f32), 7, 2)[0];
  double moments[5] = {};
  double neighbours = 0;
  for (std::size_t i = 0; i < q.size(); ++i) {
    for (int k = 1; k <= 4; ++k) moments[k] += std::pow(q[i], k) / static_cast<double>(q.size());
    if (i > 0) neighbours += q[i] * q[i - 1] / static_cast<double>(q.size());
  }
  // 91020 numbers: about five standard deviations of each mean.
  EXPECT_NEAR(moments[1], 0, 0.017);
  EXPECT_NEAR(moments[2], 1, 0.024);
  EXPECT_NEAR(moments[3], 0, 0.065);
  EXPECT_NEAR(moments[4], 3, 0.17);
  EXPECT_NEAR(neighbours, 0, 0.017);
}

TEST(SampledQueries, IncludeTheCornersAndSpread) {
  Problem p = problem_of(ElementType::f32);
  p.batch = 2;
  const auto queries = runner::choose_queries(p, 50, 1);
  EXPECT_GE(queries.size(), 50u);
  EXPECT_LE(queries.size(), 66u);
  std::set<std::array<int64_t, 5>> seen;
  for (const reference::Query& q : queries) {
    EXPECT_TRUE(q.batch >= 0 && q.batch < 2 && q.head >= 0 && q.head < 3);
    EXPECT_TRUE(q.token[0] == 0 && q.token[1] >= 0 && q.token[1] < 41 && q.token[2] >= 0 && q.token[2] < 37);
    EXPECT_TRUE(seen.insert({q.batch, q.token[0], q.token[1], q.token[2], q.head}).second);
  }
  for (const int64_t x : {0, 40}) {
    for (const int64_t y : {0, 36}) {
      EXPECT_TRUE(seen.contains({0, 0, x, y, 0}));
      EXPECT_TRUE(seen.contains({1, 0, x, y, 2}));
    }
  }
}

TEST(SampledQueries, AreAllWhereTheCountIsTheTotal) {
  const Problem p = problem_of(ElementType::f32);
  const auto queries = runner::choose_queries(p, 41 * 37 * 3, 1);
  EXPECT_EQ(queries.size(), 41u * 37u * 3u);
}

TEST(SampledQueries, OracleOfAllIsTheOracleOfTheWhole) {
  Problem p = problem_of(ElementType::bf16);
  p.axes = {{.extent = 7, .window = 5}, {.extent = 5, .window = 3}};
  Workers workers(3);
  const GroupTensors tensors(p, RowPass::forward, 1, workers);
  const auto whole = reference::forward(p, tensors.inputs());
  const auto parts = runner::oracle_forward(p, tensors.inputs(), runner::choose_queries(p, 7 * 5 * 3, 1), workers);
  EXPECT_EQ(parts.out, whole.out);
  EXPECT_EQ(parts.lse, whole.lse);
  EXPECT_EQ(parts.max_abs_score, whole.max_abs_score);
}

}  // namespace
}  // namespace nalab
