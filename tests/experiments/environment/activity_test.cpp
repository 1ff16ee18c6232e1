// What happened on the CPUs, by counters as Linux shows them.
#include "experiments/environment/activity.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "experiments/environment/limits.h"
#include "tests/experiments/environment/fake_root.h"

namespace nalab::environment {
namespace {

TEST(CpuTimes, AreThoseOfTheCpusOfTheProcess) {
  const FakeRoot root;
  const auto ticks = [](double seconds) {
    return " " + std::to_string(static_cast<int64_t>(seconds * static_cast<double>(sysconf(_SC_CLK_TCK))));
  };
  //                user       nice       system     idle         iowait     irq        softirq    steal
  const auto line = [&](const std::string& name, double steal) {
    return name + ticks(1) + ticks(2) + ticks(3) + ticks(1000) + ticks(500) + ticks(4) + ticks(5) + ticks(steal) +
           " 0 0\n";
  };
  root.write("proc/stat",
             line("cpu ", 99) + line("cpu0", 10) + line("cpu1", 20) + line("cpu10", 40) + "intr 1 2\nctxt 9\n");
  const CpuTimes times = read_cpu_times({0, 10}, root.path());
  EXPECT_DOUBLE_EQ(times.busy, 2 * (1 + 2 + 3 + 4 + 5)) << "time to wait is not work";
  EXPECT_DOUBLE_EQ(times.stolen, 50);
  EXPECT_EQ(times.throttled, 0);
  EXPECT_EQ(read_cpu_times({}, root.path()).busy, 0);
}

TEST(CpuTimes, ThrottlingIsThatOfAllContainersAround) {
  const FakeRoot root;
  root.write("proc/self/cgroup", "3:cpu,cpuacct:/a\n0::/x/y\n");
  root.write("proc/self/mountinfo",
             "31 23 0:27 / /v2 rw - cgroup2 cgroup2 rw\n32 23 0:28 / /v1 rw - cgroup cgroup rw,cpu,cpuacct\n");
  root.write("v2/x/y/cpu.stat", "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n");
  root.write("v2/x/cpu.stat", "usage_usec 5\nthrottled_usec 500000\n");
  EXPECT_DOUBLE_EQ(read_cpu_times({0}, root.path()).throttled, 3);
  root.write("v1/a/cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 4000000000\n");
  EXPECT_DOUBLE_EQ(read_cpu_times({0}, root.path()).throttled, 7);
}

TEST(Activity, IsInCpusOnAverage) {
  const CpuTimes before{.busy = 100, .stolen = 10, .throttled = 1, .own = 50};
  const CpuTimes after{.busy = 108, .stolen = 12, .throttled = 2, .own = 55};
  const Activity a = activity_between(before, after, 2);
  EXPECT_DOUBLE_EQ(a.others, 1.5);
  EXPECT_DOUBLE_EQ(a.stolen, 1);
  EXPECT_DOUBLE_EQ(a.throttled, 0.5);
}

TEST(Activity, OfAMomentIsUnknown) {
  const Activity a = activity_between({}, {.busy = 1, .stolen = 1, .throttled = 1}, 0.1);
  EXPECT_EQ(a.others + a.stolen + a.throttled, 0);
}

TEST(Activity, OfOthersIsNeverNegative) {
  // The counters of the machine lag behind the clock of the process.
  EXPECT_EQ(activity_between({}, {.busy = 1.99, .own = 2}, 1).others, 0);
}

TEST(Activity, OwnWorkIsNotThatOfOthers) {
  const std::vector<int> cpus = read_limits().cpus;
  const CpuTimes before = read_cpu_times(cpus);
  const auto now = std::chrono::steady_clock::now;
  volatile double sink = 0;
  for (const auto start = now(); now() - start < std::chrono::milliseconds(300);) sink = sink + 1;
  const CpuTimes after = read_cpu_times(cpus);
  EXPECT_GT(after.own - before.own, 0);
  EXPECT_LE(after.own - before.own, 0.4);
}

TEST(LoadAverage, IsThatOfTheLastMinute) {
  const FakeRoot root;
  EXPECT_EQ(load_average(root.path()), 0);
  root.write("proc/loadavg", "3.25 1.00 0.50 2/99 1234\n");
  EXPECT_EQ(load_average(root.path()), 3.25);
}

}  // namespace
}  // namespace nalab::environment
