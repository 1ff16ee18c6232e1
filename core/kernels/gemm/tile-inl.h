// What the products of gemm have in common: a super tile of tokens, cut into micro tiles, and the product of weights on
// lanes with a block of packed rows.
#include <algorithm>
#include <utility>

#include "core/kernels/fused/tile-inl.h"
#include "core/kernels/gemm/workspace.h"
#include "core/simd/targets.h"
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
namespace products = nalab::fused::HWY_NAMESPACE;

using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;

/// A super tile at work on one product. Its micro tiles share blocks of packed rows.
template <class T, int Lanes>
class Tile {
 protected:
  using Arithmetic = products::FloatArithmetic<Lanes>;
  static_assert(Arithmetic::kRows <= kMaxRows && hn::MaxLanes(Floats()) <= kVectorFloats);

  Tile(const Problem& problem, const Tiles& tiles, const Workspace& workspace, int worker, const Place& place)
      : problem_(problem),
        tiles_(tiles),
        workspace_(workspace),
        mine_(workspace.of(worker)),
        place_(place),
        axes_(problem.axes3()),
        block_{mine_.packed, mine_.packed, tiles.block_keys * Arithmetic::kRows + kPanelGap} {
    for (int axis = 0; axis < geometry::kAxes; ++axis) {
      mask_[axis] = axes_[axis].group_mask(place.group[axis]);
      cut_[axis] = {place.box[axis].size(), tiles.micro[axis]};
    }
  }

  /// Micro tiles of one head, and the positions of one of them.
  int64_t micros() const { return cut_[0].count() * cut_[1].count() * cut_[2].count(); }
  geometry::Box micro_box(int64_t i) const {
    const Token tile = token_at({cut_[0].count(), cut_[1].count(), cut_[2].count()}, i);
    geometry::Box box;
    for (int axis = 0; axis < geometry::kAxes; ++axis) {
      const geometry::Range range = cut_[axis].range(tile[axis]);
      box[axis] = {place_.box[axis].begin + range.begin, place_.box[axis].begin + range.end};
    }
    return box;
  }

  Token coordinates(const Token& position) const {
    Token token;
    for (int axis = 0; axis < geometry::kAxes; ++axis) {
      token[axis] = axes_[axis].coordinate(place_.group[axis], position[axis]);
    }
    return token;
  }

  /// Row of a head at a position, and the distance to the next one along the last axis.
  std::pair<const T*, int64_t> rows_at(const TokenView<const T>& tensor, const Token& position, int64_t head) const {
    const Token token = coordinates(position);
    return {tensor.row(place_.batch, token[0], token[1], token[2], head), tensor.strides.layout[2] * axes_[2].dilation};
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
  const Tiles& tiles_;
  const Workspace& workspace_;
  const Private mine_;
  const Place place_;
  const std::array<Axis, 3> axes_;
  const products::Block block_;
  geometry::GroupMask mask_;
  std::array<geometry::TileAxis, 3> cut_;
  bool values_finite_ = true;
};

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_GEMM_TILE_INL_H_
