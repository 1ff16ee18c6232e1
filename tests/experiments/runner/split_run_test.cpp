// Groups with a bias and of the operators on weights: what is allocated, verified and stored.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "tests/experiments/runner/runner_fixture.h"

namespace nalab::runner_test {
namespace {

using testing::Contains;
using testing::Not;
using testing::StartsWith;

std::set<std::string> names_of(const store::FinishedRow& row) {
  std::set<std::string> names;
  for (const store::StoredTensor& tensor : row.tensors) names.insert(tensor.name);
  return names;
}

const std::vector<float>& tensor_of(const store::FinishedRow& row, const std::string& name) {
  for (const store::StoredTensor& tensor : row.tensors) {
    if (tensor.name == name) return tensor.data;
  }
  throw std::out_of_range(name);
}

class SplitRun : public RunnerTest {
 protected:
  SplitRun() {
    script.clock.tick = 1;
    settings_.store.tensors = config::TensorStorage::all;
    settings_.timing = {.warmups = 1, .min_samples = 1, .max_samples = 1, .min_seconds = 0, .max_seconds = 100};
    problem_.relative_bias = true;
    problem_.extra_tokens = 2;
    problem_.axes[1].causal = true;
  }
  /// A variant whose weights the test spoils.
  static Variant spoilt(void (*weights)(const Plan&, const Inputs&, const TensorView&, const Execution&)) {
    static SplitOperators operators;
    operators = *find_variant("reference").split;
    operators.weights = weights;
    Variant variant = find_variant("reference");
    variant.name = "spoilt";
    variant.split = &operators;
    return variant;
  }
};

TEST_F(SplitRun, SelfAttentionBesideABiasIsComputedAndStoredWithoutIt) {
  for (const bool dense_first : {true, false}) {
    std::vector<plan::PlannedRow> rows{row(find_variant("dense"), RowPass::forward_backward),
                                       row(find_variant("naive"), RowPass::forward_backward)};
    if (!dense_first) std::swap(rows[0], rows[1]);
    const auto got = run(std::move(rows));
    const store::FinishedRow &dense = got.at("dense"), &naive = got.at("naive");
    EXPECT_EQ(dense.row.status, "done") << dense.row.reason;
    EXPECT_EQ(naive.row.status, "done") << naive.row.reason;
    EXPECT_EQ(dense.row.relative_bias, 0);
    EXPECT_EQ(naive.row.relative_bias, 1);
    EXPECT_EQ(naive.row.baseline, dense.row.problem);
    EXPECT_THAT(names_of(dense), Not(Contains(testing::EndsWith("rpb"))));
    EXPECT_THAT(names_of(naive), testing::IsSupersetOf({"rpb", "drpb"}));
    EXPECT_EQ(tensor_of(dense, "q"), tensor_of(naive, "q"));
    EXPECT_NE(tensor_of(dense, "out"), tensor_of(naive, "out"));
  }
}

TEST_F(SplitRun, EveryOperatorIsVerifiedAndStoredByEveryVariantThatHasIt) {
  for (const ElementType type : {ElementType::f32, ElementType::bf16, ElementType::f16}) {
    problem_.type = type;
    for (const RowPass pass :
         {RowPass::weights, RowPass::weights_backward, RowPass::values, RowPass::values_backward}) {
      // A variant that is refused stands first: its problem has other windows.
      const auto got = run({row(find_variant("dense"), pass), row(find_variant("naive"), pass),
                            row(find_variant("gemm"), pass), row(find_variant("reference"), pass)});
      EXPECT_EQ(got.at("dense").row.status, "refused");
      for (const char* variant : {"naive", "gemm", "reference"}) {
        const store::FinishedRow& finished = got.at(variant);
        EXPECT_EQ(finished.row.status, "done") << variant << ": " << finished.row.reason;
        EXPECT_EQ(finished.row.reason, "");
        EXPECT_EQ(finished.row.pass, config::name(pass));
        EXPECT_EQ(finished.row.verified_queries, 70);
        EXPECT_EQ(finished.row.samples.size(), 1u);
        EXPECT_NE(finished.row.arithmetic, "");
        EXPECT_EQ(finished.row.backward_arithmetic, "");
        EXPECT_LT(finished.row.error_frobenius, finished.row.bound_frobenius);
        const Pass of = config::passes_of(pass).back();
        Problem own = problem_;
        own.relative_bias = finished.row.relative_bias == 1;
        EXPECT_EQ(own.relative_bias, pass == RowPass::weights || pass == RowPass::weights_backward);
        std::set<std::string> expected;
        for (const TensorInfo& info : tensors_of(own, of)) expected.emplace(info.name);
        EXPECT_EQ(names_of(finished), expected) << config::name(pass);
      }
    }
  }
}

TEST_F(SplitRun, ScoresThatACausalAxisHidesAreStoredAsTheyAre) {
  const auto got = run({row(find_variant("gemm"), RowPass::weights)});
  const std::vector<float>& attn = tensor_of(got.at("gemm"), "attn");
  EXPECT_THAT(attn, Contains(-std::numeric_limits<float>::infinity()));
  EXPECT_EQ(got.at("gemm").row.scale, 1) << "scores are not scaled unless asked for";
}

TEST_F(SplitRun, AWrongScoreFails) {
  const Variant wrong = spoilt([](const Plan& plan, const Inputs& in, const TensorView& attn, const Execution& e) {
    find_variant("reference").split->weights(plan, in, attn, e);
    static_cast<float*>(attn.data)[attn.shape.elements() - 1] += 1;
  });
  EXPECT_THAT(run({row(wrong, RowPass::weights)}).at("spoilt").row.reason, StartsWith("attn: frobenius "));
  const Variant seen = spoilt([](const Plan& plan, const Inputs& in, const TensorView& attn, const Execution& e) {
    find_variant("reference").split->weights(plan, in, attn, e);
    for (int64_t i = 0; i < attn.shape.elements(); ++i) {
      float& score = static_cast<float*>(attn.data)[i];
      if (std::isinf(score)) score = -1e30f;
    }
  });
  const store::Row row_of_seen = run({row(seen, RowPass::weights)}).at("spoilt").row;
  EXPECT_EQ(row_of_seen.status, "failed") << "a hidden slot must be -infinity, not merely small";
  const Variant lazy = spoilt([](const Plan&, const Inputs&, const TensorView&, const Execution&) {});
  EXPECT_EQ(run({row(lazy, RowPass::weights)}).at("spoilt").row.status, "failed") << "nothing was written";
}

TEST_F(SplitRun, GradientsBeyondTheBudgetAreNamed) {
  settings_.verify.budget_seconds = 0;
  const auto got = run({row(find_variant("naive"), RowPass::weights_backward)});
  const store::Row& r = got.at("naive").row;
  EXPECT_EQ(r.status, "done");
  EXPECT_EQ(r.verified_queries, 0);
  EXPECT_EQ(r.reason, "dq, dk, dextra_k and drpb were not verified: their oracle would take longer than the budget");
}

}  // namespace
}  // namespace nalab::runner_test
