// What the tasks of both passes of banded share: a strip of queries over blocks of rows, and how rows of tensors come
// to lanes or become rows of floats. See banded.cpp.
#include <algorithm>
#include <cstdint>

#include "core/kernels/banded/scores-inl.h"
#include "core/kernels/banded/strips.h"
#include "core/kernels/banded/values-inl.h"
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

inline constexpr double kLog2E = 1.4426950408889634;

/// The rows of queries that are computed at a time: neighbours along the middle axis in a dilation group, for all query
/// heads of a kv head.
struct BlockShape {
  int64_t positions;    ///< along the middle axis
  int64_t heads;        ///< query heads of a kv head
  int64_t key_rows2;    ///< rows of keys along the middle axis, at most
  int64_t key_rows;     ///< and in all
  int64_t key_columns;  ///< keys of a strip in one of them, at most
  int64_t kept_rows;    ///< transposed rows of keys that are kept for the next block along the middle axis, or 1

  int64_t rows() const { return positions * heads; }

  BlockShape(const Problem& p, int lanes, Pass pass) : heads(p.heads / p.heads_kv) {
    const auto axes = p.axes3();
    const bool backward = pass == Pass::backward;
    // Queries on lanes and scores of a block stay in the first-level cache; backward, where as many rows as fit would
    // be too few for each row of keys, not all of them do.
    constexpr int64_t kMost = 8, kLeast = 3;
    const int64_t kBytes = (backward ? 64 : 40) << 10;
    const int64_t dims = p.head_dim + (backward ? p.head_dim_v : 0);
    const int64_t row_bytes = 4 * lanes * (dims + p.keys_per_query()) * heads;
    positions =
        std::min(std::clamp(kBytes / row_bytes, std::max<int64_t>(kLeast / heads, 1), kMost), axes[1].group_length(0));
    key_rows2 = std::min(axes[1].group_length(0), positions + axes[1].stride + axes[1].window);
    key_rows = axes[0].window * key_rows2;
    key_columns = most_keys(axes[2].window, lanes);
    // Beyond this a kept row comes from further away than its keys.
    constexpr int64_t kKeptBytes = 256 << 10;
    kept_rows = 4 * dims * key_columns * key_rows <= kKeptBytes ? key_rows : 1;
  }
};

/// What all tasks of a call know.
struct Geometry {
  const Problem& problem;
  const LaneOrder order;
  const BlockShape block;
  const std::array<Axis, 3> axes;
  const StripBiases& biases;
};

/// Where the blocks of a strip are.
struct BlockPlace {
  int64_t batch;
  int64_t g1, x1;  ///< of the first axis: dilation group, and position in it
  int64_t g2;      ///< dilation group of the middle axis
};

}  // namespace nalab::banded

#endif  // NALAB_CORE_KERNELS_BANDED_BLOCK_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// Whether rows of `dim` channels are used where they lie: as whole vectors of floats.
inline bool InPlace(const Problem& p, int64_t dim) { return p.type == ElementType::f32 && dim % kLanes == 0; }

inline int64_t PaddedChannels(int64_t dim) { return geometry::ceil_div(dim, kLanes) * kLanes; }

/// A row as floats, padded with zeros to whole vectors.
template <class T>
HWY_INLINE void CopyPadded(const T* source, int64_t dim, float* target) {
  simd::HWY_NAMESPACE::CopyToFloats(source, dim, target);
  std::fill(target + dim, target + PaddedChannels(dim), 0.0f);
}

/// Rows of keys, or of values, on lanes: some are kept for the next block along the middle axis.
struct KeptLanes {
  float* data;    ///< [kept rows][dim][pitch]
  int64_t* rows;  ///< [kept rows]: which row of keys along the middle axis it is
};

/// A strip of one batch entry, over blocks of rows.
template <class T>
class StripBlocks {
 protected:
  /// In a row of keys: of the strip's keys.
  using KeyOffsets = std::array<int64_t, 4 * kMaxLanes + 3 * kMaxWindow>;
  using RunRows = std::array<FloatRows, kMaxLanes>;

