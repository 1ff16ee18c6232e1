#include "models/definition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "models/build.h"
#include "models/parameters.h"

namespace nalab::models {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& text) {
  try {
    parse_definitions("file.yaml", text);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::string one(const std::string& kind, const std::string& more) {
  return "models:\n  - {name: m, kind: " + kind + ", depths: [1, 1], " + more + "}\n";
}

TEST(Definition, IsReadWithItsDefaults) {
  const auto list =
      parse_definitions("f", one("nat", "heads: [1, 2], channels: [32, 64], window: 3, dilation: [2, 1]"));
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].kind, Kind::nat);
  EXPECT_EQ(list[0].dilation, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(list[0].classes, 1000);
  EXPECT_TRUE(list[0].is_classifier());
}

TEST(Definition, RefusalsSayWhereAndWhat) {
  EXPECT_EQ(refusal(one("nat", "heads: [1, 2]")), "file.yaml:2:5: models: expected the key channels, got none");
  EXPECT_THAT(refusal(one("swin", "heads: [1, 2], channels: [32, 64]")), HasSubstr("kind: expected"));
  EXPECT_THAT(refusal(one("nat", "heads: [1], channels: [32, 64]")),
              HasSubstr("heads: expected one value for each of the 2 levels of depths"));
  EXPECT_THAT(refusal(one("nat", "heads: [3, 2], channels: [32, 64]")),
              HasSubstr("channels: expected multiples of the heads 3, got 32"));
  EXPECT_THAT(refusal(one("dinats", "heads: [1, 2], channels: [32, 32]")), HasSubstr("channels: must double"));
  EXPECT_THAT(refusal(one("nat", "heads: [1, 2], channels: [33, 66]")), HasSubstr("must be even"));
  EXPECT_THAT(refusal(one("nat", "heads: [1, 2], channels: [32, 64], dilation: [1]")), HasSubstr("dilation: expected"));
  EXPECT_THAT(refusal(one("isotropic", "heads: [1, 2], channels: [32, 64]")), HasSubstr("depths: expected one level"));
  EXPECT_THAT(refusal(one("stylenat", "heads: [2, 2], channels: [32, 32], input: 16")),
              HasSubstr("input: expected 8, 4 doubled"));
  EXPECT_THAT(refusal(one("stylenat", "heads: [2, 1], channels: [32, 32], input: 8")),
              HasSubstr("heads: expected even"));
  EXPECT_THAT(refusal(one("nat", "heads: [1, 2], channels: [32, 64], windows: 3")), HasSubstr("windows"));
  EXPECT_THAT(refusal("nothing: 1\n"), HasSubstr("nothing"));
}

TEST(Definition, UnknownModelsAreRefusedWithTheNames) {
  try {
    find_definition("NAT-X");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("unknown model 'NAT-X', must be one of NAT-M, NAT-T"));
  }
}

TEST(Build, WindowsThatDoNotFitAreRefusedWithTheModel) {
  try {
    build(find_definition("DiNAT-T"), {.rows = 224, .columns = 200});
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "model DiNAT-T: attention with window 7 and dilation 8 needs at least 56x56 tokens, and has 56x50");
  }
}

TEST(Build, OddImagesRoundUp) {
  const Graph nat = build(find_definition("NAT-T"), {.rows = 401, .columns = 230});
  const Graph dinats = build(find_definition("DiNATs-T"), {.rows = 230, .columns = 401});
  const auto tokens = [](const Graph& graph) {
    std::vector<int64_t> rows;
    for (const Node& node : graph.nodes()) {
      if (std::holds_alternative<Attention>(node.operation) && (rows.empty() || rows.back() != node.extent.rows)) {
        rows.push_back(node.extent.rows);
      }
    }
    return rows;
  };
  EXPECT_EQ(tokens(nat), (std::vector<int64_t>{101, 51, 26, 13}));
  EXPECT_EQ(tokens(dinats), (std::vector<int64_t>{58, 29, 15, 8}));
}

TEST(Build, WithoutBiasThereAreNoTables) {
  const Definition& definition = find_definition("NAT-T");
  int64_t tables = 0;
  for (const Parameter& parameter : parameters(build(definition))) {
    if (parameter.name.ends_with("rpb")) tables += parameter.elements();
  }
  EXPECT_EQ(tables, 169 * (3 * 2 + 4 * 4 + 18 * 8 + 5 * 16));
  EXPECT_EQ(parameter_count(build(definition, {.relative_bias = false})), parameter_count(build(definition)) - tables);
}

}  // namespace
}  // namespace nalab::models
