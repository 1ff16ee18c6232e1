// The two matrix products of a tile of queries with its haloed keys, on either side of the softmax.
#include <algorithm>
#include <bit>
#include <memory>
#include <optional>
#include <tuple>

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

/// Calls vector(i) for whole vectors of [0, n), then tail(i, what is left) once if anything is.
template <class Vector, class Tail>
HWY_INLINE void ForEachVector(int64_t n, const Vector& vector, const Tail& tail) {
  constexpr int64_t kStep = hn::MaxLanes(Floats());
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) vector(i);
  if (i < n) tail(i, n - i);
}

/// The next n floats, less than a vector, and zeros. Reads nothing beyond them.
HWY_INLINE VF LoadFew(const float* source, int64_t n) {
  const Floats d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, static_cast<std::size_t>(n)), d, source);
#else
  HWY_ALIGN float few[hn::MaxLanes(Floats())] = {};
  std::copy_n(source, n, few);
  return hn::Load(d, few);
#endif
}

/// Stores n floats, less than a vector. Writes nothing beyond them: the next row may be another task's, or a caller's.
HWY_INLINE void StoreFew(VF values, int64_t n, float* target) {
  const Floats d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  hn::BlendedStore(values, hn::FirstN(d, static_cast<std::size_t>(n)), d, target);
#else
  HWY_ALIGN float few[hn::MaxLanes(Floats())];
  hn::Store(values, d, few);
  std::copy_n(few, n, target);
#endif
}

/// target[i] = source[i] for i in [0, n). `source` is read by whole vectors.
HWY_INLINE void CopyRun(const float* source, int64_t n, float* target) {
  const Floats d;
  ForEachVector(
      n, [&](int64_t i) HWY_ATTR { hn::StoreU(hn::LoadU(d, source + i), d, target + i); },
      [&](int64_t i, int64_t left) HWY_ATTR { StoreFew(hn::LoadU(d, source + i), left, target + i); });
}

/// target[i] = source[i] + biases[i] for i in [0, n). `source` and `biases` are read by whole vectors.
HWY_INLINE void AddBiases(const float* source, const float* biases, int64_t n, float* target) {
  const Floats d;
  const auto sum = [&](int64_t i) HWY_ATTR { return hn::Add(hn::LoadU(d, source + i), hn::LoadU(d, biases + i)); };
  ForEachVector(
      n, [&](int64_t i) HWY_ATTR { hn::StoreU(sum(i), d, target + i); },
      [&](int64_t i, int64_t left) HWY_ATTR { StoreFew(sum(i), left, target + i); });
}

/// target[i] = source[i] for i in [0, n), and zeros up to a whole vector.
HWY_INLINE void CopyAndZeros(const float* source, int64_t n, float* target) {
  const Floats d;
  ForEachVector(
      n, [&](int64_t i) HWY_ATTR { hn::StoreU(hn::LoadU(d, source + i), d, target + i); },
      [&](int64_t i, int64_t left) HWY_ATTR { hn::StoreU(LoadFew(source + i, left), d, target + i); });
}

/// One super tile of queries of one kv head in PN or in NN. Its haloed keys are packed in blocks, and each block is
/// multiplied with all its query tiles.
template <class T, class Operators>
class SuperTile : private Tile<T, Operators> {
  using Base = Tile<T, Operators>;
  using Base::axes_;
  using Base::block_;
  using Base::cut_;
  using Base::Lanes;
  using Base::mask_;
  using Base::mine_;
  using Base::misfits_;
  using Base::problem_;
  using Base::row_of;
  using Base::scope_;
  using Base::super_;
  using Base::tiling_;

 public:
  SuperTile(const Problem& problem, const Tiling& tiling, const tile::LaneShape& shape, const Workspace& workspace,
            int worker, const tile::SuperTile& super, Misfits* misfits)
      : Base(problem, tiling, workspace, worker, super, misfits) {
    for (int64_t i = 0; i < cut_.count(); ++i) {
      std::construct_at(mine_.query_tiles + i, axes_, super.group, cut_.box(i), shape);
    }
  }

