// The oracle asked by many workers, about all and about a sample.
#include "experiments/verification/oracle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/kernels/reference/term_sizes.h"
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
  const verification::Sample sample{.queries = 4, .gradients = verification::GradientSample{4, 3, 0, 0}, .seed = 1};
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

TEST(Oracle, ASampleOfTheBiasHasTheEntriesOfTheWhole) {
  Problem p = small_problem(ElementType::f32);
  p.batch = 2;
  p.relative_bias = true;
  Workers workers(2);
  runner::GroupTensors tensors(p, config::RowPass::forward_backward, 1, workers);
  const SavedForBackward saved = tensors.saved();
  // What is saved is made here: the oracle starts from it.
  const auto forward = reference::forward(p, tensors.inputs());
  std::ranges::copy(forward.out, static_cast<float*>(tensors.outputs().out.data));
  std::ranges::copy(forward.lse, static_cast<float*>(tensors.outputs().lse.data));
  const auto whole = reference::backward(p, tensors.inputs(), saved.dout).drpb;
  // What is saved is rounded to float32: out is a part of delta, lse of the weights.
  const auto sizes = reference::term_sizes(p, Pass::backward, tensors.all()).of.at("drpb");
  const double unit = 0x1p-24 * (1 + verification::max_abs(forward.lse));
  const int64_t entries = p.heads * p.bias_entries();
  for (const int64_t count : {int64_t{0}, int64_t{5}, entries}) {
    const verification::Sample sample{
        .gradients = verification::GradientSample{.queries = 1, .keys = 1, .offsets = count}, .seed = 1};
    Expected expected;
    verification::add_sampled_keys(p, tensors.inputs(), saved, sample, workers, expected);
    ASSERT_EQ(expected.tensors.contains("drpb"), count > 0);
    if (count == 0) continue;
    const auto& [rows, values] = *expected.tensors.at("drpb");
    EXPECT_EQ(values.size(), rows->size());
    EXPECT_GE(std::ssize(*rows), count);
    EXPECT_LE(std::ssize(*rows), std::min(entries, count + 16));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto& [head, index, only] = (*rows)[i];
      EXPECT_EQ(only, 0);
      const auto at = static_cast<std::size_t>((head * 9 + index[1]) * 5 + index[2]);
      EXPECT_NEAR(values[i], whole[at], unit * sizes[at]) << at;
    }
  }
}

TEST(Oracle, OfTheOperatorsOnWeightsIsWholeOrASample) {
  Problem p = small_problem(ElementType::f32);
  p.relative_bias = true;
  Workers workers(2);
  for (const config::RowPass row_pass : {config::RowPass::weights, config::RowPass::weights_backward,
                                         config::RowPass::values, config::RowPass::values_backward}) {
    const Pass pass = config::passes_of(row_pass).back();
    const runner::GroupTensors tensors(p, row_pass, 1, workers);
    const Expected all = verification::ask_split_oracle(p, pass, tensors.all(), {}, workers);
    EXPECT_EQ(all.queries, 7 * 5 * 3);
    for (const TensorInfo& info : tensors_of(p, pass)) {
      if (!info.is_result()) continue;
      ASSERT_TRUE(all.tensors.contains(info.name)) << info.name;
      const auto& [rows, values] = *all.tensors.find(info.name)->second;
      EXPECT_FALSE(rows.has_value());
      EXPECT_EQ(std::ssize(values), info.shape.elements()) << info.name;
    }
    const verification::Sample sample{.queries = 4, .gradients = verification::GradientSample{}, .seed = 1};
    const Expected some = verification::ask_split_oracle(p, pass, tensors.all(), sample, workers);
    if (is_backward(pass)) {
      EXPECT_THAT(names_of(some), testing::IsEmpty());
      EXPECT_EQ(some.queries, 0);
      EXPECT_GT(all.gradient_scale, 1) << "what a zero gradient is held against";
      continue;
    }
    const std::string output = pass == Pass::weights ? "attn" : "out";
    EXPECT_THAT(names_of(some), ElementsAre(output));
    const auto& [rows, values] = *some.tensors.at(output);
    EXPECT_EQ(std::ssize(*rows), some.queries);
    EXPECT_EQ(values.size(), rows->size() * (pass == Pass::weights ? 5 * 3 + 5 : 12));
    EXPECT_GT(some.output_scale, 1);
  }
}

TEST(Oracle, GreatestValueCountsExtraTokens) {
  const Problem p = small_problem(ElementType::f32);
  Workers workers(1);
  TensorSet tensors(p, Pass::forward, [](Role role) { return role == Role::input; });
  for (auto& [info, tensor] : tensors.entries()) {
    std::fill_n(tensor.data<float>(), tensor.elements(), info.over == Over::layout ? 1.0f : -3.0f);
  }
  EXPECT_EQ(verification::ask_oracle(p, tensors.inputs(), {}, {}, workers).output_scale, 3);
}

}  // namespace
}  // namespace nalab
