// The five products of the backward pass of fused by multiply-adds of floats.
#include <algorithm>
#include <type_traits>

#include "core/kernels/fused/backward_memory-inl.h"
#include "core/kernels/tile/transpose-inl.h"

#if defined(NALAB_CORE_KERNELS_FUSED_FLOAT_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_FUSED_FLOAT_PRODUCTS_INL_H_
#undef NALAB_CORE_KERNELS_FUSED_FLOAT_PRODUCTS_INL_H_
#else
#define NALAB_CORE_KERNELS_FUSED_FLOAT_PRODUCTS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

/// For every element type. In dout v^T and dq, values take the place of the forward pass's keys, and keys that of its
/// values.
template <int Lanes>
class FloatProducts {
 public:
  using Arithmetic = FloatArithmetic<Lanes>;
  static constexpr int64_t kListPadding = std::max(Arithmetic::kRows, kOuterKeys);

  /// One query tile of one head.
  struct Tile {
    QueryRows rows;
    float* queries;  ///< packed
    float* dout;     ///< packed
    float* delta;    ///< [lanes]: sum of out * dout
    float* dq;       ///< [head_dim padded][lanes]
    bool queries_finite, dout_finite;
  };

  struct Memory {
    float* keys;        ///< [block_keys + 1][head_dim], the last row unused
    float* key_panels;  ///< panels of keys
    float* values;      ///< [block_keys + 1][head_dim_v]
    float* packing;     ///< while keys are packed
    float* weights;     ///< [block_keys padded][lanes]
    float* out;         ///< packed out of a query tile
    Tile tiles[kMaxQueryTiles];

    Memory(const Problem& problem, int64_t block_keys, int64_t count, WorkspaceCutter& cutter) {
      const int64_t dim = problem.head_dim, dim_v = problem.head_dim_v;
      keys = cutter.take<float>((block_keys + 1) * Arithmetic::key_floats(dim));
      key_panels = cutter.take<float>(Arithmetic::panel_floats(block_keys, dim));
      values = cutter.take<float>((block_keys + 1) * Arithmetic::key_floats(dim_v));
      packing = cutter.take<float>(Arithmetic::packing_floats(dim_v, dim));
      weights = cutter.take<float>((block_keys + kListPadding) * Lanes);
      out = cutter.take<float>(Arithmetic::query_floats(dim_v));
      const Rows out_rows = take_rows(Lanes, dim_v, cutter);
      for (int64_t i = 0; i < count; ++i) {
        Tile& tile = tiles[i];
        tile.queries = cutter.take<float>(Arithmetic::query_floats(dim));
        tile.dout = cutter.take<float>(Arithmetic::query_floats(dim_v));
        tile.rows.q = take_rows(Lanes, dim, cutter);
        tile.rows.dout = take_rows(Lanes, dim_v, cutter);
        tile.rows.out = out_rows;
        tile.dq = cutter.take<float>(Lanes * padded_columns(problem));
        tile.rows.lse2 = cutter.take<float>(Lanes);
        tile.delta = cutter.take<float>(Lanes);
      }
    }
  };

  FloatProducts(const Problem& problem, int64_t block_keys, float exponent_scale, const BlockGradients& gradients,
                Memory& memory)
      : problem_(problem),
        exponent_scale_(exponent_scale),
        gradients_(gradients),
        memory_(memory),
        keys_{memory.keys, problem.head_dim},
        values_{memory.values, problem.head_dim_v},
        panels_{memory.values, memory.key_panels, Arithmetic::panel_stride(block_keys)} {}

  QueryRows rows_of(int64_t number) const { return memory_.tiles[number].rows; }
  float* dq(int64_t number) const { return memory_.tiles[number].dq; }