  /// factor * dot(query, key) + bias of the tile's queries to their rows of `weights`. `queries` and keys are q and k,
  /// or dout and v.
  void HWY_ATTR PointwiseNeighborhood(const TokenView<const T>& queries, const TokenView<const T>& keys,
                                      const TokenView<const T>& extra, float factor, const BiasTables& biases,
                                      const WeightRows& weights) {
    const int64_t dim = queries.shape.dim;
    // Every score is computed, whether attended or not; the scatter leaves out what is not.
    std::fill_n(mine_.lanes, tiling_.block_keys + kMaxRows, products::kAllLanes<Lanes>);
    ForEachTile([&](const Visit& visit) HWY_ATTR { PackQueries(queries, visit); });
    for (tile::KeyCursor cursor = halo(); NextBlock(cursor);) {
      PackBlock(keys, extra, dim, 0);
      ForEachVisit([&](const Visit& visit, const products::KeyList& list) HWY_ATTR {
        Operators::MultiplyRows(scope_, visit.memory, block_, dim, list, mine_.tile, mine_.product);
        ScatterScores(visit, factor, biases.of(visit.head), weights);
      });
    }
  }

  /// Sums of keys or values by the rows of weights of the tile's queries: out or dq.
  void HWY_ATTR NeighborhoodNeighborhood(const ConstWeightRows& weights, const TokenView<const T>& values,
                                         const TokenView<const T>& extra, const TensorView& out) {
    const int64_t dim = values.shape.dim;
    ForEachTile([&](const Visit& visit)
                    HWY_ATTR { std::fill(visit.memory, visit.memory + mine_.operand_floats, 0.0f); });
    for (tile::KeyCursor cursor = halo(); NextBlock(cursor);) {
      PackBlock(values, extra, 0, dim);
      ForEachVisit([&](const Visit& visit, const products::KeyList& list) HWY_ATTR {
        GatherWeights(visit, list, weights);
        if (!Base::values_finite_) ListLanes(visit.queries);
        Base::AddValues(list, dim, visit.tile, visit.memory);
      });
    }
    ForEachTile([&](const Visit& visit) HWY_ATTR {
      Base::StoreSums(visit.memory, dim, visit.tile, visit.head, out, [&](int lane) -> std::optional<Token> {
        if (!visit.queries.inside(lane)) return std::nullopt;
        return visit.queries.token(lane);
      });
    });
  }

 private:
  /// A query tile of one head.
  struct Visit {
    const QueryTile& queries;
    int64_t head;
    int64_t tile;   ///< its number
    float* memory;  ///< of its operand
  };

  /// The heads of a query tile.
  template <class Body>
  void ForEachHead(int64_t i, const Body& body) {
    for (int64_t h = 0; h < tiling_.heads; ++h) {
      const int64_t tile = i * tiling_.heads + h;
      body(Visit{mine_.query_tiles[i], super_.head + h, tile, mine_.tiles + tile * mine_.operand_floats});
    }
  }
  template <class Body>
  void ForEachTile(const Body& body) {
    for (int64_t i = 0; i < cut_.count(); ++i) ForEachHead(i, body);
  }

  /// Packs the block as rows of `dim` numbers, and in panels of `panel_dim` columns.
  void HWY_ATTR PackBlock(const TokenView<const T>& tensor, const TokenView<const T>& extra, int64_t dim,
                          int64_t panel_dim) {
    for (int64_t s = 0; s < block_segments_; ++s) {
      const tile::Segment& segment = mine_.block_segments[s];
      const auto [first, step] = rows_of(tensor, extra, segment);
      if (Base::Pack(first, step, dim, panel_dim, segment.x3.size(), segment.first)) continue;
      if constexpr (!Operators::kTakesAll) NoteMisfits(first, step, dim, panel_dim, segment);
    }
    Operators::FinishBlock(used_, dim, panel_dim, block_, mine_.packing);
  }

  /// Keys of a segment whose numbers do not fit: all their scores are left out. Values: the columns of all queries that
  /// attend to them.
  void NoteMisfits(const T* row, int64_t step, int64_t dim, int64_t panel_dim, const tile::Segment& segment) {
    tile::Segment key = segment;
    for (int64_t x = segment.x3.begin; x < segment.x3.end; ++x, row += step) {
      key.x3 = {x, x + 1};
      if (!Operators::fits(row, dim)) misfits_->keys.push_back(key);
      for (int64_t c = 0; c < panel_dim; ++c) {
        if (Operators::fits(row + c, 1)) continue;
        ForEachTile([&](const Visit& visit) {
          uint32_t lanes = 0;
          if (!visit.queries.attended(key).empty()) visit.queries.attending_each(key, &lanes);
          misfits_->of(visit.tile, c) |= lanes;
        });
      }
    }
  }

