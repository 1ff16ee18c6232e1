// naive: one token at a time over its window, unfused: Faster NA (2403.04690) section 3.1 without its GPU particulars.
//
// The operators of unfused/passes-inl.h. Rows are used where they lie; a token's neighbors are reached by a list of
// offsets that all heads share. In IN each key gathers from the queries that attend to it: no two tasks write to the
// same row.
#include "core/kernels/variants.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/naive.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "core/kernels/unfused/extra_tokens-inl.h"
#include "core/kernels/unfused/neighbors.h"
#include "core/kernels/unfused/passes-inl.h"

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
    if (!is_backward(pass)) return;
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
inline void weight_offsets(const std::array<geometry::Axis, 3>& axes, const Token& key, const TokenStrides& strides,
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
      const int64_t first = q1 * strides.layout[0] + q2 * strides.layout[1] + x3.first * strides.layout[2];
      const int64_t plane = c1.index * c2.window + c2.index;
      for (int64_t k = 0; k < x3.count; ++k) {
        *weights++ = first + k * x3.step * strides.layout[2] + plane * columns[k].window + columns[k].index;
      }
    }
  }
}

}  // namespace nalab::naive

#endif  // NALAB_CORE_KERNELS_NAIVE_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::naive::HWY_NAMESPACE {

namespace rows = nalab::unfused::HWY_NAMESPACE;

template <class T>
class Products {
 public:
  Products(const Plan& plan, const Execution& execution)
      : problem_(plan.problem()),
        axes_(problem_.axes3()),
        heads_per_kv_(problem_.heads / problem_.heads_kv),
        workers_(execution.workers),
        workspace_(problem_, plan.pass(), execution.workspace.data()) {}

  const StoredWeights& stored() const { return workspace_.stored(); }

  void PointwiseNeighborhood(const TokenView<const T>& queries, const TokenView<const T>& keys,
                             const TokenView<const T>& extra, float factor, const BiasTables& biases,
                             const WeightRows& products) const {
    const geometry::BiasTable table(axes_);
    const int64_t dim = queries.shape.dim;
    ForEachToken(queries.shape.layout, [&](int64_t b, const Token& token, const Private& mine) HWY_ATTR {
      const int64_t count = key_offsets(axes_, token, keys.strides, mine.offsets);
      for (int64_t h = 0; h < problem_.heads; ++h) {
        rows::CopyToFloats(queries.row(b, token, h), dim, mine.row);
        float* const row = products.row(b, token, h);
        const T* const first = keys.row(b, 0, 0, 0, h / heads_per_kv_);
        rows::Scores<1>(
            &mine.row, dim, count, [=](int64_t n) HWY_ATTR { return first + mine.offsets[n]; }, factor, &row);
        if (problem_.extra_tokens > 0) {
          float* const extra_row = row + count;
          rows::Scores<1>(
              &mine.row, dim, problem_.extra_tokens,
              [&](int64_t n) HWY_ATTR { return extra.row(b, 0, 0, n, h / heads_per_kv_); }, factor, &extra_row);
        }
      }
      if (biases.data == nullptr) return;
      rows::ForEachRun(table, axes_, token, [&](int64_t column, int64_t entry, int64_t n) HWY_ATTR {
        for (int64_t h = 0; h < problem_.heads; ++h) {
          rows::AddRun(biases.of(h) + entry, n, products.row(b, token, h) + column);
        }
      });
    });
  }

  void NeighborhoodNeighborhood(const ConstWeightRows& weights, const TokenView<const T>& values,
                                const TokenView<const T>& extra, const TensorView& sums) const {
    const int64_t dim = values.shape.dim;
    ForEachToken(sums.shape.layout, [&](int64_t b, const Token& token, const Private& mine) HWY_ATTR {
      const int64_t keys = key_offsets(axes_, token, values.strides, mine.offsets);
      for (int64_t h = 0; h < problem_.heads; ++h) {
        std::fill(mine.row, mine.row + dim, 0.0f);
        const float* const row = weights.row(b, token, h);
        const T* const first = values.row(b, 0, 0, 0, h / heads_per_kv_);
        rows::AddWeightedRows<1>(
            &row, keys, [=](int64_t n) HWY_ATTR { return first + mine.offsets[n]; }, dim, &mine.row);
        if (problem_.extra_tokens > 0) {
          const float* const extra_row = row + keys;
          rows::AddWeightedRows<1>(
              &extra_row, problem_.extra_tokens,
              [&](int64_t n) HWY_ATTR { return extra.row(b, 0, 0, n, h / heads_per_kv_); }, dim, &mine.row);
        }
        store_row(sums, b, token, h, mine.row);
      }
    });
  }

  void InverseNeighborhood(const ConstWeightRows& weights, const TokenView<const T>& queries, const TensorView& sums,
                           const TensorView& extra_sums) const {
    const int64_t dim = queries.shape.dim;
    ForEachToken(sums.shape.layout, [&](int64_t b, const Token& token, const Private& mine) HWY_ATTR {
      const int64_t count = query_offsets(axes_, token, queries.strides, mine.offsets);
      weight_offsets(axes_, token, weights.strides, mine.columns, mine.weights);
      for (int64_t head_kv = 0; head_kv < problem_.heads_kv; ++head_kv) {
        std::fill(mine.row, mine.row + dim, 0.0f);
        for (int64_t h = head_kv * heads_per_kv_; h < (head_kv + 1) * heads_per_kv_; ++h) {
          const float* const base = weights.row(b, {0, 0, 0}, h);
          for (int64_t n = 0; n < count; ++n) mine.gathered[n] = base[mine.weights[n]];
          const T* const first = queries.row(b, 0, 0, 0, h);
          const float* const gathered = mine.gathered;
          rows::AddWeightedRows<1>(
              &gathered, count, [=](int64_t n) HWY_ATTR { return first + mine.offsets[n]; }, dim, &mine.row);
        }
        store_row(sums, b, token, head_kv, mine.row);
      }
    });
    rows::ExtraNeighborhood(problem_, queries, weights, stored().extra, stored().partial, extra_sums, workers_);
  }

 private:
  /// Calls body(batch, token, memory of its worker) for all tokens.
  template <class Body>
  void ForEachToken(const std::array<int64_t, 3>& layout, const Body& body) const {
    for_each_token(problem_.batch, layout, workers_,
                   [&](int64_t b, const Token& token, int worker) { body(b, token, workspace_.of(worker)); });
  }

  const Problem& problem_;
  const std::array<Axis, 3> axes_;
  const int64_t heads_per_kv_;
  Workers& workers_;
  const Workspace workspace_;
};

void Run(const Plan& plan, const Call& call, const Execution& execution) {
  with_element_type(plan.problem().type, [&](auto element) {
    using T = decltype(element);
    const Products<T> products(plan, execution);
    rows::Passes<T, Products<T>>(plan, products, execution.workers).Run(call);
  });
}

}  // namespace nalab::naive::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::naive {

namespace {

void run(const Plan& plan, const Call& call, const Execution& execution) {
  NALAB_SELECT(plan.isa(), Run)(plan, call, execution);
}

}  // namespace

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
      .forward = forward<run>,
      .backward = backward<run>,
      .split = &kSplitOperators<run>,
  };
}

}  // namespace nalab::naive
#endif  // HWY_ONCE
