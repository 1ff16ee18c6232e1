// Expressions of --filter and --cases: what matches, what is refused, and that none takes long.
#include "experiments/filter/filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "core/error.h"
#include "tests/report/sample_results.h"

namespace nalab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string complaint(const std::string& expression) {
  try {
    const Filter filter("--filter", expression);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string repeated(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

TEST(Filter, MatchesAnywhere) {
  EXPECT_TRUE(Filter("--filter", "").matches("56x56"));
  EXPECT_TRUE(Filter("--filter", "x5[0-9]$").matches("56x56"));
  EXPECT_FALSE(Filter("--filter", "^x56").matches("56x56"));
  EXPECT_TRUE(Filter("--filter", R"(\.forward$)").matches("56x56_f32.naive.forward"));
  EXPECT_FALSE(Filter("--filter", "(?i)NAIVE|f16").matches("56x56_f32.fused.forward"));
}

TEST(Filter, RefusesWhatIsNoExpressionInOneShortLine) {
  EXPECT_EQ(complaint("["), "--filter '[' is not a regular expression: missing ]: [");
  EXPECT_THAT(complaint("a(?=b)"), HasSubstr("--filter 'a(?=b)' is not a regular expression: "));
  EXPECT_THAT(complaint(R"((a)\1)"), HasSubstr(R"(--filter '(a)\1' is not a regular expression: )"));
  EXPECT_THAT(complaint("caf\xe9"), HasSubstr("is not a regular expression: invalid UTF-8"));
  EXPECT_EQ(complaint("a" + repeated("{1000}", 5)),
            "--filter 'a{1000}{1000}{1000}{1000}{1000}' is not a regular expression: bad repetition "
            "operator: {1000}{1000}");
  EXPECT_THAT(complaint(repeated("[", 200)), HasSubstr(repeated("[", 60) + "...' is not a regular expression: "));
}

TEST(Filter, RefusesWhatIsTooLong) {
  for (const std::string& expression : {repeated("(", 20'000) + repeated(")", 20'000),
                                        repeated("(a|", 20'000) + repeated(")", 20'000), repeated("a", 10'001)}) {
    EXPECT_EQ(complaint(expression), "--filter '" + expression.substr(0, 60) +
                                         "...' must be a regular expression of at most 10000 characters");
  }
  // What is short enough may nest as it likes.
  EXPECT_TRUE(Filter("--filter", repeated("(", 5'000) + repeated(")", 5'000)).matches("a"));
  EXPECT_TRUE(Filter("--filter", repeated("(b|", 2'000) + repeated(")", 2'000)).matches("b"));
  EXPECT_TRUE(Filter("--filter", repeated("(", 2'000) + "a" + repeated("+)", 2'000)).matches("a"));
}

TEST(Filter, NoExpressionTakesLong) {
  const auto start = std::chrono::steady_clock::now();
  const std::string text(100'000, 'a');
  for (const char* expression : {"(a+)+b", "(a|a)*b", "(a|aa)+b", "(.*)*x", "a*a*a*a*a*a*a*b"}) {
    EXPECT_FALSE(Filter("--filter", expression).matches(text)) << expression;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

std::vector<std::string> ids(const store::Results& results) {
  std::vector<std::string> ids;
  for (const store::Row& row : results.rows) ids.push_back(row.id);
  return ids;
}

TEST(Filter, KeepsRowsByIdOrLabel) {
  store::Results results = report::sample_results();
  results.simulations.resize(2);
  results.simulations[0].id = "table.8x9";
  results.simulations[1].id = "other";
  EXPECT_EQ(keep_matching(results, Filter("--filter", "")), 9);
  EXPECT_EQ(results.rows.size(), 7u);
  store::Results by_label = results;
  EXPECT_EQ(keep_matching(by_label, Filter("--filter", "^B &")), 2);
  EXPECT_THAT(ids(by_label), ElementsAre("8x9_w5_f32_naive_forward", "8x9_w5_f32_fused_forward"));
  EXPECT_TRUE(by_label.simulations.empty());
  EXPECT_EQ(keep_matching(results, Filter("--filter", "8x9$|w3_bf16")), 2);
  EXPECT_THAT(ids(results), ElementsAre("8x9_w3_bf16_naive_forward"));
  ASSERT_EQ(results.simulations.size(), 1u);
  EXPECT_EQ(results.simulations[0].id, "table.8x9");
}

TEST(Filter, KeepsTheSelfAttentionOfTheKeptRowsOnRequest) {
  store::Results results = report::sample_results();
  store::Row other_pass = results.rows[0];  // dense
  other_pass.pass = "backward";
  other_pass.id = "other_pass";
  results.rows.push_back(other_pass);
  EXPECT_EQ(keep_matching(results, Filter("--filter", "w5_f32_naive"), AlsoKept::self_attention), 1);
  EXPECT_THAT(ids(results), ElementsAre("8x9_self_f32_dense_forward", "8x9_w5_f32_naive_forward"));
}

TEST(Filter, KeepsTheSelfAttentionOfEachVariantOnRequest) {
  store::Results results = report::sample_results();
  results.rows.push_back(results.rows[0]);
  results.rows.back().variant = "hopper_dense";
  results.rows.back().id = "8x9_self_f32_hopper_dense_forward";
  results.rows.push_back(results.rows[0]);
  results.rows.back().variant = "fused";
  results.rows.back().id = "8x9_self_f32_fused_forward";
  results.rows.push_back(results.rows[0]);
  results.rows.back().variant = "of another build";
  keep_matching(results, Filter("--filter", "w5_f32_naive"), AlsoKept::self_attention);
  EXPECT_THAT(ids(results), ElementsAre("8x9_self_f32_dense_forward", "8x9_w5_f32_naive_forward",
                                        "8x9_self_f32_hopper_dense_forward"));
}

}  // namespace
}  // namespace nalab
