#include "experiments/comparison/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace nalab::comparison {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

store::Row row(const std::string& id, double first, int64_t samples = 7) {
  store::Row r;
  r.id = id;
  r.status = "done";
  for (int64_t i = 0; i < samples; ++i) r.samples.push_back(first + 0.001 * static_cast<double>(i));
  return r;
}

store::Row without_times(const std::string& id, const std::string& status, const std::string& reason) {
  store::Row r;
  r.id = id;
  r.status = status;
  r.reason = reason;
  return r;
}

store::Results file(const std::string& path, std::vector<store::Row> rows) {
  store::Results results;
  results.path = path;
  results.rows = std::move(rows);
  return results;
}

std::vector<RatioVerdict> verdicts(const std::vector<Pair>& pairs) {
  std::vector<RatioVerdict> list;
  for (const Pair& pair : pairs) list.push_back(pair.verdict);
  return list;
}

TEST(Comparison, RowsMeetByIdInTheOrderOfTheFirstFile) {
  const store::Results a =
      file("a.h5", {row("x", 1), row("only a", 1), row("y", 2), row("z", 1), row("few", 1), row("v", 1)});
  const store::Results b =
      file("b.h5", {row("only b", 1), row("z", 1.001), row("few", 1, 5), row("y", 1), row("x", 1.5), row("v", 0.999)});
  const std::vector<Pair> pairs = compare(a, b);
  EXPECT_THAT(verdicts(pairs),
              ElementsAre(RatioVerdict::slower, RatioVerdict::only_in_a, RatioVerdict::faster, RatioVerdict::open,
                          RatioVerdict::too_few, RatioVerdict::open, RatioVerdict::only_in_b));
  EXPECT_EQ(pairs[1].row().id, "only a");
  EXPECT_EQ(pairs[6].row().id, "only b");
  EXPECT_DOUBLE_EQ(pairs[0].ratio->value, 1.503 / 1.003);
  EXPECT_LT(pairs[0].interval()->low, pairs[0].ratio->value);
  EXPECT_GT(pairs[0].interval()->high, pairs[0].ratio->value);
  EXPECT_TRUE(pairs[4].ratio);
  EXPECT_EQ(pairs[4].interval(), nullptr);
}

TEST(Comparison, RowsWithoutTimesSayWhy) {
  const store::Results a = file("a.h5", {row("x", 1), without_times("y", "refused", "no memory"), row("z", 1),
                                         without_times("w", "failed", "off by one")});
  const store::Results b =
      file("b.h5", {without_times("x", "failed", "off by two"), row("y", 1), without_times("z", "refused", "too odd"),
                    without_times("w", "failed", "off by three")});
  const std::vector<Pair> pairs = compare(a, b);
  EXPECT_THAT(verdicts(pairs), ElementsAre(RatioVerdict::now_failed, RatioVerdict::not_timed, RatioVerdict::not_timed,
                                           RatioVerdict::not_timed));
  EXPECT_EQ(pairs[0].reason, "failed in B: off by two");
  EXPECT_EQ(pairs[1].reason, "refused in A: no memory");
  EXPECT_EQ(pairs[2].reason, "refused in B: too odd");
  EXPECT_EQ(pairs[3].reason, "failed in A: off by one; failed in B: off by three");
  EXPECT_FALSE(pairs[0].ratio);
}

TEST(Comparison, TheSummaryHasTheGeometricMeanOfAllRatios) {
  const store::Results a = file("a.h5", {row("x", 1, 1), row("y", 1, 1), row("only a", 1)});
  const store::Results b = file("b.h5", {row("x", 8, 1), row("y", 0.5, 1)});
  const Summary summary = summarize(compare(a, b));
  EXPECT_EQ(summary.compared, 2);
  EXPECT_DOUBLE_EQ(summary.geometric_mean, 2);
  EXPECT_THAT(summary.counts, ElementsAre(0, 0, 0, 2, 1, 0, 0, 0));
}

TEST(Comparison, FilesWithoutACommonRowAreRefused) {
  const store::Results a = file("a.h5", {row("x", 1)}), b = file("b.h5", {row("y", 1)});
  try {
    compare(a, b);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), "a.h5 and b.h5 have no row in common");
  }
}

TEST(Comparison, OtherMachinesAndBuildsAreToldOf) {
  store::Results a = file("a.h5", {row("x", 1)}), b = a;
  EXPECT_THAT(warnings(a, b), IsEmpty());
  a.environment.threads = 2;
  b.environment.threads = 4;
  a.environment.revision = "1234";
  b.environment.revision = "5678";
  b.environment.started = "another day";
  EXPECT_THAT(warnings(a, b),
              ElementsAre("threads is '2' in A and '4' in B", "revision is '1234' in A and '5678' in B"));
}

TEST(Comparison, ARowFailsBeyondThePercentageWithItsWholeInterval) {
  const store::Results a = file("a.h5", {row("x", 1), row("few", 1, 5), row("wrong", 1)});
  const store::Results b =
      file("b.h5", {row("x", 1.5), row("few", 9, 5), without_times("wrong", "failed", "off by one")});
  const std::vector<Pair> pairs = compare(a, b);
  const double low = 100 * (pairs[0].interval()->low - 1);
  EXPECT_TRUE(fails(pairs[0], low - 0.01));
  EXPECT_FALSE(fails(pairs[0], low + 0.01)) << "the median is beyond, the interval is not";
  EXPECT_FALSE(fails(pairs[1], 0)) << "too few samples to tell";
  EXPECT_TRUE(fails(pairs[2], 1000));
}

}  // namespace
}  // namespace nalab::comparison
