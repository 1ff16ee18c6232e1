// Rows of simulations as runs store them.
#include "experiments/runner/simulation.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/experiments/support.h"

namespace nalab {
namespace {

double end_to_end(const std::string& round_speedup) {
  const config::Config config = experiments_test::load_text(
      "name: x\nsimulations:\n- {table: t, label: l, layout: [30, 48, 80], window: [30, 40, 40], q_tile: [2, 16, 8], "
      "kv_tile: [2, 8, 8], attention_share: 0.607, round_speedup: " +
      round_speedup + ", rows: [{}]}\n");
  const plan::RunPlan plan = plan::make_run_plan({config}, "", {int64_t{1} << 40, 1});
  return runner::simulate(plan.simulations.at(0)).end_to_end_simulated;
}

// As nalab sim gives it, and as the paper does, which rounded the speedup of attention first.
TEST(SimulatedRow, SpeedupsAreRoundedBeforeAmdahlsLawWhereAskedFor) {
  EXPECT_NEAR(end_to_end("false"), 1.2226, 1e-4);
  EXPECT_NEAR(end_to_end("true"), 1.2098, 1e-4);
}

}  // namespace
}  // namespace nalab