  HWY_ATTR StripBlocks(const Geometry& geometry, int64_t strip_number, const Strip& strip, const BlockPlace& place)
      : geometry_(geometry),
        problem_(geometry.problem),
        strip_number_(strip_number),
        strip_(strip),
        batch_(place.batch),
        window_(geometry.axes[2].window),
        columns_(problem_.keys_per_query()),
        x1_(place.x1),
        query_x1_(geometry.axes[0].coordinate(place.g1, place.x1)),
        g1_(place.g1),
        g2_(place.g2),
        mask2_(geometry.axes[1].group_mask(place.g2)),
        keys1_(geometry.axes[0].group_mask(place.g1).keys(place.x1)) {}

  /// The queries at positions `x2` of the middle axis come next.
  void Begin(geometry::Range x2) {
    x2_ = x2;
    rows_ = x2.size() * heads();
    keys2_ = mask2_.keys_of_any(x2);
  }

  int64_t heads() const { return geometry_.block.heads; }
  int64_t position2(int64_t row) const { return x2_.begin + row / heads(); }
  int64_t query_x2(int64_t row) const { return geometry_.axes[1].coordinate(g2_, position2(row)); }
  int64_t query_head(int lane, int64_t row) const { return strip_.query(lane).head_kv * heads() + row % heads(); }
  int64_t c1(int64_t k1) const { return geometry_.axes[0].coordinate(g1_, k1); }
  int64_t c2(int64_t k2) const { return geometry_.axes[1].coordinate(g2_, k2); }

  /// A row of queries of the block in a tensor with a row for each query.
  template <class U>
  U* QueryRow(const TokenView<U>& view, int lane, int64_t row) const {
    return view.row(batch_, query_x1_, query_x2(row), strip_.query(lane).x3, query_head(lane, row));
  }

  KeyOffsets OffsetsOfKeys(const TokenStrides& strides) const {
    KeyOffsets offsets;
    for (int64_t n = 0; n < strip_.keys(); ++n) {
      const Place& key = strip_.key(n);
      offsets[n] = key.x3 * strides.layout[2] + key.head_kv * strides.heads;
    }
    return offsets;
  }

  /// lanes[c * pitch] = factor * a row of queries of the block, of a tensor with a row for each query.
  template <class U>
  void HWY_ATTR QueryToLanes(const TokenView<const U>& view, int64_t row, float factor, int64_t pitch, float* lanes,
                             float* memory) const {
    const U* const first = view.row(batch_, query_x1_, query_x2(row), 0, row % heads());
    const auto query = [&](int64_t lane) HWY_ATTR {
      const Place& place = strip_.query(static_cast<int>(lane));
      return first + place.x3 * view.strides.layout[2] + place.head_kv * heads() * view.strides.heads;
    };
    ToLanes<U>(kLanes, view.shape.dim, query, factor, pitch, lanes, memory);
  }
  /// All rows of the block: [dim][rows][kLanes].
  void HWY_ATTR QueriesToLanes(const TokenView<const T>& view, float factor, float* lanes, float* memory) const {
    const int64_t pitch = geometry_.block.rows() * kLanes;
    for (int64_t row = 0; row < rows_; ++row) QueryToLanes(view, row, factor, pitch, lanes + row * kLanes, memory);
  }

  void ForgetKeys(const KeptLanes& kept) const { std::fill_n(kept.rows, geometry_.block.kept_rows, -1); }

  /// A row of keys on lanes: one that the block before has left, or a new one.
  const float* HWY_ATTR KeysToLanes(const TokenView<const T>& view, const KeyOffsets& offsets, int64_t k1, int64_t k2,
                                    const KeptLanes& kept, float* memory) const {
    const BlockShape& block = geometry_.block;
    const bool keeps = block.kept_rows > 1;
    const int64_t slot = keeps ? (k1 - keys1_.begin) * block.key_rows2 + k2 % block.key_rows2 : 0;
    float* const lanes = kept.data + slot * view.shape.dim * KeyPitch(window_);
    if (keeps && kept.rows[slot] == k2) return lanes;
    kept.rows[slot] = k2;
    const T* const first = view.row(batch_, c1(k1), c2(k2), 0, 0);
    ToLanes<T>(
        strip_.keys(), view.shape.dim, [&](int64_t n) HWY_ATTR { return first + offsets[n]; }, 1.0f, KeyPitch(window_),
        lanes, memory);
    return lanes;
  }

