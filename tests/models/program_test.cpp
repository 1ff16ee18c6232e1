#include "models/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/simd/isa.h"
#include "tests/models/small_models.h"

namespace nalab::models {
namespace {

struct Case {
  ElementType type = ElementType::f32;
  const char* variant = "fused";
  int threads = 2;
  int64_t batch = 3;
};

/// What a model gives for a seeded input and multiples of it.
std::vector<float> outcome(const std::string& name, const Case& c) {
  const Graph graph = build(small_model(name));
  Workers workers(c.threads);
  Program program(graph, small_weights(graph), {.batch = c.batch, .type = c.type, .variants = {c.variant}}, workers);
  const std::vector<float> one = noise(program.input_elements() / c.batch, 5);
  std::vector<float> input;
  for (int64_t b = 0; b < c.batch; ++b) {
    for (const float x : one) input.push_back(x * static_cast<float>(b + 1));
  }
  std::vector<float> output(static_cast<size_t>(program.output_elements()), NAN);
  program.forward(input, output);
  const std::vector<float> first = output;
  const Seconds seconds = program.forward(input, output);
  EXPECT_EQ(std::memcmp(first.data(), output.data(), first.size() * sizeof(float)), 0);
  EXPECT_GT(seconds.attention, 0);
  EXPECT_LT(seconds.attention, seconds.all);
  return output;
}

class Programs : public testing::TestWithParam<const char*> {};

/// What oneDNN takes where it has nothing better is a hundred times as slow. A layer as wide as those of the papers,
/// which is cut into columns.
TEST(Program, LeavesNothingToTheReferenceImplementationsOfOneDnn) {
  Graph graph;
  const Value x = graph.input({14, 14, 256});
  add_mlp(graph, {.state = "block.", .channels = 256, .hidden = 512, .layer_scale = 1}, x, x);
  Workers workers(2);
  std::vector<ElementType> types{ElementType::f32};
  if (best_isa() >= Isa::avx512) types.push_back(ElementType::bf16);
  for (const ElementType type : types) {
    Program program(graph, small_weights(graph), {.type = type}, workers);
    std::vector<float> output(static_cast<size_t>(program.output_elements()));
    testing::internal::CaptureStdout();
    dnnl::set_verbose(1);
    program.forward(noise(program.input_elements(), 5), output);
    dnnl::set_verbose(0);
    const std::string executed = testing::internal::GetCapturedStdout();
    EXPECT_THAT(executed, testing::HasSubstr(",exec,cpu,matmul,"));
    EXPECT_THAT(executed, testing::Not(testing::HasSubstr(",ref")));
  }
}

TEST_P(Programs, AgreeWithTheReferenceAttention) {
  const std::vector<float> expected = outcome(GetParam(), {.variant = "reference"});
  const double bound = order_of_layers(build(small_model(GetParam())));
  for (const char* variant : {"naive", "gemm", "fused", ""}) {
    SCOPED_TRACE(variant);
    EXPECT_LT(difference(outcome(GetParam(), {.variant = variant}), expected), bound);
  }
}

TEST_P(Programs, GiveTheSameBitsForAnyNumberOfThreads) {
  const std::vector<float> one = outcome(GetParam(), {.threads = 1}), two = outcome(GetParam(), {.threads = 2});
  EXPECT_EQ(std::memcmp(one.data(), two.data(), one.size() * sizeof(float)), 0);
}

TEST_P(Programs, HoldSeveralVariantsThatDifferInAttentionAlone) {
  const Graph graph = build(small_model(GetParam()));
  Workers workers(2);
  const auto made = [&](std::vector<std::string> variants) {
    return std::make_unique<Program>(graph, small_weights(graph), ProgramOptions{.batch = 2, .variants = variants},
                                     workers);
  };
  const auto outcome_of = [](Program& program) {
    std::vector<float> output(static_cast<size_t>(program.output_elements()));
    program.forward(noise(program.input_elements(), 5), output);
    return output;
  };
  const auto both = made({"naive", "fused"}), naive = made({"naive"}), fused = made({"fused"});
  const std::vector<float> by_naive = outcome_of(*naive), by_fused = outcome_of(*fused);
  EXPECT_NE(by_naive, by_fused);
  EXPECT_EQ(outcome_of(*both), by_naive) << "the first until another one is chosen";
  both->choose(1);
  EXPECT_EQ(outcome_of(*both), by_fused);
  both->choose(0);
  both->forget();
  EXPECT_EQ(outcome_of(*both), by_naive) << "what earlier calls left has no part in it";
  EXPECT_EQ(both->memory_bytes(), std::max(naive->memory_bytes(), fused->memory_bytes()));
  EXPECT_LE(Program::value_bytes(graph, 2, ElementType::f32), naive->memory_bytes());
}

TEST_P(Programs, TakeEachImageByItself) {
  const std::vector<float> one = outcome(GetParam(), {.batch = 1});
  std::vector<float> first = outcome(GetParam(), {.batch = 3});
  first.resize(one.size());
  EXPECT_LT(difference(first, one), kOrderOfALayer);
}

TEST_P(Programs, InBf16AreCloseToFloat32) {
  if (!features(choose_isa()).contains(CpuFeatures::avx512())) GTEST_SKIP() << "oneDNN computes bf16 with AVX-512";
  const std::vector<float> expected = outcome(GetParam(), {});
  for (const char* variant : {"naive", "gemm", "fused"}) {
    const double error = difference(outcome(GetParam(), {.type = ElementType::bf16, .variant = variant}), expected);
    EXPECT_LT(error, 0.03) << variant;
    EXPECT_GT(error, 1e-5) << variant;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Programs, testing::Values("nat", "dinats", "isotropic", "stylenat"),
                         [](const auto& test) { return std::string(test.param); });

TEST(Program, RefusesWhatItCannotCompute) {
  const Graph graph = build(small_model("nat"));
  Workers workers(1);
  const auto refusal = [&](const ProgramOptions& options) -> std::string {
    try {
      const Program program(graph, small_weights(graph), options, workers);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal({.type = ElementType::f16}), testing::HasSubstr("f32 and bf16"));
  EXPECT_THAT(refusal({.variants = {"dense"}}), testing::HasSubstr("dense"));
  EXPECT_EQ(refusal({.variants = {}}), "there must be at least one variant of attention");
  if (choose_isa() != Isa::baseline) {
    EXPECT_EQ(refusal({.isa = Isa::baseline}),
              "oneDNN is limited to " + std::string(name(choose_isa())) + " by an earlier model of the process");
  }
}

TEST(Weights, DependOnSeedAndNameAlone) {
  const Parameter a{"a", {1000}, {Initial::Kind::normal, 2}}, b{"b", {1000}, {Initial::Kind::uniform, 3}};
  const Weights both = random_weights({a, b}, 1), alone = random_weights({b}, 1);
  EXPECT_EQ(both.at("b"), alone.at("b"));
  EXPECT_NE(random_weights({a}, 2).at("a"), both.at("a"));
  double square = 0, greatest = 0;
  for (const float x : both.at("a")) square += static_cast<double>(x) * x;
  for (const float x : both.at("b")) greatest = std::max(greatest, std::abs(static_cast<double>(x)));
  EXPECT_NEAR(std::sqrt(square / 1000), 2, 0.2);
  EXPECT_NEAR(greatest, 3, 0.02);
}

}  // namespace
}  // namespace nalab::models
