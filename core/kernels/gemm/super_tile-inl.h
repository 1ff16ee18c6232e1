// The two matrix products of a tile of queries with its haloed keys, on either side of the softmax.
#include <algorithm>
#include <bit>
#include <memory>

#include "core/kernels/fused/tile-inl.h"
#include "core/kernels/gemm/workspace.h"
#include "core/simd/targets.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_
#undef NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_
#else
#define NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::gemm::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
namespace products = nalab::fused::HWY_NAMESPACE;

using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;

/// Copies whole vectors: up to one less than a vector beyond n.
HWY_INLINE void CopyVectors(const float* source, int64_t n, float* target) {
  const Floats d;
  constexpr int64_t kStep = hn::MaxLanes(Floats());
  for (int64_t i = 0; i < n; i += kStep) hn::StoreU(hn::LoadU(d, source + i), d, target + i);
}

/// As CopyVectors, with zeros beyond n.
HWY_INLINE void CopyVectorsAndZeros(const float* source, int64_t n, float* target) {
  const Floats d;
  constexpr int64_t kStep = hn::MaxLanes(Floats());
  for (int64_t i = 0; i < n; i += kStep) {
    const auto mask = hn::FirstN(d, static_cast<std::size_t>(n - i));
    hn::StoreU(hn::MaskedLoad(mask, d, source + i), d, target + i);
  }
}

/// One super tile of one kv head in PN or in NN. Its haloed keys are packed in blocks, and each block is multiplied
/// with all its micro tiles.
template <class T, int Lanes>
class SuperTile {
  using Arithmetic = products::FloatArithmetic<Lanes>;
  static_assert(Arithmetic::kRows <= kMaxRows && hn::MaxLanes(Floats()) <= kVectorFloats);

 public:
  SuperTile(const Problem& problem, const Tiles& tiles, const fused::LaneShape& shape, const Inputs& in,
            const Workspace& workspace, int worker, const Place& place)
      : problem_(problem),
        tiles_(tiles),
        in_(in),
        workspace_(workspace),
        mine_(workspace.of(worker)),
        place_(place),
        axes_(problem.axes3()),
        head_kv_(place.head / (problem.heads / problem.heads_kv)),
        block_{mine_.packed, mine_.packed, tiles.block_keys * Arithmetic::kRows + kPanelGap} {
    for (int axis = 0; axis < geometry::kAxes; ++axis) mask_[axis] = axes_[axis].group_mask(place.group[axis]);
    PlaceMicros(shape);
  }

  /// Scores of the tile's queries, scaled, to the rows of weights.
  void HWY_ATTR PointwiseNeighborhood() {
    // Every score is computed, whether attended or not; the scatter leaves out what is not.
    std::fill_n(mine_.lanes, tiles_.block_keys + kMaxRows, products::kAllLanes<Lanes>);
    ForEachMicro([&](const QueryTile& queries, int64_t head, float* packed)
                     HWY_ATTR { PackQueries(queries, head, packed); });
    const auto k = in_.k.as<T>(), extra_k = in_.extra_k.as<T>();
    WalkHalo([&](const Run& run) HWY_ATTR { PackKeys(run.extra ? extra_k : k, run); },
             [&](const QueryTile& queries, const products::KeyList& list, int64_t head, float* packed) HWY_ATTR {
               Arithmetic::Scores(packed, block_, problem_.head_dim, list, mine_.tile, mine_.maxima);
               ScatterScores(queries, head);
             });
  }

  /// out of the tile's queries, from the rows of weights.
  void HWY_ATTR NeighborhoodNeighborhood(const TensorView& out) {
    ForEachMicro([&](const QueryTile&, int64_t, float* sums)
                     HWY_ATTR { std::fill(sums, sums + workspace_.micro_floats(), 0.0f); });
    const auto v = in_.v.as<T>(), extra_v = in_.extra_v.as<T>();
    WalkHalo([&](const Run& run) HWY_ATTR { PackValues(run.extra ? extra_v : v, run); },
             [&](const QueryTile& queries, const products::KeyList& list, int64_t head, float* sums) HWY_ATTR {
               GatherWeights(queries, head);
               AddValues(queries, list, sums);
             });
    ForEachMicro([&](const QueryTile& queries, int64_t head, float* sums)
                     HWY_ATTR { StoreOut(queries, head, sums, out); });
  }

 private:
  Token coordinates(const Token& position) const {
    Token token;
    for (int axis = 0; axis < geometry::kAxes; ++axis) {
      token[axis] = axes_[axis].coordinate(place_.group[axis], position[axis]);
    }
    return token;
  }

  void PlaceMicros(const fused::LaneShape& shape) {
    std::array<geometry::TileAxis, 3> cut;
    for (int axis = 0; axis < geometry::kAxes; ++axis) cut[axis] = {place_.queries[axis].size(), tiles_.micro[axis]};
    placed_ = cut[0].count() * cut[1].count() * cut[2].count();
    for (int64_t i = 0; i < placed_; ++i) {
      const Token tile = token_at({cut[0].count(), cut[1].count(), cut[2].count()}, i);
      geometry::Box box;
      for (int axis = 0; axis < geometry::kAxes; ++axis) {
        const geometry::Range range = cut[axis].range(tile[axis]);
        box[axis] = {place_.queries[axis].begin + range.begin, place_.queries[axis].begin + range.end};
      }
      std::construct_at(mine_.placed + i, axes_, place_.group, box, shape);
    }
  }

