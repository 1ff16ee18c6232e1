// The oracle asked by many workers, about all and about a sample.
#include "experiments/verification/oracle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "experiments/runner/tensors.h"

namespace nalab {
namespace {

using testing::ElementsAre;
using verification::Expected;

Problem small_problem(ElementType type) {
  Problem p;
  p.axes = {{.extent = 7, .window = 5}, {.extent = 5, .window = 3}};
  p.heads = p.heads_kv = 3;
  p.head_dim = 20;
  p.head_dim_v = 12;
  p.extra_tokens = 5;
  p.type = type;
  return p;
}

std::vector<std::string> names_of(const Expected& expected) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : expected.tensors) names.push_back(name);
  return names;
}

TEST(Oracle, OfAllQueriesIsThatOfTheWhole) {
  const Problem p = small_problem(ElementType::bf16);
  Workers workers(3);
  const runner::GroupTensors tensors(p, config::RowPass::forward, 1, workers);
  const auto whole = reference::forward(p, tensors.inputs());
  const auto parts =
      verification::oracle_forward(p, tensors.inputs(), verification::choose_queries(p, 7 * 5 * 3, 1), workers);
  EXPECT_EQ(parts.out, whole.out);
  EXPECT_EQ(parts.lse, whole.lse);
  EXPECT_EQ(parts.max_abs_score, whole.max_abs_score);
  const Expected expected = verification::ask_oracle(p, tensors.inputs(), {}, {}, workers);
  EXPECT_THAT(names_of(expected), ElementsAre("lse", "out"));
  EXPECT_EQ(expected.tensors.at("out")->values, whole.out);
  EXPECT_FALSE(expected.tensors.at("out")->rows.has_value()) << "all";
  EXPECT_EQ(expected.queries, 7 * 5 * 3);
}

TEST(Oracle, ASampleHasTheRowsThatItNames) {
  const Problem p = small_problem(ElementType::f32);
  Workers workers(2);
  const runner::GroupTensors tensors(p, config::RowPass::forward_backward, 1, workers);
  const verification::Sample sample{.queries = 4, .gradients = verification::GradientSample{4, 3, 0}, .seed = 1};
  const SavedForBackward saved = tensors.saved();
  Expected expected = verification::ask_oracle(p, tensors.inputs(), saved.dout, sample, workers);
  EXPECT_THAT(names_of(expected), ElementsAre("dq", "lse", "out"));
  verification::add_sampled_keys(p, tensors.inputs(), saved, sample, workers, expected);
  EXPECT_THAT(names_of(expected), ElementsAre("dk", "dq", "dv", "lse", "out")) << "no extra tokens were sampled";
  for (const auto& [name, tensor] : expected.tensors) {
    ASSERT_TRUE(tensor->rows.has_value()) << name;
    EXPECT_EQ(tensor->values.size(), tensor->rows->size() * find_tensor(p, name)->shape.dim) << name;
  }
}

TEST(Oracle, GreatestValueCountsExtraTokens) {
  const Problem p = small_problem(ElementType::f32);
  Workers workers(1);
  TensorSet tensors(p, Pass::forward, [](Role role) { return role == Role::input; });
  for (auto& [info, tensor] : tensors.entries()) {
    std::fill_n(tensor.data<float>(), tensor.elements(), info.over == Over::layout ? 1.0f : -3.0f);
  }
  EXPECT_EQ(verification::ask_oracle(p, tensors.inputs(), {}, {}, workers).max_abs_v, 3);
}

}  // namespace
}  // namespace nalab
