#include "experiments/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "experiments/plan/announce.h"
#include "experiments/plan/units.h"
#include "tests/experiments/support.h"
#include "tests/source_folder.h"

namespace nalab {
namespace {

using experiments_test::load_text;
using plan::make_run_plan;
using plan::Resources;
using plan::RunPlan;
using testing::ElementsAre;
using testing::HasSubstr;

const Resources kLarge{int64_t{1} << 40, 2};

std::vector<std::string> ids(const RunPlan& plan) {
  std::vector<std::string> list;
  for (const plan::Group& group : plan.groups) {
    for (const plan::PlannedRow& row : group.rows) list.push_back(row.id);
  }
  return list;
}

const plan::PlannedRow& row_of(const RunPlan& plan, const std::string& id) {
  for (const plan::Group& group : plan.groups) {
    for (const plan::PlannedRow& row : group.rows) {
      if (row.id == id) return row;
    }
  }
  throw Error("no row " + id);
}

std::string complaint(const std::vector<config::Config>& configs, const std::string& filter) {
  try {
    make_run_plan(configs, filter, kLarge);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

const char* kTwoProblems = R"(
name: two
variants: [dense, naive]
problems:
  - {label: first, layout: [9, 8], window: 3, head_dim: 4}
  - {label: second, layout: [9, 8], window: 5, dilation: [1, 1], head_dim: 4, causal: true}
)";
const std::string kDense = "9x8_w9x8_s1x1_d1x1_c0x0_b1_h1_kv1_dk4_dv4_e0_f32.dense.forward";
const std::string kFirst = "9x8_w3x3_s1x1_d1x1_c0x0_b1_h1_kv1_dk4_dv4_e0_f32.naive.forward";
const std::string kSecond = "9x8_w5x5_s1x1_d1x1_c1x1_b1_h1_kv1_dk4_dv4_e0_f32.naive.forward";

TEST(Plan, ProblemsShareTheRowOfTheirSelfAttention) {
  const RunPlan plan = make_run_plan({load_text(kTwoProblems)}, "", kLarge);
  EXPECT_THAT(ids(plan), ElementsAre(kDense, kFirst, kSecond));
  EXPECT_EQ(plan.groups.size(), 2u);
  EXPECT_EQ(plan.rows(), 3);
  EXPECT_EQ(plan.repeated, 1);
  EXPECT_EQ(row_of(plan, kDense).label, plan::kSelfAttention);
  EXPECT_EQ(row_of(plan, kFirst).label, "first");
  for (const std::string& id : ids(plan)) {
    EXPECT_EQ(row_of(plan, id).baseline, row_of(plan, kDense).problem.id());
    EXPECT_EQ(row_of(plan, id).total_queries, 72);
    EXPECT_EQ(row_of(plan, id).verified_queries, 72);
  }
}

TEST(Plan, SelfAttentionKeepsItsOwnLabel) {
  const RunPlan plan = make_run_plan(
      {load_text("name: x\nvariants: dense\nproblems: [{label: own, layout: 8, window: 8}]\n")}, "", kLarge);
  EXPECT_EQ(plan.groups.at(0).rows.at(0).label, "own");
}

TEST(Plan, ConfigurationsShareRows) {
  config::Config again = load_text(kTwoProblems);
  again.title.name = "again";
  const RunPlan plan = make_run_plan({load_text(kTwoProblems), again}, "", kLarge);
  EXPECT_EQ(plan.rows(), 3);
  EXPECT_EQ(plan.repeated, 5);
  for (const std::string& id : ids(plan)) EXPECT_EQ(row_of(plan, id).config, "two");
}

TEST(Plan, ConfigurationsOfOneNameAreRefused) {
  config::Config config = load_text(kTwoProblems);
  config.path = "b.yaml";
  EXPECT_EQ(complaint({config, config}, ""),
            "b.yaml: name: expected a name that no other configuration of the run has, got 'two'");
}

TEST(Plan, IdsAreUniqueAndFitForGroupNames) {
  for (const char* name : {"smoke", "nat_layers", "use_cases"}) {
    const config::Config config = config::load(source_folder() + "/configs/" + name + ".yaml", config::Form::full);
    const std::vector<std::string> list = ids(make_run_plan({config}, "", kLarge));
    EXPECT_EQ(std::set<std::string>(list.begin(), list.end()).size(), list.size());
    for (const std::string& id : list) EXPECT_EQ(id.find('/'), std::string::npos) << id;
  }
}

TEST(Plan, OrderIsProblemThenTypeThenPassThenVariant) {
  const RunPlan plan =
      make_run_plan({load_text("name: x\nvariants: [naive, reference]\ntypes: [f16, f32]\n"
                               "passes: [forward, forward_backward]\nproblems: [{layout: 8, window: 3}]\n")},
                    "", kLarge);
  const std::string problem = "8_w3_s1_d1_c0_b1_h1_kv1_dk64_dv64_e0_";
  EXPECT_THAT(ids(plan),
              ElementsAre(problem + "f16.naive.forward", problem + "f16.reference.forward",
                          problem + "f16.naive.forward_backward", problem + "f16.reference.forward_backward",
                          problem + "f32.naive.forward", problem + "f32.reference.forward",
                          problem + "f32.naive.forward_backward", problem + "f32.reference.forward_backward"));
}

TEST(Plan, FilterMatchesIdsAndLabels) {
  const config::Config config = load_text(kTwoProblems);
  EXPECT_THAT(ids(make_run_plan({config}, "second", kLarge)), ElementsAre(kDense, kSecond));
  EXPECT_THAT(ids(make_run_plan({config}, "_w3x3_.*naive", kLarge)), ElementsAre(kFirst));
  EXPECT_THAT(ids(make_run_plan({config}, "^9x8.*dense", kLarge)), ElementsAre(kDense));
  EXPECT_EQ(complaint({config}, "third"), "--filter 'third' matches none of 4 rows");
  EXPECT_EQ(complaint({config}, "["), "--filter '[' is not a regular expression: missing ]: [");
}

TEST(Plan, RefusesWhatDoesNotFitTheMemory) {
  const config::Config config =
      load_text("name: x\nvariants: naive\nproblems: [{layout: 1000000, window: 9, head_dim: 250}]\n");
  const plan::PlannedRow row = make_run_plan({config}, "", {int64_t{1} << 30, 2}).groups.at(0).rows.at(0);
  ASSERT_TRUE(row.refusal.has_value());
  // q, k, v, out: 1 GB each; lse: 4 MB; the oracle's sample: 12 bytes for each of 251 numbers.
  EXPECT_THAT(*row.refusal, HasSubstr("needs 4."));
  EXPECT_THAT(*row.refusal, HasSubstr("of memory (without workspace), the machine has 1.07 GB"));
  EXPECT_FALSE(make_run_plan({config}, "", kLarge).groups.at(0).rows.at(0).refusal.has_value());
}

TEST(Plan, AsksAVariantForNothingBeyondTheMemoryOfTheTensors) {
  static int asked;
  asked = 0;
  Variant greedy;
  greedy.name = "greedy";
  greedy.supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; };
  greedy.takes = [](const Arithmetic&, Pass) { return true; };
  greedy.expected_flops_per_second = 1e9;
  greedy.cost = [](const PlanChoice&) -> PlanCost {
    ++asked;
    return {.shared_bytes = 999'000, .executed_flops = 7};
  };
  Problem p;
  p.axes = {{.extent = 100, .window = 3}};
  const auto refusal = [&](int64_t memory) {
    return plan::make_row(p, greedy, config::RowPass::forward, {}, {memory, 1}).refusal;
  };
  EXPECT_EQ(refusal(1000), "needs 181 kB of memory (without workspace), the machine has 1.00 kB");
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(refusal(1'000'000), "needs 1.18 MB of memory (999 kB of it workspace), the machine has 1.00 MB");
  EXPECT_GT(asked, 0);
}

TEST(Plan, RefusesSelfAttentionWithMorePairsThanCanBeCounted) {
  const config::Config config = load_text(
      "name: x\nvariants: [dense, naive]\npasses: [forward, forward_backward]\n"
      "problems: [{layout: [65536, 65536], window: 3, head_dim: 8}]\n");
  for (const plan::Group& group : make_run_plan({config}, "", kLarge).groups) {
    const plan::PlannedRow& dense = group.rows.at(0);
    EXPECT_EQ(dense.refusal,
              "problem 65536x65536 must be small enough for its FLOPs and bytes to be counted in 64 bits");
    EXPECT_EQ(dense.total_queries, int64_t{1} << 32);
    EXPECT_EQ(dense.attended_pairs, 0);
    EXPECT_EQ(dense.useful_flops, 0);
    const plan::PlannedRow& naive = group.rows.at(1);
    EXPECT_EQ(naive.attended_pairs, 9 * (int64_t{1} << 32));
    EXPECT_EQ(naive.baseline, dense.problem.id());
  }
}

TEST(Plan, MemoryCountsTensorsWorkspaceAndOracle) {
  const plan::PlannedRow row = row_of(make_run_plan({load_text(kTwoProblems)}, "", kLarge), kFirst);
  // q, k, v, out: 288 elements each; lse: 72; oracle: 72 * 5 numbers in double and float.
  EXPECT_EQ(row.memory_bytes, 4 * (4 * 288 + 72) + 12 * 72 * 5 + row.workspace_bytes);
}

TEST(Plan, MemoryCountsTheTensorThatIsBeingStored) {
  const auto row = [](const std::string& storage, const std::string& layout) {
    const RunPlan plan = make_run_plan({load_text("name: x\nvariants: naive\ntypes: bf16\nstore: {tensors: " + storage +
                                                  "}\nproblems: [{layout: " + layout + ", window: 3, head_dim: 4}]\n")},
                                       "", kLarge);
    return plan.groups.at(0).rows.at(0);
  };
  const int64_t bytes = row("none", "9").memory_bytes;
  EXPECT_FALSE(row("none", "9").stores_tensors);
  for (const char* storage : {"sample", "all"}) {
    EXPECT_TRUE(row(storage, "9").stores_tensors);
    EXPECT_EQ(row(storage, "9").memory_bytes, bytes + 4 * 9 * 4) << "float32, whatever the type; one at a time";
  }
  EXPECT_FALSE(row("sample", "1000000").stores_tensors);
  EXPECT_TRUE(row("all", "1000000").stores_tensors);
}

TEST(Plan, ASampleStoresTensorsUpToOneMebibyte) {
  const auto row = [](const std::string& layout) {
    return make_run_plan({load_text("name: x\nvariants: naive\ntypes: f32\nstore: {tensors: sample}\nproblems: "
                                    "[{layout: " +
                                    layout + ", window: 3, heads: 2, heads_kv: 1, head_dim: 1}]\n")},
                         "", kLarge)
        .groups.at(0)
        .rows.at(0);
  };
  EXPECT_EQ(row("32768").tensor_bytes, 1 << 20);
  EXPECT_TRUE(row("32768").stores_tensors);
  EXPECT_FALSE(row("32769").stores_tensors);
}

TEST(Plan, RefusesWhatTheVariantDoesNotSupport) {
  Variant picky;
  picky.name = "picky";
  picky.supports = [](const Problem& p, Pass pass) -> std::optional<std::string> {
    if (pass == Pass::backward) return "no gradients";
    if (p.rank() == 1) return "no single axis";
    return std::nullopt;
  };
  picky.takes = [](const Arithmetic&, Pass) { return true; };
  picky.expected_flops_per_second = 1e9;
  picky.cost = [](const PlanChoice&) -> PlanCost { return {.bytes_per_worker = 100, .executed_flops = 7}; };
  const config::Settings settings;
  Problem p;
  p.axes = {{.extent = 8, .window = 3}};
  EXPECT_EQ(plan::make_row(p, picky, config::RowPass::forward, settings, kLarge).refusal, "no single axis");
  p.axes.push_back({.extent = 8, .window = 3});
  EXPECT_EQ(plan::make_row(p, picky, config::RowPass::forward_backward, settings, kLarge).refusal, "no gradients");
  const plan::PlannedRow row = plan::make_row(p, picky, config::RowPass::forward, settings, kLarge);
  EXPECT_EQ(row.refusal, std::nullopt);
  EXPECT_EQ(row.workspace_bytes, 200);
  EXPECT_EQ(row.executed_flops, 7);
}

TEST(Plan, RunsOnADeviceThatIsNotHereAreLeftOut) {
  const config::Config config = load_text(
      "name: x\nvariants: [naive, hopper_dense, hopper]\ntypes: bf16\n"
      "runs: [{device: cuda}, {device: cpu}, {variants: hopper, types: f16}]\n"
      "problems: [{layout: 9, window: 3}, {layout: 9, window: 5}]\nmodels: {model: NAT-M}\n");
  RunPlan plan = make_run_plan({config}, "", kLarge);
  const int64_t all = plan.rows();
  leave_out_absent_devices(plan);
  // Self attention stands for both problems.
  EXPECT_THAT(plan.left_out, ElementsAre(testing::Pair(Device::cuda, 2 + 1 + 2)));
  EXPECT_EQ(plan.rows(), all - 5);
  for (const std::string& id : ids(plan)) EXPECT_EQ(id.find("bf16.hopper"), std::string::npos) << id;
  EXPECT_THAT(plan::summary(plan, 0), HasSubstr("\n  cuda    leaves out 5 rows: it needs a build with CUDA\n"));
  // What names no device is refused, as ever.
  EXPECT_THAT(plan::summary(plan, 0), HasSubstr("\n  refused 2 rows: hopper: hopper needs a build with CUDA ("));
  EXPECT_EQ(plan.groups.at(0).rows.at(0).position, 4 + 2) << "as on a machine that has the device";
}

/// The plans of one problem with every variant but the reference.
RunPlan with_tilings(const std::string& keys) {
  return make_run_plan({load_text("name: x\nvariants: [dense, naive, gemm, fused]\n" + keys +
                                  "problems: [{layout: [20, 30], window: 5, head_dim: 8}]\n")},
                       "", kLarge);
}

TEST(Plan, ATilingIsForVariantsThatHaveTilesAndStandsInTheId) {
  const std::string id = "20x30_w5x5_s1x1_d1x1_c0x0_b1_h1_kv1_dk8_dv8_e0_f32.";
  const std::string dense = "20x30_w20x30_s1x1_d1x1_c0x0_b1_h1_kv1_dk8_dv8_e0_f32.dense.forward";
  const RunPlan best = with_tilings("");
  EXPECT_THAT(ids(best), ElementsAre(dense, id + "naive.forward", id + "gemm.forward", id + "fused.forward"));
  EXPECT_TRUE(row_of(best, dense).plans.at(0).tiling().flat);

  const RunPlan fixed = with_tilings("tiling: static\n");
  EXPECT_THAT(ids(fixed),
              ElementsAre(dense, id + "naive.forward", id + "gemm.forward.static", id + "fused.forward.static"));
  EXPECT_EQ(row_of(fixed, dense).plans, row_of(best, dense).plans) << "the baseline keeps its best";
  EXPECT_EQ(row_of(fixed, id + "gemm.forward.static").refusal, "variant gemm has no static KV tiling");
  EXPECT_TRUE(row_of(fixed, id + "fused.forward.static").plans.at(0).tiling().has_static_kv());

  // A stored tiling is replayed to the letter.
  const std::string text = "q2x2x8_s1x1x2_kv1x1x1_l32_h1_b64";
  const RunPlan replayed = with_tilings("tiling: " + text + "\n");
  EXPECT_EQ(row_of(replayed, id + "fused.forward." + text).plans.at(0).tiling_text(), text);
  const RunPlan bad = with_tilings("tiling: q2x2x8_s1x1x2_kv1x1x1_l32_h2_b64\n");
  EXPECT_EQ(row_of(bad, id + "fused.forward.q2x2x8_s1x1x2_kv1x1x1_l32_h2_b64").refusal,
            "tiling q2x2x8_s1x1x2_kv1x1x1_l32_h2_b64: h must divide the 1 query heads of a kv head");
}

TEST(Plan, ARunMayHaveATilingOfItsOwn) {
  const RunPlan both = with_tilings("runs: [{}, {tiling: static}]\n");
  EXPECT_EQ(both.rows(), 6) << "dense and naive once";
  EXPECT_EQ(both.repeated, 2);
}

TEST(Plan, SamplesGradientsBeyondTheBudget) {
  const config::Config config = load_text(
      "name: x\nvariants: reference\npasses: [forward, forward_backward]\n"
      "verify: {budget_seconds: 1, sampled_queries: 10}\n"
      "problems: [{layout: 40, window: 9}, {layout: [90, 90], window: 9, heads: 4, heads_kv: 2, extra_tokens: 3},\n"
      "  {layout: [1000, 1000], window: 9, extra_tokens: 300}, {layout: [1000, 1000], window: 3, head_dim: 8}]\n");
  const RunPlan plan = make_run_plan({config}, "", kLarge);
  const auto sample = [&](std::size_t group) { return plan.groups.at(group).rows.at(0).gradient_sample; };
  for (const std::size_t forward : {0, 2, 4, 6}) EXPECT_FALSE(sample(forward).has_value());
  EXPECT_FALSE(sample(1).has_value()) << "small enough to be compared as a whole";
  ASSERT_TRUE(sample(3).has_value());
  EXPECT_EQ(sample(3)->queries, 10);
  EXPECT_EQ(sample(3)->keys, 10);
  EXPECT_EQ(sample(3)->extra_tokens, 6) << "all three, of two kv heads";
  ASSERT_TRUE(sample(5).has_value());
  EXPECT_LT(sample(5)->extra_tokens, 10) << "a million queries for each";
  ASSERT_TRUE(sample(7).has_value());
  EXPECT_EQ(sample(7)->extra_tokens, 0);
  const plan::PlannedRow& row = plan.groups.at(5).rows.at(0);
  EXPECT_FALSE(row.refusal.has_value()) << *row.refusal;
  EXPECT_THAT(plan::listing(plan), HasSubstr(" queries and gradients of 10 queries and 10 keys, about "));
}

TEST(Plan, AGradientSampleTakesLessTimeAndMemoryThanAllGradients) {
  config::Settings settings;
  Problem p;
  p.axes = {{.extent = 60, .window = 9}, {.extent = 60, .window = 9}};
  const auto row = [&](double budget_seconds) {
    settings.verify = {.budget_seconds = budget_seconds, .sampled_queries = 10};
    return plan::make_row(p, find_variant("naive"), config::RowPass::forward_backward, settings, kLarge);
  };
  const plan::PlannedRow all = row(1000), sampled = row(0);
  EXPECT_FALSE(all.gradient_sample.has_value());
  EXPECT_TRUE(sampled.gradient_sample.has_value());
  EXPECT_LT(sampled.memory_bytes, all.memory_bytes);
  EXPECT_LT(sampled.seconds, all.seconds);
}

TEST(Plan, BothPassesAddUp) {
  const config::Config config =
      load_text("name: x\nvariants: reference\npasses: forward_backward\nproblems: [{layout: 8, window: 3}]\n");
  const plan::PlannedRow row = make_run_plan({config}, "", kLarge).groups.at(0).rows.at(0);
  EXPECT_EQ(row.useful_flops, row.problem.useful_flops(Pass::forward) + row.problem.useful_flops(Pass::backward));
  EXPECT_EQ(row.tensor_bytes, row.problem.tensor_bytes(Pass::forward) + row.problem.tensor_bytes(Pass::backward));
}

TEST(Plan, SamplesQueriesBeyondTheBudget) {
  const config::Config config = load_text(
      "name: x\nvariants: naive\nverify: {budget_seconds: 0, sampled_queries: 10}\nproblems: [{layout: 64, window: "
      "3}]\n");
  EXPECT_EQ(make_run_plan({config}, "", kLarge).groups.at(0).rows.at(0).verified_queries, 10);
}

TEST(Plan, FinishedRowsAreSkipped) {
  RunPlan plan = make_run_plan({load_text(kTwoProblems)}, "", kLarge);
  plan::skip_finished(plan, {kDense, kFirst, "another"});
  EXPECT_THAT(ids(plan), ElementsAre(kSecond));
  EXPECT_EQ(plan.groups.size(), 1u);
}

const char* kSimulated = R"(
name: simulated
simulations:
  - {table: t, label: one, layout: [9, 8], window: 3, q_tile: 4, kv_tile: [2, 4], rows: [{stride: 1}, {stride: 2}]}
  - {table: t, layout: [9, 8], window: 3, q_tile: 4, kv_tile: [2, 4], label: once more}
  - {table: u, layout: [9, 8], window: 3, q_tile: 4, kv_tile: [2, 4], steps: 8, dense_steps: 3, round_speedup: true}
)";

std::vector<std::string> simulation_ids(const RunPlan& plan) {
  std::vector<std::string> list;
  for (const plan::Simulation& simulation : plan.simulations) list.push_back(simulation.id);
  return list;
}

TEST(Plan, SimulationsAreListedFilteredAndSkippedAsRowsAre) {
  const std::string problem = "9x8_w3x3_s1x1_d1x1_c0x0_b1_h1_kv1_dk64_dv64_e0_f32.q4x4_kv2x4_static.";
  const std::string first = "t." + problem + "share1_dense0of1";
  const std::string second = "t.9x8_w3x3_s2x2" + problem.substr(13) + "share1_dense0of1";
  const std::string third = "u." + problem + "share1_dense3of8_rounded";
  const config::Config config = load_text(kSimulated);
  RunPlan plan = make_run_plan({config}, "", kLarge);
  EXPECT_THAT(simulation_ids(plan), ElementsAre(first, second, third));
  EXPECT_EQ(plan.simulations[1].config, "simulated");
  EXPECT_EQ(plan.rows(), 0);
  EXPECT_EQ(plan.repeated, 1);
  EXPECT_EQ(plan::summary(plan, 2), "plan: 3 simulations, 1 requested more than once\n");
  EXPECT_THAT(plan::listing(plan), HasSubstr(second + "  [one] simulation\n"));

  EXPECT_THAT(simulation_ids(make_run_plan({config}, "^u", kLarge)), ElementsAre(third));
  EXPECT_THAT(simulation_ids(make_run_plan({config}, "^one$", kLarge)), ElementsAre(first, second));
  EXPECT_EQ(complaint({config}, "third"), "--filter 'third' matches none of 4 rows");
  plan::skip_finished(plan, {first, third});
  EXPECT_THAT(simulation_ids(plan), ElementsAre(second));

  const RunPlan both = make_run_plan({config, load_text(kTwoProblems)}, "", kLarge);
  EXPECT_EQ(both.simulations.size(), 3u);
  EXPECT_THAT(plan::summary(both, 2), testing::StartsWith("plan: 3 simulations\nplan: 3 rows in 2 groups, 0 refused"));
}

TEST(Plan, AnnouncedMemoryIsWhatIsHeld) {
  RunPlan plan = make_run_plan({load_text("name: x\nvariants: reference\npasses: forward_backward\n"
                                          "problems: [{layout: 8, window: 3}]\n")},
                               "", kLarge);
  plan::PlannedRow& row = plan.groups.at(0).rows.at(0);
  row.tensor_bytes = 9'000'000;
  row.workspace_bytes = 2'000'000;
  row.memory_bytes = 7'000'000;
  EXPECT_THAT(plan::summary(plan, 2),
              HasSubstr("  memory  at most 7.00 MB at a time (tensors and oracle up to 5.00 MB, "
                        "workspace up to 2.00 MB)\n"));
  EXPECT_THAT(plan::listing(plan), HasSubstr(", memory 7.00 MB with workspace 2.00 MB, verify "));
}

TEST(Plan, SummaryGroupsRefusals) {
  const config::Config config = load_text(
      "name: x\nvariants: [reference]\npasses: forward_backward\n"
      "problems: [{layout: 8, window: 3}, {layout: 8, window: 3, stride: 2}]\n");
  const RunPlan plan = make_run_plan({config}, "", {1000, 1});
  EXPECT_THAT(plan::summary(plan, 2), HasSubstr("plan: 2 rows in 2 groups, 2 refused, 0 requested more than once\n"));
  EXPECT_THAT(plan::summary(plan, 2), HasSubstr("  refused 2 rows: reference: needs "));
  EXPECT_THAT(plan::listing(plan), HasSubstr("refused: needs "));
}

TEST(Plan, SummaryCountsTheTimeOfThePeaks) {
  RunPlan plan = make_run_plan({load_text(kTwoProblems)}, "", kLarge);
  for (plan::Group& group : plan.groups) {
    for (plan::PlannedRow& row : group.rows) row.seconds = 0.5;
  }
  EXPECT_THAT(plan::summary(plan, 2), HasSubstr("  time    very roughly 3.50 s\n"));
  EXPECT_THAT(plan::summary(plan, 0), HasSubstr("  time    very roughly 1.50 s\n"));
}

TEST(Units, ThreeDigits) {
  EXPECT_EQ(plan::bytes_text(0), "0 B");
  EXPECT_EQ(plan::bytes_text(999), "999 B");
  EXPECT_EQ(plan::bytes_text(1610000000), "1.61 GB");
  EXPECT_EQ(plan::bytes_text(999'600), "1.00 MB");
  EXPECT_EQ(plan::flops_text(12'340'000), "12.3 MFLOP");
  EXPECT_EQ(plan::seconds_text(85.12e-6), "85.1 us");
  EXPECT_EQ(plan::seconds_text(0.5), "500 ms");
  EXPECT_EQ(plan::seconds_text(1.2), "1.20 s");
  EXPECT_EQ(plan::seconds_text(200), "3 min 20 s");
  EXPECT_EQ(plan::seconds_text(3 * 3600 + 120), "3 h 2 min");
}

}  // namespace
}  // namespace nalab
