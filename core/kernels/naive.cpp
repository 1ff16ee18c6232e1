// naive: one query at a time over its window, unfused: Faster NA (2403.04690) section 3.1 without its GPU particulars.
//
// Three operators, one after the other over the whole problem: PN ("pointwise-neighborhood", the scores), softmax, and
// NN ("neighborhood-neighborhood", the weighted sum of values). The weights of all queries are stored between them.
// Rows are used where they lie; a query's keys are reached by a list of offsets that all heads share.
#include "core/kernels/variants.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/naive.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "core/kernels/rows-inl.h"
#include "core/kernels/token_rows.h"

#ifndef NALAB_CORE_KERNELS_NAIVE_ONCE
#define NALAB_CORE_KERNELS_NAIVE_ONCE

namespace nalab::naive {

/// Tokens of one task: enough that a task costs more than its start, few enough to spread small problems.
inline constexpr int64_t kTokensPerTask = 8;

/// The workspace: the weights of all queries, and private rows for each worker.
struct Workspace {
  struct Private {
    int64_t* offsets;  ///< [keys of the window]
    float* row;        ///< [max(head_dim, head_dim_v)]
  };

  float* weights;    ///< [batch, tokens, heads, row]
  int64_t row;       ///< keys_per_query rounded up to whole cache lines
  std::byte* first;  ///< the first worker's part
  int64_t private_bytes;
  const Problem& problem;

  Workspace(const Problem& p, WorkspaceCutter& cutter, int threads) : problem(p) {
    row = (p.keys_per_query() + 15) / 16 * 16;
    weights = cutter.take<float>(p.batch * p.tokens() * p.heads * row);
    WorkspaceCutter one(nullptr);
    cut_private(one);
    private_bytes = one.size();
    first = cutter.take<std::byte>(private_bytes * threads);
  }

  Private of(int worker) const {
    WorkspaceCutter cutter(first + worker * private_bytes);
    return cut_private(cutter);
  }
  float* weights_of(int64_t b, int64_t token, int64_t head) const {
    return weights + ((b * problem.tokens() + token) * problem.heads + head) * row;
  }

 private:
  Private cut_private(WorkspaceCutter& cutter) const {
    return {cutter.take<int64_t>(problem.keys_per_query()),
            cutter.take<float>(std::max(problem.head_dim, problem.head_dim_v))};
  }
};

}  // namespace nalab::naive

#endif  // NALAB_CORE_KERNELS_NAIVE_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::naive::HWY_NAMESPACE {

namespace rows = nalab::rows::HWY_NAMESPACE;

/// Calls body(batch, token index, worker) for all tokens.
template <class Body>
void ForEachToken(const Problem& problem, Workers& workers, const Body& body) {
  const int64_t tokens = problem.tokens();
  const int64_t tasks_per_batch = geometry::ceil_div(tokens, kTokensPerTask);
  workers.for_each(problem.batch * tasks_per_batch, [&](int64_t task, int worker) {
    const int64_t first = (task % tasks_per_batch) * kTokensPerTask;
    for (int64_t token = first; token < std::min(first + kTokensPerTask, tokens); ++token) {
      body(task / tasks_per_batch, token, worker);
    }
  });
}

/// PN: scores of all queries.
template <class T>
void PointwiseNeighborhood(const Problem& problem, const Inputs& in, const Workspace& workspace, Workers& workers) {
  const auto axes = problem.axes3();
  const auto q = in.q.as<T>(), k = in.k.as<T>(), extra_k = in.extra_k.as<T>();
  const float scale = factor_as_float(problem.effective_scale());
  const int64_t group = problem.heads / problem.heads_kv;
  ForEachToken(problem, workers, [&](int64_t b, int64_t index, int worker) HWY_ATTR {
    const auto [offsets, query] = workspace.of(worker);
    const Token token = token_at(q.shape.layout, index);
    const int64_t keys = key_offsets(axes, token, k.strides, offsets);
    for (int64_t h = 0; h < problem.heads; ++h) {
      rows::CopyToFloats(q.row(b, token[0], token[1], token[2], h), problem.head_dim, query);
      float* const scores = workspace.weights_of(b, index, h);
      const T* const first = k.row(b, 0, 0, 0, h / group);
      rows::Scores<1>(
          &query, problem.head_dim, keys, [=](int64_t n) HWY_ATTR { return first + offsets[n]; }, scale, &scores);
      if (problem.extra_tokens > 0) {
        float* const extra_scores = scores + keys;
        rows::Scores<1>(
            &query, problem.head_dim, problem.extra_tokens,
            [&](int64_t n) HWY_ATTR { return extra_k.row(b, 0, 0, n, h / group); }, scale, &extra_scores);
      }
    }
  });
}

