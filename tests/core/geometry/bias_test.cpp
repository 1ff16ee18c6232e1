#include "core/geometry/bias.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "tests/core/definition.h"

namespace nalab::geometry {
namespace {

Token positions(const std::array<Axis, 3>& axes, const Token& token) {
  return {token[0] / axes[0].dilation, token[1] / axes[1].dilation, token[2] / axes[2].dilation};
}

/// The table along one axis.
BiasTable table_of(const Axis& axis) { return BiasTable({Axis{}, Axis{}, axis}); }

int64_t entry_of(const Axis& axis, int64_t query, int64_t key) {
  return table_of(axis).entry({0, 0, query / axis.dilation}, {0, 0, key / axis.dilation});
}

TEST(BiasTable, EveryPairOfEveryAxisHasTheEntryOfItsOffset) {
  for (int64_t extent = 1; extent <= 13; ++extent) {
    test::for_every_axis(extent, [&](const Axis& axis) {
      ASSERT_EQ(table_of(axis).size(), 2 * axis.window - 1);
      for (int64_t query = 0; query < extent; ++query) {
        for (int64_t key : test::attended(axis, query)) {
          const int64_t offset = (key - query) / axis.dilation;
          ASSERT_EQ((key - query) % axis.dilation, 0);
          const int64_t entry = entry_of(axis, query, key);
          ASSERT_EQ(entry, offset + axis.window - 1) << testing::PrintToString(axis) << " query " << query;
          ASSERT_GE(entry, 0) << testing::PrintToString(axis) << " query " << query << " key " << key;
          ASSERT_LT(entry, axis.causal ? axis.window : 2 * axis.window - 1) << testing::PrintToString(axis);
        }
      }
    });
  }
}

// The rule of NATTEN up to 0.17 for odd windows at stride 1: entries of a query follow each other from a first one
// that its place in its dilation group decides.
TEST(BiasTable, IsTheRuleOfEarlierLibrariesForOddWindows) {
  const auto first_entry = [](int64_t p, int64_t n, int64_t w) {
    if (p < w / 2) return w - 1 - p;
    if (n - p <= w / 2) return n - 1 - p;
    return w / 2;
  };
  int64_t pairs = 0;
  for (int64_t extent = 1; extent <= 32; ++extent) {
    for (int64_t dilation = 1; dilation <= extent; ++dilation) {
      for (int64_t window = 1; window <= extent / dilation; window += 2) {
        const Axis axis{.extent = extent, .window = window, .dilation = dilation};
        for (int64_t query = 0; query < extent; ++query) {
          const int64_t length = (extent - query % dilation + dilation - 1) / dilation;
          int64_t expected = first_entry(query / dilation, length, window);
          for (int64_t key : test::attended(axis, query)) {
            ASSERT_EQ(entry_of(axis, query, key), expected++) << testing::PrintToString(axis) << " query " << query;
            ++pairs;
          }
        }
      }
    }
  }
  EXPECT_GT(pairs, 20'000);
}

TEST(BiasTable, OfSeveralAxesIsRowMajorWithAnEntryForEachOffset) {
  std::mt19937_64 random(31);
  const auto pick = [&random](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int i = 0; i < 60; ++i) {
    std::array<Axis, 3> axes;
    for (Axis& axis : axes) {
      axis.extent = pick(1, 6);
      axis.dilation = pick(0, 1) == 0 ? 1 : pick(1, axis.extent);
      axis.window = pick(1, axis.extent / axis.dilation);
      axis.stride = pick(1, axis.window);
      axis.causal = pick(0, 2) == 0;
    }
    const BiasTable table(axes);
    ASSERT_EQ(table.extents(), (std::array{2 * axes[0].window - 1, 2 * axes[1].window - 1, 2 * axes[2].window - 1}));
    ASSERT_EQ(table.size(), table.extents()[0] * table.extents()[1] * table.extents()[2]);
    const std::array<int64_t, 3> layout{axes[0].extent, axes[1].extent, axes[2].extent};
    for (int64_t index = 0; index < layout[0] * layout[1] * layout[2]; ++index) {
      const Token query = token_at(layout, index);
      std::set<int64_t> entries;
      std::size_t keys = 0;
      for (int64_t x1 : test::attended(axes[0], query[0])) {
        for (int64_t x2 : test::attended(axes[1], query[1])) {
          for (int64_t x3 : test::attended(axes[2], query[2])) {
            int64_t expected = 0;
            for (int axis = 0; axis < 3; ++axis) {
              const int64_t key = axis == 0 ? x1 : axis == 1 ? x2 : x3;
              expected = expected * table.extents()[axis] + entry_of(axes[axis], query[axis], key);
            }
            const int64_t entry = table.entry(positions(axes, query), positions(axes, {x1, x2, x3}));
            ASSERT_EQ(entry, expected);
            entries.insert(entry);
            ++keys;
          }
        }
      }
      ASSERT_EQ(entries.size(), keys) << "keys of a query have entries of their own";
      ASSERT_GE(*entries.begin(), 0);
      ASSERT_LT(*entries.rbegin(), table.size());
    }
  }
}

TEST(BiasTable, EntriesAreThoseOfTheKeysPlaceLessTheQuerys) {
  constexpr BiasTable table({Axis{.extent = 5, .window = 2}, {.extent = 7, .window = 3}, {.extent = 9, .window = 4}});
  static_assert(table.size() == 3 * 5 * 7);
  static_assert(table.entry({2, 3, 4}, {2, 3, 4}) == table.size() / 2, "a query's own place is the middle");
  static_assert(table.entry({2, 3, 4}, {2, 3, 5}) == table.size() / 2 + 1);
  static_assert(table.entry({2, 3, 4}, {1, 1, 1}) == 0);
  static_assert(table.entry({2, 3, 4}, {3, 5, 7}) == table.size() - 1);
  static_assert(table.place({1, 1, 1}) == 35 + 7 + 1);
}

}  // namespace
}  // namespace nalab::geometry
