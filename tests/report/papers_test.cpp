// The modules of the published tables, on small made-up results: the exact tables, plots and claims.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "report/modules.h"
#include "report/render.h"
#include "tests/report/golden.h"
#include "tests/report/made_results.h"
#include "tests/report/sample_results.h"

namespace nalab::report {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::string text_of(const Plot& plot) {
  std::string text = fmt::format("\nplot {}: {}\nx: {}{}\ny: {}\n", plot.name, plot.title, plot.x.label,
                                 plot.x.is_logarithmic ? " (log)" : "", plot.y.label);
  text += fmt::format("categories: {}\n", fmt::join(plot.categories, " | "));
  for (const Series& series : plot.series) {
    text += series.name + ":";
    for (const Point& point : series.points) text += fmt::format(" ({:g}, {:g})", point.x, point.y);
    text += "\n";
  }
  for (const std::string& sentence : plot.caption) text += sentence + "\n";
  return text;
}

std::string text_of(const Section& section) {
  std::string text = fmt::format("# {}: {}\n\n{}\n{}\n", section.name, section.title, fmt::join(section.about, "\n"),
                                 fmt::join(section.sources, "\n"));
  if (!section.claims.empty()) {
    const Table claims = claims_table(section.claims);
    text += "\n" + to_markdown(claims) + "\n" + to_csv(claims);
  }
  for (const Plot& plot : section.plots) text += text_of(plot);
  for (const Table& table : section.tables) text += "\n" + to_markdown(table) + "\n" + to_csv(table);
  return text;
}

/// Expects the only section to be the text of data/golden/papers/NAME.md.
void expect_section(const std::vector<Section>& sections, const std::string& name) {
  ASSERT_EQ(sections.size(), 1u);
  for (const Table& table : sections[0].tables) {
    for (const auto& row : table.rows) {
      EXPECT_EQ(row.size(), table.columns.size()) << table.name;
      for (const Cell& cell : row) EXPECT_FALSE(cell.text.empty()) << table.name;
    }
    for (const auto& line : table.records.lines) EXPECT_EQ(line.size(), table.records.fields.size()) << table.name;
  }
  for (const Claim& claim : sections[0].claims) {
    EXPECT_TRUE(std::any_of(sections[0].tables.begin(), sections[0].tables.end(), [&](const Table& table) {
      return table.name == claim.table;
    })) << claim.table;
  }
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("nalab_papers_test_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const std::filesystem::path file = folder / (name + ".md");
  std::ofstream(file, std::ios::binary) << text_of(sections[0]);
  expect_golden({file.string()}, "papers");
  std::filesystem::remove_all(folder);
}

store::Results sweep() {
  store::Results results = with_config("fna_small", "faster_na");
  // Improvements of gemm over naive: 300 %, 0 %, -50 %; of fused over naive: 900 %, 100 %, 0 %.
  for (const char* type : {"f32", "f16"}) {
    add_sweep(results, {"64", "3", "1", "1", type}, 10, 2.5, 1, 4, type == std::string("f32") ? 0.8 : 0);
    add_sweep(results, {"64", "5", "1", "1", type}, 10, 10, 5, 0);  // its self attention is that of the first
    add_sweep(results, {"96", "7", "1", "2", type}, 1, 2, 1, 1.015);
  }
  add_sweep(results, {"8x8", "3x3", "1x1", "1x1", "bf16", "forward_backward"}, 6, 3, 1.5, 2);
  add_sweep(results, {"16x16x16", "9x9x9", "1x1x1", "1x1x1", "f16"}, 6, 3, 1, 2);
  store::Row refused = made("fna_small", {"16x16x16", "9x9x9", "1x1x1", "1x1x1", "f16"}, "banded", {}, 1, 1);
  results.rows.push_back(without_times(refused, "refused", "a window that is too large"));
  store::Row failed = made("fna_small", {"128", "9", "1", "1", "f16"}, "gemm", {1}, 1, 1);
  results.rows.push_back(without_times(failed, "failed", "frobenius 1.0e-01 (bound 2.0e-03)"));
  results.rows.push_back(made("fna_small", {"128", "9", "1", "1", "f16"}, "naive", {0.5}, 1, 1));
  // Rows of other configurations do not count.
  results.configs.push_back({"other", "", "", "generic", "dense"});
  results.rows.push_back(made("other", {"32", "9", "1", "1", "f16"}, "naive", {100}, 1, 1));
  results.rows.push_back(made("other", {"32", "9", "1", "1", "f16"}, "fused", {0.001}, 1, 1));
  return results;
}

TEST(FasterNa, GivesTheExpectedSection) { expect_section(faster_na_sections(sweep(), {}), "faster_na"); }

TEST(FasterNa, AFailedRowGivesNoImprovement) {
  store::Results results = with_config("fna_small", "faster_na");
  add_sweep(results, {"64", "3", "1", "1", "f16"}, 10, 0, 1, 4);
  results.rows.push_back(
      without_times(made("fna_small", {"64", "3", "1", "1", "f16"}, "gemm", {}, 1, 1), "failed", "wrong"));
  results.rows.back().samples = {1e-9};
  const std::vector<Section> sections = faster_na_sections(results, {});
  const std::vector<Claim>& claims = sections.at(0).claims;
  EXPECT_EQ(claims.at(0).ours, std::nullopt);
  EXPECT_EQ(claims.at(0).why_not, "gemm gave a wrong result: wrong");
  EXPECT_EQ(claims.at(2).ours, 9.0);
}

TEST(FasterNaModels, GivesTheExpectedSection) {
  expect_section(faster_na_model_sections(whole_models(), {}), "faster_na_models");
}

TEST(Models, GiveTheExpectedSection) { expect_section(model_sections(whole_models(), {}), "models"); }

TEST(GeneralizedNa, GivesTheExpectedSection) {
  expect_section(generalized_na_sections(use_cases("gna_op_level"), {}), "generalized_na");
}

TEST(GeneralizedNa, StridesAreHeldAgainstStride1) {
  // Self attention 22 s, stride 1 2.75 s, stride 16x8x8 2.2 s.
  const Claim claim = generalized_na_sections(use_cases("gna_op_level"), {}).at(0).claims.at(1);
  EXPECT_DOUBLE_EQ(claim.published, 7.4 / 2.8 - 1);
  ASSERT_TRUE(claim.ours.has_value());
  EXPECT_DOUBLE_EQ(*claim.ours, 2.75 / 2.2 - 1);
  EXPECT_EQ(judge(claim), ClaimVerdict::holds_in_part);

  store::Results without_stride_1 = use_cases("gna_op_level");
  std::erase_if(without_stride_1.rows, [](const store::Row& row) {
    return row.variant == "fused" && row.layout == "30x48x80" && row.stride == "1x1x1";
  });
  EXPECT_EQ(generalized_na_sections(without_stride_1, {}).at(0).claims.at(1).ours, std::nullopt);
}

TEST(GeneralizedNa, PackingIsTakenOffBothSides) {
  const auto table = [](const store::Results& results) {
    return to_csv(generalized_na_sections(results, {}).at(0).tables.at(0));
  };
  EXPECT_THAT(table(use_cases("gna_op_level")), HasSubstr(",0.25,8,8.4,"));  // (22 - 1) / (2.75 - 0.25)
  store::Results untimed = use_cases("gna_op_level");
  untimed.rows.at(0).packing_seconds = 0;
  EXPECT_THAT(table(untimed), HasSubstr(",0.25,8,,"));
}

TEST(GeneralizedNa, AFailedRowIsNotReplacedByAnotherConfigurations) {
  const store::Results results = use_cases("gna_op_level");
  store::Results more = results;
  const Made flux{"256x256", "80x80", "16x16", "1x1"};
  more.rows.push_back(made("other", flux, "fused", {1}, 70'000'000'000, 70'000'000'000));
  more.rows.push_back(made("other", flux, "dense", {7}, 700'000'000'000, 700'000'000'000));
  EXPECT_EQ(text_of(generalized_na_sections(more, {}).at(0)), text_of(generalized_na_sections(results, {}).at(0)));
}

TEST(EndToEnd, GivesTheExpectedSection) {
  expect_section(end_to_end_sections(use_cases("gna_op_level"), {}), "end_to_end");
}

TEST(EndToEnd, AtTheFlopWiseBoundTheProjectionIsThePublishedBound) {
  store::Results results = with_config("small", "gna_op_level");
  const Made block_sparse{"30x48x80", "18x24x24", "16x8x8", "1x1x1"};
  results.rows = {made("small", block_sparse, "dense", thrice(11.1), 111, 111),
                  made("small", block_sparse, "fused", thrice(1), 10, 10)};
  const Claim claim = end_to_end_sections(results, {}).at(0).claims.at(0);
  ASSERT_TRUE(claim.ours.has_value());
  EXPECT_NEAR(*claim.ours, 1.23, 0.005);
  EXPECT_EQ(judge(claim), ClaimVerdict::holds);
}

TEST(Profiler, GivesTheExpectedSection) {
  store::Results results = use_cases("natten_profiler");
  const Made line{"32768", "2048", "256", "1", "f32"};
  results.rows.push_back(made("small", line, "dense", thrice(1.6), 1600, 1600));
  results.rows.push_back(made("small", line, "fused", {0.1}, 100, 100));
  expect_section(profiler_sections(results, {}), "natten_profiler");
}

TEST(CosmosPredict2, GivesTheExpectedSection) {
  expect_section(cosmos_predict2_sections(cosmos(true), {}), "cosmos_predict2");
}

TEST(CosmosPredict2, TheStackIsTheHarmonicMeanOfItsLayers) {
  // 2B: layers by pattern 2, 3, 2 + 4 + 1, 12 + 3 and 1; each takes the seconds above, and 1 second with self
  // attention.
  const Claim claim = cosmos_predict2_sections(cosmos(true), {}).at(0).claims.at(0);
  ASSERT_TRUE(claim.ours.has_value());
  EXPECT_NEAR(*claim.ours + 1, 28 / (2 * 0.05 + 3 * 0.1 + 7 * 0.125 + 15 * 0.25 + 1 * 0.5), 1e-12);
}

TEST(CosmosPredict2, AttentionBelowTheEndToEndFigureHoldsInPartAtBest) {
  const auto verdict = [](double dense_seconds) {
    store::Results results = cosmos(true);
    results.rows.back().samples = thrice(dense_seconds);
    return judge(cosmos_predict2_sections(results, {}).at(0).claims.at(0));
  };
  // The layers of the stack take 5.525 s in all; 28 of self attention take 2.59 and 2.61 times that.
  EXPECT_EQ(verdict(5.525 * 2.59 / 28), ClaimVerdict::holds_in_part);
  EXPECT_EQ(verdict(5.525 * 2.61 / 28), ClaimVerdict::holds);
}

TEST(CosmosPredict2, TheBestSettingIsHeldAgainstUpTo) {
  store::Results results = cosmos(true);
  for (store::Row row : cosmos(true).rows) {
    for (std::string* text : {&row.layout, &row.window, &row.problem, &row.baseline, &row.id}) {
      text->replace(0, 1, "16");
    }
    if (row.variant == "fused") row.samples = thrice(row.samples[0] / 2);
    results.rows.push_back(row);
  }
  const Claim claim = cosmos_predict2_sections(results, {}).at(0).claims.at(0);
  EXPECT_EQ(claim.table, "cosmos_predict2_2B_16_frames_f32");
  EXPECT_THAT(claim.ours_text, HasSubstr("16 frames"));
}

TEST(CosmosPredict2, AStackWithoutOneOfItsPatternsIsNotMeasured) {
  const Section section = cosmos_predict2_sections(cosmos(false), {}).at(0);
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_measured);
  EXPECT_THAT(section.claims[0].why_not, HasSubstr("local_77: fused was not run: needs 99 GB, the machine has 8 GB"));
}

using Sections = std::vector<Section> (*)(const store::Results&, const Options&);

/// A module that has a section for each device, and small results of its own.
struct OfEachDevice {
  Sections sections;
  store::Results results;
  const char* golden;
};

const OfEachDevice kOfEachDevice[] = {
    {generalized_na_sections, use_cases("gna_op_level"), "generalized_na"},
    {end_to_end_sections, use_cases("gna_op_level"), "end_to_end"},
    {profiler_sections, use_cases("natten_profiler"), "natten_profiler"},
    {cosmos_predict2_sections, cosmos(true), "cosmos_predict2"},
};

TEST(PapersOnAGpu, GiveTheExpectedSections) {
  for (const auto& [sections, results, golden] : kOfEachDevice) {
    expect_section(sections(on_gpu(results), {}), std::string(golden) + "_gpu");
  }
}

TEST(PapersOnAGpu, StandBesideThoseOfTheCpu) {
  for (const auto& [sections, results, golden] : kOfEachDevice) {
    const std::vector<Section> both = sections(together(results, on_gpu(results)), {});
    ASSERT_EQ(both.size(), 2u) << golden;
    EXPECT_EQ(text_of(both[0]), text_of(sections(results, {}).at(0)));
    EXPECT_EQ(text_of(both[1]), text_of(sections(on_gpu(results), {}).at(0)));
  }
}

TEST(PapersOnAGpu, RowsThatWereRefusedForLackOfOneHaveNoSection) {
  for (const auto& [sections, results, golden] : kOfEachDevice) {
    store::Results refused = on_gpu(results);
    refused.environment = results.environment;
    for (store::Row& row : refused.rows) row = without_times(row, "refused", "hopper needs a build with CUDA");
    EXPECT_THAT(sections(refused, {}), IsEmpty()) << golden;
  }
}

TEST(PapersOnAGpu, FasterNaHasNothingToSayOfThem) {
  store::Results sweep = with_config("fna_small", "faster_na");
  add_sweep(sweep, {"64x64", "3x3", "1x1", "1x1"}, 0, 0, 1, 8);
  EXPECT_THAT(faster_na_sections(on_gpu(sweep), {}), IsEmpty());
}

TEST(PapersOnAGpu, ClaimsAreThoseOfTheChartOfTheH100) {
  const Section section = generalized_na_sections(on_gpu(use_cases("gna_op_level")), {}).at(0);
  ASSERT_EQ(section.claims.size(), 6u) << "all that it shows";
  int judged = 0;
  for (const Claim& claim : section.claims) {
    EXPECT_THAT(claim.source, testing::EndsWith("chart of the H100"));
    if (!claim.ours) continue;
    ++judged;
    EXPECT_EQ(judge(claim), ClaimVerdict::holds) << claim.statement;
  }
  EXPECT_EQ(judged, 2) << "the others failed or have no self attention";
}

TEST(Papers, TakeNoRowWithABiasForOneWithout) {
  // Dense has no bias beside rows that have one.
  const auto give_bias = [](store::Results results) {
    for (store::Row& row : results.rows) row.relative_bias = row.variant == "dense" ? 0 : 1;
    return results;
  };
  for (const auto sections : {generalized_na_sections, end_to_end_sections}) {
    for (const Section& section : sections(give_bias(use_cases("gna_op_level")), {})) {
      for (const Claim& claim : section.claims) EXPECT_FALSE(claim.ours.has_value()) << claim.statement;
    }
  }
  for (const Section& section : profiler_sections(give_bias(use_cases("natten_profiler")), {})) {
    for (const Claim& claim : section.claims) EXPECT_FALSE(claim.ours.has_value()) << claim.statement;
  }
  for (const Section& section : cosmos_predict2_sections(give_bias(cosmos(true)), {})) {
    for (const Claim& claim : section.claims) EXPECT_FALSE(claim.ours.has_value()) << claim.statement;
  }
  store::Results sweep = with_config("fna_small", "faster_na");
  add_sweep(sweep, {"64x64", "3x3", "1x1", "1x1"}, 4, 2, 1, 8);
  ASSERT_FALSE(faster_na_sections(sweep, {}).empty());
  for (const Section& section : faster_na_sections(give_bias(sweep), {})) {
    for (const Claim& claim : section.claims) EXPECT_FALSE(claim.ours.has_value()) << claim.statement;
  }
}

TEST(Papers, TakeNoCausalRowForOneThatIsNot) {
  store::Results causal = use_cases("gna_op_level");
  for (store::Row& row : causal.rows) {
    if (row.variant != "dense") std::ranges::replace(row.causal, '0', '1');
  }
  for (const Section& section : generalized_na_sections(causal, {})) {
    for (const Claim& claim : section.claims) EXPECT_FALSE(claim.ours.has_value()) << claim.statement;
  }
}

// Self attention of another pass may come first, and be of the same configuration.
TEST(Papers, CompareWithSelfAttentionOfTheSamePass) {
  const store::Results results = use_cases("gna_op_level");
  store::Results more = results;
  for (const store::Row& row : results.rows) {
    if (row.variant != "dense") continue;
    store::Row backward = row;
    backward.pass = "backward";
    for (double& sample : backward.samples) sample *= 3;
    more.rows.insert(more.rows.begin(), backward);
  }
  for (const auto sections : {generalized_na_sections, end_to_end_sections}) {
    const std::vector<Section> expected = sections(results, {}), found = sections(more, {});
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(found[i].claims.size(), expected[i].claims.size());
      for (std::size_t c = 0; c < expected[i].claims.size(); ++c) {
        EXPECT_EQ(found[i].claims[c].ours, expected[i].claims[c].ours) << expected[i].claims[c].statement;
      }
    }
  }
}

TEST(Papers, HaveNothingToSayOfOtherResults) {
  for (const auto sections : {faster_na_sections, generalized_na_sections, end_to_end_sections, profiler_sections,
                              cosmos_predict2_sections}) {
    EXPECT_THAT(sections(sample_results(), {}), IsEmpty());
    EXPECT_THAT(sections(use_cases("generic"), {}), IsEmpty());
  }
}

}  // namespace
}  // namespace nalab::report
