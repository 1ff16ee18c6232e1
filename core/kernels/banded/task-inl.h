// One task of the forward pass of banded: a strip of queries over blocks of rows, its memory, and the steps from
// queries to results. See banded.cpp.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/kernels/banded/block-inl.h"
#include "core/simd/exp-inl.h"
#include "core/tensor/row.h"
#include "core/tensor/workspace.h"
#include "core/tensors.h"
#include "hwy/contrib/math/math-inl.h"

#if defined(NALAB_CORE_KERNELS_BANDED_TASK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_TASK_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_TASK_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_TASK_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// Stands for a column that a lane does not attend to, and for "no score yet"; for the reasons of tile::LaneBiases.
inline float NoScore(const Problem& p) { return p.relative_bias ? std::numeric_limits<float>::lowest() : -1e36f; }

/// Lane by lane, the greatest of `count` vectors, and `least`.
inline VF HWY_ATTR MaxOf(const float* vectors, int64_t count, float least) {
  const Floats d;
  VF max[4];
  for (VF& m : max) m = hn::Set(d, least);
  int64_t n = 0;
  for (; n + 4 <= count; n += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) max[i] = hn::Max(max[i], hn::Load(d, vectors + (n + i) * kLanes));
  }
  for (; n < count; ++n) max[0] = hn::Max(max[0], hn::Load(d, vectors + n * kLanes));
  return hn::Max(hn::Max(max[0], max[1]), hn::Max(max[2], max[3]));
}

inline VF HWY_ATTR SumOf(const float* vectors, int64_t count) {
  const Floats d;
  VF sum = hn::Zero(d);
  for (int64_t n = 0; n < count; ++n) sum = hn::Add(sum, hn::Load(d, vectors + n * kLanes));
  return sum;
}

/// Scores become weights, exp2(exponent * (score - max)), as exact as cells of kind A need; returns their sums.
template <class A>
VF HWY_ATTR Weigh(float* scores, int64_t count, VF max, float exponent) {
  const Floats d;
  const VF factor = hn::Set(d, exponent);
  const auto weigh = [&](float* p) HWY_ATTR {
    const VF weight = A::Exp2NonPositive(hn::Mul(hn::Sub(hn::Load(d, p), max), factor));
    hn::Store(weight, d, p);
    return weight;
  };
  VF sum[2] = {hn::Zero(d), hn::Zero(d)};
  int64_t n = 0;
  for (; n + 2 <= count; n += 2) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) sum[i] = hn::Add(sum[i], weigh(scores + (n + i) * kLanes));
  }
  if (n < count) sum[0] = hn::Add(sum[0], weigh(scores + n * kLanes));
  return hn::Add(sum[0], sum[1]);
}

/// One worker's memory.
struct Private {
  float* queries;          ///< [cells of head_dim][rows][kLanes]
  KeptRows keys;           ///< on lanes
  float* scores;           ///< [rows][columns][kLanes]: then weights, in rows of cells
  KeptRows values;         ///< [keys][padded channels]; none if they are used where they lie, like `extra`
  float* extra;            ///< [kv heads of a strip][cells of extra tokens][padded channels]
  float* floats;           ///< [kLanes][padded channels]: sums on their way to out
  float* extra_keys;       ///< [cells of head_dim][kLanes]: an extra token of each lane's head
  const float** key_rows;  ///< [rows of cells]: the values of all rows of keys of a block
  const float** own_rows;  ///< [rows of cells]: those of one row of queries
  uint32_t* halves;        ///< [rows of cells]: what it attends to of each
  float** targets;         ///< [rows]: where their scores with a row of keys go

  template <class A>
  Private(A /*cells*/, const Problem& p, const BlockShape& block, WorkspaceCutter& cutter) {
    const int64_t channels = PaddedChannels(p.head_dim_v), copied = p.type == ElementType::f32 ? 0 : channels;
    const int64_t cells = CellsOf<A>(p.head_dim), cell_rows = block.key_rows1 * MostCellRows<A>(block);
    queries = cutter.take<float>(cells * block.rows() * kLanes);
    keys = KeptOnLanes(block, cells, cutter);
    scores = cutter.take<float>(block.rows() * p.keys_per_query() * kLanes);
    values = {block.key_rows1, MostCellRows<A>(block), block.key_columns * copied, cutter};
    extra = cutter.take<float>(std::min<int64_t>(p.heads_kv, kLanes) * CellsOf<A>(p.extra_tokens) * copied);
    floats = cutter.take<float>(kLanes * copied);
    extra_keys = cutter.take<float>(p.extra_tokens > 0 ? kLanes * cells : 0);
    key_rows = cutter.take<const float*>(cell_rows);
    own_rows = cutter.take<const float*>(cell_rows);
    halves = cutter.take<uint32_t>(cell_rows);
    targets = cutter.take<float*>(block.rows());
  }
};

/// A call.
struct Shared {
  Geometry geometry;
  const Inputs& in;
  const Outputs& out;
};

