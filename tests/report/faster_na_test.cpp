// The best of our variants and the choice among them, beside the tables of Faster NA: on made-up sweeps.
#include "report/papers/faster_na.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "report/render.h"
#include "tests/report/made_results.h"

namespace nalab::report {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kNotAsked = "banded was not asked for, or the run ended before it";
const Group kForward{1, "forward", "f32"};

Made line(const std::string& window, const std::string& pass = "forward") {
  return {"64", window, "1", "1", "f32", pass};
}

store::Results empty() { return with_config("fna_small", "faster_na"); }

store::Row& row_of(store::Results& results, const std::string& variant, const std::string& window,
                   const std::string& pass = "forward") {
  return *std::ranges::find_if(results.rows, [&](const store::Row& row) {
    return row.variant == variant && row.window == window && row.pass == pass;
  });
}

/// The cells of a column, each with its footnote: "50.0 % [why]".
std::vector<std::string> column(const Table& table, const std::string& group, const std::string& heading) {
  std::vector<std::string> cells;
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (table.columns[i].heading != heading || table.columns[i].group != group) continue;
      const std::string note = row[i].footnote == 0 ? "" : " [" + table.footnotes.at(row[i].footnote - 1) + "]";
      cells.push_back(row[i].text + note);
    }
  }
  return cells;
}

/// The shares of the first group in which each of kKernels is the fastest.
std::vector<std::string> fastest(const store::Results& results) {
  const Table table = fastest_table(Sweep(results));
  std::vector<std::string> shares;
  for (const char* kernel : kKernels) shares.push_back(column(table, "the fastest", kernel_text(kernel)).at(0));
  return shares;
}

Choice always(const char* variant) {
  return [variant](const Problem&, Pass) { return std::string_view(variant); };
}

Choice by_pass(const char* forward, const char* backward) {
  return [=](const Problem&, Pass pass) { return std::string_view(pass == Pass::forward ? forward : backward); };
}

TEST(FasterNaBest, IsTheFastestOfEachProblem) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  add_sweep(results, line("5"), 8, 4, 2, 16, 3);
  add_sweep(results, line("7"), 8, 4, 9, 1, 10);  // self attention is not among them
  const Sweep sweep(results);
  EXPECT_THAT(sweep.improvement(kForward, {kBest, "naive"}).speedups, ElementsAre(8, 4, 2));
  EXPECT_THAT(sweep.improvement(kForward, {kBest, "fused"}).speedups, ElementsAre(2, 1, 2.25));
  EXPECT_THAT(fastest(results), ElementsAre("0.0 %", "33.3 %", "33.3 %", "33.3 %"));
  EXPECT_EQ(sweep.left_out(kForward), "");
}

TEST(FasterNaBest, OfTheSameTimeTheFirstCounts) {
  store::Results results = empty();
  add_sweep(results, line("3"), 2, 2, 2, 0, 2);
  add_sweep(results, line("5"), 3, 2, 2, 0, 2);
  EXPECT_THAT(fastest(results), ElementsAre("50.0 %", "50.0 %", "0.0 %", "0.0 %"));
}

TEST(FasterNaBest, OfOlderResultsIsThatOfTheVariantsThatTheyHave) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16);
  EXPECT_THAT(fastest(results), ElementsAre("0.0 %", "0.0 %", "100.0 %", std::string("n/a [") + kNotAsked + "]"));
  EXPECT_THAT(column(improvement_table(Sweep(results)), "", "improvement of"),
              testing::Contains(std::string("ours (best) over naive [the best of the others: ") + kNotAsked + "]"));
  EXPECT_THAT(column(matches_table(Sweep(results)), "", "variant"),
              ElementsAre("naive", "gemm", "fused (tiles)",
                          std::string("ours (best) [the best of the others: ") + kNotAsked + "]"));
}

