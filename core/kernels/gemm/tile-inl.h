// What the products of gemm have in common: a super tile of tokens, cut into tiles, and the product of weights on lanes
// with a block of packed rows.
#include <algorithm>
#include <optional>
#include <utility>

#include "core/kernels/gemm/operators-inl.h"
#include "core/kernels/gemm/workspace.h"
#include "core/kernels/tile/rows-inl.h"
#include "core/kernels/tile/super_tiles.h"
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

/// A super tile at work on one product. Its tiles share blocks of packed rows.
template <class T, class Operators>
class Tile {
 protected:
  static constexpr int Lanes = Operators::kLanes;
  static_assert(Operators::kRows <= kMaxRows && hn::MaxLanes(Floats()) <= kVectorFloats);

  /// misfits: for operators that cannot take all numbers, or for those that fill in; null for others.
  Tile(const Problem& problem, const Tiling& tiling, const Workspace& workspace, int worker,
       const tile::SuperTile& super, Misfits* misfits)
      : problem_(problem),
        tiling_(tiling),
        mine_(workspace.of(worker)),
        super_(super),
        misfits_(misfits),
        axes_(problem.axes3()),
        cut_(super.tokens, tiling.query),
        block_{mine_.packed, mine_.packed, Operators::panel_stride(tiling.block_keys)} {
    for (int axis = 0; axis < geometry::kAxes; ++axis) mask_[axis] = axes_[axis].group_mask(super.group[axis]);
  }

  Token coordinates(const Token& position) const { return tile::coordinates(axes_, super_.group, position); }

  /// Row of a head at a position, and the distance to the next one along the last axis.
  std::pair<const T*, int64_t> rows_at(const TokenView<const T>& tensor, const Token& position, int64_t head) const {
    const Token token = coordinates(position);
    return {tensor.row(super_.batch, token[0], token[1], token[2], head), tensor.strides.layout[2] * axes_[2].dilation};
  }

  float* row_of(int lane, int64_t stride) const { return mine_.rows + lane * stride; }

  /// Packs `count` rows to the block from row `used` on: as rows of `dim` numbers, and in panels of `panel_dim`
  /// columns. Returns whether the operators take all numbers; zeros stand for those that they do not.
  bool HWY_ATTR Pack(const T* first, int64_t step, int64_t dim, int64_t panel_dim, int64_t count, int64_t used) {
    const bool good = Operators::PackKeys(first, step, dim, first, step, panel_dim, count, used, block_, mine_.packing);
    if (Operators::kTakesAll) values_finite_ = values_finite_ && good;
    return Operators::kTakesAll || good;
  }

  /// sums[c][lanes] += sum over the listed rows of the block of value[c] * weight, with the weights of mine_.tile.
  /// `tile`: its number.
  void HWY_ATTR AddValues(const products::KeyList& list, int64_t dim, int64_t tile, float* sums) {
    const uint32_t lanes =
        Operators::AddColumns(scope_, mine_.tile, block_, dim, list, values_finite_, mine_.product, sums);
    if constexpr (!Operators::kTakesAll) misfits_->of(tile) |= lanes;
  }

  /// Stores the sums [dim][lanes] of each lane as a row of `target`, or those that others have left out. token(lane):
  /// where; nothing if it is outside of the tile.
  template <class TokenOf>
  void HWY_ATTR StoreSums(const float* sums, int64_t dim, int64_t tile, int64_t head, const TensorView& target,
                          const TokenOf& token) {
    HWY_ALIGN float ones[Lanes];
    float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      ones[lane] = 1.0f;
      row[lane] = row_of(lane, dim);
    }
    products::LanesToRows<Lanes>(sums, dim, ones, row);
    for (int lane = 0; lane < Lanes; ++lane) {
      const std::optional<Token> at = token(lane);
      if (!at) continue;
      if (!fills_in() || (misfits_->of(tile) >> lane & 1) != 0) {
        products::StoreRow(target, super_.batch, *at, head, row[lane]);
      } else {
        with_element_type(target.type, [&](auto element) {
          using Element = decltype(element);
          Element* const to = target.as<Element>().row(super_.batch, *at, head);
          for (int64_t c = 0; c < dim; ++c) {
            if ((misfits_->of(tile, c) >> lane & 1) != 0) to[c] = from_float<Element>(row[lane][c]);
          }
        });
      }
    }
  }

  /// Whether only results that others have left out are computed.
  bool fills_in() const { return Operators::kTakesAll && misfits_ != nullptr; }

  const Problem& problem_;
  const Tiling& tiling_;
  const Private mine_;
  const tile::SuperTile& super_;
  Misfits* const misfits_;
  const std::array<Axis, 3> axes_;
  const tile::TileCut cut_;  ///< the tiles of one head
  const products::Block block_;
  geometry::GroupMask mask_;
  bool values_finite_ = true;  ///< of the block
  typename Operators::Scope scope_;
};

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_GEMM_TILE_INL_H_
