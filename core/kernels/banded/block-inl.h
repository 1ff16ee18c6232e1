// What the tasks of both passes of banded share: a strip of queries over blocks of rows, and how rows of tensors come
// to lanes or become rows of floats. See banded.cpp.
#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/kernels/banded/block_shape.h"
#include "core/kernels/banded/cells-inl.h"
#include "core/kernels/banded/scores-inl.h"
#include "core/kernels/banded/strips.h"
#include "core/kernels/banded/tasks.h"
#include "core/kernels/banded/values-inl.h"
#include "core/kernels/tile/fetch.h"
#include "core/tensor/workspace.h"
#include "core/tensors.h"

#if defined(NALAB_CORE_KERNELS_BANDED_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_BLOCK_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_BLOCK_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_BLOCK_INL_H_
#endif

#ifndef NALAB_CORE_KERNELS_BANDED_BLOCK_ONCE
#define NALAB_CORE_KERNELS_BANDED_BLOCK_ONCE

namespace nalab::banded {

/// What all tasks of a call know.
struct Geometry {
  const Problem& problem;
  const LaneOrder order;
  const BlockShape block;
  const std::array<Axis, 3> axes;
  const StripBiases& biases;
  /// Whether rows of tensors are fetched before they are needed. The only row of a line is read in order.
  const bool fetch = tile::is_far(problem) && axes[0].extent * axes[1].extent > 1;
};

}  // namespace nalab::banded

#endif  // NALAB_CORE_KERNELS_BANDED_BLOCK_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// From one row of floats to the next, where rows of another type are copied.
inline int64_t PaddedChannels(int64_t dim) { return geometry::ceil_div(dim, kLanes) * kLanes; }

/// Rows of keys, or of values, that are kept for the next block, on lanes or as rows of cells.
struct KeptRows {
  float* data;       ///< [rows1][rows2][a row of keys]
  int64_t* numbers;  ///< [rows1][rows2]: which row of keys it is
  int64_t rows1, rows2;

  KeptRows() = default;
  KeptRows(int64_t count1, int64_t count2, int64_t cells, WorkspaceCutter& cutter)
      : data(cutter.take<float>(count1 * count2 * cells)),
        numbers(cutter.take<int64_t>(count1 * count2)),
        rows1(count1),
        rows2(count2) {}

  void forget() const { std::fill_n(numbers, rows1 * rows2, -1); }
};

/// Those that are on lanes, with so many cells a key.
inline KeptRows KeptOnLanes(const BlockShape& block, int64_t cells, WorkspaceCutter& cutter) {
  // Columns are loaded as whole vectors, also from the last cell.
  const int64_t size = cells * lane_pitch(block.key_columns) + 2 * kLanes;
  return block.kept_rows > 1 ? KeptRows(block.key_rows1, block.key_rows2, size, cutter) : KeptRows(1, 1, size, cutter);
}

/// Rows of cells, each of which holds an element of A::kElements rows of keys, that have some rows of keys along the
/// middle axis.
template <class A>
geometry::Range CellRowsOf(geometry::Range keys2) {
  return {keys2.begin / A::kElements, CellsOf<A>(keys2.end)};
}
/// How many there are for a block, at most.
template <class A>
int64_t MostCellRows(const BlockShape& block) {
  return CellsOf<A>(block.key_rows2 + A::kElements - 1);
}

/// A strip of one batch entry, over blocks of rows, whose elements are multiplied in cells of kind A.
template <class T, class A>
class StripBlocks {
 protected:
  /// Rows of floats are used where they lie, others are copied.
  static constexpr bool kInPlace = std::is_same_v<T, float>;
  static_assert(A::kElements == 1 || std::is_same_v<T, bf16>);
  /// In a row of keys: of the strip's keys.
  using KeyOffsets = std::array<int64_t, 4 * kMaxLanes + 3 * kMaxWindow>;
  using RunRows = std::array<CellRows, kMaxLanes>;
  /// In a row of queries: of the lanes' queries.
  using QueryOffsets = std::array<int64_t, kMaxLanes>;