  float* micro(int64_t i, int64_t head) const {
    return mine_.micros + (i * tiles_.heads + head) * workspace_.micro_floats();
  }

  /// Calls body(queries, head, memory of the micro tile and head).
  template <class Body>
  void ForEachMicro(const Body& body) {
    for (int64_t i = 0; i < placed_; ++i) {
      for (int64_t h = 0; h < tiles_.heads; ++h) {
        body(mine_.placed[i], place_.head + h, micro(i, h));
      }
    }
  }

  /// Cuts the haloed keys, then the extra tokens, into blocks. Calls pack(run) for all runs of a block, then
  /// visit(queries, list, head, memory) for the micro tiles that attend to keys of the block.
  template <class Pack, class Visit>
  void WalkHalo(const Pack& pack, const Visit& visit) {
    const auto flush = [&] {
      for (int64_t i = 0; i < placed_; ++i) {
        const products::KeyList list = ListKeys(mine_.placed[i]);
        if (list.count == 0) continue;
        for (int64_t h = 0; h < tiles_.heads; ++h) {
          visit(mine_.placed[i], list, place_.head + h, micro(i, h));
        }
      }
      used_ = 0;
      block_runs_ = 0;
      values_finite_ = true;
    };
    const auto add = [&](Run run) {
      const int64_t end = run.x3.end;
      while (run.x3.begin < end) {
        if (used_ == tiles_.block_keys) flush();
        run.x3.end = std::min(end, run.x3.begin + tiles_.block_keys - used_);
        run.first = used_;
        mine_.block_runs[block_runs_++] = run;
        pack(run);
        used_ += run.x3.size();
        run.x3.begin = run.x3.end;
      }
    };
    const geometry::Box keys = geometry::keys_of_any(mask_, place_.queries);
    for (int64_t x1 = keys[0].begin; x1 < keys[0].end; ++x1) {
      for (int64_t x2 = keys[1].begin; x2 < keys[1].end; ++x2) add({.x1 = x1, .x2 = x2, .x3 = keys[2]});
    }
    add({.x3 = {0, problem_.extra_tokens}, .extra = true});
    flush();
  }

  /// The keys of the block that some query of a micro tile attends to; tile_runs says where they come from.
  products::KeyList ListKeys(const QueryTile& queries) {
    int64_t n = 0;
    tile_runs_ = 0;
    for (int64_t r = 0; r < block_runs_; ++r) {
      Run run = mine_.block_runs[r];
      const int64_t offset = run.first - run.x3.begin;
      run.x3 = queries.attended(run);
      if (run.x3.empty()) continue;
      run.first = n;
      mine_.tile_runs[tile_runs_++] = run;
      for (int64_t x = run.x3.begin; x < run.x3.end; ++x) mine_.index[n++] = static_cast<int32_t>(offset + x);
    }
    const int64_t count = n;
    for (; n % Arithmetic::kRows != 0; ++n) mine_.index[n] = mine_.index[count - 1];
    return {mine_.index, mine_.lanes, count, false};
  }

  /// Calls body(run) for the runs of the micro tile in pieces of at most kRunKeys.
  template <class Body>
  void ForEachPiece(const Body& body) {
    for (int64_t r = 0; r < tile_runs_; ++r) {
      Run piece = mine_.tile_runs[r];
      const int64_t end = piece.x3.end;
      while (piece.x3.begin < end) {
        piece.x3.end = std::min(end, piece.x3.begin + kRunKeys);
        body(piece);
        piece.first += piece.x3.size();
        piece.x3.begin = piece.x3.end;
      }
    }
  }

  float* row_of(int lane, int64_t stride) const { return mine_.rows + lane * stride; }
  float* weights_of(const QueryTile& queries, int lane, int64_t head) const {
    return workspace_.weights(place_.batch, queries.token(lane), head);
  }