/// Softmax of all rows of scores, in place; lse.
void SoftmaxOfRows(const Problem& problem, const Workspace& workspace, const TensorView& lse, Workers& workers) {
  const auto axes = problem.axes3();
  ForEachToken(problem, workers, [&](int64_t b, int64_t index, int) HWY_ATTR {
    const Token token = token_at(lse.shape.layout, index);
    const int64_t keys = key_count(axes, token) + problem.extra_tokens;
    for (int64_t h = 0; h < problem.heads; ++h) {
      const float value = rows::Softmax(workspace.weights_of(b, index, h), keys);
      store_row(lse, b, token, h, &value);
    }
  });
}

/// NN: out as the sum of values by weights.
template <class T>
void NeighborhoodNeighborhood(const Problem& problem, const Inputs& in, const Workspace& workspace,
                              const TensorView& out, Workers& workers) {
  const auto axes = problem.axes3();
  const auto v = in.v.as<T>(), extra_v = in.extra_v.as<T>();
  const int64_t group = problem.heads / problem.heads_kv;
  ForEachToken(problem, workers, [&](int64_t b, int64_t index, int worker) HWY_ATTR {
    const auto [offsets, sum] = workspace.of(worker);
    const Token token = token_at(out.shape.layout, index);
    const int64_t keys = key_offsets(axes, token, v.strides, offsets);
    for (int64_t h = 0; h < problem.heads; ++h) {
      std::fill(sum, sum + problem.head_dim_v, 0.0f);
      const float* const weights = workspace.weights_of(b, index, h);
      const T* const first = v.row(b, 0, 0, 0, h / group);
      rows::AddWeightedRows<1>(
          &weights, keys, [=](int64_t n) HWY_ATTR { return first + offsets[n]; }, problem.head_dim_v, &sum);
      if (problem.extra_tokens > 0) {
        const float* const extra_weights = weights + keys;
        rows::AddWeightedRows<1>(
            &extra_weights, problem.extra_tokens,
            [&](int64_t n) HWY_ATTR { return extra_v.row(b, 0, 0, n, h / group); }, problem.head_dim_v, &sum);
      }
      store_row(out, b, token, h, sum);
    }
  });
}

template <class T>
void ForwardOf(const Problem& problem, const Inputs& in, const Outputs& out, const Workspace& workspace,
               Workers& workers) {
  PointwiseNeighborhood<T>(problem, in, workspace, workers);
  SoftmaxOfRows(problem, workspace, out.lse, workers);
  NeighborhoodNeighborhood<T>(problem, in, workspace, out.out, workers);
}

void Forward(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
  WorkspaceCutter cutter(execution.workspace.data());
  const Workspace workspace(problem, cutter, execution.workers.threads());
  with_element_type(problem.type, [&](auto element) {
    ForwardOf<decltype(element)>(problem, in, out, workspace, execution.workers);
  });
}

}  // namespace nalab::naive::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::naive {

Variant variant() {
  return {
      .name = "naive",
      .paper_term = "naive NA (Faster NA, section 3.1: PN, softmax, NN)",
      .summary = "One query at a time over its window, unfused: the weights of all queries are stored.",
      .supports = [](const Problem&, Pass pass) -> std::optional<std::string> {
        if (pass == Pass::backward) return "naive has no backward pass yet";
        return std::nullopt;
      },
      .workspace_bytes = [](const Problem& problem, Pass, int threads) -> int64_t {
        WorkspaceCutter cutter(nullptr);
        const Workspace workspace(problem, cutter, threads);
        return cutter.size();
      },
      .executed_flops = [](const Problem& problem, Pass pass) { return problem.useful_flops(pass); },
      .forward =
          [](const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
            NALAB_SELECT(execution.isa, Forward)(problem, inputs, outputs, execution);
          },
  };
}

}  // namespace nalab::naive
#endif  // HWY_ONCE