/// A strip of one batch entry, over blocks of rows.
template <class T, class A>
class Task : private StripBlocks<T, A> {
  using Base = StripBlocks<T, A>;

 public:
  HWY_ATTR Task(const Shared& shared, int64_t strip_number, const Strip& strip, const BlockPlace& place,
                const Private& mine)
      : Base(shared.geometry, strip_number, strip, place),
        shared_(shared),
        mine_(mine),
        scale_(std::abs(problem_.effective_scale())),
        later_(problem_.relative_bias ? 1.0 : scale_),
        q_(shared.in.q.template as<T>()),
        k_(shared.in.k.template as<T>()),
        v_(shared.in.v.template as<T>()),
        key_offsets_(Base::OffsetsOfKeys(k_.strides)),
        value_offsets_(Base::OffsetsOfKeys(v_.strides)),
        query_offsets_(Base::OffsetsOfQueries(q_.strides)),
        out_offsets_(Base::OffsetsOfQueries(shared.out.out.strides)),
        lse_offsets_(Base::OffsetsOfQueries(shared.out.lse.strides)),
        extra_(Base::ExtraAsRows(shared.in.extra_v.template as<T>(), mine.extra)) {
    mine.keys.forget();
    mine.values.forget();
  }

  /// The queries at position `x1` of the first axis and at `x2` of the middle axis.
  void HWY_ATTR Run(int64_t x1, geometry::Range x2) {
    Base::Begin(x1, x2);
    FetchOut();
    Base::QueriesToLanes(q_, query_offsets_, mine_.queries);
    // A negative scale changes the sign of the queries, exactly, so that the greatest score has the greatest weight.
    if (problem_.effective_scale() < 0) Negate();
    const float** values = mine_.key_rows;
    for (int64_t k1 = keys1_.begin; k1 < keys1_.end; ++k1) {
      for (int64_t k2 = keys2_.begin; k2 < keys2_.end; ++k2) {
        const auto is_next = [&](int64_t key) { return key < keys2_.end && !Base::Has(mine_.keys, k1, key); };
        if (is_next(k2 + 1)) Base::template FetchKeys<tile::CacheLevel::first>(k_, key_offsets_, k1, k2 + 1);
        if (is_next(k2 + A::kElements)) {
          Base::template FetchKeys<tile::CacheLevel::second>(v_, value_offsets_, k1, k2 + A::kElements);
        }
        if (k2 == keys2_.begin || k2 % A::kElements == 0) {
          *values++ = Base::KeysAsRows(v_, value_offsets_, k1, k2 / A::kElements, mine_.values);
        }
        ScoreRow(k1, k2, Base::KeysToLanes(k_, key_offsets_, k1, k2, mine_.keys));
      }
    }
    ScoreExtraTokens();
    for (int64_t row = 0; row < rows_; ++row) Finish(row);
  }

 private:
  using Base::batch_, Base::columns_, Base::geometry_, Base::keys1_, Base::keys2_, Base::problem_;
  using Base::rows_, Base::strip_, Base::strip_number_, Base::window_, Base::x1_;

  /// Columns of a row of queries in the rows of keys that it attends to.
  float* scores_of(int64_t row) const { return mine_.scores + row * columns_ * kLanes; }

  /// Changes the sign of all packed queries.
  void HWY_ATTR Negate() {
    const Floats d;
    const VF signs = hn::BitCast(d, hn::Set(Cells(), A::kSigns));
    const int64_t vectors = cells() * geometry_.block.rows();
    for (int64_t n = 0; n < vectors; ++n) {
      float* const p = mine_.queries + n * kLanes;
      hn::Store(hn::Xor(hn::Load(d, p), signs), d, p);
    }
  }

  /// Of a query or a key on lanes.
  int64_t cells() const { return CellsOf<A>(problem_.head_dim); }

  /// Fetches where the results of the block will go.
  void HWY_ATTR FetchOut() const {
    with_element_type(shared_.out.out.type, [&](auto element) HWY_ATTR {
      const auto out = shared_.out.out.template as<decltype(element)>();
      for (int64_t row = 0; row < rows_; ++row) {
        Base::template FetchQueries<tile::CacheLevel::second>(out, out_offsets_, row);
      }
    });
  }

