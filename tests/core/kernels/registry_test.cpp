#include "core/kernels/registry.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/core/kernels/support.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

const Problem kSelfAttention{.axes = {{.extent = 6, .window = 6}}, .head_dim = 8, .head_dim_v = 8};
const Problem kWindowed{.axes = {{.extent = 6, .window = 3}}, .head_dim = 8, .head_dim_v = 8};

TEST(Registry, ReferenceFirstAndEveryNameOnce) {
  ASSERT_FALSE(variants().empty());
  EXPECT_EQ(variants().front().name, "reference");
  std::set<std::string_view> names;
  for (const Variant& variant : variants()) {
    EXPECT_TRUE(names.insert(variant.name).second) << variant.name;
    EXPECT_FALSE(variant.paper_term.empty()) << variant.name;
    EXPECT_FALSE(variant.summary.empty()) << variant.name;
    EXPECT_EQ(&find_variant(variant.name), &variant);
  }
}

TEST(Registry, UnknownNamesAreRefusedWithTheList) {
  std::string names;
  for (const Variant& variant : variants()) names += (names.empty() ? "" : ", ") + std::string(variant.name);
  for (const std::string text : {"", "Reference", "no such variant"}) {
    EXPECT_EQ(test::error_of([&] { find_variant(text); }), "variant '" + text + "' is none of " + names);
  }
}

TEST(Registry, EveryVariantComputesSelfAttentionAndSaysWhyNotTheRest) {
  for (const Variant& variant : variants()) {
    for (ElementType type : test::kElementTypes) {
      for (Problem problem : {kSelfAttention, kWindowed}) {
        problem.type = type;
        const auto forward = variant.supports(problem, Pass::forward);
        if (problem.is_self_attention() || !variant.self_attention_only) {
          EXPECT_FALSE(forward.has_value()) << variant.name << ": " << forward.value_or("");
        }
        const auto backward = variant.supports(problem, Pass::backward);
        EXPECT_NE(forward, "") << variant.name;
        EXPECT_NE(backward, "") << variant.name;
        EXPECT_TRUE(variant.forward != nullptr);
        EXPECT_TRUE(backward.has_value() || variant.backward != nullptr) << variant.name;
      }
    }
    EXPECT_EQ(variant.self_attention_only, variant.supports(kWindowed, Pass::forward).has_value()) << variant.name;
  }
}

TEST(Registry, ExecutedFlopsAreAtLeastTheUsefulOnes) {
  for (const Variant& variant : variants()) {
    for (Pass pass : {Pass::forward, Pass::backward}) {
      for (const Problem& problem : {kSelfAttention, kWindowed}) {
        if (variant.supports(problem, pass)) continue;
        EXPECT_GE(variant.executed_flops(problem, pass), problem.useful_flops(pass)) << variant.name;
        EXPECT_GE(variant.workspace_bytes(problem, pass, 1), 0) << variant.name;
        EXPECT_GE(variant.workspace_bytes(problem, pass, 8), variant.workspace_bytes(problem, pass, 1));
      }
    }
  }
}

}  // namespace
}  // namespace nalab
