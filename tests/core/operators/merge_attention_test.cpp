#include "core/operators/merge_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <list>
#include <vector>

#include "core/compare.h"
#include "core/kernels/reference/reference.h"
#include "tests/core/kernels/bounds.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TokenShape lse_shape_of(TokenShape shape) {
  shape.dim = 1;
  return shape;
}

/// Partial attentions that own their tensors.
struct Parts {
  std::list<Tensor> tensors;
  std::vector<PartialAttention> views;

  /// lse is spread over `spread`, so that some parts count for much and others for little.
  Parts(std::size_t count, ElementType type, const TokenShape& shape, double spread, uint64_t seed) {
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < count; ++i) {
      Tensor& out = tensors.emplace_back(test::random_tensor(type, shape, random));
      Tensor& lse = tensors.emplace_back(test::random_tensor(ElementType::f32, lse_shape_of(shape), random));
      for (int64_t n = 0; n < lse.elements(); ++n) lse.data<float>()[n] *= static_cast<float>(spread);
      views.push_back({out.view(), lse.view()});
    }
  }

  Tensor& out(std::size_t i) { return *std::next(tensors.begin(), static_cast<std::ptrdiff_t>(2 * i)); }
  Tensor& lse(std::size_t i) { return *std::next(tensors.begin(), static_cast<std::ptrdiff_t>(2 * i + 1)); }
};

struct Merged {
  std::vector<double> out, lse;
};

Merged merge(std::span<const PartialAttention> parts, ElementType type, Isa isa, int threads = 2) {
  Context context(threads);
  const TokenShape shape = parts.front().out.shape;
  test::GuardedTensor out(type, shape), lse(ElementType::f32, lse_shape_of(shape));
  merge_attention(parts, {out.view(), lse.view()}, context, isa);
  EXPECT_TRUE(out.intact());
  EXPECT_TRUE(lse.intact());
  return {out.values(), lse.values()};
}

/// By definition, in double.
Merged expected(std::span<const PartialAttention> parts) {
  const int64_t dim = parts.front().out.shape.dim;
  std::vector<std::vector<double>> out, lse;
  for (const PartialAttention& part : parts) {
    out.push_back(test::to_double(part.out));
    lse.push_back(test::to_double(part.lse));
  }
  Merged merged;
  for (std::size_t row = 0; row < lse.front().size(); ++row) {
    double max = -INFINITY, sum = 0;
    for (const auto& l : lse) max = std::max(max, l[row]);
    for (const auto& l : lse) sum += std::exp(l[row] - max);
    merged.lse.push_back(max + std::log(sum));
    for (std::size_t c = 0; c < static_cast<std::size_t>(dim); ++c) {
      double total = 0;
      for (std::size_t i = 0; i < parts.size(); ++i) {
        total += std::exp(lse[i][row] - merged.lse.back()) * out[i][row * static_cast<std::size_t>(dim) + c];
      }
      merged.out.push_back(total);
    }
  }
  return merged;
}

void expect_near(const Merged& merged, const Merged& reference, ElementType type, double max_abs_score = 0) {
  const Comparison out = compare(std::span<const double>(merged.out), std::span<const double>(reference.out),
                                 tolerance(type, TensorKind::output, max_abs_score), 1);
  EXPECT_TRUE(out.ok) << "out: " << out.to_string();
  const Comparison lse = compare(std::span<const double>(merged.lse), std::span<const double>(reference.lse),
                                 tolerance(ElementType::f32, TensorKind::output, max_abs_score), 1);
  EXPECT_TRUE(lse.ok) << "lse: " << lse.to_string();
}

TEST(Merge, RandomPartsOfEveryTypeNumberAndWidth) {
  uint64_t seed = 0;
  for (ElementType type : test::kElementTypes) {
    for (std::size_t count : {1, 2, 3, 11}) {
      for (int64_t dim : {1, 13, 64, 65, 200}) {
        const Parts parts(count, type, {2, {1, 5, 7}, 3, dim}, 3.0, ++seed);
        const Merged reference = expected(parts.views);
        for (Isa isa : test::supported_isas()) {
          SCOPED_TRACE(testing::Message() << name(type) << " parts " << count << " dim " << dim << " " << name(isa));
          expect_near(merge(parts.views, ElementType::f32, isa), reference, ElementType::f32);
          expect_near(merge(parts.views, type, isa), reference, type);
        }
      }
    }
  }
}

