// What a query tile's arithmetic works on, and the contract that every arithmetic keeps.
#include <concepts>
#include <cstdint>
#include <limits>

#include "core/simd/convert-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_TILE_TILE_ARITHMETIC_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_TILE_ARITHMETIC_INL_H_
#undef NALAB_CORE_KERNELS_TILE_TILE_ARITHMETIC_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_TILE_ARITHMETIC_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;

/// Shape of the register tile for `Lanes` queries: `kRows` keys (or value columns) times `kVectors` vectors of queries.
/// Accumulators fill the registers but for the operands. Measured in L1 with 32 registers (AVX-512): 8x2 is at peak,
/// 8x1 at 85 %, 4x4 at 78 %.
template <int Lanes>
struct RegisterTile {
  static constexpr int kVectors = Lanes / static_cast<int>(hn::MaxLanes(Floats()));
#if HWY_TARGET == HWY_AVX3
  static constexpr int kRows = 8;
#else
  static constexpr int kRows = kVectors <= 2 ? 6 : kVectors <= 4 ? 3 : 1;
#endif
};

/// Calls f() as a function of its own.
template <class F>
HWY_NOINLINE void CallApart(const F& f) {
  f();
}

/// Calls f(), a product that fills a register tile; apart from its caller if the tile has many accumulators. Beside
/// what a visit keeps in registers g++ 12 spills two of 16 in the product's loop, which then takes twice as long. Of 8
/// it spills none, and calls would be 3 % of the time of a small window.
template <int Lanes, class F>
HWY_INLINE void FillRegisterTile(const F& f) {
  if constexpr (RegisterTile<Lanes>::kRows * RegisterTile<Lanes>::kVectors > 8) {
    CallApart(f);
  } else {
    f();
  }
}

/// sum[i][v] += x(i) * lanes[v] for the rows i of a register tile and its vectors v of `lanes`. Of the shorter side all
/// operands wait in registers, of the other one at a time: so many are left beside the accumulators.
template <int Lanes, class X>
HWY_INLINE void AddOuterProduct(const float* lanes, const X& x,
                                VF (&sum)[RegisterTile<Lanes>::kRows][RegisterTile<Lanes>::kVectors]) {
  constexpr int kRows = RegisterTile<Lanes>::kRows;
  constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  constexpr int kStep = Lanes / kVectors;
  const Floats d;
  if constexpr (kRows < kVectors) {
    VF row[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) row[i] = hn::Set(d, x(i));
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) {
      const VF vector = hn::Load(d, lanes + v * kStep);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) sum[i][v] = hn::MulAdd(row[i], vector, sum[i][v]);
    }
  } else {
    VF vector[kVectors];
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) vector[v] = hn::Load(d, lanes + v * kStep);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const VF row = hn::Set(d, x(i));
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(row, vector[v], sum[i][v]);
    }
  }
}

/// Stands for "no score yet". Finite, so that differences of it are zero and not NaN; far below any score.
inline constexpr float kNoScore = -1e36f;

/// The lanes of vector v whose bits are set.
HWY_INLINE auto LaneMask(uint32_t bits, int v) {
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(Floats()));
#if HWY_TARGET == HWY_AVX3
  return hn::Mask<Floats>{static_cast<__mmask16>(bits >> (v * kLanes))};
#else
  const Floats d;
  const hn::RebindToUnsigned<Floats> du;
  const auto bit = hn::Shl(hn::Set(du, 1u), hn::Iota(du, 0u));
  return hn::RebindMask(d, hn::TestBit(hn::Set(du, bits >> (v * kLanes)), bit));
#endif
}

/// All lanes.
template <int Lanes>
inline constexpr uint32_t kAllLanes = Lanes == 32 ? ~0u : (1u << Lanes) - 1;

/// Keys and values of a block as a query tile's products read them, in cells of 32 bits: floats, or pairs of bf16.
struct Block {
  float* keys;    ///< rows of key_floats(head_dim)
  float* values;  ///< panels of kRows columns, panel_stride floats apart
  int64_t panel_stride;
};

/// Keys of a block that a query tile visits. An arithmetic with groups of keys gets a list of those instead: `index`
/// and `count` are of groups, and `lanes` and `bias` belong to the rows of the block, listed or not.
struct KeyList {
  const int32_t* index;   ///< row in the packed block; padded with the last one to a multiple of kRows
  const uint32_t* lanes;  ///< bit i: the query on lane i attends to the key; padding has none
  int64_t count;          ///< without padding
  bool all_attend;        ///< every lane attends to every key: no mask is looked at
  /// Which vector of biases belongs to a key, padded as `index`; null without a bias.
  const int32_t* bias = nullptr;
};

