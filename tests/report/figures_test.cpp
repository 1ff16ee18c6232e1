// Which row counts where several configurations asked for the same.
#include "report/figures.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/report/sample_results.h"

namespace nalab::report {
namespace {

store::Row row_of(const std::string& config) {
  store::Row row = sample_row("A", 3, "fused", "f32", {1, 2, 3});
  row.config = config;
  return row;
}

TEST(RowIndex, FindsTheRowOfThePreferredConfigurationAndElseTheFirst) {
  const std::vector<store::Row> rows{row_of("a"), row_of("b"), row_of("c")};
  const auto found = [&](const std::string& preferred) {
    return RowIndex(rows, preferred).find(rows[0].problem, "fused", "forward");
  };
  EXPECT_EQ(found("a"), &rows[0]);
  EXPECT_EQ(found("b"), &rows[1]);
  EXPECT_EQ(found("c"), &rows[2]);
  EXPECT_EQ(found("none of them"), &rows[0]);
}

}  // namespace
}  // namespace nalab::report
