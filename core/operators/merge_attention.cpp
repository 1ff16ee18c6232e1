#include "core/operators/merge_attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/operators/merge_attention.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>
#include "core/error.h"
#include "core/parallel.h"
#include "core/simd/convert-inl.h"
#include "core/tensor/check.h"

#ifndef NALAB_CORE_OPERATORS_MERGE_ATTENTION_ONCE
#define NALAB_CORE_OPERATORS_MERGE_ATTENTION_ONCE

namespace nalab::merge {

/// Tokens of one task: enough that a task costs more than its start.
inline constexpr int64_t kTokensPerTask = 16;
/// Columns that are summed at a time, in first-level cache and in whole vectors.
inline constexpr int64_t kColumns = 64;

/// A part that has keys for a query, and its share of the query's softmax.
struct Share {
  std::size_t part;
  float lse;
  float weight;
};

/// Fills in the shares of the parts that have keys. Returns the log-sum-exp over all of them.
inline float weigh(std::span<const PartialAttention> parts, int64_t b, const Token& token, int64_t head,
                   std::vector<Share>& shares) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  shares.clear();
  double max = -kInfinity;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const float lse = *parts[i].lse.as<float>().row(b, token[0], token[1], token[2], head);
    if (lse == -std::numeric_limits<float>::infinity()) continue;
    // NaN slips past the maximum, and reaches all shares through the sum.
    max = std::max(max, static_cast<double>(lse));
    shares.push_back({i, lse, 0.0f});
  }
  double sum = 0;
  for (const Share& share : shares) sum += std::exp(share.lse - max);
  const double lse = max + std::log(sum);
  for (Share& share : shares) share.weight = static_cast<float>(std::exp(share.lse - lse));
  return static_cast<float>(lse);
}

}  // namespace nalab::merge

#endif  // NALAB_CORE_OPERATORS_MERGE_ATTENTION_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::merge::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using simd::HWY_NAMESPACE::Floats;

/// target[c] = sum of the parts' rows by weight, for c in [0, n), n <= kColumns. row(part) points to a row of T.
template <class T, class O, class Row>
HWY_INLINE void MergeColumns(const std::vector<Share>& shares, const Row& row, int64_t n, O* target) {
  const Floats d;
  constexpr int64_t kStep = hn::MaxLanes(Floats());
  HWY_ALIGN float sums[kColumns] = {};
  HWY_ALIGN float values[kColumns] = {};
  for (const Share& share : shares) {
    simd::HWY_NAMESPACE::CopyToFloats(row(share.part), n, values);
    const auto weight = hn::Set(d, share.weight);
    for (int64_t c = 0; c < n; c += kStep) {
      hn::Store(hn::MulAdd(weight, hn::Load(d, values + c), hn::Load(d, sums + c)), d, sums + c);
    }
  }
  for (int64_t c = 0; c < n; ++c) target[c] = from_float<O>(sums[c]);
}

template <class T, class O>
void MergeOf(std::span<const PartialAttention> parts, const Outputs& merged, Workers& workers) {
  const TokenShape& shape = merged.out.shape;
  const int64_t tokens = shape.tokens();
  const int64_t tasks_of_batch = geometry::ceil_div(tokens, kTokensPerTask);
  const auto out = merged.out.as<O>();
  const auto lse = merged.lse.as<float>();
  workers.for_each(shape.batch * tasks_of_batch, [&](int64_t task, int) HWY_ATTR {
    std::vector<Share> shares;
    const int64_t b = task / tasks_of_batch;
    const int64_t first = task % tasks_of_batch * kTokensPerTask;
    for (int64_t index = first; index < std::min(first + kTokensPerTask, tokens); ++index) {
      const Token x = token_at(shape.layout, index);
      for (int64_t h = 0; h < shape.heads; ++h) {
        // merged may be one of the parts: every element is read before it is written.
        *lse.row(b, x[0], x[1], x[2], h) = weigh(parts, b, x, h, shares);
        for (int64_t c = 0; c < shape.dim; c += kColumns) {
          const auto row = [&](std::size_t part) { return parts[part].out.as<T>().row(b, x[0], x[1], x[2], h) + c; };
          MergeColumns<T>(shares, row, std::min(kColumns, shape.dim - c), out.row(b, x[0], x[1], x[2], h) + c);
        }
      }
    }
  });
}

void Merge(std::span<const PartialAttention> parts, const Outputs& merged, Workers& workers) {
  with_element_type(parts.front().out.type, [&](auto element) {
    using T = decltype(element);
    if (merged.out.type == ElementType::f32) {
      MergeOf<T, float>(parts, merged, workers);
    } else {
      MergeOf<T, T>(parts, merged, workers);
    }
  });
}

}  // namespace nalab::merge::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab {

namespace merge {

static void run(std::span<const PartialAttention> parts, const Outputs& merged, Workers& workers, Isa isa) {
  NALAB_SELECT(isa, Merge)(parts, merged, workers);
}

}  // namespace merge

void merge_attention(std::span<const PartialAttention> parts, const Outputs& merged, Context& context, Isa isa) {
  if (parts.empty()) throw Error("there is no partial attention to merge");
  const TokenShape& shape = parts.front().out.shape;
  const ElementType type = parts.front().out.type;
  TokenShape lse_shape = shape;
  lse_shape.dim = 1;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string part = " of part " + std::to_string(i + 1);
    check_input("out" + part, parts[i].out, shape, type);
    check_input("lse" + part, parts[i].lse, lse_shape, ElementType::f32);
  }
  check_output("out", merged.out, shape, type);
  check_output("lse", merged.lse, lse_shape, ElementType::f32);
  merge::run(parts, merged, context.workers(), isa);
}

}  // namespace nalab
#endif  // HWY_ONCE
