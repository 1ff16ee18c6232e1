#include "tests/core/gpu/emulator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "tests/core/gpu/walk.h"

namespace nalab::gpu::test {

namespace {

// As in core/gpu/hopper/softmax.cuh.
constexpr float kLowest = -1e8f, kGrowth = 8, kShift = 64, kMostSum = 0x1p64f, kMostReference = 0x1p29f;
/// In place of 0, which would let masked pairs through.
constexpr double kLeastScale = 1e-20;

using Rows = std::vector<std::vector<float>>;

template <class T>
class Emulator {
 public:
  Emulator(const TilePlan& plan, const Problem& problem, const Inputs& in)
      : plan_(plan),
        problem_(problem),
        q_(in.q.as<T>()),
        k_(in.k.as<T>()),
        v_(in.v.as<T>()),
        extra_k_(in.extra_k.as<T>()),
        extra_v_(in.extra_v.as<T>()) {
    const double scale = problem.effective_scale();
    sign_ = scale < 0 ? -1.0f : 1.0f;
    scale_ = static_cast<float>(std::max(std::abs(scale), kLeastScale));
    result_.lse.resize(static_cast<std::size_t>(lse_shape(problem).elements()));
    result_.writes.resize(result_.lse.size());
    result_.out.resize(static_cast<std::size_t>(out_shape(problem).elements()));
  }

  Emulated run() {
    for (int64_t b = 0; b < problem_.batch; ++b) {
      for (int64_t h = 0; h < problem_.heads; ++h) {
        for (const QueryTile& tile : plan_.query_tiles) {
          for (int w = 0; w < kWarpgroups; ++w) warpgroup({plan_, tile}, w, b, h);
        }
      }
    }
    return std::move(result_);
  }

 private:
  /// What one warpgroup has of its queries.
  struct State {
    Rows q;                        ///< [queries, head_dim]
    std::vector<float> reference;  ///< log2, that weights are relative to
    std::vector<float> weight;     ///< sum of them
    Rows out;                      ///< [queries, head_dim_v]
  };

  void warpgroup(const Block& block, int w, int64_t b, int64_t h) {
    if (!block.active(w)) return;
    State state{{},
                std::vector<float>(kWarpgroupQueries, kLowest),
                std::vector<float>(kWarpgroupQueries),
                Rows(kWarpgroupQueries, std::vector<float>(static_cast<std::size_t>(problem_.head_dim_v)))};
    for (int q = 0; q < kWarpgroupQueries; ++q) state.q.push_back(row(q_, block, block.query(w, q), b, h));
    const int64_t h_kv = h / (problem_.heads / problem_.heads_kv);
    for_each_box(block, [&](const Box& box) {
      if (!block.visits(w, box)) return;
      Rows k, v;
      for (int n = 0; n < plan_.shape().keys; ++n) {
        k.push_back(row(k_, block, block.key(box, n), b, h_kv));
        v.push_back(row(v_, block, block.key(box, n), b, h_kv));
      }
      const Bias bias(block, w, box);
      visit(state, k, v, [&](int q, int n) { return bias.of(q, n); });
    });
    for (int64_t t = 0; t < plan_.header.extra_tiles; ++t) {
      const auto token = [&](int n) { return t * plan_.shape().keys + n; };
      Rows k, v;
      for (int n = 0; n < plan_.shape().keys; ++n) {
        k.push_back(extra_row(extra_k_, token(n), b, h_kv));
        v.push_back(extra_row(extra_v_, token(n), b, h_kv));
      }
      visit(state, k, v, [&](int, int n) { return token(n) < problem_.extra_tokens ? 0 : kMasked; });
    }
    store(state, block, w, b, h);
  }

