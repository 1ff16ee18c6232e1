// The modules of the published tables, on small made-up results: the exact tables, plots and claims.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "report/modules.h"
#include "report/render.h"
#include "tests/report/golden.h"
#include "tests/report/sample_results.h"

namespace nalab::report {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// What a made-up row is of. The window of dense is the layout.
struct Made {
  std::string layout, window, stride, dilation;
  std::string type = "f32", pass = "forward";
  int64_t heads = 1;
};

/// A row that is done, with FLOPs that count its pairs.
store::Row made(const std::string& config, const Made& m, const std::string& variant, std::vector<double> samples,
                int64_t useful, int64_t executed) {
  const bool dense = variant == "dense";
  store::Row row = sample_row("made up", 3, variant, m.type, std::move(samples));
  row.config = config;
  row.layout = m.layout;
  row.window = dense ? m.layout : m.window;
  row.stride = m.stride;
  row.dilation = m.dilation;
  row.causal = "0";
  row.heads = row.heads_kv = m.heads;
  row.head_dim = row.head_dim_v = 128;
  row.pass = m.pass;
  row.baseline = fmt::format("{}_self_h{}_{}", m.layout, m.heads, m.type);
  row.problem = dense ? row.baseline
                      : fmt::format("{}_w{}_s{}_d{}_h{}_{}", m.layout, m.window, m.stride, m.dilation, m.heads, m.type);
  row.id = row.problem + "." + variant + "." + m.pass;
  row.useful_flops = useful;
  row.executed_flops = executed;
  return row;
}

/// Samples of a time that is reliable.
std::vector<double> thrice(double seconds) { return {seconds, seconds, seconds}; }

store::Results with_config(const std::string& name, const std::string& table) {
  store::Results results;
  results.environment = sample_environment();
  results.configs = {{name, "", "", table, "dense"}};
  return results;
}

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

/// Naive, gemm, fused and dense take so many milliseconds; 0: the row is not there.
void add_sweep(store::Results& results, const Made& problem, double naive, double gemm, double fused, double dense) {
  const std::pair<const char*, double> rows[] = {{"dense", dense}, {"naive", naive}, {"gemm", gemm}, {"fused", fused}};
  for (const auto& [variant, milliseconds] : rows) {
    if (milliseconds == 0) continue;
    results.rows.push_back(made("fna_small", problem, variant, thrice(milliseconds / 1e3), 1'000'000, 1'000'000));
  }
}

store::Results sweep() {
  store::Results results = with_config("fna_small", "faster_na");
  // Improvements of gemm over naive: 300 %, 0 %, -50 %; of fused over naive: 900 %, 100 %, 0 %.
  for (const char* type : {"f32", "f16"}) {
    add_sweep(results, {"64", "3", "1", "1", type}, 10, 2.5, 1, 4);
    add_sweep(results, {"64", "5", "1", "1", type}, 10, 10, 5, 0);  // its self attention is that of the first
    add_sweep(results, {"96", "7", "1", "2", type}, 1, 2, 1, 1.015);
  }
  add_sweep(results, {"8x8", "3x3", "1x1", "1x1", "bf16", "forward_backward"}, 6, 3, 1.5, 2);
  add_sweep(results, {"4x4x4", "3x3x3", "1x1x1", "1x1x1", "f16"}, 6, 3, 1, 2);
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

store::Results use_cases(const std::string& table) {
  store::Results results = with_config("small", table);
  const auto add = [&](const Made& problem, const std::string& variant, std::vector<double> samples, int64_t useful,
                       int64_t executed) -> store::Row& {
    results.rows.push_back(made("small", problem, variant, std::move(samples), useful, executed));
    return results.rows.back();
  };
  const Made hunyuan{"30x48x80", "18x24x24", "1x1x1", "1x1x1"};
  Made block_sparse = hunyuan;
  block_sparse.stride = "16x8x8";
  add(hunyuan, "dense", {22, 20, 24}, 1'111'000'000'000, 1'111'000'000'000).packing_seconds = 1;
  add(hunyuan, "fused", thrice(2.75), 100'000'000'000, 120'000'000'000).packing_seconds = 0.25;
  add(block_sparse, "fused", thrice(2.2), 100'000'000'000, 100'000'000'000);
  // Another configuration's rows are not preferred, however many heads they have.
  results.configs.push_back({"other", "", "", "generic", "dense"});
  Made heads = hunyuan;
  heads.heads = 24;
  results.rows.push_back(made("other", heads, "fused", {1}, 1, 1));
  results.rows.push_back(made("other", heads, "dense", {100}, 1, 1));
  const Made flux{"256x256", "80x80", "16x16", "1x1"};
  add(flux, "dense", {7}, 700'000'000'000, 700'000'000'000);
  store::Row& failed = add(flux, "fused", {0.001}, 70'000'000'000, 70'000'000'000);
  failed = without_times(failed, "failed", "frobenius 1.0e-01 (bound 2.0e-06)");
  const Made cosmos{"16x44x80", "16x24x16", "1x8x16", "1x1x1"};
  add(cosmos, "fused", {0.6}, 90'000'000'000, 90'000'000'000);
  return results;
}

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

store::Results cosmos(bool whole) {
  store::Results results = with_config("small", "cosmos_predict2");
  const struct {
    Made problem;
    double seconds;
    int64_t flops;
  } patterns[] = {{{"8x44x80", "8x4x16", "1x1x1", "1x11x5"}, 0.05, 20},
                  {{"8x44x80", "8x12x16", "1x4x1", "1x1x5"}, 0.1, 50},
                  {{"8x44x80", "8x12x24", "1x4x8", "1x1x1"}, 0.125, 80},
                  {{"8x44x80", "8x20x40", "1x4x8", "1x1x1"}, 0.25, 230},
                  {{"8x44x80", "8x28x56", "1x4x8", "1x1x1"}, 0.5, 450}};
  for (const auto& [problem, seconds, flops] : patterns) {
    results.rows.push_back(made("small", problem, "fused", thrice(seconds), flops, flops));
  }
  results.rows.push_back(made("small", patterns[0].problem, "dense", thrice(1), 1000, 1000));
  if (!whole) results.rows[3] = without_times(results.rows[3], "refused", "needs 99 GB, the machine has 8 GB");
  return results;
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

/// The sections of a module after a row, found by variant and layout, is left with a number of samples.
Section with_samples(std::vector<Section> (*sections)(const store::Results&, const Options&), store::Results results,
                     const std::string& variant, const std::string& layout, std::size_t samples) {
  for (store::Row& row : results.rows) {
    if (row.variant == variant && row.layout == layout) row.samples.resize(samples, row.samples.at(0));
  }
  return sections(results, {}).at(0);
}

/// The footnotes of a table's cells that have this heading and group, for each row; empty if there is none.
std::vector<std::string> notes_of(const Table& table, const std::string& heading, const std::string& group) {
  std::vector<std::string> notes;
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (table.columns[i].heading != heading || table.columns[i].group != group) continue;
      notes.push_back(row[i].footnote == 0 ? "" : table.footnotes.at(row[i].footnote - 1));
    }
  }
  return notes;
}

constexpr const char* kDenseHasOne = "fewer than 3 samples: dense has 1";

TEST(FewSamples, OfSelfAttentionMarkSpeedupsOfGeneralizedNa) {
  const Section section = with_samples(generalized_na_sections, use_cases("gna_op_level"), "dense", "30x48x80", 1);
  for (const char* heading : {"actual", "without packing"}) {
    EXPECT_THAT(notes_of(section.tables.at(0), heading, "here"), Contains(kDenseHasOne)) << heading;
  }
  EXPECT_THAT(notes_of(section.tables.at(0), "FLOP-wise", "bound"), Not(Contains(kDenseHasOne)));
  EXPECT_THAT(to_csv(section.tables.at(0)), HasSubstr(",self_attention_samples,"));
  EXPECT_THAT(section.plots.at(0).caption,
              Contains("2 of 2 speedups have fewer than 3 samples of one of their times."));
  for (const Claim& claim : section.claims) {
    EXPECT_EQ(judge(claim), ClaimVerdict::not_judged) << claim.statement;
    EXPECT_EQ(claim.why_not, kDenseHasOne);
    EXPECT_TRUE(claim.ours.has_value());
  }
  const Section enough = with_samples(generalized_na_sections, use_cases("gna_op_level"), "dense", "30x48x80", 3);
  EXPECT_EQ(judge(enough.claims.at(0)), ClaimVerdict::holds);
  EXPECT_THAT(enough.plots.at(0).caption, Not(Contains(HasSubstr("fewer than"))));
}

TEST(FewSamples, OfTheVariantItselfCountToo) {
  const Section section = with_samples(generalized_na_sections, use_cases("gna_op_level"), "fused", "30x48x80", 2);
  EXPECT_THAT(notes_of(section.tables.at(0), "actual", "here"), Contains("fewer than 3 samples: fused has 2"));
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_judged);
}

