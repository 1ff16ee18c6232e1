#include "experiments/plan/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "tests/experiments/support.h"

namespace nalab {
namespace {

using experiments_test::load_text;
using plan::Resources;
using plan::RunPlan;

const Resources kLarge{int64_t{1} << 40, 2};

/// Problems of very different cost, baselines that several problems share, both passes, two simulations.
const char* const kConfig =
    "name: x\nvariants: [reference, dense, naive, gemm, fused]\ntypes: [f32, bf16]\n"
    "passes: [forward, forward_backward]\n"
    "timing: {min_samples: 2, min_seconds: 0, max_seconds: 1}\nverify: {budget_seconds: 0.5}\n"
    "problems:\n"
    "- {layout: 7, window: 3, head_dim: 8}\n- {layout: 7, window: 5, head_dim: 8}\n"
    "- {layout: [64, 64], window: 63, head_dim: 64}\n- {layout: [64, 64], window: 3, head_dim: 64}\n"
    "- {layout: 31, window: 9, head_dim: 16}\n- {layout: [5, 6, 7], window: 3, head_dim: 16}\n"
    "- {layout: 200, window: 100, head_dim: 16}\n"
    "simulations:\n- {table: t, layout: [12, 16], q_tile: 4, kv_tile: 4, window: 6, attention_share: 0.5, steps: 1,\n"
    "   rows: [{stride: 1}, {stride: 2}]}\n";

RunPlan whole(const Resources& resources = kLarge, const std::string& filter = "") {
  return plan::make_run_plan({load_text(kConfig)}, filter, resources);
}

RunPlan share(int64_t index, int64_t count, const Resources& resources = kLarge) {
  RunPlan plan = whole(resources);
  plan::take_shard(plan, {.index = index, .count = count});
  return plan;
}

/// The ids of each group.
std::vector<std::vector<std::string>> groups_of(const RunPlan& plan) {
  std::vector<std::vector<std::string>> groups;
  for (const plan::Group& group : plan.groups) {
    std::vector<std::string>& ids = groups.emplace_back();
    for (const plan::PlannedRow& row : group.rows) ids.push_back(row.id);
  }
  return groups;
}

TEST(Shards, AreDisjointAndTogetherTheWholePlan) {
  const auto all = groups_of(whole());
  ASSERT_GT(all.size(), 20u);
  for (const int64_t count : {1, 2, 3, 5, 28, 100}) {
    std::vector<std::vector<std::string>> together;
    int64_t simulations = 0;
    for (int64_t index = 1; index <= count; ++index) {
      const RunPlan plan = share(index, count);
      const auto groups = groups_of(plan);
      // Whole groups, in the order of the plan.
      auto next = all.begin();
      for (const auto& group : groups) {
        next = std::find(next, all.end(), group);
        ASSERT_NE(next, all.end()) << index << " of " << count;
      }
      together.insert(together.end(), groups.begin(), groups.end());
      simulations += std::ssize(plan.simulations);
    }
    EXPECT_THAT(together, testing::UnorderedElementsAreArray(all));
    EXPECT_EQ(simulations, 2);
  }
}

TEST(Shards, AreTheSameOnEveryMachine) {
  // Many threads verify more, little memory refuses rows: neither moves a row.
  for (const Resources& resources : {Resources{int64_t{1} << 40, 64}, Resources{int64_t{1} << 21, 1}}) {
    const auto outcomes = [](const RunPlan& plan) {
      std::vector<std::tuple<int64_t, double, bool>> list;
      for (const plan::Group& group : plan.groups) {
        for (const plan::PlannedRow& row : group.rows) {
          list.emplace_back(row.verified_queries, row.seconds, row.refusal.has_value());
        }
      }
      return list;
    };
    ASSERT_NE(outcomes(whole(resources)), outcomes(whole()));
    for (int64_t index = 1; index <= 3; ++index) {
      EXPECT_EQ(groups_of(share(index, 3, resources)), groups_of(share(index, 3)));
    }
  }
}

TEST(Shards, WhatNeedsAnotherDeviceCostsTheSameWithAndWithoutIt) {
  const config::Config config = load_text(
      "name: x\nvariants: hopper\ntypes: bf16\nproblems: [{layout: [16, 16], window: 3}, {layout: [16, 16], window: "
      "5}]\n");
  for (int64_t index = 1; index <= 2; ++index) {
    RunPlan plan = plan::make_run_plan({config}, "", kLarge);
    plan::take_shard(plan, {.index = index, .count = 2});
    EXPECT_EQ(plan.groups.size(), 1u) << "for nothing, both would be in the first";
  }
}

TEST(Shards, TheCostliestGroupsAreSpread) {
  // The large problem has four groups, each far costlier than all the small ones together.
  for (int64_t index = 1; index <= 4; ++index) {
    const RunPlan plan = share(index, 4);
    const auto large = std::ranges::count_if(plan.groups, [](const plan::Group& group) {
      return std::ranges::any_of(group.rows,
                                 [](const plan::PlannedRow& row) { return row.id.starts_with("64x64_w63x63"); });
    });
    EXPECT_EQ(large, 1) << index;
  }
}

TEST(Shards, ACostlyGroupIsAloneInItsShard) {
  // All gradients by the oracle take three times as long as all outputs: the backward group weighs more than the three
  // others together, which by themselves weigh as much as its outputs each.
  const config::Config config = load_text(
      "name: x\nvariants: naive\ntiming: {min_samples: 1, min_seconds: 0, max_seconds: 1}\n"
      "verify: {budget_seconds: 1000}\n"
      "runs: [{passes: forward, labels: forward}, {passes: forward_backward, labels: backward}]\n"
      "problems:\n- {label: forward, layout: 997, window: 31, head_dim: 8}\n"
      "- {label: backward, layout: 998, window: 31, head_dim: 8}\n"
      "- {label: forward, layout: 999, window: 31, head_dim: 8}\n"
      "- {label: forward, layout: 1000, window: 31, head_dim: 8}\n");
  std::vector<std::size_t> sizes;
  for (int64_t index = 1; index <= 2; ++index) {
    RunPlan plan = plan::make_run_plan({config}, "", kLarge);
    plan::take_shard(plan, {.index = index, .count = 2});
    sizes.push_back(plan.groups.size());
    if (plan.groups.size() == 1) {
      EXPECT_EQ(plan.groups[0].rows.at(0).label, "backward");
    }
  }
  EXPECT_THAT(sizes, testing::ElementsAre(1, 3));
}

TEST(Shards, PositionsCountWhatIsAskedForWhateverTheFilter) {
  const RunPlan all = whole();
  int64_t last = -1;
  for (const plan::Group& group : all.groups) {
    for (const plan::PlannedRow& row : group.rows) {
      EXPECT_GT(row.position, last);
      last = row.position;
    }
  }
  const plan::PlannedRow& row = all.groups[5].rows[1];
  EXPECT_EQ(whole(kLarge, "^" + row.id + "$").groups.at(0).rows.at(0).position, row.position);
}

TEST(Shards, AreNamedIOfN) {
  for (const auto& [text, index, count] :
       {std::tuple("1/1", 1, 1), std::tuple("2/3", 2, 3), std::tuple("100000/100000", 100000, 100000)}) {
    const store::Shard shard = plan::parse_shard(text);
    EXPECT_EQ(shard.index, index);
    EXPECT_EQ(shard.count, count);
  }
  for (const std::string text : {"", "1", "/", "1/", "/2", "0/2", "3/2", "-1/2", "1/0", "1/2/3", "a/b", "1 /2", "1/2 ",
                                 "1/100001", "1/99999999999999999999"}) {
    try {
      plan::parse_shard(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), "shard '" + text + "' must be I/N, the I-th of N shards, with 1 <= I <= N <= 100000");
    }
  }
}

}  // namespace
}  // namespace nalab
