// Whole models in plans.
#include "experiments/plan/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "core/error.h"
#include "experiments/plan/announce.h"
#include "experiments/plan/budget.h"
#include "experiments/plan/plan.h"
#include "experiments/plan/shard.h"
#include "tests/experiments/model/small_models.h"
#include "tests/experiments/support.h"
#include "tests/store/temporary_folder.h"

namespace nalab {
namespace {

using experiments_test::load_text;
using plan::Resources;
using plan::RunPlan;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kText =
    "name: x\nvariants: [naive, gemm, fused]\nverify: {budget_seconds: 60}\n"
    "timing: {warmups: 1, min_samples: 2, max_samples: 2, min_seconds: 0, max_seconds: 5}\n"
    "problems: [{label: attention, layout: 12, window: 3}]\n"
    "models:\n- {model: NAT-M, batch: 2}\n- {model: DiNATs-T, pass: training_step, relative_bias: false}\n";
const Resources kLarge{int64_t{1} << 40, 2};

RunPlan make(const std::string& filter = "", const Resources& resources = kLarge, const std::string& text = kText) {
  return plan::make_run_plan({load_text(text)}, filter, resources);
}

std::vector<std::string> ids(const RunPlan& plan) {
  std::vector<std::string> list;
  for (const plan::ModelGroup& group : plan.models) {
    for (const plan::PlannedModel& row : group.rows) list.push_back(row.id);
  }
  return list;
}

class PlannedModels : public testing::Test {
 protected:
  void SetUp() override {
    if (!model::why_not_built().empty()) GTEST_SKIP() << model::why_not_built();
  }
};

TEST_F(PlannedModels, HaveIdsPlacesAndCosts) {
  const RunPlan plan = make();
  EXPECT_THAT(ids(plan),
              ElementsAre("NAT-M_224x224_rpb_b2_f32.naive.forward", "NAT-M_224x224_rpb_b2_f32.gemm.forward",
                          "NAT-M_224x224_rpb_b2_f32.fused.forward", "DiNATs-T_224x224_b1_f32.naive.training_step",
                          "DiNATs-T_224x224_b1_f32.gemm.training_step", "DiNATs-T_224x224_b1_f32.fused.training_step"));
  EXPECT_EQ(plan.rows(), 9);
  const plan::PlannedModel& fused = plan.models[0].rows[2];
  EXPECT_EQ(fused.position, 5);
  EXPECT_EQ(fused.config, "x");
  EXPECT_EQ(fused.label, "NAT-M");
  EXPECT_EQ(fused.refusal, std::nullopt);
  EXPECT_EQ(fused.arithmetic, "f32_fma");
  EXPECT_EQ(fused.facts.parameters, 19'984'174);
  EXPECT_EQ(plan::flops_of_call(fused), 4 * fused.facts.multiply_adds);
  EXPECT_GT(fused.workspace_bytes, 0);
  const int64_t queries = 3 * 2 * 3136 + 4 * 4 * 784 + 6 * 8 * 196 + 5 * 16 * 49;
  EXPECT_EQ(fused.memory_bytes, fused.facts.weight_bytes + fused.facts.value_bytes + fused.workspace_bytes +
                                    3 * 4 * 2 * queries + 4 * 1000 * (2 + 2 + 1))
      << "a number for each query, of three variants and two images; logits that are compared";
  EXPECT_GT(fused.seconds, 0);
  EXPECT_LT(fused.seconds, 60);
  EXPECT_TRUE(fused.has_reference);
  const plan::PlannedModel& training = plan.models[1].rows[0];
  EXPECT_EQ(plan::flops_of_call(training), 6 * training.facts.multiply_adds);
  EXPECT_GT(training.memory_bytes, training.facts.weight_bytes + training.facts.value_bytes + training.workspace_bytes +
                                       8 * training.facts.parameters);
}

TEST_F(PlannedModels, AreRefusedWhereTheyDoNotFit) {
  const int64_t needed = make().models[0].rows[2].memory_bytes;
  const auto refusal = [](int64_t bytes) {
    return make("fused", {bytes, 2}).models[0].rows[0].refusal.value_or("accepted");
  };
  EXPECT_EQ(refusal(needed), "accepted");
  EXPECT_THAT(refusal(needed - 1),
              testing::MatchesRegex("needs [0-9]+ MB of memory \\([0-9.]+ [kM]B of it workspace\\), "
                                    "the machine has [0-9]+ MB"));
}

TEST_F(PlannedModels, AreRefusedWhereAVariantOrTypeLacksThem) {
  const RunPlan plan =
      make("NAT-M", kLarge, "name: x\nvariants: [hopper, fused, dense]\ntypes: [f32, f16]\nmodels: [{model: NAT-M}]\n");
  EXPECT_EQ(plan.models[0].rows[0].refusal, "models compute on the CPU");
  EXPECT_TRUE(plan.models[0].rows[0].has_reference) << "as the others of its group";
  EXPECT_THAT(plan.models[0].rows[2].refusal.value_or("accepted"), HasSubstr("dense"));
  EXPECT_EQ(plan.models[0].rows[1].refusal, std::nullopt);
  EXPECT_EQ(plan.models[1].rows[1].refusal, "models compute in f32 and bf16, not in f16");
}

TEST(PlannedModel, ThatCannotBeMadeHasTheSizeAskedForAndOtherwiseNone) {
  config::ModelSettings model;
  model.model = "unknown";
  const auto row = [&model] {
    return plan::make_model_group(model, ElementType::f32, {"fused"}, {}, kLarge).rows.at(0);
  };
  EXPECT_EQ(row().id, "unknown_rpb_b1_f32.fused.forward");
  model.size = 256;
  EXPECT_EQ(row().id, "unknown_256x256_rpb_b1_f32.fused.forward");
  EXPECT_EQ(row().facts.size, 256);
  EXPECT_NE(row().refusal, std::nullopt);
}

TEST_F(PlannedModels, HaveOneDefinitionInARun) {
  const TemporaryFolder folder;
  std::string wider = experiments_test::kSmallModels;
  wider.replace(wider.find("[32, 64]"), 8, "[64, 128]");
  std::ofstream(folder.file("small.yaml")) << experiments_test::kSmallModels;
  std::ofstream(folder.file("same.yaml")) << experiments_test::kSmallModels;
  std::ofstream(folder.file("wider.yaml")) << wider;
  const auto config = [&](const std::string& name, const std::string& definitions) {
    std::ofstream(folder.file(name)) << "name: " << name << "\nvariants: fused\n"
                                     << "models: [{model: tiny, definitions: " << definitions << "}]\n";
    return config::load(folder.file(name), config::Form::full);
  };
  const config::Config small = config("a", "small.yaml"), same = config("b", "same.yaml"),
                       other = config("c", "wider.yaml");
  EXPECT_EQ(plan::make_run_plan({small, same}, "", kLarge).repeated, 1);
  EXPECT_THAT(
      [&] {
        plan::make_run_plan({small, other}, "", kLarge);
      },
      testing::ThrowsMessage<Error>(other.path + ": models: expected one definition of tiny in a run, got that of " +
                                    folder.file("small.yaml") + " and that of " + folder.file("wider.yaml")));
  EXPECT_THAT(config::resolved(small), HasSubstr("\n# small.yaml: models:\n# small.yaml: - {name: tiny, "));
}

TEST_F(PlannedModels, AreComparedWithTheReferenceWhereItIsQuickEnough) {
  std::string text = kText;
  text.replace(text.find("60}"), 2, "0.01");
  for (const plan::ModelGroup& group : make("", kLarge, text).models) {
    for (const plan::PlannedModel& row : group.rows) EXPECT_FALSE(row.has_reference) << row.id;
  }
}

TEST_F(PlannedModels, AreFilteredSkippedAndRunOnce) {
  EXPECT_THAT(ids(make("NAT-M.*fused")), ElementsAre("NAT-M_224x224_rpb_b2_f32.fused.forward"));
  EXPECT_THAT(ids(make("^DiNATs-T$")).size(), 3u) << "by label";
  RunPlan plan = make();
  plan::skip_finished(plan, {"NAT-M_224x224_rpb_b2_f32.naive.forward", "NAT-M_224x224_rpb_b2_f32.gemm.forward",
                             "NAT-M_224x224_rpb_b2_f32.fused.forward", "DiNATs-T_224x224_b1_f32.gemm.training_step"});
  EXPECT_THAT(ids(plan), ElementsAre("DiNATs-T_224x224_b1_f32.naive.training_step",
                                     "DiNATs-T_224x224_b1_f32.fused.training_step"));
  const std::string twice = std::string(kText) + "- {model: NAT-M, batch: 2}\n";
  EXPECT_EQ(ids(make("", kLarge, twice)).size(), 6u);
  EXPECT_EQ(make("", kLarge, twice).repeated, 3);
}

TEST_F(PlannedModels, AreDealtToShardsInWholeGroups) {
  std::vector<std::string> together;
  for (const int64_t index : {1, 2, 3, 4}) {
    RunPlan plan = make();
    plan::take_shard(plan, {.index = index, .count = 4});
    for (const plan::ModelGroup& group : plan.models) EXPECT_EQ(group.rows.size(), 3u);
    std::ranges::copy(ids(plan), std::back_inserter(together));
  }
  EXPECT_THAT(together, testing::UnorderedElementsAreArray(ids(make())));
}

TEST_F(PlannedModels, CountForShardsByTheirBatch) {
  RunPlan plan = make("", kLarge,
                      "name: x\nvariants: fused\n"
                      "models: [{model: NAT-M, batch: 1}, {model: NAT-M, batch: 64}, {model: NAT-M, batch: 2}]\n");
  plan::take_shard(plan, {.index = 1, .count = 2});
  EXPECT_THAT(ids(plan), ElementsAre("NAT-M_224x224_rpb_b64_f32.fused.forward")) << "as much as the others together";
}

TEST_F(PlannedModels, CountForTheBudget) {
  std::string text = kText;
  text.replace(text.find("max_seconds: 5"), 14, "max_seconds: 5, budget_seconds: 100");
  RunPlan plan = make("NAT", kLarge, text);
  for (plan::ModelGroup& group : plan.models) {
    for (plan::PlannedModel& row : group.rows) row.seconds = 25;
  }
  plan::Budget budget;
  EXPECT_EQ(budget.left_out(plan.models[0]), std::nullopt);
  budget.spent(plan.models[0], 75);
  EXPECT_THAT(budget.left_out(plan.models[1]).value_or("runs"), HasSubstr("of which 75.0 s are spent"));
  EXPECT_EQ(plan::expected_seconds(plan), 150);
}

TEST_F(PlannedModels, AreAnnounced) {
  const RunPlan plan = make();
  EXPECT_THAT(plan::summary(plan, 0), HasSubstr("plan: 9 rows in 3 groups, 0 refused"));
  EXPECT_THAT(plan::summary(plan, 0), HasSubstr("models  6 rows against the reference attention, 0 against"));
  EXPECT_THAT(plan::listing(plan), HasSubstr("NAT-M_224x224_rpb_b2_f32.fused.forward  [NAT-M] f32_fma, 10.9 GFLOP, "));
}

}  // namespace
}  // namespace nalab
