// The keys and values of a strip on their way to a matrix unit, and the memory of a worker. See matrix.cpp.
#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "core/kernels/banded/careful-inl.h"
#include "core/kernels/banded/matrix_packing-inl.h"
#include "core/kernels/banded/tasks.h"
#include "core/kernels/tile/fetch.h"

#if defined(NALAB_CORE_KERNELS_BANDED_MATRIX_KEYS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_MATRIX_KEYS_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_MATRIX_KEYS_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_MATRIX_KEYS_INL_H_
#endif

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// Why a query that attends to a key is computed again: wholly, or in the channels of a value.
inline constexpr uint8_t kFits = 0, kMisfitKey = 1, kMisfitValue = 2;

/// Packed keys and values.
struct PackedKeys {
  float* keys;       ///< [tiles][steps][16 pairs of channels][16 keys]
  float* values;     ///< [pairs of keys][panels][32 cells]
  uint8_t* misfits;  ///< [keys]

  PackedKeys() = default;
  PackedKeys(const MatrixShape& shape, int64_t count, WorkspaceCutter& cutter)
      : keys(cutter.take<float>(count * shape.steps * kUnitCells)),
        values(cutter.take<float>(count / 2 * shape.value_row_cells())),
        misfits(cutter.take<uint8_t>(count)) {}
};

/// The rows of keys at one position along the first axis: those along the middle axis from the block's first on.
struct Plane {
  PackedKeys packed;
  int64_t number;  ///< the position; -1: none
  int64_t end;     ///< rows before this one are there
};

/// One worker's memory.
struct MatrixPrivate {
  float* queries;     ///< [kQueries][steps][16 pairs of channels]
  uint16_t* rows;     ///< [keys of a row, or extra tokens, padded][row elements]: on their way to tiles
  PackedKeys extra;   ///< [heads of a strip][extra_pitch]
  float* scores;      ///< [kQueries][score_step]
  uint16_t* weights;  ///< [kQueries][weight_step]
  float* sums;        ///< [kQueries][panels][32 cells]
  InnerSteps* parts;  ///< [planes + 1]: of the second product
  CarefulQueries::Private careful;
  Plane* planes;  ///< [planes]

  MatrixPrivate(const Problem& p, const MatrixShape& shape, WorkspaceCutter& cutter)
      : queries(cutter.take<float>(kQueries * shape.steps * kUnitCells)),
        rows(cutter.take<uint16_t>(std::max(shape.most_pitch, shape.extra_pitch) * shape.row_elements())),
        extra(shape, shape.extra_keys, cutter),
        scores(cutter.take<float>(kQueries * shape.score_step(shape.most_pitch))),
        weights(cutter.take<uint16_t>(kQueries * shape.weight_step(shape.most_pitch))),
        sums(cutter.take<float>(kQueries * shape.value_row_cells())),
        parts(cutter.take<InnerSteps>(shape.planes + 1)),
        careful(p, cutter),
        planes(cutter.take<Plane>(shape.planes)) {
    for (int64_t i = 0; i < shape.planes; ++i) {
      // Steps of the second product end with a window's last key, and begin up to a step before its first one.
      const int64_t before = kUnitStep;
      PackedKeys packed(shape, before + shape.plane_keys, cutter);
      if (planes == nullptr) continue;
      const int64_t cells = before / 2 * shape.value_row_cells();
      std::fill_n(packed.values, cells, 0.0f);
      packed.values += cells;
      planes[i].packed = packed;
    }
  }
};

/// A call.
struct MatrixShared {
  const Problem& problem;
  const LaneOrder order;
  const MatrixShape shape;
  const std::array<Axis, 3> axes;
  const unfused::BiasTables& biases;
  const Inputs& in;
  const Outputs& out;
  /// Whether rows of tensors are fetched before they are needed. The only row of a line is read in order.
  const bool fetch = tile::is_far(problem) && axes[0].extent * axes[1].extent > 1;
};

/// A strip of one batch entry, and its keys and values, packed row of keys by row of keys where they are needed.
class StripKeys {
 protected:
  HWY_ATTR StripKeys(const MatrixShared& shared, const Tasks::Task& task, const MatrixPrivate& mine)
      : problem_(shared.problem),
        shape_(shared.shape),
        axes_(shared.axes),
        mine_(mine),
        fetch_(shared.fetch),
        task_(task),
        batch_(task.place.batch),
        strip_(shared.order, task.strip),
        pitch_(padded_keys(strip_.keys())),
        k_(shared.in.k.as<bf16>()),
        v_(shared.in.v.as<bf16>()) {
    for (int64_t n = 0; n < strip_.keys(); ++n) {
      key_offsets_[n] = offset(strip_.key(n), k_.strides, 1);
      value_offsets_[n] = offset(strip_.key(n), v_.strides, 1);
    }
    if (problem_.extra_tokens > 0) PackExtraTokens(shared.in);
    FillRows(strip_.keys(), pitch_);
  }

  /// In a row of tokens with so many heads for each kv head.
  static int64_t offset(const Place& place, const TokenStrides& strides, int64_t heads) {
    return place.x3 * strides.layout[2] + place.head_kv * heads * strides.heads;
  }
  /// The rows of keys along the middle axis of the next rows of queries.
  void BeginBlock(geometry::Range keys2) {
    block_ = keys2;
    for (int64_t i = 0; i < shape_.planes; ++i) mine_.planes[i].number = -1;
    any_misfits_ = any_extra_misfits_;
  }

  Plane& plane(int64_t k1) const {
    return mine_.planes[static_cast<uint32_t>(k1) % static_cast<uint32_t>(shape_.planes)];
  }