  /// Scores of all queries of the block that attend to a row of keys.
  void HWY_ATTR ScoreRow(int64_t k1, int64_t k2, const float* key_lanes) {
    const geometry::Range rows = Base::RowsOf(k2);
    if (rows.empty()) return;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      mine_.targets[row - rows.begin] = scores_of(row) + Base::KeyRow(row, k1, k2) * window_ * kLanes;
    }
    const KeyLanes keys{key_lanes, Base::pitch_, strip_.index()};
    Scores<A>(rows.size(), mine_.queries + rows.begin * kLanes, geometry_.block.rows(), keys, OrderOf(strip_), cells(),
              window_, mine_.targets);
  }

  /// An extra token is a row of keys with one column, in which each lane has the key of its head.
  void HWY_ATTR ScoreExtraTokens() {
    for (int64_t n = 0; n < problem_.extra_tokens; ++n) {
      Base::ExtraToLanes(shared_.in.extra_k.template as<T>(), n, mine_.extra_keys);
      for (int64_t row = 0; row < rows_; ++row) {
        mine_.targets[row] = scores_of(row) + (Base::ColumnsOf(row) + n) * kLanes;
      }
      const KeyLanes keys{mine_.extra_keys, kLanes, strip_.index()};
      Scores<A>(rows_, mine_.queries, geometry_.block.rows(), keys, Order::in_order, cells(), 1, mine_.targets);
    }
  }

  /// Softmax, sums of values, and results of a row of queries.
  void HWY_ATTR Finish(int64_t row) {
    HWY_ALIGN float inverse[kLanes];
    Softmax(row, inverse);
    if constexpr (A::kElements == 2) Base::PackWeights(row, scores_of(row), mine_.halves);
    const int64_t value_rows = Base::OwnRows(row, mine_.key_rows, mine_.own_rows);
    const auto list = [&](int run) HWY_ATTR -> ValueList {
      return {mine_.own_rows,
              value_rows,
              Base::FirstOf(v_, value_offsets_, strip_.run(run).key),
              Base::StepOf(v_),
              problem_.head_dim_v,
              extra_[run],
              CellsOf<A>(problem_.extra_tokens),
              scores_of(row),
              mine_.halves};
    };
    Base::StoreSums(shared_.out.out, out_offsets_, row, inverse, mine_.floats, list);
  }

  /// Scores of a row of queries become weights; stores lse, and what sums of values are to be multiplied by.
  void HWY_ATTR Softmax(int64_t row, float* inverse) {
    const Floats d;
    float* const scores = scores_of(row);
    const int64_t columns = Base::ColumnsOf(row), all = columns + problem_.extra_tokens;
    if (problem_.relative_bias) AddBiases(row, factor_as_float(scale_));
    if (!strip_.full()) SetHidden(scores, columns, NoScore(problem_));
    const VF max = MaxOf(scores, all, NoScore(problem_));
    VF sum = Weigh<A>(scores, all, max, factor_as_float(later_ * std::numbers::log2e));
    if (!strip_.full()) {
      // Where all that a lane attends to is -infinity, what it does not attend to would weigh 1.
      SetHidden(scores, columns, 0.0f);
      sum = SumOf(scores, all);
    }
    hn::Store(hn::Div(hn::Set(d, 1.0f), sum), d, inverse);
    const VF value = hn::MulAdd(max, hn::Set(d, factor_as_float(later_)), hn::Log(d, sum));
    HWY_ALIGN float lse[kLanes];
    // No weight at all: every score was -infinity, and the definition gives NaN.
    hn::Store(hn::IfThenElse(hn::Gt(sum, hn::Zero(d)), value, hn::NaN(d)), d, lse);
    float* const target = Base::FirstQuery(shared_.out.lse.template as<float>(), row);
    for (int lane = 0; lane < strip_.lanes(); ++lane) target[lse_offsets_[lane]] = lse[lane];
  }

  /// Gives columns that are hidden from a lane a value there.
  void HWY_ATTR SetHidden(float* scores, int64_t columns, float value) {
    const Floats d;
    for (int64_t j = 0; j < window_; ++j) {
      const auto attends = Base::Attends(j);
      for (int64_t n = j; n < columns; n += window_) {
        float* const p = scores + n * kLanes;
        hn::Store(hn::IfThenElse(attends, hn::Load(d, p), hn::Set(d, value)), d, p);
      }
    }
  }

  /// scores = scale * scores + bias.
  void HWY_ATTR AddBiases(int64_t row, float scale) {
    const Floats d;
    const VF factor = hn::Set(d, scale);
    float* p = scores_of(row);
    const auto add = [&](const float* bias, int64_t columns) HWY_ATTR {
      for (int64_t j = 0; j < columns; ++j, p += kLanes, bias += kLanes) {
        hn::Store(hn::MulAdd(hn::Load(d, p), factor, hn::Load(d, bias)), d, p);
      }
    };
    const geometry::Range keys2 = Base::keys2_of(row);
    for (int64_t k1 = keys1_.begin; k1 < keys1_.end; ++k1) {
      for (int64_t k2 = keys2.begin; k2 < keys2.end; ++k2) {
        add(geometry_.biases.of(strip_number_, row % Base::heads(), k1 - x1_, k2 - Base::position2(row)), window_);
      }
    }
    for (int64_t n = 0; n < problem_.extra_tokens; ++n, p += kLanes) {
      hn::Store(hn::Mul(hn::Load(d, p), factor), d, p);
    }
  }

  const Shared& shared_;
  const Private& mine_;
  const double scale_;  ///< its sign is that of the queries
  const double later_;  ///< of scores, once biases are added
  const TokenView<const T> q_, k_, v_;
  const typename Base::KeyOffsets key_offsets_, value_offsets_;
  const typename Base::QueryOffsets query_offsets_, out_offsets_, lse_offsets_;
  const typename Base::RunRows extra_;
};

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_TASK_INL_H_
