// The matrix product of a tile of keys with its haloed queries: gradients of keys and values.
#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/kernels/gemm/tile-inl.h"
#include "hwy/cache_control.h"

#if defined(NALAB_CORE_KERNELS_GEMM_INVERSE_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_GEMM_INVERSE_TILE_INL_H_
#undef NALAB_CORE_KERNELS_GEMM_INVERSE_TILE_INL_H_
#else
#define NALAB_CORE_KERNELS_GEMM_INVERSE_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::gemm::HWY_NAMESPACE {

/// One super tile of keys of one kv head in IN. Keys lie on lanes; all queries that attend to one of them, the halo,
/// are packed in blocks, head after head of the group, and each block is multiplied with all tiles. So each row
/// of a gradient is summed by one task in one order. The other way round, tiles of queries that add to the rows of
/// their keys, tasks would wait for each other or keep copies of dk and dv.
template <class T, class Operators>
class InverseTile : private Tile<T, Operators> {
  using Base = Tile<T, Operators>;
  using Base::axes_;
  using Base::block_;
  using Base::cut_;
  using Base::Lanes;
  using Base::mask_;
  using Base::mine_;
  using Base::misfits_;
  using Base::problem_;
  using Base::super_;
  using Base::tiling_;

 public:
  /// `super` holds keys, and its head is the kv head.
  InverseTile(const Problem& problem, const Tiling& tiling, const Workspace& workspace, int worker,
              const tile::SuperTile& super, Misfits* misfits)
      : Base(problem, tiling, workspace, worker, super, misfits) {
    for (int64_t i = 0; i < cut_.count(); ++i) {
      const geometry::Box keys = cut_.box(i);
      mine_.key_tiles[i] = {keys, geometry::queries_of_any(mask_, keys)};
    }
  }

  /// sums[key] = sum over the queries that attend to it, of all heads of the group, of weight * row of `queries`, which
  /// is q or dout.
  void HWY_ATTR InverseNeighborhood(const ConstWeightRows& weights, const TokenView<const T>& queries,
                                    const TensorView& sums) {
    const int64_t dim = queries.shape.dim;
    const int64_t heads_per_kv = problem_.heads / problem_.heads_kv;
    std::fill(mine_.tiles, mine_.tiles + cut_.count() * mine_.operand_floats, 0.0f);
    for (int64_t h = super_.head_kv * heads_per_kv; h < (super_.head_kv + 1) * heads_per_kv; ++h) {
      WalkHalo(
          [&](const QueryRun& run) HWY_ATTR {
            const auto [first, step] = Base::rows_at(queries, {run.x1, run.x2, run.x3.begin}, h);
            if (Base::Pack(first, step, 0, dim, run.x3.size(), run.first)) return;
            if constexpr (!Operators::kTakesAll) NoteMisfits(first, step, dim, run);
          },
          [&](int64_t used) HWY_ATTR { Operators::FinishBlock(used, 0, dim, block_, mine_.packing); },
          [&](int64_t i) HWY_ATTR {
            const products::KeyList list = GatherWeights(weights, mine_.key_tiles[i], h);
            if (list.count == 0) return;
            if constexpr (!Operators::kTakesAll) LeaveOutColumns(list, i);
            Base::AddValues(list, dim, i, memory_of(i));
          });
    }
    for (int64_t i = 0; i < cut_.count(); ++i) {
      const geometry::Box& keys = mine_.key_tiles[i].keys;
      Base::StoreSums(memory_of(i), dim, i, super_.head_kv, sums, [&](int lane) -> std::optional<Token> {
        Token position = token_at(tiling_.query, lane);
        for (int axis = 0; axis < geometry::kAxes; ++axis) {
          position[axis] += keys[axis].begin;
          if (!keys[axis].contains(position[axis])) return std::nullopt;
        }
        return Base::coordinates(position);
      });
    }
  }

 private:
  float* memory_of(int64_t i) const { return mine_.tiles + i * mine_.operand_floats; }

  /// Cuts the haloed queries into blocks. Calls pack(run) for all runs of a block, finish(its rows), then visit(i) for
  /// all tiles.
  template <class Pack, class Finish, class Visit>
  void WalkHalo(const Pack& pack, const Finish& finish, const Visit& visit) {
    int64_t used = 0;
    const auto flush = [&] {
      finish(used);
      for (int64_t i = 0; i < cut_.count(); ++i) visit(i);
      used = 0;
      runs_ = 0;
      misfit_numbers_.clear();
      Base::values_finite_ = true;
    };
    const geometry::Box queries = geometry::queries_of_any(mask_, super_.tokens);
    QueryRun run;
    for (run.x1 = queries[0].begin; run.x1 < queries[0].end; ++run.x1) {
      run.keys1 = mask_[0].keys(run.x1);
      for (run.x2 = queries[1].begin; run.x2 < queries[1].end; ++run.x2) {
        run.keys2 = mask_[1].keys(run.x2);
        run.x3.begin = queries[2].begin;
        while (run.x3.begin < queries[2].end) {
          if (used == tiling_.block_keys) flush();
          run.x3.end = std::min(queries[2].end, run.x3.begin + tiling_.block_keys - used);
          run.first = used;
          mine_.query_runs[runs_++] = run;
          for (int64_t x3 = run.x3.begin; x3 < run.x3.end; ++x3) mine_.windows[used++] = mask_[2].keys(x3);
          pack(run);
          run.x3.begin = run.x3.end;
        }
      }
    }
    flush();
  }

