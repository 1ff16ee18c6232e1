// The operators on the weights themselves: every variant that has them against the reference, on any memory, refused
// where they do not fit, and together the same as attention in one call.
#include "core/operators/split_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/attention.h"
#include "core/compare.h"
#include "core/kernels/unfused/bias.h"
#include "tests/core/kernels/backward.h"
#include "tests/core/kernels/bounds.h"
#include "tests/core/operators/split.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

using test::Setting;
using test::SplitData;
using test::Views;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// attn's element type in words.
std::string text(Pass pass, ElementType attn_type) {
  return std::string(name(pass)) + " attn " + std::string(name(attn_type));
}

/// Types that attn may have.
std::vector<ElementType> attn_types(ElementType type) {
  if (type == ElementType::f32) return {type};
  return {ElementType::f32, type};
}

/// Compares values that were stored in a type: what is beyond its range is infinite there.
void check(const Problem& problem, std::string_view tensor, ElementType type, const std::vector<double>& values,
           std::vector<double> expected) {
  with_element_type(type, [&](auto element) {
    for (double& x : expected) {
      const double stored = to_float(from_float<decltype(element)>(static_cast<float>(x)));
      if (std::isinf(stored)) x = stored;
    }
  });
  const bool gradient = tensor.front() == 'd';
  const Tolerance bound = tolerance(problem.type, gradient ? TensorKind::gradient : TensorKind::output);
  const Comparison errors = compare(std::span(values), std::span(std::as_const(expected)), bound, 1);
  EXPECT_TRUE(errors.ok) << tensor << ": " << errors.to_string();
}

/// Calls f(variant) for those that have the split operators.
template <class F>
void for_every_split_variant(const Problem& problem, Pass pass, F f) {
  for (const Variant& variant : variants()) {
    if (!variant.supports(problem, pass)) f(variant);
  }
}

/// What a pass gives in every variant and way to run that `wanted` takes, against the reference.
template <class Wanted>
void check_pass(const Problem& problem, Pass pass, ElementType attn_type, const Wanted& wanted) {
  SplitData data(problem, attn_type, 7);
  const Views inputs = data.inputs(pass);
  const auto expected = test::expected_split(problem, pass, inputs);
  for_every_split_variant(problem, pass, [&](const Variant& variant) {
    for (const Setting& setting : wanted(test::settings(variant, problem, pass))) {
      SCOPED_TRACE(std::string(variant.name) + " " + problem.id() + " " + text(pass, attn_type) + " " + setting.text());
      for (auto& [name, result] : test::run_split(variant, problem, pass, inputs, attn_type, setting)) {
        check(problem, name, result.view().type, result.values(), expected.at(name));
        EXPECT_TRUE(result.intact()) << "wrote outside " << name;
      }
    }
  });
}

class AwkwardSplit : public ::testing::TestWithParam<test::Awkward> {};

