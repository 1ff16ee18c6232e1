// Small models, planned, verified, timed and given to the store.
#include "experiments/runner/model_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <stdexcept>

#include "core/error.h"
#include "core/simd/isa.h"
#include "store/samples.h"
#include "tests/experiments/model/small_models.h"
#include "tests/experiments/runner/runner_fixture.h"
#include "tests/store/temporary_folder.h"

namespace nalab::runner_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class ModelRuns : public testing::Test {
 protected:
  ModelRuns() { experiments_test::write_small_models(folder_.file("small.yaml")); }

  /// Runs a configuration, and returns the rows of models that the sink got.
  std::vector<store::ModelRow> run(const std::string& keys, const std::string& entry) {
    const std::string path = folder_.file("x.yaml");
    std::ofstream(path)
        << "name: x\nvariants: [naive, gemm, fused]\n"
        << "timing: {warmups: 2, min_samples: 3, max_samples: 3, min_seconds: 0, max_noise: 0, max_seconds: 9}\n"
        << keys << "models: [{definitions: small.yaml, " << entry << "}]\n";
    const plan::RunPlan plan =
        plan::make_run_plan({config::load(path, config::Form::full)}, "", {int64_t{1} << 40, 2, choose_isa()});
    std::vector<store::ModelRow> rows;
    EXPECT_CALL(sink_, append_models).WillRepeatedly([&rows](std::span<const store::ModelRow> given) {
      rows.insert(rows.end(), given.begin(), given.end());
    });
    Workers workers(2);
    runner::SteadyClock clock;
    totals_ = runner::run(plan, workers, clock, host_, sink_, progress_);
    return rows;
  }

  TemporaryFolder folder_;
  FakeHost host_;
  testing::StrictMock<MockSink> sink_;
  testing::StrictMock<MockProgress> progress_;
  runner::Totals totals_;
};

void expect_timed(const store::ModelRow& row) {
  ASSERT_EQ(row.status, "done") << row.reason;
  EXPECT_EQ(row.samples.size(), 3u);
  EXPECT_EQ(row.stopped_by, "count");
  EXPECT_EQ(row.warmups, 2);
  EXPECT_GT(row.attention_seconds, 0);
  EXPECT_LT(row.attention_seconds, store::median(row.samples));
  EXPECT_LE(row.error_frobenius, row.bound_frobenius);
}

