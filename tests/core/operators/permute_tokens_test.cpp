#include "core/operators/permute_tokens.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/core/kernels/support.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

using geometry::Axis;
using geometry::TokenPermutation;

/// Layouts with primes, one token, ragged dilation groups, and tiles larger than the axis.
std::vector<TokenPermutation> permutations() {
  return {
      {{Axis{}, Axis{}, Axis{}}, {2, 3, 4}},
      {{Axis{}, Axis{}, Axis{.extent = 997}}, {1, 1, 64}},
      {{Axis{}, Axis{.extent = 13}, Axis{.extent = 29}}, {1, 4, 8}},
      {{Axis{.extent = 5, .dilation = 2}, Axis{.extent = 7, .dilation = 3}, Axis{.extent = 11, .dilation = 4}},
       {2, 2, 2}},
      {{Axis{.extent = 2}, Axis{.extent = 3, .dilation = 3}, Axis{.extent = 19, .dilation = 19}}, {1, 1, 1}},
  };
}

TokenShape shape_of(const TokenPermutation& p, int64_t heads, int64_t dim) {
  return {2, {p.axis(0).extent, p.axis(1).extent, p.axis(2).extent}, heads, dim};
}

TokenShape permuted_shape(TokenShape shape) {
  shape.layout = {1, 1, shape.tokens()};
  return shape;
}

/// Calls f(permutation, random tokens) for all layouts and types, with several rows and one element per token.
template <class F>
void for_every_tensor(F f) {
  std::mt19937_64 random(3);
  for (const TokenPermutation& permutation : permutations()) {
    for (ElementType type : test::kElementTypes) {
      for (const auto& [heads, dim] : {std::pair{3, 17}, std::pair{1, 1}}) {
        f(permutation, test::random_tensor(type, shape_of(permutation, heads, dim), random));
      }
    }
  }
}

/// Row n of permuted is the token at place n, in every batch entry and head.
void expect_permuted(const TokenPermutation& permutation, const ConstTensorView& tokens,
                     const ConstTensorView& permuted) {
  with_element_type(tokens.type, [&](auto element) {
    using T = decltype(element);
    const auto rows = permuted.as<T>();
    test::for_each_row(tokens.as<T>(), [&](const T* row, int64_t b, int64_t x1, int64_t x2, int64_t x3, int64_t h) {
      ASSERT_TRUE(std::equal(row, row + tokens.shape.dim, rows.row(b, 0, 0, permutation.place_of({x1, x2, x3}), h)));
    });
  });
}

TEST(Permute, ToItsPlaceAndBack) {
  for (int threads : {1, 3}) {
    Context context(threads);
    for_every_tensor([&](const TokenPermutation& permutation, const Tensor& tokens) {
      test::GuardedTensor permuted(tokens.type(), permuted_shape(tokens.shape()));
      permute_tokens(permutation, tokens.view(), permuted.view(), context);
      expect_permuted(permutation, tokens.view(), permuted.view());
      test::GuardedTensor back(tokens.type(), tokens.shape());
      unpermute_tokens(permutation, permuted.view(), back.view(), context);
      const auto* bytes = tokens.data<std::byte>();
      EXPECT_EQ(back.bits(), std::vector(bytes, bytes + tokens.elements() * size_of(tokens.type())));
      EXPECT_TRUE(permuted.intact());
      EXPECT_TRUE(back.intact());
    });
  }
}

TEST(Permute, StridedViewsKeepTheirGaps) {
  Context context(2);
  for_every_tensor([&](const TokenPermutation& permutation, const Tensor& tokens) {
    test::StridedTensor source(tokens.view());
    test::StridedTensor permuted(tokens.type(), permuted_shape(tokens.shape()));
    permute_tokens(permutation, source.view(), permuted.view(), context);
    expect_permuted(permutation, tokens.view(), permuted.view());
    test::StridedTensor back(tokens.type(), tokens.shape());
    unpermute_tokens(permutation, permuted.view(), back.view(), context);
    EXPECT_EQ(test::to_double(back.view()), test::to_double(tokens.view()));
    EXPECT_TRUE(permuted.gaps_intact());
    EXPECT_TRUE(back.gaps_intact());
  });
}

