// One task of banded on a matrix unit: a strip over rows of queries, and the steps from queries to results. See
// matrix.cpp.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <numbers>

#include "core/kernels/banded/careful-inl.h"
#include "core/kernels/banded/matrix_keys-inl.h"
#include "core/kernels/banded/matrix_softmax-inl.h"
#include "hwy/contrib/math/math-inl.h"

#if defined(NALAB_CORE_KERNELS_BANDED_MATRIX_TASK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_MATRIX_TASK_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_MATRIX_TASK_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_MATRIX_TASK_INL_H_
#endif

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// A strip of one batch entry, over rows of queries.
template <class MatrixUnit>
class MatrixTask : private StripKeys {
 public:
  HWY_ATTR MatrixTask(const MatrixShared& shared, const Tasks::Task& task, const MatrixPrivate& mine)
      : StripKeys(shared, task, mine),
        out_(shared.out),
        biases_(shared.biases),
        careful_(problem_, shared.in, out_, biases_, mine.careful),
        q_(shared.in.q.as<bf16>()),
        mask1_(axes_[0].group_mask(task.place.g1)),
        mask2_(axes_[1].group_mask(task.place.g2)),
        score_step_(shape_.score_step(pitch_)),
        weight_step_(shape_.weight_step(pitch_)),
        scale_(factor_as_float(problem_.effective_scale())),
        factor_(factor_as_float(problem_.effective_scale() * std::numbers::log2e)) {
    for (int lane = 0; lane < kQueries; ++lane) {
      const Place& query = strip_.query(lane);
      query_offsets_[lane] = offset(query, q_.strides, shape_.heads);
      out_offsets_[lane] = offset(query, out_.out.strides, shape_.heads);
      lse_offsets_[lane] = offset(query, out_.lse.strides, shape_.heads);
      own_offsets_[lane] = lane * score_step_ + strip_.index()[lane] - strip_.offset(lane);
    }
  }

  /// Computes all rows of queries; returns whether some results were taken again in float32.
  bool HWY_ATTR Run() {
    const geometry::Range all = task_.x2;
    for (int64_t begin = all.begin, end; begin < all.end; begin = end) {
      // As many rows of queries as there is room for their keys, which there is for one.
      const int64_t first = mask2_.keys(begin).begin;
      for (end = begin + 1; end < all.end; ++end) {
        if ((mask2_.keys(end).end - first) * pitch_ > shape_.plane_keys) break;
      }
      BeginBlock({first, mask2_.keys(end - 1).end});
      for (int64_t x1 = task_.x1.begin; x1 < task_.x1.end; ++x1) {
        for (int64_t x2 = begin; x2 < end; ++x2) {
          for (int64_t h = 0; h < shape_.heads; ++h) RunRow(row_of(x1, x2, h));
        }
      }
    }
    return any_careful_;
  }

 private:
  /// A row of queries, of one of the query heads of each kv head.
  struct Row {
    int64_t position1, position2, x1, x2, h;
    geometry::Range keys1, keys2;
    int64_t first, keys;     ///< padded keys of a plane: the first among those that are packed, and how many
    int64_t columns, steps;  ///< of a plane: scores, and steps of the second product
  };
  Row row_of(int64_t position1, int64_t position2, int64_t h) const {
    Row row{.position1 = position1,
            .position2 = position2,
            .x1 = axes_[0].coordinate(task_.place.g1, position1),
            .x2 = axes_[1].coordinate(task_.place.g2, position2),
            .h = h,
            .keys1 = mask1_.keys(position1),
            .keys2 = mask2_.keys(position2)};
    row.first = (row.keys2.begin - block_.begin) * pitch_;
    row.keys = row.keys2.size() * pitch_;
    row.columns = round_up(row.first % kUnitCells + row.keys, kUnitCells);
    row.steps = geometry::ceil_div(row.keys, kUnitStep);
    return row;
  }

  /// The row in a tensor with a row for each query: where offsets of lanes are added to.
  template <class T>
  T* first_query(const TokenView<T>& view, const Row& row) const {
    return view.row(batch_, row.x1, row.x2, 0, row.h);
  }

  void HWY_ATTR RunRow(const Row& row) {
    if (fetch_) FetchOut(row);
    for (int64_t k1 = row.keys1.begin; k1 < row.keys1.end; ++k1) PackPlane(k1, row.keys2.end);
    const uint32_t misfits = PackQueries(row);
    HWY_ALIGN float own[kQueries], sums[kQueries];
    Score(row);
    WeighKeys(row, own, sums);
    SumValues(row);
    StoreResults(row, own, sums);
    TakeAgain(row, misfits, sums);
  }

  /// Fetches where the results will go.
  void FetchOut(const Row& row) const {
    with_element_type(out_.out.type, [&](auto element) {
      const auto* const first = first_query(out_.out.template as<decltype(element)>(), row);
      for (int lane = 0; lane < strip_.lanes(); ++lane)
        tile::fetch_row<tile::CacheLevel::first>(first + out_offsets_[lane], problem_.head_dim_v);
    });
  }

