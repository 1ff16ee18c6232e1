// From a configuration to rows, files and a report on a GPU that is the emulator.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>

#include "store/results.h"
#include "tests/cli/run_nalab.h"

namespace nalab {
namespace {

using testing::HasSubstr;
using testing::Not;

class GpuRun : public testing::Test {
 protected:
  /// A configuration with two problems of one layout.
  std::string config(const std::string& runs, const std::string& problem = "") const {
    std::string path = folder_.file("small.yaml");
    std::ofstream(path) << "name: small\nvariants: [dense, fused, hopper_dense, hopper]\n"
                           "timing: {min_samples: 3, max_samples: 3, min_seconds: 0, max_noise: 1}\nruns: "
                        << runs
                        << "\nproblems:\n"
                           "  - {label: narrow, layout: [18, 20], window: [5, 7], head_dim: 8}\n"
                           "  - {label: strided, layout: [18, 20], window: [5, 7], stride: [1, 4], head_dim: 8}\n"
                        << problem;
    return path;
  }
  Outcome run(const std::vector<std::string>& arguments, const std::string& before = "") const {
    std::vector<std::string> all{"run"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    all.insert(all.end(), {"--threads", "1", "--isa", "baseline"});
    return run_nalab(folder_, all, before);
  }
  static std::map<std::string, store::Row> rows_of(const std::string& file) {
    std::map<std::string, store::Row> rows;
    for (const store::Row& row : store::read_results(file).rows) rows[row.label + " " + row.variant] = row;
    return rows;
  }

  const TemporaryFolder folder_;
  const std::string file_ = folder_.file("results.h5");
};

TEST_F(GpuRun, StoresWhatTheGpuDidAndWhichOneItWas) {
  const Outcome outcome = run({config("[{device: cuda, types: bf16}, {device: cpu, types: f32}]"), "-o", file_});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr(": 6 done, 0 failed, 0 refused in "));
  const store::Environment environment = store::read_results(file_).environment;
  EXPECT_EQ(environment.gpu, "emulator");
  EXPECT_EQ(environment.gpu_driver, "1.2.3");
  EXPECT_EQ(environment.gpu_multiprocessors, 132);
  EXPECT_EQ(environment.gpu_clock, 1e9);
  EXPECT_EQ(environment.gpu_memory_clock, 2e9);
  EXPECT_EQ(environment.gpu_memory_bytes, int64_t{3} << 30);
  EXPECT_EQ(environment.gpu_power_limit, 5);
  ASSERT_NE(store::find_peak(environment, "wgmma"), nullptr);
  EXPECT_EQ(store::find_peak(environment, "wgmma")->all_threads, 1e9);

