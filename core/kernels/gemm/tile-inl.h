// What the products of gemm have in common: a super tile of tokens, cut into query tiles, and the product of weights on
// lanes with a block of packed rows.
#include <algorithm>
#include <utility>

#include "core/kernels/gemm/workspace.h"
#include "core/kernels/tile/float_tile-inl.h"
#include "core/kernels/tile/super_tiles.h"
#include "core/simd/targets.h"
#include "core/tensor/row.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_GEMM_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_GEMM_TILE_INL_H_
#undef NALAB_CORE_KERNELS_GEMM_TILE_INL_H_
#else
#define NALAB_CORE_KERNELS_GEMM_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::gemm::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
namespace products = nalab::tile::HWY_NAMESPACE;

using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;

/// A super tile at work on one product. Its tiles share blocks of packed rows.
template <class T, int Lanes>
class Tile {
 protected:
  using Arithmetic = products::FloatArithmetic<Lanes>;
  static_assert(Arithmetic::kRows <= kMaxRows && hn::MaxLanes(Floats()) <= kVectorFloats);

  Tile(const Problem& problem, const Tiling& tiling, const Workspace& workspace, int worker,
       const tile::SuperTile& super)
      : problem_(problem),
        tiling_(tiling),
        mine_(workspace.of(worker)),
        super_(super),
        axes_(problem.axes3()),
        cut_(super.tokens, tiling.query),
        block_{mine_.packed, mine_.packed, Arithmetic::panel_stride(tiling.block_keys)} {
    for (int axis = 0; axis < geometry::kAxes; ++axis) mask_[axis] = axes_[axis].group_mask(super.group[axis]);
  }

  Token coordinates(const Token& position) const { return tile::coordinates(axes_, super_.group, position); }

  /// Row of a head at a position, and the distance to the next one along the last axis.
  std::pair<const T*, int64_t> rows_at(const TokenView<const T>& tensor, const Token& position, int64_t head) const {
    const Token token = coordinates(position);
    return {tensor.row(super_.batch, token[0], token[1], token[2], head), tensor.strides.layout[2] * axes_[2].dilation};
  }

  float* row_of(int lane, int64_t stride) const { return mine_.rows + lane * stride; }

  /// Packs rows of values to the block from row `used` on.
  void HWY_ATTR PackValues(const T* first, int64_t step, int64_t dim, int64_t count, int64_t used) {
    const bool finite = Arithmetic::PackKeys(first, step, 0, first, step, dim, count, used, block_, mine_.rows);
    values_finite_ = values_finite_ && finite;
  }

  /// sums[c][lanes] += sum over the listed rows of the block of value[c] * weight, with the weights of mine_.tile.
  /// Calls list_lanes() before the lanes of the list are looked at.
  template <class ListLanes>
  void HWY_ATTR AddValues(const products::KeyList& list, int64_t dim, const ListLanes& list_lanes, float* sums) {
    const int64_t panels = geometry::ceil_div(dim, Arithmetic::kRows);
    VF one[Arithmetic::kVectors];
    for (VF& x : one) x = hn::Set(Floats(), 1.0f);
    if (values_finite_) {
      Arithmetic::template AddValues<false>(mine_.tile, block_, panels, list, one, sums);
    } else {
      // 0 times NaN or infinity is not 0: these may meet only the weights of pairs that attend.
      list_lanes();
      Arithmetic::template AddValues<true>(mine_.tile, block_, panels, list, one, sums);
    }
  }

  /// Calls store(lane, row) with the sums [dim][lanes] of each lane as a row.
  template <class Store>
  void HWY_ATTR StoreSums(const float* sums, int64_t dim, const Store& store) {
    HWY_ALIGN float ones[Lanes];
    float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      ones[lane] = 1.0f;
      row[lane] = row_of(lane, dim);
    }
    products::LanesToRows<Lanes>(sums, dim, ones, row);
    for (int lane = 0; lane < Lanes; ++lane) store(lane, row[lane]);
  }

  const Problem& problem_;
  const Tiling& tiling_;
  const Private mine_;
  const tile::SuperTile& super_;
  const std::array<Axis, 3> axes_;
  const tile::TileCut cut_;  ///< the tiles of one head
  const products::Block block_;
  geometry::GroupMask mask_;
  bool values_finite_ = true;
};

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_GEMM_TILE_INL_H_