  /// Returns the lanes whose numbers do not fit, as bits: zeros stand for them.
  uint32_t HWY_ATTR PackQueries(const Row& row) const {
    auto* const rows = reinterpret_cast<uint16_t*>(mine_.queries);
    const int64_t elements = shape_.steps * kUnitStep;
    const bf16* const first = first_query(q_, row);
    const auto query = [&](int64_t lane) HWY_ATTR { return first + query_offsets_[lane]; };
    uint32_t misfits = 0;
    if (CopyRows(kQueries, query, problem_.head_dim, elements, rows)) return misfits;
    for (int lane = 0; lane < kQueries; ++lane) {
      if (Fits(query(lane), problem_.head_dim)) continue;
      misfits |= 1u << lane;
      std::fill_n(rows + lane * elements, elements, uint16_t{0});
    }
    return misfits;
  }

  /// The column of the first key's score: behind those of extra tokens and of keys of its tile that come before.
  int64_t first_score(const Row& row) const { return shape_.extra_keys + row.first % kUnitCells; }

  void HWY_ATTR Score(const Row& row) {
    const FactorLayout layout{shape_.steps * kUnitCells, kUnitCells, kUnitCells * kUnitCells, shape_.key_tile_cells()};
    const auto score = [&](const float* tiles, int64_t columns, float* target) HWY_ATTR {
      const InnerSteps part{mine_.queries, tiles, shape_.steps};
      MultiplyTiles(unit_, &part, 1, layout, columns / kUnitCells, target, score_step_);
    };
    if (shape_.extra_keys > 0) score(mine_.extra.keys, shape_.extra_keys, mine_.scores);
    float* target = mine_.scores + shape_.extra_keys;
    for (int64_t k1 = row.keys1.begin; k1 < row.keys1.end; ++k1, target += row.columns) {
      score(plane(k1).packed.keys + row.first / kUnitCells * shape_.key_tile_cells(), row.columns, target);
    }
  }

  /// Makes the weights of a row. own: each query's score with itself, which stands for a maximum: no sum of weights is
  /// far below 1. sums: of weights.
  void HWY_ATTR WeighKeys(const Row& row, float* own, float* sums) {
    const int64_t own_key =
        first_score(row) + (row.position1 - row.keys1.begin) * row.columns + (row.position2 - row.keys2.begin) * pitch_;
    for (int lane = 0; lane < kQueries; ++lane) own[lane] = mine_.scores[own_key + own_offsets_[lane]];
    if (weighed_rows_ != row.keys2.size()) {
      // Weights of windows lie among zeros, in the same places for all rows of queries with as many rows of keys.
      weighed_rows_ = row.keys2.size();
      std::fill_n(mine_.weights, kQueries * weight_step_, uint16_t{0});
    }
    WeightRows rows{.scores = mine_.scores + first_score(row),
                    .weights = mine_.weights + shape_.extra_keys + row.steps * kUnitStep - row.keys,
                    .score_step = score_step_,
                    .weight_step = weight_step_,
                    .planes = row.keys1.size(),
                    .score_plane = row.columns,
                    .weight_plane = row.steps * kUnitStep,
                    .rows = row.keys2.size(),
                    .pitch = pitch_,
                    .index = strip_.index(),
                    .count = strip_.count(),
                    .window = axes_[2].window};
    std::array<const float*, kQueries> biases;
    if (problem_.relative_bias) {
      const geometry::BiasTable table(axes_);
      for (int lane = 0; lane < kQueries; ++lane) {
        biases[lane] =
            biases_.of(strip_.query(lane).head_kv * shape_.heads + row.h) +
            table.entry({row.position1, row.position2, 0}, {row.keys1.begin, row.keys2.begin, strip_.offset(lane)});
      }
      rows.biases = biases.data();
      rows.bias_plane = table.place({1, 0, 0});
      rows.bias_row = table.place({0, 1, 0});
    }
    if (problem_.extra_tokens == 0) return Weigh(rows, factor_, own, sums);

    // First: what is written beyond its last column becomes what it must be afterwards.
    HWY_ALIGN float extra_sums[kQueries];
    Weigh({.scores = mine_.scores,
           .weights = mine_.weights,
           .score_step = score_step_,
           .weight_step = weight_step_,
           .index = extra_index_.data(),
           .count = extra_count_.data(),
           .window = problem_.extra_tokens},
          factor_, own, extra_sums);
    Weigh(rows, factor_, own, sums);
    for (int lane = 0; lane < kQueries; ++lane) sums[lane] += extra_sums[lane];
  }

