#include "experiments/selftest/draw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "core/kernels/registry.h"
#include "core/simd/arithmetic.h"

namespace nalab::selftest {
namespace {

TEST(Draw, IsTheSameForASeedAndANumberAndAnotherForOthers) {
  EXPECT_EQ(draw(5, 17), draw(5, 17));
  EXPECT_NE(draw(5, 17), draw(5, 18));
  EXPECT_NE(draw(5, 17), draw(6, 17));
}

TEST(Draw, GivesValidTrialsOfOneProblemInDifferentVariants) {
  for (uint64_t number = 0; number < 100; ++number) {
    const std::vector<Trial> trials = draw(2, number);
    ASSERT_FALSE(trials.empty());
    std::set<std::string> variants;
    for (const Trial& trial : trials) {
      EXPECT_EQ(trial.problem, trials.front().problem);
      EXPECT_NO_THROW(trial.problem.validate());
      EXPECT_TRUE(variants.insert(trial.variant).second) << trial.variant << " twice";
    }
  }
}

/// How often each of some words was drawn.
class Counts {
 public:
  template <class Word>
  void add(const std::string& field, const Word& word) {
    ++counts_[field][std::string(word)];
  }
  void add(const std::string& field, bool yes) { add(field, yes ? "yes" : "no"); }
  /// Each of the words at least so often.
  template <class Words>
  void expect_all(const std::string& field, const Words& words, int64_t least = 2) const {
    for (const auto& word : words) {
      const auto& counts = counts_.at(field);
      const auto found = counts.find(std::string(word));
      EXPECT_GE(found == counts.end() ? 0 : found->second, least) << field << " " << word;
    }
  }
  void expect_both(const std::string& field) const { expect_all(field, std::array{"yes", "no"}); }

 private:
  std::map<std::string, std::map<std::string, int64_t>> counts_;
};

TEST(Draw, CoversAllThatACallMayBe) {
  Counts counts;
  for (uint64_t number = 0; number < 700; ++number) {
    for (const Trial& trial : draw(4, number)) {
      const Problem& p = trial.problem;
      const auto any = [&](const auto& holds) { return std::ranges::any_of(p.axes, holds); };
      counts.add("rank", std::to_string(p.rank()));
      counts.add("type", name(p.type));
      counts.add("pass", name(trial.pass));
      counts.add("variant", trial.variant);
      counts.add("variant and pass", trial.variant + " " + name(trial.pass));
      counts.add("isa", name(trial.isa));
      counts.add("arithmetic", trial.arithmetic);
      counts.add("even window", any([](const Axis& a) { return a.window % 2 == 0; }));
      counts.add("stride", any([](const Axis& a) { return a.stride > 1; }));
      counts.add("dilation", any([](const Axis& a) { return a.dilation > 1; }));
      counts.add("causal", any([](const Axis& a) { return a.causal; }));
      counts.add("extent 1 beside others", p.rank() > 1 && any([](const Axis& a) { return a.extent == 1; }));
      counts.add("grouped heads", p.heads > p.heads_kv && p.heads_kv > 1);
      counts.add("head_dim_v", p.head_dim != p.head_dim_v);
      counts.add("wide", p.head_dim > 128);
      counts.add("head_dim 1", p.head_dim == 1);
      counts.add("extra tokens", p.extra_tokens > 0);
      counts.add("bias", p.relative_bias);
      counts.add("scale negative", p.scale.value_or(1) < 0);
      counts.add("scale zero", p.scale.value_or(1) == 0);
      counts.add("scale huge", p.scale.value_or(1) > 1e20);
      counts.add("scale", p.scale.has_value());
      counts.add("tiling", trial.tiling.empty() ? "best" : trial.tiling == kStaticTiling ? "static" : "named");
      counts.add("several threads", trial.threads.front() > 1);
      counts.add("bits", trial.threads.size() > 1);
      counts.add("f32 results", trial.results_are_f32);
      counts.add("values", std::to_string(static_cast<int>(trial.values)));
      counts.add("contiguous", trial.placements.empty());
      for (const auto& [tensor, placement] : trial.placements) {
        counts.add("order", placement.order != 0);
        for (unsigned bit = 0; bit < 6; ++bit) {
          counts.add("gap " + std::to_string(bit), (placement.gaps >> bit & 1u) != 0);
        }
      }
    }
  }
  counts.expect_all("rank", std::array{"1", "2", "3"});
  counts.expect_all("type", std::array{"f32", "bf16", "f16"});
  for (const Pass pass : kPasses) counts.expect_all("pass", std::array{name(pass)});
  for (const Variant& variant : variants()) {
    if (variant.is_oracle || variant.device != Device::cpu) continue;
    counts.expect_all("variant", std::array{variant.name});
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      counts.expect_all("variant and pass", std::array{std::string(variant.name) + " " + name(pass)});
    }
  }
  for (const Isa isa : all_isas()) {
    if (cpu_supports(isa)) counts.expect_all("isa", std::array{name(isa)});
  }
  for (const Arithmetic& arithmetic : arithmetics()) {
    if (available(arithmetic, best_isa()) && arithmetic.name != kF64Scalar) {
      counts.expect_all("arithmetic", std::array{arithmetic.name});
    }
  }
  counts.expect_all("tiling", std::array{"best", "static", "named"});
  counts.expect_all("values", std::array{"0", "1", "2", "3"});
  for (const char* field : {"even window",
                            "stride",
                            "dilation",
                            "causal",
                            "extent 1 beside others",
                            "grouped heads",
                            "head_dim_v",
                            "wide",
                            "head_dim 1",
                            "extra tokens",
                            "bias",
                            "scale negative",
                            "scale zero",
                            "scale huge",
                            "scale",
                            "several threads",
                            "bits",
                            "f32 results",
                            "contiguous",
                            "order",
                            "gap 0",
                            "gap 1",
                            "gap 2",
                            "gap 3",
                            "gap 4",
                            "gap 5"}) {
    counts.expect_both(field);
  }
}

}  // namespace
}  // namespace nalab::selftest
