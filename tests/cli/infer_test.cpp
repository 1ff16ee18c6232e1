// nalab infer and nalab list models as a user calls them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "store/arrays.h"
#include "store/hdf5.h"
#include "store/new_hdf5_file.h"
#include "tests/cli/run_nalab.h"

namespace nalab {
namespace {

using store::Array;
using testing::HasSubstr;

constexpr const char* kDefinition =
    "models: [{name: tiny, kind: isotropic, depths: [1], heads: [1], channels: [8], patch: 4, window: 3, classes: "
    "5}]\n";

Array filled(std::vector<int64_t> shape) {
  int64_t size = 1;
  for (const int64_t extent : shape) size *= extent;
  Array array{std::move(shape), std::vector<float>(static_cast<size_t>(size))};
  for (size_t i = 0; i < array.data.size(); ++i) array.data[i] = std::sin(static_cast<float>(i));
  return array;
}

/// The weights of the tiny model.
std::map<std::string, Array> tiny_weights() {
  std::map<std::string, Array> weights;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    weights[name] = filled(std::move(shape));
  };
  add("patch_embed.proj.weight", {8, 3, 4, 4});
  add("head.weight", {5, 8});
  add("head.bias", {5});
  add("layers.0.attn.qkv.weight", {24, 8});
  add("layers.0.attn.qkv.bias", {24});
  add("layers.0.attn.rpb", {1, 5, 5});
  add("layers.0.attn.proj.weight", {8, 8});
  add("layers.0.mlp.fc1.weight", {32, 8});
  add("layers.0.mlp.fc1.bias", {32});
  add("layers.0.mlp.fc2.weight", {8, 32});
  for (const char* name : {"patch_embed.proj.bias", "patch_embed.norm.weight", "patch_embed.norm.bias", "norm.weight",
                           "norm.bias", "layers.0.norm1.weight", "layers.0.norm1.bias", "layers.0.norm2.weight",
                           "layers.0.norm2.bias", "layers.0.attn.proj.bias", "layers.0.mlp.fc2.bias"}) {
    add(name, {8});
  }
  return weights;
}

class Infer : public testing::Test {
 protected:
  Infer() {
    std::ofstream(folder_.file("tiny.yaml")) << kDefinition;
    store::write_array(folder_.file("in.h5"), "images", filled({2, 14, 13, 3}), {});
  }

  void write_weights(const std::map<std::string, Array>& weights, const std::string& model = "tiny",
                     const std::string& schema = store::kWeightsSchema) {
    store::hdf5::NewHdf5File target(folder_.file("weights.h5"));
    target.write([&](hid_t file) {
      store::hdf5::write_attribute(file, "schema", schema);
      store::hdf5::write_attribute(file, "model", model);
      for (const auto& [name, array] : weights) store::hdf5::write_tensor(file, name, array.shape, array.data);
    });
    target.commit();
  }

  Outcome infer(std::vector<std::string> more, const std::string& model = "tiny", const std::string& input = "in.h5") {
    std::vector<std::string> arguments{"infer", model, folder_.file(input), folder_.file("out.h5"), "--threads", "2"};
    if (model == "tiny") arguments.insert(arguments.end(), {"--definitions", folder_.file("tiny.yaml")});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_nalab(folder_, arguments);
  }

  Outcome with_weights() { return infer({"--weights", folder_.file("weights.h5")}); }

