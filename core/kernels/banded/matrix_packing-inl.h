// Queries, keys and values of a strip as tiles of a matrix unit, and its products. See matrix.cpp.
//
// The keys of a strip in one row of keys follow those of the row before, padded to a multiple of 8: so the keys that a
// row of queries attends to are one range for each position along the first axis. Keys lie in tiles of 16, pairs of
// channels transposed; a range begins within a tile, and scores beyond it are not looked at. Values lie in rows of two
// keys, whose channels alternate, so a range may begin with any row; what unpacking does to the order of channels is
// undone when results are stored.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/kernels/banded/strips.h"
#include "core/kernels/tile/matrix_tile-inl.h"
#include "core/simd/targets.h"
#include "core/tensor/element.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_BANDED_MATRIX_PACKING_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_MATRIX_PACKING_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_MATRIX_PACKING_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_MATRIX_PACKING_INL_H_
#endif

#ifndef NALAB_CORE_KERNELS_BANDED_MATRIX_PACKING_ONCE
#define NALAB_CORE_KERNELS_BANDED_MATRIX_PACKING_ONCE

namespace nalab::banded {

using tile::kUnitCells;
using tile::kUnitStep;

/// Queries of a strip: the rows of a tile.
inline constexpr int kQueries = tile::kUnitRows;

inline constexpr int64_t round_up(int64_t n, int64_t step) { return geometry::ceil_div(n, step) * step; }
/// Keys of a strip in a row of keys, padded.
inline constexpr int64_t padded_keys(int64_t keys) { return round_up(keys, 8); }

/// The sizes of a problem's operands.
struct MatrixShape {
  int64_t heads;        ///< query heads of a kv head
  int64_t steps;        ///< of 32 channels of a query
  int64_t panels;       ///< of 32 channels of a value
  int64_t planes;       ///< rows of keys of a query along the first axis, at most
  int64_t rows;         ///< and along the middle axis
  int64_t most_pitch;   ///< padded keys of a strip in a row of keys, at most
  int64_t plane_keys;   ///< padded keys that are packed at a time for each position along the first axis, at most
  int64_t extra_pitch;  ///< padded extra tokens of a head
  int64_t extra_keys;   ///< those of all heads of a strip, in whole steps of the second product

  explicit MatrixShape(const Problem& p)
      : heads(p.heads / p.heads_kv),
        steps(tile::unit_steps(p.head_dim)),
        panels(tile::unit_steps(p.head_dim_v)),
        extra_pitch(padded_keys(p.extra_tokens)),
        extra_keys(round_up(std::min<int64_t>(p.heads_kv, kQueries) * extra_pitch, kUnitStep)) {
    const auto axes = p.axes3();
    planes = axes[0].window;
    rows = axes[1].window;
    most_pitch = padded_keys(LaneOrder(p, kQueries).most_keys());
    // A quarter of a second-level cache of 2 MiB. The fewer rows of keys, the more of them serve two blocks.
    constexpr int64_t kBytes = 512 << 10;
    const int64_t wanted = kBytes / (planes * 2 * kUnitStep * (steps + panels));
    const int64_t all = axes[1].group_length(0) * most_pitch;
    plane_keys = round_up(std::max(std::min(wanted, all), rows * most_pitch), kUnitCells);
  }

  /// Cells of 32 bits of a tile of 16 keys, and of a row of two values.
  int64_t key_tile_cells() const { return steps * kUnitCells * kUnitCells; }
  int64_t value_row_cells() const { return panels * kUnitStep; }
  /// Elements of a row of a tensor that waits to be packed.
  int64_t row_elements() const { return std::max(steps, panels) * kUnitStep; }

  /// Scores and weights from one query to the next, extra tokens first: an odd number of cache lines, and a vector
  /// beyond the last column may be touched.
  int64_t score_step(int64_t pitch) const {
    const int64_t columns = extra_keys + planes * round_up(rows * pitch + kUnitCells - 1, kUnitCells);
    return (geometry::ceil_div(columns + kMaxLanes, kUnitCells) | 1) * kUnitCells;
  }
  int64_t weight_step(int64_t pitch) const {
    const int64_t columns = extra_keys + planes * round_up(rows * pitch, kUnitStep);
    return (geometry::ceil_div(columns + kMaxLanes, kUnitStep) | 1) * kUnitStep;
  }
};

}  // namespace nalab::banded

