// Whole models beside tables 5 to 8 of Faster NA: which rows stand beside which figure.
#include "report/papers/faster_na_models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "report/modules.h"
#include "tests/report/made_results.h"

namespace nalab::report {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const Pair kFusedOverNaive{"fused", "naive"};

store::Results empty() { return with_config("small_models", kFasterNaModels); }

/// A model of one of the tables.
ModelTimes times_of(const store::Results& results, int number, const std::string& model) {
  const auto& table = *std::ranges::find(model_tables(), number, &ModelTable::number);
  const std::vector<ModelTimes> models = model_times(results, table);
  return *std::ranges::find(models, model, &ModelTimes::model);
}

TEST(FasterNaModels, HaveThePublishedFigures) {
  EXPECT_EQ(times_of(empty(), 5, "DiNAT-L-384").published, (std::array<double, 3>{153, 134, 312}));
  EXPECT_EQ(times_of(empty(), 6, "DiNAT-L-384").published, (std::array<double, 3>{116, 115, 179}));
  EXPECT_EQ(times_of(empty(), 7, "StyleNAT-256").published, (std::array<double, 3>{36.7, 40.6, 45.5}));
  EXPECT_EQ(times_of(empty(), 8, "DiNATs-B").published, (std::array<double, 3>{45.4, 46.1, 32.6}));
  std::size_t models = 0;
  for (const ModelTable& table : model_tables()) models += model_times(empty(), table).size();
  EXPECT_EQ(models, 15u + 15 + 2 + 11);
}

TEST(FasterNaModels, PublishedImprovementsAreOfRunTimes) {
  // The greatest of each kind: what the abstract says.
  EXPECT_NEAR(times_of(empty(), 5, "DiNAT-L-384").published_improvement(kFusedOverNaive), 1.04, 0.005);
  EXPECT_NEAR(times_of(empty(), 8, "DiNATs-B").published_improvement(kFusedOverNaive), 0.39, 0.005);
}

TEST(FasterNaModels, FiguresFollowFromTimes) {
  store::Results results = empty();
  add_model(results, "NAT-T", "bf16", 40, 0, 20);
  add_model(results, "NAT-T", "bf16", 36, 0, 18, 0, "training_step");
  const ModelTimes inference = times_of(results, 5, "NAT-T"), training = times_of(results, 8, "NAT-T");
  EXPECT_DOUBLE_EQ(inference.images_per_second("naive"), 200);
  EXPECT_DOUBLE_EQ(inference.attention_share("fused"), 0.5);
  EXPECT_DOUBLE_EQ(inference.improvement(kFusedOverNaive), 1);
  EXPECT_DOUBLE_EQ(training.hours("naive"), 1281167.0 / 8 * 0.036 * 300 / 3600);
  EXPECT_EQ(inference.why_not("gemm"), "gemm was not asked for, or the run ended before it");
}

TEST(FasterNaModels, TakeNoRowOfAnotherKind) {
  store::Results results = empty();
  const auto change = [&](auto&& edit) {
    add_model(results, "NAT-T", "bf16", 40, 0, 20);
    for (store::ModelRow* row : {&results.models.end()[-1], &results.models.end()[-2]}) edit(*row);
  };
  change([](store::ModelRow& row) { row.config = "other"; });
  change([](store::ModelRow& row) { row.relative_bias = 0; });
  change([](store::ModelRow& row) { row.height = 256; });
  change([](store::ModelRow& row) { row.width = 256; });
  change([](store::ModelRow& row) { row.type = "f32"; });
  change([](store::ModelRow& row) { row.pass = "training_step"; });
  EXPECT_THAT(times_of(results, 5, "NAT-T").rows, IsEmpty());
  EXPECT_THAT(times_of(results, 8, "NAT-T").rows, IsEmpty());
}

TEST(FasterNaModels, AreOfOneBatch) {
  store::Results results = empty();
  add_model(results, "NAT-T", "f32", 40, 30, 20);
  add_model(results, "NAT-T", "f32", 50, 40, 10);
  for (auto row = results.models.end() - 3; row != results.models.end(); ++row) row->batch = 128;
  EXPECT_DOUBLE_EQ(times_of(results, 6, "NAT-T").improvement(kFusedOverNaive), 4) << "the larger batch";
  results.models.back().status = "failed";
  EXPECT_DOUBLE_EQ(times_of(results, 6, "NAT-T").improvement(kFusedOverNaive), 1) << "the batch with more times";
}

TEST(FasterNaModels, TheBestIsTheFastestWhereOthersThanThePapersWereMeasured) {
  store::Results results = empty();
  add_model(results, "NAT-T", "f32", 40, 30, 20, 25);
  add_model(results, "NAT-S", "f32", 40, 30, 20, 16);
  add_model(results, "DiNAT-T", "f32", 40, 30, 20);
  const auto best = [&](const std::string& model) {
    const auto& rows = times_of(results, 6, model).rows;
    return rows.contains(kBest) ? rows.at(kBest)->variant : "none";
  };
  EXPECT_EQ(best("NAT-T"), "fused");
  EXPECT_EQ(best("NAT-S"), "banded");
  EXPECT_EQ(best("DiNAT-T"), "none");
  for (store::ModelRow& row : results.models) row.status = "failed";
  EXPECT_EQ(best("NAT-T"), "none");
}

TEST(FasterNaModels, ClaimsAreHeldAgainstTheGreatestImprovement) {
  store::Results results = empty();
  add_model(results, "NAT-T", "bf16", 40, 0, 25);
  add_model(results, "NAT-T", "f32", 40, 0, 20);
  add_model(results, "DiNAT-T", "f32", 40, 0, 0);
  const std::vector<Claim> claims = faster_na_model_sections(results, {}).at(0).claims;
  EXPECT_EQ(claims.at(0).ours, 1.0);
  EXPECT_EQ(claims.at(0).ours_text, "up to +100 % (NAT-T, f32), of 2 measured");
  EXPECT_EQ(claims.at(0).table, "faster_na_table6");
  EXPECT_EQ(judge(claims.at(0)), ClaimVerdict::holds);
  EXPECT_EQ(claims.at(1).ours, std::nullopt);
  EXPECT_EQ(claims.at(1).why_not, "the results have no such model");
  EXPECT_EQ(claims.at(1).table, "") << "there is none to link to";
}

TEST(FasterNaModels, AReliableImprovementIsPreferredForTheClaim) {
  store::Results results = empty();
  add_model(results, "NAT-T", "f32", 40, 0, 20);
  results.models.back().samples.resize(1);
  add_model(results, "NAT-S", "f32", 40, 0, 30);
  const Claim claim = faster_na_model_sections(results, {}).at(0).claims.at(0);
  EXPECT_THAT(claim.ours_text, HasSubstr("NAT-S"));
  EXPECT_EQ(claim.why_not, "");
}

TEST(FasterNaModels, FewSamplesAreNotJudged) {
  store::Results results = empty();
  add_model(results, "NAT-T", "f32", 40, 30, 20);
  results.models.back().samples.resize(1);
  const Section section = faster_na_model_sections(results, {}).at(0);
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_judged);
  EXPECT_THAT(section.tables.at(0).footnotes, testing::Contains("fewer than 3 samples: fused has 1"));
  EXPECT_THAT(section.plots.at(0).caption,
              testing::Contains("2 of 2 speedups have fewer than 3 samples of one of their times."));
}

