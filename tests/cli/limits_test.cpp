// Commands under limits: of address space, and of CPUs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/parallel.h"
#include "tests/cli/run_nalab.h"

namespace nalab {
namespace {

using testing::MatchesRegex;

// The sanitizers need more address space.
#ifndef NALAB_SANITIZED
const std::string kLittleMemory = "ulimit -v 400000;";

TEST(Limits, InfoMeasuresNoCopyBandwidthThatDoesNotFit) {
  const TemporaryFolder folder;
  const Outcome lines = run_nalab(folder, {"info", "--threads", "1", "--isa", "baseline"}, kLittleMemory);
  ASSERT_EQ(lines.exit_code, 0) << lines.err;
  EXPECT_THAT(lines.out, testing::ContainsRegex("\ncopy bandwidth +none\n"));
  EXPECT_THAT(lines.out,
              testing::ContainsRegex(
                  "\nnot measured +copy bandwidth: a quarter of the free memory, [0-9]+ MiB, is too little\n"));
  EXPECT_THAT(lines.out, testing::ContainsRegex("\npeak f32_fma +[0-9.]+ GFLOP/s on one thread"));
  const Outcome json = run_nalab(folder, {"info", "--json", "--threads", "1", "--isa", "baseline"}, kLittleMemory);
  const auto values = nlohmann::json::parse(json.out);
  EXPECT_EQ(values.at("copy_bandwidth"), 0);
  EXPECT_LT(values.at("memory_limit_bytes"), int64_t{400000} << 10);
  EXPECT_GT(values.at("memory_bytes"), values.at("memory_limit_bytes"));
}

TEST(Limits, RowsThatDoNotFitAreRefusedWithTheNumbers) {
  const TemporaryFolder folder;
  const std::string config = folder.file("x.yaml");
  std::ofstream(config) << "name: x\nvariants: naive\nproblems: [{layout: 1000000, window: 3, head_dim: 100}]\n";
  const std::vector<std::string> command{"run", config, "--dry-run", "--threads", "1", "--isa", "baseline"};
  const Outcome limited = run_nalab(folder, command, kLittleMemory);
  EXPECT_EQ(limited.exit_code, 0) << limited.err;
  EXPECT_THAT(limited.out, testing::ContainsRegex("\n  refused 1 row: naive: needs 1.60 GB of memory \\(.*\\), the "
                                                  "limits of the process leave [0-9.]+ MB "));
  EXPECT_THAT(run_nalab(folder, command).out, testing::HasSubstr(", 0 refused, "));
}

TEST(Limits, ThreadsThatCannotBeStartedAreNoFaultOfAProblem) {
  const Outcome outcome =
      run_nalab(TemporaryFolder(), {"selftest", "--count", "1", "--threads", "1000"}, kLittleMemory);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, MatchesRegex("nalab: 1000 threads cannot be started, only [0-9]+: [^\n]*\n"));
}
#endif

TEST(Limits, FilesThatMayNotGrowAreRefusedInOneLine) {
  const TemporaryFolder folder;
  const std::string out = folder.file("out.h5");
  const Outcome outcome = run_nalab(folder, {"attend", kSmallCases, out}, "ulimit -f 1;");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "nalab: " + out + ": cannot be written: File too large\n");
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(Limits, MoreThreadsThanCpusAreSaidOnce) {
  const TemporaryFolder folder;
  const std::string config = folder.file("x.yaml");
  std::ofstream(config) << "name: x\nvariants: naive\nproblems: [{layout: 10, window: 3}]\n";
  const int threads = hardware_threads() + 1;
  for (const char* before : {"", "NALAB_ISA=baseline"}) {
    const Outcome outcome =
        run_nalab(folder, {"run", config, "--dry-run", "--threads", std::to_string(threads)}, before);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.err,
                MatchesRegex("nalab: " + std::to_string(threads) + " threads share .* CPUs?.*: times are doubtful\n"));
  }
  EXPECT_EQ(run_nalab(folder, {"run", config, "--dry-run", "--threads", "1"}).err, "");
}

}  // namespace
}  // namespace nalab