TEST(Merge, OrderChangesRoundingAlone) {
  Parts parts(7, ElementType::f32, {1, {1, 1, 31}, 2, 24}, 3.0, 5);
  const Merged reference = expected(parts.views);
  std::mt19937_64 random(1);
  for (int i = 0; i < 10; ++i) {
    std::shuffle(parts.views.begin(), parts.views.end(), random);
    expect_near(merge(parts.views, ElementType::f32, best_isa()), reference, ElementType::f32);
  }
}

TEST(Merge, LargeScoresNeitherOverflowNorVanish) {
  Parts parts(3, ElementType::f32, {1, {1, 1, 40}, 1, 8}, 1.0, 6);
  for (std::size_t i = 0; i < 3; ++i) {
    for (int64_t n = 0; n < 40; ++n) parts.lse(i).data<float>()[n] += n % 2 == 0 ? 5000.0f : -5000.0f;
  }
  for (Isa isa : test::supported_isas()) {
    expect_near(merge(parts.views, ElementType::f32, isa), expected(parts.views), ElementType::f32);
  }
}

TEST(Merge, OnePartIsItself) {
  for (ElementType type : test::kElementTypes) {
    const Parts one(1, type, {2, {1, 1, 9}, 2, 20}, 10.0, 8);
    for (Isa isa : test::supported_isas()) {
      const Merged merged = merge(one.views, type, isa);
      EXPECT_EQ(merged.out, test::to_double(one.views[0].out));
      EXPECT_EQ(merged.lse, test::to_double(one.views[0].lse));
    }
  }
}

TEST(Merge, PartsWithoutKeysCountForNothing) {
  for (ElementType type : test::kElementTypes) {
    const TokenShape shape{1, {1, 1, 4}, 1, 19};
    Parts parts(3, type, shape, 1.0, 9);
    // Token 0: the first part is empty; 1: all but the second; 2: all; 3: none. What an empty part holds is garbage.
    const std::vector<std::vector<int>> empty{{0}, {0, 2}, {0, 1, 2}, {}};
    for (std::size_t token = 0; token < 4; ++token) {
      for (int i : empty[token]) {
        const auto part = static_cast<std::size_t>(i);
        parts.lse(part).data<float>()[token] = -kInfinity;
        for (int64_t c = 0; c < 19; ++c) test::set(parts.out(part), static_cast<int64_t>(token) * 19 + c, kNan);
      }
    }
    for (Isa isa : test::supported_isas()) {
      const Merged merged = merge(parts.views, ElementType::f32, isa);
      const auto part = [&](std::size_t i, std::size_t c) { return test::to_double(parts.views[i].out)[c]; };
      const auto lse = [&](std::size_t i, std::size_t token) { return test::to_double(parts.views[i].lse)[token]; };
      const double both = std::log(std::exp(lse(1, 0)) + std::exp(lse(2, 0)));
      // Each lse is rounded as the difference from the greatest; exponentials, their sum, its logarithm, a product.
      const double relative = test::kFloatUnit * (8 + std::abs(lse(1, 0)) + std::abs(lse(2, 0)) + std::abs(both));
      EXPECT_NEAR(merged.lse[0], both, relative);
      EXPECT_EQ(merged.lse[1], lse(1, 1));
      EXPECT_EQ(merged.lse[2], -kInfinity);
      for (std::size_t c = 0; c < 19; ++c) {
        const double one = std::exp(lse(1, 0) - both) * part(1, c), two = std::exp(lse(2, 0) - both) * part(2, c);
        EXPECT_NEAR(merged.out[c], one + two, relative * (std::abs(one) + std::abs(two)));
        EXPECT_EQ(merged.out[19 + c], part(1, 19 + c));
        EXPECT_EQ(merged.out[38 + c], 0.0);
        EXPECT_TRUE(std::isfinite(merged.out[57 + c]));
      }
    }
  }
}