#endif  // NALAB_CORE_KERNELS_BANDED_MATRIX_PACKING_ONCE

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;

/// Whether the unit takes n numbers.
HWY_INLINE bool Fits(const bf16* numbers, int64_t n) { return tile::HWY_NAMESPACE::MatrixLayout<1>::fits(numbers, n); }

/// Copies rows of `dim` elements, filled up to whole steps with zeros: [count][row_elements]. Returns whether the unit
/// takes all of their numbers.
template <class Row>
HWY_INLINE bool CopyRows(int64_t count, const Row& row, int64_t dim, int64_t row_elements, uint16_t* target) {
  tile::HWY_NAMESPACE::RangeCheck<1> check;
  if (dim % kUnitStep == 0) {
    const hn::ScalableTag<uint16_t> d;
    for (int64_t n = 0; n < count; ++n, target += row_elements) {
      const auto* const bits = reinterpret_cast<const uint16_t*>(row(n));
      for (int64_t c = 0; c < dim; c += static_cast<int64_t>(hn::MaxLanes(d))) {
        const auto numbers = hn::LoadU(d, bits + c);
        check.Add(numbers);
        hn::Store(numbers, d, target + c);
      }
    }
    return check.Holds();
  }
  for (int64_t n = 0; n < count; ++n, target += row_elements) {
    tile::HWY_NAMESPACE::PackParts<1>(row(n), dim, target, kUnitStep, 0, check);
  }
  return check.Holds();
}

/// Rows of `cells` pairs of channels to tiles of 16 keys, from key `first` of the tiles on; `first` and `count` are
/// multiples of 8.
inline void HWY_ATTR KeysToTiles(const uint16_t* rows, int64_t row_elements, int64_t count, int64_t cells,
                                 int64_t first, float* tiles) {
  const float* row[kUnitCells];
  for (int64_t n = 0; n < count;) {
    const int64_t key = first + n, column = key % kUnitCells;
    for (int i = 0; i < kUnitCells; ++i) {
      row[i] = reinterpret_cast<const float*>(rows + std::min(n + i, count - 1) * row_elements);
    }
    float* const target = tiles + key / kUnitCells * cells * kUnitCells + column;
    if (column == 0 && n + kUnitCells <= count) {
      tile::HWY_NAMESPACE::RowsToLanes<kUnitCells>(row, cells, target, kUnitCells);
      n += kUnitCells;
    } else {
      tile::HWY_NAMESPACE::RowsToLanes<kUnitCells / 2>(row, cells, target, kUnitCells);
      n += kUnitCells / 2;
    }
  }
}

/// Rows to rows of two values, for an even number of them.
inline void HWY_ATTR ValuesToRows(const uint16_t* rows, int64_t row_elements, int64_t count, int64_t cells,
                                  float* target) {
  const hn::ScalableTag<uint16_t> d;
  constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(d));
  for (int64_t n = 0; n < count; n += 2, rows += 2 * row_elements, target += cells) {
    for (int64_t c = 0; c < cells; c += kStep) {
      const auto even = hn::Load(d, rows + c), odd = hn::Load(d, rows + row_elements + c);
      auto* const pairs = reinterpret_cast<uint16_t*>(target + c / kUnitStep * kUnitStep + c % kUnitStep / 2);
      hn::Store(hn::InterleaveLower(d, even, odd), d, pairs);
      hn::Store(hn::InterleaveUpper(d, even, odd), d, pairs + 2 * kUnitCells);
    }
  }
}

/// Where a channel of a panel of 32 lies in its row of two values, and in sums of them.
constexpr int64_t PlaceOfChannel(int64_t channel) {
  const int64_t block = channel / 4;
  return block % 2 * kUnitCells + block / 2 * 4 + channel % 4;
}

