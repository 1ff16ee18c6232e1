// dense: self attention over all tokens, the baseline of the speedups.
//
// A plain form: a tile of queries, its rows of scores over all keys in private memory, softmax, weighted sum of values.
// Keys and values are taken in blocks that stay in the first-level cache while the tile's queries pass, four at a time.
#include "core/kernels/variants.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/dense.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "core/kernels/rows-inl.h"
#include "core/kernels/token_rows.h"

#ifndef NALAB_CORE_KERNELS_DENSE_ONCE
#define NALAB_CORE_KERNELS_DENSE_ONCE

namespace nalab::dense {

inline constexpr int64_t kTileQueries = 16;
inline constexpr int kRegisterQueries = 4;  ///< queries that share each load of a key
inline constexpr int64_t kBlockKeys = 64;   ///< 32 KiB of keys at head_dim 128, f32

/// One worker's memory; rows are [kTileQueries][...].
struct Private {
  float* queries;  ///< [head_dim]
  float* scores;   ///< [tokens + extra_tokens]
  float* sums;     ///< [head_dim_v]
};

inline Private cut_private(const Problem& problem, WorkspaceCutter& cutter) {
  return {cutter.take<float>(kTileQueries * problem.head_dim),
          cutter.take<float>(kTileQueries * (problem.tokens() + problem.extra_tokens)),
          cutter.take<float>(kTileQueries * problem.head_dim_v)};
}

inline int64_t private_bytes(const Problem& problem) {
  WorkspaceCutter cutter(nullptr);
  cut_private(problem, cutter);
  return cutter.size();
}

}  // namespace nalab::dense

#endif  // NALAB_CORE_KERNELS_DENSE_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::dense::HWY_NAMESPACE {

namespace rows = nalab::rows::HWY_NAMESPACE;

/// Calls body(first key, number of keys) for blocks of keys.
template <class Body>
void ForEachBlock(int64_t keys, const Body& body) {
  for (int64_t n = 0; n < keys; n += kBlockKeys) body(n, std::min(kBlockKeys, keys - n));
}

/// Calls body(rows) for the tile's queries, four at a time; the last few repeat the last query.
template <class Body>
void ForEachFourQueries(int64_t queries, const Body& body) {
  for (int64_t first = 0; first < queries; first += kRegisterQueries) {
    std::array<int64_t, kRegisterQueries> rows;
    for (int i = 0; i < kRegisterQueries; ++i) rows[i] = std::min(first + i, queries - 1);
    body(rows);
  }
}

