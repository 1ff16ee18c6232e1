// naive: one token at a time over its window, unfused: Faster NA (2403.04690) section 3.1 without its GPU particulars.
//
// Operators, one after the other over the whole problem, with their results for all queries stored between them.
// Forward: PN ("pointwise-neighborhood", the scores), softmax, and NN ("neighborhood-neighborhood", the weighted sum of
// values). Backward: PN again for the scores, and of dout and values for the gradients of the weights; softmax and its
// derivative; NN with the keys for dq; and IN ("inverse-neighborhood") for dk and dv, where each key gathers from the
// queries that attend to it: no two tasks write to the same row. Rows are used where they lie; a token's neighbors are
// reached by a list of offsets that all heads share.
//
// The backward pass computes the weights again from their own scores, not from the saved lse: so they add up to one
// but for rounding, and a single weight is one exactly.
#include "core/kernels/variants.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/naive.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "core/kernels/unfused/extra_tokens-inl.h"
#include "core/kernels/unfused/neighbors.h"
#include "core/kernels/unfused/rows-inl.h"
#include "core/kernels/unfused/stored_weights.h"
#include "core/tensor/row.h"

#ifndef NALAB_CORE_KERNELS_NAIVE_ONCE
#define NALAB_CORE_KERNELS_NAIVE_ONCE

namespace nalab::naive {

using namespace unfused;

/// Where a key lies in the window of a query along an axis.
struct Column {
  int64_t index, window;
};

/// The queries that attend to a key, at most: those of the last axis, and all.
struct MostQueries {
  int64_t last = 0, all = 0;

  MostQueries(const Problem& p, Pass pass) {
    if (pass == Pass::forward) return;
    const auto axes = p.axes3();
    last = most_queries(axes[2]);
    all = most_queries(axes[0]) * most_queries(axes[1]) * last;
  }
};

/// One worker's memory.
struct Private {
  int64_t* offsets;  ///< [keys of the window, or queries of the inverse window]
  float* row;        ///< [max(head_dim, head_dim_v)]
  int64_t* weights;  ///< [queries of the inverse window]: where their weights of the key lie; as what follows, backward
  float* gathered;   ///< [queries of the inverse window]: those weights of one head
  Column* columns;   ///< [queries of the inverse window along the last axis]

  Private(const Problem& p, const MostQueries& queries, WorkspaceCutter& cutter) {
    offsets = cutter.take<int64_t>(std::max(p.keys_per_query(), queries.all));
    row = cutter.take<float>(std::max(p.head_dim, p.head_dim_v));
    weights = cutter.take<int64_t>(queries.all);
    gathered = cutter.take<float>(queries.all);
    columns = cutter.take<Column>(queries.last);
  }
};

/// The stored weights, in rows of whole cache lines.
inline StoredWeights stored_weights(const Problem& p, Pass pass, WorkspaceCutter& cutter) {
  return {p, pass, (p.keys_per_query() + 15) / 16 * 16, cutter};
}

/// The workspace of a call.
class Workspace {
 public:
  Workspace(const Problem& p, Pass pass, std::byte* memory)
      : problem_(p), queries_(p, pass), cutter_(memory), stored_(stored_weights(p, pass, cutter_)) {
    private_ = {memory + cutter_.size(), carved_bytes([&](WorkspaceCutter& cutter) { Private(p, queries_, cutter); })};
  }

  const StoredWeights& stored() const { return stored_; }
  Private of(int worker) const {
    WorkspaceCutter cutter = private_.of(worker);
    return {problem_, queries_, cutter};
  }

 private:
  const Problem& problem_;
  const MostQueries queries_;
  WorkspaceCutter cutter_;
  const StoredWeights stored_;
  WorkerMemory private_;
};

/// Writes where the queries that attend to a key keep their weight of it, in row-major order: offsets from the first
/// row of a batch entry and head.
inline void weight_offsets(const std::array<geometry::Axis, 3>& axes, const Token& key, const WeightRows& rows,
                           Column* columns, int64_t* weights) {
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
        *weights++ = (token + k * x3.step) * rows.heads * rows.size + plane * columns[k].window + columns[k].index;
      }
    }
  }
}

}  // namespace nalab::naive

#endif  // NALAB_CORE_KERNELS_NAIVE_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::naive::HWY_NAMESPACE {

namespace rows = nalab::unfused::HWY_NAMESPACE;