TEST(FasterNaBest, OfOneVariantIsThatVariant) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 0, 0, 16);
  const Sweep sweep(results);
  EXPECT_THAT(sweep.improvement(kForward, {kBest, "naive"}).speedups, ElementsAre(1));
  EXPECT_THAT(sweep.improvement(kForward, {kBest, "fused"}).speedups, IsEmpty());
  EXPECT_THAT(sweep.improvement(kForward, {kBest, "fused"}).why_not, HasSubstr("fused was not asked for"));
  EXPECT_THAT(fastest(results).at(0), "100.0 %");
  EXPECT_THAT(sweep.left_out(kForward), HasSubstr("gemm was not asked for, or the run ended before it; fused was"));
}

TEST(FasterNaBest, IsNeverARowThatFailedOrWasRefused) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  add_sweep(results, line("5"), 8, 4, 2, 16, 1);
  add_sweep(results, line("7"), 8, 0, 0, 16);
  store::Row& banded = row_of(results, "banded", "5");
  banded.status = "failed";  // with samples, which must not count
  banded.reason = "wrong";
  row_of(results, "naive", "7") = without_times(row_of(results, "naive", "7"), "refused", "too large");
  EXPECT_THAT(fastest(results),
              ElementsAre("0.0 %", "0.0 %", "50.0 %",
                          "50.0 % [measured in 1 of 2 problems; the first other one: banded gave a wrong result: "
                          "wrong]"));
  EXPECT_THAT(
      column(fastest_table(Sweep(results)), "", "problems"),
      ElementsAre("2 of 3 [the first missing one: none of the variants has times: naive was not run: too large]"));
  EXPECT_EQ(Sweep(results).improvement(kForward, {kBest, "dense"}).why_not,
            "none of the variants has times: naive was not run: too large");
}

TEST(FasterNaBest, SaysWhereNothingWasMeasured) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 0, 0, 16);
  row_of(results, "naive", "3") = without_times(row_of(results, "naive", "3"), "refused", "too large");
  for (const std::string& share : fastest(results))
    EXPECT_THAT(share, HasSubstr("n/a [none of the variants has times"));
  const std::vector<Table> tables = choice_tables(Sweep(results), always("fused"));
  ASSERT_EQ(tables.size(), 1u);
  EXPECT_THAT(column(tables[0], "worst", "by"),
              ElementsAre("n/a [none of the variants has times: naive was not run: too large]"));
  EXPECT_THAT(
      column(tables[0], "", "problems"),
      ElementsAre("0 of 1 [the first missing one: none of the variants has times: naive was not run: too large]"));
  EXPECT_THAT(column(tables[0], "", "takes"),
              ElementsAre("n/a [none of the variants has times: naive was not run: too large]"));
}

TEST(FasterNaBest, FewSamplesAreMarked) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  add_sweep(results, line("5"), 8, 4, 2, 16, 1);
  row_of(results, "gemm", "5").samples.resize(1);  // it could have been the fastest
  EXPECT_THAT(column(fastest_table(Sweep(results)), "", "problems"),
              ElementsAre("2 [1 of 2 problems has a time of fewer than 3 samples]"));
  // The choice rests on the times of banded alone.
  EXPECT_THAT(column(choice_tables(Sweep(results), always("banded")).at(0), "", "fastest within 3 %"),
              ElementsAre("100.0 %"));
  row_of(results, "fused", "5").samples.resize(2);
  const std::vector<Table> tables = choice_tables(Sweep(results), always("fused"));
  EXPECT_THAT(column(tables.at(0), "", "fastest within 3 %"),
              ElementsAre("0.0 % [1 of 2 problems has a time of fewer than 3 samples]"));
  EXPECT_THAT(column(tables.at(1), "", "slower by"), ElementsAre("+100 %", "+100 % [a time of fewer than 3 samples]"));
}

