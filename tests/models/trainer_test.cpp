#include "models/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "core/error.h"
#include "core/simd/isa.h"
#include "tests/models/small_models.h"

namespace nalab::models {
namespace {

constexpr int64_t kBatch = 3;

/// A small model on seeded images.
struct Training {
  explicit Training(const std::string& name, const ProgramOptions& options = {.variants = {"fused"}}, int threads = 2)
      : graph(build(small_model(name), {.training = true})),
        workers(threads),
        trainer(graph, small_weights(graph), {.batch = kBatch, .type = options.type, .variants = options.variants},
                workers),
        images(noise(kBatch * graph.node(0).extent.elements(), 7)) {}

  double loss() { return trainer.gradients(images, labels).loss; }
  /// Gradients of all parameters.
  Weights gradients() {
    loss();
    return trainer.weight_gradients();
  }

  Graph graph;
  Workers workers;
  Trainer trainer;
  std::vector<float> images;
  std::vector<int32_t> labels{3, 0, 9};
};

double norm(const std::vector<float>& values) {
  double sum = 0;
  for (const float x : values) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

class Trainers : public testing::TestWithParam<const char*> {};

/// Along its gradient, a parameter changes the loss by the gradient's norm.
TEST_P(Trainers, GradientsAreThoseOfTheLoss) {
  Training training(GetParam());
  const Weights gradients = training.gradients(), weights = training.trainer.weights();
  int checked = 0;
  for (const auto& [name, gradient] : gradients) {
    const double slope = norm(gradient);
    ASSERT_GT(slope, 0) << name;
    const double step = 0.02 / std::max(slope, 0.05);
    const auto loss_at = [&, &name = name, &gradient = gradient](double distance) {
      Weights moved = weights;
      for (size_t i = 0; i < gradient.size(); ++i) {
        moved[name][i] += static_cast<float>(distance * gradient[i] / slope);
      }
      training.trainer.set_weights(moved);
      return training.loss();
    };
    // Of fourth order in the step, which leaves a small part of the slope; the loss, of a few units, is float32.
    const double near = loss_at(step) - loss_at(-step), far = loss_at(2 * step) - loss_at(-2 * step);
    EXPECT_NEAR((8 * near - far) / (12 * step), slope, 0.003 * slope + 16 * 0x1p-24 / step) << name;
    ++checked;
  }
  EXPECT_GT(checked, 20);
}

TEST_P(Trainers, VariantsAgree) {
  Training reference(GetParam(), {.variants = {"reference"}});
  const Weights expected = reference.gradients();
  const double bound = order_of_layers(reference.graph, 2);  // there and back
  for (const char* variant : {"naive", "gemm", "fused"}) {
    const Weights found = Training(GetParam(), {.variants = {variant}}).gradients();
    for (const auto& [name, gradient] : expected) {
      EXPECT_LT(difference(found.at(name), gradient), bound) << variant << ' ' << name;
    }
  }
}

TEST_P(Trainers, HoldSeveralVariants) {
  Training both(GetParam(), {.variants = {"naive", "fused"}});
  const Weights naive = both.gradients();
  both.trainer.choose(1);
  EXPECT_EQ(both.gradients(), Training(GetParam(), {.variants = {"fused"}}).gradients());
  both.trainer.choose(0);
  both.trainer.forget();
  EXPECT_TRUE(std::isnan(both.trainer.weight_gradients().begin()->second.front()));
  EXPECT_EQ(both.gradients(), naive) << "what earlier calls left has no part in it";
  EXPECT_EQ(naive, Training(GetParam(), {.variants = {"naive"}}).gradients());
  EXPECT_LE(Trainer::value_bytes(both.graph, kBatch, ElementType::f32), both.trainer.memory_bytes());
}

TEST_P(Trainers, GiveTheSameBitsForAnyNumberOfThreads) {
  const auto trained = [&](int threads) {
    Training training(GetParam(), {.variants = {"fused"}}, threads);
    for (int i = 0; i < 3; ++i) {
      training.loss();
      training.trainer.update({});
    }
    return training.trainer.weights();
  };
  EXPECT_EQ(trained(1), trained(2));
}

TEST_P(Trainers, InBf16AreCloseToFloat32) {
  if (!features(choose_isa()).contains(CpuFeatures::avx512())) GTEST_SKIP() << "oneDNN computes bf16 with AVX-512";
  const Weights expected = Training(GetParam()).gradients();
  const Weights found = Training(GetParam(), {.type = ElementType::bf16, .variants = {"fused"}}).gradients();
  for (const auto& [name, gradient] : expected) EXPECT_LT(difference(found.at(name), gradient), 0.1) << name;
}

INSTANTIATE_TEST_SUITE_P(All, Trainers, testing::Values("nat", "dinats", "isotropic"),
                         [](const auto& test) { return std::string(test.param); });

TEST(Trainer, LearnsAToyTask) {
  // The class is the place of a bright square.
  const Graph graph = build(parse_definitions("toy",
                                              "models: [{name: toy, kind: nat, depths: [2], heads: [2], "
                                              "channels: [32], window: 3, dilation: [2], classes: 4}]")
                                .front(),
                            {.rows = 24, .columns = 24, .training = true});
  constexpr int64_t batch = 8;
  Workers workers(2);
  Trainer trainer(graph, random_weights(parameters(graph), 1), {.batch = batch, .variants = {"fused"}}, workers);
  const int64_t pixels = graph.node(0).extent.elements();
  double first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    std::vector<float> images = noise(batch * pixels, 100 + static_cast<uint64_t>(step));
    std::vector<int32_t> labels;
    for (int64_t b = 0; b < batch; ++b) {
      const auto label = static_cast<int32_t>((b + step) % 4);
      labels.push_back(label);
      for (int64_t r = 0; r < 12; ++r) {
        float* row = images.data() + b * pixels + ((label / 2 * 12 + r) * 24 + label % 2 * 12) * 3;
        for (int64_t c = 0; c < 36; ++c) row[c] += (label == 0 ? 1.0F : 1.0F + static_cast<float>(label));
      }
    }
    const double loss = trainer.gradients(images, labels).loss;
    (step == 0 ? first : last) = loss;
    trainer.update({.rate = 3e-3});
  }
  EXPECT_NEAR(first, std::log(4), 0.1);
  EXPECT_LT(last, 0.5 * first);
}

TEST(Trainer, FirstUpdateIsThatOfAdamW) {
  Training training("isotropic");
  const Weights before = training.trainer.weights(), gradients = training.gradients();
  training.trainer.update({.rate = 0.01, .decay = 0.1});
  for (const auto& [name, values] : training.trainer.weights()) {
    const bool decays = name == "head.weight" || name.find("proj.weight") != std::string::npos ||
                        name.find("qkv.weight") != std::string::npos || name.find(".fc") != std::string::npos;
    if (name.ends_with("bias") || name.ends_with("rpb") || name.find("norm") != std::string::npos || decays) {
      const double kept = decays && name.ends_with("weight") ? 1 - 0.01 * 0.1 : 1;
      for (size_t i = 0; i < values.size(); ++i) {
        const float g = gradients.at(name)[i];
        constexpr float kLeast = 1e-5F;  // beside which the epsilon of 1e-8 is a thousandth
        if (std::abs(g) < kLeast) continue;
        const double bound = 0.01 * 1e-8 / kLeast + 0x1p-22 * std::abs(before.at(name)[i]);
        ASSERT_NEAR(values[i], kept * before.at(name)[i] - (g > 0 ? 0.01 : -0.01), bound) << name << ' ' << i;
      }
    }
  }
}

TEST(Trainer, RefusesGenerators) {
  const Graph graph = build(small_model("stylenat"));
  Workers workers(1);
  try {
    const Trainer trainer(graph, small_weights(graph), {}, workers);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("has no backward pass"));
  }
}

TEST(Trainer, TimesAttentionWithinTheWhole) {
  Training training("nat");
  const Trainer::Result result = training.trainer.gradients(training.images, training.labels);
  EXPECT_GT(result.seconds.attention, 0);
  EXPECT_LT(result.seconds.attention, result.seconds.all);
}

}  // namespace
}  // namespace nalab::models