  HWY_ATTR StripBlocks(const Geometry& geometry, int64_t strip_number, const Strip& strip, const BlockPlace& place)
      : geometry_(geometry),
        problem_(geometry.problem),
        strip_number_(strip_number),
        strip_(strip),
        batch_(place.batch),
        window_(geometry.axes[2].window),
        columns_(problem_.keys_per_query()),
        pitch_(lane_pitch(strip.keys())),
        g1_(place.g1),
        g2_(place.g2),
        mask1_(geometry.axes[0].group_mask(place.g1)),
        mask2_(geometry.axes[1].group_mask(place.g2)) {}

  /// The queries at a position of the first axis and at some of the middle axis come next.
  void Begin(int64_t x1, geometry::Range x2) {
    x1_ = x1;
    query_x1_ = c1(x1);
    keys1_ = mask1_.keys(x1);
    x2_ = x2;
    rows_ = x2.size() * heads();
    for (int64_t position = x2.begin; position < x2.end; ++position) {
      keys2_of_[position - x2.begin] = mask2_.keys(position);
    }
    keys2_ = {keys2_of_[0].begin, keys2_of_[x2.size() - 1].end};
  }

  int64_t heads() const { return geometry_.block.heads; }
  /// Of a row of queries: its position in the block, and along the middle axis; and the rows of keys along that axis
  /// that it attends to.
  int64_t position_of(int64_t row) const {
    return heads() == 1 ? row : static_cast<uint32_t>(row) / static_cast<uint32_t>(heads());
  }
  int64_t position2(int64_t row) const { return x2_.begin + position_of(row); }
  geometry::Range keys2_of(int64_t row) const { return keys2_of_[position_of(row)]; }
  int64_t query_x2(int64_t row) const { return geometry_.axes[1].coordinate(g2_, position2(row)); }
  int64_t c1(int64_t k1) const { return geometry_.axes[0].coordinate(g1_, k1); }
  int64_t c2(int64_t k2) const { return geometry_.axes[1].coordinate(g2_, k2); }

  /// A row of queries of the block in a tensor with a row for each query: where QueryOffsets are added to.
  template <class U>
  U* FirstQuery(const TokenView<U>& view, int64_t row) const {
    return view.row(batch_, query_x1_, query_x2(row), 0, row - position_of(row) * heads());
  }

  QueryOffsets OffsetsOfQueries(const TokenStrides& strides) const {
    QueryOffsets offsets;
    for (int lane = 0; lane < kLanes; ++lane) {
      const Place& query = strip_.query(lane);
      offsets[lane] = query.x3 * strides.layout[2] + query.head_kv * heads() * strides.heads;
    }
    return offsets;
  }

  KeyOffsets OffsetsOfKeys(const TokenStrides& strides) const {
    KeyOffsets offsets;
    for (int64_t n = 0; n < strip_.keys(); ++n) {
      const Place& key = strip_.key(n);
      offsets[n] = key.x3 * strides.layout[2] + key.head_kv * strides.heads;
    }
    return offsets;
  }

  /// lanes[c * pitch] = a row of queries of the block, of a tensor with a row for each query.
  template <class U>
  void HWY_ATTR QueryToLanes(const TokenView<const U>& view, const QueryOffsets& offsets, int64_t row, int64_t pitch,
                             float* lanes) const {
    const U* const first = FirstQuery(view, row);
    ToLanes<A, U>(
        kLanes, view.shape.dim, [&](int64_t lane) HWY_ATTR { return first + offsets[lane]; }, pitch, lanes);
  }
  /// All rows of the block: [cells][rows][kLanes].
  void HWY_ATTR QueriesToLanes(const TokenView<const T>& view, const QueryOffsets& offsets, float* lanes) const {
    const int64_t pitch = geometry_.block.rows() * kLanes;
    for (int64_t row = 0; row < rows_; ++row) {
      if (row + 1 < rows_) FetchQueries<tile::CacheLevel::first>(view, offsets, row + 1);
      QueryToLanes(view, offsets, row, pitch, lanes + row * kLanes);
    }
  }