  /// Packs the rows of keys of a plane that are not there yet.
  void HWY_ATTR PackPlane(int64_t k1, int64_t end) {
    Plane& to = plane(k1);
    if (std::exchange(to.number, k1) != k1) to.end = block_.begin;
    const int64_t x1 = axes_[0].coordinate(task_.place.g1, k1);
    for (; to.end < end; ++to.end) {
      const int64_t x2 = axes_[1].coordinate(task_.place.g2, to.end);
      const bf16 *const keys = k_.row(batch_, x1, x2, 0, 0), *const values = v_.row(batch_, x1, x2, 0, 0);
      if (fetch_ && to.end + 1 < block_.end) FetchKeys(x1, x2 + axes_[1].dilation);
      const bool fit = PackRows(
          to.packed, strip_.keys(), pitch_, (to.end - block_.begin) * pitch_,
          [&](int64_t n) HWY_ATTR { return keys + key_offsets_[n]; },
          [&](int64_t n) HWY_ATTR { return values + value_offsets_[n]; });
      any_misfits_ = any_misfits_ || !fit;
    }
  }

  const Problem& problem_;
  const MatrixShape& shape_;
  const std::array<Axis, 3>& axes_;
  const MatrixPrivate& mine_;
  const bool fetch_;
  const Tasks::Task task_;
  const int64_t batch_;
  const Strip strip_;
  const int64_t pitch_;                                          ///< from one row of keys to the next
  std::array<int32_t, kQueries> extra_index_{}, extra_count_{};  ///< of each lane's head
  bool any_extra_misfits_ = false, any_misfits_ = false;
  geometry::Range block_;  ///< rows of keys

 private:
  using KeyOffsets = std::array<int64_t, 4 * kMaxLanes + 3 * kMaxWindow>;

  /// Zeros for rows that wait to be packed.
  void FillRows(int64_t begin, int64_t end) const {
    std::fill(mine_.rows + begin * shape_.row_elements(), mine_.rows + end * shape_.row_elements(), uint16_t{0});
  }

  /// Fetches a row of keys and values that is needed soon: the hardware sees no pattern from one row to the next.
  void FetchKeys(int64_t x1, int64_t x2) const {
    const bf16 *const keys = k_.row(batch_, x1, x2, 0, 0), *const values = v_.row(batch_, x1, x2, 0, 0);
    for (int64_t n = 0; n < strip_.keys(); ++n) {
      tile::fetch_row<tile::CacheLevel::first>(keys + key_offsets_[n], problem_.head_dim);
      tile::fetch_row<tile::CacheLevel::first>(values + value_offsets_[n], problem_.head_dim_v);
    }
  }

  /// Packs `count` keys and values, padded to as many rows as are asked for, from key `first` on. Zeros stand for a key
  /// that does not fit, and for a value's numbers that do not. Returns whether all fit.
  template <class KeyOf, class ValueOf>
  HWY_INLINE bool PackRows(const PackedKeys& to, int64_t count, int64_t padded, int64_t first, const KeyOf& key,
                           const ValueOf& value) const {
    const int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v, step = shape_.row_elements();
    uint8_t* const misfits = to.misfits + first;
    std::fill_n(misfits, padded, kFits);
    bool all_fit = true;
    if (!CopyRows(count, key, dim, step, mine_.rows)) {
      all_fit = false;
      for (int64_t n = 0; n < count; ++n) {
        if (Fits(key(n), dim)) continue;
        misfits[n] = kMisfitKey;
        FillRows(n, n + 1);
      }
    }
    KeysToTiles(mine_.rows, step, padded, shape_.steps * kUnitCells, first, to.keys);
    if (!CopyRows(count, value, dim_v, step, mine_.rows)) {
      all_fit = false;
      for (int64_t n = 0; n < count; ++n) {
        for (int64_t c = 0; c < dim_v; ++c) {
          if (Fits(value(n) + c, 1)) continue;
          misfits[n] = static_cast<uint8_t>(misfits[n] | kMisfitValue);
          mine_.rows[n * step + c] = 0;
        }
      }
    }
    const int64_t cells = shape_.value_row_cells();
    ValuesToRows(mine_.rows, step, padded, cells, to.values + first / 2 * cells);
    return all_fit;
  }

  /// The extra tokens of each head of the strip, in turn.
  void HWY_ATTR PackExtraTokens(const Inputs& in) {
    const int64_t tokens = problem_.extra_tokens, pitch = shape_.extra_pitch;
    const auto extra_k = in.extra_k.as<bf16>(), extra_v = in.extra_v.as<bf16>();
    FillRows(tokens, pitch);
    std::array<int64_t, kQueries> heads;
    int64_t count = 0;
    for (int lane = 0; lane < kQueries; ++lane) {
      const int64_t head = strip_.query(lane).head_kv;
      const int64_t slot = std::find(heads.begin(), heads.begin() + count, head) - heads.begin();
      extra_index_[lane] = static_cast<int32_t>(slot * pitch);
      extra_count_[lane] = static_cast<int32_t>(tokens);
      if (slot < count) continue;
      heads[count++] = head;
      const bool fit = PackRows(
          mine_.extra, tokens, pitch, slot * pitch,
          [&](int64_t n) HWY_ATTR { return extra_k.row(batch_, 0, 0, n, head); },
          [&](int64_t n) HWY_ATTR { return extra_v.row(batch_, 0, 0, n, head); });
      any_extra_misfits_ = any_extra_misfits_ || !fit;
    }
    const int64_t used = count * pitch, cells = shape_.value_row_cells();
    std::fill_n(mine_.extra.values + used / 2 * cells, (shape_.extra_keys - used) / 2 * cells, 0.0f);
  }

  const TokenView<const bf16> k_, v_;
  KeyOffsets key_offsets_, value_offsets_;  ///< in a row of keys
};

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_BANDED_MATRIX_KEYS_INL_H_
