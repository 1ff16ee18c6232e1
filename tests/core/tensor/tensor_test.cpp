#include "core/tensor/tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

namespace nalab {
namespace {

bool aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % kAlignment == 0; }

TEST(AlignedBuffer, IsAlignedAtEverySize) {
  EXPECT_EQ(kAlignment, 64u);
  std::vector<AlignedBuffer<std::byte>> bytes;
  std::vector<AlignedBuffer<double>> doubles;
  for (int64_t size : {1, 2, 3, 63, 64, 65, 1000, 4097}) {
    EXPECT_TRUE(aligned(bytes.emplace_back(size).data())) << size;
    EXPECT_TRUE(aligned(doubles.emplace_back(size).data())) << size;
    EXPECT_EQ(doubles.back().size(), size);
    EXPECT_EQ(doubles.back().end() - doubles.back().begin(), size);
  }
}

TEST(AlignedBuffer, MovesItsMemoryAndIsNotCopied) {
  static_assert(!std::is_copy_constructible_v<AlignedBuffer<int>>);
  AlignedBuffer<int> first(5);
  first[4] = 42;
  const int* memory = first.data();
  const AlignedBuffer<int> second = std::move(first);
  EXPECT_EQ(second.data(), memory);
  EXPECT_EQ(second[4], 42);
  EXPECT_EQ(second.size(), 5);
  EXPECT_EQ(AlignedBuffer<int>().size(), 0);
  EXPECT_EQ(AlignedBuffer<int>().data(), nullptr);
}

constexpr TokenShape kShape{.batch = 2, .layout = {3, 5, 7}, .heads = 4, .dim = 13};

TEST(TokenShape, CountsTokensAndElements) {
  EXPECT_EQ(kShape.tokens(), 105);
  EXPECT_EQ(kShape.elements(), 2 * 105 * 4 * 13);
  const TokenShape large{.batch = 1, .layout = {1 << 11, 1 << 11, 1 << 11}, .heads = 16, .dim = 128};
  EXPECT_EQ(large.elements(), int64_t{1} << 44) << "64-bit";
  EXPECT_EQ(TokenStrides::contiguous(large).layout[0], int64_t{1} << 33);
}

TEST(TokenView, ContiguousRowsFollowEachOtherHeadsLast) {
  std::vector<float> memory(static_cast<std::size_t>(kShape.elements()));
  const auto view = contiguous_view(memory.data(), kShape).as<float>();
  const float* expected = memory.data();
  for (int64_t b = 0; b < kShape.batch; ++b) {
    for (int64_t x1 = 0; x1 < kShape.layout[0]; ++x1) {
      for (int64_t x2 = 0; x2 < kShape.layout[1]; ++x2) {
        for (int64_t x3 = 0; x3 < kShape.layout[2]; ++x3) {
          for (int64_t h = 0; h < kShape.heads; ++h, expected += kShape.dim) {
            ASSERT_EQ(view.row(b, x1, x2, x3, h), expected);
          }
        }
      }
    }
  }
  EXPECT_EQ(expected, memory.data() + memory.size());
}

TEST(TokenView, EachStrideMovesAlongItsOwnExtent) {
  float element = 0;
  const TokenView<float> view{&element, kShape, {.batch = 100000, .layout = {-10000, 1000, 100}, .heads = 10}};
  EXPECT_EQ(view.row(1, 0, 0, 0, 0) - &element, 100000);
  EXPECT_EQ(view.row(0, 1, 0, 0, 0) - &element, -10000);
  EXPECT_EQ(view.row(0, 0, 1, 0, 0) - &element, 1000);
  EXPECT_EQ(view.row(0, 0, 0, 1, 0) - &element, 100);
  EXPECT_EQ(view.row(0, 0, 0, 0, 1) - &element, 10);
  EXPECT_EQ(view.row(2, 3, 4, 5, 6) - &element, 200000 - 30000 + 4000 + 500 + 60);
}

TEST(TensorView, KnowsItsTypeAndWhetherItIsPresent) {
  bf16 element;
  const TokenShape one{.batch = 1, .layout = {1, 1, 1}, .heads = 1, .dim = 1};
  const TensorView view = contiguous_view(&element, one);
  EXPECT_EQ(view.type, ElementType::bf16);
  EXPECT_TRUE(view.present());
  EXPECT_FALSE(TensorView{}.present());
  EXPECT_FALSE(ConstTensorView{}.present());
}

TEST(TensorView, ConvertsToConstAndNotBack) {
  static_assert(std::is_convertible_v<TensorView, ConstTensorView>);
  static_assert(!std::is_convertible_v<ConstTensorView, TensorView>);
  static_assert(std::is_same_v<decltype(TensorView{}.as<f16>()), TokenView<f16>>);
  static_assert(std::is_same_v<decltype(ConstTensorView{}.as<f16>()), TokenView<const f16>>);
  f16 memory[6];
  const TokenShape shape{.batch = 1, .layout = {1, 1, 3}, .heads = 1, .dim = 2};
  TensorView view = contiguous_view(memory, shape);
  view.strides.layout[2] = 17;
  const ConstTensorView read_only = view;
  EXPECT_EQ(read_only.data, memory);
  EXPECT_EQ(read_only.type, ElementType::f16);
  EXPECT_EQ(read_only.shape, shape);
  EXPECT_EQ(read_only.strides, view.strides);
  static_assert(std::is_same_v<decltype(contiguous_view(std::declval<const f16*>(), shape)), ConstTensorView>);
}

TEST(Tensor, OwnsAlignedContiguousMemoryOfItsType) {
  for (ElementType type : {ElementType::f32, ElementType::bf16, ElementType::f16}) {
    Tensor tensor(type, kShape);
    EXPECT_EQ(tensor.type(), type);
    EXPECT_EQ(tensor.shape(), kShape);
    EXPECT_EQ(tensor.elements(), kShape.elements());
    EXPECT_TRUE(aligned(tensor.data<std::byte>()));
    EXPECT_EQ(tensor.view().data, tensor.data<void>());
    EXPECT_EQ(tensor.view().strides, TokenStrides::contiguous(kShape));
    EXPECT_EQ(std::as_const(tensor).view().type, type);
    // All of it can be written.
    std::fill_n(tensor.data<std::byte>(), kShape.elements() * size_of(type), std::byte{1});
  }
  EXPECT_FALSE(Tensor().view().present());
  EXPECT_EQ(Tensor().elements(), 0);
}

}  // namespace
}  // namespace nalab
