// What captions say against times.
#include "report/caption.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/report.h"
#include "tests/report/sample_results.h"

namespace nalab::report {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::Not;

std::vector<std::string> caption_of(const store::Results& results) {
  std::vector<const store::TimedRow*> rows;
  for (const store::Row& row : results.rows) rows.push_back(&row);
  return machine_caption(results.environment, rows);
}

TEST(Caption, NamesDoubtfulTimesAndWhy) {
  store::Results results = sample_results();
  results.environment.hardware_threads = 2;
  results.rows[1].cpus_others = 1;
  results.rows[3].cpus_others = 1;
  results.rows[3].cpus_stolen = 1;
  results.rows[4].cpus_others = 1;  // it has no time
  const std::vector<std::string> caption = caption_of(results);
  ASSERT_EQ(caption.size(), 5u);
  EXPECT_EQ(caption[3], "1 of 4 times is doubtful: the hypervisor gave CPUs to other machines (naive of B & C, 50%).");
  EXPECT_EQ(caption[4],
            "2 of 4 times are doubtful: other programs ran on the same CPUs (naive of A_1, naive of B & C, 50%).");
  // And so do the tables of the page.
  const std::vector<Table> tables = tables_of(make_report({results}, {}));
  ASSERT_FALSE(tables.empty());
  for (const Table& table : tables) EXPECT_THAT(table.caption, Contains(HasSubstr("other programs ran on the same")));
}

TEST(Caption, NamesTheGpuOfItsRows) {
  store::Results results = sample_results();
  give_gpu(results.environment);
  for (const std::string& sentence : caption_of(results)) EXPECT_THAT(sentence, Not(HasSubstr("GPU"))) << "none of it";
  results.rows.back().device = "cuda";
  const std::vector<std::string> both = caption_of(results);
  EXPECT_THAT(both[0],
              HasSubstr("2 threads; Example GPU, 132 multiprocessors up to 1980 MHz, 700 W, driver 580.1; git"));
  EXPECT_THAT(both[2], HasSubstr("100.0 GFLOP/s of f32 multiply-adds, 800.0 TFLOP/s of bf16 tile products on the GPU"));
  EXPECT_THAT(both[3], HasSubstr("copies of tensors to it and back are no part of them"));
  for (store::Row& row : results.rows) row.device = "cuda";
  const std::vector<std::string> alone = caption_of(results);
  EXPECT_THAT(alone[0], testing::StartsWith("Example GPU, 132 multiprocessors"));
  EXPECT_THAT(alone[2], Not(HasSubstr("f32")));
  results.environment.gpu_power_limit = 0;
  results.environment.gpu_driver = "";
  EXPECT_THAT(caption_of(results)[0], HasSubstr("1980 MHz; git")) << "not known";
}

TEST(Caption, WhatCpusDoIsNothingAgainstTimesOfAGpu) {
  store::Results results = sample_results();
  give_gpu(results.environment);
  results.environment.hardware_threads = 1;
  for (store::Row& row : results.rows) {
    row.cpus_others = row.cpus_stolen = row.cpus_throttled = 1;
    row.peak_before = row.peak_after = 1;
  }
  EXPECT_EQ(caption_of(results).size(), 3u + 5u);
  for (store::Row& row : results.rows) row.device = "cuda";
  EXPECT_THAT(caption_of(results), Each(Not(HasSubstr("doubtful"))));
  results.rows[0].stopped_by = "count";
  results.rows[0].samples = {1, 2, 3};
  EXPECT_THAT(caption_of(results), Contains(HasSubstr("the samples scatter")));
}

TEST(Caption, SaysNothingAgainstTimesOfAQuietMachineOrAnEarlierBuild) {
  EXPECT_THAT(caption_of(sample_results()), Each(Not(HasSubstr("doubtful"))));
}

}  // namespace
}  // namespace nalab::report
