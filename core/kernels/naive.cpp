// naive: one token at a time over its window, unfused: Faster NA (2403.04690) section 3.1 without its GPU particulars.
//
// Operators, one after the other over the whole problem, with their results for all queries stored between them.
// Forward: PN ("pointwise-neighborhood", the scores), softmax, and NN ("neighborhood-neighborhood", the weighted sum of
// values). Backward: PN again for the scores, and of dout and values for the gradients of the weights; softmax and its
// derivative; NN with the keys for dq; and IN ("inverse-neighborhood") for dk and dv, where each key gathers from the
// queries that attend to it: no two tasks write to the same row. Rows are used where they lie; a token's neighbors are
// reached by a list of offsets that all heads share.
//
// The backward pass makes the weights from their own scores again rather than from the saved lse: so they add up to one
// but for a rounding, and a single weight is one exactly.
#include "core/kernels/variants.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/naive.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "core/kernels/extra_tokens-inl.h"
#include "core/kernels/rows-inl.h"
#include "core/kernels/token_rows.h"
#include "core/kernels/weight_rows.h"

#ifndef NALAB_CORE_KERNELS_NAIVE_ONCE
#define NALAB_CORE_KERNELS_NAIVE_ONCE

namespace nalab::naive {

/// Where a key lies in the window of a query along an axis.
struct Column {
  int64_t index, window;
};

/// The workspace: what is stored of all queries, and private memory for each worker.
struct Workspace {
  struct Private {
    int64_t* offsets;  ///< [keys of the window, or queries of the inverse window]
    float* row;        ///< [max(head_dim, head_dim_v)]
    int64_t*
        places;  ///< [queries of the inverse window]: where their weights of the key lie; as what follows, backward
    float* gathered;  ///< [queries of the inverse window]: those weights of one head
    Column* columns;  ///< [queries of the inverse window along the last axis]
  };

  WeightRows weights;
  WeightRows gradients;  ///< backward: of the weights, then of the scores
  float* partial;        ///< backward: of the extra tokens
  ExtraSlices extra;     ///< how those are summed

  Workspace(const Problem& p, Pass pass, WorkspaceCutter& cutter, int threads) : extra(p), problem_(p) {
    const int64_t size = (p.keys_per_query() + 15) / 16 * 16;
    const bool backward = pass == Pass::backward;
    const auto rows = [&](bool there) {
      return WeightRows{cutter.take<float>(there ? p.batch * p.tokens() * p.heads * size : 0), q_shape(p).layout,
                        p.heads, size};
    };
    weights = rows(true);
    gradients = rows(backward);
    partial = cutter.take<float>(backward ? extra.floats(dim()) : 0);
    if (backward) {
      const auto axes = p.axes3();
      last_queries_ = most_queries(axes[2]);
      queries_ = most_queries(axes[0]) * most_queries(axes[1]) * last_queries_;
    }
    WorkspaceCutter one(nullptr);
    cut_private(one);
    private_bytes_ = one.size();
    first_ = cutter.take<std::byte>(private_bytes_ * threads);
  }

  Private of(int worker) const {
    WorkspaceCutter cutter(first_ + worker * private_bytes_);
    return cut_private(cutter);
  }

 private:
  int64_t dim() const { return std::max(problem_.head_dim, problem_.head_dim_v); }
  Private cut_private(WorkspaceCutter& cutter) const {
    Private p;
    p.offsets = cutter.take<int64_t>(std::max(problem_.keys_per_query(), queries_));
    p.row = cutter.take<float>(dim());
    p.places = cutter.take<int64_t>(queries_);
    p.gathered = cutter.take<float>(queries_);
    p.columns = cutter.take<Column>(last_queries_);
    return p;
  }

  const Problem& problem_;
  int64_t queries_ = 0;       ///< the most that attend to a key; backward
  int64_t last_queries_ = 0;  ///< the most along the last axis; backward
  std::byte* first_;
  int64_t private_bytes_;
};

/// Writes where the queries that attend to a key keep their weight of it, in row-major order: places in the rows of the
/// first head of a batch entry.
inline void weight_places(const std::array<geometry::Axis, 3>& axes, const Token& key, const WeightRows& rows,
                          Column* columns, int64_t* places) {
  const auto column_of = [](const geometry::Axis& axis, int64_t query, int64_t key_coordinate) {
    const Coordinates keys = key_coordinates(axis, query);
    return Column{(key_coordinate - keys.first) / keys.step, keys.count};
  };
  const Coordinates x1 = query_coordinates(axes[0], key[0]);
  const Coordinates x2 = query_coordinates(axes[1], key[1]);
  const Coordinates x3 = query_coordinates(axes[2], key[2]);
  for (int64_t k = 0; k < x3.count; ++k) columns[k] = column_of(axes[2], x3.first + k * x3.step, key[2]);
  for (int64_t i = 0; i < x1.count; ++i) {
    const int64_t q1 = x1.first + i * x1.step;
    const Column c1 = column_of(axes[0], q1, key[0]);
    for (int64_t j = 0; j < x2.count; ++j) {
      const int64_t q2 = x2.first + j * x2.step;
      const Column c2 = column_of(axes[1], q2, key[1]);
      const int64_t token = (q1 * axes[1].extent + q2) * axes[2].extent + x3.first;
      const int64_t plane = c1.index * c2.window + c2.index;
      for (int64_t k = 0; k < x3.count; ++k) {
        *places++ = (token + k * x3.step) * rows.heads * rows.size + plane * columns[k].window + columns[k].index;
      }
    }
  }
}

}  // namespace nalab::naive

