// nalab run.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "store/results.h"
#include "tests/cli/executable.h"
#include "tests/cli/run_nalab.h"

namespace nalab {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

std::string write_config(const TemporaryFolder& folder, const std::string& problems) {
  std::string path = folder.file("small.yaml");
  std::ofstream(path) << "name: small\nvariants: naive\nstore: {tensors: all}\n"
                         "timing: {warmups: 1, min_samples: 1, max_samples: 1, min_seconds: 0, max_seconds: 0.001}\n"
                      << problems;
  return path;
}

std::string one_problem(const TemporaryFolder& folder) {
  return write_config(folder, "problems: [{layout: 9, window: 3, head_dim: 4}]\n");
}

TEST(Run, WhatIsLeftOutForLackOfADeviceIsSaid) {
  const TemporaryFolder folder;
  const std::string problems = "problems: [{layout: 9, window: 3, head_dim: 8}]\ntypes: bf16\n";
  const std::string config =
      write_config(folder, "runs: [{device: cpu}, {device: cuda, variants: hopper}]\n" + problems);
  const Outcome both = run_nalab(folder, {"run", config, "--dry-run"});
  EXPECT_EQ(both.exit_code, 0) << both.err;
  const Outcome gpu = run_nalab(folder, {"run", config, "--variants", "hopper", "--dry-run"});
  if (both.out.find("hopper") != std::string::npos) GTEST_SKIP() << "there is a GPU";
  EXPECT_THAT(both.out, HasSubstr("\n  cuda    leaves out 1 row: it needs "));
  EXPECT_THAT(both.out, HasSubstr("plan: 1 rows in 1 groups, 0 refused"));
  EXPECT_EQ(gpu.exit_code, 2);
  EXPECT_THAT(gpu.err, testing::StartsWith("nalab: there is nothing to run but 1 row on cuda, which needs "));
  const Outcome cpu = run_nalab(folder, {"run", config, "--variants", "naive", "--dry-run"});
  EXPECT_EQ(cpu.exit_code, 0) << cpu.err;
  EXPECT_THAT(cpu.out, Not(HasSubstr("leaves out")));
}

TEST(Run, MeasuresPeaksForANewFileAlone) {
  const TemporaryFolder folder;
  const std::string config = one_problem(folder);
  const std::string file = folder.file("new folder/small.h5");
  const Outcome first = run_nalab(folder, {"run", config, "-o", file, "--isa", "baseline", "--threads", "1"});
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("  time    very roughly 2.00 s\n"));
  const store::Environment environment = store::read_results(file).environment;
  ASSERT_NE(store::find_peak(environment, "f32_fma"), nullptr);

  const std::string bytes = bytes_of(file);
  const Outcome again = run_nalab(folder, {"run", config, "-o", file});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_EQ(again.err,
            "nalab: " + file + ": already exists; continue it with --resume, or name another file with -o\n");
  EXPECT_THAT(again.out, Not(HasSubstr(" 2.00 s\n")));
  const Outcome other =
      run_nalab(folder, {"run", config, "-o", file, "--resume", "--isa", "baseline", "--threads", "2"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_EQ(other.err, "nalab: " + file + ": cannot be resumed: threads was '1' and is '2'\n");
  EXPECT_EQ(bytes_of(file), bytes);

  const Outcome resumed =
      run_nalab(folder, {"run", config, "-o", file, "--resume", "--isa", "baseline", "--threads", "1"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("resumed: 1 rows finished earlier, 0 to go\n"));
  EXPECT_THAT(resumed.out, Not(HasSubstr(" 2.00 s\n")));
  EXPECT_EQ(store::find_peak(store::read_results(file).environment, "f32_fma")->all_threads,
            store::find_peak(environment, "f32_fma")->all_threads);
}

TEST(Run, EndsWithOneWhereAnEarlierRowIsWrong) {
  const TemporaryFolder folder;
  const std::vector<std::string> arguments{"run", one_problem(folder), "-o", folder.file("small.h5"), "--resume"};
  ASSERT_EQ(run_nalab(folder, arguments).exit_code, 0);
  store::Results results = store::read_results(folder.file("small.h5"));
  results.rows.at(0).status = "failed";
  results.rows.at(0).reason = "off by one";
  results.rows.at(0).samples.clear();
  fs::remove(folder.file("small.h5"));
  store::write_results(folder.file("small.h5"), results, {});
  const Outcome outcome = run_nalab(folder, arguments);
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("resumed: 1 rows finished earlier, 0 to go\n"));
}

TEST(Run, RefusesADirectoryAndMakesNone) {
  const TemporaryFolder folder;
  const std::string config = one_problem(folder);
  for (const char* name : {"", "new/", "new/.", "new/deeper/.."}) {
    const std::string path = folder.file(name);
    const Outcome outcome = run_nalab(folder, {"run", config, "-o", path});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.err, "nalab: " + path + ": is a directory, must be a file for the results\n");
    EXPECT_FALSE(fs::exists(folder.path() / "new")) << path;
  }
}

TEST(Run, RefusesAFolderThatCannotBeWrittenToBeforePeaksAreMeasured) {
  const TemporaryFolder folder;
  // The peaks alone would take more time of the CPU than this.
  const Outcome outcome = run_nalab(folder, {"run", one_problem(folder), "-o", "/proc/small.h5"}, "ulimit -t 1;");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "nalab: /proc/small.h5: cannot be written: No such file or directory\n");
}

