// Which times are doubtful, and why.
#include "store/doubts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nalab::store {
namespace {

using testing::IsEmpty;

Environment machine() {
  Environment e;
  e.isa = "avx2";
  e.threads = 2;
  e.hardware_threads = 2;
  e.peaks = {{"f32_fma", 50e9, 100e9}};
  return e;
}

Row quiet_row() {
  Row row;
  row.id = "quiet";
  row.isa = "avx2";
  row.threads = 2;
  row.samples = {1.0, 1.01, 1.02};
  row.stopped_by = "noise";
  row.peak_before = 99e9;
  row.peak_after = 98e9;
  return row;
}

/// The reasons to doubt one row.
std::string reasons(const Environment& environment, const Row& row) {
  std::string text;
  for (const Doubt& doubt : doubts(environment, {&row})) text += doubt.reason + ";";
  return text;
}

TEST(Doubts, AreNoneOnAQuietMachine) { EXPECT_EQ(reasons(machine(), quiet_row()), ""); }

TEST(Doubts, AreNoneAboutFilesThatDoNotTell) {
  Environment old = machine();
  old.hardware_threads = 0;
  Row row = quiet_row();
  row.stopped_by = "";
  row.samples = {1, 2, 3};
  row.peak_before = row.peak_after = 0;
  EXPECT_EQ(reasons(old, row), "");
}

/// While a GPU computes, CPUs do nothing; its samples may scatter all the same.
TEST(Doubts, AboutTimesOfAGpuAreNotThoseOfCpus) {
  Environment e = machine();
  e.hardware_threads = 1;
  Row row = quiet_row();
  row.cpus_throttled = row.cpus_stolen = row.cpus_others = 2;
  row.peak_after = 1e9;
  EXPECT_NE(reasons(e, row), "");
  row.device = "cuda";
  EXPECT_EQ(reasons(e, row), "");
  row.stopped_by = "time";
  row.samples = {1, 2, 3};
  EXPECT_EQ(reasons(e, row), "the samples scatter: their median is not known to 5 %;");
}

TEST(Doubts, MoreThreadsThanCpus) {
  Environment e = machine();
  e.hardware_threads = 1;
  EXPECT_EQ(reasons(e, quiet_row()), "there were more threads than CPUs for them;");
  e.hardware_threads = 8;
  e.cpu_quota = 1.5;
  EXPECT_EQ(reasons(e, quiet_row()), "there were more threads than CPUs for them;");
  e.cpu_quota = 2;
  EXPECT_EQ(reasons(e, quiet_row()), "");
}

TEST(Doubts, WhatAQuotaOrAHypervisorTook) {
  Row row = quiet_row();
  row.cpus_throttled = 0.03;
  EXPECT_EQ(reasons(machine(), row), "");
  row.cpus_throttled = 0.05;
  EXPECT_EQ(reasons(machine(), row), "a container's quota held the process back;");
  row = quiet_row();
  row.cpus_stolen = 0.03;
  EXPECT_EQ(reasons(machine(), row), "");
  row.cpus_stolen = 0.05;
  EXPECT_EQ(reasons(machine(), row), "the hypervisor gave CPUs to other machines;");
}

TEST(Doubts, OtherProgramsMatterOnceNoCpuIsLeftForThem) {
  Environment e = machine();
  Row row = quiet_row();
  row.cpus_others = 0.19;
  EXPECT_EQ(reasons(e, row), "");
  row.cpus_others = 0.21;
  EXPECT_EQ(reasons(e, row), "other programs ran on the same CPUs;");
  e.hardware_threads = 3;
  EXPECT_EQ(reasons(e, row), "");
  row.cpus_others = 1.21;
  EXPECT_EQ(reasons(e, row), "other programs ran on the same CPUs;");
}

TEST(Doubts, SlowerCpusThanWhenThePeakWasMeasured) {
  for (double Row::*moment : {&Row::peak_before, &Row::peak_after}) {
    Row row = quiet_row();
    row.*moment = 86e9;
    EXPECT_EQ(reasons(machine(), row), "");
    row.*moment = 84e9;
    EXPECT_EQ(reasons(machine(), row), "the CPUs were slower than when their peak was measured;");
    row.threads = 1;  // the peak is that of two
    EXPECT_EQ(reasons(machine(), row), "");
    Environment unmeasured = machine();
    unmeasured.peaks.clear();
    EXPECT_EQ(reasons(unmeasured, row), "");
  }
}

TEST(Doubts, SamplesThatScatterThoughTheirLimitWasReached) {
  Row row = quiet_row();
  row.samples = {1, 1.2, 1.4};
  EXPECT_EQ(reasons(machine(), row), "") << "the configuration asked for no less";
  for (const char* limit : {"count", "time"}) {
    row.stopped_by = limit;
    EXPECT_EQ(reasons(machine(), row), "the samples scatter: their median is not known to 5 %;");
  }
  row.samples = {1, 1.01, 1.02};
  EXPECT_EQ(reasons(machine(), row), "");
  row.samples = {1};
  EXPECT_EQ(reasons(machine(), row), "") << "tables mark few samples themselves";
}

TEST(Doubts, RowsWithoutTimesHaveNone) {
  Row row = quiet_row();
  row.cpus_stolen = 1;
  row.samples.clear();
  EXPECT_THAT(doubts(machine(), {&row}), IsEmpty());
}

TEST(Doubts, AreSaidInOneLineThatNamesTheRows) {
  const auto id = [](const TimedRow& row) { return row.id; };
  Row row = quiet_row();
  row.cpus_stolen = 1;
  const std::vector<const TimedRow*> one{&row}, five(5, &row);
  EXPECT_EQ(sentence(doubts(machine(), one).at(0), 1, id),
            "1 of 1 time is doubtful: the hypervisor gave CPUs to other machines (quiet)");
  EXPECT_EQ(sentence(doubts(machine(), five).at(0), 7, id),
            "5 of 7 times are doubtful: the hypervisor gave CPUs to other machines (quiet, quiet, quiet and 2 more)");
}

}  // namespace
}  // namespace nalab::store