TEST(FewSamples, MarkProjections) {
  const Section section = with_samples(end_to_end_sections, use_cases("gna_op_level"), "dense", "30x48x80", 1);
  for (const char* heading : {"attention", "end to end, projected"}) {
    EXPECT_THAT(notes_of(section.tables.at(2), heading, "here, f32"), Contains(kDenseHasOne)) << heading;
  }
  EXPECT_THAT(section.plots.at(2).caption, Contains(HasSubstr("fewer than 3 samples")));
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_judged);
}

TEST(FewSamples, MarkTheProfilersSpeedupsButNotSelfAttentionItself) {
  const Section section = with_samples(profiler_sections, use_cases("natten_profiler"), "dense", "30x48x80", 1);
  const std::vector<std::string> notes = notes_of(section.tables.at(0), "speedup", "here");
  EXPECT_EQ(std::count(notes.begin(), notes.end(), kDenseHasOne), 2) << "stride 1 and 16x8x8";
  EXPECT_THAT(section.plots.at(0).caption, Contains(HasSubstr("fewer than 3 samples")));
}

TEST(FewSamples, OfOnePatternMarkTheStack) {
  store::Results results = cosmos(true);
  results.rows.at(1).samples = {0.1};
  const Section section = cosmos_predict2_sections(results, {}).at(0);
  const std::string note = "fewer than 3 samples: fused has 1";
  EXPECT_THAT(notes_of(section.tables.at(0), "speedup", "here"), testing::ElementsAre("", note, "", "", ""));
  EXPECT_EQ(notes_of(section.tables.at(1), "speedup here", "").back(), "global_w: " + note);
  EXPECT_THAT(section.plots.at(0).caption, Contains(HasSubstr("1 of 5 speedups has fewer than 3 samples")));
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_judged);
}