#endif  // NALAB_CORE_KERNELS_NAIVE_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::naive::HWY_NAMESPACE {

namespace rows = nalab::rows::HWY_NAMESPACE;

/// PN: products[n] = factor * dot(query, key n) of all queries; `keys` are keys or values, `queries` q or dout.
template <class T>
void PointwiseNeighborhood(const Problem& problem, const TokenView<const T>& queries, const TokenView<const T>& keys,
                           const TokenView<const T>& extra, float factor, const WeightRows& products,
                           const Workspace& workspace, Workers& workers) {
  const auto axes = problem.axes3();
  const int64_t group = problem.heads / problem.heads_kv;
  const int64_t dim = queries.shape.dim;
  for_each_token(problem.batch, queries.shape.layout, workers, [&](int64_t b, const Token& token, int worker) HWY_ATTR {
    const Workspace::Private mine = workspace.of(worker);
    const int64_t count = key_offsets(axes, token, keys.strides, mine.offsets);
    for (int64_t h = 0; h < problem.heads; ++h) {
      rows::CopyToFloats(queries.row(b, token[0], token[1], token[2], h), dim, mine.row);
      float* const row = products.of(b, token, h);
      const T* const first = keys.row(b, 0, 0, 0, h / group);
      rows::Scores<1>(
          &mine.row, dim, count, [=](int64_t n) HWY_ATTR { return first + mine.offsets[n]; }, factor, &row);
      if (problem.extra_tokens > 0) {
        float* const extra_row = row + count;
        rows::Scores<1>(
            &mine.row, dim, problem.extra_tokens, [&](int64_t n) HWY_ATTR { return extra.row(b, 0, 0, n, h / group); },
            factor, &extra_row);
      }
    }
  });
}

/// NN: sums of the rows of keys or values by weights, of all queries.
template <class T>
void NeighborhoodNeighborhood(const Problem& problem, const WeightRows& weights, const TokenView<const T>& values,
                              const TokenView<const T>& extra, const TensorView& sums, const Workspace& workspace,
                              Workers& workers) {
  const auto axes = problem.axes3();
  const int64_t group = problem.heads / problem.heads_kv;
  const int64_t dim = values.shape.dim;
  for_each_token(problem.batch, sums.shape.layout, workers, [&](int64_t b, const Token& token, int worker) HWY_ATTR {
    const Workspace::Private mine = workspace.of(worker);
    const int64_t keys = key_offsets(axes, token, values.strides, mine.offsets);
    for (int64_t h = 0; h < problem.heads; ++h) {
      std::fill(mine.row, mine.row + dim, 0.0f);
      const float* const row = weights.of(b, token, h);
      const T* const first = values.row(b, 0, 0, 0, h / group);
      rows::AddWeightedRows<1>(
          &row, keys, [=](int64_t n) HWY_ATTR { return first + mine.offsets[n]; }, dim, &mine.row);
      if (problem.extra_tokens > 0) {
        const float* const extra_row = row + keys;
        rows::AddWeightedRows<1>(
            &extra_row, problem.extra_tokens, [&](int64_t n) HWY_ATTR { return extra.row(b, 0, 0, n, h / group); }, dim,
            &mine.row);
      }
      store_row(sums, b, token, h, mine.row);
    }
  });
}