  /// Where a row of keys is kept, and its number.
  int64_t SlotOf(const KeptRows& kept, int64_t k1, int64_t k2) const {
    const auto rest = [](int64_t a, int64_t b) { return static_cast<uint32_t>(a) % static_cast<uint32_t>(b); };
    return kept.rows1 * kept.rows2 == 1 ? 0 : rest(k1, kept.rows1) * kept.rows2 + rest(k2, kept.rows2);
  }
  int64_t NumberOf(int64_t k1, int64_t k2) const { return k1 * mask2_.length + k2; }
  bool Has(const KeptRows& kept, int64_t k1, int64_t k2) const {
    return kept.numbers[SlotOf(kept, k1, k2)] == NumberOf(k1, k2);
  }
  /// The slot of a row of keys, and whether it is there already; it will be.
  std::pair<int64_t, bool> Take(const KeptRows& kept, int64_t k1, int64_t k2) const {
    const int64_t slot = SlotOf(kept, k1, k2);
    return {slot, std::exchange(kept.numbers[slot], NumberOf(k1, k2)) == NumberOf(k1, k2)};
  }

  /// A row of keys on lanes: one that an earlier block has left, or a new one.
  const float* HWY_ATTR KeysToLanes(const TokenView<const T>& view, const KeyOffsets& offsets, int64_t k1, int64_t k2,
                                    const KeptRows& kept) const {
    const auto [slot, found] = Take(kept, k1, k2);
    float* const lanes = kept.data + slot * CellsOf<A>(view.shape.dim) * pitch_;
    if (found) return lanes;
    const T* const first = view.row(batch_, c1(k1), c2(k2), 0, 0);
    ToLanes<A, T>(
        strip_.keys(), view.shape.dim, [&](int64_t n) HWY_ATTR { return first + offsets[n]; }, pitch_, lanes);
    return lanes;
  }

  /// Fetches the strip's keys of a row of keys, if the call fetches: the hardware sees no pattern from one row to the
  /// next.
  template <tile::CacheLevel level, class U>
  void FetchKeys(const TokenView<U>& view, const KeyOffsets& offsets, int64_t k1, int64_t k2) const {
    if (!geometry_.fetch) return;
    const U* const first = view.row(batch_, c1(k1), c2(k2), 0, 0);
    for (int64_t n = 0; n < strip_.keys(); ++n) tile::fetch_row<level>(first + offsets[n], view.shape.dim);
  }
  /// The same for a row of queries.
  template <tile::CacheLevel level, class U>
  void FetchQueries(const TokenView<U>& view, const QueryOffsets& offsets, int64_t row) const {
    if (!geometry_.fetch) return;
    U* const first = FirstQuery(view, row);
    for (int lane = 0; lane < strip_.lanes(); ++lane) tile::fetch_row<level>(first + offsets[lane], view.shape.dim);
  }

  /// Where the strip's keys in a row of cells are, `n` along the middle axis: in their tensor, or copied and kept.
  const float* HWY_ATTR KeysAsRows(const TokenView<const T>& view, const KeyOffsets& offsets, int64_t k1, int64_t n,
                                   const KeptRows& kept) const {
    const T* const source = view.row(batch_, c1(k1), c2(n * A::kElements), 0, 0);
    if constexpr (kInPlace) {
      return source;
    } else {
      const int64_t channels = PaddedChannels(view.shape.dim);
      const auto [slot, found] = Take(kept, k1, n);
      float* const rows = kept.data + slot * geometry_.block.key_columns * channels;
      if (found) return rows;
      const int64_t next = n * A::kElements + 1;
      const T* const second = next < mask2_.length ? view.row(batch_, c1(k1), c2(next), 0, 0) : nullptr;
      for (int64_t key = 0; key < strip_.keys(); ++key) {
        A::CopyRows(source + offsets[key], second == nullptr ? nullptr : second + offsets[key], view.shape.dim,
                    rows + key * channels);
      }
      return rows;
    }
  }

