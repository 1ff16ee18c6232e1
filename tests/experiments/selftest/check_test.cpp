#include "experiments/selftest/check.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

#include "core/kernels/registry.h"
#include "experiments/selftest/draw.h"
#include "tests/core/support.h"

namespace nalab::selftest {
namespace {

Trial trial_of(const std::string& text) { return parse_trial(text); }

/// What a subject says of the expected results with one element changed.
std::string fault_with(const Trial& trial, const std::string& tensor, const std::function<float(float)>& change) {
  Subject subject(trial);
  Trial reference = trial;
  reference.variant = "reference";
  reference.arithmetic.clear();
  const std::vector<Plan> plans = plans_of(reference, true);
  TensorSet results(trial.problem, trial.pass);
  for (auto& [info, entry] : results.entries()) {
    if (const Tensor* given = subject.given().find(info.name)) {
      std::copy_n(given->data<std::byte>(), given->elements() * size_of(given->type()), entry.data<std::byte>());
    }
  }
  Workers workers(1);
  for (const Plan& plan : plans) {
    if (plan.pass() == Pass::forward) plan.variant().forward(plan, results.inputs(), results.outputs(), {workers, {}});
    if (plan.pass() == Pass::backward) {
      plan.variant().backward(plan, results.inputs(), results.saved(), results.gradients(), {workers, {}});
    }
  }
  const Plan plan = plans_of(trial, true).back();
  const auto computed = [&](const TensorInfo& info, const auto&) {
    std::vector<float> values = to_floats(*results.find(info.name));
    if (info.name == tensor) values.at(values.size() / 2) = change(values.at(values.size() / 2));
    return values;
  };
  return subject.judge(computed, plan, true).fault;
}

TEST(Subject, SeesOneWrongElement) {
  const Trial trial = trial_of(
      "layout=7x6 window=3x4 heads=2 head_dim=8 head_dim_v=5 extra_tokens=2 relative_bias=1 pass=backward "
      "variant=naive");
  EXPECT_EQ(fault_with(trial, "none", {}), "");
  for (const char* tensor : {"out", "lse", "dq", "dk", "dv", "dextra_k", "dextra_v", "drpb"}) {
    SCOPED_TRACE(tensor);
    EXPECT_EQ(fault_with(trial, tensor, [](float x) { return x * (1 + 1e-7f); }), "");
    EXPECT_EQ(fault_with(trial, tensor, [](float x) { return x + 0.01f; }).substr(0, std::string(tensor).size()),
              tensor);
    EXPECT_NE(fault_with(trial, tensor, [](float) { return NAN; }), "");
    EXPECT_NE(fault_with(trial, tensor, [](float) { return INFINITY; }), "");
  }
}

TEST(Subject, AllowsForTheSizeOfTermsThatCancel) {
  // One element: q k is the sum of 200 products, and may be small by chance.
  const Trial trial = trial_of("layout=1 head_dim=200 head_dim_v=1 scale=1 variant=naive");
  EXPECT_EQ(fault_with(trial, "lse", [](float x) { return x + 1e-4f; }), "");
  EXPECT_NE(fault_with(trial, "lse", [](float x) { return x + 1e-1f; }), "");
}

TEST(Check, NamesWhatCannotBeDone) {
  Checker checker;
  EXPECT_EQ(checker.check(trial_of("layout=5 variant=naive")).fault, "");
  EXPECT_EQ(checker.check(trial_of("layout=5 variant=naive tiling=static")).fault,
            "throws 'tiling 'static': variant naive has no tiles'");
}

TEST(Check, SeveralHostThreadsAtOnceAgreeWithTheOracle) {
  std::atomic<int> wrong = 0;
  std::vector<std::thread> hosts;
  for (uint64_t host = 0; host < 4; ++host) {
    hosts.emplace_back([&wrong, host] {
      Checker checker;
      for (uint64_t number = 0; number < 25; ++number) {
        for (Trial trial : draw(100 + host, number)) {
          trial.threads = {2, 3};
          wrong += checker.check(trial).fault.empty() ? 0 : 1;
        }
      }
    });
  }
  for (std::thread& host : hosts) host.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace nalab::selftest
