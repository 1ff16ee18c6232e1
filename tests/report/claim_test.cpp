#include "report/claim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nalab::report {
namespace {

Claim claim(double published, std::optional<double> ours) {
  Claim c;
  c.statement = "A is faster than B.";
  c.source = "a paper, table 1";
  c.published = published;
  c.published_text = improvement_text(published);
  c.ours = ours;
  if (ours) c.ours_text = improvement_text(*ours);
  return c;
}

std::string verdict(double published, std::optional<double> ours) { return text_of(judge(claim(published, ours))); }

TEST(Claim, HoldsFromHalfTheImprovementOn) {
  EXPECT_EQ(verdict(2, 2), "holds");
  EXPECT_EQ(verdict(2, 50), "holds");
  EXPECT_EQ(verdict(2, 1), "holds");
  EXPECT_EQ(verdict(2, 0.99), "holds in part");
  EXPECT_EQ(verdict(2, 0.001), "holds in part");
  EXPECT_EQ(verdict(2, 0), "does not hold");
  EXPECT_EQ(verdict(2, -0.5), "does not hold");
}

TEST(Claim, ThatSomethingIsSlowerIsJudgedAlike) {
  EXPECT_EQ(verdict(-0.5, -0.25), "holds");
  EXPECT_EQ(verdict(-0.5, -0.24), "holds in part");
  EXPECT_EQ(verdict(-0.5, 0), "does not hold");
  EXPECT_EQ(verdict(-0.5, 0.5), "does not hold");
}

TEST(Claim, WithoutAMeasurementThereIsNoVerdict) { EXPECT_EQ(verdict(2, std::nullopt), "not measured"); }

TEST(Claim, WithAReasonNotToItIsNotJudged) {
  Claim doubtful = claim(2, 2);
  doubtful.why_not = "fewer than 3 samples: dense has 1";
  EXPECT_EQ(text_of(judge(doubtful)), "not judged");
  const Table table = claims_table({doubtful});
  EXPECT_EQ(table.rows[0][3].text, "+200 %");
  EXPECT_EQ(table.rows[0][4].text, "not judged");
  EXPECT_EQ(table.footnotes.at(table.rows[0][4].footnote - 1), doubtful.why_not);
  EXPECT_THAT(rule(), testing::HasSubstr("fewer than 3 samples is not judged"));
}

TEST(Claim, ImprovementsReadAsPercentOrFactor) {
  EXPECT_EQ(improvement_text(0.5), "+50 %");
  EXPECT_EQ(improvement_text(-0.25), "-25 %");
  EXPECT_EQ(improvement_text(8.5), "+850 %");
  EXPECT_EQ(improvement_text(9), "10.0x");
  EXPECT_EQ(improvement_text(17.59), "18.6x");
}

TEST(Claim, TheTableHasAReasonForEachGap) {
  Claim gap = claim(1, std::nullopt);
  gap.why_not = "no problem of the kind is in the results";
  const Table table = claims_table({claim(2, 0.5), gap});
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0][3].text, "+50 %");
  EXPECT_EQ(table.rows[0][4].text, "holds in part");
  EXPECT_EQ(table.rows[1][3].text, "n/a");
  EXPECT_EQ(table.rows[1][4].text, "not measured");
  EXPECT_EQ(table.footnotes.at(table.rows[1][4].footnote - 1), gap.why_not);
  EXPECT_THAT(table.records.lines[0],
              testing::ElementsAre("A is faster than B.", "a paper, table 1", "2", "0.5", "holds in part", ""));
  EXPECT_THAT(table.records.lines[1],
              testing::ElementsAre("A is faster than B.", "a paper, table 1", "1", "", "not measured", gap.why_not));
}

}  // namespace
}  // namespace nalab::report
