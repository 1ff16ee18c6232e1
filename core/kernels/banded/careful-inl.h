// Queries with numbers that a matrix unit cannot take, one by one in float32: as naive computes them.
#include <algorithm>
#include <array>
#include <cstdint>

#include "core/kernels/banded/matrix_packing-inl.h"
#include "core/kernels/unfused/bias-inl.h"
#include "core/kernels/unfused/neighbors.h"
#include "core/kernels/unfused/rows-inl.h"
#include "core/tensor/row.h"
#include "core/tensor/workspace.h"
#include "core/tensors.h"

#if defined(NALAB_CORE_KERNELS_BANDED_CAREFUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_CAREFUL_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_CAREFUL_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_CAREFUL_INL_H_
#endif

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

namespace rows = nalab::unfused::HWY_NAMESPACE;

class CarefulQueries {
 public:
  /// One worker's memory.
  struct Private {
    int64_t* offsets;  ///< [keys_per_query]
    float* scores;     ///< [keys_per_query]
    float* row;        ///< [max(head_dim, head_dim_v)]

    Private(const Problem& p, WorkspaceCutter& cutter)
        : offsets(cutter.take<int64_t>(p.keys_per_query())),
          scores(cutter.take<float>(p.keys_per_query())),
          row(cutter.take<float>(std::max(p.head_dim, p.head_dim_v))) {}
  };

  CarefulQueries(const Problem& problem, const Inputs& in, const Outputs& out, const unfused::BiasTables& biases,
                 const Private& mine)
      : problem_(problem),
        axes_(problem.axes3()),
        q_(in.q.as<bf16>()),
        k_(in.k.as<bf16>()),
        v_(in.v.as<bf16>()),
        extra_k_(in.extra_k.as<bf16>()),
        extra_v_(in.extra_v.as<bf16>()),
        out_(out),
        biases_(biases),
        mine_(mine) {}

  /// Stores the results of a query; or, unless `all`, those channels alone of which it attends to a value that does not
  /// fit.
  void HWY_ATTR Run(int64_t batch, const geometry::Token& token, int64_t head, bool all) const {
    const int64_t head_kv = head / (problem_.heads / problem_.heads_kv), dim_v = problem_.head_dim_v;
    const float lse = Weights(batch, token, head, head_kv);
    const int64_t keys = unfused::key_offsets(axes_, token, v_.strides, mine_.offsets);
    const bf16* const first = v_.row(batch, 0, 0, 0, head_kv);
    const auto value = [&](int64_t n) HWY_ATTR {
      return n < keys ? first + mine_.offsets[n] : extra_v_.row(batch, 0, 0, n - keys, head_kv);
    };
    const int64_t count = keys + problem_.extra_tokens;
    std::fill_n(mine_.row, dim_v, 0.0f);
    rows::AddWeightedRows<1>(&mine_.scores, count, value, dim_v, &mine_.row);
    if (all) {
      store_row(out_.out, batch, token, head, mine_.row);
      store_row(out_.lse, batch, token, head, &lse);
      return;
    }
    with_element_type(out_.out.type, [&](auto element) {
      using T = decltype(element);
      T* const target = out_.out.template as<T>().row(batch, token, head);
      for (int64_t c = 0; c < dim_v; ++c) {
        bool fits = true;
        for (int64_t n = 0; n < count; ++n) fits = fits && Fits(value(n) + c, 1);
        if (!fits) target[c] = from_float<T>(mine_.row[c]);
      }
    });
  }

 private:
  /// Makes a query's weights, and returns its lse.
  float HWY_ATTR Weights(int64_t batch, const geometry::Token& token, int64_t head, int64_t head_kv) const {
    rows::CopyToFloats(q_.row(batch, token, head), problem_.head_dim, mine_.row);
    const int64_t keys = unfused::key_offsets(axes_, token, k_.strides, mine_.offsets);
    const bf16* const first = k_.row(batch, 0, 0, 0, head_kv);
    const auto key = [&](int64_t n) HWY_ATTR {
      return n < keys ? first + mine_.offsets[n] : extra_k_.row(batch, 0, 0, n - keys, head_kv);
    };
    const int64_t count = keys + problem_.extra_tokens;
    rows::Scores<1>(&mine_.row, problem_.head_dim, count, key, factor_as_float(problem_.effective_scale()),
                    &mine_.scores);
    if (problem_.relative_bias) {
      rows::ForEachRun(geometry::BiasTable(axes_), axes_, token,
                       [&](int64_t column, int64_t entry, int64_t n)
                           HWY_ATTR { rows::AddRun(biases_.of(head) + entry, n, mine_.scores + column); });
    }
    return rows::Softmax(mine_.scores, count);
  }

  const Problem& problem_;
  const std::array<Axis, 3> axes_;
  const TokenView<const bf16> q_, k_, v_, extra_k_, extra_v_;
  const Outputs& out_;
  const unfused::BiasTables& biases_;
  const Private& mine_;
};

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_BANDED_CAREFUL_INL_H_