template <class T>
void ForwardOf(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
  const auto q = in.q.as<T>(), k = in.k.as<T>(), v = in.v.as<T>();
  const auto extra_k = in.extra_k.as<T>(), extra_v = in.extra_v.as<T>();
  const auto& layout = q.shape.layout;
  const float scale = static_cast<float>(problem.effective_scale());
  const int64_t tokens = problem.tokens();
  const int64_t keys = tokens + problem.extra_tokens;
  const int64_t dim = problem.head_dim, dim_v = problem.head_dim_v;
  const int64_t tiles = geometry::ceil_div(tokens, kTileQueries);
  const int64_t bytes = private_bytes(problem);

  execution.workers.for_each(problem.batch * problem.heads * tiles, [&](int64_t task, int worker) HWY_ATTR {
    WorkspaceCutter cutter(execution.workspace.data() + worker * bytes);
    const Private mine = cut_private(problem, cutter);
    const int64_t first = (task % tiles) * kTileQueries;
    const int64_t h = task / tiles % problem.heads;
    const int64_t b = task / tiles / problem.heads;
    const int64_t h_kv = h / (problem.heads / problem.heads_kv);
    const int64_t queries = std::min(kTileQueries, tokens - first);
    const auto key_row = [&](int64_t n) HWY_ATTR {
      const Token token = token_at(layout, n);
      return n < tokens ? k.row(b, token[0], token[1], token[2], h_kv) : extra_k.row(b, 0, 0, n - tokens, h_kv);
    };
    const auto value_row = [&](int64_t n) HWY_ATTR {
      const Token token = token_at(layout, n);
      return n < tokens ? v.row(b, token[0], token[1], token[2], h_kv) : extra_v.row(b, 0, 0, n - tokens, h_kv);
    };

    for (int64_t i = 0; i < queries; ++i) {
      const Token token = token_at(layout, first + i);
      rows::CopyToFloats(q.row(b, token[0], token[1], token[2], h), dim, mine.queries + i * dim);
    }
    ForEachBlock(keys, [&](int64_t n, int64_t count) HWY_ATTR {
      const T* block[kBlockKeys];
      for (int64_t j = 0; j < count; ++j) block[j] = key_row(n + j);
      ForEachFourQueries(queries, [&](const auto& four) HWY_ATTR {
        const float* query[kRegisterQueries];
        float* scores[kRegisterQueries];
        for (int i = 0; i < kRegisterQueries; ++i) {
          query[i] = mine.queries + four[i] * dim;
          scores[i] = mine.scores + four[i] * keys + n;
        }
        rows::Scores<kRegisterQueries>(
            query, dim, count, [&](int64_t j) HWY_ATTR { return block[j]; }, scale, scores);
      });
    });
    for (int64_t i = 0; i < queries; ++i) {
      const float lse = rows::Softmax(mine.scores + i * keys, keys);
      store_row(out.lse, b, token_at(layout, first + i), h, &lse);
    }
    std::fill(mine.sums, mine.sums + kTileQueries * dim_v, 0.0f);
    ForEachBlock(keys, [&](int64_t n, int64_t count) HWY_ATTR {
      const T* block[kBlockKeys];
      for (int64_t j = 0; j < count; ++j) block[j] = value_row(n + j);
      // Sums add up, so here a query must not be taken twice: the last few go one by one.
      int64_t i = 0;
      const auto add = [&]<int Queries>() HWY_ATTR {
        const float* weights[Queries];
        float* sums[Queries];
        for (int j = 0; j < Queries; ++j) {
          weights[j] = mine.scores + (i + j) * keys + n;
          sums[j] = mine.sums + (i + j) * dim_v;
        }
        rows::AddWeightedRows<Queries>(
            weights, count, [&](int64_t j) HWY_ATTR { return block[j]; }, dim_v, sums);
      };
      for (; i + kRegisterQueries <= queries; i += kRegisterQueries) add.template operator()<kRegisterQueries>();
      for (; i < queries; ++i) add.template operator()<1>();
    });
    for (int64_t i = 0; i < queries; ++i) {
      store_row(out.out, b, token_at(layout, first + i), h, mine.sums + i * dim_v);
    }
  });
}

void Forward(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
  with_element_type(problem.type, [&](auto element) { ForwardOf<decltype(element)>(problem, in, out, execution); });
}

}  // namespace nalab::dense::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::dense {

Variant variant() {
  return {
      .name = "dense",
      .paper_term = "self attention (FMHA)",
      .summary = "Every query attends to every token: the baseline of the speedups.",
      .self_attention_only = true,
      .supports = [](const Problem& problem, Pass pass) -> std::optional<std::string> {
        if (pass == Pass::backward) return "dense has no backward pass yet";
        if (!problem.is_self_attention()) return "dense computes self attention only, and a window leaves tokens out";
        return std::nullopt;
      },
      .workspace_bytes = [](const Problem& problem, Pass, int threads) -> int64_t {
        return threads * private_bytes(problem);
      },
      .executed_flops = [](const Problem& problem, Pass pass) { return problem.useful_flops(pass); },
      .forward =
          [](const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
            NALAB_SELECT(execution.isa, Forward)(problem, inputs, outputs, execution);
          },
  };
}

}  // namespace nalab::dense
#endif  // HWY_ONCE
