// nalab run --shard and nalab merge.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "store/results.h"
#include "tests/cli/run_nalab.h"

namespace nalab {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string write_config(const TemporaryFolder& folder) {
  std::string path = folder.file("small.yaml");
  std::ofstream(path) << "name: small\nvariants: [dense, naive, fused]\ntypes: [f32, bf16]\nstore: {tensors: sample}\n"
                         "timing: {warmups: 1, min_samples: 2, max_samples: 2, min_seconds: 0, max_seconds: 60}\n"
                         "problems:\n"
                         "- {label: one, layout: 19, window: 3, head_dim: 8}\n"
                         "- {label: two, layout: 19, window: 5, dilation: 2, head_dim: 8}\n"
                         "- {label: three, layout: [7, 5], window: [7, 2], heads: 2, head_dim: 16}\n"
                         "- {label: four, layout: [23, 29], window: 9, head_dim: 16}\n"
                         "simulations:\n"
                         "- {table: t, label: blocks, layout: [12, 16], q_tile: 4, kv_tile: 4, window: 6, stride: 6,\n"
                         "   attention_share: 0.5, steps: 1, rows: [{}]}\n";
  return path;
}

/// Everything of a row that a second run would give again.
std::string without_times(store::Row row) {
  row.first_sample = 0;
  row.packing_seconds = 0;
  row.stopped_by.clear();
  row.cpus_others = row.cpus_stolen = row.cpus_throttled = row.peak_before = row.peak_after = 0;
  std::ostringstream text;
  store::Row::visit_fields(
      row, [&](const char* name, const auto& field, const char*) { text << name << '=' << field << '\n'; });
  return text.str();
}

std::vector<std::string> rows_without_times(const store::Results& results) {
  std::vector<std::string> rows;
  for (const store::Row& row : results.rows) rows.push_back(without_times(row));
  return rows;
}

TEST(Shards, MergedTheyAreTheRunOfTheWholePlan) {
  const TemporaryFolder folder;
  const std::string config = write_config(folder);
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"run", config, "--isa", "baseline", "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_nalab(folder, arguments, "cd '" + folder.path().string() + "' &&");
  };
  const Outcome whole_run = run({"-o", folder.file("whole.h5")});
  ASSERT_EQ(whole_run.exit_code, 0) << whole_run.err;
  const store::Results whole = store::read_results(folder.file("whole.h5"));
  ASSERT_EQ(whole.rows.size(), 22u) << "both problems of 19 tokens share their self attention";

  std::vector<std::string> paths;
  for (const std::string index : {"1", "2", "3"}) {
    const Outcome outcome = run({"--shard", index + "/3"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    paths.push_back(folder.file("results/small.shard-" + index + "-of-3.h5"));
    const store::Results shard = store::read_results(paths.back());
    EXPECT_THAT(outcome.out, HasSubstr("shard " + index + " of 3: " + std::to_string(shard.shard->rows) +
                                       " of 23 rows and simulations\n"));
    EXPECT_GT(shard.rows.size(), 0u);
    EXPECT_EQ(shard.shard->rows, static_cast<int64_t>(shard.rows.size() + shard.simulations.size()));
  }

  const std::string merged_path = folder.file("merged.h5");
  Outcome outcome = run_nalab(folder, {"merge", paths[2], paths[0], "-o", merged_path});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "nalab: shard 2 of 3 missing (--allow-missing merges anyway)\n");
  EXPECT_FALSE(fs::exists(merged_path));
  outcome = run_nalab(folder, {"merge", paths[2], paths[0], paths[1], "-o", merged_path});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, merged_path + ": 22 rows and 1 simulation of 3 files\n");

  const store::Results merged = store::read_results(merged_path);
  EXPECT_EQ(rows_without_times(merged), rows_without_times(whole));
  EXPECT_FALSE(merged.shard);
  ASSERT_EQ(merged.configs.size(), 1u);
  EXPECT_EQ(merged.configs[0].text, whole.configs[0].text);
  EXPECT_EQ(merged.configs[0].resolved, whole.configs[0].resolved);
  ASSERT_EQ(merged.simulations.size(), 1u);
  EXPECT_EQ(merged.simulations[0].id, whole.simulations[0].id);
  for (const store::Row& row : merged.rows) {
    EXPECT_EQ(row.samples.size(), 2u);
    const auto tensors = store::read_tensors(merged_path, row.id);
    const auto expected = store::read_tensors(folder.file("whole.h5"), row.id);
    ASSERT_EQ(tensors.size(), 5u);
    for (std::size_t i = 0; i < tensors.size(); ++i) EXPECT_EQ(tensors[i].data, expected[i].data) << row.id;
  }