TEST(Merge, NanStaysWhereItBelongs) {
  const int64_t dim = 21;
  for (Isa isa : test::supported_isas()) {
    for (std::size_t bad = 0; bad < 3; ++bad) {
      Parts parts(3, ElementType::f32, {1, {1, 1, 5}, 2, dim}, 1.0, 10);
      const Merged clean = merge(parts.views, ElementType::f32, isa);
      parts.lse(bad).data<float>()[3] = kNan;
      parts.out(bad).data<float>()[7 * dim + 20] = kNan;
      const Merged merged = merge(parts.views, ElementType::f32, isa);
      for (std::size_t row = 0; row < 10; ++row) {
        EXPECT_TRUE(row == 3 ? std::isnan(merged.lse[row]) : merged.lse[row] == clean.lse[row]) << row;
        for (std::size_t c = 0; c < dim; ++c) {
          const double x = merged.out[row * dim + c];
          const bool nan = row == 3 || (row == 7 && c == 20);
          EXPECT_TRUE(nan ? std::isnan(x) : x == clean.out[row * dim + c]) << row << " " << c;
        }
      }
    }
  }
}

TEST(Merge, IntoOneOfThePartsForAnyNumberOfThreads) {
  for (ElementType type : test::kElementTypes) {
    const TokenShape shape{2, {3, 5, 7}, 2, 70};
    const Parts parts(4, type, shape, 2.0, 11);
    for (Isa isa : test::supported_isas()) {
      const Merged apart = merge(parts.views, type, isa, 1);
      for (int threads : {2, 5}) {
        const Merged again = merge(parts.views, type, isa, threads);
        EXPECT_EQ(again.out, apart.out);
        EXPECT_EQ(again.lse, apart.lse);
      }
      Parts copy(4, type, shape, 2.0, 11);
      Context context(3);
      merge_attention(copy.views, {copy.out(2).view(), copy.lse(2).view()}, context, isa);
      EXPECT_EQ(test::to_double(copy.views[2].out), apart.out);
      EXPECT_EQ(test::to_double(copy.views[2].lse), apart.lse);
    }
  }
}

TEST(Merge, StridedViewsKeepTheirGaps) {
  const TokenShape shape{2, {2, 3, 5}, 2, 37};
  const Parts parts(2, ElementType::f16, shape, 2.0, 12);
  const Merged reference = expected(parts.views);
  std::list<test::StridedTensor> strided;
  std::vector<PartialAttention> views;
  for (const PartialAttention& part : parts.views) {
    const auto out = strided.emplace_back(part.out).view();
    views.push_back({out, strided.emplace_back(part.lse).view()});
  }
  Context context(2);
  for (Isa isa : test::supported_isas()) {
    test::StridedTensor out(ElementType::f16, shape), lse(ElementType::f32, lse_shape_of(shape));
    merge_attention(views, {out.view(), lse.view()}, context, isa);
    expect_near({test::to_double(out.view()), test::to_double(lse.view())}, reference, ElementType::f16);
    EXPECT_TRUE(out.gaps_intact());
    EXPECT_TRUE(lse.gaps_intact());
  }
}

/// A tensor whose tokens, of a layout {1, 1, n}, are those from `first` on, wrapping around.
Tensor rolled(const Tensor& source, int64_t first, int64_t count) {
  TokenShape shape = source.shape();
  const int64_t tokens = shape.layout[2];
  shape.layout[2] = count;
  Tensor target(source.type(), shape);
  with_element_type(source.type(), [&](auto element) {
    using T = decltype(element);
    const auto from = source.view().as<T>();
    test::for_each_row(target.view().as<T>(), [&](T* row, int64_t b, int64_t, int64_t, int64_t x3, int64_t h) {
      std::copy_n(from.row(b, 0, 0, (first + x3) % tokens, h), shape.dim, row);
    });
  });
  return target;
}