  /// Numbers of a run that do not fit.
  void NoteMisfits(const T* row, int64_t step, int64_t dim, const QueryRun& run) {
    for (int64_t n = 0; n < run.x3.size(); ++n, row += step) {
      for (int64_t c = 0; c < dim; ++c) {
        if (!Operators::fits(row + c, 1)) misfit_numbers_.push_back({run.first + n, c});
      }
    }
  }

  /// Leaves out their columns in the sums of all keys of a tile that their queries attend to.
  void LeaveOutColumns(const products::KeyList& list, int64_t tile) {
    for (const auto& [row, column] : misfit_numbers_) {
      const int64_t place = RowList<Operators>::place(list, row);
      if (place >= 0) misfits_->of(tile, column) |= mine_.lanes[place];
    }
  }

  /// The queries of the block that attend to a key of a tile, with their weights of its keys in mine_.tile: 0
  /// where a query does not attend.
  products::KeyList HWY_ATTR GatherWeights(const ConstWeightRows& weights, const KeyTile& tile, int64_t head) {
    const int64_t step = axes_[2].dilation * weights.strides.layout[2];
    RowList<Operators> list(mine_.index);
    for (int64_t r = 0; r < runs_; ++r) {
      const QueryRun& run = mine_.query_runs[r];
      if (!tile.queries[0].contains(run.x1) || !tile.queries[1].contains(run.x2)) continue;
      const geometry::Range x3 = geometry::intersect(run.x3, tile.queries[2]);
      if (x3.empty()) continue;
      const float* row = weights.row(super_.batch, Base::coordinates({run.x1, run.x2, x3.begin}), head);
      for (int64_t x = x3.begin; x < x3.end; ++x, row += step) {
        const int64_t index = run.first + x - run.x3.begin, before = list.count();
        const int64_t n = list.add({index, index + 1});
        if (Operators::kGroup > 1 && list.count() > before) {
          std::fill_n(mine_.tile + before * Operators::kGroup * Lanes, Operators::kGroup * Lanes, 0.0f);
          std::fill_n(mine_.lanes + before * Operators::kGroup, Operators::kGroup, 0u);
        }
        mine_.lanes[n] = GatherRow(run, mine_.windows[index], tile.keys, row, step, mine_.tile + n * Lanes);
      }
    }
    return list.list(mine_.lanes);
  }

  /// Moves one query's weights of the keys of a tile to lanes. Returns which lanes it attends to, as bits.
  uint32_t HWY_ATTR GatherRow(const QueryRun& run, const geometry::Range& keys3, const geometry::Box& keys,
                              const float* row, int64_t step, float* target) {
    const Floats d;
    for (int64_t i = 0; i < Lanes; i += static_cast<int64_t>(hn::MaxLanes(d))) hn::Store(hn::Zero(d), d, target + i);
    const geometry::Range x1 = geometry::intersect(keys[0], run.keys1);
    const geometry::Range x2 = geometry::intersect(keys[1], run.keys2);
    const geometry::Range x3 = geometry::intersect(keys[2], keys3);
    const uint32_t bits = static_cast<uint32_t>((uint64_t{1} << x3.size()) - 1);
    uint32_t lanes = 0;
    for (int64_t a = x1.begin; a < x1.end; ++a) {
      for (int64_t b = x2.begin; b < x2.end; ++b) {
        const int64_t plane = (a - run.keys1.begin) * run.keys2.size() + b - run.keys2.begin;
        const float* const source = row + plane * keys3.size() + x3.begin - keys3.begin;
        const int64_t lane =
            ((a - keys[0].begin) * tiling_.query[1] + b - keys[1].begin) * tiling_.query[2] + x3.begin - keys[2].begin;
        // Rows lie too far apart for the processor to foresee the next ones.
        hwy::Prefetch(source + kPrefetchRows * step);
        CopyFew(source, x3.size(), target + lane);
        lanes |= bits << lane;
      }
    }
    return lanes;
  }

  /// Copies a few floats, and nothing beyond them.
  static HWY_INLINE void CopyFew(const float* source, int64_t n, float* target) {
    const hn::CappedTag<float, 4> four;
    constexpr int64_t kStep = hn::MaxLanes(hn::CappedTag<float, 4>());
    int64_t i = 0;
    for (; i + kStep <= n; i += kStep) hn::StoreU(hn::LoadU(four, source + i), four, target + i);
    for (; i < n; ++i) target[i] = source[i];
  }

  int64_t runs_ = 0;
  std::vector<std::pair<int64_t, int64_t>> misfit_numbers_;  ///< rows of the block, and columns
};

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_GEMM_INVERSE_TILE_INL_H_
