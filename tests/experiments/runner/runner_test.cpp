#include "experiments/runner/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <stdexcept>

#include "core/error.h"
#include "experiments/runner/progress.h"
#include "tests/experiments/support.h"

namespace nalab {
namespace {

using config::RowPass;
using runner::Totals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

/// A clock that stands still unless a fake variant lets time pass.
class FakeClock : public runner::Clock {
 public:
  double seconds() override { return now; }
  double now = 100;
};

/// What the fake variants do and what was done to them. They are plain functions, hence a global.
struct Script {
  FakeClock clock;
  std::string calls;  ///< one letter per call: a, b, g (backward of a), p (packing of a)
  double seconds_of_a = 1, seconds_of_b = 1;
  float error_of_b = 0;  ///< added to the first element of out
  bool b_writes = true;
  int b_throws = 0;  ///< 1: no memory, 2: an error
  int b_throws_at_call = 1;
  int calls_of_b = 0;
  double seconds_of_packing = 0;  ///< of the call before; each takes longer
  bool packing_throws = false;
  std::vector<float> first_q;
};
Script script;

/// The right result, by the reference.
void compute(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
  find_variant("reference").forward(plan, inputs, outputs, execution);
}

void forward_a(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
  script.calls += 'a';
  script.clock.now += script.seconds_of_a;
  EXPECT_GE(execution.workspace.size(), 64u);
  const float* q = static_cast<const float*>(inputs.q.data);
  script.first_q.assign(q, q + 4);
  compute(plan, inputs, outputs, execution);
}

void backward_a(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
                const Execution& execution) {
  script.calls += 'g';
  script.clock.now += 10;
  find_variant("reference").backward(plan, inputs, saved, gradients, execution);
}

void pack_a(const Plan&, const Inputs& inputs, const Execution& execution) {
  script.calls += 'p';
  script.clock.now += script.seconds_of_packing += 0.25;
  if (script.packing_throws) throw std::runtime_error("broken box");
  EXPECT_GE(execution.workspace.size(), 64u);
  EXPECT_NE(inputs.k.data, nullptr);
}

void forward_b(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
  script.calls += 'b';
  script.clock.now += script.seconds_of_b;
  ++script.calls_of_b;
  if (script.b_throws == 1 && script.calls_of_b == script.b_throws_at_call) throw std::bad_alloc();
  if (script.b_throws == 2 && script.calls_of_b == script.b_throws_at_call) throw std::runtime_error("broken pipe");
  if (script.b_writes) {
    compute(plan, inputs, outputs, execution);
    static_cast<float*>(outputs.out.data)[0] += script.error_of_b;
  }
}

Variant fake(std::string_view name) {
  Variant variant;
  variant.name = name;
  variant.supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; };
  variant.takes = [](const Arithmetic& arithmetic, Pass) { return arithmetic.name == kF32Fma; };
  variant.expected_flops_per_second = 1e9;
  variant.cost = [](const PlanChoice&) -> PlanCost { return {.shared_bytes = 64, .executed_flops = 1000}; };
  variant.forward = name == "a" ? forward_a : forward_b;
  variant.backward = name == "a" ? backward_a : nullptr;
  return variant;
}
const Variant kA = fake("a");
const Variant kB = fake("b");

class MockSink : public store::ResultsSink {
 public:
  MOCK_METHOD(void, append, (std::span<const store::FinishedRow>), (override));
  MOCK_METHOD(void, append_simulations, (std::span<const store::SimulationRow>), (override));
};

class MockProgress : public runner::Progress {
 public:
  MOCK_METHOD(void, started, (const plan::Group&), (override));
  MOCK_METHOD(void, finished, (std::span<const store::FinishedRow>), (override));
};

class RunnerTest : public testing::Test {
 protected:
  RunnerTest() {
    script = Script{};
    problem_.axes = {{.extent = 7, .window = 3}, {.extent = 5, .window = 2}};
    problem_.heads = problem_.heads_kv = 2;
    problem_.head_dim = problem_.head_dim_v = 4;
    settings_.timing = {.warmups = 1, .min_samples = 3, .max_samples = 10, .min_seconds = 0, .max_seconds = 100};
  }

  plan::PlannedRow row(const Variant& variant, RowPass pass = RowPass::forward) const {
    return plan::make_row(problem_, variant, pass, settings_, {int64_t{1} << 40, 1, Isa::baseline});
  }

  /// Runs one group and returns what the sink got, by variant.
  std::map<std::string, store::FinishedRow> run(std::vector<plan::PlannedRow> rows) {
    plan::RunPlan plan;
    plan.groups.push_back({std::move(rows), settings_});
    std::map<std::string, store::FinishedRow> got;
    EXPECT_CALL(sink_, append).WillOnce([&got](std::span<const store::FinishedRow> finished) {
      for (const store::FinishedRow& f : finished) got[f.row.variant] = f;
    });
    EXPECT_CALL(progress_, started);
    EXPECT_CALL(progress_, finished);
    Workers workers(1);
    totals_ = runner::run(plan, workers, script.clock, sink_, progress_);
    return got;
  }

