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

TEST(Caption, NamesTheDeviceOfItsRows) {
  store::Results results = sample_results();
  results.environment.gpu = "Example GPU";
  EXPECT_THAT(caption_of(results).front(), Not(HasSubstr("GPU"))) << "nothing ran there";
  results.rows.back().variant = "hopper";
  EXPECT_THAT(caption_of(results).front(), HasSubstr("2 threads; Example GPU; git revision"));
}

TEST(Caption, SaysNothingAgainstTimesOfAQuietMachineOrAnEarlierBuild) {
  EXPECT_THAT(caption_of(sample_results()), Each(Not(HasSubstr("doubtful"))));
}

}  // namespace
}  // namespace nalab::report
