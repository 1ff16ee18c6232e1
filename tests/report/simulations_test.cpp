// Tables of simulations: verdicts, footnotes, and the exact bytes of a report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "report/modules.h"
#include "report/report.h"
#include "store/results.h"
#include "tests/report/golden.h"
#include "tests/report/sample_results.h"

namespace nalab::report {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

store::SimulationRow simulation(const std::string& stride, double simulated, double published) {
  store::SimulationRow row;
  row.id = "table_7." + stride;
  row.config = "small_case";
  row.table = "table_7";
  row.label = "Table 7, A & B";
  row.layout = "12x16";
  row.window = "6x8";
  row.stride = stride;
  row.dilation = "1x1";
  row.causal = "0x0";
  row.q_tile = "4x4";
  row.kv_tile = "2x4";
  row.tiles_note = "made up";
  row.kv_tiling = "static";
  row.attention_share = 0.5;
  row.steps = 10;
  row.dense_steps = 3;
  row.round_speedup = 1;
  row.query_tiles = 12;
  row.tiles_total = 24;
  row.tiles_visited_worst = 12;
  row.tiles_visited = 100;
  row.tiles_full = 10;
  row.attended_pairs = 9216;
  row.computed_pairs = 12800;
  row.all_pairs = 36864;
  row.speedup_flops = 4;
  row.speedup_worst = 2;
  row.speedup_mean = 2.88;
  row.end_to_end_flops = 1.355;
  row.end_to_end_simulated = simulated;
  row.published_flops = 1.36;
  row.published_simulated = published;
  row.published_actual = 1.1;
  return row;
}

store::Results sample_simulations() {
  store::Results results = sample_results();
  results.rows.clear();
  store::SimulationRow excused = simulation("1x4", 1.19, 1.25);
  excused.exception = "the tiles, \"4x4\", are a guess";
  store::SimulationRow unpublished = simulation("6x8", 1.3, 0);
  unpublished.published_flops = unpublished.published_actual = 0;
  store::SimulationRow other = simulation("2x2", 1.2, 0);
  other.table = "own";
  other.label = "";
  other.published_flops = other.published_actual = 0;
  other.dilation = "2x1";
  store::SimulationRow other_layout = other;
  other_layout.layout = "24x16";
  other_layout.tiles_note = "";
  results.simulations = {
      simulation("1x1", 1.214, 1.21), simulation("2x1", 1.215, 1.24), excused, unpublished, other, other_layout};
  return results;
}

TEST(Simulations, GiveTheExpectedFiles) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("nalab_simulations_test_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const store::Results sample = sample_simulations();
  const std::string path = (folder / "sample.h5").string();
  store::create_results(path, sample.environment, sample.configs)->append_simulations(sample.simulations);
  const Report report = make_report({store::read_results(path)}, {});
  const Written written = write_report(report, (folder / "out").string(), {.html = false});
  EXPECT_THAT(expect_golden(written.paths, "simulations"),
              ElementsAre("report.md", "small_case_table_7.csv", "small_case_table_7.tex", "small_case_own.csv",
                          "small_case_own.tex", "report.tex"));
  std::filesystem::remove_all(folder);
}

/// The last cell of a table's only row, with its footnote.
std::string verdict(const store::SimulationRow& row) {
  store::Results results = sample_results();
  results.simulations = {row};
  const Table table = simulation_sections(results, {}).at(0).tables.at(0);
  const Cell& cell = table.rows.at(0).back();
  return cell.text + (cell.footnote > 0 ? ": " + table.footnotes.at(cell.footnote - 1) : "");
}

TEST(Simulations, VerdictHoldsBothFiguresWithin1In100) {
  EXPECT_EQ(verdict(simulation("1x1", 1.21, 1.21)), "reproduced");
  EXPECT_EQ(verdict(simulation("1x1", 1.20, 1.21)), "reproduced");
  EXPECT_EQ(verdict(simulation("1x1", 1.22, 1.21)), "reproduced");
  EXPECT_EQ(verdict(simulation("1x1", 1.221, 1.21)), "differs by +0.011");
  EXPECT_EQ(verdict(simulation("1x1", 1.199, 1.21)), "differs by -0.011");
  store::SimulationRow row = simulation("1x1", 1.22, 1.21);
  row.end_to_end_flops = 1.3;
  EXPECT_EQ(verdict(row), "differs by -0.060");
}

TEST(Simulations, AnExceptionExcusesADifferenceAlone) {
  store::SimulationRow row = simulation("1x1", 1.3, 1.21);
  row.exception = "why";
  EXPECT_EQ(verdict(row), "known exception: differs by +0.090: why");
  row.end_to_end_simulated = 1.21;
  EXPECT_EQ(verdict(row), "reproduced");
}

TEST(Simulations, AFigureThatIsNotPublishedIsNotCompared) {
  store::SimulationRow row = simulation("1x1", 1.21, 1.21);
  row.published_flops = 0;
  EXPECT_EQ(verdict(row), "reproduced");
  row.published_simulated = 2;
  EXPECT_EQ(verdict(row), "differs by -0.790");
}

TEST(Simulations, StandBesideTheTablesOfRows) {
  store::Results results = sample_results();
  results.simulations = sample_simulations().simulations;
  std::vector<std::string> names;
  for (const Table& table : tables_of(make_report({results}, {}))) names.push_back(table.name);
  EXPECT_THAT(names, ElementsAre("small_case_overview", "small_case", "small_case_table_7", "small_case_own"));
  EXPECT_THAT(simulation_sections(sample_results(), {}), IsEmpty());
}

}  // namespace
}  // namespace nalab::report