TEST_F(ModelRuns, VariantsAreVerifiedAndTimed) {
  host_.seen = {0.5, 0.25, 0.125, 7e9, 8e9, 123'000};
  const auto rows = run("", "model: [tiny, painter], batch: 3");
  ASSERT_EQ(rows.size(), 6u);
  EXPECT_EQ(totals_.done, 6);
  EXPECT_EQ(host_.watched, 2);
  for (const store::ModelRow& row : rows) expect_timed(row);
  const store::ModelRow& naive = rows[0];
  EXPECT_EQ(naive.id, "tiny_26x26_rpb_b3_f32.naive.forward");
  EXPECT_EQ(naive.verified, "logits of one image with those by the reference attention");
  EXPECT_EQ(naive.bound_frobenius, 1e-5);
  EXPECT_EQ(naive.height, 26);
  EXPECT_EQ(naive.batch, 3);
  EXPECT_EQ(naive.threads, 2);
  EXPECT_EQ(naive.cpus_stolen, 0.25);
  EXPECT_EQ(naive.peak_after, 8e9);
  EXPECT_EQ(naive.peak_memory_bytes, 123'000);
  EXPECT_EQ(rows[2].verified,
            "logits of one image with those by the reference attention; logits of all 3 with those by naive");
  EXPECT_GT(rows[2].error_frobenius, 0);
  EXPECT_THAT(rows[5].verified, StartsWith("images of one image with "));
  EXPECT_EQ(rows[5].model, "painter");
}

TEST_F(ModelRuns, StepsOfTrainingAreVerifiedByTheirGradients) {
  const auto rows = run("", "model: tiny, batch: 2, pass: training_step, relative_bias: false");
  ASSERT_EQ(rows.size(), 3u);
  for (const store::ModelRow& row : rows) expect_timed(row);
  EXPECT_EQ(rows[1].id, "tiny_26x26_b2_f32.gemm.training_step");
  EXPECT_EQ(rows[1].verified,
            "gradients of one image with those by the reference attention; gradients of all 2 with those by naive");
  EXPECT_GT(rows[1].error_frobenius, 0);
  EXPECT_EQ(rows[1].relative_bias, 0);
}

TEST_F(ModelRuns, InBf16) {
  if (!features(choose_isa()).contains(CpuFeatures::avx512())) GTEST_SKIP() << "oneDNN computes bf16 with AVX-512";
  for (const char* pass : {"forward", "training_step"}) {
    for (const store::ModelRow& row : run("types: bf16\n", std::string("model: tiny, batch: 2, pass: ") + pass)) {
      expect_timed(row);
      EXPECT_EQ(row.type, "bf16");
    }
  }
}

TEST_F(ModelRuns, WithoutTheReferenceTheyAreComparedWithEachOther) {
  const auto rows = run("verify: {budget_seconds: 0}\n", "model: tiny, batch: 2");
  ASSERT_EQ(rows.size(), 3u);
  for (const store::ModelRow& row : rows) expect_timed(row);
  EXPECT_EQ(rows[0].verified, "");
  EXPECT_EQ(rows[0].reason, "not verified: the reference attention would take longer than the budget");
  EXPECT_EQ(rows[1].verified, "logits of all 2 with those by naive");
  EXPECT_EQ(rows[1].reason, "");
}

TEST_F(ModelRuns, WhatIsNotFreeIsRefusedWithTheNumbers) {
  host_.free = 1000;
  for (const store::ModelRow& row : run("", "model: tiny")) {
    EXPECT_EQ(row.status, "refused");
    EXPECT_THAT(row.reason, HasSubstr("the free memory is 1.00 kB"));
    EXPECT_TRUE(row.samples.empty());
  }
  EXPECT_EQ(totals_.refused, 3);
}

TEST_F(ModelRuns, AreDroppedWhereTheRunIsAskedToStop) {
  host_.asked = true;
  EXPECT_TRUE(run("", "model: tiny").empty());
  EXPECT_TRUE(totals_.stopped);
}

TEST_F(ModelRuns, OverTheBudgetAreLeftOut) {
  const std::string timing =
      "timing: {min_samples: 3, max_samples: 3, min_seconds: 0, max_seconds: 9, budget_seconds: 0}\n";
  const std::string path = folder_.file("b.yaml");
  std::ofstream(path) << "name: b\nvariants: fused\n" << timing << "models: [{definitions: small.yaml, model: tiny}]\n";
  const plan::RunPlan plan =
      plan::make_run_plan({config::load(path, config::Form::full)}, "", {int64_t{1} << 40, 2, choose_isa()});
  EXPECT_CALL(sink_, append_models).WillOnce([](std::span<const store::ModelRow> rows) {
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].status, "refused");
    EXPECT_THAT(rows[0].reason, StartsWith("left out: it would take about"));
  });
  Workers workers(2);
  runner::SteadyClock clock;
  EXPECT_EQ(runner::run(plan, workers, clock, host_, sink_, progress_).refused, 1);
}

/// What sessions do: each variant has a result of its own, and time passes in its calls.
struct Sessions {
  std::map<std::string, model::Results> results;  ///< by variant
  std::map<std::string, int> throws;              ///< 1: no memory, 2: an error
  std::string cannot_be_made;
  std::string idle;               ///< a variant that computes nothing
  std::size_t timeless_call = 0;  ///< during which the clock stands, counted from 1; 0: none
  std::vector<std::string> calls;
  std::vector<int64_t> batches;  ///< of the sessions, one after the other
};
Sessions sessions;

