// Inputs: the same for any number of threads, and what they claim to be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "experiments/runner/tensors.h"

namespace nalab {
namespace {

using config::RowPass;
using runner::GroupTensors;
using runner::SharedTensors;
using testing::FloatEq;
using testing::Pointwise;

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
  GroupTensors(p, RowPass::forward_backward, seed, workers).store(p, [&](const store::StoredTensor& t) {
    if (t.name == "q" || t.name == "k" || t.name == "v" || t.name == "extra_k" || t.name == "extra_v" ||
        t.name == "dout") {
      data.push_back(t.data);
    }
  });
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

/// The tensors that are not results, by name.
std::map<std::string, std::vector<float>> inputs_of(const Problem& p, RowPass pass) {
  Workers workers(2);
  std::map<std::string, std::vector<float>> data;
  const auto list = tensors_of(p, config::passes_of(pass).back());
  GroupTensors(p, pass, 1, workers).store(p, [&](const store::StoredTensor& t) {
    const auto info = std::ranges::find(list, t.name, &TensorInfo::name);
    if (!info->is_result()) data[t.name] = t.data;
  });
  return data;
}

TEST(Inputs, AreTheSameWithABias) {
  for (const bool whole : {false, true}) {
    Problem p = problem_of(ElementType::f16);
    if (whole) p = p.self_attention();
    Problem with_bias = p;
    with_bias.relative_bias = true;
    auto inputs = inputs_of(with_bias, RowPass::forward_backward);
    const std::vector<float> rpb = inputs.at("rpb");
    EXPECT_EQ(std::ssize(rpb), p.heads * p.bias_entries());
    EXPECT_NE(rpb[0], inputs.at("q")[0]);
    inputs.erase("rpb");
    EXPECT_EQ(inputs, inputs_of(p, RowPass::forward_backward));
  }
}

TEST(Inputs, AreTheSameInEveryPass) {
  Problem p = problem_of(ElementType::bf16);
  p.relative_bias = true;
  std::map<std::string, std::vector<float>> all = inputs_of(p, RowPass::forward_backward);
  for (const RowPass pass :
       {RowPass::weights, RowPass::weights_backward, RowPass::values, RowPass::values_backward, RowPass::forward}) {
    for (const auto& [name, data] : inputs_of(p, pass)) {
      const auto [found, is_new] = all.try_emplace(name, data);
      EXPECT_TRUE(is_new || found->second == data) << name << ' ' << config::name(pass);
    }
  }
  EXPECT_TRUE(all.contains("attn") && all.contains("dattn"));
  EXPECT_NE(all.at("attn"), all.at("dattn"));
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

TEST(Inputs, AreThoseOfEarlierRuns) {
  // The numbers themselves: results that were stored hold for them, and absent tensors move no other one.
  const Problem p = problem_of(ElementType::f32);
  Problem without = p;
  without.extra_tokens = 0;
  std::vector<float> first, first_without;
  for (const auto& tensor : all_inputs(p, 1, 1)) first.push_back(tensor.front());
  for (const auto& tensor : all_inputs(without, 1, 1)) first_without.push_back(tensor.front());
  EXPECT_THAT(
      first, Pointwise(FloatEq(), {-1.17674553f, 0.363660127f, -2.48660207f, 0.990829706f, -1.32734239f, 1.80971575f}));
  EXPECT_THAT(first_without, Pointwise(FloatEq(), {-1.26371026f, 0.0475013964f, -1.64956474f, -1.01075971f}));
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

TEST(Inputs, AreSharedByNeighboursThatHaveTheSame) {
  Workers workers(1);
  SharedTensors shared;
  Problem p = problem_of(ElementType::bf16), strided = p;
  strided.axes[0].stride = 3;
  const auto tensors = [&](const Problem& problem, RowPass pass = RowPass::forward, int64_t seed = 1) {
    return &shared.of(problem, pass, seed, workers);
  };
  const auto holds = [&](const Problem& problem, RowPass pass = RowPass::forward, int64_t seed = 1) {
    tensors(p);
    shared.prepare_for(problem, pass, seed);
    return shared.bytes() > 0;
  };
  EXPECT_EQ(shared.bytes(), 0);
  const GroupTensors* first = tensors(p);
  EXPECT_EQ(shared.bytes(), first->bytes());
  EXPECT_GE(shared.bytes(), p.tensor_bytes(Pass::forward));
  EXPECT_EQ(tensors(strided), first);
  EXPECT_EQ(tensors(p.self_attention()), first);
  EXPECT_TRUE(holds(strided));
  EXPECT_FALSE(holds(p, RowPass::forward, 2)) << "another seed";
  EXPECT_FALSE(holds(p, RowPass::forward_backward));
  Problem other = p;
  other.heads = other.heads_kv = 1;
  EXPECT_FALSE(holds(other));
  other = p;
  other.type = ElementType::f16;
  EXPECT_FALSE(holds(other));
  // A bias and weights have the extents of the window.
  other = p;
  other.relative_bias = true;
  EXPECT_FALSE(holds(other));
  Problem wider = p;
  wider.axes[0].window = 7;
  EXPECT_TRUE(holds(wider));
  for (const bool of_weights : {false, true}) {
    p.relative_bias = wider.relative_bias = !of_weights;
    const RowPass pass = of_weights ? RowPass::values : RowPass::forward;
    tensors(p, pass);
    shared.prepare_for(wider, pass, 1);
    EXPECT_EQ(shared.bytes(), 0);
  }
}

}  // namespace
}  // namespace nalab