TEST(Run, RefusesAFilterThatNestsTooDeeply) {
  const TemporaryFolder folder;
  const Outcome outcome = run_nalab(folder, {"run", one_problem(folder), "--dry-run", "--filter",
                                             std::string(20'000, '(') + std::string(20'000, ')')});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err,
              testing::MatchesRegex(
                  "nalab: --filter '[(]*\\.\\.\\.' must be a regular expression of at most 10000 characters\n"));
}

TEST(Run, RefusesAnEmptyName) {
  const TemporaryFolder folder;
  const Outcome outcome = run_nalab(folder, {"run", one_problem(folder), "-o", ""});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "nalab: --output: must not be empty\n");
}

TEST(Run, RefusesAnUnknownArithmeticOnce) {
  const TemporaryFolder folder;
  const std::string path = folder.file("results.h5");
  const std::vector<std::string> command{"run", one_problem(folder), "-o", path};
  std::vector<std::string> with_option = command;
  with_option.insert(with_option.end(), {"--arithmetic", "f8_fma"});
  for (const Outcome& outcome :
       {run_nalab(folder, with_option), run_nalab(folder, command, "NALAB_ARITHMETIC=f8_fma")}) {
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, testing::MatchesRegex("nalab: arithmetic 'f8_fma' is none of [^\n]*\n"));
  }
  EXPECT_FALSE(fs::exists(path));
}

/// Starts the executable, kills it after some time unless it has ended, and tells whether it had not.
bool start_and_kill(std::vector<std::string> arguments, std::chrono::duration<double> after) {
  const pid_t child = ::fork();
  if (child == 0) {
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, STDOUT_FILENO);
    ::dup2(nowhere, STDERR_FILENO);
    std::string executable = nalab_executable();
    std::vector<char*> argv{executable.data()};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  std::this_thread::sleep_for(after);
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  return WIFSIGNALED(status);
}

/// The ids of the rows of a results file that must be readable. Each row has its samples and tensors, and is there
/// once.
std::set<std::string> rows_of(const std::string& path) {
  std::set<std::string> ids;
  for (const store::Row& row : store::read_results(path).rows) {
    EXPECT_TRUE(ids.insert(row.id).second) << row.id;
    EXPECT_EQ(row.status, "done") << row.reason;
    EXPECT_EQ(row.samples.size(), 1u) << row.id;
    EXPECT_EQ(store::read_tensors(path, row.id).size(), 5u) << row.id;
  }
  return ids;
}

TEST(Run, KilledAtAnyMomentItLosesNothingThatWasFinished) {
  constexpr int kRounds = 20;
  constexpr std::size_t kRows = 60;
  const TemporaryFolder folder;
  const std::string config =
      write_config(folder,
                   "grids:\n  - layout: [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]\n"
                   "    window: [1, 2, 3, 4]\n    head_dim: 4\n");
  const auto run = [&](const std::string& file, const std::string& filter) -> std::vector<std::string> {
    return {"run", config, "-o", file, "--resume", "--isa", "baseline", "--threads", "1", "--filter", filter};
  };
  // One row: the rounds start from its file, which has the peaks already.
  const std::string begun = folder.file("begun.h5");
  ASSERT_EQ(run_nalab(folder, run(begun, "^7_w1_")).exit_code, 0);
  const std::string whole = folder.file("whole.h5");
  fs::copy_file(begun, whole);
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(run_nalab(folder, run(whole, "")).exit_code, 0);
  const std::chrono::duration<double> duration = std::chrono::steady_clock::now() - start;
  const std::set<std::string> all = rows_of(whole);
  ASSERT_EQ(all.size(), kRows);

  std::mt19937 random(7);
  int killed_midway = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::string file = folder.file("round" + std::to_string(round) + ".h5");
    fs::copy_file(begun, file);
    const bool killed = start_and_kill(run(file, ""), std::uniform_real_distribution(0.0, 1.0)(random) * duration);
    const std::set<std::string> left = rows_of(file);
    if (killed && left.size() > 1 && left.size() < kRows) ++killed_midway;
    const Outcome resumed = run_nalab(folder, run(file, ""));
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr("resumed: " + std::to_string(left.size()) + " rows finished earlier, " +
                                       std::to_string(kRows - left.size()) + " to go\n"));
    EXPECT_EQ(rows_of(file), all);
  }
  EXPECT_GT(killed_midway, 0);
}

}  // namespace
}  // namespace nalab
