// data/README.md documents every field of the results schema.
#include "store/schema.h"
#include "tests/source_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace nalab::store {
namespace {

using testing::HasSubstr;

TEST(Schema, EveryFieldIsDocumented) {
  std::ifstream file(source_folder() + "/data/README.md");
  const std::string page(std::istreambuf_iterator<char>(file), {});
  const auto require = [&](const std::string& name) { EXPECT_THAT(page, HasSubstr("`" + name + "`")); };
  for (const char* schema : {kResultsSchema, kCasesSchema, kOutputsSchema}) require(schema);
  const auto require_fields = [&]<class T>(const T& object) {
    T::visit_fields(object, [&](const char* name, const auto&, const char*) { require(name); });
  };
  require_fields(Environment());
  require_fields(Peak());
  require_fields(Row());
  require_fields(ModelRow());
  require_fields(SimulationRow());
  require_fields(Shard());
  require_fields(StoredConfig());
}

TEST(Schema, PeaksAreFoundByTheirArithmetic) {
  Environment environment;
  environment.peaks = {{"f32_fma", 1, 2}, {"bf16_dot", 3, 4}};
  ASSERT_NE(find_peak(environment, "bf16_dot"), nullptr);
  EXPECT_EQ(find_peak(environment, "bf16_dot")->all_threads, 4);
  EXPECT_EQ(find_peak(environment, "f64_scalar"), nullptr);
  EXPECT_EQ(find_peak({}, "f32_fma"), nullptr);
}

}  // namespace
}  // namespace nalab::store