class FakeSession : public model::Session {
 public:
  explicit FakeSession(std::vector<std::string> variants) : variants_(std::move(variants)) {}
  double compute(std::size_t variant) override {
    sessions.calls.push_back(variants_.at(variant));
    script.clock.now += 2;
    if (sessions.calls.size() == sessions.timeless_call) script.clock.now -= 3;  // that of the update too
    if (variants_.at(variant) == sessions.idle) return 0;
    last_ = variants_.at(variant);
    if (sessions.throws[last_] == 1) throw std::bad_alloc();
    if (sessions.throws[last_] == 2) throw std::runtime_error("broken pipe");
    return static_cast<double>(std::ranges::count(sessions.calls, last_));
  }
  void forget() override { last_.clear(); }
  void update() override { script.clock.now += 1; }
  /// NaN if nothing was computed since forget().
  model::Results results() const override {
    return last_.empty() ? model::Results{{"logits", {NAN, NAN, NAN, NAN}}} : sessions.results[last_];
  }

 private:
  std::vector<std::string> variants_;
  std::string last_;
};

std::unique_ptr<model::Session> make_fake(const model::Request& request, const model::AttentionOptions& attention,
                                          uint64_t, Workers&) {
  sessions.batches.push_back(request.batch);
  if (!sessions.cannot_be_made.empty()) throw Error(sessions.cannot_be_made);
  return std::make_unique<FakeSession>(attention.variants);
}

class FakeModelRuns : public testing::Test {
 protected:
  FakeModelRuns() {
    script = Script{};
    sessions = Sessions{};
    for (const char* variant : {"reference", "naive", "gemm", "fused"}) {
      sessions.results[variant] = {{"logits", {1, 2, 3, 4}}};
    }
    sessions.results["reference"] = {{"logits", {1, 2}}};
    group_.settings.timing = {.warmups = 2, .min_samples = 3, .max_samples = 3, .min_seconds = 0, .max_seconds = 100};
    for (const char* variant : {"naive", "gemm", "fused"}) {
      plan::PlannedModel& row = group_.rows.emplace_back();
      row.id = variant;
      row.request = {.name = "m", .batch = 2};
      row.variant = &find_variant(variant);
      row.has_reference = true;
    }
  }

  std::map<std::string, store::ModelRow> run() {
    Workers workers(1);
    std::map<std::string, store::ModelRow> rows;
    for (store::ModelRow& row : runner::ModelRun(group_, workers, script.clock, script.host, make_fake).run()) {
      rows.emplace(row.id, row);
    }
    return rows;
  }

  plan::ModelGroup group_;
};

TEST_F(FakeModelRuns, SamplesAreWholeCallsInTurn) {
  const auto rows = run();
  EXPECT_THAT(rows.at("gemm").samples, ElementsAre(3, 3, 3)) << "the update is timed too";
  EXPECT_EQ(rows.at("gemm").attention_seconds, 4) << "of the third to the fifth call";
  EXPECT_THAT(sessions.batches, ElementsAre(1, 2));
  EXPECT_THAT(sessions.calls,
              ElementsAre("reference", "naive", "gemm", "fused",  // verified
                          "naive", "gemm", "fused",               // warm-ups
                          "naive", "gemm", "fused", "fused", "gemm", "naive", "naive", "gemm", "fused"));
}

TEST_F(FakeModelRuns, ACallInWhichTheClockStandsIsNoSampleOfAttentionEither) {
  sessions.timeless_call = 9;  // the third of gemm
  const auto rows = run();
  EXPECT_THAT(rows.at("gemm").samples, ElementsAre(3, 3, 3));
  EXPECT_EQ(rows.at("gemm").attention_seconds, 5) << "of the fourth to the sixth call";
  EXPECT_EQ(rows.at("fused").attention_seconds, 4);
}

TEST_F(FakeModelRuns, NothingMoreIsMadeWhereAllAreWrong) {
  for (plan::PlannedModel& row : group_.rows) row.request.training = true;
  sessions.results["reference"] = {{"logits", {7, 2, 3, 4}}};
  const auto rows = run();
  ASSERT_EQ(rows.size(), 3u);
  for (const auto& [id, row] : rows) EXPECT_EQ(row.status, "failed") << id;
  EXPECT_THAT(sessions.batches, ElementsAre(1)) << "one image; no session without variants";
}