TEST_P(AwkwardSplit, EveryVariantPassTypeAndWayToRun) {
  for (ElementType type : test::kElementTypes) {
    Problem problem = GetParam().problem;
    problem.type = type;
    for (const Pass pass : test::kSplitPasses) {
      for (ElementType attn_type : attn_types(type)) {
        check_pass(problem, pass, attn_type, [&](std::vector<Setting> settings) {
          for (Setting& setting : settings) setting = setting.with_out(attn_type);
          return settings;
        });
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AwkwardSplit, ::testing::ValuesIn(test::awkward_problems()),
                         [](const auto& test) { return test.param.name; });

TEST(RandomSplit, EveryVariantAndPassOnThreeHundred) {
  test::RandomProblems problems(517);
  for (std::size_t i = 0; i < 300 && !::testing::Test::HasFailure(); ++i) {
    const Problem problem = problems.next();
    const auto threads = static_cast<int>(problems.pick(1, 3));
    const auto type = [&] { return problems.pick(0, 1) == 0 ? ElementType::f32 : problem.type; };
    for (const Pass pass : test::kSplitPasses) {
      const ElementType attn_type = type(), out_type = type();
      check_pass(problem, pass, attn_type, [&](const std::vector<Setting>& settings) {
        return std::vector{settings[i % settings.size()].with_out(out_type).with_threads(threads)};
      });
    }
  }
}

/// Hidden slots on two axes, GQA, batch entries, extra tokens, a bias; the second without hidden slots, of scale 1: an
/// operator may then work on attn itself. Heads and rows of odd length.
std::vector<Problem> problems() {
  return {
      {.axes = {{.extent = 5, .window = 3, .stride = 2, .causal = true},
                {.extent = 6, .window = 2, .dilation = 2},
                {.extent = 4, .window = 3, .causal = true}},
       .batch = 2,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 19,
       .head_dim_v = 21,
       .extra_tokens = 3,
       .relative_bias = true,
       .scale = -0.3},
      {.axes = {{.extent = 9, .window = 4, .stride = 3}, {.extent = 11, .window = 5, .dilation = 2}},
       .batch = 2,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 8,
       .head_dim_v = 5,
       .extra_tokens = 1,
       .relative_bias = true},
      {.axes = {{.extent = 33, .window = 7, .causal = true}}, .heads = 2, .head_dim = 8, .head_dim_v = 16},
      {.axes = {{.extent = 7, .window = 7}}, .batch = 2, .heads = 2, .head_dim = 8, .head_dim_v = 8},
  };
}

/// One of all ways to run one of the passes.
struct Job {
  const Problem& problem;
  Pass pass;
  ElementType attn_type;
  const Variant& variant;
  Setting setting;
};

template <class F>
void for_every_run(F f) {
  for (Problem problem : problems()) {
    for (ElementType type : test::kElementTypes) {
      problem.type = type;
      for (const Pass pass : test::kSplitPasses) {
        for (ElementType attn_type : attn_types(type)) {
          for_every_split_variant(problem, pass, [&](const Variant& variant) {
            for (const Setting& setting : test::settings(variant, problem, pass)) {
              SCOPED_TRACE(std::string(variant.name) + " " + problem.id() + " " + text(pass, attn_type) + " " +
                           setting.text());
              f(Job{problem, pass, attn_type, variant, setting.with_out(attn_type)});
            }
          });
        }
      }
    }
  }
}

TEST(Split, ResultsAreTheSameBitsForEveryNumberOfThreads) {
  for_every_run([](const Job& job) {
    if (job.variant.is_oracle) return;
    SplitData data(job.problem, job.attn_type, 3);
    const auto run = [&](int threads) {
      return test::run_split(job.variant, job.problem, job.pass, data.inputs(job.pass), job.attn_type,
                             job.setting.with_threads(threads));
    };
    auto one = run(1);
    for (int threads : {2, 3, 7}) {
      for (auto& [name, result] : run(threads)) {
        EXPECT_EQ(result.bits(), one.at(name).bits()) << name << " with " << threads << " threads";
      }
    }
  });
}

TEST(Split, GapsAreNeitherReadNorWritten) {
  for_every_run([](const Job& job) {
    SplitData data(job.problem, job.attn_type, 5);
    std::map<std::string_view, test::StridedTensor> memory;
    Views views;
    for (const auto& [name, view] : data.inputs(job.pass)) {
      views[name] = memory.emplace(name, test::StridedTensor(view)).first->second.view();
    }
    const auto expected = test::expected_split(job.problem, job.pass, data.inputs(job.pass));
    auto results =
        test::run_split<test::StridedTensor>(job.variant, job.problem, job.pass, views, job.attn_type, job.setting,
                                             /*in_a_row=*/false);
    for (auto& [name, result] : results) {
      check(job.problem, name, result.view().type, test::to_double(result.view()), expected.at(name));
      EXPECT_TRUE(result.gaps_intact()) << name;
    }
  });
}

/// A tensor [batch, heads, X..., dim] between guards, seen heads-last.
class HeadsFirst {
 public:
  HeadsFirst(ElementType type, const TokenShape& shape)
      : type_(type), shape_(shape), memory_(shape.elements() * size_of(type)) {}
  explicit HeadsFirst(const TensorView& source) : HeadsFirst(source.type, source.shape) {
    with_element_type(type_, [&](auto element) {
      using T = decltype(element);
      const auto target = view().as<T>();
      test::for_each_row(source.as<T>(), [&](const T* row, auto... where) {
        std::copy_n(row, source.shape.dim, target.row(where...));
      });
    });
  }

  TensorView view() {
    TokenStrides strides;
    strides.layout[2] = shape_.dim;
    strides.layout[1] = strides.layout[2] * shape_.layout[2];
    strides.layout[0] = strides.layout[1] * shape_.layout[1];
    strides.heads = strides.layout[0] * shape_.layout[0];
    strides.batch = strides.heads * shape_.heads;
    return {memory_.bytes().data(), type_, shape_, strides};
  }
  bool intact() const { return memory_.intact(); }

 private:
  ElementType type_;
  TokenShape shape_;
  test::GuardedMemory memory_;
};

TEST(Split, HeadsFirstTensorsAreViews) {
  for_every_run([](const Job& job) {
    SplitData data(job.problem, job.attn_type, 5);
    // Of attn alone, and of all tensors that have heads.
    for (const bool all : {false, true}) {
      std::map<std::string_view, HeadsFirst> memory;
      Views views = data.inputs(job.pass);
      auto last = test::split_results<test::GuardedTensor>(job.problem, job.pass, job.attn_type, job.setting.out_type);
      for (auto& [name, tensor] : last) views[name] = tensor.view();
      for (const TensorInfo& info : tensors_of(job.problem, job.pass)) {
        if (info.over == Over::offsets || (!all && !test::is_attn(info))) continue;
        HeadsFirst tensor =
            info.is_result() ? HeadsFirst(views.at(info.name).type, info.shape) : HeadsFirst(views.at(info.name));
        views[info.name] = memory.emplace(info.name, std::move(tensor)).first->second.view();
      }
      test::with_workspace(
          test::plan_of(job.variant, job.problem, job.pass, job.setting), job.setting,
          [&](const Plan& plan, const Execution& execution) { test::run_split(plan, views, execution); });
      for (auto& [name, result] :
           test::run_split(job.variant, job.problem, job.pass, data.inputs(job.pass), job.attn_type, job.setting)) {
        EXPECT_EQ(test::to_double(views.at(name)), result.values()) << name << ": other numbers than heads-last";
      }
      for (const auto& [name, tensor] : memory) EXPECT_TRUE(tensor.intact()) << name;
    }
  });
}

TEST(Split, WhatHiddenSlotsHoldHasNoInfluenceAndTheyAreGiven) {
  for_every_run([](const Job& job) {
    SplitData data(job.problem, job.attn_type, 9);
    const auto run = [&](double hidden) {
      test::set_hidden(job.problem, data["attn"], hidden);
      test::set_hidden(job.problem, data["dattn"], hidden);
      return test::run_split(job.variant, job.problem, job.pass, data.inputs(job.pass), job.attn_type, job.setting);
    };
    auto zero = run(0);
    for (const double hidden : {kNan, kInfinity, -1e30}) {
      for (auto& [name, result] : run(hidden)) EXPECT_EQ(result.bits(), zero.at(name).bits()) << name << " " << hidden;
    }
    const std::vector<bool> visible = test::visible_slots(job.problem);
    for (const char* made : {"attn", "dattn"}) {
      const auto found = zero.find(made);
      if (found == zero.end()) continue;
      const std::vector<double> values = found->second.values();
      ASSERT_EQ(values.size(), visible.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (visible[i]) {
          ASSERT_TRUE(std::isfinite(values[i])) << made << " at " << i;
        } else {
          ASSERT_EQ(values[i], job.pass == Pass::weights ? -kInfinity : 0.0) << made << " at " << i;
        }
      }
    }
  });
}

TEST(Split, TheScaleOfTheWeightsIsOneUnlessGiven) {
  for (const Problem& given : problems()) {
    Problem problem = given;
    problem.relative_bias = false;
    problem.scale.reset();
    SplitData data(problem, ElementType::f32, 11);
    for_every_split_variant(problem, Pass::weights, [&](const Variant& variant) {
      const Setting setting{.isa = variant.is_oracle ? Isa::baseline : choose_isa()};
      const auto run = [&](Pass pass, std::string_view name, std::optional<double> scale) {
        Problem scaled = problem;
        scaled.scale = scale;
        return test::run_split(variant, scaled, pass, data.inputs(pass), ElementType::f32, setting).at(name).values();
      };
      const std::pair<Pass, const char*> scaled[] = {
          {Pass::weights, "attn"}, {Pass::weights_backward, "dq"}, {Pass::weights_backward, "dk"}};
      for (const auto& [pass, name] : scaled) {
        const auto unset = run(pass, name, std::nullopt);
        EXPECT_EQ(run(pass, name, 1.0), unset) << variant.name << " " << name;
        // Powers of two scale without rounding.
        for (const double scale : {0.25, -2.0, 0.0}) {
          const auto values = run(pass, name, scale);
          for (std::size_t i = 0; i < values.size(); ++i) {
            ASSERT_EQ(values[i], std::isinf(unset[i]) ? unset[i] : scale * unset[i]) << variant.name << " " << name;
          }
        }
      }
      // The values know of no scale.
      EXPECT_EQ(run(Pass::values, "out", 0.25), run(Pass::values, "out", std::nullopt)) << variant.name;
      EXPECT_EQ(run(Pass::values_backward, "dv", 0.25), run(Pass::values_backward, "dv", std::nullopt));
    });
  }
}

// What a query does not attend to has no influence on it; and products follow IEEE arithmetic.
TEST(Split, NanReachesExactlyTheSlotsThatItIsPartOf) {
  const Problem problem = problems()[0];
  const auto axes = problem.axes3();
  const test::LayoutMask mask(problem);
  for_every_split_variant(problem, Pass::weights, [&](const Variant& variant) {
    for (const Setting& setting : test::settings(variant, problem, Pass::weights)) {
      SCOPED_TRACE(std::string(variant.name) + " " + setting.text());
      SplitData data(problem, ElementType::f32, 13);
      const auto run = [&] {
        return test::run_split(variant, problem, Pass::weights, data.inputs(Pass::weights), ElementType::f32, setting)
            .at("attn")
            .values();
      };
      const auto clean = run();
      const std::array<int64_t, 3> bad_key{3, 2, 1};
      test::set(data["k"], test::row_index(k_shape(problem), 1, bad_key, 1) + 5, kNan);
      test::set(data["rpb"], 2 * problem.bias_entries() + problem.bias_entries() / 2, kNan);
      const auto spoilt = run();
      const TokenShape shape = attn_shape(problem);
      for (std::size_t i = 0; i < clean.size(); ++i) {
        const auto flat = static_cast<int64_t>(i);
        const int64_t slot = flat % shape.dim, head = flat / shape.dim % shape.heads;
        const auto token = token_at(shape.layout, flat / shape.dim / shape.heads % shape.tokens());
        std::array<int64_t, 3> key{-1, -1, -1};
        const std::array<int64_t, 3> at{slot / (axes[1].window * axes[2].window),
                                        slot / axes[2].window % axes[1].window, slot % axes[2].window};
        const bool hidden = std::isinf(clean[i]), extra = slot >= shape.dim - problem.extra_tokens;
        if (!hidden && !extra) {
          for (std::size_t a = 0; a < 3; ++a) {
            key[a] = test::attended(axes[a], token[a]).at(static_cast<std::size_t>(at[a]));
          }
        }
        const bool of_key = flat / (shape.elements() / shape.batch) == 1 && head / 2 == 1 && key == bad_key;
        const bool of_bias = head == 2 && key == token;
        if (of_key || of_bias) {
          ASSERT_TRUE(std::isnan(spoilt[i])) << i;
        } else {
          ASSERT_EQ(spoilt[i], clean[i]) << i;
        }
      }
    }
  });
}

// So many terms of one sign that a sum in float alone would be off: what each of them adds would round.
TEST(Split, GradientsOfBiasesAreSumsOverManyQueries) {
  const Problem problem{.axes = {{.extent = 9'001, .window = 3}},
                        .heads = 64,
                        .heads_kv = 64,
                        .head_dim = 1,
                        .head_dim_v = 1,
                        .relative_bias = true};
  const Pass pass = Pass::weights_backward;
  std::mt19937_64 random(27);
  Tensor q = test::random_tensor(ElementType::f32, q_shape(problem), random);
  Tensor dattn = test::random_tensor(ElementType::f32, attn_shape(problem), random);
  const Views views{{"q", q.view()}, {"k", q.view()}, {"dattn", dattn.view()}};
  std::vector<double> expected(64 * 5, 0.0);
  for (int64_t i = 0; i < dattn.elements(); ++i) {
    dattn.data<float>()[i] = 1 + std::abs(dattn.data<float>()[i]);
    const int64_t slot = i % 3, head = i / 3 % 64, query = i / 3 / 64;
    const int64_t start = std::clamp<int64_t>(query - 1, 0, problem.tokens() - 3);
    expected[static_cast<std::size_t>(head * 5 + start + slot - query + 2)] += dattn.data<float>()[i];
  }
  for_every_split_variant(problem, pass, [&](const Variant& variant) {
    if (variant.is_oracle) return;
    const Setting setting{.isa = choose_isa()};
    const auto drpb = test::run_split(variant, problem, pass, views, ElementType::f32, setting).at("drpb").values();
    // Roundings of n additions of one sign make 2^-24 sqrt(n) / 3 of the sum in the mean square; here are several such
    // sums, whose errors differ.
    const double relative = test::kFloatUnit * std::sqrt(unfused::BiasSlices::kTerms) / 2;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(drpb[i], expected[i], relative * expected[i]) << variant.name << " at " << i;
    }
  });
}

/// A fitting call of every pass, to be spoilt.
struct Call {
  Problem problem{.axes = {{.extent = 3, .window = 2}, {.extent = 4, .window = 3}},
                  .batch = 2,
                  .heads = 4,
                  .heads_kv = 2,
                  .head_dim = 8,
                  .head_dim_v = 5,
                  .extra_tokens = 3,
                  .relative_bias = true,
                  .type = ElementType::bf16};
  Pass pass;
  SplitData data{problem, ElementType::bf16, 1};
  std::map<std::string_view, Tensor> results;
  Views views;
  PlanOptions options{};

  explicit Call(Pass p) : pass(p) {
    results = test::split_results<Tensor>(problem, pass, ElementType::bf16, ElementType::bf16);
    views = data.inputs(pass);
    for (auto& [name, tensor] : results) views[name] = tensor.view();
  }
  std::string error() {
    Context context(1);
    return test::error_of([&] { test::call_split(make_plan(problem, pass, options), pass, views, context); });
  }
};

TEST(SplitCalls, ThatFitCompute) {
  for (const Pass pass : test::kSplitPasses) {
    Call call(pass);
    EXPECT_EQ(call.error(), "") << name(pass);
    // attn and its gradient may be f32 whether they are given or made, as results may; every variant takes it.
    Call wider(pass);
    SplitData wide(wider.problem, ElementType::f32, 1);
    auto results = test::split_results<Tensor>(wider.problem, pass, ElementType::f32, ElementType::f32);
    wider.views = wide.inputs(pass);
    for (auto& [name, tensor] : results) wider.views[name] = tensor.view();
    EXPECT_EQ(wider.error(), "") << name(pass);
  }
}

TEST(SplitCalls, EveryTensorThatAPassHasIsAskedForAndNoOther) {
  for (const Pass pass : test::kSplitPasses) {
    for (const TensorInfo& info : tensors_of(Call(pass).problem, pass)) {
      SCOPED_TRACE(std::string(name(pass)) + " " + std::string(info.name));
      const std::string tensor = "tensor " + std::string(info.name);
      {
        Call call(pass);
        call.views.erase(info.name);
        EXPECT_EQ(call.error(), tensor + " is missing");
      }
      {
        Call call(pass);
        call.views.at(info.name).shape.dim += 1;
        const std::string error = call.error();
        EXPECT_EQ(error.find(tensor + " has shape ["), 0u) << error;
      }
      {
        Call call(pass);
        call.views.at(info.name).type = ElementType::f16;
        const bool table = info.over == Over::offsets;
        EXPECT_EQ(call.error(), tensor + " is f16, must be " +
                                    (table                                     ? "f32"
                                     : info.is_result() || test::is_attn(info) ? "bf16 or f32"
                                                                               : "bf16"));
      }
    }
  }
}

TEST(SplitCalls, AttnOfAnotherWindowIsRefusedWithThisLine) {
  for (const Pass pass : test::kSplitPasses) {
    Call call(pass);
    const bool of_dattn = pass == Pass::weights_backward;
    call.views.at(of_dattn ? "dattn" : "attn").shape.dim = 6;
    EXPECT_EQ(call.error(), std::string("tensor ") + (of_dattn ? "dattn" : "attn") +
                                " has shape [2, 1, 3, 4, 4, 6], must be [2, 1, 3, 4, 4, 9]");
  }
}

TEST(SplitCalls, WithoutExtraTokensOrABiasTheirTensorsAreNotAskedFor) {
  for (const Pass pass : test::kSplitPasses) {
    Problem problem = Call(pass).problem;
    problem.extra_tokens = 0;
    problem.relative_bias = false;
    SplitData data(problem, ElementType::bf16, 1);
    auto results = test::split_results<Tensor>(problem, pass, ElementType::bf16, ElementType::bf16);
    Views views = data.inputs(pass);
    for (auto& [name, tensor] : results) views[name] = tensor.view();
    Context context(1);
    EXPECT_EQ(test::error_of([&] { test::call_split(make_plan(problem, pass), pass, views, context); }), "")
        << name(pass);
  }
}

TEST(SplitCalls, ATensorThatTheProblemDoesNotHaveIsRefused) {
  Call call(Pass::weights);
  Problem without = call.problem;
  without.extra_tokens = 0;
  auto results = test::split_results<Tensor>(without, Pass::weights, ElementType::bf16, ElementType::bf16);
  Inputs inputs;
  inputs.q = call.views.at("q");
  inputs.k = call.views.at("k");
  inputs.extra_k = call.views.at("extra_k");
  inputs.rpb = call.views.at("rpb");
  Context context(1);
  EXPECT_EQ(test::error_of([&] {
              attention_weights(make_plan(without, Pass::weights), inputs, results.at("attn").view(), context);
            }),
            "tensor extra_k is given, but the problem has no extra tokens");
}

TEST(SplitCalls, AnInvalidProblemIsRefusedWithItsLine) {
  for (const Pass pass : test::kSplitPasses) {
    Call call(pass);
    call.problem.axes[1].window = 5;
    EXPECT_EQ(call.error(), "axis 2: window 5 must be at most 4, the layout 4 div the dilation 1");
  }
}

TEST(SplitCalls, VariantsThatKeepNoWeightsAreRefusedWithTheirOwnSentence) {
  for (const Pass pass : test::kSplitPasses) {
    for (const Variant& variant : variants()) {
      Call call(pass);
      call.options.variant = variant.name;
      const auto reason = variant.supports(call.problem, pass);
      EXPECT_EQ(reason.has_value(), variant.split == nullptr) << variant.name;
      EXPECT_EQ(call.error(), reason.value_or("")) << variant.name;
      // Without a bias, and of self attention, too.
      const bool keeps = variant.name == "gemm" || variant.name == "naive" || variant.is_oracle;
      Problem whole = call.problem.self_attention();
      EXPECT_EQ(!variant.supports(whole, pass).has_value(), keeps) << variant.name;
      if (keeps) continue;
      const std::string sentence = *variant.supports(whole, pass);
      EXPECT_NE(sentence.find(variant.name), std::string::npos) << sentence;
      EXPECT_EQ(test::error_of([&] { make_plan(whole, pass, {.variant = variant.name}); }), sentence);
    }
  }
}

TEST(SplitCalls, APlanOfAnotherPassIsRefused) {
  for (const Pass pass : test::kSplitPasses) {
    for (const Pass other : kPasses) {
      if (other == pass) continue;
      Call call(pass);
      Context context(1);
      const Plan plan = make_plan(call.problem, other);
      EXPECT_EQ(test::error_of([&] { test::call_split(plan, pass, call.views, context); }),
                std::string("the plan is of the ") + name(other) + " pass, must be of the " + name(pass));
    }
  }
}

TEST(SplitCalls, WithoutAPlanMakeTheSameOne) {
  for (const Pass pass : test::kSplitPasses) {
    Call call(pass), again(pass);
    Context context(1);
    const PlanOptions options{.variant = "naive"};
    test::call_split(make_plan(call.problem, pass, options), pass, call.views, context);
    const auto inputs = test::bundle_of<Inputs>(call.problem, again.views);
    const auto gradients = test::bundle_of<Gradients>(call.problem, again.views);
    const Problem& problem = call.problem;
    Views& views = again.views;
    if (pass == Pass::weights) attention_weights(problem, inputs, views["attn"], context, options);
    if (pass == Pass::weights_backward) {
      attention_weights_backward(problem, inputs, views["dattn"], gradients, context, options);
    }
    if (pass == Pass::values) attention_values(problem, views["attn"], inputs, views["out"], context, options);
    if (pass == Pass::values_backward) {
      attention_values_backward(problem, views["attn"], inputs, views["dout"], views["dattn"], gradients, context,
                                options);
    }
    for (auto& [name, tensor] : call.results) {
      EXPECT_EQ(test::to_double(again.results.at(name).view()), test::to_double(tensor.view())) << name;
    }
  }
}

TEST(SplitCalls, ThePlanIsOfTheExpectedBestVariant) {
  for (const Pass pass : test::kSplitPasses) {
    Call call(pass);
    Context context(2);
    test::call_split(make_plan(call.problem, pass), pass, call.views, context);
    const Plan plan = make_plan(call.problem, pass);
    EXPECT_FALSE(plan.variant().is_oracle);
    auto again = test::run_split(plan.variant(), call.problem, pass, call.data.inputs(pass), ElementType::bf16,
                                 {.isa = plan.isa(), .out_type = ElementType::bf16});
    for (auto& [name, tensor] : call.results) {
      EXPECT_EQ(test::to_double(tensor.view()), again.at(name).values()) << name;
    }
  }
}

/// A tensor of attn's shape with numbers computed in double.
Tensor rounded(const Problem& problem, const std::vector<double>& values) {
  Tensor tensor(ElementType::f32, attn_shape(problem));
  for (std::size_t i = 0; i < values.size(); ++i) test::set(tensor, static_cast<int64_t>(i), values[i]);
  return tensor;
}

// softmax(weights) then values is attention; by the chain rule, so are the gradients.
TEST(Split, WithASoftmaxBetweenIsAttention) {
  test::RandomProblems random(2504);
  Context context(2);
  for (int i = 0; i < 120 && !::testing::Test::HasFailure(); ++i) {
    const Problem problem = random.next();
    SCOPED_TRACE(problem.id());
    Problem split = problem;
    split.scale = problem.effective_scale();
    const test::Data data(problem, 19);
    const Inputs inputs = data.inputs();
    const auto at_once = reference::forward(problem, inputs);
    auto outputs = test::tensors_for<Outputs>(problem, ElementType::f32);
    auto gradients = test::tensors_for<Gradients>(problem, ElementType::f32);
    const auto output_views = test::views_of<Outputs>(problem, outputs);
    const auto gradient_views = test::views_of<Gradients>(problem, gradients);
    attention_forward(problem, inputs, output_views, context);
    attention_backward(problem, inputs, {output_views.out, output_views.lse, data["dout"].view()}, gradient_views,
                       context);

    Tensor attn(ElementType::f32, attn_shape(problem)), dattn(ElementType::f32, attn_shape(problem));
    Tensor out(ElementType::f32, out_shape(problem));
    auto parts = test::tensors_for<Gradients>(problem, ElementType::f32);
    const auto part_views = test::views_of<Gradients>(problem, parts);
    attention_weights(split, inputs, attn.view(), context);
    const int64_t slots = problem.keys_per_query();
    const auto p = test::softmax_rows(test::to_double(attn.view()), slots);
    attn = rounded(problem, p);
    attention_values(split, attn.view(), inputs, out.view(), context);
    attention_values_backward(split, attn.view(), inputs, data["dout"].view(), dattn.view(), part_views, context);
    dattn = rounded(problem, test::softmax_rows_gradient(p, test::to_double(dattn.view()), slots));
    attention_weights_backward(split, inputs, dattn.view(), part_views, context);

    // Both are within the bound of what is right.
    const auto twice = [](Tolerance bound) { return Tolerance{2 * bound.frobenius, 2 * bound.max_abs}; };
    const auto expect_same = [&](std::string_view name, const ConstTensorView& found, const ConstTensorView& expected,
                                 TensorKind kind, double scale) {
      const auto x = test::to_double(found), r = test::to_double(expected);
      const Comparison errors = compare(std::span(std::as_const(x)), std::span(std::as_const(r)),
                                        twice(tolerance(problem.type, kind, at_once.max_abs_score)), scale);
      EXPECT_TRUE(errors.ok) << name << ": " << errors.to_string();
    };
    expect_same("out", out.view(), output_views.out, TensorKind::output,
                test::max_abs(test::to_double(data["v"].view())));
    const double dv = test::max_abs(test::to_double(part_views.dv));
    const auto list = test::gradients_of(problem);
    for (std::size_t g = 0; g < list.size(); ++g) {
      // With a single key all but dv are rounding errors of nothing.
      if (slots == 1 && list[g].name != "dv") continue;
      expect_same(list[g].name, parts[g].view(), gradients[g].view(), TensorKind::gradient, dv);
    }
  }
}

}  // namespace
}  // namespace nalab
