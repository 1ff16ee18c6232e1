// What the runner stores of rows, tensors and simulations, and the lines of its progress.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "experiments/runner/progress.h"
#include "experiments/runner/runner.h"
#include "tests/experiments/runner/runner_fixture.h"
#include "tests/experiments/support.h"

namespace nalab::runner_test {
namespace {

using testing::ElementsAre;

TEST_F(RunnerTest, DescribesTheRow) {
  const store::Row r = run({row(kA)}).at("a").row;
  EXPECT_EQ(r.id, problem_.id() + ".a.forward");
  EXPECT_EQ(r.problem, problem_.id());
  EXPECT_EQ(r.baseline, problem_.self_attention().id());
  EXPECT_EQ(r.layout, "7x5");
  EXPECT_EQ(r.window, "3x2");
  EXPECT_EQ(r.causal, "0x0");
  EXPECT_EQ(r.scale, 0.5);
  EXPECT_EQ(r.device, "cpu");
  EXPECT_EQ(r.isa, "baseline");
  EXPECT_EQ(r.arithmetic, "f32_fma");
  EXPECT_EQ(r.tiling, "") << "no tiles";
  EXPECT_EQ(r.backward_arithmetic, "") << "the forward pass alone";
  EXPECT_EQ(r.threads, 1);
  EXPECT_EQ(r.pass, "forward");
  EXPECT_EQ(r.attended_pairs, 7 * 5 * 3 * 2);
  EXPECT_EQ(r.useful_flops, 2 * 2 * 7 * 5 * 3 * 2 * 8);
  EXPECT_EQ(r.executed_flops, 1000);
  EXPECT_EQ(r.workspace_bytes, 64);
}

TEST_F(RunnerTest, RowsStoreTheTilingsThatTheyRanWith) {
  script.clock.tick = 1;
  problem_.axes = {{.extent = 70, .window = 30}};
  settings_.backward_tiling = kStaticTiling;
  const plan::PlannedRow planned = row(find_variant("fused"), RowPass::forward_backward);
  const store::Row r = run({planned}).at("fused").row;
  EXPECT_EQ(r.status, "done") << r.reason;
  EXPECT_EQ(r.id, problem_.id() + ".fused.forward_backward.backward_static");
  EXPECT_EQ(r.tiling, planned.plans.at(0).tiling_text());
  EXPECT_EQ(r.backward_tiling, planned.plans.at(1).tiling_text());
  EXPECT_FALSE(parse_tiling(r.tiling).has_static_kv());
  EXPECT_TRUE(parse_tiling(r.backward_tiling).has_static_kv());
}

TEST_F(RunnerTest, TensorsAreKeptOnRequest) { EXPECT_TRUE(run({row(kA)}).at("a").tensors.empty()); }

TEST_F(RunnerTest, KeptTensorsHaveTheirShapes) {
  settings_.store.tensors = config::TensorStorage::all;
  problem_.extra_tokens = 3;
  std::map<std::string, std::vector<int64_t>> shapes;
  const auto got = run({row(kA, RowPass::forward_backward)});
  for (const store::StoredTensor& t : got.at("a").tensors) {
    shapes[t.name] = t.shape;
    int64_t elements = 1;
    for (const int64_t extent : t.shape) elements *= extent;
    EXPECT_EQ(static_cast<int64_t>(t.data.size()), elements) << t.name;
  }
  EXPECT_THAT(shapes["q"], ElementsAre(1, 7, 5, 2, 4));
  EXPECT_THAT(shapes["extra_k"], ElementsAre(1, 3, 2, 4));
  EXPECT_THAT(shapes["lse"], ElementsAre(1, 7, 5, 2));
  EXPECT_EQ(shapes.size(), 13u);
}

TEST_F(RunnerTest, KeepsTheTensorsOfRowsThatStoreThem) {
  for (const bool stores : {true, false}) {
    plan::PlannedRow planned = row(kA);
    planned.stores_tensors = stores;
    EXPECT_EQ(run({planned}).at("a").tensors.size(), stores ? 3u + 2u : 0u);
    testing::Mock::VerifyAndClearExpectations(&sink_);
    testing::Mock::VerifyAndClearExpectations(&progress_);
  }
}

TEST_F(RunnerTest, AFullDiskEndsTheRun) {
  plan::RunPlan plan;
  plan.groups.push_back({{row(kA)}, settings_});
  plan.groups.push_back({{row(kB)}, settings_});
  EXPECT_CALL(sink_, append).WillOnce(testing::Throw(Error("x.h5: no space")));
  EXPECT_CALL(progress_, started);
  Workers workers(1);
  EXPECT_THROW(runner::run(plan, workers, script.clock, script.host, sink_, progress_), Error);
  EXPECT_EQ(script.calls.find('b'), std::string::npos);
}

TEST_F(RunnerTest, SimulationsAreStoredInOneBatchBesideTheirPublishedFigures) {
  const config::Config config = experiments_test::load_text(
      "name: x\nsimulations:\n- {table: t, label: a, layout: [12, 16], causal: [false, true], extra_tokens: 3,\n"
      "   q_tile: 4, kv_tile: [2, 4], kv_tiling: dynamic, tiles_note: b, window: [6, 8], attention_share: 0.5,\n"
      "   steps: 4, dense_steps: 1, rows: [\n"
      "   {round_speedup: true, published: {flops: 1.5, simulated: 1.25, actual: 1.125}, exception: c},\n"
      "   {stride: [6, 8], causal: false, extra_tokens: 0, kv_tiling: static}]}\n");
  plan::RunPlan plan = plan::make_run_plan({config}, "", {int64_t{1} << 40, 1});
  std::vector<store::SimulationRow> rows;
  EXPECT_CALL(sink_, append_simulations).WillOnce([&](std::span<const store::SimulationRow> simulations) {
    rows.assign(simulations.begin(), simulations.end());
  });
  Workers workers(1);
  EXPECT_EQ(runner::run(plan, workers, script.clock, script.host, sink_, progress_).simulated, 2);
  ASSERT_EQ(rows.size(), 2u);
  const store::SimulationRow& row = rows[0];
  EXPECT_EQ(row.id, plan.simulations[0].id);
  EXPECT_EQ(row.config, "x");
  EXPECT_EQ(row.table, "t");
  EXPECT_EQ(row.label, "a");
  EXPECT_EQ(row.layout, "12x16");
  EXPECT_EQ(row.window, "6x8");
  EXPECT_EQ(row.stride, "1x1");
  EXPECT_EQ(row.dilation, "1x1");
  EXPECT_EQ(row.causal, "0x1");
  EXPECT_EQ(row.extra_tokens, 3);
  EXPECT_EQ(row.q_tile, "4x4");
  EXPECT_EQ(row.kv_tile, "2x4");
  EXPECT_EQ(row.tiles_note, "b");
  EXPECT_EQ(row.kv_tiling, "dynamic");
  EXPECT_EQ(row.attention_share, 0.5);
  EXPECT_EQ(row.steps, 4);
  EXPECT_EQ(row.dense_steps, 1);
  EXPECT_EQ(row.round_speedup, 1);
  EXPECT_EQ(row.query_tiles, 12);
  EXPECT_EQ(row.published_flops, 1.5);
  EXPECT_EQ(row.published_simulated, 1.25);
  EXPECT_EQ(row.published_actual, 1.125);
  EXPECT_EQ(row.exception, "c");

  // Windows of 6x8 laid as blocks: one in four tokens is attended to. A query tile of 4x4 touches two of the blocks
  // along the first axis.
  const store::SimulationRow& blocked = rows[1];
  EXPECT_EQ(blocked.all_pairs, 192 * 192);
  EXPECT_EQ(blocked.attended_pairs, 192 * 48);
  EXPECT_EQ(blocked.tiles_total, 24);
  EXPECT_EQ(blocked.tiles_visited_worst, 12);
  EXPECT_EQ(blocked.tiles_visited, 4 * (6 + 12 + 6));
  EXPECT_EQ(blocked.tiles_full, 4 * (6 + 0 + 6));
  EXPECT_EQ(blocked.computed_pairs, 4 * 16 * 8 * (6 + 12 + 6));
  EXPECT_EQ(blocked.speedup_flops, 4);
  EXPECT_EQ(blocked.speedup_worst, 2);
  EXPECT_EQ(blocked.speedup_mean, 3);
  EXPECT_DOUBLE_EQ(blocked.end_to_end_flops, 1 / (1 - 0.375 + 0.375 / 4));
  EXPECT_DOUBLE_EQ(blocked.end_to_end_simulated, 1 / (1 - 0.375 + 0.375 / 2));
  EXPECT_EQ(blocked.round_speedup, 0);
  EXPECT_EQ(blocked.published_flops, 0);
}

TEST_F(RunnerTest, ProgressHasALinePerGroupAndNoneOverwrittenOffATerminal) {
  plan::RunPlan plan;
  plan.groups.push_back({{row(kA), row(kB)}, settings_});
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  runner::ProgressLines lines(plan, script.clock, file, false);
  store::FinishedRow done, failed;
  done.row.variant = "a";
  done.row.status = "done";
  done.row.samples = {3e-3, 1e-3, 2e-3};
  failed.row.id = "p.b.forward";
  failed.row.problem = "p";
  failed.row.variant = "b";
  failed.row.pass = "forward";
  failed.row.status = "failed";
  failed.row.reason = "why";
  lines.started(plan.groups[0]);
  lines.finished(std::vector<store::FinishedRow>{done, failed});
  std::rewind(file);
  std::string text(200, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  EXPECT_EQ(text, "[1/1] p forward: a 2.00 ms, b failed\n  failed: p.b.forward: why\n");
}

TEST_F(RunnerTest, ProgressSaysWhyARowIsRefusedUnlessThePlanHasSaid) {
  plan::RunPlan plan;
  plan.groups.push_back({{row(kA), row(kB)}, settings_});
  plan.groups[0].rows[0].refusal = "of another world";
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  runner::ProgressLines lines(plan, script.clock, file, false);
  store::FinishedRow planned, late;
  planned.row.variant = "a";
  late.row.variant = "b";
  late.row.problem = "p";
  late.row.pass = "forward";
  planned.row.status = late.row.status = "refused";
  planned.row.id = "p.a.forward";
  late.row.id = "p.b.forward";
  late.row.reason = "too large";
  lines.started(plan.groups[0]);
  lines.finished(std::vector<store::FinishedRow>{planned, late});
  std::rewind(file);
  std::string text(200, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  EXPECT_EQ(text, "[1/1] p forward: a refused, b refused\n  refused: p.b.forward: too large\n");
}

}  // namespace
}  // namespace nalab::runner_test