/// Biases of a head, which are added to scaled scores.
struct LaneBiases {
  const float* vectors = nullptr;  ///< [places][lanes], see TileBiases; null without a bias
  float scale = 1.0f;              ///< of the scores

  /// What stands for "no score yet". With biases a score may be as low as a float can be, since callers mask with the
  /// lowest; without them its scale, which may be 0, comes later, and a difference must not overflow.
  float no_score() const { return vectors == nullptr ? kNoScore : std::numeric_limits<float>::lowest(); }
};

/// A cache line between panels of packed values: a multiple of 4 KiB apart they would share a set of the
/// first-level cache.
inline constexpr int64_t kPanelGap = 16;

/// Opened once per task, or per block of keys, by arithmetics that need no state of the processor.
struct NoScope {};

/// State of one query tile of one head while its super tile walks over the keys.
struct TileState {
  float* queries;  ///< packed
  float* out;      ///< [head_dim_v padded][lanes], not yet divided by the sums
  float* maxima;   ///< [lanes]: what is subtracted from scores
  float* sums;     ///< [lanes] of weights
};

/// The keys of a block that a query tile visits, and what is computed of them.
struct TileVisit {
  const Block& block;
  int64_t dim;    ///< head_dim
  int64_t dim_v;  ///< head_dim_v
  const KeyList& list;
  LaneBiases biases;
  float exponent;      ///< weights are 2^(exponent * (score - maximum))
  bool values_finite;  ///< of the block
};

/// The arithmetic of a query tile of kLanes queries, forward: packing, and a visit to keys: both products, and the
/// weights between them. What packed operands look like is the arithmetic's own business; callers only provide memory
/// of the sizes that it states, in floats, 64-byte aligned.
template <class A>
concept TileArithmetic = requires(int64_t n, float* memory, const Block& block, const typename A::Element* key,
                                  const float* const (&rows)[A::kLanes], typename A::Scope& scope,
                                  const TileVisit& visit, const TileState& state) {
  /// Queries of a tile; vectors that hold a number for each, and lanes of one of them.
  requires A::kLanes == A::kVectors* A::kStep;
  /// Lists of keys and columns of values are padded to multiples of this.
  requires A::kRows >= 1;
  /// Keys are listed in runs that begin and end at multiples of this, in rows of the block.
  requires A::kKeyAlignment >= 1;
  /// 1, or keys are listed by whole groups of as many rows of the block.
  requires A::kGroup >= 1;
  /// Whether the arithmetic takes all numbers, and a visit raises the maxima. If not, they are chosen before the first
  /// one, sums of weights may be out of range, and fits(row, n) says whether it takes n numbers.
  requires A::kTakesAll || requires { A::fits(key, n); };
  /// Element types that it packs, and one of them.
  requires A::template kAccepts<typename A::Element>;
  /// State of the processor that a task needs: constructed before its first packing, destroyed after its last product.
  typename A::Scope;

  /// Size of the packed queries of a tile, of a packed key, of the panels of a block's values, of a visit's scores and
  /// weights, and of memory for packing; where panels begin; rows of keys that a block takes.
  { A::query_floats(n) } -> std::same_as<int64_t>;
  { A::key_floats(n) } -> std::same_as<int64_t>;
  { A::panel_floats(n, n) } -> std::same_as<int64_t>;
  { A::score_floats(n) } -> std::same_as<int64_t>;
  { A::packing_floats(n, n) } -> std::same_as<int64_t>;
  { A::panel_stride(n) } -> std::same_as<int64_t>;
  { A::block_rows(n) } -> std::same_as<int64_t>;

  /// Queries from rows of floats, times +1 or -1: PackQueries(rows, dim, sign, queries, memory). Returns the lanes
  /// whose numbers the arithmetic cannot take, as bits: zeros stand for them.
  { A::PackQueries(rows, n, 1.0f, memory, memory) } -> std::same_as<uint32_t>;
  /// Packs `count` keys and values from row `used` of a block on: PackKeys(key, key_step, dim, value, value_step,
  /// dim_v, count, used, block, memory), with rows a step apart in their tensors. Returns whether all values are
  /// finite; or, of an arithmetic that cannot take all numbers, whether it took those of all rows: zeros stand for a
  /// key that does not fit, and for a value's numbers that do not. A dim of 0 packs none.
  { A::PackKeys(key, n, n, key, n, n, n, n, block, memory) } -> std::same_as<bool>;
  /// After the last keys of a block: FinishBlock(rows used, dim, dim_v, block, memory).
  A::FinishBlock(n, n, n, block, memory);
  /// One step of the softmax: Visit(scope, visit, state, memory for scores).
  A::Visit(scope, visit, state, memory);
};

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_TILE_TILE_ARITHMETIC_INL_H_
