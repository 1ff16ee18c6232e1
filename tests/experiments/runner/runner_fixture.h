// Shared by the tests of the runner: variants that follow a script on a clock of their own, and the run of one group.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "experiments/runner/progress.h"
#include "experiments/runner/runner.h"

namespace nalab::runner_test {

using config::RowPass;

/// A clock that stands still unless a fake variant lets time pass, or it ticks whenever it is read.
class FakeClock : public runner::Clock {
 public:
  double seconds() override { return now += tick; }
  double now = 100, tick = 0;
};

/// A machine on which nothing happens but what a test writes here.
class FakeHost : public runner::Host {
 public:
  int64_t free_memory_bytes() override { return free; }
  bool asked_to_stop() override { return asked; }
  void watch() override { ++watched; }
  runner::Observation observe() override { return seen; }

  int64_t free = int64_t{1} << 40;
  bool asked = false;
  int watched = 0;
  runner::Observation seen;
};

/// What the fake variants do and what was done to them. They are plain functions, hence a global.
struct Script {
  FakeClock clock;
  FakeHost host;
  std::string calls;  ///< one letter per call: a, b, g (backward of a), p (packing of a)
  double seconds_of_a = 1, seconds_of_b = 1;
  std::vector<double> times_of_a;  ///< of its calls one after the other, instead of seconds_of_a
  std::vector<double> jumps;       ///< of the clock during the calls of a, besides the time that they take
  std::size_t calls_of_a = 0;
  float error_of_b = 0;  ///< added to the first element of out
  bool b_writes = true;
  int b_throws = 0;  ///< 1: no memory, 2: an error
  int b_throws_at_call = 1;
  int calls_of_b = 0;
  int asked_at_call_of_b = 0;     ///< the host asks to stop during this call; 0: it never does
  double seconds_of_packing = 0;  ///< of the call before; each takes longer
  bool packing_throws = false;
  std::vector<float> first_q;
};
inline Script script;

/// The right result, by the reference.
inline void compute(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
  find_variant("reference").forward(plan, inputs, outputs, execution);
}

inline void forward_a(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
  script.calls += 'a';
  const std::size_t call = script.calls_of_a++;
  script.clock.now += call < script.times_of_a.size() ? script.times_of_a[call] : script.seconds_of_a;
  if (call < script.jumps.size()) script.clock.now += script.jumps[call];
  EXPECT_GE(execution.workspace.size(), 64u);
  const float* q = static_cast<const float*>(inputs.q.data);
  script.first_q.assign(q, q + 4);
  compute(plan, inputs, outputs, execution);
}

inline void backward_a(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved,
                       const Gradients& gradients, const Execution& execution) {
  script.calls += 'g';
  script.clock.now += 10;
  find_variant("reference").backward(plan, inputs, saved, gradients, execution);
}

inline void pack_a(const Plan&, const Inputs& inputs, const Execution& execution) {
  script.calls += 'p';
  script.clock.now += script.seconds_of_packing += 0.25;
  if (script.packing_throws) throw std::runtime_error("broken box");
  EXPECT_GE(execution.workspace.size(), 64u);
  EXPECT_NE(inputs.k.data, nullptr);
}

inline void forward_b(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
  script.calls += 'b';
  script.clock.now += script.seconds_of_b;
  ++script.calls_of_b;
  if (script.calls_of_b == script.asked_at_call_of_b) script.host.asked = true;
  if (script.b_throws == 1 && script.calls_of_b == script.b_throws_at_call) throw std::bad_alloc();
  if (script.b_throws == 2 && script.calls_of_b == script.b_throws_at_call) throw std::runtime_error("broken pipe");
  if (script.b_writes) {
    compute(plan, inputs, outputs, execution);
    static_cast<float*>(outputs.out.data)[0] += script.error_of_b;
  }
}

inline Variant fake(std::string_view name) {
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
inline const Variant kA = fake("a");
inline const Variant kB = fake("b");

class MockSink : public store::ResultsSink {
 public:
  MOCK_METHOD(void, keep, (const std::string&, const store::StoredTensor&), (override));
  MOCK_METHOD(void, append, (std::span<const store::FinishedRow>), (override));
  MOCK_METHOD(void, append_models, (std::span<const store::ModelRow>), (override));
  MOCK_METHOD(void, append_simulations, (std::span<const store::SimulationRow>), (override));
  MOCK_METHOD(void, finish, (), (override));
};

class MockProgress : public runner::Progress {
 public:
  MOCK_METHOD(void, started, (const plan::Group&), (override));
  MOCK_METHOD(void, finished, (std::span<const store::FinishedRow>), (override));
  void started(const plan::ModelGroup&) override {}
  void finished(std::span<const store::ModelRow>) override {}
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

  /// Runs one group and returns what the sink got, by variant, the tensors that it was given to keep among it.
  std::map<std::string, store::FinishedRow> run(std::vector<plan::PlannedRow> rows) {
    plan::RunPlan plan;
    plan.groups.push_back({std::move(rows), settings_});
    std::map<std::string, store::FinishedRow> got;
    std::map<std::string, std::vector<store::StoredTensor>> kept;
    EXPECT_CALL(sink_, keep).WillRepeatedly([&kept](const std::string& id, const store::StoredTensor& t) {
      kept[id].push_back(t);
    });
    EXPECT_CALL(sink_, append).WillOnce([&](std::span<const store::FinishedRow> finished) {
      for (const store::FinishedRow& f : finished) got[f.row.variant] = {f.row, kept[f.row.id]};
    });
    EXPECT_CALL(progress_, started);
    EXPECT_CALL(progress_, finished);
    Workers workers(1);
    totals_ = runner::run(plan, workers, script.clock, script.host, sink_, progress_);
    return got;
  }

  Problem problem_;
  config::Settings settings_;
  testing::StrictMock<MockSink> sink_;
  testing::StrictMock<MockProgress> progress_;
  runner::Totals totals_;
};

}  // namespace nalab::runner_test
