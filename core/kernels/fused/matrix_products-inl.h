// The five products of the backward pass of fused on a matrix unit.
//
// Nothing is subtracted from scores but the saved lse, so that every pair of a query and a key adds to the gradients
// for itself: pairs with numbers that the unit cannot take are left to multiply-adds of floats, and all others keep
// their bits.
#include <cmath>

#include "core/kernels/fused/backward_memory-inl.h"
#include "core/kernels/tile/float_tile-inl.h"
#include "core/kernels/tile/matrix_gradients-inl.h"

#if defined(NALAB_CORE_KERNELS_FUSED_MATRIX_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_FUSED_MATRIX_PRODUCTS_INL_H_
#undef NALAB_CORE_KERNELS_FUSED_MATRIX_PRODUCTS_INL_H_
#else
#define NALAB_CORE_KERNELS_FUSED_MATRIX_PRODUCTS_INL_H_
#endif

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

template <class MatrixUnit, int Parts>
class MatrixProducts {
 public:
  using Arithmetic = MatrixGradients<MatrixUnit, Parts>;
  static constexpr int Lanes = Arithmetic::kLanes;
  static constexpr int64_t kListPadding = 0;

  /// One query tile of one head.
  struct Tile {
    float* queries;         ///< packed
    float* dout;            ///< packed
    float* lse2;            ///< [lanes]
    float* delta;           ///< [lanes]: sum of out * dout
    float* dq;              ///< [head_dim padded][lanes]
    uint32_t misfit_lanes;  ///< lanes of which nothing is computed here
  };

  struct Memory {
    MatrixBlock block;
    float* packing;  ///< while queries are packed
    float* visit;
    QueryRows rows;        ///< of the query tile that is packed next
    float* query_pairs;    ///< [tiles], in pairs of queries
    float* dout_pairs;     ///< [tiles]
    float* weight_rows;    ///< [tiles][groups]
    float* gradient_rows;  ///< [tiles][groups]
    uint32_t* visitors;    ///< [groups]: the query tiles that have visited the group, as bits
    uint8_t* misfit_rows;  ///< [rows of the block]: 1 for those of which nothing is computed here
    Tile tiles[kMaxQueryTiles];

    Memory(const Problem& problem, int64_t block_keys, int64_t count, WorkspaceCutter& cutter) {
      const int64_t dim = problem.head_dim, dim_v = problem.head_dim_v;
      const int64_t rows_of_block = Arithmetic::block_rows(block_keys), groups = rows_of_block / Arithmetic::kGroup;
      block = {cutter.take<float>(rows_of_block * Arithmetic::key_floats(dim)),
               cutter.take<float>(rows_of_block * Arithmetic::key_floats(dim_v)),
               cutter.take<float>(Arithmetic::panel_floats(block_keys, dim)), Arithmetic::panel_stride(block_keys)};
      packing = cutter.take<float>(Arithmetic::packing_floats(dim, dim_v));
      visit = cutter.take<float>(Arithmetic::visit_floats(block_keys));
      rows = {take_rows(Lanes, dim, cutter), take_rows(Lanes, dim_v, cutter), take_rows(Lanes, dim_v, cutter), nullptr};
      query_pairs = cutter.take<float>(count * Arithmetic::pair_floats(dim));
      dout_pairs = cutter.take<float>(count * Arithmetic::pair_floats(dim_v));
      weight_rows = cutter.take<float>(count * groups * Arithmetic::kGroupRows);
      gradient_rows = cutter.take<float>(count * groups * Arithmetic::kGroupRows);
      visitors = cutter.take<uint32_t>(groups);
      misfit_rows = cutter.take<uint8_t>(rows_of_block);
      for (int64_t i = 0; i < count; ++i) {
        Tile& tile = tiles[i];
        tile.queries = cutter.take<float>(Arithmetic::query_floats(dim));
        tile.dout = cutter.take<float>(Arithmetic::query_floats(dim_v));
        tile.lse2 = cutter.take<float>(Lanes);
        tile.delta = cutter.take<float>(Lanes);
        tile.dq = cutter.take<float>(Lanes * padded_columns(problem));
      }
    }
  };

  MatrixProducts(const Problem& problem, int64_t block_keys, float exponent_scale, const BlockGradients& gradients,
                 Memory& memory)
      : problem_(problem),
        exponent_scale_(exponent_scale),
        gradients_(gradients),
        memory_(memory),
        tile_rows_(Arithmetic::block_rows(block_keys) / Arithmetic::kGroup * Arithmetic::kGroupRows) {}

  QueryRows rows_of(int64_t number) const {
    QueryRows rows = memory_.rows;
    rows.lse2 = memory_.tiles[number].lse2;
    return rows;
  }
  float* dq(int64_t number) const { return memory_.tiles[number].dq; }