  void HWY_ATTR SumValues(const Row& row) {
    const int64_t cells = shape_.value_row_cells();
    const FactorLayout layout{weight_step_ / 2, cells, kUnitStep / 2 * cells, kUnitCells};
    const auto* weights = reinterpret_cast<const float*>(mine_.weights);
    InnerSteps* part = mine_.parts;
    if (shape_.extra_keys > 0) *part++ = {weights, mine_.extra.values, shape_.extra_keys / kUnitStep};
    weights += shape_.extra_keys / 2;
    const int64_t first = row.first + row.keys - row.steps * kUnitStep;
    for (int64_t k1 = row.keys1.begin; k1 < row.keys1.end; ++k1, weights += row.steps * kUnitStep / 2) {
      *part++ = {weights, plane(k1).packed.values + first / 2 * cells, row.steps};
    }
    MultiplyTiles(unit_, mine_.parts, part - mine_.parts, layout, cells / kUnitCells, mine_.sums, cells);
  }

  void HWY_ATTR StoreResults(const Row& row, const float* own, const float* sums) const {
    const Floats d;
    HWY_ALIGN float inverse[kQueries], lse[kQueries];
    const VF scale = hn::Set(d, scale_);
    for (int i = 0; i < kQueries; i += kVector) {
      const VF sum = hn::Load(d, sums + i);
      hn::Store(hn::Div(hn::Set(d, 1.0f), sum), d, inverse + i);
      hn::Store(hn::MulAdd(hn::Load(d, own + i), scale, hn::Log(d, sum)), d, lse + i);
    }
    float* const first_lse = first_query(out_.lse.as<float>(), row);
    for (int lane = 0; lane < strip_.lanes(); ++lane) first_lse[lse_offsets_[lane]] = lse[lane];
    with_element_type(out_.out.type, [&](auto element) HWY_ATTR {
      auto* const first = first_query(out_.out.template as<decltype(element)>(), row);
      for (int lane = 0; lane < strip_.lanes(); ++lane) {
        StoreSums(mine_.sums + lane * shape_.value_row_cells(), inverse[lane], problem_.head_dim_v,
                  first + out_offsets_[lane]);
      }
    });
  }

  /// Computes in float32 what does not fit. misfits: the lanes whose own numbers do not, as bits.
  void HWY_ATTR TakeAgain(const Row& row, uint32_t misfits, const float* sums) {
    uint32_t columns = 0;
    if (any_misfits_) FindMisfits(row, misfits, columns);
    for (int lane = 0; lane < strip_.lanes(); ++lane) {
      // So great that products with values may be infinite, or so small (by a bias) that they may be subnormal.
      if (!(0x1p-24f <= sums[lane] && sums[lane] <= 0x1p60f)) misfits |= 1u << lane;
    }
    const uint32_t inside = (1u << strip_.lanes()) - 1;
    for (uint32_t rest = (misfits | columns) & inside; rest != 0; rest &= rest - 1) {
      const int lane = std::countr_zero(rest);
      const Place& query = strip_.query(lane);
      any_careful_ = true;
      careful_.Run(batch_, {row.x1, row.x2, query.x3}, query.head_kv * shape_.heads + row.h,
                   (misfits >> lane & 1) != 0);
    }
  }

  /// Adds the lanes that attend to a key that does not fit, and those that attend to such a value.
  void FindMisfits(const Row& row, uint32_t& misfits, uint32_t& columns) const {
    for (int lane = 0; lane < kQueries; ++lane) {
      unsigned found = kFits;
      const auto look = [&](const uint8_t* flags, int64_t count) {
        for (int64_t n = 0; n < count; ++n) found |= flags[n];
      };
      if (any_extra_misfits_) look(mine_.extra.misfits + extra_index_[lane], extra_count_[lane]);
      for (int64_t k1 = row.keys1.begin; k1 < row.keys1.end; ++k1) {
        const uint8_t* flags = plane(k1).packed.misfits + row.first + strip_.index()[lane];
        for (int64_t n = 0; n < row.keys2.size(); ++n, flags += pitch_) look(flags, strip_.count()[lane]);
      }
      if ((found & kMisfitKey) != 0) misfits |= 1u << lane;
      if ((found & kMisfitValue) != 0) columns |= 1u << lane;
    }
  }

  const Outputs& out_;
  const unfused::BiasTables& biases_;
  const CarefulQueries careful_;
  const TokenView<const bf16> q_;
  const geometry::AxisMask mask1_, mask2_;
  const int64_t score_step_, weight_step_;
  const float scale_;                                                        ///< of scores
  const float factor_;                                                       ///< the same for exponents of 2
  std::array<int64_t, kQueries> query_offsets_, out_offsets_, lse_offsets_;  ///< in a row of queries
  std::array<int64_t, kQueries> own_offsets_;  ///< of scores, from that of the strip's first key in the query's row
  bool any_careful_ = false;
  int64_t weighed_rows_ = -1;  ///< rows of keys of a plane of the last row of queries
  MatrixUnit unit_;
};

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_BANDED_MATRIX_TASK_INL_H_
