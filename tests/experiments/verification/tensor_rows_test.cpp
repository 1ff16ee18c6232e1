// Sampled queries and keys: spread over their tensors, corners included.
#include "experiments/verification/tensor_rows.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

namespace nalab {
namespace {

Problem plain_problem() {
  Problem p;
  p.axes = {{.extent = 41, .window = 5}, {.extent = 37, .window = 3}};
  p.heads = p.heads_kv = 3;
  return p;
}

Problem grouped_problem() {
  Problem p;
  p.axes = {{.extent = 9, .window = 5}, {.extent = 7, .window = 3}};
  p.batch = 2;
  p.heads = 4;
  p.heads_kv = 2;
  p.head_dim = 6;
  p.head_dim_v = 10;
  p.extra_tokens = 3;
  return p;
}

TEST(SampledQueries, IncludeTheCornersAndSpread) {
  Problem p = plain_problem();
  p.batch = 2;
  const auto queries = verification::choose_queries(p, 50, 1);
  EXPECT_GE(queries.size(), 50u);
  EXPECT_LE(queries.size(), 66u);
  std::set<std::array<int64_t, 5>> seen;
  for (const reference::Query& q : queries) {
    EXPECT_TRUE(q.batch >= 0 && q.batch < 2 && q.head >= 0 && q.head < 3);
    EXPECT_TRUE(q.token[0] == 0 && q.token[1] >= 0 && q.token[1] < 41 && q.token[2] >= 0 && q.token[2] < 37);
    EXPECT_TRUE(seen.insert({q.batch, q.token[0], q.token[1], q.token[2], q.head}).second);
  }
  for (const int64_t x : {0, 40}) {
    for (const int64_t y : {0, 36}) {
      EXPECT_TRUE(seen.contains({0, 0, x, y, 0}));
      EXPECT_TRUE(seen.contains({1, 0, x, y, 2}));
    }
  }
}

TEST(SampledQueries, AreAllWhereTheCountIsTheTotal) {
  const Problem p = plain_problem();
  const auto queries = verification::choose_queries(p, 41 * 37 * 3, 1);
  EXPECT_EQ(queries.size(), 41u * 37u * 3u);
}

TEST(ChosenKeys, AreSpreadOverTheTensorWithItsCorners) {
  const Problem p = grouped_problem();
  const auto keys = verification::choose_keys(p, 20, 1);
  EXPECT_GE(keys.size(), 20u);
  EXPECT_LE(keys.size(), 36u);
  std::set<std::array<int64_t, 5>> rows;
  for (const reference::Key& key : keys) {
    EXPECT_FALSE(key.extra);
    EXPECT_LT(key.batch, p.batch);
    EXPECT_LT(key.head_kv, p.heads_kv);
    rows.insert({key.batch, key.token[0], key.token[1], key.token[2], key.head_kv});
  }
  EXPECT_EQ(rows.size(), keys.size());
  EXPECT_TRUE(rows.contains({0, 0, 0, 0, 0}));
  EXPECT_TRUE(rows.contains({1, 0, 8, 6, 1}));
  EXPECT_EQ(verification::choose_keys(p, 1000, 1).size(), 2u * 9 * 7 * 2) << "all of them";
  const auto extra = verification::choose_extra_tokens(p, 1000, 1);
  EXPECT_EQ(extra.size(), 2u * 3 * 2);
  for (const reference::Key& key : extra) EXPECT_TRUE(key.extra);
  EXPECT_TRUE(verification::choose_extra_tokens(p, 0, 1).empty());
}

}  // namespace
}  // namespace nalab
