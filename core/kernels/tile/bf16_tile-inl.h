// The arithmetic of a query tile in native bf16 dot products, beside float_tile-inl.h.
//
// Highway 1.0.3 has no native bf16 dot product, so two loops are written with the intrinsic, in functions of their
// own that are called once per query tile and block. An instruction multiplies pairs of bf16 and adds to float32:
// elements adjacent in head_dim are paired for the scores, keys adjacent in the block for the values. Weights are
// rounded to bf16; their sums are not. On AMD Zen 4 and 5 this doubles the rate of float arithmetic; on the Intel CPUs
// measured it halves it.
#include <bit>
#include <cstring>

#include "core/kernels/tile/float_tile-inl.h"
#include "core/kernels/tile/unit_numbers-inl.h"

#if defined(NALAB_CORE_KERNELS_TILE_BF16_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_BF16_TILE_INL_H_
#undef NALAB_CORE_KERNELS_TILE_BF16_TILE_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_BF16_TILE_INL_H_
#endif

#if HWY_TARGET == HWY_AVX3

#include <immintrin.h>

#define NALAB_BF16_ATTR __attribute__((target("avx512bf16")))

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

using Cells = hn::RebindToUnsigned<Floats>;
using VC = hn::Vec<Cells>;

/// sum + a.low * b.low + a.high * b.high in each cell.
HWY_INLINE NALAB_BF16_ATTR VF DotPairs(VF sum, VC a, VC b) {
  return VF{_mm512_dpbf16_ps(sum.raw, (__m512bh)a.raw, (__m512bh)b.raw)};
}

template <int Lanes>
struct Bf16Arithmetic {
  static constexpr int kLanes = Lanes;
  static constexpr int kRows = RegisterTile<Lanes>::kRows;
  static constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  static constexpr int kStep = Lanes / kVectors;
  static constexpr int64_t kKeyAlignment = 2;  ///< values of two keys share a cell
  static constexpr int64_t kGroup = 1;
  static constexpr bool kTakesAll = true;
  static_assert(kRows == 8);
  template <class T>
  static constexpr bool kAccepts = std::is_same_v<T, bf16>;

  using Element = bf16;
  using Scope = NoScope;

  /// As FloatArithmetic, but a cell holds a pair: elements adjacent in a row for queries and keys, the same column of
  /// two keys for values. Queries are packed in place from floats.
  static int64_t query_floats(int64_t dim) { return dim * Lanes; }
  static int64_t key_floats(int64_t dim) { return (dim + 1) / 2; }
  static int64_t panel_stride(int64_t block_keys) { return block_keys * kRows + kPanelGap; }
  static int64_t panel_floats(int64_t block_keys, int64_t dim_v) {
    return (dim_v + kRows - 1) / kRows * panel_stride(block_keys);
  }
  static int64_t score_floats(int64_t block_keys) { return (block_keys + kRows) * Lanes; }
  static int64_t packing_floats(int64_t, int64_t) { return 0; }
  static int64_t block_rows(int64_t block_keys) { return block_keys; }

  /// q: [pairs of dim][Lanes].
  static HWY_INLINE uint32_t PackQueries(const float* const (&row)[Lanes], int64_t dim, float sign, float* q, float*) {
    RowsToLanes<Lanes>(row, dim, q, Lanes, sign);
    const Cells dc;
    const Floats d;
    for (int64_t c = 0; c < dim; c += 2) {
      for (int v = 0; v < kVectors; ++v) {
        const VC low = hn::ShiftRight<16>(hn::BitCast(dc, hn::Load(d, q + c * Lanes + v * kStep)));
        VC high = hn::Zero(dc);
        if (c + 1 < dim) high = hn::BitCast(dc, hn::Load(d, q + (c + 1) * Lanes + v * kStep));
        // Queries come from bf16: the lower half of each float is zero.
        hn::Store(hn::BitCast(d, hn::Or(low, high)), d, q + c / 2 * Lanes + v * kStep);
      }
    }
    return 0;
  }

