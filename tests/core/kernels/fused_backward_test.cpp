// The backward pass of fused and dense where it is made of many tiles, blocks and tasks: what small problems of the
// common tests do not reach.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/compare.h"
#include "core/ordered_tasks.h"
#include "tests/core/kernels/backward.h"

namespace nalab {
namespace {

using test::Setting;

std::string_view name_of(const Problem& problem, std::size_t gradient) {
  return test::gradients_of(problem)[gradient].name;
}

/// Several super tiles along each axis, the last ones cut short, that share keys; several blocks of keys in each.
std::vector<Problem> large_problems() {
  return {
      // Extra tokens over several blocks, the first of which they share with keys of the layout.
      {.axes = {{.extent = 611, .window = 301, .stride = 7}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 24,
       .head_dim_v = 40,
       .extra_tokens = 531},
      {.axes = {{.extent = 37, .window = 15, .stride = 4}, {.extent = 41, .window = 16, .stride = 5, .causal = true}},
       .head_dim = 40,
       .head_dim_v = 8},
      {.axes = {{.extent = 11, .window = 5, .stride = 2},
                {.extent = 13, .window = 6, .dilation = 2},
                {.extent = 19, .window = 11, .stride = 3}},
       .batch = 2,
       .head_dim = 9,
       .head_dim_v = 33,
       .extra_tokens = 5},
      // More query heads of one kv head than a super tile holds: several tasks for the same queries.
      {.axes = {{.extent = 9, .window = 5}, {.extent = 11, .window = 7, .stride = 3}},
       .heads = 23,
       .heads_kv = 1,
       .head_dim = 96,
       .head_dim_v = 130},
      // Many tasks add to the sums of one head: some share keys, others do not, and all end at about the same time.
      {.axes = {{.extent = 67, .window = 5}, {.extent = 71, .window = 6}},
       .head_dim = 5,
       .head_dim_v = 4,
       .relative_bias = true},
      {.axes = {{.extent = 9, .window = 3}, {.extent = 22, .window = 5, .dilation = 2}, {.extent = 25, .window = 5}},
       .batch = 2,
       .heads = 2,
       .head_dim = 8,
       .head_dim_v = 12,
       .extra_tokens = 3,
       .relative_bias = true},
  };
}

/// Calls f(variant, problem). dense on the first problem alone: in place of the others it would run too long.
template <class F>
void for_every_large(F f) {
  bool first = true;
  for (const Problem& problem : large_problems()) {
    f(find_variant("fused"), problem);
    if (first) f(find_variant("dense"), problem.self_attention());
    first = false;
  }
}

/// The ways to run on the widest target.
std::vector<Setting> widest_settings(const Variant& variant, const Problem& problem) {
  std::vector<Setting> settings = test::settings(variant, problem, Pass::backward);
  const Isa widest = settings.back().isa;
  std::erase_if(settings, [widest](const Setting& setting) { return setting.isa != widest; });
  return settings;
}

/// out and lse as the variant itself leaves them.
struct Saved {
  Tensor out, lse;

  Saved(const Variant& variant, const Problem& problem, const test::Data& data, ElementType out_type)
      : out(out_type, out_shape(problem)), lse(ElementType::f32, lse_shape(problem)) {
    Context context(2);
    attention_forward(problem, data.inputs(), {out.view(), lse.view()}, context, {.variant = variant.name});
  }
  SavedForBackward views(const test::Data& data) const { return {out.view(), lse.view(), data["dout"].view()}; }
};

std::vector<test::GuardedTensor> run(const Variant& variant, const Problem& problem, const test::Data& data,
                                     const Saved& saved, const Setting& setting) {
  return test::run_backward(variant, problem, data, saved.views(data), setting);
}

TEST(FusedBackward, ProblemsOfThisTestAreMadeOfManyTasks) {
  for (const Problem& problem : large_problems()) {
    const Tiling tiling = make_plan(problem, Pass::backward, {.variant = "fused"}).tiling();
    int64_t supers = problem.heads / tiling.heads;
    for (int axis = 0; axis < 3; ++axis) {
      supers *= geometry::ceil_div(problem.axes3()[axis].group_length(0), tiling.super_queries(axis));
    }
    EXPECT_GT(supers, problem.heads_kv) << problem.id();
  }
}

TEST(FusedBackward, AgreesWithTheReferenceOverManyTasksAndBlocks) {
  for_every_large([](const Variant& variant, const Problem& problem) {
    const test::Data data(problem, 17);
    const Saved saved(variant, problem, data, problem.type);
    const auto expected = test::expected_gradients(problem, data);
    for (const Setting& setting : test::settings(variant, problem, Pass::backward)) {
      SCOPED_TRACE(std::string(variant.name) + " " + problem.id() + " " + setting.text());
      auto results = run(variant, problem, data, saved, setting.with_threads(3));
      for (std::size_t t = 0; t < results.size(); ++t) {
        const auto values = results[t].values();
        const auto errors = compare(std::span(values), std::span(expected[t]),
                                    tolerance(problem.type, TensorKind::gradient), test::max_abs(expected[2]));
        EXPECT_TRUE(errors.ok) << name_of(problem, t) << ": " << errors.to_string();
      }
    }
  });
}

TEST(FusedBackward, SameBitsForEveryThreadCount) {
  for_every_large([](const Variant& variant, Problem problem) {
    for (const ElementType type : {ElementType::f32, ElementType::bf16}) {
      problem.type = type;
      SCOPED_TRACE(std::string(variant.name) + " " + problem.id());
      const test::Data data(problem, 18);
      const Saved saved(variant, problem, data, type);
      for (const Setting& setting : widest_settings(variant, problem)) {
        const Setting typed = setting.with_out(type);
        auto one = run(variant, problem, data, saved, typed.with_threads(1));
        for (const int threads : {2, 3, 7}) {
          auto several = run(variant, problem, data, saved, typed.with_threads(threads));
          for (std::size_t t = 0; t < one.size(); ++t) {
            EXPECT_EQ(one[t].bits(), several[t].bits())
                << typed.text() << " and " << threads << ": " << name_of(problem, t);
          }
        }
      }
    }
  });
}

// A task that said too early that it is done with a block would be overtaken while it pauses, and the sums of three
// and more tasks would be added up in another order.
TEST(FusedBackward, NoTaskAnnouncesABlockBeforeItHasAddedIt) {
  struct Pauses {
    Pauses() {
      static std::atomic<int> left;
      left = 24;  // the first few tasks' first blocks
      OrderedTasks::after_pass = [] {
        if (--left >= 0) std::this_thread::sleep_for(std::chrono::milliseconds(30));
      };
    }
    ~Pauses() { OrderedTasks::after_pass = nullptr; }
  };
  const Problem problem{.axes = {{.extent = 192, .window = 192}}, .head_dim = 16, .head_dim_v = 24, .extra_tokens = 20};
  const Variant& variant = find_variant("fused");
  const test::Data data(problem, 23);
  const Saved saved(variant, problem, data, problem.type);
  // Six tasks, each of which adds to every block.
  Setting setting{.isa = best_isa(), .arithmetic = kF32Fma, .tiling = "q1x1x32_s1x1x1_kv1x1x1_l32_h1_b64"};
  auto one = run(variant, problem, data, saved, setting.with_threads(1));
  for (const int threads : {3, 6}) {
    const Pauses pauses;
    auto several = run(variant, problem, data, saved, setting.with_threads(threads));
    for (std::size_t t = 0; t < one.size(); ++t) {
      EXPECT_EQ(one[t].bits(), several[t].bits()) << threads << " threads: " << name_of(problem, t);
    }
  }
}

// Sums are float: rounded once, at the end.
TEST(FusedBackward, GradientsInBf16AreThoseInFloatRounded) {
  for (Problem problem : large_problems()) {
    problem.type = ElementType::bf16;
    const Variant& variant = find_variant("fused");
    const test::Data data(problem, 21);
    const Saved saved(variant, problem, data, ElementType::f32);
    for (const Setting& setting : widest_settings(variant, problem)) {
      auto rounded = run(variant, problem, data, saved, setting.with_out(ElementType::bf16));
      auto exact = run(variant, problem, data, saved, setting);
      for (std::size_t t = 0; t < exact.size(); ++t) {
        auto expected = exact[t].values();
        // drpb is in float whatever the type.
        if (test::gradients_of(problem)[t].type == ElementType::bf16) {
          for (double& x : expected) x = to_float(from_float<bf16>(static_cast<float>(x)));
        }
        EXPECT_EQ(rounded[t].values(), expected) << setting.text() << ": " << name_of(problem, t);
      }
    }
  }
}

// Sums go straight to gradients in float, wherever they lie, and through the workspace to others.
TEST(FusedBackward, GradientsWithGapsAreTheSameNumbers) {
  for (Problem problem : large_problems()) {
    for (const ElementType type : {ElementType::f32, ElementType::f16}) {
      problem.type = type;
      const Variant& variant = find_variant("fused");
      const test::Data data(problem, 19);
      const Saved saved(variant, problem, data, type);
      for (const Setting& each : widest_settings(variant, problem)) {
        const Setting setting = each.with_out(type);
        auto expected = run(variant, problem, data, saved, setting);
        auto strided = test::tensors_for<Gradients, test::StridedTensor>(problem, type);
        const auto gradients = test::views_of<Gradients>(problem, strided);
        test::with_workspace(test::plan_of(variant, problem, Pass::backward, setting), setting,
                             [&](const Plan& plan, const Execution& execution) {
                               variant.backward(plan, data.inputs(), saved.views(data), gradients, execution);
                             });
        for (std::size_t t = 0; t < strided.size(); ++t) {
          EXPECT_EQ(test::to_double(strided[t].view()), expected[t].values()) << name_of(problem, t);
          EXPECT_TRUE(strided[t].gaps_intact()) << name_of(problem, t);
        }
      }
    }
  }
}

// With one key the weight is 1 whatever the score, and out is the value itself: no rounding may show in dq and dk.
TEST(FusedBackward, OneKeyGivesDqAndDkOfExactlyZero) {
  for (const ElementType type : test::kElementTypes) {
    const Problem problem{.axes = {{.extent = 5}, {.extent = 23}}, .head_dim = 19, .head_dim_v = 37, .type = type};
    const Variant& variant = find_variant("fused");
    const test::Data data(problem, 20);
    for (const Setting& setting : test::settings(variant, problem, Pass::backward)) {
      auto results = test::run_backward(variant, problem, data, setting.with_out(type));
      for (std::size_t t : {0, 1}) {
        for (double x : results[t].values()) ASSERT_EQ(x, 0) << setting.text() << ": " << name_of(problem, t);
      }
    }
  }
}

TEST(FusedBackward, WorkspaceGrowsWithTokensOnlyWhereGradientsAreSummedInIt) {
  struct Way {
    std::string_view variant, tiling;
  };
  for (const Way& way : {Way{"fused", kBestTiling}, Way{"fused", kStaticTiling}, Way{"dense", kBestTiling}}) {
    const auto bytes = [&](int64_t tokens, ElementType type, int threads) {
      const Problem problem{.axes = {{.extent = tokens, .window = tokens}}, .heads = 2, .heads_kv = 2, .type = type};
      return make_plan(problem, Pass::backward, {.variant = way.variant, .arithmetic = kF32Fma, .tiling = way.tiling})
          .workspace_bytes(threads);
    };
    const int64_t tile = bytes(1 << 16, ElementType::f32, 1);
    EXPECT_EQ(bytes(1 << 16, ElementType::f32, 5), 5 * tile);
    // Tiles may be of another shape, but must stay in a second-level cache.
    for (const int64_t tokens : {1 << 10, 1 << 16, 1 << 20}) EXPECT_LT(bytes(tokens, ElementType::f32, 1), 1 << 20);
    // dk and dv of two heads of 64.
    EXPECT_EQ(bytes(1 << 16, ElementType::bf16, 1) - tile, int64_t{4 * 2 * (64 + 64)} << 16);
  }
}

}  // namespace
}  // namespace nalab
