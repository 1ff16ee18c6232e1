#include "experiments/selftest/trial.h"

#include <gtest/gtest.h>

#include <string>

#include "experiments/selftest/draw.h"
#include "tests/core/support.h"

namespace nalab::selftest {
namespace {

TEST(Trial, TextGivesTheTrialBack) {
  for (uint64_t number = 0; number < 100; ++number) {
    for (const Trial& trial : draw(3, number)) EXPECT_EQ(parse_trial(to_text(trial)), trial) << to_text(trial);
  }
}

TEST(Trial, TextSaysWhatIsNotAsByDefault) {
  Trial trial;
  trial.problem.axes = {{.extent = 5, .window = 3, .causal = true}, {.extent = 7}};
  trial.variant = "naive";
  EXPECT_EQ(to_text(trial), "layout=5x7 window=3x1 causal=1x0 variant=naive isa=baseline");
  trial.problem.scale = -0.1;
  trial.pass = Pass::values_backward;
  trial.threads = {7, 1};
  trial.results_are_f32 = false;
  trial.values = Values::tiny;
  trial.placements["q"] = {5, 17};
  trial.placements["dout"] = {0, 1};
  EXPECT_EQ(to_text(trial),
            "layout=5x7 window=3x1 causal=1x0 scale=-0.1 pass=values_backward variant=naive isa=baseline threads=7,1 "
            "results=problem values=tiny views=dout:0:1,q:5:17");
  EXPECT_EQ(parse_trial(to_text(trial)), trial);
}

TEST(Trial, TextThatIsNotOneIsRefused) {
  const auto refusal = [](const std::string& text) { return test::error_of([&] { parse_trial(text); }); };
  EXPECT_EQ(refusal("layout=5 variant=naive"), "");
  EXPECT_EQ(refusal("  variant=naive   layout=5  "), "");
  EXPECT_EQ(refusal(""), "layout is missing");
  EXPECT_EQ(refusal("layout=5"), "variant is missing");
  EXPECT_EQ(refusal("layout=5 naive"), "'naive' must be written as FIELD=VALUE");
  EXPECT_EQ(refusal("layout=5 variant=naive size=3").substr(0, 28), "field 'size' is none of layo");
  EXPECT_EQ(refusal("layout=5x6 variant=naive window=3"), "window '3' must have a number for each axis of the layout");
  EXPECT_EQ(refusal("layout=5 variant=naive causal=2"), "causal '2' must be 0 or 1");
  EXPECT_EQ(refusal("layout=5 variant=naive window=6"),
            "axis 1: window 6 must be at most 5, the layout 5 div the dilation 1");
  EXPECT_EQ(refusal("layout=5 variant=naive scale=x"), "scale 'x' must be a number");
  EXPECT_EQ(refusal("layout=5 variant=naive heads=-1"), "heads '-1' must be a number from 0 to 1099511627776");
  EXPECT_EQ(refusal("layout=5 variant=naive threads=1,0"), "threads '0' must be a number from 1 to 1024");
  EXPECT_EQ(refusal("layout=5 variant=naive values=odd"), "values 'odd' is none of normal, equal, tiny, non_finite");
  EXPECT_EQ(refusal("layout=5 variant=naive views=q:64:0"), "views '64' must be a number from 0 to 63");
  EXPECT_EQ(refusal("layout=5 variant=naive views=q:1"), "views 'q:1' must be written as TENSOR:GAPS:ORDER");
  EXPECT_EQ(refusal("layout=5 variant=naive pass=sideways").substr(0, 23), "pass 'sideways' is none");
  EXPECT_EQ(refusal("layout=5 variant=best").substr(0, 24), "variant 'best' is none o");
}

}  // namespace
}  // namespace nalab::selftest
