// Which plots a configuration gets, and where their points come from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/modules.h"
#include "tests/report/sample_results.h"

namespace nalab::report {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<Plot> plots_of(const store::Results& results) { return speedup_sections(results, {}).at(0).plots; }

std::vector<std::string> names_of(const std::vector<Plot>& plots) {
  std::vector<std::string> names;
  for (const Plot& plot : plots) names.push_back(plot.name);
  return names;
}

std::vector<double> ys(const Series& series) {
  std::vector<double> values;
  for (const Point& point : series.points) values.push_back(point.y);
  return values;
}

std::vector<double> xs(const Series& series) {
  std::vector<double> values;
  for (const Point& point : series.points) values.push_back(point.x);
  return values;
}

store::Results only_dense() {
  store::Results results = sample_results();
  results.rows = {sample_row("A", 3, "dense", "f32", {0.004})};
  return results;
}

TEST(SpeedupPlots, BarsHaveOneGroupAProblem) {
  const std::vector<Plot> plots = plots_of(sample_results());
  // One problem in bf16 is no plot, and nothing of the sample has tensors for a roofline.
  EXPECT_THAT(names_of(plots), ElementsAre("small_case_speedup_f32_forward"));
  const Plot& plot = plots[0];
  EXPECT_THAT(plot.categories, ElementsAre("A_1", "B & C, 50%"));
  // What failed or was refused has no bar.
  ASSERT_EQ(plot.series.size(), 2u);
  EXPECT_EQ(plot.series[0].name, "naive");
  EXPECT_THAT(ys(plot.series[0]), ElementsAre(0.0035 / 0.00011, 35));
  EXPECT_EQ(plot.series[1].name, "FLOP-wise bound");
  EXPECT_THAT(ys(plot.series[1]), ElementsAre(20.0 / 3, 4));
  EXPECT_THAT(plot.caption.at(1), HasSubstr("Example CPU 9000 @ 3.0 GHz, avx2, 2 threads; git revision 0123456789ab"));
}

TEST(SpeedupPlots, CaptionsCountSpeedupsOfFewSamples) {
  EXPECT_EQ(plots_of(sample_results()).at(0).caption.back(),
            "1 of 2 speedups has fewer than 3 samples of one of its times.");
  store::Results results = sample_results();
  for (store::Row& row : results.rows) {
    if (row.problem == "8x9_w5_f32" && row.variant == "naive") row.samples = {1e-4, 1e-4, 1e-4};
  }
  EXPECT_THAT(plots_of(results).at(0).caption, testing::Not(testing::Contains(HasSubstr("fewer than"))));
  for (store::Row& row : results.rows) {
    if (row.problem == "8x9_self_f32") row.samples = {0.0035};
  }
  EXPECT_EQ(plots_of(results).at(0).caption.back(), "2 of 2 speedups have fewer than 3 samples of one of their times.");
}

TEST(SpeedupPlots, EqualLabelsAreToldApart) {
  store::Results results = only_dense();
  for (const int window : {3, 5}) results.rows.push_back(sample_row("A", window, "naive", "f32", {0.001}));
  EXPECT_THAT(plots_of(results).at(0).categories, ElementsAre("A, window 3x3", "A, window 5x5"));
  // What others have is not part of their names.
  store::Row& other = results.rows.emplace_back(sample_row("B", 3, "naive", "f32", {0.001}));
  other.relative_bias = 1;
  other.problem += "_rpb";
  EXPECT_THAT(plots_of(results).at(0).categories, ElementsAre("A, window 3x3", "A, window 5x5", "B"));
}

TEST(SpeedupPlots, WindowsOfOneLayoutMakeACurve) {
  store::Results results = only_dense();
  for (const int window : {5, 3, 4}) {
    results.rows.push_back(sample_row("A", window, "naive", "f32", {0.001 * window}));
  }
  const std::vector<Plot> plots = plots_of(results);
  EXPECT_THAT(names_of(plots), ElementsAre("small_case_speedup_f32_forward", "small_case_window_f32_forward_1"));
  const Plot& plot = plots[1];
  EXPECT_TRUE(plot.x.is_logarithmic);
  EXPECT_THAT(xs(plot.series.at(0)), ElementsAre(9, 16, 25));
  EXPECT_THAT(ys(plot.series.at(0)), ElementsAre(0.004 / 0.003, 1, 0.004 / 0.005));
  EXPECT_EQ(plot.series.at(1).name, "FLOP-wise bound");
  EXPECT_THAT(plot.caption.at(0), HasSubstr("Layout 8x9, head dim 32, batch x heads 4."));
}

TEST(SpeedupPlots, StridesHaveTheSimulatedBoundAsALine) {
  store::Results results = only_dense();
  for (const int stride : {4, 1, 2}) {
    store::Row row = sample_row("A", 4, "fused", "f32", {0.001});
    row.stride = std::to_string(stride) + "x1";
    row.problem += row.stride;
    row.executed_flops = 8'000'000 / stride;
    results.rows.push_back(row);
  }
  const std::vector<Plot> plots = plots_of(results);
  EXPECT_THAT(names_of(plots), ElementsAre("small_case_speedup_f32_forward", "small_case_stride_f32_forward_1"));
  const Plot& plot = plots[1];
  EXPECT_THAT(plot.categories, ElementsAre("1x1", "2x1", "4x1"));
  ASSERT_EQ(plot.series.size(), 3u);
  EXPECT_THAT(ys(plot.series[0]), ElementsAre(4, 4, 4));
  EXPECT_EQ(plot.series[1].role, Role::bound);
  EXPECT_THAT(ys(plot.series[1]), ElementsAre(2.5, 5, 10));
  EXPECT_THAT(ys(plot.series[2]), ElementsAre(5, 5, 5));
}

TEST(SpeedupPlots, RooflineHasUsefulAndExecutedRates) {
  store::Results results = only_dense();
  results.environment.copy_bandwidth = 10e9;
  for (const int window : {3, 4, 5}) results.rows.push_back(sample_row("A", window, "naive", "f32", {0.001}));
  for (store::Row& row : results.rows) row.tensor_bytes = 1'000'000;
  results.rows.back().executed_flops = 10'000'000;
  const Plot plot = plots_of(results).back();
  EXPECT_EQ(plot.name, "small_case_roofline_forward");
  EXPECT_TRUE(plot.x.is_logarithmic && plot.y.is_logarithmic);
  ASSERT_EQ(plot.series.size(), 5u);
  EXPECT_EQ(plot.series[0].name, "f32_fma peak 100 GFLOP/s");
  EXPECT_EQ(plot.series[1].name, "copy 10.0 GB/s");
  EXPECT_THAT(xs(plot.series[1]), ElementsAre(1.5, 10)) << "from half the least intensity to where the peak takes over";
  EXPECT_THAT(ys(plot.series[1]), ElementsAre(15, 100));
  EXPECT_EQ(plot.series[2].name, "all executed FLOPs") << "under the others";
  EXPECT_THAT(ys(plot.series[2]), ElementsAre(10));
  EXPECT_EQ(plot.series[3].name, "dense");
  EXPECT_THAT(ys(plot.series[3]), ElementsAre(5)) << "once, though it stands for three problems";
  EXPECT_THAT(xs(plot.series[4]), ElementsAre(3, 4, 5));
  EXPECT_THAT(ys(plot.series[4]), ElementsAre(3, 4, 5));
}

TEST(SpeedupPlots, EachPassHasItsRoofline) {
  store::Results results = only_dense();
  results.environment.copy_bandwidth = 10e9;
  for (const char* pass : {"weights", "values_backward", "forward"}) {
    for (const int window : {3, 4, 5}) {
      store::Row& row = results.rows.emplace_back(sample_row("A", window, "naive", "f32", {0.001}));
      row.pass = pass;
      row.tensor_bytes = 1'000'000;
    }
  }
  std::vector<std::string> titles;
  for (const Plot& plot : plots_of(results)) {
    if (plot.name.find("roofline") != std::string::npos) titles.push_back(plot.name + ": " + plot.title);
  }
  EXPECT_THAT(titles, ElementsAre("small_case_roofline_weights: Roofline, weights",
                                  "small_case_roofline_values_backward: Roofline, values, backward",
                                  "small_case_roofline_forward: Roofline, forward"));
}

TEST(SpeedupPlots, WindowsWithAndWithoutABiasMakeTwoCurves) {
  store::Results results = only_dense();
  for (const int bias : {0, 1}) {
    for (const int window : {3, 4, 5}) {
      store::Row& row = results.rows.emplace_back(sample_row("A", window, "naive", "f32", {0.001 * (window + bias)}));
      row.relative_bias = bias;
      if (bias == 1) row.problem += "_rpb";
    }
  }
  const std::vector<Plot> plots = plots_of(results);
  EXPECT_THAT(names_of(plots), ElementsAre("small_case_speedup_f32_forward", "small_case_window_f32_forward_1",
                                           "small_case_window_f32_forward_2"));
  EXPECT_THAT(plots[0].categories, testing::Contains("A, window 3x3, bias yes"));
  EXPECT_THAT(ys(plots[2].series.at(0)), ElementsAre(1, 0.004 / 0.005, 0.004 / 0.006));
}

TEST(SpeedupPlots, HistogramsTakeThirtyProblems) {
  store::Results results = only_dense();
  for (int i = 0; i < 30; ++i) {
    for (const char* variant : {"naive", "fused"}) {
      store::Row row = sample_row("A", 3, variant, "f32", {variant == std::string("naive") ? 0.003 : 0.001});
      row.problem += std::to_string(i);
      if (i < 29 || variant != std::string("fused")) results.rows.push_back(row);
    }
  }
  for (const Plot& plot : plots_of(results)) EXPECT_THAT(plot.name, testing::Not(HasSubstr("improvements")));
  store::Row last = sample_row("A", 3, "fused", "f32", {0.006});
  last.problem += "29";
  results.rows.push_back(last);
  const Plot plot = plots_of(results).at(0);
  EXPECT_EQ(plot.name, "small_case_improvements_f32_forward");
  ASSERT_EQ(plot.series.size(), 1u);
  EXPECT_EQ(plot.series[0].name, "fused over naive");
  EXPECT_THAT(plot.categories, ElementsAre("1/2 to 1", "1 to 2", "2 to 4"));
  EXPECT_THAT(ys(plot.series[0]), ElementsAre(1, 0, 29));
  EXPECT_EQ(plot.caption.back(), "30 of 30 speedups have fewer than 3 samples of one of their times.");
}

TEST(SpeedupPlots, WithoutABaselineThereAreNone) {
  store::Results results = sample_results();
  std::erase_if(results.rows, [](const store::Row& row) { return row.variant != "fused"; });
  EXPECT_THAT(plots_of(results), testing::IsEmpty());
}

}  // namespace
}  // namespace nalab::report