// Rows that are adjacent in one tensor alone must not be copied as one.
TEST(Permute, OneTensorMayHaveGapsAndTheOtherNone) {
  Context context(2);
  for_every_tensor([&](const TokenPermutation& permutation, const Tensor& tokens) {
    for (const unsigned gaps : {test::kHeadsGap, test::kDimGap, test::kX3Gap, test::kBatchGap}) {
      for (const bool of_tokens : {true, false}) {
        SCOPED_TRACE("gaps " + std::to_string(gaps) + (of_tokens ? " of tokens" : " of permuted ones"));
        test::StridedTensor source(tokens.view(), of_tokens ? gaps : 0);
        test::StridedTensor permuted(tokens.type(), permuted_shape(tokens.shape()), of_tokens ? 0 : gaps);
        permute_tokens(permutation, source.view(), permuted.view(), context);
        expect_permuted(permutation, tokens.view(), permuted.view());
        test::StridedTensor back(tokens.type(), tokens.shape(), of_tokens ? gaps : 0);
        unpermute_tokens(permutation, permuted.view(), back.view(), context);
        EXPECT_EQ(test::to_double(back.view()), test::to_double(tokens.view()));
        EXPECT_TRUE(permuted.gaps_intact());
        EXPECT_TRUE(back.gaps_intact());
      }
    }
  });
}

TEST(Permute, RefusesWhatDoesNotFit) {
  Context context(1);
  const std::array<Axis, 3> axes{Axis{}, Axis{.extent = 4}, Axis{.extent = 5}};
  const TokenPermutation permutation(axes, {1, 2, 2});
  const Tensor tokens(ElementType::f32, {1, {1, 4, 5}, 2, 8});
  Tensor permuted(ElementType::f32, {1, {1, 1, 20}, 2, 8});
  const auto refusal = [&](const TokenPermutation& p, const ConstTensorView& from, const TensorView& to) {
    return test::error_of([&] { permute_tokens(p, from, to, context); });
  };
  EXPECT_EQ(refusal(permutation, tokens.view(), permuted.view()), "");
  EXPECT_EQ(refusal(permutation, {}, permuted.view()), "tensor tokens is missing");
  EXPECT_EQ(refusal(permutation, tokens.view(), {}), "tensor permuted is missing");
  EXPECT_EQ(refusal({{Axis{}, Axis{.extent = 5}, Axis{.extent = 4}}, {1, 2, 2}}, tokens.view(), permuted.view()),
            "tensor tokens has shape [1, 1, 4, 5, 2, 8], must be [1, 1, 5, 4, 2, 8]");
  Tensor other_shape(ElementType::f32, {1, {1, 4, 5}, 2, 8});
  EXPECT_EQ(refusal(permutation, tokens.view(), other_shape.view()),
            "tensor permuted has shape [1, 1, 4, 5, 2, 8], must be [1, 1, 1, 20, 2, 8]");
  Tensor other_type(ElementType::bf16, {1, {1, 1, 20}, 2, 8});
  EXPECT_EQ(refusal(permutation, tokens.view(), other_type.view()), "tensor permuted is bf16, must be f32");
  EXPECT_EQ(refusal({axes, {1, 2, 0}}, tokens.view(), permuted.view()),
            "token permutation: tile 0 of axis 3 of three must be at least 1");
  EXPECT_EQ(test::error_of([&] {
              unpermute_tokens({{Axis{}, Axis{.extent = 4, .dilation = -1}, Axis{.extent = 5}}, {1, 2, 2}},
                               tokens.view(), permuted.view(), context);
            }),
            "token permutation: dilation -1 of axis 2 of three must be at least 1");
}

}  // namespace
}  // namespace nalab