  /// The scores of one tile, and what they do to the sums.
  template <class BiasOf>
  void visit(State& state, const Rows& k, const Rows& v, const BiasOf& bias) {
    const float log2_scale = scale_ * std::numbers::log2e_v<float>;
    std::vector<float> scores(k.size());
    for (int i = 0; i < kWarpgroupQueries; ++i) {
      const auto q = static_cast<std::size_t>(i);
      for (std::size_t n = 0; n < k.size(); ++n) {
        float score = 0;
        for (std::size_t c = 0; c < k[n].size(); ++c) score += sign_ * state.q[q][c] * k[n][c];
        scores[n] = score + bias(i, static_cast<int>(n));
      }
      float& reference = state.reference[q];
      if (std::is_same_v<T, bf16> && kLowest < reference && reference < kMostReference) {
        if (state.weight[q] > kMostSum) {
          rescale(state, q, 1 / kMostSum);
          reference += kShift;
        }
      } else if (const float top = *std::ranges::max_element(scores) * log2_scale; top > reference + kGrowth) {
        rescale(state, q, std::exp2(reference - top));
        reference = top;
      }
      for (std::size_t n = 0; n < k.size(); ++n) {
        const float weight = std::exp2(std::fma(scores[n], log2_scale, -state.reference[q]));
        state.weight[q] += weight;
        const float rounded = to_float(from_float<T>(weight));
        for (std::size_t c = 0; c < v[n].size(); ++c) state.out[q][c] += rounded * v[n][c];
      }
    }
  }

  void rescale(State& state, std::size_t q, float factor) {
    result_.rescaled += state.weight[q] > 0 ? 1 : 0;
    state.weight[q] *= factor;
    for (float& x : state.out[q]) x *= factor;
  }

  void store(const State& state, const Block& block, int w, int64_t b, int64_t h) {
    for (int i = 0; i < kWarpgroupQueries; ++i) {
      const Positions query = block.query(w, i);
      if (!block.inside(query)) continue;
      const auto q = static_cast<std::size_t>(i);
      const Positions at = coordinates(block, query);
      const auto axes = problem_.axes3();
      const auto entry = static_cast<std::size_t>(
          (((b * axes[0].extent + at[0]) * axes[1].extent + at[1]) * axes[2].extent + at[2]) * problem_.heads + h);
      result_.lse[entry] = (state.reference[q] + std::log2(state.weight[q])) * std::numbers::ln2_v<float>;
      ++result_.writes[entry];
      for (std::size_t c = 0; c < state.out[q].size(); ++c) {
        result_.out[entry * state.out[q].size() + c] = to_float(from_float<T>(state.out[q][c] / state.weight[q]));
      }
    }
  }

  Positions coordinates(const Block& block, Positions position) const {
    const auto axes = problem_.axes3();
    for (std::size_t x = 0; x < kAxisCount; ++x) position[x] = position[x] * axes[x].dilation + block.group().first[x];
    return position;
  }

  /// Zeros outside of the dilation group, as the tensor maps give.
  std::vector<float> row(const TokenView<const T>& view, const Block& block, const Positions& position, int64_t b,
                         int64_t h) const {
    if (!block.inside(position)) return std::vector<float>(static_cast<std::size_t>(view.shape.dim));
    const Positions at = coordinates(block, position);
    return floats(view.row(b, at[0], at[1], at[2], h), view.shape.dim);
  }
  std::vector<float> extra_row(const TokenView<const T>& view, int64_t token, int64_t b, int64_t h) const {
    if (token >= problem_.extra_tokens) return std::vector<float>(static_cast<std::size_t>(view.shape.dim));
    return floats(view.row(b, 0, 0, token, h), view.shape.dim);
  }
  static std::vector<float> floats(const T* row, int64_t dim) {
    std::vector<float> values;
    for (int64_t c = 0; c < dim; ++c) values.push_back(to_float(row[c]));
    return values;
  }

  const TilePlan& plan_;
  const Problem& problem_;
  TokenView<const T> q_, k_, v_, extra_k_, extra_v_;
  float sign_ = 1;
  float scale_ = 1;
  Emulated result_;
};

}  // namespace

Emulated emulate(const TilePlan& plan, const Problem& problem, const Inputs& inputs) {
  if (problem.type == ElementType::f16) return Emulator<f16>(plan, problem, inputs).run();
  return Emulator<bf16>(plan, problem, inputs).run();
}

}  // namespace nalab::gpu::test
