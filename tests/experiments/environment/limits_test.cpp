// Limits of machine, container and process, from trees of files as Linux shows them.
#include "experiments/environment/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "experiments/environment/activity.h"
#include "tests/experiments/environment/fake_root.h"

namespace nalab::environment {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kMiB = int64_t{1} << 20;

class LimitsTest : public testing::Test {
 protected:
  LimitsTest() {
    root_.write("proc/meminfo", "MemTotal:       8192 kB\nMemFree:  1024 kB\nMemAvailable:   6144 kB\n");
    root_.write("proc/self/status", "Name:\tx\nVmSize:\t    1024 kB\nVmData:\t 512 kB\nCpus_allowed_list:\t0-2,5\n");
  }
  /// A process in a group of version 2, as the host sees it.
  void use_version_2(const std::string& group = "/a/b", const std::string& shown = "/") {
    root_.write("proc/self/cgroup", "0::" + group + "\n");
    root_.write("proc/self/mountinfo", "22 1 0:5 / /proc rw - proc proc rw\n31 23 0:27 " + shown +
                                           " /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
  }
  void use_version_1(const std::string& group = "/a/b", const std::string& shown = "/") {
    root_.write("proc/self/cgroup", "12:memory:" + group + "\n3:cpu,cpuacct:" + group + "\n1:name=systemd:/\n0::/\n");
    root_.write("proc/self/mountinfo", "31 23 0:27 " + shown +
                                           " /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 23 0:28 " + shown +
                                           " /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
  }
  Limits limits() { return read_limits(root_.path()); }

  FakeRoot root_;
};

TEST_F(LimitsTest, TheMachineAloneLimitsAProcessOutsideOfContainers) {
  const Limits l = limits();
  EXPECT_EQ(l.physical_bytes, 8 * kMiB);
  EXPECT_EQ(l.memory_bytes, 8 * kMiB);
  EXPECT_EQ(l.free_bytes, 6 * kMiB);
  EXPECT_EQ(l.limiter, MemoryLimiter::machine);
  EXPECT_STREQ(clause(l.limiter), "the machine has");
  EXPECT_THAT(l.cpus, ElementsAre(0, 1, 2, 5));
  EXPECT_EQ(l.cpu_quota, 0);
}

TEST_F(LimitsTest, AContainerOfVersion2Limits) {
  use_version_2();
  root_.write("sys/fs/cgroup/a/b/memory.max", "4194304\n");
  root_.write("sys/fs/cgroup/a/b/memory.current", "3145728\n");
  root_.write("sys/fs/cgroup/a/b/memory.stat", "anon 1\nactive_file 5\ninactive_file 1048576\n");
  root_.write("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
  const Limits l = limits();
  EXPECT_EQ(l.physical_bytes, 8 * kMiB);
  EXPECT_EQ(l.memory_bytes, 4 * kMiB);
  EXPECT_EQ(l.free_bytes, 2 * kMiB) << "what holds files can be had";
  EXPECT_EQ(l.limiter, MemoryLimiter::container);
  EXPECT_EQ(l.cpu_quota, 1.5);
}

TEST_F(LimitsTest, TheLeastOfNestedContainersCounts) {
  for (const std::string innermost : {"max\n", "7340032\n"}) {
    use_version_2();
    root_.write("sys/fs/cgroup/a/b/memory.max", innermost);
    root_.write("sys/fs/cgroup/a/memory.max", "2097152\n");
    root_.write("sys/fs/cgroup/a/memory.current", "1048576\n");
    EXPECT_EQ(limits().memory_bytes, 2 * kMiB) << innermost;
    EXPECT_EQ(limits().free_bytes, kMiB);
    for (const std::string quota : {"max 100000\n", "150000 100000\n"}) {
      root_.write("sys/fs/cgroup/a/b/cpu.max", quota);
      root_.write("sys/fs/cgroup/a/cpu.max", "50000 100000\n");
      EXPECT_EQ(limits().cpu_quota, 0.5) << quota;
      root_.write("sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
      root_.write("sys/fs/cgroup/a/cpu.max", quota);
      EXPECT_EQ(limits().cpu_quota, 0.5) << quota;
    }
  }
}

TEST_F(LimitsTest, AHighWatermarkIsALimitToo) {
  use_version_2();
  root_.write("sys/fs/cgroup/a/b/memory.high", "3145728\n");
  root_.write("sys/fs/cgroup/a/b/memory.max", "4194304\n");
  EXPECT_EQ(limits().memory_bytes, 3 * kMiB);
}

TEST_F(LimitsTest, AContainerOfVersion1Limits) {
  use_version_1();
  root_.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  root_.write("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "4194304\n");
  root_.write("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "2097152\n");
  root_.write("sys/fs/cgroup/memory/a/b/memory.stat", "inactive_file 1\ntotal_inactive_file 1048576\n");
  root_.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "200000\n");
  root_.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  root_.write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
  root_.write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
  const Limits l = limits();
  EXPECT_EQ(l.memory_bytes, 4 * kMiB);
  EXPECT_EQ(l.free_bytes, 3 * kMiB);
  EXPECT_EQ(l.limiter, MemoryLimiter::container);
  EXPECT_EQ(l.cpu_quota, 2);
}

TEST_F(LimitsTest, Version1TellsTheLimitOfGroupsThatCannotBeSeen) {
  use_version_1();
  root_.write("sys/fs/cgroup/memory/a/b/memory.stat", "hierarchical_memory_limit 1048576\n");
  EXPECT_EQ(limits().memory_bytes, kMiB);
}

TEST_F(LimitsTest, WithinAContainerTheMountPointIsTheGroup) {
  // The path that the host knows, a mount that begins at it, and the one that a namespace shows.
  for (const auto& [group, shown] : {std::pair<std::string, std::string>{"/docker/123", "/docker/123"},
                                     {"/", "/"},
                                     {"/../other", "/"},
                                     {"/docker/123", "/elsewhere"}}) {
    use_version_2(group, shown);
    root_.write("sys/fs/cgroup/memory.max", "3145728\n");
    EXPECT_EQ(limits().memory_bytes, 3 * kMiB) << group << ' ' << shown;
    use_version_1(group, shown);
    root_.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152\n");
    EXPECT_EQ(limits().memory_bytes, 2 * kMiB) << group << ' ' << shown;
  }
}

TEST_F(LimitsTest, LimitsOfTheProcessLeaveWhatItDoesNotUse) {
  const std::string header = "Limit                     Soft Limit           Hard Limit           Units     \n";
  root_.write("proc/self/limits", header + "Max data size             unlimited  unlimited  bytes\n" +
                                      "Max address space         3145728    unlimited  bytes\n");
  EXPECT_EQ(limits().memory_bytes, 2 * kMiB);
  EXPECT_EQ(limits().free_bytes, 2 * kMiB);
  EXPECT_STREQ(clause(limits().limiter), "the limits of the process leave");
  root_.write("proc/self/limits", header + "Max data size             1572864    unlimited  bytes\n");
  EXPECT_EQ(limits().memory_bytes, kMiB);
  root_.write("proc/self/limits", header + "Max address space         1000    unlimited  bytes\n");
  EXPECT_EQ(limits().memory_bytes, 0) << "never below";
}

TEST_F(LimitsTest, WhatCannotBeReadIsNoLimit) {
  const FakeRoot empty;
  const Limits l = read_limits(empty.path());
  EXPECT_GT(l.memory_bytes, int64_t{1} << 60);
  EXPECT_GT(l.free_bytes, int64_t{1} << 60);
  EXPECT_THAT(l.cpus, IsEmpty());
}

TEST_F(LimitsTest, ThisMachineHasSome) {
  const Limits l = read_limits();
  EXPECT_GT(l.physical_bytes, 64 * kMiB);
  EXPECT_LE(l.memory_bytes, l.physical_bytes);
  EXPECT_GT(l.free_bytes, 0);
  EXPECT_LT(l.free_bytes, l.physical_bytes);
  EXPECT_FALSE(l.cpus.empty());
}

TEST(Crowding, MoreThreadsThanCpusOrQuotaAreSaid) {
  EXPECT_EQ(crowding(2, 2, 0), "");
  EXPECT_EQ(crowding(2, 2, 2), "");
  EXPECT_EQ(crowding(2, 0, 0), "") << "unknown";
  EXPECT_EQ(crowding(64, 2, 0), "64 threads share 2 CPUs: times are doubtful");
  EXPECT_EQ(crowding(2, 1, 0), "2 threads share 1 CPU: times are doubtful");
  EXPECT_EQ(crowding(2, 4, 1.5), "2 threads share the time of 1.5 CPUs, the container's quota: times are doubtful");
}

}  // namespace
}  // namespace nalab::environment