  TemporaryFolder folder_;
};

TEST_F(Infer, WritesLogitsOfAllImages) {
  write_weights(tiny_weights());
  const Outcome outcome = with_weights();
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("2 of tiny, f32, 2 threads"));
  const Array fused = store::read_array(folder_.file("out.h5"), "logits", 2);
  EXPECT_EQ(fused.shape, (std::vector<int64_t>{2, 5}));
  ASSERT_EQ(infer({"--weights", folder_.file("weights.h5"), "--variant", "reference"}).exit_code, 0);
  const Array reference = store::read_array(folder_.file("out.h5"), "logits", 2);
  // As nalab run verifies models (experiments/model/difference.h).
  const double norm =
      std::sqrt(std::inner_product(reference.data.begin(), reference.data.end(), reference.data.begin(), 0.0));
  for (size_t i = 0; i < 10; ++i) EXPECT_NEAR(fused.data[i], reference.data[i], 1e-5 * norm);
  EXPECT_NE(fused.data[0], fused.data[5]);
}

TEST_F(Infer, TakesRandomWeightsBySeed) {
  const auto logits = [&](const char* seed) {
    EXPECT_EQ(infer({"--random", seed}).exit_code, 0);
    return store::read_array(folder_.file("out.h5"), "logits", 2).data;
  };
  const std::vector<float> one = logits("1");
  EXPECT_EQ(one, logits("1"));
  EXPECT_NE(one, logits("2"));
}

TEST_F(Infer, NamesTheTensorThatIsWrong) {
  const auto expect = [&](const char* sentence, const std::function<void(std::map<std::string, Array>&)>& change) {
    std::map<std::string, Array> weights = tiny_weights();
    change(weights);
    write_weights(weights);
    const Outcome outcome = with_weights();
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.err, "nalab: " + folder_.file("weights.h5") + ": " + sentence + "\n");
  };
  expect("tensor norm.bias: is missing, must be [8]", [](auto& w) { w.erase("norm.bias"); });
  expect("tensor layers.0.attn.rpb: has shape [1, 5, 6], must be [1, 5, 5]", [](auto& w) {
    w["layers.0.attn.rpb"] = filled({1, 5, 6});
  });
  expect("tensor gamma of shape [2] is not part of the model tiny", [](auto& w) { w["gamma"] = filled({2}); });
}

TEST_F(Infer, RefusesOtherFiles) {
  write_weights(tiny_weights(), "NAT-T");
  EXPECT_THAT(with_weights().err, HasSubstr("attribute model is 'NAT-T', must be 'tiny'"));
  write_weights(tiny_weights(), "tiny", "nalab.cases/1");
  EXPECT_THAT(with_weights().err, HasSubstr("attribute schema is 'nalab.cases/1', must be 'nalab.weights/1'"));
  EXPECT_THAT(infer({}).err, HasSubstr("give either --weights or --random"));
  EXPECT_THAT(infer({"--random", "1"}, "NAT-X").err, HasSubstr("unknown model 'NAT-X', must be one of NAT-M"));
  EXPECT_THAT(infer({"--random", "1"}, "NAT-T").err, HasSubstr("model NAT-T: attention with window 7"));
  EXPECT_THAT(infer({"--random", "1", "--dtype", "f16"}).err, HasSubstr("f32 and bf16"));
  EXPECT_THAT(infer({"--random", "1"}, "StyleNAT-256").err, HasSubstr("dataset latents: is missing"));
  store::write_array(folder_.file("four.h5"), "images", filled({1, 14, 14, 4}), {});
  EXPECT_THAT(infer({"--random", "1"}, "tiny", "four.h5").err, HasSubstr("dataset images has 4 channels, must have 3"));
  store::write_array(folder_.file("flat.h5"), "images", filled({14, 14, 3}), {});
  EXPECT_THAT(infer({"--random", "1"}, "tiny", "flat.h5").err,
              HasSubstr("dataset images: has shape [14, 14, 3], must have 4 extents"));
}

TEST(ListModels, ShowsParametersAndMultiplyAdds) {
  const TemporaryFolder folder;
  const Outcome outcome = run_nalab(folder, {"list", "models"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, testing::ContainsRegex("NAT-T +224x224 +27901582 +4\\.321"));
  EXPECT_THAT(outcome.out, HasSubstr("StyleNAT-1024"));
}

}  // namespace
}  // namespace nalab