TEST(FewSamples, AReliableSettingIsPreferredForTheClaim) {
  store::Results results = cosmos(true);
  for (store::Row row : cosmos(true).rows) {
    for (std::string* text : {&row.layout, &row.window, &row.problem, &row.baseline, &row.id}) {
      text->replace(0, 1, "16");
    }
    row.samples = {row.variant == "fused" ? row.samples[0] / 2 : row.samples[0]};
    results.rows.push_back(row);
  }
  const Claim claim = cosmos_predict2_sections(results, {}).at(0).claims.at(0);
  EXPECT_EQ(claim.table, "cosmos_predict2_2B_8_frames_f32");
  EXPECT_EQ(claim.why_not, "");
}

TEST(FewSamples, OfOneProblemMarkTheAverages) {
  store::Results results = with_config("fna_small", "faster_na");
  add_sweep(results, {"64", "3", "1", "1", "f16"}, 10, 2.5, 1, 4);
  add_sweep(results, {"64", "5", "1", "1", "f16"}, 10, 10, 5, 4);
  const std::string note = "1 of 2 speedups has fewer than 3 samples of one of its times";
  for (store::Row& row : results.rows) {
    if (row.variant == "naive" && row.window == "3") row.samples = {row.samples[0]};
  }
  const Section section = faster_na_sections(results, {}).at(0);
  for (const char* heading : {"average", "geometric mean", "median", "min", "max"}) {
    EXPECT_THAT(notes_of(section.tables.at(0), heading, "here"), testing::ElementsAre(note, note, "")) << heading;
  }
  EXPECT_THAT(notes_of(section.tables.at(1), "naive", "here"), testing::ElementsAre("", note, note));
  EXPECT_EQ(section.tables.at(0).records.fields.back(), "with_few_samples");
  EXPECT_EQ(section.tables.at(0).records.lines.at(0).back(), "1");
  EXPECT_THAT(section.plots.at(0).caption,
              Contains("2 of 4 speedups have fewer than 3 samples of one of their times."));
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_judged);
  EXPECT_EQ(section.claims.at(0).why_not, note);
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
