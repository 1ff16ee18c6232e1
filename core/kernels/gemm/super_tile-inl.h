// The two matrix products of a tile of queries with its haloed keys, on either side of the softmax.
#include <algorithm>
#include <bit>
#include <memory>

#include "core/kernels/gemm/tile-inl.h"
#include "hwy/cache_control.h"

#if defined(NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_
#undef NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_
#else
#define NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::gemm::HWY_NAMESPACE {

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

/// One super tile of queries of one kv head in PN or in NN. Its haloed keys are packed in blocks, and each block is
/// multiplied with all its micro tiles.
template <class T, int Lanes>
class SuperTile : private Tile<T, Lanes> {
  using Base = Tile<T, Lanes>;
  using Arithmetic = typename Base::Arithmetic;
  using Base::axes_;
  using Base::block_;
  using Base::mask_;
  using Base::mine_;
  using Base::place_;
  using Base::problem_;
  using Base::row_of;
  using Base::tiles_;
  using Base::workspace_;

 public:
  SuperTile(const Problem& problem, const Tiles& tiles, const fused::LaneShape& shape, const Workspace& workspace,
            int worker, const Place& place)
      : Base(problem, tiles, workspace, worker, place), head_kv_(place.head / (problem.heads / problem.heads_kv)) {
    for (int64_t i = 0; i < Base::micros(); ++i) {
      std::construct_at(mine_.placed + i, axes_, place.group, Base::micro_box(i), shape);
    }
  }

  /// factor * dot(query, key) of the tile's queries to their rows of `weights`. `queries` and keys are q and k, or dout
  /// and v.
  void HWY_ATTR PointwiseNeighborhood(const TokenView<const T>& queries, const TokenView<const T>& keys,
                                      const TokenView<const T>& extra, float factor, const WeightRows& weights) {
    const int64_t dim = queries.shape.dim;
    // Every score is computed, whether attended or not; the scatter leaves out what is not.
    std::fill_n(mine_.lanes, tiles_.block_keys + kMaxRows, products::kAllLanes<Lanes>);
    ForEachMicro([&](const QueryTile& tile, int64_t head, float* packed)
                     HWY_ATTR { PackQueries(queries, tile, head, packed); });
    WalkHalo(
        [&](const Run& run) HWY_ATTR {
          const auto [first, step] = rows_of(keys, extra, run);
          Arithmetic::PackKeys(first, step, dim, first, step, 0, run.x3.size(), run.first, block_, mine_.rows);
        },
        [&](const QueryTile& tile, const products::KeyList& list, int64_t head, float* packed) HWY_ATTR {
          Arithmetic::Scores(packed, block_, dim, list, mine_.tile, mine_.maxima);
          ScatterScores(tile, head, factor, weights);
        });
  }

  /// Sums of keys or values by the rows of weights of the tile's queries: out or dq.
  void HWY_ATTR NeighborhoodNeighborhood(const WeightRows& weights, const TokenView<const T>& values,
                                         const TokenView<const T>& extra, const TensorView& out) {
    const int64_t dim = values.shape.dim;
    ForEachMicro([&](const QueryTile&, int64_t, float* sums)
                     HWY_ATTR { std::fill(sums, sums + workspace_.micro_floats(), 0.0f); });
    WalkHalo(
        [&](const Run& run) HWY_ATTR {
          const auto [first, step] = rows_of(values, extra, run);
          Base::PackValues(first, step, dim, run.x3.size(), run.first);
        },
        [&](const QueryTile& tile, const products::KeyList& list, int64_t head, float* sums) HWY_ATTR {
          GatherWeights(tile, head, weights);
          Base::AddValues(
              list, dim, [&] { ListLanes(tile); }, sums);
        });
    ForEachMicro([&](const QueryTile& tile, int64_t head, float* sums) HWY_ATTR {
      Base::StoreSums(sums, dim, [&](int lane, const float* row) {
        if (tile.inside(lane)) store_row(out, place_.batch, tile.token(lane), head, row);
      });
    });
  }

 private:
  float* micro(int64_t i, int64_t head) const {
    return mine_.micros + (i * tiles_.heads + head) * workspace_.micro_floats();
  }

  /// Calls body(queries, head, memory of the micro tile and head).
  template <class Body>
  void ForEachMicro(const Body& body) {
    for (int64_t i = 0; i < Base::micros(); ++i) {
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
      for (int64_t i = 0; i < Base::micros(); ++i) {
        const products::KeyList list = ListKeys(mine_.placed[i]);
        if (list.count == 0) continue;
        for (int64_t h = 0; h < tiles_.heads; ++h) {
          visit(mine_.placed[i], list, place_.head + h, micro(i, h));
        }
      }
      used_ = 0;
      block_runs_ = 0;
      Base::values_finite_ = true;
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
    const geometry::Box keys = geometry::keys_of_any(mask_, place_.box);
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

  void HWY_ATTR PackQueries(const TokenView<const T>& queries, const QueryTile& tile, int64_t head, float* packed) {
    const int64_t dim = queries.shape.dim;
    const float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      const Token token = tile.token(lane);
      row[lane] =
          products::AsFloats(queries.row(place_.batch, token[0], token[1], token[2], head), dim, row_of(lane, dim));
    }
    products::RowsToLanes<Lanes>(row, dim, 1.0f, packed);
  }

  /// First row of a run and the distance to the next one.
  std::pair<const T*, int64_t> rows_of(const TokenView<const T>& tensor, const TokenView<const T>& extra,
                                       const Run& run) const {
    if (run.extra) return {extra.row(place_.batch, 0, 0, run.x3.begin, head_kv_), extra.strides.layout[2]};
    return Base::rows_at(tensor, {run.x1, run.x2, run.x3.begin}, head_kv_);
  }

  void HWY_ATTR ScatterScores(const QueryTile& queries, int64_t head, float factor, const WeightRows& rows) {
    HWY_ALIGN float factors[Lanes];
    float* row[Lanes];
    float* weights[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      factors[lane] = factor;
      row[lane] = row_of(lane, kRunStride);
      weights[lane] = rows.of(place_.batch, queries.token(lane), head);
    }
    ForEachPiece([&](const Run& piece) HWY_ATTR {
      // Four keys more or less cost the same; what the copies below write too much, the next ones overwrite.
      products::LanesToRows<Lanes>(mine_.tile + piece.first * Lanes, (piece.x3.size() + 3) / 4 * 4, factors, row);
      for (uint32_t bits = queries.attending(piece); bits != 0; bits &= bits - 1) {
        const int lane = std::countr_zero(bits);
        const RowPart part = queries.part(lane, piece);
        float* const target = weights[lane] + part.column;
        hwy::Prefetch(target + kPrefetch);
        CopyVectors(row[lane] + part.x3.begin - piece.x3.begin, part.x3.size(), target);
      }
    });
  }

  void HWY_ATTR GatherWeights(const QueryTile& queries, int64_t head, const WeightRows& rows) {
    const Floats d;
    constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(Floats()));
    float* row[Lanes];
    const float* weights[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      row[lane] = row_of(lane, kRunStride);
      weights[lane] = rows.of(place_.batch, queries.token(lane), head);
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

  /// Which lanes attend to the listed keys.
  void ListLanes(const QueryTile& queries) {
    for (int64_t r = 0; r < tile_runs_; ++r) {
      queries.attending_each(mine_.tile_runs[r], mine_.lanes + mine_.tile_runs[r].first);
    }
  }

  const int64_t head_kv_;
  int64_t used_ = 0, block_runs_ = 0, tile_runs_ = 0;
};

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_
