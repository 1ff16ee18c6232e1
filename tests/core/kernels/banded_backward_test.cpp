// The backward pass of banded: its tasks, and what is made of many of them, which small problems of the common tests do
// not reach.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/compare.h"
#include "core/kernels/banded/chunks.h"
#include "tests/core/definition.h"
#include "tests/core/kernels/backward.h"

namespace nalab {
namespace {

using banded::BackwardTasks;
using banded::LaneOrder;
using banded::Strip;
using test::Setting;

/// Several chunks along strips and axes, the last ones cut short: heads that straddle strips, rows in several pieces,
/// dilation groups of unlike length, windows that jump.
std::vector<Problem> large_problems() {
  return {
      {.axes = {{.extent = 331, .window = 9}}, .heads = 6, .heads_kv = 3, .head_dim = 24, .head_dim_v = 40},
      {.axes = {{.extent = 517, .window = 8, .stride = 3, .dilation = 4}},
       .heads = 3,
       .heads_kv = 3,
       .head_dim = 12,
       .head_dim_v = 16,
       .extra_tokens = 9},
      {.axes = {{.extent = 43, .window = 7}, {.extent = 37, .window = 7}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 32,
       .head_dim_v = 32},
      {.axes = {{.extent = 38, .window = 5, .stride = 2, .causal = true}, {.extent = 29, .window = 6, .causal = true}},
       .batch = 3,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 16,
       .head_dim_v = 9,
       .extra_tokens = 2,
       .relative_bias = true},
      {.axes = {{.extent = 41, .window = 4, .dilation = 3}, {.extent = 47, .window = 11, .stride = 5, .dilation = 2}},
       .heads = 3,
       .heads_kv = 3,
       .head_dim = 20,
       .head_dim_v = 33,
       .relative_bias = true},
      {.axes = {{.extent = 14, .window = 3}, {.extent = 15, .window = 3, .stride = 2}, {.extent = 13, .window = 5}},
       .heads = 2,
       .head_dim = 8,
       .head_dim_v = 16,
       .relative_bias = true},
      // Strips of whole segments: two groups of seven tokens.
      {.axes = {{.extent = 16, .window = 5}, {.extent = 21, .window = 5, .dilation = 3}},
       .heads = 3,
       .heads_kv = 3,
       .head_dim = 16,
       .head_dim_v = 20,
       .relative_bias = true},
      // Windows that share no keys with others: all chunks are of one colour.
      {.axes = {{.extent = 32, .window = 4, .stride = 4}, {.extent = 48, .window = 8, .stride = 8}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 16,
       .head_dim_v = 16},
  };
}

struct Key {
  int64_t batch, x1, x2, head, x3;
  auto operator<=>(const Key&) const = default;
};

/// The coordinates of the keys of some positions of a dilation group, by the definition.
std::set<int64_t> keys_of(const Axis& axis, int64_t group, geometry::Range positions) {
  std::set<int64_t> keys;
  for (int64_t p = positions.begin; p < positions.end; ++p) {
    for (const int64_t key : test::attended(axis, axis.coordinate(group, p))) keys.insert(key);
  }
  return keys;
}

/// Every query is in one task, and the items of a phase share no keys and no parts.
void check_tasks(const Problem& problem, int width, int64_t positions, int64_t part_bytes) {
  SCOPED_TRACE(problem.id() + " width " + std::to_string(width) + " positions " + std::to_string(positions));
  const auto axes = problem.axes3();
  const LaneOrder order(problem, width);
  const BackwardTasks tasks(problem, order, positions, part_bytes);
  std::map<Key, int> queries;
  for (int phase = 0; phase < tasks.phases(); ++phase) {
    std::map<Key, int64_t> keys;
    std::map<int64_t, int64_t> parts;
    for (int64_t item = 0; item < tasks.items(phase); ++item) {
      tasks.for_each(phase, item, [&](const BackwardTasks::Task& task, int64_t part) {
        ASSERT_EQ(parts.try_emplace(part, item).first->second, item);
        ASSERT_LT(part, tasks.parts());
        ASSERT_EQ(part / (tasks.parts() / problem.batch), task.batch);
        const auto keys1 = keys_of(axes[0], task.g1, task.x1), keys2 = keys_of(axes[1], task.g2, task.x2);
        for (int64_t number = task.strips.begin; number < task.strips.end; ++number) {
          const Strip strip(order, number);
          for (int lane = 0; lane < strip.lanes(); ++lane) {
            const auto& [head, x3] = strip.query(lane);
            for (int64_t p1 = task.x1.begin; p1 < task.x1.end; ++p1) {
              for (int64_t p2 = task.x2.begin; p2 < task.x2.end; ++p2) {
                const Key query{task.batch, axes[0].coordinate(task.g1, p1), axes[1].coordinate(task.g2, p2), head, x3};
                ++queries[query];
              }
            }
            for (const int64_t key3 : test::attended(axes[2], x3)) {
              for (const int64_t key1 : keys1) {
                for (const int64_t key2 : keys2) {
                  const Key key{task.batch, key1, key2, head, key3};
                  ASSERT_EQ(keys.try_emplace(key, item).first->second, item) << "phase " << phase;
                }
              }
            }
          }
        }
      });
    }
  }
  ASSERT_EQ(static_cast<int64_t>(queries.size()), problem.batch * problem.tokens() * problem.heads_kv);
  for (const auto& [query, count] : queries) ASSERT_EQ(count, 1);
}

TEST(BackwardTasks, HaveEachQueryOnceAndShareNoKeysInAPhase) {
  std::vector<Problem> problems = large_problems();
  for (const test::Awkward& awkward : test::awkward_problems()) problems.push_back(awkward.problem);
  test::RandomProblems random(11);
  for (int i = 0; i < 100; ++i) problems.push_back(random.next());
  int i = 0;
  for (const Problem& problem : problems) {
    const std::array widths{4, 8, 16, 1};
    check_tasks(problem, widths[static_cast<std::size_t>(i % 4)], 1 + i % 8, i % 3 == 0 ? 1 << 24 : 1);
    ++i;
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(BackwardTasks, AreManyWhereProblemsAreLarge) {
  for (const Problem& problem : large_problems()) {
    const BackwardTasks tasks(problem, LaneOrder(problem, 16), 4, 1);
    EXPECT_GT(tasks.items(0), 4 * problem.batch) << problem.id();
  }
  // Windows that share nothing need one phase.
  EXPECT_EQ(BackwardTasks(large_problems().back(), LaneOrder(large_problems().back(), 16), 4, 1).phases(), 1);
  // A batch is enough by itself.
  const Problem batch{.axes = {{.extent = 14, .window = 7}, {.extent = 14, .window = 7}}, .batch = 64};
  EXPECT_EQ(BackwardTasks(batch, LaneOrder(batch, 16), 4, 1).phases(), 1);
  EXPECT_EQ(BackwardTasks(batch, LaneOrder(batch, 16), 4, 1).parts(), 64);
}

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
  for (const Problem& problem : large_problems()) {
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
  for (const Problem& problem : large_problems()) {
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
  for (Problem problem : large_problems()) {
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

// Sums are float: rounded once, at the end.
TEST(BandedBackward, GradientsInBf16AreThoseInFloatRounded) {
  for (Problem problem : large_problems()) {
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