  void HWY_ATTR PackQueries(NoScope&, int64_t number) {
    Tile& tile = memory_.tiles[number];
    const int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v;
    Transpose(tile.rows.q, dim, tile.queries);
    Transpose(tile.rows.dout, dim_v, tile.dout);
    Transpose(tile.rows.out, dim_v, memory_.out);
    // A query with a single key has out equal to the value: so delta is dout * value to the last bit, and dq is 0.
    LaneProducts<Lanes>(memory_.out, tile.dout, dim_v, tile.delta);
    std::fill_n(tile.dq, Lanes * padded_columns(problem_), 0.0f);
    tile.queries_finite = AllFinite(tile.queries, Lanes * dim);
    tile.dout_finite = AllFinite(tile.dout, Lanes * dim_v);
  }

  void BeginBlock() { keys_finite_ = true; }

  template <class T>
  void HWY_ATTR PackKeys(const KeyRows<T>& rows, int64_t first) {
    for (int64_t n = 0; n < rows.count; ++n) {
      simd::HWY_NAMESPACE::CopyToFloats(rows.key + n * rows.key_step, problem_.head_dim, keys_[first + n]);
    }
    const bool finite = Arithmetic::PackKeys(rows.value, rows.value_step, problem_.head_dim_v, rows.key, rows.key_step,
                                             problem_.head_dim, rows.count, first, panels_, memory_.packing);
    keys_finite_ = keys_finite_ && finite;
  }

  void FinishBlock(int64_t) {}

  void HWY_ATTR Visit(NoScope&, int64_t number, const GradientVisit& visit) {
    const Tile& tile = memory_.tiles[number];
    const int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v;
    const KeyList& list = visit.list;
    float* const weights = memory_.weights;
    const auto careful = [&](bool finite) { return !finite && !list.all_attend; };
    WeightsFromLse<Lanes>(tile.queries, keys_, dim, list, exponent_scale_, visit.biases, tile.rows.lse2, weights);
    Choose(careful(tile.dout_finite), [&](auto is_careful) HWY_ATTR {
      AddOuter<Lanes, is_careful>(weights, tile.rows.dout, dim_v, list, gradients_.dv);
    });
    ScoreGradients<Lanes>(tile.dout, values_, dim_v, list, tile.delta, weights);
    if (visit.bias_sums != nullptr) AddToPlaces<Lanes>(weights, list, visit.bias_sums);
    Choose(careful(keys_finite_), [&](auto is_careful) HWY_ATTR { AddKeys<is_careful>(weights, list, tile.dq); });
    Choose(careful(tile.queries_finite), [&](auto is_careful) HWY_ATTR {
      AddOuter<Lanes, is_careful>(weights, tile.rows.q, dim, list, gradients_.dk);
    });
  }

  /// Visits have added already.
  void AddToKeys(NoScope&) {}

 private:
  static int64_t padded_columns(const Problem& problem) { return problem.head_dim + Arithmetic::kRows; }

  static void HWY_ATTR Transpose(const Rows& rows, int64_t dim, float* lanes) {
    const float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) row[lane] = rows[lane];
    RowsToLanes<Lanes>(row, dim, lanes);
  }

  /// dq[c][lane] += sum over the listed keys of key[c] * gradients[n][lane].
  template <bool Careful>
  HWY_NOINLINE void AddKeys(const float* gradients, const KeyList& list, float* dq) {
    VF one[Arithmetic::kVectors];
    for (VF& x : one) x = hn::Set(Floats(), 1.0f);
    Arithmetic::template AddValues<Careful>(gradients, panels_,
                                            geometry::ceil_div(problem_.head_dim, Arithmetic::kRows), list, one, dq);
  }

  template <class F>
  static void HWY_ATTR Choose(bool condition, const F& f) {
    condition ? f(std::true_type()) : f(std::false_type());
  }

  const Problem& problem_;
  const float exponent_scale_;  ///< weights are powers of 2
  const BlockGradients& gradients_;
  Memory& memory_;
  const Rows keys_, values_;
  const Block panels_;       ///< rows of values, panels of keys
  bool keys_finite_ = true;  ///< of the block
};

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_FUSED_FLOAT_PRODUCTS_INL_H_
