// Models as experiments see them.
#include "experiments/model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/simd/isa.h"
#include "experiments/model/difference.h"
#include "tests/experiments/model/small_models.h"
#include "tests/store/temporary_folder.h"

namespace nalab::model {
namespace {

using testing::HasSubstr;

class Models : public testing::Test {
 protected:
  Request request(const std::string& name, bool training = false, int64_t batch = 2) const {
    return {.name = name,
            .definitions_file = path_,
            .definitions = experiments_test::kSmallModels,
            .batch = batch,
            .training = training};
  }
  /// The results of each variant.
  std::vector<Results> results(const Request& request, const std::vector<std::string>& variants, int threads = 2) {
    Workers workers(threads);
    const auto session = make_session(request, {variants, choose_isa()}, 1, workers);
    std::vector<Results> all;
    for (std::size_t i = 0; i < variants.size(); ++i) {
      EXPECT_GT(session->compute(i), 0);
      all.push_back(session->results());
    }
    return all;
  }

  TemporaryFolder folder_;
  std::string path_ = experiments_test::write_small_models(folder_.file("small.yaml"));
};

TEST_F(Models, VariantsAgreeWithTheReferenceOnTheSameMemory) {
  for (const auto& [name, training] : {std::pair{"tiny", false}, {"tiny", true}, {"painter", false}}) {
    const Request wanted = request(name, training);
    const auto all = results(wanted, {"reference", "naive", "gemm", "fused"});
    for (std::size_t i = 1; i < all.size(); ++i) {
      const Difference difference = greatest_difference(all[i], all[0]);
      EXPECT_TRUE(difference.is_within(bound_of(wanted))) << name << ' ' << difference.name << ' ' << difference.share;
    }
  }
}

TEST_F(Models, TheComparisonSeesAttention) {
  for (const auto& [name, training] : {std::pair{"tiny", false}, {"tiny", true}, {"painter", false}}) {
    Request wanted = request(name, training);
    const Results expected = results(wanted, {"naive"}).front();
    wanted.relative_bias = false;
    const Results without_bias = results(wanted, {"naive"}).front();
    Results shared = expected;  // gradients of tables are in one of them alone
    std::erase_if(shared, [&](const auto& result) { return !without_bias.contains(result.first); });
    const double seen = wanted.name == "tiny" ? 0.02 : 20 * bound_of(wanted);
    EXPECT_GT(greatest_difference(without_bias, shared).share, seen) << name;
  }
}

TEST_F(Models, ImagesDoNotDependOnTheBatchNorResultsOnThreads) {
  const Results one = results(request("tiny", false, 1), {"fused"}).front();
  const Results three = results(request("tiny", false, 3), {"fused"}).front();
  EXPECT_TRUE(greatest_difference(three, one).is_within(1e-6));
  EXPECT_EQ(three.at("logits").size(), 30u);
  EXPECT_EQ(results(request("tiny"), {"fused"}, 1), results(request("tiny"), {"fused"}, 2));
}

TEST_F(Models, AStepOfTrainingChangesTheWeights) {
  Workers workers(1);
  const auto session = make_session(request("tiny", true), {{"fused"}, choose_isa()}, 1, workers);
  session->compute(0);
  const Results before = session->results();
  session->compute(0);
  EXPECT_EQ(session->results(), before);
  session->update();
  session->compute(0);
  EXPECT_NE(session->results(), before);
}

TEST_F(Models, FactsAreKnownBeforehand) {
  const Facts tiny = facts(request("tiny"));
  EXPECT_EQ(tiny.size, 26);
  EXPECT_GT(tiny.parameters, 10'000);
  EXPECT_GT(tiny.multiply_adds, 20 * tiny.attention_multiply_adds);
  EXPECT_EQ(tiny.weight_bytes, 8 * tiny.parameters);
  ASSERT_EQ(tiny.attention.size(), 3u) << "a dilated layer, one that is not, and one of the next level";
  EXPECT_EQ(tiny.attention[0].problem.id(), "7x7_w3x3_s1x1_d1x1_c0x0_b2_h1_kv1_dk32_dv32_e0_f32_rpb");
  EXPECT_EQ(facts(request("tiny", true)).weight_bytes, 32 * tiny.parameters);
  EXPECT_GT(facts(request("tiny", true)).value_bytes, 2 * tiny.value_bytes);
  EXPECT_GT(facts(request("tiny", false, 4)).value_bytes, 1.9 * static_cast<double>(tiny.value_bytes));
}

TEST_F(Models, WhatCannotBeMadeIsRefusedWithAReason) {
  const auto refusal = [](const Request& wanted) -> std::string {
    try {
      facts(wanted);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal(request("huge")), "unknown model 'huge', must be one of tiny, painter");
  EXPECT_EQ(refusal(request("painter", true)), "generators are not trained");
  Request wanted = request("painter");
  wanted.size = 32;
  EXPECT_EQ(refusal(wanted), "size must be 16, what the model generates");
  wanted = request("tiny");
  wanted.size = 8;
  EXPECT_THAT(refusal(wanted), HasSubstr("window"));
  wanted.size = 26;
  wanted.batch = 200'000'000;
  EXPECT_EQ(refusal(wanted), "200000000 images of size 26 have more than 1e11 pixels");
  wanted.size = int64_t{1} << 62;
  EXPECT_THAT(refusal(wanted), HasSubstr("have more than 1e11 pixels"));
  wanted.definitions_file = folder_.file("none.yaml");
  wanted.definitions.reset();
  EXPECT_EQ(refusal(wanted), folder_.file("none.yaml") + ": cannot be read");
}

}  // namespace
}  // namespace nalab::model