  void HWY_ATTR PackQueries(const QueryTile& queries, int64_t head, float* packed) {
    const auto q = in_.q.as<T>();
    const float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      const Token token = queries.token(lane);
      row[lane] = products::AsFloats(q.row(place_.batch, token[0], token[1], token[2], head), problem_.head_dim,
                                     row_of(lane, problem_.head_dim));
    }
    products::RowsToLanes<Lanes>(row, problem_.head_dim, 1.0f, packed);
  }

  /// First row of a run and the distance to the next one.
  std::pair<const T*, int64_t> rows_of(const TokenView<const T>& tensor, const Run& run) const {
    const int64_t step = tensor.strides.layout[2];
    if (run.extra) return {tensor.row(place_.batch, 0, 0, run.x3.begin, head_kv_), step};
    const Token token = coordinates({run.x1, run.x2, run.x3.begin});
    return {tensor.row(place_.batch, token[0], token[1], token[2], head_kv_), step * axes_[2].dilation};
  }

  void HWY_ATTR PackKeys(const TokenView<const T>& k, const Run& run) {
    const auto [first, step] = rows_of(k, run);
    Arithmetic::PackKeys(first, step, problem_.head_dim, first, step, 0, run.x3.size(), run.first, block_, mine_.rows);
  }

  void HWY_ATTR PackValues(const TokenView<const T>& v, const Run& run) {
    const auto [first, step] = rows_of(v, run);
    const bool finite = Arithmetic::PackKeys(first, step, 0, first, step, problem_.head_dim_v, run.x3.size(), run.first,
                                             block_, mine_.rows);
    values_finite_ = values_finite_ && finite;
  }

  void HWY_ATTR ScatterScores(const QueryTile& queries, int64_t head) {
    const float scale = factor_as_float(problem_.effective_scale());
    HWY_ALIGN float scales[Lanes];
    float* row[Lanes];
    float* weights[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      scales[lane] = scale;
      row[lane] = row_of(lane, kRunStride);
      weights[lane] = weights_of(queries, lane, head);
    }
    ForEachPiece([&](const Run& piece) HWY_ATTR {
      // Four keys more or less cost the same; what the copies below write too much, the next ones overwrite.
      products::LanesToRows<Lanes>(mine_.tile + piece.first * Lanes, (piece.x3.size() + 3) / 4 * 4, scales, row);
      for (uint32_t bits = queries.attending(piece); bits != 0; bits &= bits - 1) {
        const int lane = std::countr_zero(bits);
        const RowPart part = queries.part(lane, piece);
        float* const target = weights[lane] + part.column;
        hwy::Prefetch(target + kPrefetch);
        CopyVectors(row[lane] + part.x3.begin - piece.x3.begin, part.x3.size(), target);
      }
    });
  }

  void HWY_ATTR GatherWeights(const QueryTile& queries, int64_t head) {
    const Floats d;
    constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(Floats()));
    float* row[Lanes];
    const float* weights[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      row[lane] = row_of(lane, kRunStride);
      weights[lane] = weights_of(queries, lane, head);
    }
    ForEachPiece([&](const Run& piece) HWY_ATTR {
      for (int lane = 0; lane < Lanes; ++lane) {
        for (int64_t i = 0; i < piece.x3.size(); i += kStep) hn::StoreU(hn::Zero(d), d, row[lane] + i);
      }
      for (uint32_t bits = queries.attending(piece); bits != 0; bits &= bits - 1) {
        const int lane = std::countr_zero(bits);
        const RowPart part = queries.part(lane, piece);
        const float* const source = weights[lane] + part.column;
        hwy::Prefetch(source + kPrefetch);
        CopyVectorsAndZeros(source, part.x3.size(), row[lane] + part.x3.begin - piece.x3.begin);
      }
      products::RowsToLanes<Lanes>(row, (piece.x3.size() + 3) / 4 * 4, 1.0f, mine_.tile + piece.first * Lanes);
    });
  }

  void HWY_ATTR AddValues(const QueryTile& queries, const products::KeyList& list, float* sums) {
    const int64_t panels = geometry::ceil_div(problem_.head_dim_v, Arithmetic::kRows);
    VF one[Arithmetic::kVectors];
    for (VF& x : one) x = hn::Set(Floats(), 1.0f);
    if (values_finite_) {
      Arithmetic::template AddValues<false>(mine_.tile, block_, panels, list, one, sums);
    } else {
      // 0 times NaN or infinity is not 0: these may meet only the weights of queries that attend to them.
      for (int64_t r = 0; r < tile_runs_; ++r) {
        queries.attending_each(mine_.tile_runs[r], mine_.lanes + mine_.tile_runs[r].first);
      }
      Arithmetic::template AddValues<true>(mine_.tile, block_, panels, list, one, sums);
    }
  }

  void HWY_ATTR StoreOut(const QueryTile& queries, int64_t head, const float* sums, const TensorView& out) {
    HWY_ALIGN float ones[Lanes];
    float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      ones[lane] = 1.0f;
      row[lane] = row_of(lane, problem_.head_dim_v);
    }
    products::LanesToRows<Lanes>(sums, problem_.head_dim_v, ones, row);
    for (int lane = 0; lane < Lanes; ++lane) {
      if (!queries.inside(lane)) continue;
      store_row(out, place_.batch, queries.token(lane), head, row[lane]);
    }
  }

  const Problem& problem_;
  const Tiles& tiles_;
  const Inputs& in_;
  const Workspace& workspace_;
  const Private mine_;
  const Place place_;
  const std::array<Axis, 3> axes_;
  const int64_t head_kv_;
  const products::Block block_;
  geometry::GroupMask mask_;
  int64_t placed_ = 0, used_ = 0, block_runs_ = 0, tile_runs_ = 0;
  bool values_finite_ = true;
};

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_
