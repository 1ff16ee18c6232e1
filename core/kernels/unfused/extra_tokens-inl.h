// Gradients of the extra tokens, for the unfused variants. Every query attends to an extra token: its inverse
// neighborhood is the whole batch entry.
#include <algorithm>
#include <cstdint>

#include "core/kernels/unfused/extra_tokens.h"
#include "core/kernels/unfused/rows-inl.h"
#include "core/kernels/unfused/weight_rows.h"
#include "core/simd/targets.h"
#include "core/tensor/row.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_UNFUSED_EXTRA_TOKENS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_UNFUSED_EXTRA_TOKENS_INL_H_
#undef NALAB_CORE_KERNELS_UNFUSED_EXTRA_TOKENS_INL_H_
#else
#define NALAB_CORE_KERNELS_UNFUSED_EXTRA_TOKENS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::unfused::HWY_NAMESPACE {

/// gradient[extra token] = sum over the queries of its kv head of weight * row of `queries`. `partial` has
/// slices.floats(queries.shape.dim) floats.
template <class T>
void ExtraNeighborhood(const Problem& problem, const TokenView<const T>& queries, const ConstWeightRows& weight_rows,
                       const ExtraSlices& slices, float* partial, const TensorView& gradient, Workers& workers) {
  constexpr int kBlock = static_cast<int>(ExtraSlices::kBlock);
  const auto axes = problem.axes3();
  const int64_t heads_per_kv = problem.heads / problem.heads_kv;
  const int64_t dim = queries.shape.dim;
  workers.for_each(slices.tasks(), [&](int64_t number, int) HWY_ATTR {
    const ExtraSlices::Task task = slices.at(number);
    float weights[kBlock][kSumBlock];
    const T* row[kSumBlock];
    float *sums[kBlock], *weights_row[kBlock];
    for (int i = 0; i < kBlock; ++i) {
      sums[i] = partial + slices.row(task, task.first + i) * dim;
      weights_row[i] = weights[i];
      std::fill(sums[i], sums[i] + dim, 0.0f);
    }
    const int64_t count = std::min<int64_t>(kBlock, problem.extra_tokens - task.first);
    int64_t used = 0;
    const auto flush = [&]() HWY_ATTR {
      AddWeightedRows<kBlock>(
          weights_row, used, [&](int64_t n) HWY_ATTR { return row[n]; }, dim, sums);
      used = 0;
    };
    // Rows beyond the last extra token weigh nothing.
    for (auto& one : weights) std::fill(one, one + kSumBlock, 0.0f);
    for (int64_t index = task.tokens.begin; index < task.tokens.end; ++index) {
      const Token token = token_at(queries.shape.layout, index);
      const int64_t column = key_count(axes, token) + task.first;
      for (int64_t h = task.head_kv * heads_per_kv; h < (task.head_kv + 1) * heads_per_kv; ++h) {
        const float* const source = weight_rows.row(task.batch, token, h) + column;
        for (int64_t i = 0; i < count; ++i) weights[i][used] = source[i];
        row[used] = queries.row(task.batch, token[0], token[1], token[2], h);
        if (++used == kSumBlock) flush();
      }
    }
    flush();
  });
  workers.for_each(problem.batch * problem.heads_kv * problem.extra_tokens, [&](int64_t task, int) {
    const int64_t extra = task % problem.extra_tokens;
    const int64_t head_kv = task / problem.extra_tokens % problem.heads_kv;
    const int64_t batch = task / problem.extra_tokens / problem.heads_kv;
    const auto part = [&](int64_t slice) { return partial + slices.row({batch, head_kv, slice}, extra) * dim; };
    float* const sum = part(0);
    for (int64_t slice = 1; slice < slices.count(); ++slice) {
      for (int64_t c = 0; c < dim; ++c) sum[c] += part(slice)[c];
    }
    store_row(gradient, batch, {0, 0, extra}, head_kv, sum);
  });
}

}  // namespace nalab::unfused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_UNFUSED_EXTRA_TOKENS_INL_H_