TEST(FasterNaBest, NothingIsPublishedOfIt) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  const std::string why = "n/a [the paper gives each variant by itself, not the best of them]";
  const Table improvements = improvement_table(Sweep(results));
  for (const char* heading : {"type", "average", "min", "max"}) {
    EXPECT_EQ(column(improvements, "published", heading).at(3), why) << heading;
    EXPECT_EQ(column(improvements, "published", heading).at(4), why) << heading;
    EXPECT_NE(column(improvements, "published", heading).at(1), why) << heading;
  }
  const Table matches = matches_table(Sweep(results));
  for (const char* heading : {"naive", "gemm", "fused", "FMHA", "FlashAttention-2"}) {
    EXPECT_EQ(column(matches, "published", heading).at(3), why) << heading;
  }
  EXPECT_THAT(column(matches, "here", "ours (best)"), ElementsAre("0.0 %", "0.0 %", "0.0 %", "-"));
}

TEST(FasterNaChoice, IsHeldAgainstTheFastest) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  add_sweep(results, line("5"), 8, 4, 103, 16, 100);
  add_sweep(results, line("7"), 900, 400, 103, 16, 100);
  add_sweep(results, line("9"), 900, 400, 105, 16, 100);
  const std::vector<Table> tables = choice_tables(Sweep(results), always("fused"));
  ASSERT_EQ(tables.size(), 2u);
  EXPECT_THAT(column(tables[0], "", "takes"), ElementsAre("fused 4"));
  EXPECT_THAT(column(tables[0], "", "fastest within 3 %"), ElementsAre("25.0 %"));
  EXPECT_THAT(column(tables[0], "", "slower"), ElementsAre("3"));
  EXPECT_THAT(column(tables[0], "worst", "by"), ElementsAre("+2475 %"));
  EXPECT_THAT(column(tables[0], "worst", "problem"), ElementsAre("64, window 5, 1 head of 128: fused, not gemm"));
  EXPECT_TRUE(tables[1].is_detail);
  EXPECT_THAT(column(tables[1], "", "slower by"), ElementsAre("+2475 %", "+100 %", "+5 %"));
  EXPECT_THAT(column(tables[1], "fastest", "variant"), ElementsAre("gemm", "banded", "banded"));
  EXPECT_THAT(column(tables[1], "taken", "ms"), ElementsAre("103", "2.00", "105"));
  EXPECT_THAT(column(tables[1], "taken", "spread"), ElementsAre("0 %", "0 %", "0 %"));
  EXPECT_THAT(to_csv(tables[1]), HasSubstr("1,forward,f32,64_w5_s1_d1_h1_f32,fused,0.103,0,gemm,0.004,0,"));
}

TEST(FasterNaChoice, OfTheFastestHasNoTableOfSlowerOnes) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  const std::vector<Table> tables = choice_tables(Sweep(results), always("banded"));
  ASSERT_EQ(tables.size(), 1u);
  EXPECT_THAT(column(tables[0], "", "fastest within 3 %"), ElementsAre("100.0 %"));
  EXPECT_THAT(column(tables[0], "", "slower"), ElementsAre("0"));
  EXPECT_THAT(column(tables[0], "worst", "by"), ElementsAre("+0 %"));
  EXPECT_THAT(column(tables[0], "worst", "problem"), ElementsAre("64, window 3, 1 head of 128"));
}

TEST(FasterNaChoice, NamesWhatAProblemHasBesideItsWindow) {
  store::Results results = empty();
  add_sweep(results, {"8x9", "3x3", "2x1", "1x2", "f32", "forward", 2}, 8, 4, 2, 16);
  for (store::Row& row : results.rows) row.batch = 4;
  EXPECT_THAT(column(choice_tables(Sweep(results), always("fused")).at(0), "worst", "problem"),
              ElementsAre("8x9, window 3x3, stride 2x1, dilation 1x2, batch 4, 2 heads of 128"));
}

