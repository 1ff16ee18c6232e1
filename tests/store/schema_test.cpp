// data/README.md documents every field of the results schema.
#include "store/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace nalab::store {
namespace {

using testing::HasSubstr;

TEST(Schema, EveryFieldIsDocumented) {
  std::ifstream file(std::string(NALAB_SOURCE_DIR) + "/data/README.md");
  const std::string page(std::istreambuf_iterator<char>(file), {});
  const auto require = [&](const std::string& name) { EXPECT_THAT(page, HasSubstr("`" + name + "`")); };
  for (const char* schema : {kResultsSchema, kCasesSchema, kOutputsSchema}) require(schema);
  const Environment environment;
  visit_environment(environment, [&](const char* name, const auto&, const char*) { require(name); });
  const Row row;
  visit_row(row, [&](const char* name, const auto&, const char*) { require(name); });
  const SimulationRow simulation;
  visit_simulation(simulation, [&](const char* name, const auto&, const char*) { require(name); });
  const Shard shard;
  visit_shard(shard, [&](const char* name, const auto&) { require(name); });
  const StoredConfig config;
  visit_config(config, [&](const char* name, const auto&) { require(name); });
}

}  // namespace
}  // namespace nalab::store
