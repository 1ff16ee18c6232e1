#include "report/fold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/report/made_results.h"
#include "tests/report/sample_results.h"

namespace nalab::report {
namespace {

TEST(Fold, FilesOfAMachineAreTakenTogether) {
  store::Results first = sample_results(), second = sample_results();
  first.path = "/some/where/first.h5";
  second.path = "second.h5";
  second.environment.revision = "fedcba987654";
  second.environment.started = "2025-01-03T00:00:00Z";
  second.environment.peaks = {{"bf16_dot", 1e9, 2e9}, {"f32_fma", 40e9, 120e9}};
  second.rows.push_back(sample_row("new", 7, "naive", "f32", {0.1, 0.2}));
  const std::vector<Folded> machines = fold({first, second});
  ASSERT_EQ(machines.size(), 1u);
  const Folded& machine = machines[0];
  EXPECT_EQ(machine.origin.machine, "Example CPU 9000 @ 3.0 GHz, avx2, 2 threads");
  ASSERT_EQ(machine.origin.files.size(), 2u);
  EXPECT_EQ(machine.origin.files[0].name, "first.h5");
  EXPECT_EQ(machine.origin.files[0].done, 4);
  EXPECT_EQ(machine.origin.files[0].failed, 1);
  EXPECT_EQ(machine.origin.files[0].refused, 2);
  EXPECT_EQ(machine.origin.files[0].samples, 10);
  EXPECT_EQ(machine.origin.files[1].done, 5);
  EXPECT_EQ(machine.origin.files[1].revision, "fedcba987654");
  EXPECT_EQ(machine.origin.repeated, 7);
  EXPECT_EQ(machine.results.rows.size(), 8u);
  EXPECT_EQ(machine.results.configs.size(), 1u);
  EXPECT_EQ(machine.results.environment.revision, "0123456789ab and fedcba987654");
  EXPECT_EQ(machine.results.environment.started, "2025-01-02T03:04:05Z to 2025-01-03T00:00:00Z");
  const auto& peaks = machine.results.environment.peaks;
  ASSERT_EQ(peaks.size(), 2u);
  EXPECT_EQ(peaks[0].one_thread, 50e9) << "the greater of both";
  EXPECT_EQ(peaks[0].all_threads, 120e9);
  EXPECT_EQ(peaks[1].name, "bf16_dot");
  const std::vector<Folded> reversed = fold({second, first});
  for (const store::Peak& peak : reversed.at(0).results.environment.peaks) {
    if (peak.name != "f32_fma") continue;
    EXPECT_EQ(peak.one_thread, 50e9) << "the greater of both, in whatever order";
    EXPECT_EQ(peak.all_threads, 120e9);
  }
}

TEST(Fold, TheFirstFileOfARowIsShown) {
  store::Results first = sample_results(), second = sample_results();
  second.rows[1].samples = {99};
  EXPECT_EQ(fold({first, second})[0].results.rows[1].samples, first.rows[1].samples);
  // Another configuration's row with the same id is a row of its own.
  for (store::Row& row : second.rows) row.config = "other";
  EXPECT_EQ(fold({first, second})[0].results.rows.size(), 14u);
}

TEST(Fold, AFailureIsNeverHiddenBehindATime) {
  store::Results good = sample_results(), bad = sample_results();
  good.rows[2] = sample_row("A_1", 3, "fused", "f32", {0.1});
  ASSERT_EQ(bad.rows[2].status, "failed");
  ASSERT_EQ(bad.rows[2].id, good.rows[2].id);
  for (const auto& files : {std::vector{good, bad}, std::vector{bad, good}, std::vector{good, bad, good}}) {
    const Folded machine = fold(files)[0];
    EXPECT_EQ(machine.results.rows.size(), 7u);
    EXPECT_EQ(machine.origin.repeated, 7 * (std::ssize(files) - 1));
    EXPECT_EQ(machine.results.rows[2].status, "failed");
    EXPECT_EQ(machine.results.rows[2].reason, bad.rows[2].reason);
    EXPECT_THAT(machine.results.rows[2].samples, testing::IsEmpty());
  }
}

TEST(Fold, AFailureIsNeverHiddenBehindARefusal) {
  const store::Results refused = sample_results();
  store::Results failed = sample_results();
  constexpr std::size_t kRow = 4;
  ASSERT_EQ(refused.rows[kRow].status, "refused");
  failed.rows[kRow].status = "failed";
  failed.rows[kRow].reason = "off by one";
  for (const auto& files : {std::vector{refused, failed}, std::vector{failed, refused}}) {
    const store::Row row = fold(files)[0].results.rows[kRow];
    EXPECT_EQ(row.status, "failed");
    EXPECT_EQ(row.reason, "off by one");
  }
}

TEST(Fold, RowsOfModelsAreRows) {
  store::Results first = whole_models(), second = whole_models();
  second.models.front().status = "failed";
  const Folded machine = fold({first, second}).at(0);
  EXPECT_EQ(machine.origin.files[0].done, 16);
  EXPECT_EQ(machine.origin.files[0].failed, 1);
  EXPECT_EQ(machine.origin.files[0].refused, 3);
  EXPECT_EQ(machine.origin.files[0].samples, 3 * 17);
  EXPECT_EQ(machine.origin.repeated, 20);
  EXPECT_EQ(machine.results.models.size(), 20u);
  EXPECT_EQ(machine.results.models.front().status, "failed");
}

TEST(Fold, MachinesStayApart) {
  store::Results cpu = sample_results(), isa = sample_results(), threads = sample_results();
  cpu.environment.cpu = "Another CPU";
  isa.environment.isa = "baseline";
  threads.environment.threads = 1;
  std::vector<std::string> names;
  for (const Folded& machine : fold({sample_results(), cpu, isa, threads, cpu})) {
    names.push_back(machine.origin.machine);
  }
  EXPECT_THAT(names, testing::ElementsAre("Example CPU 9000 @ 3.0 GHz, avx2, 2 threads", "Another CPU, avx2, 2 threads",
                                          "Example CPU 9000 @ 3.0 GHz, baseline, 2 threads",
                                          "Example CPU 9000 @ 3.0 GHz, avx2, 1 thread"));
}

}  // namespace
}  // namespace nalab::report
