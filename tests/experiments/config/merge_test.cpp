// YAML's merge key, <<.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/experiments/support.h"

namespace nalab {
namespace {

using experiments_test::complaint_of;
using experiments_test::load_text;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(ConfigMerge, AMappingTakesWhatItLacks) {
  const config::Config c = load_text(R"(
name: x
variants: [naive]
timing: &timing {min_samples: 3, max_samples: 30}
quick: {timing: {<<: *timing, max_samples: 5}}
problems:
  - &first {label: one, layout: [8, 9], window: 3, head_dim: 16}
  - {<<: *first, label: two, window: 5}
  - {window: 7, <<: *first}
)",
                                     config::Form::quick);
  ASSERT_EQ(c.problems.size(), 3u);
  EXPECT_EQ(c.settings.timing.min_samples, 3);
  EXPECT_EQ(c.settings.timing.max_samples, 5);
  EXPECT_EQ(c.problems[1].label, "two");
  EXPECT_THAT(c.problems[1].layout, ElementsAre(8, 9));
  EXPECT_THAT(c.problems[1].window, ElementsAre(5, 5));
  EXPECT_EQ(c.problems[1].head_dim, 16);
  EXPECT_EQ(c.problems[2].label, "one");
  EXPECT_THAT(c.problems[2].window, ElementsAre(7, 7)) << "its own key, wherever << stands";
}

TEST(ConfigMerge, TheFirstOfSeveralMappingsCounts) {
  const config::Config c = load_text(R"(
name: x
variants: [naive]
problems:
  - &a {label: a, layout: 8, window: 3}
  - &b {<<: *a, label: b, heads: 2}
  - {<<: [*b, *a]}
  - {<<: [{label: c, window: 5}, *b]}
  - {<<: {}, layout: 9, window: 3}
)");
  ASSERT_EQ(c.problems.size(), 5u);
  EXPECT_EQ(c.problems[2].label, "b");
  EXPECT_EQ(c.problems[2].heads, 2);
  EXPECT_EQ(c.problems[3].label, "c");
  EXPECT_THAT(c.problems[3].window, ElementsAre(5));
  EXPECT_EQ(c.problems[3].heads, 2);
  EXPECT_THAT(c.problems[4].layout, ElementsAre(9));
}

TEST(ConfigMerge, MistakesAreNamedWhereTheyStand) {
  const std::string head = "name: x\nvariants: [naive]\nproblems:\n- &a {layout: 8, window: 3}\n";
  const struct {
    std::string text, line;
  } bad[] = {
      {head + "- {<<: 3}\n", "x.yaml:5:8: <<: expected a mapping of keys to values, got '3'"},
      {head + "- {<<: [*a, 3]}\n", "x.yaml:5:13: <<: expected a mapping of keys to values, got '3'"},
      {head + "- {<<: []}\n", "x.yaml:5:8: <<: expected at least one value, got an empty list"},
      {head + "- {<<: *a, <<: *a}\n", "x.yaml:5:12: <<: expected each key once, got it a second time"},
      {head + "- {<<: {windows: 3}, layout: 8, window: 3}\n", "x.yaml:5:18: windows: expected one of the keys label, "},
      {head + "- {<<: {window: x}, layout: 8}\n", "x.yaml:5:17: window: expected an integer, got 'x'"},
      {head + "- {'<<': *a}\n", "x.yaml:4:3: <<: expected one of the keys label, "},
  };
  for (const auto& [text, line] : bad) EXPECT_THAT(complaint_of(text), testing::StartsWith(line)) << text;
}

TEST(ConfigMerge, AMappingThatIsMergedIntoItselfIsRefused) {
  EXPECT_EQ(complaint_of("name: x\nvariants: [naive]\nproblems:\n- &a {<<: *a, layout: 8, window: 3}\n"),
            "x.yaml:4:3: <<: expected at most 1000 merges, got more");
  // Each mapping stands for ten of the one before it.
  std::string text = "name: x\nvariants: [naive]\nproblems:\n- &a0 {layout: 8, window: 3}\n";
  for (int i = 1; i <= 12; ++i) {
    text += "- &a" + std::to_string(i) + " {<<: [";
    for (int j = 0; j < 10; ++j) text += (j > 0 ? ", *a" : "*a") + std::to_string(i - 1);
    text += "]}\n";
  }
  EXPECT_THAT(complaint_of(text), HasSubstr("expected at most 1000 merges, got more"));
}

}  // namespace
}  // namespace nalab