/// row[c] = factor * sum of channel c, rounded; sums are finite.
template <class T>
HWY_INLINE void StoreSums(const float* sums, float factor, int64_t dim, T* row) {
  if constexpr (std::is_same_v<T, bf16>) {
    const Floats d;
    const hn::RebindToSigned<Floats> di;
    const hn::ScalableTag<int16_t> d16;
    constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(d16));
    const VF factors = hn::Set(d, factor);
    // Halves away from zero: as good as to even, and cheaper.
    const auto upper_half = [&](const float* p) HWY_ATTR {
      return hn::ShiftRight<16>(hn::Add(hn::BitCast(di, hn::Mul(hn::Load(d, p), factors)), hn::Set(di, 0x8000)));
    };
    for (int64_t c = 0; c < dim; c += kStep) {
      const float* const own = sums + c / kUnitStep * kUnitStep + c % kUnitStep / 2;
      const auto channels = hn::ReorderDemote2To(d16, upper_half(own), upper_half(own + kUnitCells));
      auto* const target = reinterpret_cast<int16_t*>(row + c);
      if (c + kStep <= dim) {
        hn::StoreU(channels, d16, target);
      } else {
        HWY_ALIGN int16_t rest[kStep];
        hn::Store(channels, d16, rest);
        std::copy_n(rest, dim - c, target);
      }
    }
  } else {
    for (int64_t c = 0; c < dim; ++c) {
      row[c] = from_float<T>(factor * sums[c / kUnitStep * kUnitStep + PlaceOfChannel(c % kUnitStep)]);
    }
  }
}

/// A part of the inner dimension of a product: steps of 32.
struct InnerSteps {
  const float* a;
  const float* b;
  int64_t count;
};

/// How tiles of both factors lie, in cells: from row to row, from step to step, and of b from tile to tile.
struct FactorLayout {
  int64_t a_row, b_row, b_step, b_tile;
};

/// Tiles [0, N) of target, side by side, become sums over all steps of `parts`: 16 rows, target_row apart.
template <int N, class MatrixUnit>
HWY_INLINE void MultiplySomeTiles(MatrixUnit& unit, const InnerSteps* parts, int64_t count, const FactorLayout& layout,
                                  int64_t first, float* target, int64_t target_row) {
  unit.template Zero<0>();
  if constexpr (N > 1) unit.template Zero<1>();
  if constexpr (N > 2) unit.template Zero<2>();
  if constexpr (N > 3) unit.template Zero<3>();
  for (int64_t part = 0; part < count; ++part) {
    const float* a = parts[part].a;
    const float* b = parts[part].b + first * layout.b_tile;
    for (int64_t step = 0; step < parts[part].count; ++step, a += kUnitCells, b += layout.b_step) {
      unit.template Load<4>(a, layout.a_row);
      unit.template Load<5>(b, layout.b_row);
      unit.template MultiplyAdd<0, 4, 5>();
      if constexpr (N > 1) {
        unit.template Load<6>(b + layout.b_tile, layout.b_row);
        unit.template MultiplyAdd<1, 4, 6>();
      }
      if constexpr (N > 2) {
        unit.template Load<7>(b + 2 * layout.b_tile, layout.b_row);
        unit.template MultiplyAdd<2, 4, 7>();
      }
      if constexpr (N > 3) {
        unit.template Load<5>(b + 3 * layout.b_tile, layout.b_row);
        unit.template MultiplyAdd<3, 4, 5>();
      }
    }
  }
  float* const tiles = target + first * kUnitCells;
  unit.template Store<0>(tiles, target_row);
  if constexpr (N > 1) unit.template Store<1>(tiles + kUnitCells, target_row);
  if constexpr (N > 2) unit.template Store<2>(tiles + 2 * kUnitCells, target_row);
  if constexpr (N > 3) unit.template Store<3>(tiles + 3 * kUnitCells, target_row);
}

/// The same for any number of tiles.
template <class MatrixUnit>
HWY_INLINE void MultiplyTiles(MatrixUnit& unit, const InnerSteps* parts, int64_t count, const FactorLayout& layout,
                              int64_t tiles, float* target, int64_t target_row) {
  int64_t n = 0;
  for (; n + 4 <= tiles; n += 4) MultiplySomeTiles<4>(unit, parts, count, layout, n, target, target_row);
  switch (tiles - n) {
    case 3:
      return MultiplySomeTiles<3>(unit, parts, count, layout, n, target, target_row);
    case 2:
      return MultiplySomeTiles<2>(unit, parts, count, layout, n, target, target_row);
    case 1:
      return MultiplySomeTiles<1>(unit, parts, count, layout, n, target, target_row);
    default:
      return;
  }
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_BANDED_MATRIX_PACKING_INL_H_
