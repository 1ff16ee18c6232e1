// nalab run with whole models: run, resume, shards and their merge, comparison, interruption, refusals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "store/results.h"
#include "tests/cli/executable.h"
#include "tests/cli/run_nalab.h"
#include "tests/cli/running.h"
#include "tests/experiments/model/small_models.h"

namespace nalab {
namespace {

using testing::HasSubstr;

class RunModels : public testing::Test {
 protected:
  RunModels() {
    experiments_test::write_small_models(folder_.file("small.yaml"));
    write("variants: [naive, fused]\n");
  }

  void write(const std::string& keys) const {
    std::ofstream(config_) << "name: m\n"
                           << keys
                           << "timing: {min_samples: 6, max_samples: 6, min_seconds: 0, max_seconds: 9}\n"
                              "models:\n"
                              "- {definitions: small.yaml, model: [tiny, painter], batch: 2}\n"
                              "- {definitions: small.yaml, model: tiny, pass: training_step, label: lesson}\n";
  }

  Outcome run(std::vector<std::string> more) const {
    std::vector<std::string> arguments{"run", config_, "--threads", "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_nalab(folder_, arguments);
  }

  std::vector<std::string> ids(const std::string& path) const {
    std::vector<std::string> list;
    for (const store::ModelRow& row : store::read_results(path).models) {
      EXPECT_EQ(row.status, "done") << row.reason;
      list.push_back(row.id);
    }
    return list;
  }

  TemporaryFolder folder_;
  std::string config_ = folder_.file("m.yaml"), path_ = folder_.file("m.h5");
  const std::vector<std::string> all_{
      "tiny_26x26_rpb_b2_f32.naive.forward",       "tiny_26x26_rpb_b2_f32.fused.forward",
      "painter_16x16_rpb_b2_f32.naive.forward",    "painter_16x16_rpb_b2_f32.fused.forward",
      "tiny_26x26_rpb_b1_f32.naive.training_step", "tiny_26x26_rpb_b1_f32.fused.training_step"};
};

TEST_F(RunModels, AreStoredAndResumed) {
  Outcome outcome = run({"-o", path_, "--filter", "tiny.*forward"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("plan: 2 rows in 1 groups, 0 refused"));
  EXPECT_THAT(outcome.out, HasSubstr("[1/1] tiny_26x26_rpb_b2_f32 forward: naive "));
  EXPECT_THAT(outcome.out, HasSubstr("2 done, 0 failed, 0 refused"));
  EXPECT_EQ(ids(path_), (std::vector<std::string>{all_[0], all_[1]}));
  outcome = run({"-o", path_, "--resume"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("resumed: 2 rows finished earlier, 4 to go"));
  EXPECT_EQ(ids(path_), all_);
}

TEST_F(RunModels, ShardsMergeToTheWhole) {
  std::vector<std::string> merge{"merge"};
  for (const std::string index : {"2", "1"}) {
    const std::string path = folder_.file("shard" + index + ".h5");
    const Outcome outcome = run({"-o", path, "--shard", index + "/2"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_FALSE(ids(path).empty());
    merge.push_back(path);
  }
  merge.insert(merge.end(), {"-o", path_});
  const Outcome outcome = run_nalab(folder_, merge);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, path_ + ": 6 rows and 0 simulations of 2 files\n");
  EXPECT_EQ(ids(path_), all_);
  EXPECT_THAT(run({"-o", path_, "--resume"}).out, HasSubstr("resumed: 6 rows finished earlier, 0 to go"));
}

TEST_F(RunModels, AreCompared) {
  ASSERT_EQ(run({"-o", path_, "--filter", "lesson"}).exit_code, 0);
  const Outcome outcome = run_nalab(folder_, {"compare", path_, path_});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("2 rows compared: geometric mean of B / A 1.000"));
  EXPECT_THAT(outcome.out, HasSubstr(all_[5]));
}

TEST_F(RunModels, ThePlanSaysWhatTheyNeed) {
  const Outcome outcome = run({"--dry-run"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr(all_[3] + "  [painter] f32_fma, "));
  EXPECT_THAT(outcome.out, HasSubstr("models  6 rows against the reference attention, 0 against the first variant"));
}

TEST_F(RunModels, WithoutMemoryForThemAreRefusedWithTheNumbers) {
  // Less address space than the program needs beside them would end it.
  write("variants: fused\n");
  std::ofstream(config_, std::ios::app) << "- {model: DiNAT-L, batch: 1000000}\n";
  const Outcome outcome = run({"-o", path_, "--filter", "DiNAT-L"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const store::Results results = store::read_results(path_);
  ASSERT_EQ(results.models.size(), 1u);
  EXPECT_EQ(results.models[0].status, "refused");
  EXPECT_THAT(results.models[0].reason, HasSubstr("needs "));
  EXPECT_THAT(results.models[0].reason, HasSubstr(" TB of memory ("));
}

TEST_F(RunModels, KeepWhatIsFinishedWhenInterrupted) {
  // A group takes a second; the first has two rows of four.
  std::ofstream(config_) << "name: m\nvariants: [naive, fused]\n"
                            "timing: {min_samples: 1, max_samples: 1000000, min_seconds: 0.5, max_seconds: 9}\n"
                            "models:\n- {definitions: small.yaml, model: [tiny, painter], batch: 2}\n";
  Running running(folder_, {nalab_executable(), "run", config_, "-o", path_, "--threads", "2"});
  ASSERT_TRUE(running.prints("[1/2]")) << running.output();
  const int status = running.wait(SIGINT);
  ASSERT_TRUE(WIFEXITED(status)) << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_THAT(running.output(), HasSubstr("\n" + path_ +
                                          ": interrupted; 2 of 4 rows and simulations are kept, "
                                          "--resume goes on from there\n"));
  EXPECT_EQ(ids(path_).size(), 2u);
  const Outcome resumed = run({"-o", path_, "--resume"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("resumed: 2 rows finished earlier, 2 to go"));
  EXPECT_EQ(ids(path_).size(), 4u);
}

TEST_F(RunModels, AreCompletedAfterAFullDisk) {
  ASSERT_EQ(run({"-o", path_, "--filter", "painter"}).exit_code, 0);
  const std::string before = bytes_of(path_);
  // No file may grow: the copy that takes the rows cannot be written. The thread sanitizer has a file too, if it can.
  const Outcome outcome = run_nalab(folder_, {"run", config_, "--threads", "2", "-o", path_, "--resume"},
                                    "trap '' XFSZ; ulimit -f 8; TMPDIR=/nowhere");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr(path_));
  EXPECT_EQ(bytes_of(path_), before);
  EXPECT_EQ(run({"-o", path_, "--resume"}).exit_code, 0);
  EXPECT_EQ(ids(path_).size(), 6u);
}

}  // namespace
}  // namespace nalab
