// One task of the forward pass of banded: a strip of queries over blocks of rows, its memory, and the steps from
// queries to results. See banded.cpp.
#include <algorithm>
#include <cmath>
#include <limits>

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

/// One worker's memory.
struct Private {
  float* queries;          ///< [head_dim][rows][kLanes]
  KeptLanes keys;          ///< of head_dim
  float* scores;           ///< [rows][columns][kLanes]
  float* values;           ///< [key rows][keys][padded channels]; none if they are used where they lie, like `extra`
  float* extra;            ///< [kv heads of a strip][extra tokens][padded channels]
  float* floats;           ///< [kLanes][greatest dim]: rows on their way to lanes, and sums on their way to out
  float* extra_keys;       ///< [head_dim][kLanes]: an extra token of each lane's head
  const float** key_rows;  ///< [key rows]: the values of all rows of keys of a block
  const float** own_rows;  ///< [key rows]: those of one row of queries
  float** targets;         ///< [rows]: where their scores with a row of keys go

  Private(const Problem& p, WorkspaceCutter& cutter) {
    const BlockShape block(p, kLanes, Pass::forward);
    const int64_t channels = PaddedChannels(p.head_dim_v), copied = InPlace(p, p.head_dim_v) ? 0 : channels;
    queries = cutter.take<float>(p.head_dim * block.rows() * kLanes);
    keys.data = cutter.take<float>(block.kept_rows * p.head_dim * KeyPitch(p.axes.back().window));
    keys.rows = cutter.take<int64_t>(block.kept_rows);
    scores = cutter.take<float>(block.rows() * p.keys_per_query() * kLanes);
    values = cutter.take<float>(block.key_rows * block.key_columns * copied);
    extra = cutter.take<float>(std::min<int64_t>(p.heads_kv, kLanes) * p.extra_tokens * copied);
    floats = cutter.take<float>(kLanes * std::max(p.head_dim, channels));
    extra_keys = cutter.take<float>(p.extra_tokens > 0 ? kLanes * p.head_dim : 0);
    key_rows = cutter.take<const float*>(block.key_rows);
    own_rows = cutter.take<const float*>(block.key_rows);
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
template <class T>
class Task : private StripBlocks<T> {
  using Base = StripBlocks<T>;

 public:
  HWY_ATTR Task(const Shared& shared, int64_t strip_number, const Strip& strip, const BlockPlace& place,
                const Private& mine)
      : Base(shared.geometry, strip_number, strip, place),
        shared_(shared),
        mine_(mine),
        k_(shared.in.k.template as<T>()),
        v_(shared.in.v.template as<T>()),
        key_offsets_(Base::OffsetsOfKeys(k_.strides)),
        value_offsets_(Base::OffsetsOfKeys(v_.strides)),
        extra_(Base::ExtraAsFloats(shared.in.extra_v.template as<T>(), mine.extra)) {
    Base::ForgetKeys(mine.keys);
  }

  /// The queries at positions `x2` of the middle axis: neighbours of those before, if there were any.
  void HWY_ATTR Run(geometry::Range x2) {
    Base::Begin(x2);
    // A negative scale changes the sign of the queries, exactly, so that the greatest score has the greatest weight.
    Base::QueriesToLanes(shared_.in.q.template as<T>(), problem_.effective_scale() < 0 ? -1.0f : 1.0f, mine_.queries,
                         mine_.floats);
    const int64_t copied = geometry_.block.key_columns * PaddedChannels(problem_.head_dim_v);
    int64_t key_row = 0;
    for (int64_t k1 = keys1_.begin; k1 < keys1_.end; ++k1) {
      for (int64_t k2 = keys2_.begin; k2 < keys2_.end; ++k2, ++key_row) {
        if (k2 + 1 < keys2_.end && k2 + 1 >= seen2_) Prefetch(k1, k2 + 1);
        mine_.key_rows[key_row] = Base::KeysAsFloats(v_, value_offsets_, k1, k2, mine_.values + key_row * copied);
        ScoreRow(k1, k2, Base::KeysToLanes(k_, key_offsets_, k1, k2, mine_.keys, mine_.floats));
      }
    }
    seen2_ = keys2_.end;
    ScoreExtraTokens();
    for (int64_t row = 0; row < rows_; ++row) Finish(row, mask2_.keys(Base::position2(row)));
  }

 private:
  using Base::batch_, Base::columns_, Base::geometry_, Base::keys1_, Base::keys2_, Base::mask2_, Base::problem_;
  using Base::rows_, Base::strip_, Base::strip_number_, Base::window_, Base::x1_;

  /// Columns of a row of queries in the rows of keys that it attends to.
  float* scores_of(int64_t row) const { return mine_.scores + row * columns_ * kLanes; }

  /// Fetches a row of keys and values that is needed soon: the hardware sees no pattern from one row to the next.
  void HWY_ATTR Prefetch(int64_t k1, int64_t k2) const {
    constexpr int64_t kLine = static_cast<int64_t>(kAlignment / sizeof(T));
    const int64_t c1 = Base::c1(k1), c2 = Base::c2(k2);
    const T *const keys = k_.row(batch_, c1, c2, 0, 0), *const values = v_.row(batch_, c1, c2, 0, 0);
    for (int64_t n = 0; n < strip_.keys(); ++n) {
      for (int64_t c = 0; c < problem_.head_dim; c += kLine) __builtin_prefetch(keys + key_offsets_[n] + c, 0, 3);
      for (int64_t c = 0; c < problem_.head_dim_v; c += kLine) __builtin_prefetch(values + value_offsets_[n] + c, 0, 2);
    }
  }

  /// Scores of all queries of the block that attend to a row of keys.
  void HWY_ATTR ScoreRow(int64_t k1, int64_t k2, const float* key_lanes) {
    const geometry::Range rows = Base::RowsOf(k2);
    if (rows.empty()) return;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      mine_.targets[row - rows.begin] = scores_of(row) + Base::KeyRow(row, k1, k2) * window_ * kLanes;
    }
    const KeyLanes keys{key_lanes, KeyPitch(window_), strip_.index()};
    Scores(rows.size(), mine_.queries + rows.begin * kLanes, geometry_.block.rows(), keys, OrderOf(strip_),
           problem_.head_dim, window_, mine_.targets);
  }

  /// An extra token is a row of keys with one column, in which each lane has the key of its head.
  void HWY_ATTR ScoreExtraTokens() {
    for (int64_t n = 0; n < problem_.extra_tokens; ++n) {
      Base::ExtraToLanes(shared_.in.extra_k.template as<T>(), n, mine_.extra_keys, mine_.floats);
      for (int64_t row = 0; row < rows_; ++row) {
        mine_.targets[row] = scores_of(row) + (Base::ColumnsOf(row) + n) * kLanes;
      }
      const KeyLanes keys{mine_.extra_keys, kLanes, strip_.index()};
      Scores(rows_, mine_.queries, geometry_.block.rows(), keys, Order::in_order, problem_.head_dim, 1, mine_.targets);
    }
  }

  /// Softmax, sums of values, and results of a row of queries.
  void HWY_ATTR Finish(int64_t row, geometry::Range keys2) {
    HWY_ALIGN float inverse[kLanes];
    Softmax(row, keys2, inverse);
    const int64_t key_rows = Base::OwnRows(row, mine_.key_rows, mine_.own_rows);
    // Whole vectors of floats go straight to their place.
    const TensorView& out = shared_.out.out;
    const int64_t channels = PaddedChannels(problem_.head_dim_v);
    const bool straight = out.type == ElementType::f32 && problem_.head_dim_v == channels;
    float* rows[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      rows[lane] = straight ? Base::QueryRow(out.template as<float>(), lane, row) : mine_.floats + lane * channels;
    }
    for (int i = 0; i < strip_.runs(); ++i) {
      const banded::Run& run = strip_.run(i);
      const ValueList list{mine_.own_rows,   key_rows,  Base::FirstOf(v_, value_offsets_, run.key),
                           Base::StepOf(v_), extra_[i], problem_.extra_tokens,
                           scores_of(row)};
      Sums(list, run, window_, channels, {rows, inverse});
    }
    for (int lane = 0; lane < strip_.lanes() && !straight; ++lane) {
      store_row(out, batch_, {Base::query_x1_, Base::query_x2(row), strip_.query(lane).x3}, Base::query_head(lane, row),
                rows[lane]);
    }
  }

  /// Scores of a row of queries become weights; stores lse, and what sums of values are to be multiplied by.
  void HWY_ATTR Softmax(int64_t row, geometry::Range keys2, float* inverse) {
    const Floats d;
    float* const scores = scores_of(row);
    const int64_t columns = keys1_.size() * keys2.size() * window_, all = columns + problem_.extra_tokens;
    const double scale = std::abs(problem_.effective_scale());
    const bool biased = problem_.relative_bias;
    if (biased) AddBiases(row, keys2, factor_as_float(scale));
    if (!strip_.full()) HideColumns(scores, columns);
    VF max = hn::Set(d, NoScore(problem_)), second = max;
    int64_t n = 0;
    for (; n + 2 <= all; n += 2) {
      max = hn::Max(max, hn::Load(d, scores + n * kLanes));
      second = hn::Max(second, hn::Load(d, scores + (n + 1) * kLanes));
    }
    if (n < all) max = hn::Max(max, hn::Load(d, scores + n * kLanes));
    max = hn::Max(max, second);
    const double later = biased ? 1.0 : scale;
    const VF exponent = hn::Set(d, factor_as_float(later * kLog2E));
    VF sum = hn::Zero(d);
    for (n = 0; n < all; ++n) {
      float* const p = scores + n * kLanes;
      VF weight = simd::HWY_NAMESPACE::Exp2NonPositive(d, hn::Mul(hn::Sub(hn::Load(d, p), max), exponent));
      // Where all that a lane attends to is -infinity, what it does not attend to would weigh 1.
      if (!strip_.full() && n < columns) weight = hn::IfThenElseZero(Base::Attends(n % window_), weight);
      hn::Store(weight, d, p);
      sum = hn::Add(sum, weight);
    }
    hn::Store(hn::Div(hn::Set(d, 1.0f), sum), d, inverse);
    const VF value = hn::MulAdd(max, hn::Set(d, factor_as_float(later)), hn::Log(d, sum));
    HWY_ALIGN float lse[kLanes];
    // No weight at all: every score was -infinity, and the definition gives NaN.
    hn::Store(hn::IfThenElse(hn::Gt(sum, hn::Zero(d)), value, hn::NaN(d)), d, lse);
    const auto target = shared_.out.lse.template as<float>();
    for (int lane = 0; lane < strip_.lanes(); ++lane) *Base::QueryRow(target, lane, row) = lse[lane];
  }

  /// No scores for columns that are hidden from a lane.
  void HWY_ATTR HideColumns(float* scores, int64_t columns) {
    const Floats d;
    for (int64_t n = 0; n < columns; ++n) {
      float* const p = scores + n * kLanes;
      hn::Store(hn::IfThenElse(Base::Attends(n % window_), hn::Load(d, p), hn::Set(d, NoScore(problem_))), d, p);
    }
  }

  /// scores = scale * scores + bias.
  void HWY_ATTR AddBiases(int64_t row, geometry::Range keys2, float scale) {
    const Floats d;
    const VF factor = hn::Set(d, scale);
    float* p = scores_of(row);
    const auto add = [&](const float* bias, int64_t columns) HWY_ATTR {
      for (int64_t j = 0; j < columns; ++j, p += kLanes, bias += kLanes) {
        hn::Store(hn::MulAdd(hn::Load(d, p), factor, hn::Load(d, bias)), d, p);
      }
    };
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
  const TokenView<const T> k_, v_;
  const typename Base::KeyOffsets key_offsets_, value_offsets_;
  const typename Base::RunRows extra_;
  int64_t seen2_ = 0;  ///< rows of keys before this have been used
};

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_TASK_INL_H_
