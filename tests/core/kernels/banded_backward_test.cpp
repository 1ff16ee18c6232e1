// The backward pass of banded: strips, and what is made of many tasks, which small problems of the common tests do not
// reach.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "core/compare.h"
#include "core/kernels/banded/strips.h"
#include "core/ordered_tasks.h"
#include "tests/core/definition.h"
#include "tests/core/kernels/backward.h"
#include "tests/core/kernels/banded_problems.h"

namespace nalab {
namespace {

using banded::LaneOrder;
using banded::Strip;
using test::Setting;

// What is behind the arrays and the memory of rows of keys; short last pieces of many heads had more.
TEST(Strip, HasNoMoreKeysThanThereIsRoomFor) {
  std::vector<int64_t> lengths{3907, 4021, 4033, 4034, 4097, 8193};
  for (int64_t length = 60; length <= 200; length += 7) lengths.push_back(length);
  for (const int64_t length : lengths) {
    for (const int64_t window : {5, 8, 33, 60, 128}) {
      if (window > length) continue;
      for (const int64_t stride : {int64_t{1}, window / 2, window}) {
        for (const int64_t heads : {1, 3, 16, 24}) {
          const Problem problem{
              .axes = {{.extent = length, .window = window, .stride = stride}}, .heads = heads, .heads_kv = heads};
          for (const int width : {1, 8, 16}) {
            const LaneOrder order(problem, width);
            for (int64_t n = 0; n < order.strips(); ++n) {
              const int64_t keys = Strip(order, n).keys();
              ASSERT_LE(keys, order.most_keys()) << problem.id() << " strip " << n;
              ASSERT_LE(keys, banded::most_keys(window, width)) << problem.id() << " strip " << n;
            }
          }
        }
      }
    }
  }
}

TEST(LaneOrder, KnowsHowManyKeysAStripHasAtMost) {
  for (int64_t extent = 1; extent <= 40; ++extent) {
    for (const int64_t dilation : {1, 2, 3, 7}) {
      for (const int64_t window : {1, 2, 3, 7}) {
        for (const int64_t stride : {1, 2, 7}) {
          for (const bool causal : {false, true}) {
            const Axis axis{
                .extent = extent, .window = window, .stride = stride, .dilation = dilation, .causal = causal};
            const Problem problem{.axes = {axis}, .heads = 5, .heads_kv = 5};
            if (stride > window || window * dilation > extent) continue;
            const LaneOrder order(problem, 16);
            for (int64_t n = 0; n < order.strips(); ++n) {
              ASSERT_LE(Strip(order, n).keys(), order.most_keys()) << problem.id() << " strip " << n;
            }
          }
        }
      }
    }
  }
  const auto most_keys = [](const Axis& axis) {
    return LaneOrder({.axes = {axis}, .heads = 3, .heads_kv = 3}, 16).most_keys();
  };
  EXPECT_EQ(most_keys({.extent = 64, .window = 7}), 22) << "one segment";
  EXPECT_EQ(most_keys({.extent = 56, .window = 7}), 28) << "the end of one and the beginning of the next";
  EXPECT_EQ(most_keys({.extent = 7, .window = 7}), 14) << "two that are whole";
  EXPECT_EQ(most_keys({.extent = 56, .window = 7, .dilation = 8}), 14);
}

TEST(LaneOrder, StripsHaveWholeSegmentsWhereFewLanesAreLeftIdle) {
  const auto strip_lanes = [](int64_t extent, int64_t dilation, int width) {
    const Problem problem{.axes = {{.extent = extent, .window = 3, .dilation = dilation}}, .heads = 5, .heads_kv = 5};
    const LaneOrder order(problem, width);
    EXPECT_EQ(order.strips(), (5 * extent + order.strip_lanes() - 1) / order.strip_lanes());
    return order.strip_lanes();
  };
  EXPECT_EQ(strip_lanes(14, 1, 16), 14);
  EXPECT_EQ(strip_lanes(7, 1, 16), 14);
  EXPECT_EQ(strip_lanes(7, 1, 8), 7);
  EXPECT_EQ(strip_lanes(56, 8, 16), 14);
  EXPECT_EQ(strip_lanes(5, 1, 16), 15);
  // Too many idle lanes, segments longer than a strip, groups of unlike length.
  EXPECT_EQ(strip_lanes(13, 1, 16), 16);
  EXPECT_EQ(strip_lanes(28, 1, 16), 16);
  EXPECT_EQ(strip_lanes(57, 8, 16), 16);
  EXPECT_EQ(strip_lanes(7, 1, 1), 1);
}

TEST(LaneOrder, LanesOfQueriesAreTheReverse) {
  for (const Problem& problem : test::large_banded_problems()) {
    const LaneOrder order(problem, 16);
    for (int64_t lane = 0; lane < order.lanes(); ++lane) {
      const LaneOrder::Query query = order.at(lane);
      ASSERT_EQ(order.lane_of(query), lane) << problem.id();
      const LaneOrder::Query last = order.at(lane + order.rest_of_segment(query) - 1);
      ASSERT_EQ(last.head_kv, query.head_kv);
      ASSERT_EQ(last.position - query.position, order.rest_of_segment(query) - 1);
    }
  }
}

std::string_view name_of(const Problem& problem, std::size_t gradient) {
  return test::gradients_of(problem)[gradient].name;
}

const Variant& banded_variant() { return find_variant("banded"); }

void expect_as_reference(const Problem& problem, const test::Data& data, const Setting& setting) {
  const auto forward = reference::forward(problem, data.inputs());
  const auto expected = test::expected_gradients(problem, data);
  auto results = test::run_backward(banded_variant(), problem, data, forward, setting);
  for (std::size_t t = 0; t < results.size(); ++t) {
    const auto values = results[t].values();
    const auto errors =
        compare(std::span(values), std::span(expected[t]),
                tolerance(problem.type, TensorKind::gradient, forward.max_abs_score), test::max_abs(expected[2]));
    EXPECT_TRUE(errors.ok) << name_of(problem, t) << ": " << errors.to_string() << " " << setting.text();
  }
}

TEST(BandedBackward, AgreesWithTheReferenceOverManyTasks) {
  for (const Problem& problem : test::large_banded_problems()) {
    SCOPED_TRACE(problem.id());
    const test::Data data(problem, 17);
    for (const Setting& setting : test::settings(banded_variant(), problem, Pass::backward)) {
      expect_as_reference(problem, data, setting.with_threads(3));
    }
  }
}

// A row of which 64 tokens at a time leave one, so that a strip may have many heads.
TEST(BandedBackward, AgreesWithTheReferenceWhereAPieceWouldBeOfOneToken) {
  for (const ElementType type : {ElementType::f32, ElementType::bf16}) {
    const Problem problem{.axes = {{.extent = 4033, .window = 8}},
                          .heads = 16,
                          .heads_kv = 16,
                          .head_dim = 5,
                          .head_dim_v = 4,
                          .type = type};
    SCOPED_TRACE(problem.id());
    const test::Data data(problem, 19);
    // The reference takes seconds: one instruction set narrower than the widest, and the widest.
    const auto settings = test::settings(banded_variant(), problem, Pass::backward);
    for (const std::size_t i : {settings.size() / 2, settings.size() - 1}) {
      expect_as_reference(problem, data, settings[i].with_threads(2));
    }
  }
}

TEST(BandedBackward, AgreesWithTheReferenceOnThreeHundredRandomProblems) {
  test::RandomProblems problems(2204);
  for (std::size_t i = 0; i < 300 && !::testing::Test::HasFailure(); ++i) {
    Problem problem = problems.next();
    // Windows beyond a register tile's columns, and rows of several vectors.
    if (i % 5 == 0) problem.axes.back() = {.extent = 61, .window = problems.pick(8, 40), .stride = problems.pick(1, 3)};
    if (i % 7 == 0) problem.head_dim = problems.pick(41, 150);
    SCOPED_TRACE(problem.id());
    const auto settings = test::settings(banded_variant(), problem, Pass::backward);
    expect_as_reference(problem, test::Data(problem, i), settings[i % settings.size()]);
  }
}

TEST(BandedBackward, SameBitsForEveryThreadCount) {
  for (Problem problem : test::large_banded_problems()) {
    for (const ElementType type : {ElementType::f32, ElementType::bf16}) {
      problem.type = type;
      SCOPED_TRACE(problem.id());
      const test::Data data(problem, 18);
      const auto forward = reference::forward(problem, data.inputs());
      for (const Setting& setting : test::settings(banded_variant(), problem, Pass::backward)) {
        const auto run = [&](int threads) {
          return test::run_backward(banded_variant(), problem, data, forward,
                                    setting.with_out(type).with_threads(threads));
        };
        auto one = run(1);
        for (const int threads : {2, 3, 7}) {
          auto several = run(threads);
          for (std::size_t t = 0; t < one.size(); ++t) {
            EXPECT_EQ(one[t].bits(), several[t].bits())
                << setting.text() << " and " << threads << ": " << name_of(problem, t);
          }
        }
      }
    }
  }
}

// A task that said too early that it is past a row of keys would be overtaken while it pauses, and so would one that
// asks too little of those before it.
TEST(BandedBackward, NoTaskIsOvertakenWhileItPauses) {
  struct Pauses {
    Pauses() {
      static std::atomic<uint32_t> count;
      count = 0;
      OrderedTasks::after_pass = [] {
        if (++count % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(count % 7 * 50));
      };
    }
    ~Pauses() { OrderedTasks::after_pass = nullptr; }
  };
  for (const Problem& problem : test::large_banded_problems()) {
    SCOPED_TRACE(problem.id());
    const test::Data data(problem, 22);
    const auto forward = reference::forward(problem, data.inputs());
    const Setting setting{.isa = best_isa(), .arithmetic = kF32Fma};
    auto one = test::run_backward(banded_variant(), problem, data, forward, setting.with_threads(1));
    const Pauses pauses;
    for (const int threads : {4, 7}) {
      auto several = test::run_backward(banded_variant(), problem, data, forward, setting.with_threads(threads));
      for (std::size_t t = 0; t < one.size(); ++t) {
        EXPECT_EQ(one[t].bits(), several[t].bits()) << threads << " threads: " << name_of(problem, t);
      }
    }
  }
}

// Sums are float: rounded once, at the end.
TEST(BandedBackward, GradientsInBf16AreThoseInFloatRounded) {
  for (Problem problem : test::large_banded_problems()) {
    problem.type = ElementType::bf16;
    const test::Data data(problem, 21);
    const test::Saved saved(problem, reference::forward(problem, data.inputs()), ElementType::f32);
    const SavedForBackward views{saved.out.view(), saved.lse.view(), data["dout"].view()};
    for (const Setting& setting : test::settings(banded_variant(), problem, Pass::backward)) {
      auto rounded = test::run_backward(banded_variant(), problem, data, views, setting.with_out(ElementType::bf16));
      auto exact = test::run_backward(banded_variant(), problem, data, views, setting);
      for (std::size_t t = 0; t < exact.size(); ++t) {
        auto expected = exact[t].values();
        // drpb is in float whatever the type.
        if (test::gradients_of(problem)[t].type == ElementType::bf16) {
          for (double& x : expected) x = to_float(from_float<bf16>(static_cast<float>(x)));
        }
        EXPECT_EQ(rounded[t].values(), expected) << setting.text() << ": " << name_of(problem, t);
      }
    }
  }
}

// With one key the weight is 1 whatever the score, and out is the value itself: no rounding may show in dq and dk.
TEST(BandedBackward, OneKeyGivesDqAndDkOfExactlyZero) {
  for (const ElementType type : test::kElementTypes) {
    const Problem problem{.axes = {{.extent = 5}, {.extent = 23}}, .head_dim = 19, .head_dim_v = 37, .type = type};
    const test::Data data(problem, 20);
    for (const Setting& setting : test::settings(banded_variant(), problem, Pass::backward)) {
      auto results = test::run_backward(banded_variant(), problem, data, setting.with_out(type));
      for (std::size_t t : {0, 1}) {
        for (double x : results[t].values()) ASSERT_EQ(x, 0) << setting.text() << ": " << name_of(problem, t);
      }
    }
  }
}

}  // namespace
}  // namespace nalab
