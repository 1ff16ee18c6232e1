// Ctrl-C and SIGTERM while a run goes on: what is kept, what is said, and how it goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "store/results.h"
#include "tests/cli/executable.h"
#include "tests/cli/run_nalab.h"
#include "tests/cli/running.h"
#include "tests/source_folder.h"

namespace nalab {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::MatchesRegex;
using namespace std::chrono_literals;

/// Many groups of a tenth of a second.
std::string many_groups(const std::string& path) {
  std::ofstream(path)
      << "name: many\nvariants: naive\n"
         "timing: {min_samples: 1, max_samples: 1000000, min_seconds: 0.1, max_seconds: 0.2}\n"
         "grids:\n  - {layout: [20, 21, 22, 23, 24, 25, 26, 27, 28, 29], window: [1, 2, 3, 4, 5, 6, 7, 8],\n"
         "     head_dim: 4}\n";
  return path;
}

std::size_t rows_in(const std::string& path) { return store::read_results(path).rows.size(); }

TEST(Interruption, KeepsWhatIsFinishedAndSaysHowToGoOn) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const TemporaryFolder folder;
    const std::string config = many_groups(folder.file("many.yaml")), file = folder.file("many.h5");
    Running run(folder, {nalab_executable(), "run", config, "-o", file, "--isa", "baseline", "--threads", "1"});
    ASSERT_TRUE(run.prints("[2/80]")) << run.output();
    const int status = run.wait(signal);
    ASSERT_TRUE(WIFEXITED(status)) << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 130);
    const std::size_t kept = rows_in(file);
    EXPECT_GE(kept, 2u);
    EXPECT_LT(kept, 80u);
    EXPECT_THAT(run.output(), HasSubstr("\nnalab: ends after the call at hand; another signal ends it at once\n"));
    EXPECT_THAT(run.output(), HasSubstr("\n" + file + ": interrupted; " + std::to_string(kept) +
                                        " of 80 rows and simulations are kept, --resume goes on from there\n"));
    EXPECT_EQ(folder.count(), 3) << "no temporary file is left";

    const Outcome resumed = run_nalab(folder, {"run", config, "-o", file, "--isa", "baseline", "--threads", "1",
                                               "--resume", "--filter", "^2[0-4]_w1_"});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    const auto rows = store::read_results(file).rows;
    EXPECT_GE(rows.size(), kept + 1);
    EXPECT_TRUE(std::ranges::any_of(rows, [](const auto& row) { return row.problem.starts_with("24_w1_"); }));
  }
}

TEST(Interruption, ASecondSignalEndsItAtOnce) {
  const TemporaryFolder folder;
  const std::string config = folder.file("long.yaml");
  // One call of the oracle takes many seconds.
  std::ofstream(config) << "name: long\nvariants: reference\nproblems: [{layout: 100000, window: 20000}]\n";
  Running run(folder, {nalab_executable(), "run", config, "-o", folder.file("long.h5"), "--isa", "baseline"});
  for (int i = 0; i < 6000 && !fs::exists(folder.file("long.h5")); ++i) std::this_thread::sleep_for(10ms);
  std::this_thread::sleep_for(300ms);
  run.send(SIGINT);
  ASSERT_TRUE(run.prints("ends after the call at hand"));
  const auto start = std::chrono::steady_clock::now();
  const int status = run.wait(SIGINT);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 130);
  EXPECT_EQ(rows_in(folder.file("long.h5")), 0u) << "the file is whole";
}

TEST(Interruption, WhileThePeaksAreMeasuredLeavesNoFile) {
  const TemporaryFolder folder;
  const std::string config = many_groups(folder.file("many.yaml")), file = folder.file("many.h5");
  Running run(folder, {nalab_executable(), "run", config, "-o", file});
  ASSERT_TRUE(run.prints("plan: "));
  const int status = run.wait(SIGINT);
  // The signal may come before the run listens, or once the file is there.
  if (WIFSIGNALED(status)) return;
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_THAT(run.output(), HasSubstr(" of 80 rows and simulations are kept"));
}

TEST(Interruption, ReproduceLetsTheRunEndInOrder) {
  const TemporaryFolder folder;
  const auto make = [&](const std::string& name, const std::string& text) {
    fs::create_directories(fs::path(folder.file(name)).parent_path());
    std::ofstream(folder.file(name)) << text;
  };
  const std::string script = folder.file("tools/reproduce.sh");
  make("tools/build.sh", "#!/bin/sh\n");
  fs::permissions(folder.file("tools/build.sh"), fs::perms::owner_all);
  fs::copy_file(fs::path(source_folder()) / "tools/reproduce.sh", script);
  fs::create_directories(folder.file("build/release"));
  fs::create_symlink(nalab_executable(), folder.file("build/release/nalab"));
  fs::create_directories(folder.file("data/cases"));
  fs::copy_file(kBiasCases, folder.file("data/cases/rpb.h5"));
  fs::create_directories(folder.file("configs"));
  many_groups(folder.file("configs/many.yaml"));
  for (const int signal : {SIGINT, SIGTERM}) {
    Running run(folder, {"/bin/bash", script});
    ASSERT_TRUE(run.prints("[2/")) << run.output();
    const int status = run.wait(signal);
    ASSERT_TRUE(WIFEXITED(status)) << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 130);
    EXPECT_THAT(run.output(), HasSubstr(": interrupted; "));
    EXPECT_TRUE(run.output().ends_with(
        "Interrupted. What was finished is kept in results/quick; tools/reproduce.sh goes on from there.\n"))
        << run.output();
    EXPECT_GE(rows_in(folder.file("results/quick/many.h5")), 2u);
  }
}

}  // namespace
}  // namespace nalab