  outcome = run_nalab(folder, {"report", merged_path, "-o", folder.file("report"), "--format", "md"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(bytes_of(folder.file("report/report.md")), HasSubstr("four"));
  outcome = run({"--resume", "-o", merged_path});
  EXPECT_THAT(outcome.out, HasSubstr("resumed: 23 rows finished earlier, 0 to go\n"));
}

TEST(Shards, AreResumedAndFilteredAsThemselves) {
  const TemporaryFolder folder;
  const std::string config = write_config(folder);
  const std::string file = folder.file("shard.h5");
  const std::vector<std::string> first{"run", config,    "-o",  file,       "--threads",
                                       "1",   "--shard", "1/2", "--filter", "f32"};
  const Outcome run = run_nalab(folder, first);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const store::Results results = store::read_results(file);
  EXPECT_EQ(results.shard->filter, "f32");
  for (const store::Row& row : results.rows) EXPECT_EQ(row.type, "f32");

  const std::vector<std::string> resume{"run", config, "-o", file, "--threads", "1", "--resume"};
  const auto resumed = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = resume;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_nalab(folder, arguments);
  };
  EXPECT_THAT(resumed({"--shard", "1/2", "--filter", "f32"}).out, HasSubstr("rows finished earlier, 0 to go\n"));
  const std::string start = "nalab: " + file + ": cannot be resumed: ";
  EXPECT_EQ(resumed({"--shard", "2/2", "--filter", "f32"}).err, start + "shard was '1 of 2' and is '2 of 2'\n");
  EXPECT_EQ(resumed({"--shard", "1/2"}).err, start + "filter was 'f32' and is ''\n");
  EXPECT_EQ(resumed({}).err, start + "shard 1 of 2 of the file is not requested\n");
}

TEST(Shards, ThePlanOfAShardIsShown) {
  const TemporaryFolder folder;
  const std::string config = write_config(folder);
  std::multiset<std::string> rows;
  for (const char* shard : {"1/3", "2/3", "3/3"}) {
    const Outcome outcome = run_nalab(folder, {"run", config, "--dry-run", "--quick", "--shard", shard});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    std::istringstream lines(outcome.out);
    for (std::string line; std::getline(lines, line);) {
      if (const auto end = line.find("  ["); end != std::string::npos) {
        rows.insert(line.substr(0, end));
        EXPECT_THAT(line, testing::AnyOf(HasSubstr(" workspace"), HasSubstr("simulation")));
      }
    }
  }
  EXPECT_EQ(rows.size(), 23u);
  EXPECT_EQ(std::set(rows.begin(), rows.end()).size(), 23u);
}

TEST(Shards, AnEmptyOneIsAFileLikeTheOthers) {
  const TemporaryFolder folder;
  const std::string config = write_config(folder);
  const std::string only = folder.file("1.h5"), none = folder.file("2.h5"), merged = folder.file("merged.h5");
  const auto run = [&](const std::string& shard, const std::string& path) {
    const Outcome outcome =
        run_nalab(folder, {"run", config, "-o", path, "--threads", "1", "--filter", "blocks", "--shard", shard});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  };
  run("1/2", only);
  run("2/2", none);
  EXPECT_EQ(run_nalab(folder, {"merge", only, none, "-o", merged}).exit_code, 0);
  EXPECT_EQ(store::read_results(merged).simulations.size(), 1u);
}

TEST(Shards, BadOnesAreRefusedInOneLine) {
  const TemporaryFolder folder;
  const std::string config = write_config(folder);
  for (const std::string shard : {"0/3", "4/3", "3", "a/b", ""}) {
    const Outcome outcome = run_nalab(folder, {"run", config, "--dry-run", "--shard", shard});
    EXPECT_EQ(outcome.exit_code, 2) << shard;
    EXPECT_EQ(outcome.err,
              "nalab: shard '" + shard + "' must be I/N, the I-th of N shards, with 1 <= I <= N <= 100000\n");
  }
}

TEST(MergeCommand, RefusesInOneLine) {
  const TemporaryFolder folder;
  const auto sentence = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "merge");
    const Outcome outcome = run_nalab(folder, arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  };
  const std::string missing = folder.file("missing.h5");
  EXPECT_EQ(sentence({}), "nalab: RESULTS.h5 is required\n");
  EXPECT_EQ(sentence({missing}), "nalab: --output is required\n");
  EXPECT_EQ(sentence({missing, "-o", folder.file("out.h5")}),
            "nalab: " + missing + ": cannot be read: No such file or directory\n");
  EXPECT_EQ(sentence({kSmallCases, "-o", folder.file("out.h5")}),
            "nalab: " + kSmallCases + ": attribute schema is 'nalab.cases/1', must be 'nalab.results/1'\n");
}

}  // namespace
}  // namespace nalab