/// Self attention with extra tokens in parts, as in context parallelism: in part i every block of tokens attends to the
/// i-th next block, and to the i-th share of the extra tokens. Together they are one call.
TEST(Merge, BlocksOfKeysAndSharesOfExtraTokensAreOneCall) {
  constexpr int64_t kBlock = 6, kParts = 4;
  const std::vector<int64_t> extra_shares{0, 5, 1, 7};
  for (ElementType type : test::kElementTypes) {
    const Problem whole{.axes = {{.extent = kBlock * kParts, .window = kBlock * kParts}},
                        .batch = 2,
                        .heads = 4,
                        .heads_kv = 2,
                        .head_dim = 24,
                        .head_dim_v = 40,
                        .extra_tokens = 13,
                        .type = type};
    const test::Data data(whole, 4);
    const auto reference = reference::forward(whole, data.inputs());
    for (const Variant& variant : variants()) {
      std::list<Tensor> tensors;
      std::vector<PartialAttention> parts;
      int64_t extra = 0;
      Problem part = whole;
      part.axes[0].window = part.axes[0].stride = kBlock;
      if (variant.supports(part, Pass::forward)) continue;
      Context context(2);
      // Other arithmetics may round weights, and not in the same places in parts as in one call.
      const PlanOptions options{.variant = variant.name, .arithmetic = kF32Fma};
      for (int64_t i = 0; i < kParts; ++i) {
        part.extra_tokens = extra_shares[static_cast<std::size_t>(i)];
        const Tensor k = rolled(data["k"], i * kBlock, kBlock * kParts),
                     v = rolled(data["v"], i * kBlock, kBlock * kParts);
        const Tensor extra_k = rolled(data["extra_k"], extra, part.extra_tokens);
        const Tensor extra_v = rolled(data["extra_v"], extra, part.extra_tokens);
        extra += part.extra_tokens;
        Tensor& out = tensors.emplace_back(ElementType::f32, out_shape(part));
        Tensor& lse = tensors.emplace_back(ElementType::f32, lse_shape(part));
        attention_forward(part, {data["q"].view(), k.view(), v.view(), extra_k.view(), extra_v.view()},
                          {out.view(), lse.view()}, context, options);
        parts.push_back({out.view(), lse.view()});
      }
      ASSERT_EQ(extra, whole.extra_tokens);
      SCOPED_TRACE(std::string(variant.name) + " " + whole.id());
      const Merged merged = merge(parts, ElementType::f32, choose_isa());
      expect_near(merged, {reference.out, reference.lse}, type, reference.max_abs_score);
      if (variant.supports(whole, Pass::forward)) continue;
      Tensor out(ElementType::f32, out_shape(whole)), lse(ElementType::f32, lse_shape(whole));
      attention_forward(whole, data.inputs(), {out.view(), lse.view()}, context, options);
      expect_near(merged, {test::to_double(out.view()), test::to_double(lse.view())}, type);
    }
  }
}

TEST(Merge, RefusesWhatDoesNotFit) {
  Context context(1);
  const TokenShape shape{1, {1, 1, 3}, 2, 4};
  Tensor out(ElementType::bf16, shape), lse(ElementType::f32, lse_shape_of(shape));
  const PartialAttention good{out.view(), lse.view()};
  const auto refusal = [&](std::vector<PartialAttention> parts, const Outputs& merged) {
    return test::error_of([&] { merge_attention(parts, merged, context); });
  };
  const Outputs merged{out.view(), lse.view()};
  EXPECT_EQ(refusal({}, merged), "there is no partial attention to merge");
  EXPECT_EQ(refusal({good, {{}, lse.view()}}, merged), "tensor out of part 2 is missing");
  EXPECT_EQ(refusal({good, {lse.view(), lse.view()}}, merged),
            "tensor out of part 2 has shape [1, 1, 1, 3, 2, 1], must be [1, 1, 1, 3, 2, 4]");
  const Tensor f32(ElementType::f32, shape);
  EXPECT_EQ(refusal({good, {f32.view(), lse.view()}}, merged), "tensor out of part 2 is f32, must be bf16");
  EXPECT_EQ(refusal({{out.view(), out.view()}}, merged),
            "tensor lse of part 1 has shape [1, 1, 1, 3, 2, 4], must be [1, 1, 1, 3, 2, 1]");
  Tensor f16(ElementType::f16, shape);
  EXPECT_EQ(refusal({good}, {f16.view(), lse.view()}), "tensor out is f16, must be bf16 or f32");
  EXPECT_EQ(refusal({good}, {out.view(), {}}), "tensor lse is missing");
}

}  // namespace
}  // namespace nalab