TEST_F(FakeModelRuns, AWrongResultFailsItsRowAlone) {
  sessions.results["gemm"] = {{"logits", {1, 2.1F, 3, 4}}};   // the image that the reference has
  sessions.results["fused"] = {{"logits", {1, 2, 3, 4.1F}}};  // another one
  const auto rows = run();
  EXPECT_EQ(rows.at("naive").status, "done");
  EXPECT_EQ(rows.at("gemm").status, "failed");
  EXPECT_EQ(rows.at("gemm").reason,
            "logits of one image with those by the reference attention differ by 0.045 of their norm, bound 1e-05");
  EXPECT_TRUE(rows.at("gemm").samples.empty());
  EXPECT_EQ(rows.at("fused").reason, "logits of all 2 with those by naive differ by 0.018 of their norm, bound 1e-05");
  EXPECT_EQ(rows.at("fused").attention_seconds, 0);
}

TEST_F(FakeModelRuns, TheFirstRightOneIsWhatOthersAreComparedWith) {
  sessions.results["naive"] = {{"logits", {7, 2, 3, 4}}};
  const auto rows = run();
  EXPECT_EQ(rows.at("naive").status, "failed");
  EXPECT_EQ(rows.at("fused").status, "done");
  EXPECT_THAT(rows.at("fused").verified, HasSubstr("with those by gemm"));
}

TEST_F(FakeModelRuns, GradientsAreComparedOneByOne) {
  for (plan::PlannedModel& row : group_.rows) row.request.training = true;
  for (auto& [variant, results] : sessions.results) results = {{"a", {1000, 0}}, {"b", {0, 1}}};
  sessions.results["fused"] = {{"a", {1000, 0}}, {"b", {0, 1.01F}}};
  const auto rows = run();
  EXPECT_EQ(rows.at("gemm").status, "done") << rows.at("gemm").reason;
  EXPECT_THAT(rows.at("fused").reason,
              StartsWith("b of one image with those by the reference attention differ by 0.01"));
}

TEST_F(FakeModelRuns, WhatAnEarlierVariantLeftIsNoResult) {
  sessions.idle = "gemm";
  const auto rows = run();
  EXPECT_EQ(rows.at("naive").status, "done");
  EXPECT_EQ(rows.at("gemm").status, "failed");
  EXPECT_THAT(rows.at("gemm").reason, HasSubstr("differ by nan of their norm"));
  EXPECT_EQ(rows.at("fused").status, "done");
}

TEST_F(FakeModelRuns, WhatThrowsEndsItsRow) {
  sessions.throws = {{"naive", 1}, {"gemm", 2}};
  const auto rows = run();
  EXPECT_EQ(rows.at("naive").status, "refused");
  EXPECT_EQ(rows.at("naive").reason, "not enough memory");
  EXPECT_EQ(rows.at("gemm").status, "failed");
  EXPECT_EQ(rows.at("gemm").reason, "broken pipe");
  EXPECT_EQ(rows.at("fused").status, "done");
}

TEST_F(FakeModelRuns, WhatCannotBeMadeIsRefused) {
  sessions.cannot_be_made = "oneDNN, in bf16 on this CPU: no";
  for (const auto& [id, row] : run()) {
    EXPECT_EQ(row.status, "refused");
    EXPECT_EQ(row.reason, "oneDNN, in bf16 on this CPU: no");
  }
}

TEST_F(FakeModelRuns, WhatThePlanRefusesIsNotMade) {
  group_.rows[0].refusal = "too old";
  const auto rows = run();
  EXPECT_EQ(rows.at("naive").status, "refused");
  EXPECT_EQ(rows.at("naive").reason, "too old");
  EXPECT_EQ(std::ranges::count(sessions.calls, "naive"), 0);
  EXPECT_EQ(rows.at("fused").status, "done");
}

}  // namespace
}  // namespace nalab::runner_test
