// Relative positional biases on rows of scores, for the unfused variants: along the last axis the biases of a query's
// keys are a contiguous run of the table.
#include <algorithm>
#include <array>
#include <cstdint>

#include "core/kernels/unfused/bias.h"
#include "core/kernels/unfused/neighbors.h"
#include "core/kernels/unfused/weight_rows.h"
#include "core/parallel.h"
#include "core/simd/convert-inl.h"
#include "core/simd/targets.h"
#include "core/tensor/tensor.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_UNFUSED_BIAS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_UNFUSED_BIAS_INL_H_
#undef NALAB_CORE_KERNELS_UNFUSED_BIAS_INL_H_
#else
#define NALAB_CORE_KERNELS_UNFUSED_BIAS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::unfused::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// target[i] += source[i] for i in [0, n); nothing beyond is touched.
HWY_INLINE void AddRun(const float* source, int64_t n, float* target) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  const simd::HWY_NAMESPACE::Floats d;
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto mask = hn::FirstN(d, static_cast<std::size_t>(n - i));
    const auto sum = hn::Add(hn::MaskedLoad(mask, d, target + i), hn::MaskedLoad(mask, d, source + i));
    hn::BlendedStore(sum, mask, d, target + i);
  }
#else
  for (int64_t i = 0; i < n; ++i) target[i] += source[i];
#endif
}

/// Calls body(column in its row, entry in its table, length) for the runs of keys of a query.
template <class Body>
HWY_INLINE void ForEachRun(const geometry::BiasTable& table, const std::array<geometry::Axis, 3>& axes,
                           const Token& query, const Body& body) {
  Token position, first;
  std::array<int64_t, 3> count;
  for (int axis = 0; axis < 3; ++axis) {
    const Coordinates keys = key_coordinates(axes[axis], query[axis]);
    position[axis] = query[axis] / axes[axis].dilation;
    first[axis] = keys.first / axes[axis].dilation;
    count[axis] = keys.count;
  }
  const int64_t entry = table.entry(position, first);
  int64_t column = 0;
  for (int64_t i = 0; i < count[0]; ++i) {
    for (int64_t j = 0; j < count[1]; ++j, column += count[2]) {
      body(column, entry + table.place({i, j, 0}), count[2]);
    }
  }
}

/// Copies the tables of a call.
inline void CopyTables(const ConstTensorView& rpb, const BiasTables& tables, Workers& workers) {
  const TokenView<const float> view = rpb.as<float>();
  const auto& extents = view.shape.layout;
  workers.for_each(view.shape.batch, [&](int64_t head, int) {
    float* target = tables.data + head * tables.step;
    for (int64_t i = 0; i < extents[0]; ++i) {
      for (int64_t j = 0; j < extents[1]; ++j) {
        for (int64_t k = 0; k < extents[2]; ++k) *target++ = *view.row(head, i, j, k, 0);
      }
    }
    std::fill(target, tables.data + (head + 1) * tables.step, 0.0f);
  });
}

/// drpb: the sums of the gradients of the scores over the pairs of each entry.
inline void HWY_ATTR BiasGradient(const Problem& problem, const ConstWeightRows& gradients, const BiasSlices& bias,
                                  const TensorView& drpb, Workers& workers) {
  const auto axes = problem.axes3();
  const geometry::BiasTable table(axes);
  const int64_t entries = bias.entries();
  workers.for_each(bias.tasks(), [&](int64_t number, int) HWY_ATTR {
    const BiasSlices::Task task = bias.at(number);
    std::fill_n(task.sums, entries, 0.0);
    for (int64_t begin = task.tokens.begin; begin < task.tokens.end; begin += BiasSlices::kTerms) {
      std::fill_n(task.partial, entries, 0.0f);
      for (int64_t index = begin; index < std::min(begin + BiasSlices::kTerms, task.tokens.end); ++index) {
        const Token token = token_at(gradients.shape.layout, index);
        const float* const row = gradients.row(task.batch, token, task.head);
        ForEachRun(table, axes, token, [&](int64_t column, int64_t entry, int64_t n) HWY_ATTR {
          AddRun(row + column, n, task.partial + entry);
        });
      }
      for (int64_t i = 0; i < entries; ++i) task.sums[i] += static_cast<double>(task.partial[i]);
    }
  });
  const TokenView<float> target = drpb.as<float>();
  workers.for_each(problem.heads, [&](int64_t head, int) {
    double* const sums = bias.at(head).sums;
    for (int64_t number = head + problem.heads; number < bias.tasks(); number += problem.heads) {
      const double* const more = bias.at(number).sums;
      for (int64_t i = 0; i < entries; ++i) sums[i] += more[i];
    }
    for (int64_t i = 0; i < entries; ++i) {
      *target.row(head, token_at(table.extents(), i), 0) = static_cast<float>(sums[i]);
    }
  });
}

}  // namespace nalab::unfused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_UNFUSED_BIAS_INL_H_
