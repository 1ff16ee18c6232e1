// Results are stored 16 bytes at a time: tensors of which that cannot be done are refused.
#include "core/gpu/alignment.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>

#include "tests/core/support.h"

namespace nalab::gpu {
namespace {

class Alignment : public testing::Test {
 protected:
  static TensorView view(ElementType type, int64_t batch) {
    const TokenShape shape{.batch = batch, .layout = {2, 3, 4}, .heads = 2, .dim = 8};
    return {memory_, type, shape, TokenStrides::contiguous(shape)};
  }
  static std::string refusal(const TensorView& out) {
    return nalab::test::error_of([&] { check_alignment(out); });
  }

  alignas(16) static inline std::byte memory_[32];
};

TEST_F(Alignment, RowsOfSixteenBytesAreTaken) {
  for (const ElementType type : {ElementType::bf16, ElementType::f16}) EXPECT_EQ(refusal(view(type, 2)), "");
}

TEST_F(Alignment, EachStrideAndTheAddressCount) {
  const auto refused = "out: its address and the strides of heads, tokens and batch must be multiples of 16 bytes";
  const std::function<void(TensorView&)> changes[] = {
      [](TensorView& v) { v.data = memory_ + 2; },     [](TensorView& v) { v.data = memory_ + 8; },
      [](TensorView& v) { v.strides.heads += 4; },     [](TensorView& v) { v.strides.layout[0] += 1; },
      [](TensorView& v) { v.strides.layout[1] += 4; }, [](TensorView& v) { v.strides.layout[2] += 2; },
      [](TensorView& v) { v.strides.batch += 4; },
  };
  for (std::size_t i = 0; i < std::size(changes); ++i) {
    TensorView changed = view(ElementType::bf16, 2);
    changes[i](changed);
    EXPECT_EQ(refusal(changed), refused) << "change " << i;
  }
}

TEST_F(Alignment, TheStrideOfASingleBatchEntryDoesNotMatter) {
  TensorView single = view(ElementType::bf16, 1);
  single.strides.batch = 3;
  EXPECT_EQ(refusal(single), "");
}

}  // namespace
}  // namespace nalab::gpu
