// nalab report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "store/results.h"
#include "tests/cli/executable.h"
#include "tests/cli/run_nalab.h"
#include "tests/report/has_gnuplot.h"
#include "tests/report/sample_results.h"
#include "tests/source_folder.h"

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
  EXPECT_EQ(bytes_of(folder.file("out/report.md")), bytes_of(source_folder() + "/data/golden/report.md"));
}

TEST(ReportCommand, AFileWithoutRowsIsNamedAndTheOthersAreReported) {
  const TemporaryFolder folder;
  const store::Results sample = report::sample_results();
  const std::string empty = folder.file("empty.h5");
  store::create_results(empty, sample.environment, sample.configs);
  Outcome outcome = run_nalab(folder, {"report", empty, sample_file(folder), "-o", folder.file("out")});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, testing::StartsWith("nalab: " + empty + ": holds no finished row and is left out\n"));
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
  std::ofstream(folder.file("gnuplot"))
      << "#!/bin/sh\necho >&2\necho ' libexample.so: cannot open' >&2\necho more >&2\nexit 3\n";
  std::filesystem::permissions(folder.file("gnuplot"), std::filesystem::perms::owner_all);
  const Outcome outcome =
      run_nalab(folder, {"report", sample_file(folder), "-o", folder.file("out")}, "PATH=" + folder.path().string());
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "nalab: plots are left out: gnuplot cannot make the plot small_case_speedup_f32_forward: " +
                             std::string("libexample.so: cannot open\n"));
  EXPECT_THAT(outcome.out, testing::HasSubstr("out/small_case.csv\n"));
  const std::string page = bytes_of(folder.file("out/index.html"));
  EXPECT_THAT(page, testing::HasSubstr("Plots are left out: where this page was made, gnuplot cannot make the plot "
                                       "small_case_speedup_f32_forward: libexample.so: cannot open.</p>"));
  EXPECT_THAT(page, testing::HasSubstr("small_case: overview"));
}

TEST(ReportCommand, ReadsNoSettingsOfTheUsersGnuplot) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  const TemporaryFolder folder;
  const std::string sample = sample_file(folder);
  std::filesystem::create_directory(folder.file("home"));
  std::ofstream(folder.file("home/.gnuplot")) << "set terminal qt\nset key off\n";
  for (const char* home : {"home", "nowhere"}) {
    const Outcome outcome = run_nalab(folder, {"report", sample, "-o", folder.file(std::string("out ") + home)},
                                      "GNUTERM=qt HOME='" + folder.file(home) + "'");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
  }
  EXPECT_EQ(bytes_of(folder.file("out home/index.html")), bytes_of(folder.file("out nowhere/index.html")));
}

TEST(ReportCommand, NeedsNoOtherFolderThanItsOwn) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  const TemporaryFolder folder;
  const std::string sample = sample_file(folder);
  // All but a folder is read-only, and there is no /dev/null.
  const std::string out = folder.file("out"), empty = folder.file("empty");
  std::filesystem::create_directory(out);
  std::filesystem::create_directory(empty);
  const std::string alone = "unshare -rm sh -c 'mount --bind " + out + " " + out + " && mount --bind " + empty +
                            " /dev && mount -o remount,bind,ro / && exec \"$@\"' sh";
  if (std::system((alone + " true 2>/dev/null").c_str()) != 0) GTEST_SKIP() << "cannot make folders read-only";
  ASSERT_NE(std::system((alone + " touch " + folder.file("other")).c_str()), 0);
  const std::string command =
      alone + " '" + nalab_executable() + "' report " + sample + " -o " + out + " >'" + folder.file("log") + "' 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_THAT(bytes_of(out + "/index.html"), testing::HasSubstr("<figure"));
}