TEST(FasterNaChoice, IsAskedForEachProblem) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  add_sweep(results, line("31"), 8, 4, 1, 16, 2);
  const Choice by_window = [](const Problem& problem, Pass) {
    return std::string_view(problem.axes.at(0).window == 3 ? "banded" : "fused");
  };
  const Table table = choice_tables(Sweep(results), by_window).at(0);
  EXPECT_THAT(column(table, "", "takes"), ElementsAre("banded 1, fused 1"));
  EXPECT_THAT(column(table, "", "fastest within 3 %"), ElementsAre("100.0 %"));
}

TEST(FasterNaChoice, ThatWasNotMeasuredIsNotJudged) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16);
  add_sweep(results, line("5"), 8, 4, 2, 16, 2);
  const Table table = choice_tables(Sweep(results), always("banded")).at(0);
  EXPECT_THAT(column(table, "", "problems"),
              ElementsAre(std::string("1 of 2 [the first missing one: ") + kNotAsked + "]"));
  EXPECT_THAT(column(table, "", "takes"), ElementsAre("banded 2"));
  EXPECT_THAT(column(table, "", "fastest within 3 %"), ElementsAre("100.0 %"));
}

TEST(FasterNaChoice, OfTwoVariantsIsEstimated) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  add_sweep(results, line("3", "forward_backward"), 30, 20, 7, 16);
  const std::vector<Table> tables = choice_tables(Sweep(results), by_pass("banded", "fused"));
  ASSERT_EQ(tables.size(), 1u);
  const Table& table = tables[0];
  EXPECT_THAT(column(table, "", "takes").at(0), "banded 1");
  EXPECT_THAT(column(table, "", "takes").at(1), HasSubstr("banded + fused 1 [a + b: a forward and b backward"));
  // Two of seven products are those of the forward pass, for which banded takes half as long.
  EXPECT_THAT(column(table, "worst", "by"), ElementsAre("+0 %", "-14 %"));
  EXPECT_THAT(to_csv(table), HasSubstr("\n1,forward_backward,f32,1,1,banded + fused 1,1,1,0,0.857142857142857"));
}

TEST(FasterNaChoice, OfTwoVariantsHasNoSpread) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  add_sweep(results, line("3", "forward_backward"), 3, 20, 10, 16);
  row_of(results, "naive", "3", "forward_backward").samples.resize(1);
  const Table slower = choice_tables(Sweep(results), by_pass("banded", "fused")).at(1);
  EXPECT_THAT(column(slower, "taken", "spread"), ElementsAre("n/a [estimated from the times of several rows]"));
  EXPECT_THAT(column(slower, "fastest", "spread"), ElementsAre("n/a [one sample has no spread]"));
}

TEST(FasterNaChoice, OfTwoVariantsNeedsAllThreeTimes) {
  store::Results results = empty();
  add_sweep(results, line("3"), 8, 4, 2, 16, 1);
  add_sweep(results, line("3", "forward_backward"), 30, 20, 8, 16);
  const auto problems = [](const store::Results& some) {
    return column(choice_tables(Sweep(some), by_pass("banded", "fused")).at(0), "", "problems").back();
  };
  EXPECT_EQ(problems(results), "1");
  store::Results without_banded = results;
  std::erase_if(without_banded.rows, [](const store::Row& row) { return row.variant == "banded"; });
  EXPECT_EQ(problems(without_banded), std::string("0 of 1 [the first missing one: forward pass: ") + kNotAsked + "]");
  store::Results without_forward = results;
  std::erase_if(without_forward.rows, [](const store::Row& row) { return row.pass == "forward"; });
  EXPECT_THAT(problems(without_forward), HasSubstr("forward pass: fused was not asked for"));
  store::Results without_both = results;
  row_of(without_both, "fused", "3", "forward_backward").status = "failed";
  EXPECT_THAT(problems(without_both), HasSubstr("one: fused gave a wrong result"));
}

}  // namespace
}  // namespace nalab::report
