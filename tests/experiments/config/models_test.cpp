// Models in configurations.
#include "experiments/config/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/experiments/support.h"

namespace nalab {
namespace {

using config::Form;
using config::ModelPass;
using experiments_test::complaint_of;
using experiments_test::load_text;
using testing::ElementsAre;

constexpr const char* kText = R"(
name: x
variants: [naive, fused]
types: [bf16, f32]
quick: {runs: [{labels: [NAT-T, faces]}]}
models:
  - {model: [NAT-M, NAT-T], batch: 128, pass: training_step, relative_bias: false, quick: {batch: 2, size: 256}}
  - {label: faces, model: StyleNAT-256}
)";

TEST(ConfigModels, AListStandsForOneOfEach) {
  const config::Config c = load_text(kText);
  ASSERT_EQ(c.models.size(), 3u);
  EXPECT_EQ(c.models[0].label, "NAT-M");
  EXPECT_EQ(c.models[1].label, "NAT-T");
  EXPECT_EQ(c.models[1].model, "NAT-T");
  EXPECT_EQ(c.models[1].batch, 128);
  EXPECT_EQ(c.models[1].size, std::nullopt);
  EXPECT_EQ(c.models[1].pass, ModelPass::training_step);
  EXPECT_FALSE(c.models[1].relative_bias);
  EXPECT_EQ(c.models[2].label, "faces");
  EXPECT_EQ(c.models[2].model, "StyleNAT-256");
  EXPECT_EQ(c.models[2].batch, 1);
  EXPECT_EQ(c.models[2].pass, ModelPass::forward);
  EXPECT_TRUE(c.models[2].relative_bias);
  const model::Request request = c.models[1].request(ElementType::bf16);
  EXPECT_EQ(request.name, "NAT-T");
  EXPECT_TRUE(request.training);
  EXPECT_EQ(request.type, ElementType::bf16);
}

TEST(ConfigModels, QuickOverridesAndRunsPickByLabel) {
  const config::Config c = load_text(kText, Form::quick);
  EXPECT_EQ(c.models[1].batch, 2);
  EXPECT_EQ(c.models[1].size, 256);
  const config::Selection selection = config::select(c, c.settings.runs.front());
  EXPECT_THAT(selection.models, ElementsAre(&c.models[1], &c.models[2]));
  EXPECT_EQ(config::select(load_text(kText), {}).models.size(), 3u);
}

TEST(ConfigModels, ResolvedReadsBackAsTheSame) {
  const config::Config c = load_text(kText, Form::quick);
  EXPECT_EQ(config::resolved(load_text(config::resolved(c))), config::resolved(c));
}

TEST(ConfigModels, BadOnesGetTheirLine) {
  const auto line = [](const std::string& entry) {
    return complaint_of("name: x\nvariants: fused\nmodels:\n- {" + entry + "}\n");
  };
  EXPECT_EQ(line("batch: 2"), "x.yaml:4:3: models: expected the key model, got none");
  EXPECT_EQ(
      line("model: NAT-T, window: 3"),
      "x.yaml:4:26: window: expected one of the keys label, model, definitions, pass, batch, size, relative_bias, "
      "quick, got an unknown key");
  EXPECT_EQ(line("model: NAT-T, pass: backward"),
            "x.yaml:4:24: pass: expected one of forward, training_step, got 'backward'");
  EXPECT_EQ(line("model: NAT-T, batch: 0"), "x.yaml:4:25: batch: expected an integer of at least 1, got '0'");
  EXPECT_EQ(line("model: [NAT-M, NAT-T], label: both"),
            "x.yaml:4:34: label: expected no label for several models, got one");
  EXPECT_EQ(line("model: NAT-T, quick: {batch: zero}"),
            "x.yaml:4:33: batch: expected an integer of at least 1, got 'zero'");
  EXPECT_EQ(complaint_of("name: x\nmodels: [{model: NAT-T}]\n"), "x.yaml:1:1: expected the key variants, got none");
  EXPECT_EQ(complaint_of("name: x\nvariants: fused\nruns: {labels: NAT-B}\nmodels: [{model: NAT-T}]\n"),
            "x.yaml:3:16: labels: expected the label of a problem or model, got 'NAT-B'");
}

TEST(ConfigModels, ThoseThatCannotBeMadeAreRefusedAtTheirName) {
  if (!model::why_not_built().empty()) GTEST_SKIP() << model::why_not_built();
  const auto line = [](const std::string& entry) {
    return complaint_of("name: x\nvariants: fused\nmodels:\n- {" + entry + "}\n");
  };
  EXPECT_THAT(line("model: [NAT-T, NAT-X]"),
              testing::StartsWith("x.yaml:4:19: model: unknown model 'NAT-X', must be one of NAT-M, "));
  EXPECT_THAT(line("model: NAT-T, size: 64"), testing::StartsWith("x.yaml:4:11: model: "));
  EXPECT_EQ(line("model: StyleNAT-256, pass: training_step"), "x.yaml:4:11: model: generators are not trained");
  EXPECT_THAT(line("model: NAT-T, quick: {size: 64}"), testing::StartsWith("x.yaml:4:11: model: "))
      << "the quick form is checked too";
}

}  // namespace
}  // namespace nalab