  /// Where the strip's keys in a row of keys are as rows of floats: in their tensor, or copied to `memory`.
  const float* HWY_ATTR KeysAsFloats(const TokenView<const T>& view, const KeyOffsets& offsets, int64_t k1, int64_t k2,
                                     float* memory) const {
    const T* const source = view.row(batch_, c1(k1), c2(k2), 0, 0);
    if constexpr (std::is_same_v<T, float>) {
      if (InPlace(problem_, view.shape.dim)) return source;
    }
    const int64_t channels = PaddedChannels(view.shape.dim);
    for (int64_t n = 0; n < strip_.keys(); ++n) CopyPadded(source + offsets[n], view.shape.dim, memory + n * channels);
    return memory;
  }

  /// Where one of them is, relative to that, and how far it is to the next one of a dilation group.
  int64_t FirstOf(const TokenView<const T>& view, const KeyOffsets& offsets, int64_t key) const {
    return InPlace(problem_, view.shape.dim) ? offsets[key] : key * PaddedChannels(view.shape.dim);
  }
  int64_t StepOf(const TokenView<const T>& view) const {
    return InPlace(problem_, view.shape.dim) ? view.strides.layout[2] * geometry_.axes[2].dilation
                                             : PaddedChannels(view.shape.dim);
  }

  /// The extra tokens of each run as rows of floats: in their tensor, or copied to `memory`.
  RunRows HWY_ATTR ExtraAsFloats(const TokenView<const T>& view, float* memory) const {
    RunRows rows{};
    if (problem_.extra_tokens == 0) return rows;
    const int64_t channels = PaddedChannels(view.shape.dim);
    for (int i = 0; i < strip_.runs(); ++i) {
      const int64_t head_kv = strip_.query(strip_.run(i).lane).head_kv;
      if constexpr (std::is_same_v<T, float>) {
        if (InPlace(problem_, view.shape.dim)) {
          rows[i] = {view.row(batch_, 0, 0, 0, head_kv), view.strides.layout[2]};
          continue;
        }
      }
      // Runs of one head may follow each other, or come again after those of others.
      int same = 0;
      while (same < i && strip_.query(strip_.run(same).lane).head_kv != head_kv) ++same;
      if (same < i) {
        rows[i] = rows[same];
        continue;
      }
      rows[i] = {memory, channels};
      for (int64_t n = 0; n < problem_.extra_tokens; ++n, memory += channels) {
        CopyPadded(view.row(batch_, 0, 0, n, head_kv), view.shape.dim, memory);
      }
    }
    return rows;
  }

  /// An extra token on lanes: each lane has that of its head.
  void HWY_ATTR ExtraToLanes(const TokenView<const T>& view, int64_t n, float* lanes, float* memory) const {
    ToLanes<T>(
        kLanes, view.shape.dim,
        [&](int64_t lane) HWY_ATTR { return view.row(batch_, 0, 0, n, strip_.query(static_cast<int>(lane)).head_kv); },
        1.0f, kLanes, lanes, memory);
  }

  /// The rows of queries of the block that attend to a row of keys: neighbours, as numbers of rows.
  geometry::Range RowsOf(int64_t k2) const {
    const geometry::Range queries = geometry::intersect(mask2_.queries(k2), x2_);
    return {(queries.begin - x2_.begin) * heads(), (queries.end - x2_.begin) * heads()};
  }
  /// The number of a row of keys among those that a row of queries attends to.
  int64_t KeyRow(int64_t row, int64_t k1, int64_t k2) const {
    const geometry::Range keys2 = mask2_.keys(position2(row));
    return (k1 - keys1_.begin) * keys2.size() + k2 - keys2.begin;
  }
  /// Columns of a row of queries, extra tokens not counted.
  int64_t ColumnsOf(int64_t row) const { return keys1_.size() * mask2_.keys(position2(row)).size() * window_; }

  /// Of all rows of keys of a block, those that a row of queries attends to.
  int64_t OwnRows(int64_t row, const float* const* all, const float** own) const {
    const geometry::Range keys2 = mask2_.keys(position2(row));
    for (int64_t k1 = 0; k1 < keys1_.size(); ++k1) {
      const float* const* first = all + k1 * keys2_.size() + keys2.begin - keys2_.begin;
      own = std::copy_n(first, keys2.size(), own);
    }
    return keys1_.size() * keys2.size();
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
  const int64_t x1_, query_x1_, g1_, g2_;
  const geometry::AxisMask mask2_;
  const geometry::Range keys1_;
  int64_t rows_ = 0;
  geometry::Range x2_, keys2_;
};

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_BLOCK_INL_H_