  /// Where one of them is, relative to that, and how far it is to the next one of a dilation group.
  int64_t FirstOf(const TokenView<const T>& view, const KeyOffsets& offsets, int64_t key) const {
    return kInPlace ? offsets[key] : key * PaddedChannels(view.shape.dim);
  }
  int64_t StepOf(const TokenView<const T>& view) const {
    return kInPlace ? view.strides.layout[2] * geometry_.axes[2].dilation : PaddedChannels(view.shape.dim);
  }

  /// The extra tokens of each run as rows of cells: in their tensor, or copied to `memory`.
  RunRows HWY_ATTR ExtraAsRows(const TokenView<const T>& view, float* memory) const {
    RunRows rows{};
    if (problem_.extra_tokens == 0) return rows;
    const int64_t channels = PaddedChannels(view.shape.dim);
    for (int i = 0; i < strip_.runs(); ++i) {
      const int64_t head_kv = strip_.query(strip_.run(i).lane).head_kv;
      if constexpr (kInPlace) {
        rows[i] = {view.row(batch_, 0, 0, 0, head_kv), view.strides.layout[2], view.shape.dim};
        continue;
      }
      // Runs of one head may follow each other, or come again after those of others.
      int same = 0;
      while (same < i && strip_.query(strip_.run(same).lane).head_kv != head_kv) ++same;
      if (same < i) {
        rows[i] = rows[same];
        continue;
      }
      rows[i] = {memory, channels, view.shape.dim};
      const auto token = [&](int64_t n) {
        return n < problem_.extra_tokens ? view.row(batch_, 0, 0, n, head_kv) : nullptr;
      };
      for (int64_t n = 0; n < problem_.extra_tokens; n += A::kElements, memory += channels) {
        A::CopyRows(token(n), token(n + 1), view.shape.dim, memory);
      }
    }
    return rows;
  }

  /// Stores a row of queries in a tensor of any type: for each lane a factor times the sum of rows by weights, which
  /// list(run) has. Rows that are not float pass through `floats` [kLanes][padded channels].
  template <class List>
  void HWY_ATTR StoreSums(const TensorView& target, const QueryOffsets& offsets, int64_t row, const float* factors,
                          float* floats, const List& list) const {
    const int64_t dim = target.shape.dim;
    float* rows[kLanes];
    const auto sum = [&]() HWY_ATTR {
      for (int i = 0; i < strip_.runs(); ++i) Sums<A>(list(i), strip_.run(i), window_, {rows, factors});
    };
    with_element_type(target.type, [&](auto element) HWY_ATTR {
      using U = decltype(element);
      U* const first = FirstQuery(target.as<U>(), row);
      if constexpr (std::is_same_v<U, float>) {
        for (int lane = 0; lane < kLanes; ++lane) rows[lane] = first + offsets[lane];
        sum();
      } else {
        for (int lane = 0; lane < kLanes; ++lane) rows[lane] = floats + lane * PaddedChannels(dim);
        sum();
        for (int lane = 0; lane < strip_.lanes(); ++lane) {
          simd::HWY_NAMESPACE::CopyFromFloats(rows[lane], dim, first + offsets[lane]);
        }
      }
    });
  }

  /// An extra token on lanes: each lane has that of its head.
  void HWY_ATTR ExtraToLanes(const TokenView<const T>& view, int64_t n, float* lanes) const {
    ToLanes<A, T>(
        kLanes, view.shape.dim,
        [&](int64_t lane) HWY_ATTR { return view.row(batch_, 0, 0, n, strip_.query(static_cast<int>(lane)).head_kv); },
        kLanes, lanes);
  }

