// Gradients to which all queries of a head add: of the bias and of extra tokens. They are summed in parts.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernels/tile/gradient_sums.h"
#include "core/parallel.h"
#include "core/problem.h"
#include "core/tensor/workspace.h"

namespace nalab::banded {

/// Every batch entry has the same number of parts.
class PartSums {
 public:
  PartSums(const Problem& p, int64_t parts, WorkspaceCutter& cutter)
      : bias_(p, parts, cutter), parts_(parts), heads_kv_(p.heads_kv), extra_tokens_(p.extra_tokens) {
    const int64_t rows = parts * heads_kv_ * extra_tokens_;
    dextra_k_ = {cutter.take<float>(rows * p.head_dim), p.head_dim};
    dextra_v_ = {cutter.take<float>(rows * p.head_dim_v), p.head_dim_v};
  }

  /// [entries] of the bias table of a query head.
  double* bias(int64_t part, int64_t head) const { return bias_.of(part, head); }
  /// [extra tokens][dim] of a kv head.
  float* dextra_k(int64_t part, int64_t head_kv) const { return of(dextra_k_, part, head_kv); }
  float* dextra_v(int64_t part, int64_t head_kv) const { return of(dextra_v_, part, head_kv); }

  void set_to_zero(Workers& workers) const {
    bias_.set_to_zero(workers);
    if (extra_tokens_ == 0) return;
    workers.for_each(parts_, [&](int64_t part, int) {
      for (const Rows& rows : {dextra_k_, dextra_v_}) {
        std::fill_n(of(rows, part, 0), heads_kv_ * extra_tokens_ * rows.dim, 0.0f);
      }
    });
  }

  /// Adds up the parts: drpb is stored, the others go to `sums`.
  void add_up(const tile::KeyGradients& sums, const TensorView& drpb, Workers& workers) const {
    bias_.store(drpb, workers);
    if (extra_tokens_ == 0) return;
    add_up(dextra_k_, sums.dextra_k, workers);
    add_up(dextra_v_, sums.dextra_v, workers);
  }

 private:
  struct Rows {
    float* data;  ///< [parts][kv heads][extra tokens][dim]
    int64_t dim;
  };

  float* of(const Rows& rows, int64_t part, int64_t head_kv) const {
    return rows.data + (part * heads_kv_ + head_kv) * extra_tokens_ * rows.dim;
  }

  void add_up(const Rows& rows, const TokenView<float>& target, Workers& workers) const {
    const int64_t batch = target.shape.batch, parts = parts_ / batch;
    workers.for_each(batch * heads_kv_, [&](int64_t i, int) {
      const int64_t b = i / heads_kv_, head_kv = i % heads_kv_;
      for (int64_t n = 0; n < extra_tokens_; ++n) {
        float* const row = target.row(b, 0, 0, n, head_kv);
        std::fill_n(row, rows.dim, 0.0f);
        for (int64_t part = b * parts; part < (b + 1) * parts; ++part) {
          const float* const own = of(rows, part, head_kv) + n * rows.dim;
          for (int64_t c = 0; c < rows.dim; ++c) row[c] += own[c];
        }
      }
    });
  }

  tile::BiasSums bias_;
  int64_t parts_, heads_kv_, extra_tokens_;
  Rows dextra_k_, dextra_v_;
};

}  // namespace nalab::banded