  void HWY_ATTR PackQueries(MatrixUnit& unit, int64_t number) {
    Tile& tile = memory_.tiles[number];
    const QueryRows& rows = memory_.rows;
    const int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v;
    tile.misfit_lanes = Pack(rows.q, dim, tile.queries);
    Arithmetic::PackQueryPairs(memory_.packing, dim, memory_.query_pairs + number * Arithmetic::pair_floats(dim));
    tile.misfit_lanes |= Pack(rows.dout, dim_v, tile.dout);
    Arithmetic::PackQueryPairs(memory_.packing, dim_v, memory_.dout_pairs + number * Arithmetic::pair_floats(dim_v));
    // As in float: a query with a single key has out equal to the value, so that its dq is 0.
    tile.misfit_lanes |= Arithmetic::LaneProducts(unit, rows.out, rows.dout, tile.dout, dim_v, memory_.packing,
                                                  memory_.visit, tile.delta);
    for (int lane = 0; lane < Lanes; ++lane) {
      if (!std::isfinite(tile.delta[lane]) || !std::isfinite(tile.lse2[lane])) tile.misfit_lanes |= 1u << lane;
    }
    std::fill_n(tile.dq, Lanes * padded_columns(problem_), 0.0f);
  }

  void BeginBlock() {
    groups_ = 0;
    rows_fit_ = true;
  }

  template <class T>
  void HWY_ATTR PackKeys(const KeyRows<T>& rows, int64_t first) {
    const bool fit = Arithmetic::PackRows(rows.key, rows.key_step, problem_.head_dim, rows.value, rows.value_step,
                                          problem_.head_dim_v, rows.count, first, memory_.block, memory_.misfit_rows);
    rows_fit_ = rows_fit_ && fit;
  }

  void HWY_ATTR FinishBlock(int64_t used) {
    Arithmetic::FinishRows(used, problem_.head_dim, problem_.head_dim_v, memory_.block);
    groups_ = geometry::ceil_div(used, Arithmetic::kGroup);
    std::fill(memory_.misfit_rows + used, memory_.misfit_rows + groups_ * Arithmetic::kGroup, uint8_t{0});
    std::fill_n(memory_.visitors, groups_, 0u);
  }

  /// The lanes of a visit that Visit must not see at a row of the block, as bits.
  uint32_t misfit_lanes(int64_t number, int64_t row) const {
    return memory_.misfit_rows[row] != 0 ? ~0u : memory_.tiles[number].misfit_lanes;
  }
  /// Whether there may be any.
  bool may_misfit(int64_t number) const { return !rows_fit_ || memory_.tiles[number].misfit_lanes != 0; }

  void HWY_ATTR Visit(MatrixUnit& unit, int64_t number, const GradientVisit& visit) {
    const Tile& tile = memory_.tiles[number];
    const KeyList& list = visit.list;
    for (int64_t i = 0; i < list.count; ++i) memory_.visitors[list.index[i]] |= 1u << number;
    Arithmetic::GradientsOfVisit(
        unit,
        {memory_.block, problem_.head_dim, problem_.head_dim_v, list, exponent_scale_, visit.biases, visit.bias_sums,
         tile.queries, tile.dout, tile.lse2, tile.delta, tile.dq, memory_.weight_rows + number * tile_rows_,
         memory_.gradient_rows + number * tile_rows_},
        memory_.visit);
  }

  void HWY_ATTR AddToKeys(MatrixUnit& unit) {
    Arithmetic::AddToKeys(unit, groups_, memory_.visitors, memory_.weight_rows, tile_rows_, memory_.dout_pairs,
                          problem_.head_dim_v, gradients_.dv);
    Arithmetic::AddToKeys(unit, groups_, memory_.visitors, memory_.gradient_rows, tile_rows_, memory_.query_pairs,
                          problem_.head_dim, gradients_.dk);
  }

 private:
  static int64_t padded_columns(const Problem& problem) { return problem.head_dim + Arithmetic::kRows; }

  uint32_t HWY_ATTR Pack(const Rows& rows, int64_t dim, float* target) {
    const float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) row[lane] = rows[lane];
    return Arithmetic::PackQueries(row, dim, 1.0f, target, memory_.packing);
  }

  const Problem& problem_;
  const float exponent_scale_;  ///< weights are powers of 2
  const BlockGradients& gradients_;
  Memory& memory_;
  const int64_t tile_rows_;  ///< floats of one query tile's rows of weights
  int64_t groups_ = 0;       ///< of the block
  bool rows_fit_ = true;
};

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_FUSED_MATRIX_PRODUCTS_INL_H_