TEST(FasterNaModels, ThoseThatCouldNotBeMadeSayWhy) {
  store::Results results = empty();
  add_model(results, "NAT-T", "f32", 40, 30, 20);
  for (store::ModelRow& row : results.models) {
    row.height = row.width = 0;
    row.status = "refused";
    row.reason = "built without models";
  }
  EXPECT_EQ(times_of(results, 6, "NAT-T").why_not("fused"), "fused was not run: built without models");
  add_model(results, "NAT-T", "f32", 40, 30, 20);
  EXPECT_EQ(times_of(results, 6, "NAT-T").why_not("fused"), "") << "a later run had them";
}

TEST(FasterNaModels, WhatWasNotComparedHasNoErrorAndSaysSo) {
  store::Results results = empty();
  add_model(results, "NAT-T", "f32", 40, 30, 20);
  results.models[0].verified = "";
  results.models[0].error_frobenius = 0;
  results.models[0].reason = "not verified: it takes too long";
  const Table all = model_sections(results, {}).at(0).tables.at(0);
  EXPECT_THAT(all.footnotes, testing::Contains("not verified: it takes too long"));
  EXPECT_THAT(faster_na_model_sections(results, {}).at(0).tables.at(0).footnotes,
              testing::Contains("not verified: it takes too long"));
}

TEST(FasterNaModels, HaveNothingToSayOfOtherResults) {
  EXPECT_THAT(faster_na_model_sections(sample_results(), {}), IsEmpty());
  EXPECT_THAT(model_sections(sample_results(), {}), IsEmpty());
  store::Results results = empty();
  add_model(results, "NAT-iso-S", "f32", 40, 30, 20);
  EXPECT_THAT(faster_na_model_sections(results, {}), IsEmpty());
  EXPECT_THAT(model_sections(results, {}), Not(IsEmpty()));
}

}  // namespace
}  // namespace nalab::report