  /// Calls body(visit, list) for the query tiles that attend to keys of the block.
  template <class Body>
  void ForEachVisit(const Body& body) {
    for (int64_t i = 0; i < cut_.count(); ++i) {
      const products::KeyList list = ListKeys(mine_.query_tiles[i]);
      if (list.count > 0) ForEachHead(i, [&](const Visit& visit) { body(visit, list); });
    }
  }

  /// Stands before the haloed keys of the super tile, which the extra tokens follow.
  tile::KeyCursor halo() const { return {geometry::keys_of_any(mask_, super_.tokens), problem_.extra_tokens}; }

  /// Takes the next block of keys; false after the last.
  bool NextBlock(tile::KeyCursor& cursor) {
    used_ = 0;
    block_segments_ = 0;
    Base::values_finite_ = true;
    while (used_ < tiling_.block_keys && !cursor.done()) {
      tile::Segment& segment = mine_.block_segments[block_segments_++];
      segment = cursor.take(tiling_.block_keys - used_);
      segment.first = used_;
      used_ += segment.x3.size();
    }
    return block_segments_ > 0;
  }

  /// The keys of the block that some query of a query tile attends to; tile_segments says where they come from, and
  /// their place in mine_.tile.
  products::KeyList ListKeys(const QueryTile& queries) {
    RowList<Operators> list(mine_.index);
    tile_segments_ = 0;
    for (int64_t s = 0; s < block_segments_; ++s) {
      tile::Segment segment = mine_.block_segments[s];
      const int64_t offset = segment.first - segment.x3.begin;
      segment.x3 = queries.attended(segment);
      if (segment.x3.empty()) continue;
      segment.first = list.add({offset + segment.x3.begin, offset + segment.x3.end});
      mine_.tile_segments[tile_segments_++] = segment;
    }
    return list.list(mine_.lanes);
  }

  /// Calls body(piece) for the segments of the query tile in pieces of at most kRunKeys.
  template <class Body>
  void ForEachPiece(const Body& body) {
    for (int64_t s = 0; s < tile_segments_; ++s) {
      tile::Segment piece = mine_.tile_segments[s];
      const int64_t end = piece.x3.end;
      while (piece.x3.begin < end) {
        piece.x3.end = std::min(end, piece.x3.begin + kRunKeys);
        body(piece);
        piece.first += piece.x3.size();
        piece.x3.begin = piece.x3.end;
      }
    }
  }