  /// The rows of queries of the block that attend to a row of keys: neighbours, as numbers of rows.
  geometry::Range RowsOf(int64_t k2) const {
    // Neither end of a window ever moves back from one query to the next.
    int64_t begin = 0, end = x2_.size();
    while (begin < end && keys2_of_[begin].end <= k2) ++begin;
    while (begin < end && keys2_of_[end - 1].begin > k2) --end;
    return {begin * heads(), end * heads()};
  }
  /// The number of a row of keys among those that a row of queries attends to.
  int64_t KeyRow(int64_t row, int64_t k1, int64_t k2) const {
    const geometry::Range keys2 = keys2_of(row);
    return (k1 - keys1_.begin) * keys2.size() + k2 - keys2.begin;
  }
  /// Columns of a row of queries, extra tokens not counted.
  int64_t ColumnsOf(int64_t row) const { return keys1_.size() * keys2_of(row).size() * window_; }

  /// Of all rows of cells of a block, those that a row of queries attends to.
  int64_t OwnRows(int64_t row, const float* const* all, const float** own) const {
    const geometry::Range of_block = CellRowsOf<A>(keys2_), rows = CellRowsOf<A>(keys2_of(row));
    for (int64_t k1 = 0; k1 < keys1_.size(); ++k1) {
      own = std::copy_n(all + k1 * of_block.size() + rows.begin - of_block.begin, rows.size(), own);
    }
    return keys1_.size() * rows.size();
  }

  /// The weights of a row of queries, [rows of keys][window][kLanes] and those of extra tokens, become pairs in place,
  /// in rows of cells. halves: what the row attends to of each of them; zeros stand for the other halves.
  void HWY_ATTR PackWeights(int64_t row, float* weights, uint32_t* halves) const {
    const geometry::Range keys2 = keys2_of(row);
    const int64_t row_floats = window_ * kLanes;
    float* target = weights;
    for (int64_t k1 = 0; k1 < keys1_.size(); ++k1) {
      for (int64_t k2 = keys2.begin; k2 < keys2.end; target += row_floats) {
        const bool low = k2 % 2 == 0, high = !low || k2 + 1 < keys2.end;
        *halves++ = (low ? 0x0000FFFFu : 0) | (high ? 0xFFFF0000u : 0);
        weights = PackRows(weights, low, high, row_floats, target);
        k2 += low && high ? 2 : 1;
      }
    }
    for (int64_t n = 0; n < problem_.extra_tokens; n += 2, target += kLanes) {
      weights = PackRows(weights, true, n + 1 < problem_.extra_tokens, kLanes, target);
    }
  }
  /// One or two rows of floats, one after the other, become one of pairs. Returns the row that follows them.
  static float* HWY_ATTR PackRows(float* rows, bool low, bool high, int64_t floats, float* pairs) {
    const Floats d;
    const float* const second = low ? rows + floats : rows;
    for (int64_t c = 0; c < floats; c += kLanes) {
      const VF even = low ? hn::Load(d, rows + c) : hn::Zero(d), odd = high ? hn::Load(d, second + c) : hn::Zero(d);
      A::StorePairs(even, odd, pairs + c);
    }
    return rows + (low && high ? 2 : 1) * floats;
  }

  /// The lanes that attend to a column of their windows: a causal axis hides some.
  auto HWY_ATTR Attends(int64_t column) const {
    const hn::RebindToSigned<Floats> di;
    return hn::RebindMask(Floats(), hn::Gt(hn::Load(di, strip_.count()), hn::Set(di, static_cast<int32_t>(column))));
  }

  const Geometry& geometry_;
  const Problem& problem_;
  const int64_t strip_number_;
  const Strip& strip_;
  const int64_t batch_;
  const int64_t window_, columns_;
  const int64_t pitch_;  ///< from one channel of keys on lanes to the next
  const int64_t g1_, g2_;
  const geometry::AxisMask mask1_, mask2_;
  int64_t rows_ = 0;
  int64_t x1_ = 0, query_x1_ = 0;
  geometry::Range keys1_, x2_, keys2_;
  std::array<geometry::Range, BlockShape::kMostPositions> keys2_of_;  ///< of each position of the block
};

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_BLOCK_INL_H_
