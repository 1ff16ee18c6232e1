#include "experiments/selftest/placed_tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/tensor_set.h"

namespace nalab::selftest {
namespace {

const TokenShape kShape{2, {3, 1, 4}, 2, 5};

/// Elements 0, 1, 2 and so on.
Tensor counted() {
  Tensor tensor(ElementType::f32, kShape);
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.data<float>()[i] = static_cast<float>(i);
  return tensor;
}

TEST(PlacedTensor, KeepsItsElementsApartInEveryOrderAndWithEveryGap) {
  const Tensor source = counted();
  std::set<std::array<int64_t, 5>> all_strides;
  for (int order = 0; order < kOrders; ++order) {
    for (unsigned gaps = 0; gaps <= kAllGaps; gaps += order == 0 ? 1 : 21) {
      PlacedTensor placed(ElementType::f32, kShape, {gaps, order});
      placed.set(source);
      ASSERT_EQ(placed.values(), to_floats(source)) << gaps << " " << order;
      ASSERT_TRUE(placed.surroundings_intact());
      const TokenStrides s = placed.view().strides;
      if (gaps == 0) all_strides.insert({s.batch, s.layout[0], s.layout[1], s.layout[2], s.heads});
    }
  }
  EXPECT_EQ(PlacedTensor(ElementType::f32, kShape, {}).view().strides, TokenStrides::contiguous(kShape));
  EXPECT_EQ(all_strides.size(), 120u);
}

TEST(PlacedTensor, AGapParts) {
  const TokenStrides whole = TokenStrides::contiguous(kShape);
  const auto strides = [](unsigned gaps) { return PlacedTensor(ElementType::f32, kShape, {gaps, 0}).view().strides; };
  EXPECT_EQ(strides(32).heads, whole.heads + 1);
  EXPECT_EQ(strides(16).layout[2], whole.layout[2] + whole.heads);
  EXPECT_EQ(strides(8).layout[1], whole.layout[1] + whole.layout[2]);
  EXPECT_EQ(strides(4).layout[0], whole.layout[0] + whole.layout[1]) << "of an extent of one";
  EXPECT_EQ(strides(2).batch, whole.batch + whole.layout[0]);
  EXPECT_EQ(strides(1), whole) << "of the outermost";
}

TEST(PlacedTensor, SeesWritingOutsideAndStartsAsNaN) {
  for (const int64_t offset : {-1, 5}) {
    PlacedTensor placed(ElementType::f32, kShape, {kAllGaps, 7});
    for (const float x : placed.values()) EXPECT_TRUE(std::isnan(x));
    placed.view().as<float>().row(1, 2, 0, 1, 1)[offset] = 0;
    EXPECT_FALSE(placed.surroundings_intact()) << offset;
  }
}

}  // namespace
}  // namespace nalab::selftest
