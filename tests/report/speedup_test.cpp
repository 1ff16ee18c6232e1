#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "report/figures.h"
#include "report/format.h"
#include "report/modules.h"
#include "report/render.h"
#include "tests/report/sample_results.h"

namespace nalab::report {
namespace {

/// Two variants of the sample on a GPU beside it.
store::Results with_gpu() {
  store::Results results = sample_results();
  give_gpu(results.environment);
  for (const auto& [variant, seconds] : {std::pair{"dense", 0.0004}, std::pair{"naive", 0.0001}}) {
    store::Row row = sample_row("A_1", 3, variant, "bf16", {seconds, seconds, seconds});
    row.variant = row.variant == "dense" ? "hopper_dense" : "hopper";
    row.device = "cuda";
    row.arithmetic = "wgmma";
    row.id += "_gpu";
    results.rows.push_back(row);
  }
  return results;
}

TEST(SpeedupTable, RowsOnAGpuAreComparedWithSelfAttentionThere) {
  const std::vector<Section> both = speedup_sections(with_gpu(), {});
  ASSERT_EQ(both.size(), 2u);
  const std::vector<Section> cpu = speedup_sections(sample_results(), {});
  EXPECT_EQ(to_markdown(both[0].tables[0]), to_markdown(cpu.at(0).tables[0]));
  EXPECT_EQ(both[1].name, "small_case_gpu");
  EXPECT_EQ(both[1].title, "small_case, on a GPU");
  const std::string text = to_markdown(both[1].tables.at(0));
  EXPECT_THAT(text, testing::HasSubstr("Speedups are over hopper\\_dense: self attention of the same tensors"));
  EXPECT_THAT(text, testing::HasSubstr("| A\\_1 | 0.4000 | 0.1000 | 4.00x |"));
  for (const Plot& plot : both[1].plots) EXPECT_THAT(plot.title, testing::Not(testing::HasSubstr("Roofline")));
  // A baseline that was asked for is that of its device.
  const std::vector<Section> asked = speedup_sections(with_gpu(), {.baseline = "naive"});
  EXPECT_EQ(to_markdown(asked.at(1).tables[0]), text);
}

TEST(SpeedupTable, WithoutSelfAttentionOnTheGpuThereIsNoSpeedup) {
  store::Results results = with_gpu();
  std::erase_if(results.rows, [](const store::Row& row) { return row.variant == "hopper_dense"; });
  const std::string text = to_markdown(speedup_sections(results, {}).at(1).tables.at(0));
  EXPECT_THAT(text, testing::HasSubstr("There is no baseline."));
}

/// The tables of all sections.
std::vector<Table> tables_of(const store::Results& results, const Options& options) {
  std::vector<Table> tables;
  for (Section& section : speedup_sections(results, options)) {
    for (Table& table : section.tables) tables.push_back(std::move(table));
  }
  return tables;
}

/// The texts of a table's row, with the footnote's text in place of its number.
std::vector<std::string> texts(const Table& table, std::size_t row) {
  std::vector<std::string> result;
  for (const Cell& cell : table.rows.at(row)) {
    result.push_back(cell.text + (cell.footnote > 0 ? ": " + table.footnotes.at(cell.footnote - 1) : ""));
  }
  return result;
}

TEST(Speedup, ExplicitBaselineReplacesDense) {
  const auto tables = tables_of(sample_results(), {.baseline = "naive"});
  ASSERT_EQ(tables.size(), 2u);
  // problem, window, type, dense ms, dense speedup over naive, naive ms, ...
  EXPECT_EQ(texts(tables[0], 0)[3], "3.500");
  EXPECT_EQ(texts(tables[0], 0)[4], "0.0314x");
  EXPECT_EQ(texts(tables[0], 0)[5], "0.1100");
}

TEST(Speedup, FewSamplesOfTheBaselineAreMarked) {
  store::Results results = sample_results();
  results.rows.at(0).samples = {0.003, 0.004};
  const auto tables = tables_of(results, {});
  EXPECT_EQ(texts(tables[0], 0)[5], "31.8x: fewer than 3 samples: dense has 2");
  EXPECT_EQ(texts(tables[0], 1)[5], "35.0x: fewer than 3 samples: naive has 1 and dense has 2");
  // problem, window, type, variant, median, spread, speedup: self attention over itself is 1 whatever its samples.
  EXPECT_EQ(texts(tables[1], 0)[6], "1.00x");
  EXPECT_EQ(texts(tables[1], 1)[6], "31.8x: fewer than 3 samples: dense has 2");
  const Records& records = tables[1].records;
  const auto field = std::find(records.fields.begin(), records.fields.end(), "baseline_samples");
  ASSERT_NE(field, records.fields.end());
  EXPECT_EQ(records.lines.at(1).at(field - records.fields.begin()), "2");

  results.rows.at(0).samples.push_back(0.003);
  EXPECT_EQ(texts(tables_of(results, {})[0], 0)[5], "27.3x");
}

TEST(Speedup, TheConfigChoosesTheBaseline) {
  store::Results results = sample_results();
  results.configs[0].baseline = "fused";
  EXPECT_EQ(tables_of(results, {})[0].caption.back(), "Speedups are over fused on the same problem.");
  EXPECT_EQ(texts(tables_of(results, {})[0], 0)[4],
            "n/a: fused gave a wrong result: frobenius 1.0e-01 (bound 2.0e-06)");
}

TEST(Speedup, NaiveIsTheBaselineWhereDenseWasNotAskedFor) {
  store::Results results = sample_results();
  std::erase_if(results.rows, [](const store::Row& row) { return row.variant == "dense"; });
  const auto tables = tables_of(results, {});
  ASSERT_EQ(tables.size(), 2u);
  EXPECT_EQ(tables[0].caption.back(), "Speedups are over naive on the same problem.");
  EXPECT_EQ(tables[0].columns.back().group, "fused");
}

TEST(Speedup, AMissingOrUnmeasuredBaselineIsExplained) {
  const auto tables = tables_of(sample_results(), {});
  const auto bf16 = texts(tables[0], 2);
  EXPECT_EQ(bf16[3], "not run: dense was not run: needs 99.0 GiB, there are 8.0 GiB");
  EXPECT_EQ(bf16[5], "n/a: dense was not run: needs 99.0 GiB, there are 8.0 GiB");
  EXPECT_EQ(bf16[6], "not run: fused was not asked for, or the run ended before it");
}

TEST(Speedup, AFailedRowNeverShowsATime) {
  store::Results results = sample_results();
  for (store::Row& row : results.rows) {
    if (row.status == "failed") row.samples = {123.0};
  }
  const auto tables = tables_of(results, {});
  EXPECT_EQ(texts(tables[0], 0)[6], "failed: fused gave a wrong result: frobenius 1.0e-01 (bound 2.0e-06)");
  for (const Table& table : tables) {
    for (std::size_t row = 0; row < table.rows.size(); ++row) {
      for (const std::string& text : texts(table, row)) EXPECT_EQ(text.find("123"), std::string::npos) << text;
    }
  }
  for (const auto& line : tables[1].records.lines) {
    const bool failed = std::find(line.begin(), line.end(), "failed") != line.end();
    const auto at = std::find(tables[1].records.fields.begin(), tables[1].records.fields.end(), "median_seconds");
    EXPECT_EQ(failed, line.at(at - tables[1].records.fields.begin()).empty() && line.at(0).find("w3_f32_fused") == 4);
  }
}

TEST(Speedup, SelfAttentionThatOthersRanTooIsARowOfItsOwn) {
  store::Results results = sample_results();
  store::Row self = sample_row("all", 3, "dense", "f32", {0.006});
  self.variant = "naive";
  results.rows.push_back(self);
  const auto tables = tables_of(results, {});
  EXPECT_EQ(tables[0].rows.size(), 4u);
}

TEST(Speedup, PeakFollowsArithmeticAndMachine) {
  store::Environment environment = sample_environment();
  store::Row row = sample_row("", 3, "fused", "bf16", {0.001});
  environment.peaks.push_back({"bf16_dot", 150e9, 300e9});
  EXPECT_EQ(peak_of(environment, row), 100e9);
  row.arithmetic = "bf16_dot";
  EXPECT_EQ(peak_of(environment, row), 300e9);
  environment.peaks[1].all_threads = 30e9;
  EXPECT_EQ(peak_of(environment, row), 30e9) << "the peak of what was used, be it the slower one";
  row.threads = 1;
  EXPECT_EQ(peak_of(environment, row), 0);
  EXPECT_FALSE(figures_of(environment, row).peak_share.has_value());
  row.threads = environment.threads;
  row.isa = "baseline";
  EXPECT_EQ(peak_of(environment, row), 0);
  row.isa = environment.isa;
  row.arithmetic = "f64_scalar";
  EXPECT_EQ(peak_of(environment, row), 0) << "not measured";
}

TEST(Speedup, PeakOfTwoArithmeticsIsThatOfTheirTimesTogether) {
  store::Environment environment = sample_environment();
  environment.peaks.push_back({"bf16_dot", 150e9, 300e9});
  store::Row row = sample_row("", 3, "fused", "bf16", {0.001});
  row.pass = "forward_backward";
  row.backward_arithmetic = row.arithmetic;
  EXPECT_EQ(peak_of(environment, row), 100e9);
  row.arithmetic = "bf16_dot";
  // Two products forward and five backward: the dims of q, k and v are the same.
  EXPECT_NEAR(peak_of(environment, row), 7 / (2 / 300e9 + 5 / 100e9), 1);
  row.backward_arithmetic = "unknown";
  EXPECT_EQ(peak_of(environment, row), 0);
}

TEST(Speedup, RowsWithABiasStandApart) {
  store::Results results = sample_results();
  EXPECT_EQ(tables_of(results, {})[0].caption.at(2).find("bias"), std::string::npos) << "not named where none has one";
  store::Row with_bias = sample_row("A_1", 3, "naive", "f32", {0.00035, 0.00035, 0.00035});
  with_bias.problem += "_rpb";
  with_bias.relative_bias = 1;
  results.rows.push_back(with_bias);
  const auto tables = tables_of(results, {});
  // problem, window, bias, type, dense ms, naive ms, naive speedup, ...
  EXPECT_EQ(tables[0].columns.at(2).heading, "bias");
  ASSERT_EQ(tables[0].rows.size(), 4u);
  EXPECT_EQ(texts(tables[0], 0)[2], "no");
  EXPECT_THAT(texts(tables[0], 3),
              testing::ElementsAre("A_1", "3x3", "yes", "f32", "3.500", "0.3500", "10.0x",
                                   "not run: fused was not asked for, or the run ended before it", "-"));

  for (store::Row& row : results.rows) row.relative_bias = 1;
  const auto all = tables_of(results, {});
  const auto names_bias = [](const std::string& sentence) { return sentence.find("bias yes") != std::string::npos; };
  EXPECT_TRUE(std::ranges::any_of(all[0].caption, names_bias));
}

TEST(Speedup, PassesAreCalledByTheirNames) {
  EXPECT_EQ(pass_text("forward"), "forward");
  EXPECT_EQ(pass_text("forward_backward"), "forward + backward");
  EXPECT_EQ(pass_text("weights"), "weights");
  EXPECT_EQ(pass_text("weights_backward"), "weights, backward");
  EXPECT_EQ(pass_text("values_backward"), "values, backward");
  store::Results results = sample_results();
  store::Row weights = sample_row("A_1", 3, "naive", "f32", {0.00035, 0.00035, 0.00035});
  weights.pass = "weights";
  results.rows.push_back(weights);
  const auto tables = tables_of(results, {});
  ASSERT_EQ(tables[0].rows.size(), 4u);
  // problem, window, type, pass, dense ms, naive ms, naive speedup, ...
  EXPECT_EQ(texts(tables[0], 3)[3], "weights");
  EXPECT_EQ(texts(tables[0], 3)[5], "0.3500");
  EXPECT_EQ(texts(tables[0], 3)[6], "n/a: dense, the baseline, is not in the results of this pass");
}

TEST(Speedup, EachConfigHasItsTables) {
  store::Results results = sample_results();
  store::Row other = sample_row("D", 7, "naive", "f32", {0.001, 0.001, 0.001});
  other.config = "other";
  results.rows.push_back(other);
  results.configs.push_back({"other", "", "", "generic", "dense"});
  const auto tables = tables_of(results, {});
  ASSERT_EQ(tables.size(), 4u);
  EXPECT_EQ(tables[2].name, "other_overview");
  EXPECT_EQ(tables[1].records.lines.size(), results.rows.size() - 1);
  EXPECT_EQ(tables[3].records.lines.size(), 1u);
  // The baseline that both need was computed once, for the first.
  EXPECT_THAT(texts(tables[2], 0), testing::ElementsAre("D", "3.500", "1.000", "3.50x"));
}

}  // namespace
}  // namespace nalab::report