/// PN: products[n] = factor * dot(query, key n) of all queries; `keys` are keys or values, `queries` q or dout.
template <class T>
void PointwiseNeighborhood(const Problem& problem, const TokenView<const T>& queries, const TokenView<const T>& keys,
                           const TokenView<const T>& extra, float factor, const WeightRows& products,
                           const Workspace& workspace, Workers& workers) {
  const auto axes = problem.axes3();
  const int64_t heads_per_kv = problem.heads / problem.heads_kv;
  const int64_t dim = queries.shape.dim;
  for_each_token(problem.batch, queries.shape.layout, workers, [&](int64_t b, const Token& token, int worker) HWY_ATTR {
    const Private mine = workspace.of(worker);
    const int64_t count = key_offsets(axes, token, keys.strides, mine.offsets);
    for (int64_t h = 0; h < problem.heads; ++h) {
      rows::CopyToFloats(queries.row(b, token[0], token[1], token[2], h), dim, mine.row);
      float* const row = products.of(b, token, h);
      const T* const first = keys.row(b, 0, 0, 0, h / heads_per_kv);
      rows::Scores<1>(
          &mine.row, dim, count, [=](int64_t n) HWY_ATTR { return first + mine.offsets[n]; }, factor, &row);
      if (problem.extra_tokens > 0) {
        float* const extra_row = row + count;
        rows::Scores<1>(
            &mine.row, dim, problem.extra_tokens,
            [&](int64_t n) HWY_ATTR { return extra.row(b, 0, 0, n, h / heads_per_kv); }, factor, &extra_row);
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
  const int64_t heads_per_kv = problem.heads / problem.heads_kv;
  const int64_t dim = values.shape.dim;
  for_each_token(problem.batch, sums.shape.layout, workers, [&](int64_t b, const Token& token, int worker) HWY_ATTR {
    const Private mine = workspace.of(worker);
    const int64_t keys = key_offsets(axes, token, values.strides, mine.offsets);
    for (int64_t h = 0; h < problem.heads; ++h) {
      std::fill(mine.row, mine.row + dim, 0.0f);
      const float* const row = weights.of(b, token, h);
      const T* const first = values.row(b, 0, 0, 0, h / heads_per_kv);
      rows::AddWeightedRows<1>(
          &row, keys, [=](int64_t n) HWY_ATTR { return first + mine.offsets[n]; }, dim, &mine.row);
      if (problem.extra_tokens > 0) {
        const float* const extra_row = row + keys;
        rows::AddWeightedRows<1>(
            &extra_row, problem.extra_tokens,
            [&](int64_t n) HWY_ATTR { return extra.row(b, 0, 0, n, h / heads_per_kv); }, dim, &mine.row);
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
  const int64_t heads_per_kv = problem.heads / problem.heads_kv;
  const int64_t dim = queries.shape.dim;
  for_each_token(problem.batch, sums.shape.layout, workers, [&](int64_t b, const Token& token, int worker) HWY_ATTR {
    const Private mine = workspace.of(worker);
    const int64_t count = query_offsets(axes, token, queries.strides, mine.offsets);
    weight_offsets(axes, token, weights, mine.columns, mine.weights);
    for (int64_t head_kv = 0; head_kv < problem.heads_kv; ++head_kv) {
      std::fill(mine.row, mine.row + dim, 0.0f);
      for (int64_t h = head_kv * heads_per_kv; h < (head_kv + 1) * heads_per_kv; ++h) {
        const float* const base = weights.of(b, {0, 0, 0}, h);
        for (int64_t n = 0; n < count; ++n) mine.gathered[n] = base[mine.weights[n]];
        const T* const first = queries.row(b, 0, 0, 0, h);
        const float* const gathered = mine.gathered;
        rows::AddWeightedRows<1>(
            &gathered, count, [=](int64_t n) HWY_ATTR { return first + mine.offsets[n]; }, dim, &mine.row);
      }
      store_row(sums, b, token, head_kv, mine.row);
    }
  });
  rows::ExtraNeighborhood(problem, queries, weights, workspace.stored().extra, workspace.stored().partial, extra_sums,
                          workers);
}

template <class T>
void ForwardOf(const Problem& problem, const Inputs& in, const Outputs& out, const Workspace& workspace,
               Workers& workers) {
  const WeightRows& weights = workspace.stored().weights;
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
  const WeightRows &weights = workspace.stored().weights, &gradients = workspace.stored().gradients;
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

void Forward(const Plan& plan, const Inputs& in, const Outputs& out, const Execution& execution) {
  const Workspace workspace(plan.problem(), Pass::forward, execution.workspace.data());
  with_element_type(plan.problem().type, [&](auto element) {
    ForwardOf<decltype(element)>(plan.problem(), in, out, workspace, execution.workers);
  });
}

void Backward(const Plan& plan, const Inputs& in, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution) {
  const Workspace workspace(plan.problem(), Pass::backward, execution.workspace.data());
  with_element_type(plan.problem().type, [&](auto element) {
    BackwardOf<decltype(element)>(plan.problem(), in, saved.dout, gradients, workspace, execution.workers);
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
      .expected_flops_per_second = 10e9,
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; },
      .takes = [](const Arithmetic& arithmetic, Pass) { return arithmetic.name == kF32Fma; },
      .cost = [](const PlanChoice& choice) -> PlanCost {
        const Problem& p = choice.problem;
        const MostQueries queries(p, choice.pass);
        return {
            .shared_bytes = carved_bytes([&](WorkspaceCutter& cutter) { stored_weights(p, choice.pass, cutter); }),
            .bytes_per_worker = carved_bytes([&](WorkspaceCutter& cutter) { Private(p, queries, cutter); }),
            .executed_flops = p.useful_flops(choice.pass),
        };
      },
      .forward =
          [](const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
            NALAB_SELECT(plan.isa(), Forward)(plan, inputs, outputs, execution);
          },
      .backward =
          [](const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
             const Execution& execution) {
            NALAB_SELECT(plan.isa(), Backward)(plan, inputs, saved, gradients, execution);
          },
  };
}

}  // namespace nalab::naive
#endif  // HWY_ONCE
