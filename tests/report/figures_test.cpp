// Where a row ran, and which counts where several configurations asked for the same.
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

TEST(RanOnGpu, IsOfRowsForAGpuThatWasThere) {
  store::Row row = row_of("a");
  store::Environment environment;
  const auto ran_on_gpu_with = [&](const std::string& device, const std::string& gpu) {
    row.device = device;
    environment.gpu = gpu;
    return ran_on_gpu(environment, row);
  };
  EXPECT_TRUE(ran_on_gpu_with("cuda", "a GPU"));
  EXPECT_FALSE(ran_on_gpu_with("cuda", ""));
  EXPECT_FALSE(ran_on_gpu_with("cpu", "a GPU"));
}

}  // namespace
}  // namespace nalab::report