  void HWY_ATTR PackQueries(const TokenView<const T>& queries, const Visit& visit) {
    const int64_t dim = queries.shape.dim;
    const float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      row[lane] =
          products::AsFloats(queries.row(super_.batch, visit.queries.token(lane), visit.head), dim, row_of(lane, dim));
    }
    const uint32_t lanes = Operators::PackQueries(row, dim, 1.0f, visit.memory, mine_.packing);
    if constexpr (!Operators::kTakesAll) misfits_->of(visit.tile) |= lanes;
  }

  /// First row of a segment and the distance to the next one.
  std::pair<const T*, int64_t> rows_of(const TokenView<const T>& tensor, const TokenView<const T>& extra,
                                       const tile::Segment& segment) const {
    if (segment.is_extra()) {
      return {extra.row(super_.batch, 0, 0, segment.x3.begin, super_.head_kv), extra.strides.layout[2]};
    }
    return Base::rows_at(tensor, {segment.x1, segment.x2, segment.x3.begin}, super_.head_kv);
  }

  /// biases: the table of the head, or null.
  void HWY_ATTR ScatterScores(const Visit& visit, float factor, const float* biases, const WeightRows& rows) {
    const QueryTile& queries = visit.queries;
    const uint32_t whole = Base::fills_in() ? misfits_->of(visit.tile) : products::kAllLanes<Lanes>;
    HWY_ALIGN float factors[Lanes];
    float* row[Lanes];
    float* weights[Lanes];
    int64_t entry[Lanes];  // the entry of a lane's query and the key at position 0: outside of the table for some
    for (int lane = 0; lane < Lanes; ++lane) {
      factors[lane] = factor;
      row[lane] = row_of(lane, kRunStride);
      weights[lane] = rows.row(super_.batch, queries.token(lane), visit.head);
      entry[lane] = table_.entry(position(queries.token(lane)), {0, 0, 0});
    }
    ForEachPiece([&](const tile::Segment& piece) HWY_ATTR {
      // Four keys more or less cost the same.
      products::LanesToRows<Lanes>(mine_.tile + piece.first * Lanes, (piece.x3.size() + 3) / 4 * 4, factors, row);
      for (uint32_t bits = queries.attending(piece); bits != 0; bits &= bits - 1) {
        const int lane = std::countr_zero(bits);
        const RowPart part = queries.part(lane, piece);
        const auto store = [&](const geometry::Range& x3) HWY_ATTR {
          float* const target = weights[lane] + part.column + x3.begin - part.x3.begin;
          hwy::Prefetch(target + kPrefetch);
          const float* const source = row[lane] + x3.begin - piece.x3.begin;
          if (biases == nullptr || piece.is_extra()) {
            CopyRun(source, x3.size(), target);
          } else {
            const int64_t first = entry[lane] + table_.place({piece.x1, piece.x2, x3.begin});
            AddBiases(source, biases + first, x3.size(), target);
          }
        };
        if ((whole >> lane & 1) != 0) {
          store(part.x3);
        } else {
          ForEachMisfit(piece, part.x3, store);
        }
      }
    });
  }

  /// Calls body for the keys in a part of a piece whose scores are left out.
  template <class Body>
  void ForEachMisfit(const tile::Segment& piece, const geometry::Range& x3, const Body& body) {
    // Noted in the order of the walk.
    const auto place = [](const tile::Segment& key) {
      return std::tuple(key.is_extra(), key.x1, key.x2, key.x3.begin);
    };
    const auto& keys = misfits_->keys;
    const std::tuple first(piece.is_extra(), piece.x1, piece.x2, x3.begin);
    const std::tuple end(piece.is_extra(), piece.x1, piece.x2, x3.end);
    auto key = std::lower_bound(keys.begin(), keys.end(), first,
                                [&](const tile::Segment& a, const auto& b) { return place(a) < b; });
    for (; key != keys.end() && place(*key) < end; ++key) body(key->x3);
  }

  void HWY_ATTR GatherWeights(const Visit& visit, const products::KeyList& list, const ConstWeightRows& rows) {
    const QueryTile& queries = visit.queries;
    const Floats d;
    // Rows of groups that are not among the pieces.
    if (Operators::kGroup > 1) std::fill_n(mine_.tile, list.count * Operators::kGroup * Lanes, 0.0f);
    constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(Floats()));
    float* row[Lanes];
    const float* weights[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      row[lane] = row_of(lane, kRunStride);
      weights[lane] = rows.row(super_.batch, queries.token(lane), visit.head);
    }
    ForEachPiece([&](const tile::Segment& piece) HWY_ATTR {
      for (int lane = 0; lane < Lanes; ++lane) {
        for (int64_t i = 0; i < piece.x3.size(); i += kStep) hn::StoreU(hn::Zero(d), d, row[lane] + i);
      }
      for (uint32_t bits = queries.attending(piece); bits != 0; bits &= bits - 1) {
        const int lane = std::countr_zero(bits);
        const RowPart part = queries.part(lane, piece);
        const float* const source = weights[lane] + part.column;
        hwy::Prefetch(source + kPrefetch);
        CopyAndZeros(source, part.x3.size(), row[lane] + part.x3.begin - piece.x3.begin);
      }
      products::RowsToLanes<Lanes>(row, (piece.x3.size() + 3) / 4 * 4, mine_.tile + piece.first * Lanes);
    });
  }

  /// Which lanes attend to the listed keys.
  void ListLanes(const QueryTile& queries) {
    for (int64_t s = 0; s < tile_segments_; ++s) {
      queries.attending_each(mine_.tile_segments[s], mine_.lanes + mine_.tile_segments[s].first);
    }
  }

  Token position(const Token& token) const {
    return {token[0] / axes_[0].dilation, token[1] / axes_[1].dilation, token[2] / axes_[2].dilation};
  }

  const geometry::BiasTable table_{axes_};
  int64_t used_ = 0;  ///< rows of the block
  int64_t block_segments_ = 0, tile_segments_ = 0;
};

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_GEMM_SUPER_TILE_INL_H_
