// Every tiling that a variant offers computes the same: whoever times them to find the fastest need not ask which of
// them are right.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "core/compare.h"
#include "tests/core/kernels/backward.h"

namespace nalab {
namespace {

using test::Setting;

std::vector<Problem> problems() {
  return {
      {.axes = {{.extent = 37, .window = 9, .stride = 4, .causal = true}}, .head_dim = 5, .head_dim_v = 9},
      {.axes = {{.extent = 9, .window = 4, .stride = 3}, {.extent = 13, .window = 3, .dilation = 3}},
       .batch = 2,
       .heads = 6,
       .heads_kv = 2,
       .head_dim = 8,
       .head_dim_v = 3,
       .extra_tokens = 5},
      {.axes = {{.extent = 3, .window = 2}, {.extent = 5, .window = 4, .causal = true}, {.extent = 7, .window = 3}},
       .head_dim = 17,
       .head_dim_v = 16},
      {.axes = {{.extent = 7, .window = 4, .stride = 2, .causal = true}, {.extent = 11, .window = 3, .dilation = 2}},
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 8,
       .head_dim_v = 5,
       .extra_tokens = 3,
       .relative_bias = true},
      {.axes = {{.extent = 3, .window = 3}, {.extent = 9, .window = 9}},
       .heads = 2,
       .head_dim = 5,
       .head_dim_v = 8,
       .relative_bias = true},
  };
}

class Candidates : public ::testing::TestWithParam<std::string_view> {
 protected:
  const Variant& variant_ = find_variant(GetParam());
};

TEST_P(Candidates, AreUniqueAndTheFirstOnesAreTheSameHoweverManyAreAskedFor) {
  const Machine machine{48 << 10, 1 << 20, 32 << 20};
  for (const Problem& given : problems()) {
    const Problem problem = test::problem_of(variant_, given);
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      const auto all = variant_.candidates(problem, pass, find_arithmetic(kF32Fma), machine, kAllCandidates);
      std::set<std::string> texts;
      for (const Tiling& tiling : all) EXPECT_TRUE(texts.insert(tiling.to_string()).second) << tiling.to_string();
      for (const std::size_t most : {std::size_t{0}, std::size_t{1}, std::size_t{40}, all.size(), all.size() + 1}) {
        const auto some = variant_.candidates(problem, pass, find_arithmetic(kF32Fma), machine, most);
        EXPECT_LE(some.size(), most);
        const auto count = static_cast<std::ptrdiff_t>(std::min(most, all.size()));
        if (most <= 1 || most >= all.size()) {
          EXPECT_EQ(some, std::vector<Tiling>(all.begin(), all.begin() + count));
        }
      }
    }
  }
}

TEST_P(Candidates, AllComputeRightResults) {
  for (const Problem& given : problems()) {
    const Problem problem = test::problem_of(variant_, given);
    // Without its bias it is like the others.
    if (problem.relative_bias != given.relative_bias || variant_.supports(problem, Pass::backward)) continue;
    const test::Data data(problem, 71);
    const auto reference = reference::forward(problem, data.inputs());
    const auto gradients = test::expected_gradients(problem, data);
    const test::Saved saved(problem, reference, ElementType::f32);
    const SavedForBackward saved_views{saved.out.view(), saved.lse.view(), data["dout"].view()};
    const auto expect_near = [&](std::string_view name, const std::vector<double>& values,
                                 const std::vector<double>& expected, TensorKind kind) {
      const Tolerance bound = tolerance(problem.type, kind, reference.max_abs_score);
      const Comparison errors = compare(std::span(values), std::span(expected), bound, 1);
      EXPECT_TRUE(errors.ok) << name << ": " << errors.to_string();
    };
    for (const Isa isa : {Isa::avx2, Isa::avx512, Isa::amx}) {
      if (!cpu_supports(isa)) continue;
      for (const Pass pass : {Pass::forward, Pass::backward}) {
        for (const Arithmetic& arithmetic : arithmetics()) {
          if (!variant_.takes(arithmetic, pass) || !arithmetic.computes(problem.type, pass) ||
              !available(arithmetic, isa) || (isa == Isa::amx && !arithmetic.needs.contains(CpuFeatures::amx()))) {
            continue;
          }
          const Setting setting{.isa = isa, .arithmetic = arithmetic.name};
          for (const Tiling& tiling : variant_.candidates(problem, pass, arithmetic, host_machine(), kAllCandidates)) {
            const std::string text = tiling.to_string();
            const Plan plan = make_plan(
                problem, pass, {.variant = variant_.name, .arithmetic = arithmetic.name, .tiling = text, .isa = isa});
            SCOPED_TRACE(plan.to_string());
            EXPECT_GE(plan.executed_flops(), problem.useful_flops(pass));
            if (pass == Pass::forward) {
              auto results = test::run_forward(plan, data.inputs(), setting);
              expect_near("out", results.out.values(), reference.out, TensorKind::output);
              expect_near("lse", results.lse.values(), reference.lse, TensorKind::output);
            } else {
              auto results = test::run_backward(plan, data.inputs(), saved_views, setting);
              for (std::size_t i = 0; i < results.size(); ++i) {
                expect_near(test::gradients_of(problem)[i].name, results[i].values(), gradients[i],
                            TensorKind::gradient);
              }
            }
          }
        }
      }
    }
  }
}

std::vector<std::string_view> tiled_variants() {
  std::vector<std::string_view> names;
  for (const Variant& variant : variants()) {
    if (variant.candidates != nullptr) names.push_back(variant.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Of, Candidates, ::testing::ValuesIn(tiled_variants()),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace nalab