  Problem problem_;
  config::Settings settings_;
  testing::StrictMock<MockSink> sink_;
  testing::StrictMock<MockProgress> progress_;
  Totals totals_;
};

TEST_F(RunnerTest, VerifiesThenTimesInterleavedInAlternatingOrder) {
  script.seconds_of_b = 2;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(script.calls,
            "ab"
            "ab"
            "ba"
            "ab");
  EXPECT_THAT(got.at("a").row.samples, ElementsAre(1, 1, 1));
  EXPECT_THAT(got.at("b").row.samples, ElementsAre(2, 2, 2));
  EXPECT_EQ(got.at("a").row.status, "done");
  EXPECT_EQ(got.at("a").row.verified_queries, 70);
  EXPECT_LT(got.at("a").row.error_frobenius, 1e-6);
  EXPECT_EQ(got.at("a").row.bound_frobenius, 2e-6);
  EXPECT_EQ(totals_.done, 2);
}

TEST_F(RunnerTest, DescribesTheRow) {
  const store::Row r = run({row(kA)}).at("a").row;
  EXPECT_EQ(r.id, problem_.id() + ".a.forward");
  EXPECT_EQ(r.problem, problem_.id());
  EXPECT_EQ(r.baseline, problem_.self_attention().id());
  EXPECT_EQ(r.layout, "7x5");
  EXPECT_EQ(r.window, "3x2");
  EXPECT_EQ(r.causal, "0x0");
  EXPECT_EQ(r.scale, 0.5);
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
  problem_.axes = {{.extent = 70, .window = 30}};
  settings_.backward_tiling = kStaticTiling;
  const plan::PlannedRow planned = row(find_variant("fused"), RowPass::forward_backward);
  const store::Row r = run({planned}).at("fused").row;
  EXPECT_EQ(r.status, "done") << r.reason;
  EXPECT_EQ(r.id, problem_.id() + ".fused.forward_backward.backward_static");
  EXPECT_EQ(r.tiling, planned.forward->tiling_text());
  EXPECT_EQ(r.backward_tiling, planned.backward->tiling_text());
  EXPECT_FALSE(parse_tiling(r.tiling).has_static_kv());
  EXPECT_TRUE(parse_tiling(r.backward_tiling).has_static_kv());
}

TEST_F(RunnerTest, TheVerifiedCallIsTheFirstWarmUp) {
  settings_.timing.warmups = 3;
  settings_.timing.min_samples = 1;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(script.calls,
            "ab"
            "aabb"
            "ab");
  EXPECT_EQ(got.at("a").row.warmups, 3);
}

TEST_F(RunnerTest, GoesOnUntilTheSamplesAddUpToMinSeconds) {
  settings_.timing.min_samples = 2;
  settings_.timing.min_seconds = 4.5;
  script.seconds_of_b = 2;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("a").row.samples.size(), 5u);
  EXPECT_EQ(got.at("b").row.samples.size(), 3u);
}

TEST_F(RunnerTest, TakesAtMostMaxSamples) {
  settings_.timing.min_seconds = 99;
  EXPECT_EQ(run({row(kA)}).at("a").row.samples.size(), 10u);
}

TEST_F(RunnerTest, EndsAtMaxSecondsWithOneSampleAtLeast) {
  settings_.timing.max_seconds = 2;
  script.seconds_of_b = 50;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("a").row.samples.size(), 2u);
  EXPECT_EQ(got.at("b").row.samples.size(), 1u);
}

TEST_F(RunnerTest, AWrongResultGetsNoTime) {
  script.error_of_b = 1;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(script.calls,
            "ab"
            "aaa");
  EXPECT_EQ(got.at("b").row.status, "failed");
  EXPECT_THAT(got.at("b").row.reason, StartsWith("out: frobenius "));
  EXPECT_THAT(got.at("b").row.reason, HasSubstr("worst at 0: "));
  EXPECT_TRUE(got.at("b").row.samples.empty());
  EXPECT_GT(got.at("b").row.error_max, got.at("b").row.bound_max);
  EXPECT_EQ(got.at("a").row.status, "done");
  EXPECT_EQ(totals_.failed, 1);
}

TEST_F(RunnerTest, AResultThatIsNotWrittenIsNotTheOneOfTheRowBefore) {
  script.b_writes = false;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("b").row.status, "failed");
}

TEST_F(RunnerTest, AWrongResultInASampleOfQueriesFails) {
  settings_.verify = {.budget_seconds = 0, .sampled_queries = 3};
  script.error_of_b = 1;  // at a corner, which every sample includes
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("a").row.status, "done");
  EXPECT_LT(got.at("a").row.verified_queries, 20);
  EXPECT_EQ(got.at("a").row.total_queries, 70);
  EXPECT_EQ(got.at("b").row.status, "failed");
}