TEST(ReportCommand, RemovesWhatAnEarlierReportLeft) {
  const TemporaryFolder folder;
  const std::string sample = sample_file(folder), out = folder.file("out");
  ASSERT_EQ(run_nalab(folder, {"report", sample, "-o", out}).exit_code, 0);
  std::ofstream(out + "/notes.csv") << "the reader's own\n";
  const Outcome outcome = run_nalab(folder, {"report", sample, "-o", out, "--format", "csv"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, out + "/small_case.csv\n");
  for (const char* name : {"index.html", "report.md", "small_case.tex", "small_case_overview.tex", "report.tex"}) {
    EXPECT_THAT(outcome.err, testing::HasSubstr("nalab: " + out + "/" + name +
                                                ": removed, since it was of an earlier "
                                                "report\n"));
    EXPECT_FALSE(std::filesystem::exists(out + "/" + name)) << name;
  }
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 5) << outcome.err;
  EXPECT_EQ(bytes_of(out + "/notes.csv"), "the reader's own\n");
}

TEST(ReportCommand, AListOfAnEarlierReportLeadsNowhereElse) {
  const TemporaryFolder folder;
  const std::string out = folder.file("out"), other = folder.file("other");
  std::filesystem::create_directories(out + "/folder");
  std::ofstream(other) << "kept";
  std::filesystem::create_symlink(other, out + "/link");
  std::ofstream(out + "/.nalab_report") << "../other\n" << other << "\n..\n.\n\nfolder\nlink\n.nalab_report\n";
  const Outcome outcome = run_nalab(folder, {"report", sample_file(folder), "-o", out, "--format", "csv"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(bytes_of(out + "/link"), "kept");
  EXPECT_TRUE(std::filesystem::exists(out + "/folder"));
}

TEST(ReportCommand, AFilterKeepsRowsAndWhatTheyAreComparedWith) {
  const TemporaryFolder folder;
  const std::string sample = sample_file(folder), out = folder.file("out");
  const auto report = [&](const std::string& filter) {
    return run_nalab(folder, {"report", sample, "-o", out, "--format", "md,csv", "--filter", filter});
  };
  EXPECT_EQ(report("_w3_f32_naive").exit_code, 0);
  const std::string csv = bytes_of(out + "/small_case.csv");
  EXPECT_THAT(csv, testing::HasSubstr(",naive,"));
  EXPECT_THAT(csv, testing::HasSubstr(",dense,"));
  EXPECT_THAT(csv, testing::Not(testing::HasSubstr(",fused,")));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3) << csv;
  EXPECT_THAT(bytes_of(out + "/report.md"),
              testing::HasSubstr("Only rows whose id or label matches \\_w3\\_f32\\_naive are shown"));
  EXPECT_EQ(report("^B & C").exit_code, 0) << "a label";
  const Outcome nothing = report("^C");
  EXPECT_EQ(nothing.exit_code, 2);
  EXPECT_EQ(nothing.err,
            "nalab: there is nothing to report: " + sample + " holds no finished row that the filter picks\n");
}

TEST(ReportCommand, ThePageIsUtf8WhateverTheNamesOfFiles) {
  const TemporaryFolder folder;
  const std::string sample = sample_file(folder), named = folder.file("caf\xe9.h5"), out = folder.file("out");
  std::filesystem::rename(sample, named);
  EXPECT_EQ(run_nalab(folder, {"report", named, "-o", out}).exit_code, 0);
  EXPECT_THAT(bytes_of(out + "/index.html"), testing::HasSubstr("<td>caf\xef\xbf\xbd.h5</td>"));
}

TEST(ReportCommand, AFolderThatCannotBeWrittenToIsRefusedBeforePlotsAreDrawn) {
  const TemporaryFolder folder;
  std::ofstream(folder.file("gnuplot")) << "#!/bin/sh\ntouch '" + folder.file("drawn") + "'\n";
  std::filesystem::permissions(folder.file("gnuplot"), std::filesystem::perms::owner_all);
  const Outcome outcome =
      run_nalab(folder, {"report", sample_file(folder), "-o", "/proc"}, "PATH=" + folder.path().string() + ":$PATH");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, testing::MatchesRegex("nalab: /proc/[^\n]*: cannot be written: [^\n]*\n"));
  EXPECT_FALSE(std::filesystem::exists(folder.file("drawn")));
}

TEST(ReportCommand, SimulationsGoFromConfigurationToTables) {
  const TemporaryFolder folder;
  const std::string config = source_folder() + "/configs/gna_analytic.yaml";
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
