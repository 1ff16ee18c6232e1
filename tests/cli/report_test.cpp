// nalab report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "store/results.h"
#include "tests/cli/run_nalab.h"
#include "tests/report/sample_results.h"

namespace nalab {
namespace {

std::string sample_file(const TemporaryFolder& folder) {
  const store::Results sample = report::sample_results();
  const std::string path = folder.file("sample.h5");
  auto sink = store::create_results(path, sample.environment, sample.configs);
  for (const store::Row& row : sample.rows) sink->append(std::vector<store::FinishedRow>{{row, {}}});
  return path;
}

TEST(ReportCommand, PrintsThePathsOfWhatItWrites) {
  const TemporaryFolder folder;
  const Outcome outcome = run_nalab(folder, {"report", sample_file(folder), "-o", folder.file("out")});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, folder.file("out/index.html") + "\n" + folder.file("out/report.md") + "\n" +
                             folder.file("out/small_case_overview.tex") + "\n" + folder.file("out/small_case.csv") +
                             "\n" + folder.file("out/small_case.tex") + "\n" + folder.file("out/report.tex") + "\n");
  EXPECT_EQ(bytes_of(folder.file("out/report.md")), bytes_of(std::string(NALAB_SOURCE_DIR) + "/data/golden/report.md"));
}

TEST(ReportCommand, AFileWithoutRowsIsNamedAndTheOthersAreReported) {
  const TemporaryFolder folder;
  const store::Results sample = report::sample_results();
  const std::string empty = folder.file("empty.h5");
  store::create_results(empty, sample.environment, sample.configs);
  Outcome outcome = run_nalab(folder, {"report", empty, sample_file(folder), "-o", folder.file("out")});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "nalab: " + empty + ": holds no finished row and is left out\n");
  EXPECT_THAT(bytes_of(folder.file("out/report.md")), testing::HasSubstr("empty.h5 holds no finished row"));

  outcome = run_nalab(folder, {"report", empty, "-o", folder.file("none")});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "nalab: there is nothing to report: " + empty + " holds no finished row\n");
  EXPECT_FALSE(std::filesystem::exists(folder.file("none")));
}

TEST(ReportCommand, FormatsAndBaselineAreChosen) {
  const TemporaryFolder folder;
  const Outcome outcome = run_nalab(
      folder, {"report", sample_file(folder), "-o", folder.file("out"), "--format", "md", "--baseline", "naive"});
  EXPECT_EQ(outcome.out, folder.file("out/report.md") + "\n");
  EXPECT_THAT(bytes_of(folder.file("out/report.md")),
              testing::HasSubstr("Speedups are over naive on the same problem."));
}

TEST(ReportCommand, TheSameFileGivesTheSameBytes) {
  const TemporaryFolder folder;
  const std::string sample = sample_file(folder);
  for (const char* out : {"first", "second"}) {
    const Outcome outcome = run_nalab(folder, {"report", sample, "-o", folder.file(out), "--png"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.file("first"))) {
    ++files;
    const std::string name = entry.path().filename();
    EXPECT_EQ(bytes_of(entry.path()), bytes_of(folder.file("second/" + name))) << name;
    EXPECT_NE(bytes_of(entry.path()), "") << name;
  }
  EXPECT_GE(files, 6u);
}

TEST(ReportCommand, WithoutGnuplotThereAreNoPlots) {
  const TemporaryFolder folder;
  const Outcome outcome = run_nalab(folder, {"report", sample_file(folder), "-o", folder.file("out"), "--png"},
                                    "PATH=" + folder.path().string());
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "nalab: plots are left out: gnuplot is not installed\n");
  EXPECT_THAT(outcome.out, testing::Not(testing::HasSubstr(".png")));
  const std::string page = bytes_of(folder.file("out/index.html"));
  EXPECT_THAT(page, testing::HasSubstr("Plots are left out"));
  EXPECT_THAT(page, testing::HasSubstr("small_case: overview"));
}

TEST(ReportCommand, AGnuplotThatFailsIsNamed) {
  const TemporaryFolder folder;
  std::ofstream(folder.file("gnuplot")) << "#!/bin/sh\nexit 3\n";
  std::filesystem::permissions(folder.file("gnuplot"), std::filesystem::perms::owner_all);
  const Outcome outcome =
      run_nalab(folder, {"report", sample_file(folder), "-o", folder.file("out")}, "PATH=" + folder.path().string());
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "nalab: gnuplot cannot make the plot small_case_speedup_f32_forward\n");
  EXPECT_FALSE(std::filesystem::exists(folder.file("out/index.html")));
}

TEST(ReportCommand, SimulationsGoFromConfigurationToTables) {
  const TemporaryFolder folder;
  const std::string config = std::string(NALAB_SOURCE_DIR) + "/configs/gna_analytic.yaml";
  const std::string path = folder.file("g.h5");
  Outcome run = run_nalab(folder, {"run", config, "-o", path, "--filter", "table6"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, testing::HasSubstr(path + ": 3 simulated, 0 done, 0 failed, 0 refused in "));
  EXPECT_EQ(store::read_results(path).simulations.size(), 3u);
  run = run_nalab(folder, {"run", config, "-o", path, "--resume"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, testing::HasSubstr("resumed: 3 rows finished earlier, 48 to go\n"));
  EXPECT_EQ(store::read_results(path).simulations.size(), 51u);

  const Outcome outcome = run_nalab(folder, {"report", path, "-o", folder.file("out")});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::HasSubstr(folder.file("out/gna_analytic_table4_hunyuan.csv") + "\n"));
  EXPECT_THAT(bytes_of(folder.file("out/report.md")),
              testing::HasSubstr("within 0.01 of the published ones, as in 14 of 16 rows."));
}

struct Refusal {
  std::vector<std::string> arguments;
  std::string line;
};

TEST(ReportCommand, RefusesInOneLineAndWritesNothing) {
  const TemporaryFolder folder;
  const std::string sample = sample_file(folder);
  const std::string missing = folder.file("missing.h5");
  const std::vector<Refusal> refusals{
      {{}, "RESULTS.h5 is required"},
      {{sample, "--format", "pdf"}, "--format: pdf not in {html,md,csv,tex}"},
      {{sample, "--baseline", "denze"},
       "baseline 'denze' is not among the variants in the results: dense, fused, naive"},
      {{missing}, missing + ": cannot be read: No such file or directory"},
      {{sample, kSmallCases}, kSmallCases + ": "},
  };
  for (const Refusal& refusal : refusals) {
    std::vector<std::string> arguments{"report", "-o", folder.file("out")};
    arguments.insert(arguments.end(), refusal.arguments.begin(), refusal.arguments.end());
    const Outcome outcome = run_nalab(folder, arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, testing::StartsWith("nalab: " + refusal.line));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_FALSE(std::ifstream(folder.file("out/report.md")).is_open());
  }
}

}  // namespace
}  // namespace nalab