TEST_F(RunnerTest, RefusedRowsAreStoredWithTheReason) {
  plan::PlannedRow refused = row(kB);
  refused.refusal = "of another world";
  const auto got = run({row(kA), refused});
  EXPECT_EQ(got.at("b").row.status, "refused");
  EXPECT_EQ(got.at("b").row.reason, "of another world");
  EXPECT_EQ(script.calls, "aaaa");
  EXPECT_EQ(totals_.refused, 1);
}

TEST_F(RunnerTest, MissingMemoryRefusesARow) {
  script.b_throws = 1;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("b").row.status, "refused");
  EXPECT_EQ(got.at("b").row.reason, "not enough memory");
  EXPECT_EQ(got.at("a").row.status, "done");
}

TEST_F(RunnerTest, AnExceptionFailsARow) {
  script.b_throws = 2;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("b").row.status, "failed");
  EXPECT_EQ(got.at("b").row.reason, "broken pipe");
}

TEST_F(RunnerTest, AnExceptionFailsARowAtAnyOfItsCalls) {
  settings_.timing.warmups = 2;
  for (const int call : {1, 2, 3, 4}) {  // verified, warm-up, samples
    script = Script{};
    script.b_throws = 2;
    script.b_throws_at_call = call;
    const auto got = run({row(kA), row(kB)});
    EXPECT_EQ(got.at("b").row.status, "failed") << call;
    EXPECT_EQ(got.at("b").row.reason, "broken pipe") << call;
    EXPECT_TRUE(got.at("b").row.samples.empty()) << call;
    EXPECT_EQ(got.at("a").row.samples.size(), 3u) << call;
    EXPECT_EQ(script.calls_of_b, call);
    testing::Mock::VerifyAndClearExpectations(&sink_);
    testing::Mock::VerifyAndClearExpectations(&progress_);
  }
}

TEST_F(RunnerTest, MissingMemoryForASampleRefusesThatRowAlone) {
  script.b_throws = 1;
  script.b_throws_at_call = 3;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("b").row.status, "refused");
  EXPECT_TRUE(got.at("b").row.samples.empty());
  EXPECT_EQ(got.at("a").row.samples.size(), 3u);
}

TEST_F(RunnerTest, BothPassesAreTimedTogetherAndGradientsVerified) {
  const auto got = run({row(kA, RowPass::forward_backward)});
  EXPECT_EQ(script.calls, "agagagag");
  EXPECT_THAT(got.at("a").row.samples, ElementsAre(11, 11, 11));
  EXPECT_EQ(got.at("a").row.status, "done") << got.at("a").row.reason;
}

TEST_F(RunnerTest, PackingIsTimedAfterTheSamples) {
  Variant packing = kA;
  packing.pack = pack_a;
  settings_.timing.min_samples = 9;
  const auto got = run({row(packing), row(kB)});
  EXPECT_TRUE(script.calls.ends_with("abppppp")) << script.calls;
  EXPECT_EQ(got.at("a").row.packing_seconds, 0.75) << "the median of 0.25 to 1.25";
  EXPECT_EQ(got.at("b").row.packing_seconds, 0);
  EXPECT_EQ(got.at("a").row.samples.size(), 9u);
}

TEST_F(RunnerTest, PackingTakesNoMoreSamplesThanAsked) {
  Variant packing = kA;
  packing.pack = pack_a;
  settings_.timing.min_samples = 2;
  run({row(packing)});
  EXPECT_EQ(script.calls, "aaapp");
}

TEST_F(RunnerTest, PackingIsTimedForTheForwardPassAlone) {
  Variant packing = kA;
  packing.pack = pack_a;
  EXPECT_EQ(run({row(packing, RowPass::forward_backward)}).at("a").row.packing_seconds, 0);
  EXPECT_EQ(script.calls.find('p'), std::string::npos);
}

TEST_F(RunnerTest, PackingThatThrowsFailsTheRow) {
  Variant packing = kA;
  packing.pack = pack_a;
  script.packing_throws = true;
  const auto got = run({row(packing)});
  EXPECT_EQ(got.at("a").row.status, "failed");
  EXPECT_EQ(got.at("a").row.reason, "broken box");
  EXPECT_TRUE(got.at("a").row.samples.empty());
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

TEST_F(RunnerTest, AFullDiskEndsTheRun) {
  plan::RunPlan plan;
  plan.groups.push_back({{row(kA)}, settings_});
  plan.groups.push_back({{row(kB)}, settings_});
  EXPECT_CALL(sink_, append).WillOnce(testing::Throw(Error("x.h5: no space")));
  EXPECT_CALL(progress_, started);
  Workers workers(1);
  EXPECT_THROW(runner::run(plan, workers, script.clock, sink_, progress_), Error);
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
  EXPECT_EQ(runner::run(plan, workers, script.clock, sink_, progress_).simulated, 2);
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

}  // namespace
}  // namespace nalab
