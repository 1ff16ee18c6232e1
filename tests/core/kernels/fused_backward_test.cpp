// The backward pass of fused and dense where it is made of many tiles, blocks and tasks: what small problems of the
// common tests do not reach.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/compare.h"
#include "core/kernels/fused/tiles.h"
#include "tests/core/kernels/backward.h"

namespace nalab {
namespace {

using test::kGradientNames;
using test::kGradients;
using test::Setting;

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
  };
}

/// Calls f(variant, problem). dense on the first problem alone: in place of the others it would run too long.
template <class F>
void for_every_large(F f) {
  bool first = true;
  for (const Problem& problem : large_problems()) {
    for (const char* name : {"fused", "fused_static"}) f(find_variant(name), problem);
    if (first) f(find_variant("dense"), problem.self_attention());
    first = false;
  }
}

/// out and lse as the variant itself leaves them.
struct Saved {
  Tensor out, lse;

  Saved(const Variant& variant, const Problem& problem, const test::Data& data, ElementType out_type)
      : out(out_type, out_shape(problem)), lse(ElementType::f32, lse_shape(problem)) {
    Workers workers(2);
    attention_forward(variant.name, problem, data.inputs(), {out.view(), lse.view()}, workers);
  }
};

void run(const Variant& variant, const Problem& problem, const test::Data& data, const Saved& saved,
         const Setting& setting, const Gradients& gradients) {
  test::with_workspace(variant, problem, Pass::backward, setting, [&](const Execution& execution) {
    variant.backward(problem, data.inputs(), {saved.out.view(), saved.lse.view(), data.dout.view()}, gradients,
                     execution);
  });
}

/// Results in memory of one kind or another.
template <class Memory>
struct Results {
  std::vector<Memory> tensors;

  Results(const Problem& problem, ElementType type) {
    for (const TokenShape& shape : test::gradient_shapes(problem)) tensors.emplace_back(type, shape);
  }
  Gradients views(const Problem& problem) {
    const bool extra = problem.extra_tokens > 0;
    return {tensors[0].view(), tensors[1].view(), tensors[2].view(), extra ? tensors[3].view() : TensorView{},
            extra ? tensors[4].view() : TensorView{}};
  }
};

Results<test::GuardedTensor> run(const Variant& variant, const Problem& problem, const test::Data& data,
                                 const Saved& saved, const Setting& setting) {
  Results<test::GuardedTensor> results(problem, setting.out_type);
  run(variant, problem, data, saved, setting, results.views(problem));
  for (const auto& tensor : results.tensors) EXPECT_TRUE(tensor.intact()) << "wrote outside a gradient";
  return results;
}

TEST(FusedBackward, ProblemsOfThisTestAreMadeOfManyTasks) {
  for (const Problem& problem : large_problems()) {
    const fused::Tiles tiles = fused::choose_tiles(problem, Pass::backward);
    int64_t supers = problem.heads / tiles.heads;
    for (int axis = 0; axis < 3; ++axis) {
      supers *= geometry::ceil_div(problem.axes3()[axis].group_length(0), tiles.super_queries(axis));
    }
    EXPECT_GT(supers, problem.heads_kv) << problem.id();
  }
}

TEST(FusedBackward, AgreesWithTheReferenceOverManyTasksAndBlocks) {
  for_every_large([](const Variant& variant, const Problem& problem) {
    const test::Data data(problem, 17);
    const Saved saved(variant, problem, data, problem.type);
    const auto expected = test::expected_gradients(problem, data);
    for (Isa isa : test::supported_isas()) {
      SCOPED_TRACE(std::string(variant.name) + " " + problem.id() + " " + std::string(name(isa)));
      auto results = run(variant, problem, data, saved, {.isa = isa, .threads = 3});
      for (std::size_t t = 0; t < kGradients; ++t) {
        const auto values = results.tensors[t].values();
        const auto errors = compare(std::span(values), std::span(expected[t]),
                                    tolerance(problem.type, TensorKind::gradient), test::max_abs(expected[2]));
        EXPECT_TRUE(errors.ok) << kGradientNames[t] << ": " << errors.to_string();
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
      const Isa isa = test::supported_isas().back();
      auto one = run(variant, problem, data, saved, {isa, type, 1});
      for (const int threads : {2, 3, 7}) {
        auto several = run(variant, problem, data, saved, {isa, type, threads});
        for (std::size_t t = 0; t < kGradients; ++t) {
          EXPECT_EQ(one.tensors[t].bits(), several.tensors[t].bits()) << threads << " threads, " << kGradientNames[t];
        }
      }
    }
  });
}

// Sums are float: rounded once, at the end.
TEST(FusedBackward, GradientsInBf16AreThoseInFloatRounded) {
  for (Problem problem : large_problems()) {
    problem.type = ElementType::bf16;
    const Variant& variant = find_variant("fused");
    const test::Data data(problem, 21);
    const Saved saved(variant, problem, data, ElementType::f32);
    const Isa isa = test::supported_isas().back();
    auto rounded = run(variant, problem, data, saved, {isa, ElementType::bf16, 2});
    auto exact = run(variant, problem, data, saved, {isa, ElementType::f32, 2});
    for (std::size_t t = 0; t < kGradients; ++t) {
      auto expected = exact.tensors[t].values();
      for (double& x : expected) x = to_float(from_float<bf16>(static_cast<float>(x)));
      EXPECT_EQ(rounded.tensors[t].values(), expected) << kGradientNames[t];
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
      const Setting setting{test::supported_isas().back(), type, 2};
      auto expected = run(variant, problem, data, saved, setting);
      Results<test::StridedTensor> strided(problem, type);
      run(variant, problem, data, saved, setting, strided.views(problem));
      for (std::size_t t = 0; t < kGradients; ++t) {
        EXPECT_EQ(test::to_double(strided.tensors[t].view()), expected.tensors[t].values()) << kGradientNames[t];
        EXPECT_TRUE(strided.tensors[t].gaps_intact()) << kGradientNames[t];
      }
    }
  }
}

// With one key the weight is 1 whatever the score, and out is the value itself: no rounding may show in dq and dk.
TEST(FusedBackward, OneKeyGivesDqAndDkOfExactlyZero) {
  for (const ElementType type : test::kElementTypes) {
    for (const Isa isa : test::supported_isas()) {
      const Problem problem{.axes = {{.extent = 5}, {.extent = 23}}, .head_dim = 19, .head_dim_v = 37, .type = type};
      const test::Data data(problem, 20);
      auto results = test::run_backward(find_variant("fused"), problem, data, {.isa = isa, .out_type = type});
      for (std::size_t t : {0, 1}) {
        for (double x : results[t].values()) ASSERT_EQ(x, 0) << kGradientNames[t];
      }
    }
  }
}

TEST(FusedBackward, WorkspaceGrowsWithTokensOnlyWhereGradientsAreSummedInIt) {
  for (const char* name : {"fused", "fused_static", "dense"}) {
    const Variant& variant = find_variant(name);
    const auto bytes = [&](int64_t tokens, ElementType type, int threads) {
      const Problem problem{.axes = {{.extent = tokens, .window = tokens}}, .heads = 2, .heads_kv = 2, .type = type};
      return variant.workspace_bytes(problem, Pass::backward, threads);
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
