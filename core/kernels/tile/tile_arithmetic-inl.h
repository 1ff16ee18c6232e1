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

/// Stands for "no score yet". Finite, so that differences of it are zero and not NaN; far below any score.
inline constexpr float kNoScore = -1e36f;

/// The lanes of vector v whose bits are set.
inline auto HWY_ATTR LaneMask(uint32_t bits, int v) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> du;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(Floats()));
  const auto bit = hn::Shl(hn::Set(du, 1u), hn::Iota(du, 0u));
  return hn::RebindMask(d, hn::TestBit(hn::Set(du, bits >> (v * kLanes)), bit));
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

/// Keys of a block that a query tile visits.
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

/// Opened once per task, by arithmetics that need no state of the processor.
struct NoScope {};

/// The arithmetic of a query tile of kLanes queries, forward: packing, both products, and the weights between them.
/// What packed operands look like is the arithmetic's own business; callers only provide memory of the sizes that it
/// states, in floats, 64-byte aligned.
template <class A>
concept TileArithmetic = requires(int64_t n, const float* in, float* memory, const Block& block, const KeyList& list,
                                  const typename A::Element* key, const float* const (&rows)[A::kLanes],
                                  const VF (&vectors)[A::kVectors], VF (&sums)[A::kVectors]) {
  /// Queries of a tile; vectors that hold a number for each, and lanes of one of them.
  requires A::kLanes == A::kVectors* A::kStep;
  /// Lists of keys and columns of values are padded to multiples of this.
  requires A::kRows >= 1;
  /// Keys are listed in runs that begin and end at multiples of this, in rows of the block.
  requires A::kKeyAlignment >= 1;
  /// Element types that it packs, and one of them.
  requires A::template kAccepts<typename A::Element>;
  /// State of the processor that a task needs: constructed before its first packing, destroyed after its last product.
  typename A::Scope;

  /// Size of the packed queries of a tile, of a packed key, and of the panels of a block's values; and where panels
  /// begin.
  { A::query_floats(n) } -> std::same_as<int64_t>;
  { A::key_floats(n) } -> std::same_as<int64_t>;
  { A::panel_floats(n, n) } -> std::same_as<int64_t>;
  { A::panel_stride(n) } -> std::same_as<int64_t>;

  /// Queries from rows of floats, times +1 or -1.
  A::PackQueries(rows, n, 1.0f, memory);
  /// Packs `count` keys and values from row `used` of a block on: PackKeys(key, key_step, dim, value, value_step,
  /// dim_v, count, used, block, memory), with rows a step apart in their tensors. Returns whether all values are
  /// finite. A dim of 0 packs none.
  { A::PackKeys(key, n, n, key, n, n, n, n, block, memory) } -> std::same_as<bool>;
  /// scores[n][lanes] of the listed keys, kNoScore where a lane does not attend; maxima [lanes] raised to theirs. With
  /// biases: scale * score + bias.
  A::Scores(in, block, n, list, LaneBiases{}, memory, memory);
  /// Scores become weights in place, exp2(factor * (score - maximum)); their sums per lane.
  A::Weigh(list, 1.0f, vectors, memory, sums);
  /// out[columns][lanes] = correction * out + weights times values; <true> keeps values from lanes that do not attend.
  A::template AddValues<true>(in, block, n, list, vectors, memory);
  A::template AddValues<false>(in, block, n, list, vectors, memory);
};

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_TILE_TILE_ARITHMETIC_INL_H_
