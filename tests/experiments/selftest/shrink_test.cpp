#include "experiments/selftest/shrink.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace nalab::selftest {
namespace {

Trial large() {
  Trial trial = parse_trial(
      "layout=9x12x10 window=3x4x5 stride=2x4x3 dilation=2x1x2 causal=1x0x1 batch=3 heads=12 heads_kv=3 head_dim=40 "
      "head_dim_v=17 extra_tokens=11 relative_bias=1 scale=0.3 type=bf16 pass=backward variant=naive isa=baseline "
      "arithmetic=f32_fma threads=7,3,1 results=problem values=equal seed=12 views=dq:63:5,k:12:0,q:63:17");
  return trial;
}

bool always() { return true; }

TEST(Shrink, LeavesNothingThatTheFailureDoesNotNeed) {
  const auto shrunk = [](const std::function<bool(const Trial&)>& fails) {
    return to_text(shrink(large(), fails, always));
  };
  EXPECT_EQ(shrunk([](const Trial&) { return true; }),
            "layout=1 head_dim=1 head_dim_v=1 pass=backward variant=naive isa=baseline");
  EXPECT_EQ(shrunk([](const Trial& t) {
              return std::ranges::any_of(t.problem.axes, [](const Axis& a) { return a.dilation == 2 && a.causal; });
            }),
            "layout=2 dilation=2 causal=1 head_dim=1 head_dim_v=1 pass=backward variant=naive isa=baseline");
  EXPECT_EQ(shrunk([](const Trial& t) {
              return t.problem.heads / t.problem.heads_kv > 1 && t.problem.head_dim_v >= 5 &&
                     t.problem.extra_tokens > 2;
            }),
            "layout=1 heads=2 head_dim=1 head_dim_v=5 extra_tokens=3 pass=backward variant=naive isa=baseline");
  EXPECT_EQ(shrunk([](const Trial& t) { return (t.placement("q").gaps & 4) != 0 && std::ranges::max(t.threads) > 1; }),
            "layout=1 head_dim=1 head_dim_v=1 pass=backward variant=naive isa=baseline threads=2 views=q:4:0");
  EXPECT_EQ(shrunk([](const Trial& t) { return t.problem.type == ElementType::bf16 && t.problem.tokens() > 6; }),
            "layout=7 head_dim=1 head_dim_v=1 type=bf16 pass=backward variant=naive isa=baseline");
}

TEST(Shrink, TriesPossibleTrialsAlone) {
  shrink(
      large(),
      [](const Trial& t) {
        EXPECT_TRUE(t.problem.violations().empty()) << to_text(t);
        return t.problem.tokens() > 20;
      },
      always);
}

TEST(Shrink, EndsWhenItsTimeIsOver) {
  int tries = 0;
  const Trial trial = shrink(
      large(), [&](const Trial&) { return ++tries, true; }, [&] { return tries < 3; });
  EXPECT_EQ(tries, 3);
  EXPECT_NE(trial, large());
  EXPECT_EQ(shrink(
                large(), [](const Trial&) { return true; }, [] { return false; }),
            large());
}

}  // namespace
}  // namespace nalab::selftest
