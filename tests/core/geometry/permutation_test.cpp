#include "core/geometry/permutation.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

namespace nalab::geometry {
namespace {

using Token = TokenPermutation::Token;

/// The tokens in the order of the definition, by plain loops; ends[n]: whether a row of a tile ends after token n.
struct Order {
  std::vector<Token> tokens;
  std::vector<bool> ends;
};

/// The tokens of one tile: `tile` counts tiles of the dilation group `group`.
void append_tile(const std::array<Axis, 3>& axes, const Token& shape, const Token& group, const Token& tile,
                 Order& order) {
  const auto coordinate = [&](std::size_t axis, int64_t step) {
    return (tile[axis] * shape[axis] + step) * axes[axis].dilation + group[axis];
  };
  for (int64_t i = 0; i < shape[0] && coordinate(0, i) < axes[0].extent; ++i) {
    for (int64_t j = 0; j < shape[1] && coordinate(1, j) < axes[1].extent; ++j) {
      for (int64_t k = 0; k < shape[2] && coordinate(2, k) < axes[2].extent; ++k) {
        order.tokens.push_back({coordinate(0, i), coordinate(1, j), coordinate(2, k)});
        order.ends.push_back(k + 1 == shape[2] || coordinate(2, k + 1) >= axes[2].extent);
      }
    }
  }
}

/// Calls f(t) for all t with 0 <= t[i] < end[i], in row-major order.
template <class F>
void for_each_below(const Token& end, F f) {
  for (int64_t i = 0; i < end[0]; ++i) {
    for (int64_t j = 0; j < end[1]; ++j) {
      for (int64_t k = 0; k < end[2]; ++k) f(Token{i, j, k});
    }
  }
}

Order definition(const std::array<Axis, 3>& axes, const Token& shape) {
  Order order;
  for_each_below({axes[0].dilation, axes[1].dilation, axes[2].dilation}, [&](const Token& group) {
    // More tiles than there can be; those beyond the layout have no tokens.
    for_each_below({axes[0].extent, axes[1].extent, axes[2].extent},
                   [&](const Token& tile) { append_tile(axes, shape, group, tile, order); });
  });
  return order;
}

void check(const std::array<Axis, 3>& axes, const Token& shape) {
  const TokenPermutation permutation(axes, shape);
  const Order expected = definition(axes, shape);
  ASSERT_EQ(static_cast<int64_t>(expected.tokens.size()), permutation.tokens());
  for (std::size_t n = 0; n < expected.tokens.size(); ++n) {
    ASSERT_EQ(permutation.place_of(expected.tokens[n]), static_cast<int64_t>(n));
    const auto run = permutation.run_at(static_cast<int64_t>(n));
    ASSERT_EQ(run.first, expected.tokens[n]) << "place " << n;
    std::size_t end = n;
    while (!expected.ends[end]) ++end;
    ASSERT_EQ(run.count, static_cast<int64_t>(end - n + 1)) << "place " << n;
  }
}

TEST(TokenPermutation, EverySmallAxis) {
  for (int64_t extent = 1; extent <= 13; ++extent) {
    for (int64_t dilation = 1; dilation <= extent + 2; ++dilation) {
      for (int64_t tile = 1; tile <= extent + 1; ++tile) {
        SCOPED_TRACE(testing::Message() << "extent " << extent << " dilation " << dilation << " tile " << tile);
        check({Axis{}, Axis{}, Axis{.extent = extent, .dilation = dilation}}, {1, 1, tile});
        check({Axis{.extent = extent, .dilation = dilation}, Axis{}, Axis{.extent = 2}}, {tile, 3, 1});
      }
    }
  }
}

TEST(TokenPermutation, AwkwardLayouts) {
  check({Axis{}, Axis{}, Axis{}}, {1, 1, 1});
  check({Axis{}, Axis{}, Axis{}}, {4, 8, 16});
  check({Axis{}, Axis{.extent = 13}, Axis{.extent = 17}}, {1, 4, 8});
  check({Axis{.extent = 5, .dilation = 2}, Axis{.extent = 7, .dilation = 3}, Axis{.extent = 11, .dilation = 4}},
        {2, 2, 2});
  check({Axis{.extent = 3}, Axis{.extent = 4, .dilation = 4}, Axis{.extent = 5}}, {7, 1, 3});
}

TEST(TokenPermutation, RandomSpace) {
  std::mt19937_64 random(7);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int i = 0; i < 200 && !testing::Test::HasFailure(); ++i) {
    std::array<Axis, 3> axes;
    Token shape;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      axes[axis].extent = pick(1, 9);
      axes[axis].dilation = pick(1, 4);
      shape[axis] = pick(1, 5);
    }
    check(axes, shape);
  }
}

TEST(TokenPermutation, IsKnownToTheCompiler) {
  // 4x4 tokens in tiles of 2x2: the third token of the first row opens the second tile.
  constexpr TokenPermutation kPermutation({Axis{}, Axis{.extent = 4}, Axis{.extent = 4}}, {1, 2, 2});
  static_assert(kPermutation.place_of({0, 0, 2}) == 4);
  static_assert(kPermutation.run_at(4).first == Token{0, 0, 2});
  static_assert(kPermutation.run_at(4).count == 2);
}

}  // namespace
}  // namespace nalab::geometry