  static HWY_INLINE bool PackKeys(const bf16* key, int64_t key_step, int64_t dim, const bf16* value, int64_t value_step,
                                  int64_t dim_v, int64_t count, int64_t used, const Block& block, float*) {
    for (int64_t n = 0; n < count; ++n) {
      float* const target = block.keys + (used + n) * key_floats(dim);
      target[key_floats(dim) - 1] = 0.0f;
      std::memcpy(target, key + n * key_step, static_cast<std::size_t>(dim) * sizeof(bf16));
    }
    const hn::FixedTag<uint16_t, kRows> d16;
    const hn::FixedTag<uint32_t, kRows> d32;
    const hn::Repartition<uint16_t, decltype(d32)> halves;
    const auto exponent = hn::Set(halves, uint16_t{0x7F80});
    auto greatest = hn::Zero(halves);
    for (int64_t n = 0; n < count; n += 2, value += 2 * value_step) {
      const auto* const low = reinterpret_cast<const uint16_t*>(value);
      const auto* const high = reinterpret_cast<const uint16_t*>(value + value_step);
      const bool pair = n + 1 < count;
      float* target = block.values + (used + n) / 2 * kRows;
      for (int64_t c = 0; c < dim_v; c += kRows, target += block.panel_stride) {
        HWY_ALIGN uint16_t rest[2][kRows] = {};
        const bool whole = c + kRows <= dim_v;
        if (!whole) {
          std::copy(low + c, low + dim_v, rest[0]);
          if (pair) std::copy(high + c, high + dim_v, rest[1]);
        }
        auto cells = hn::PromoteTo(d32, hn::LoadU(d16, whole ? low + c : rest[0]));
        if (pair) {
          cells = hn::Or(cells, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, whole ? high + c : rest[1]))));
        }
        greatest = hn::Max(greatest, hn::And(hn::BitCast(halves, cells), exponent));
        hn::StoreU(hn::BitCast(hn::FixedTag<float, kRows>(), cells), hn::FixedTag<float, kRows>(), target);
      }
    }
    return hn::AllFalse(halves, hn::Eq(greatest, exponent));
  }

  static HWY_INLINE void FinishBlock(int64_t, int64_t, int64_t, const Block&, float*) {}

  static HWY_INLINE void Visit(NoScope&, const TileVisit& visit, const TileState& state, float* scores) {
    OnlineVisit<Bf16Arithmetic>(visit, state, scores);
  }

  static NALAB_BF16_ATTR void Scores(const float* q, const Block& block, int64_t dim, const KeyList& list,
                                     const LaneBiases& biases, float* scores, float* maxima) {
    const Floats d;
    const Cells dc;
    const int64_t pairs = key_floats(dim);
    for (int64_t n = 0; n < list.count; n += kRows) {
      const float* row[kRows];
      uint32_t common = kAllLanes<Lanes>;
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        row[i] = block.keys + list.index[n + i] * pairs;
        common &= list.lanes[n + i];
      }
      VF sum[kRows][kVectors];
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
        for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
      }
      for (int64_t c = 0; c < pairs; ++c) {
        VC query[kVectors];
#pragma GCC unroll 32
        for (int v = 0; v < kVectors; ++v) query[v] = hn::BitCast(dc, hn::Load(d, q + c * Lanes + v * kStep));
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
          const VC key = hn::Set(dc, std::bit_cast<uint32_t>(row[i][c]));
#pragma GCC unroll 32
          for (int v = 0; v < kVectors; ++v) sum[i][v] = DotPairs(sum[i][v], query[v], key);
        }
      }
      FinishScores<Lanes>(list, n, common, biases, sum, scores, maxima);
    }
  }

  /// Scores become weights in place: pairs of keys, [pairs][Lanes].
  static HWY_INLINE void Weigh(const KeyList& list, float exponent_scale, const VF (&maxima)[kVectors], float* scores,
                               VF (&sums)[kVectors]) {
    VF even[kVectors];
    Weights<Lanes, false>(list, exponent_scale, maxima, scores, sums,
                          [&](int64_t n, const VF(&weight)[kVectors]) HWY_ATTR {
#pragma GCC unroll 32
                            for (int v = 0; v < kVectors; ++v) {
                              if (n % 2 == 0) {
                                even[v] = weight[v];
                              } else {
                                StorePairs<1>(even[v], weight[v], scores + n / 2 * Lanes + v * kStep, 0);
                              }
                            }
                          });
  }

  template <bool Careful>
  static NALAB_BF16_ATTR void AddValues(const float* weights, const Block& block, int64_t panels, const KeyList& list,
                                        const VF (&correction)[kVectors], float* out) {
    const Floats d;
    const Cells dc;
    for (int64_t panel = 0; panel < panels; ++panel) {
      const float* const base = block.values + panel * block.panel_stride;
      VF sum[kRows][kVectors];
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
        for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
      }
      for (int64_t n = 0; n < list.count; n += 2) {
        const float* const value = base + list.index[n] / 2 * kRows;
        VC weight[kVectors];
        VC attended[kVectors];  // the halves of a cell whose key the lane attends to
#pragma GCC unroll 32
        for (int v = 0; v < kVectors; ++v) {
          weight[v] = hn::BitCast(dc, hn::Load(d, weights + n / 2 * Lanes + v * kStep));
          if constexpr (Careful) {
            const auto low = hn::RebindMask(dc, LaneMask(list.lanes[n], v));
            const auto high = hn::RebindMask(dc, LaneMask(list.lanes[n + 1], v));
            attended[v] = hn::Or(hn::IfThenElseZero(low, hn::Set(dc, 0x0000FFFFu)),
                                 hn::IfThenElseZero(high, hn::Set(dc, 0xFFFF0000u)));
          }
        }
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
          const VC x = hn::Set(dc, std::bit_cast<uint32_t>(value[i]));
#pragma GCC unroll 32
          for (int v = 0; v < kVectors; ++v) {
            sum[i][v] = DotPairs(sum[i][v], weight[v], Careful ? hn::And(x, attended[v]) : x);
          }
        }
      }
      FinishValues<Lanes>(sum, correction, out + panel * kRows * Lanes);
    }
  }
};

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_TILE_BF16_TILE_INL_H_