  const auto rows = rows_of(file_);
  EXPECT_EQ(rows.size(), 6u);
  for (const auto& [name, row] : rows) {
    const bool on_gpu = row.variant.starts_with("hopper");
    EXPECT_EQ(row.device, on_gpu ? "cuda" : "cpu") << name;
    EXPECT_EQ(row.type, on_gpu ? "bf16" : "f32") << name;
    EXPECT_EQ(row.samples.size(), 3u) << name;
    EXPECT_EQ(row.verified_queries, 360) << name;
    if (on_gpu) {
      EXPECT_THAT(row.tiling, testing::MatchesRegex("q.*_split[123]_kv.*_stages[2-4]_.*")) << name;
      EXPECT_EQ(row.samples.front(), static_cast<double>(row.executed_flops) * 1e-9) << "the GPU's own time";
    }
  }
  EXPECT_NE(rows.at("narrow hopper").tiling, rows.at("self attention hopper_dense").tiling);
}

TEST_F(GpuRun, SpeedupsAreOverSelfAttentionOnTheSameDevice) {
  run({config("[{device: cuda, types: bf16}, {device: cpu, types: bf16}]"), "-o", file_});
  const std::string report = folder_.file("report");
  const Outcome outcome = run_nalab(folder_, {"report", file_, "-o", report});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::string text = bytes_of(report + "/report.md");
  const auto rows = rows_of(file_);
  const double expected = static_cast<double>(rows.at("self attention hopper_dense").executed_flops) /
                          static_cast<double>(rows.at("narrow hopper").executed_flops);
  char speedup[32];
  std::snprintf(speedup, sizeof speedup, "| %.3gx |", expected);
  EXPECT_THAT(text, HasSubstr(speedup));
  EXPECT_THAT(text, HasSubstr("emulator, 132 multiprocessors up to 1000 MHz, 5 W, driver 1.2.3"));
  EXPECT_THAT(text, HasSubstr("## small, on a GPU: overview"));
  EXPECT_THAT(text, HasSubstr("Speedups are over dense: self attention"));
  EXPECT_THAT(text, HasSubstr("Speedups are over hopper\\_dense: self attention"));
}

TEST_F(GpuRun, IsResumedAndMergedOnTheSameGpuAlone) {
  const std::string both = config("{device: cuda, types: bf16}");
  const Outcome first = run({both, "-o", file_, "--filter", "narrow"});
  EXPECT_EQ(first.exit_code, 0) << first.err;
  const Outcome other = run({both, "-o", file_, "--resume"}, "NALAB_TEST_POWER_LIMIT=7");
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_EQ(other.err, "nalab: " + file_ + ": cannot be resumed: gpu_power_limit was '5' and is '7'\n");
  const Outcome resumed = run({both, "-o", file_, "--resume"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_EQ(rows_of(file_).size(), 3u) << "self attention and two problems";

  std::vector<std::string> shards;
  for (const char* shard : {"1/2", "2/2"}) {
    shards.push_back(folder_.file(std::string("shard") + shard[0] + ".h5"));
    EXPECT_EQ(run({both, "-o", shards.back(), "--shard", shard}).exit_code, 0);
  }
  const std::string merged = folder_.file("merged.h5");
  const Outcome outcome = run_nalab(folder_, {"merge", shards[0], shards[1], "-o", merged});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(rows_of(merged).size(), 3u);
  for (const auto& [name, row] : rows_of(merged)) EXPECT_EQ(row.tiling, rows_of(file_).at(name).tiling) << name;
  EXPECT_EQ(store::read_results(merged).environment.gpu_driver, "1.2.3");
}

TEST_F(GpuRun, APeakThatCannotBeIsNotStored) {
  const Outcome outcome = run({config("{device: cuda, types: bf16}"), "-o", file_}, "NALAB_TEST_PEAK=1e15");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const store::Environment environment = store::read_results(file_).environment;
  EXPECT_EQ(store::find_peak(environment, "wgmma"), nullptr);
  EXPECT_EQ(environment.not_measured, "the peak of the GPU's tensor cores was measured as more than its clock allows");
  const std::string report = folder_.file("report");
  EXPECT_EQ(run_nalab(folder_, {"report", file_, "-o", report}).exit_code, 0);
  const std::string text = bytes_of(report + "/report.md");
  EXPECT_THAT(text, HasSubstr("Peaks were not measured."));
  EXPECT_THAT(text, HasSubstr("the peak of the GPU was not measured"));
}

TEST_F(GpuRun, ARefusedRowHasItsReasonInTheReport) {
  const std::string wide = "  - {label: biased, layout: [18, 20], window: 5, head_dim: 8, relative_bias: true}\n";
  run({config("{device: cuda, types: [bf16, f32]}", wide), "-o", file_});
  const std::string report = folder_.file("report");
  EXPECT_EQ(run_nalab(folder_, {"report", file_, "-o", report}).exit_code, 0);
  EXPECT_THAT(bytes_of(report + "/report.md"), HasSubstr("hopper was not run: hopper computes bf16 and f16 only"));
}

TEST_F(GpuRun, AStoredRowIsVerifiedWithTheTilesOfToday) {
  const std::string path = config("{device: cuda, types: f16}");
  std::ofstream(path, std::ios::app) << "store: {tensors: all}\n";
  EXPECT_EQ(run({path, "-o", file_}).exit_code, 0);
  const Outcome outcome = run_nalab(folder_, {"verify", file_});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("new, stored"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("has no tiles")));
}

}  // namespace
}  // namespace nalab