/// IN: sums of the rows of q or dout by the weights that their queries give to a key, of all keys and extra tokens.
template <class T>
void InverseNeighborhood(const Problem& problem, const WeightRows& weights, const TokenView<const T>& queries,
                         const TensorView& sums, const TensorView& extra_sums, const Workspace& workspace,
                         Workers& workers) {
  const auto axes = problem.axes3();
  const int64_t group = problem.heads / problem.heads_kv;
  const int64_t dim = queries.shape.dim;
  for_each_token(problem.batch, sums.shape.layout, workers, [&](int64_t b, const Token& token, int worker) HWY_ATTR {
    const Workspace::Private mine = workspace.of(worker);
    const int64_t count = query_offsets(axes, token, queries.strides, mine.offsets);
    weight_places(axes, token, weights, mine.columns, mine.places);
    for (int64_t head_kv = 0; head_kv < problem.heads_kv; ++head_kv) {
      std::fill(mine.row, mine.row + dim, 0.0f);
      for (int64_t h = head_kv * group; h < (head_kv + 1) * group; ++h) {
        const float* const base = weights.of(b, {0, 0, 0}, h);
        for (int64_t n = 0; n < count; ++n) mine.gathered[n] = base[mine.places[n]];
        const T* const first = queries.row(b, 0, 0, 0, h);
        const float* const gathered = mine.gathered;
        rows::AddWeightedRows<1>(
            &gathered, count, [=](int64_t n) HWY_ATTR { return first + mine.offsets[n]; }, dim, &mine.row);
      }
      store_row(sums, b, token, head_kv, mine.row);
    }
  });
  rows::ExtraNeighborhood(problem, queries, weights, workspace.extra, workspace.partial, extra_sums, workers);
}

template <class T>
void ForwardOf(const Problem& problem, const Inputs& in, const Outputs& out, const Workspace& workspace,
               Workers& workers) {
  const WeightRows& weights = workspace.weights;
  const float scale = factor_as_float(problem.effective_scale());
  PointwiseNeighborhood(problem, in.q.as<T>(), in.k.as<T>(), in.extra_k.as<T>(), scale, weights, workspace, workers);
  for_each_query(problem, workers, [&](int64_t b, const Token& token, int64_t h, int64_t n) HWY_ATTR {
    const float lse = rows::Softmax(weights.of(b, token, h), n);
    store_row(out.lse, b, token, h, &lse);
  });
  NeighborhoodNeighborhood(problem, weights, in.v.as<T>(), in.extra_v.as<T>(), out.out, workspace, workers);
}

template <class T>
void BackwardOf(const Problem& problem, const Inputs& in, const ConstTensorView& dout_view, const Gradients& out,
                const Workspace& workspace, Workers& workers) {
  const auto q = in.q.as<T>(), k = in.k.as<T>(), extra_k = in.extra_k.as<T>(), dout = dout_view.as<T>();
  const float scale = factor_as_float(problem.effective_scale());
  const WeightRows &weights = workspace.weights, &gradients = workspace.gradients;
  PointwiseNeighborhood(problem, q, k, extra_k, scale, weights, workspace, workers);
  PointwiseNeighborhood(problem, dout, in.v.as<T>(), in.extra_v.as<T>(), 1.0f, gradients, workspace, workers);
  for_each_query(problem, workers, [&](int64_t b, const Token& token, int64_t h, int64_t n) HWY_ATTR {
    rows::Softmax(weights.of(b, token, h), n);
    rows::SoftmaxGradient(weights.of(b, token, h), n, scale, gradients.of(b, token, h));
  });
  NeighborhoodNeighborhood(problem, gradients, k, extra_k, out.dq, workspace, workers);
  InverseNeighborhood(problem, gradients, q, out.dk, out.dextra_k, workspace, workers);
  InverseNeighborhood(problem, weights, dout, out.dv, out.dextra_v, workspace, workers);
}

void Forward(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
  WorkspaceCutter cutter(execution.workspace.data());
  const Workspace workspace(problem, Pass::forward, cutter, execution.workers.threads());
  with_element_type(problem.type, [&](auto element) {
    ForwardOf<decltype(element)>(problem, in, out, workspace, execution.workers);
  });
}

void Backward(const Problem& problem, const Inputs& in, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution) {
  WorkspaceCutter cutter(execution.workspace.data());
  const Workspace workspace(problem, Pass::backward, cutter, execution.workers.threads());
  with_element_type(problem.type, [&](auto element) {
    BackwardOf<decltype(element)>(problem, in, saved.dout, gradients, workspace, execution.workers);
  });
}

}  // namespace nalab::naive::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::naive {

Variant variant() {
  return {
      .name = "naive",
      .paper_term = "naive NA (Faster NA, section 3.1: PN, softmax, NN; IN for gradients)",
      .summary = "One query at a time over its window, unfused: the weights of all queries are stored.",
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; },
      .workspace_bytes = [](const Problem& problem, Pass pass, int threads) -> int64_t {
        WorkspaceCutter cutter(nullptr);
        const Workspace workspace(problem, pass, cutter, threads);
        return cutter.size();
      },
      .executed_flops = [](const Problem& problem, Pass pass) { return problem.useful_flops(pass); },
      .forward =
          [](const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
            NALAB_SELECT(execution.isa, Forward)(problem, inputs, outputs, execution);
          },
      .backward =
          [](const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
             const Execution& execution) {
            NALAB_SELECT(execution.isa, Backward)(problem, inputs, saved, gradients, execution);
          },
  };
}

}  // namespace nalab::naive
#endif  // HWY_ONCE
