// One task of banded: a strip of queries over blocks of rows, its memory, and the steps from queries to results. See
// banded.cpp.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/kernels/banded/scores-inl.h"
#include "core/kernels/banded/strips.h"
#include "core/kernels/banded/values-inl.h"
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

#ifndef NALAB_CORE_KERNELS_BANDED_TASK_ONCE
#define NALAB_CORE_KERNELS_BANDED_TASK_ONCE

namespace nalab::banded {

/// The rows of queries that are computed at a time: neighbours along the middle axis in a dilation group, for all query
/// heads of a kv head.
struct BlockShape {
  int64_t positions;    ///< along the middle axis
  int64_t heads;        ///< query heads of a kv head
  int64_t key_rows2;    ///< rows of keys along the middle axis, at most
  int64_t key_rows;     ///< and in all
  int64_t key_columns;  ///< keys of a strip in one of them, at most
  int64_t kept_rows;    ///< transposed rows of keys that are kept for the next block along the middle axis, or 1

  int64_t rows() const { return positions * heads; }

  BlockShape(const Problem& p, int lanes) : heads(p.heads / p.heads_kv) {
    const auto axes = p.axes3();
    // Queries and scores of a block stay in the first-level cache.
    constexpr int64_t kBytes = 40 << 10, kMost = 8, kLeast = 3;
    const int64_t row_bytes = 4 * lanes * (p.head_dim + p.keys_per_query()) * heads;
    positions =
        std::min(std::clamp(kBytes / row_bytes, std::max<int64_t>(kLeast / heads, 1), kMost), axes[1].group_length(0));
    key_rows2 = std::min(axes[1].group_length(0), positions + axes[1].stride + axes[1].window);
    key_rows = axes[0].window * key_rows2;
    key_columns = most_keys(axes[2].window, lanes);
    // Beyond this a kept row comes from further away than its keys.
    constexpr int64_t kKeptBytes = 256 << 10;
    kept_rows = 4 * p.head_dim * key_columns * key_rows <= kKeptBytes ? key_rows : 1;
  }
};

}  // namespace nalab::banded

#endif  // NALAB_CORE_KERNELS_BANDED_TASK_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

inline constexpr double kLog2E = 1.4426950408889634;
/// Stands for a column that a lane does not attend to, and for "no score yet"; for the reasons of tile::LaneBiases.
inline float NoScore(const Problem& p) { return p.relative_bias ? std::numeric_limits<float>::lowest() : -1e36f; }

/// Whether values are used where they lie: as whole vectors of floats.
inline bool ValuesInPlace(const Problem& p) { return p.type == ElementType::f32 && p.head_dim_v % kLanes == 0; }

inline int64_t PaddedChannels(int64_t dim) { return geometry::ceil_div(dim, kLanes) * kLanes; }

/// One worker's memory.
struct Private {
  float* queries;          ///< [head_dim][rows][kLanes]
  float* keys;             ///< [kept rows][head_dim][pitch]
  int64_t* kept;           ///< [kept rows]: which row of keys along the middle axis it is
  float* scores;           ///< [rows][columns][kLanes]
  float* values;           ///< [key rows][keys][padded channels]; none if they are used where they lie, like `extra`
  float* extra;            ///< [kv heads of a strip][extra tokens][padded channels]
  float* floats;           ///< [kLanes][greatest dim]: rows on their way to lanes, and sums on their way to out
  float* extra_keys;       ///< [head_dim][kLanes]: an extra token of each lane's head
  const float** key_rows;  ///< [key rows]: the values of all rows of keys of a block
  const float** own_rows;  ///< [key rows]: those of one row of queries
  float** targets;         ///< [rows]: where their scores with a row of keys go

  Private(const Problem& p, WorkspaceCutter& cutter) {
    const BlockShape block(p, kLanes);
    const int64_t channels = PaddedChannels(p.head_dim_v), copied = ValuesInPlace(p) ? 0 : channels;
    queries = cutter.take<float>(p.head_dim * block.rows() * kLanes);
    keys = cutter.take<float>(block.kept_rows * p.head_dim * KeyPitch(p.axes.back().window));
    kept = cutter.take<int64_t>(block.kept_rows);
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

/// What the tasks of a call share.
struct Shared {
  const Problem& problem;
  const Inputs& in;
  const Outputs& out;
  const LaneOrder order;
  const BlockShape block;
  const std::array<Axis, 3> axes;
  const StripBiases& biases;
};

/// A strip of one batch entry, over blocks of rows.
template <class T>
class Task {
 public:
  /// Blocks at position x1 of group g1 of the first axis and in group g2 of the middle one.
  HWY_ATTR Task(const Shared& shared, int64_t strip_number, const Strip& strip, int64_t batch, int64_t g1, int64_t x1,
                int64_t g2, const Private& mine)
      : shared_(shared),
        problem_(shared.problem),
        strip_number_(strip_number),
        strip_(strip),
        batch_(batch),
        mine_(mine),
        window_(shared.axes[2].window),
        columns_(problem_.keys_per_query()),
        channels_(PaddedChannels(problem_.head_dim_v)),
        in_place_(ValuesInPlace(problem_)),
        k_(shared.in.k.template as<T>()),
        v_(shared.in.v.template as<T>()),
        extra_k_(shared.in.extra_k.template as<T>()),
        extra_v_(shared.in.extra_v.template as<T>()),
        x1_(x1),
        query_x1_(shared.axes[0].coordinate(g1, x1)),
        g1_(g1),
        g2_(g2),
        mask2_(shared.axes[1].group_mask(g2)),
        keys1_(shared.axes[0].group_mask(g1).keys(x1)) {
    if (problem_.extra_tokens > 0) PackExtraValues();
    std::fill_n(mine.kept, shared.block.kept_rows, -1);
    for (int64_t n = 0; n < strip.keys(); ++n) {
      const Place& key = strip.key(n);
      key_offset_[n] = key.x3 * k_.strides.layout[2] + key.head_kv * k_.strides.heads;
      value_offset_[n] = key.x3 * v_.strides.layout[2] + key.head_kv * v_.strides.heads;
    }
  }

  /// The queries at positions `x2` of the middle axis: neighbours of those before, if there were any.
  void HWY_ATTR Run(geometry::Range x2) {
    x2_ = x2;
    rows_ = x2.size() * heads();
    keys2_ = mask2_.keys_of_any(x2);
    PackQueries();
    const float** key_row = mine_.key_rows;
    for (int64_t k1 = keys1_.begin; k1 < keys1_.end; ++k1) {
      for (int64_t k2 = keys2_.begin; k2 < keys2_.end; ++k2) {
        const int64_t c1 = shared_.axes[0].coordinate(g1_, k1), c2 = shared_.axes[1].coordinate(g2_, k2);
        if (k2 + 1 < keys2_.end && k2 + 1 >= seen2_) Prefetch(c1, shared_.axes[1].coordinate(g2_, k2 + 1));
        *key_row = Values(c1, c2, key_row - mine_.key_rows);
        ++key_row;
        ScoreRow(k1, k2, Keys(k1, k2, c1, c2));
      }
    }
    seen2_ = keys2_.end;
    ScoreExtraTokens();
    for (int64_t row = 0; row < rows_; ++row) Finish(row, mask2_.keys(position2(row)));
  }

 private:
  int64_t heads() const { return shared_.block.heads; }
  int64_t position2(int64_t row) const { return x2_.begin + row / heads(); }
  int64_t query_x2(int64_t row) const { return shared_.axes[1].coordinate(g2_, position2(row)); }
  int64_t query_head(int lane, int64_t row) const { return strip_.query(lane).head_kv * heads() + row % heads(); }
  /// Columns of a row of queries in the rows of keys that it attends to.
  float* scores_of(int64_t row) const { return mine_.scores + row * columns_ * kLanes; }

  void HWY_ATTR PackQueries() {
    const auto q = shared_.in.q.template as<T>();
    // A negative scale changes the sign of the queries, exactly, so that the greatest score has the greatest weight.
    const float sign = problem_.effective_scale() < 0 ? -1.0f : 1.0f;
    int64_t offset[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      const Place& place = strip_.query(lane);
      offset[lane] = place.x3 * q.strides.layout[2] + place.head_kv * heads() * q.strides.heads;
    }
    for (int64_t row = 0; row < rows_; ++row) {
      const T* const first = q.row(batch_, query_x1_, query_x2(row), 0, row % heads());
      ToLanes<T>(
          kLanes, problem_.head_dim, [&](int64_t lane) HWY_ATTR { return first + offset[lane]; }, sign,
          shared_.block.rows() * kLanes, mine_.queries + row * kLanes, mine_.floats);
    }
  }

  /// Fetches a row of keys and values that is needed soon: the hardware sees no pattern from one row to the next.
  void HWY_ATTR Prefetch(int64_t c1, int64_t c2) const {
    constexpr int64_t kLine = static_cast<int64_t>(kAlignment / sizeof(T));
    const T *const keys = k_.row(batch_, c1, c2, 0, 0), *const values = v_.row(batch_, c1, c2, 0, 0);
    for (int64_t n = 0; n < strip_.keys(); ++n) {
      for (int64_t c = 0; c < problem_.head_dim; c += kLine) __builtin_prefetch(keys + key_offset_[n] + c, 0, 3);
      for (int64_t c = 0; c < problem_.head_dim_v; c += kLine) __builtin_prefetch(values + value_offset_[n] + c, 0, 2);
    }
  }

  /// A row of keys on lanes: one that the block before has left, or a new one.
  const float* HWY_ATTR Keys(int64_t k1, int64_t k2, int64_t c1, int64_t c2) {
    const bool keeps = shared_.block.kept_rows > 1;
    const int64_t slot = keeps ? (k1 - keys1_.begin) * shared_.block.key_rows2 + k2 % shared_.block.key_rows2 : 0;
    float* const keys = mine_.keys + slot * problem_.head_dim * KeyPitch(window_);
    if (keeps && mine_.kept[slot] == k2) return keys;
    mine_.kept[slot] = k2;
    const T* const first = k_.row(batch_, c1, c2, 0, 0);
    ToLanes<T>(
        strip_.keys(), problem_.head_dim, [&](int64_t n) HWY_ATTR { return first + key_offset_[n]; }, 1.0f,
        KeyPitch(window_), keys, mine_.floats);
    return keys;
  }

  /// Where the values of a row of keys begin: in their tensor, or copied.
  const float* HWY_ATTR Values(int64_t c1, int64_t c2, int64_t key_row) {
    if constexpr (std::is_same_v<T, float>) {
      if (in_place_) return v_.row(batch_, c1, c2, 0, 0);
    }
    float* const first = mine_.values + key_row * shared_.block.key_columns * channels_;
    const T* const source = v_.row(batch_, c1, c2, 0, 0);
    for (int64_t n = 0; n < strip_.keys(); ++n) CopyValues(source + value_offset_[n], first + n * channels_);
    return first;
  }

  void HWY_ATTR CopyValues(const T* source, float* target) {
    simd::HWY_NAMESPACE::CopyToFloats(source, problem_.head_dim_v, target);
    std::fill(target + problem_.head_dim_v, target + channels_, 0.0f);
  }

  /// Finds the extra tokens' values of each run.
  void HWY_ATTR PackExtraValues() {
    int64_t heads = 0;
    for (int i = 0; i < strip_.runs(); ++i) {
      const int64_t head_kv = strip_.query(strip_.run(i).lane).head_kv;
      if constexpr (std::is_same_v<T, float>) {
        if (in_place_) {
          extra_[i] = {extra_v_.row(batch_, 0, 0, 0, head_kv), extra_v_.strides.layout[2]};
          continue;
        }
      }
      // Runs of one head may follow each other, or come again after those of others.
      int same = 0;
      while (same < i && strip_.query(strip_.run(same).lane).head_kv != head_kv) ++same;
      if (same < i) {
        extra_[i] = extra_[same];
        continue;
      }
      float* const first = mine_.extra + heads++ * problem_.extra_tokens * channels_;
      for (int64_t n = 0; n < problem_.extra_tokens; ++n) {
        CopyValues(extra_v_.row(batch_, 0, 0, n, head_kv), first + n * channels_);
      }
      extra_[i] = {first, channels_};
    }
  }

  /// Scores of all queries of the block that attend to a row of keys: they are neighbours.
  void HWY_ATTR ScoreRow(int64_t k1, int64_t k2, const float* key_lanes) {
    const geometry::Range queries = geometry::intersect(mask2_.queries(k2), x2_);
    if (queries.empty()) return;
    const int64_t first = (queries.begin - x2_.begin) * heads(), count = queries.size() * heads();
    for (int64_t i = 0; i < count; ++i) {
      const geometry::Range keys2 = mask2_.keys(position2(first + i));
      const int64_t key_row = (k1 - keys1_.begin) * keys2.size() + k2 - keys2.begin;
      mine_.targets[i] = scores_of(first + i) + key_row * window_ * kLanes;
    }
    const KeyLanes keys{key_lanes, KeyPitch(window_), strip_.index()};
    Scores(count, mine_.queries + first * kLanes, shared_.block.rows(), keys, OrderOf(strip_), problem_.head_dim,
           window_, mine_.targets);
  }

  /// An extra token is a row of keys with one column, in which each lane has the key of its head.
  void HWY_ATTR ScoreExtraTokens() {
    for (int64_t n = 0; n < problem_.extra_tokens; ++n) {
      ToLanes<T>(
          kLanes, problem_.head_dim,
          [&](int64_t lane)
              HWY_ATTR { return extra_k_.row(batch_, 0, 0, n, strip_.query(static_cast<int>(lane)).head_kv); },
          1.0f, kLanes, mine_.extra_keys, mine_.floats);
      for (int64_t row = 0; row < rows_; ++row) {
        const int64_t columns = keys1_.size() * mask2_.keys(position2(row)).size() * window_;
        mine_.targets[row] = scores_of(row) + (columns + n) * kLanes;
      }
      const KeyLanes keys{mine_.extra_keys, kLanes, strip_.index()};
      Scores(rows_, mine_.queries, shared_.block.rows(), keys, Order::in_order, problem_.head_dim, 1, mine_.targets);
    }
  }

  /// Softmax, sums of values, and results of a row of queries.
  void HWY_ATTR Finish(int64_t row, geometry::Range keys2) {
    const int64_t key_rows = keys1_.size() * keys2.size();
    HWY_ALIGN float inverse[kLanes];
    Softmax(row, keys2, inverse);
    // The row's own rows of keys among those of the block.
    const float** own = mine_.own_rows;
    for (int64_t k1 = 0; k1 < keys1_.size(); ++k1) {
      const float* const* first = mine_.key_rows + k1 * keys2_.size() + keys2.begin - keys2_.begin;
      own = std::copy_n(first, keys2.size(), own);
    }
    // Whole vectors of floats go straight to their place.
    const TensorView& out = shared_.out.out;
    const bool straight = out.type == ElementType::f32 && problem_.head_dim_v == channels_;
    float* rows[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      rows[lane] = straight ? out.template as<float>().row(batch_, query_x1_, query_x2(row), strip_.query(lane).x3,
                                                           query_head(lane, row))
                            : mine_.floats + lane * channels_;
    }
    for (int i = 0; i < strip_.runs(); ++i) {
      const banded::Run& run = strip_.run(i);
      ValueList list{mine_.own_rows,        key_rows,      run.key * channels_, channels_, extra_[i],
                     problem_.extra_tokens, scores_of(row)};
      if (in_place_) {
        list.first = value_offset_[run.key];
        list.step = v_.strides.layout[2] * shared_.axes[2].dilation;
      }
      Sums(list, run, window_, channels_, {rows, inverse});
    }
    for (int lane = 0; lane < strip_.lanes() && !straight; ++lane) {
      store_row(out, batch_, {query_x1_, query_x2(row), strip_.query(lane).x3}, query_head(lane, row), rows[lane]);
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
      if (!strip_.full() && n < columns) weight = hn::IfThenElseZero(Attends(n % window_), weight);
      hn::Store(weight, d, p);
      sum = hn::Add(sum, weight);
    }
    hn::Store(hn::Div(hn::Set(d, 1.0f), sum), d, inverse);
    const VF value = hn::MulAdd(max, hn::Set(d, factor_as_float(later)), hn::Log(d, sum));
    HWY_ALIGN float lse[kLanes];
    // No weight at all: every score was -infinity, and the definition gives NaN.
    hn::Store(hn::IfThenElse(hn::Gt(sum, hn::Zero(d)), value, hn::NaN(d)), d, lse);
    const auto target = shared_.out.lse.template as<float>();
    for (int lane = 0; lane < strip_.lanes(); ++lane) {
      *target.row(batch_, query_x1_, query_x2(row), strip_.query(lane).x3, query_head(lane, row)) = lse[lane];
    }
  }

  /// The lanes that attend to a column of their windows: a causal axis hides some.
  auto HWY_ATTR Attends(int64_t column) const {
    const hn::RebindToSigned<Floats> di;
    return hn::RebindMask(Floats(), hn::Gt(hn::Load(di, strip_.count()), hn::Set(di, static_cast<int32_t>(column))));
  }

  /// No scores for columns that are hidden from a lane.
  void HWY_ATTR HideColumns(float* scores, int64_t columns) {
    const Floats d;
    for (int64_t n = 0; n < columns; ++n) {
      float* const p = scores + n * kLanes;
      hn::Store(hn::IfThenElse(Attends(n % window_), hn::Load(d, p), hn::Set(d, NoScore(problem_))), d, p);
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
        add(shared_.biases.of(strip_number_, row % heads(), k1 - x1_, k2 - position2(row)), window_);
      }
    }
    for (int64_t n = 0; n < problem_.extra_tokens; ++n, p += kLanes) {
      hn::Store(hn::Mul(hn::Load(d, p), factor), d, p);
    }
  }

  const Shared& shared_;
  const Problem& problem_;
  const int64_t strip_number_;
  const Strip& strip_;
  const int64_t batch_;
  const Private& mine_;
  const int64_t window_, columns_, channels_;
  const bool in_place_;
  const TokenView<const T> k_, v_, extra_k_, extra_v_;
  const int64_t x1_, query_x1_, g1_, g2_;
  const geometry::AxisMask mask2_;
  const geometry::Range keys1_;
  std::array<FloatRows, kMaxLanes> extra_;
  std::array<int64_t, 4 * kMaxLanes + 3 * kMaxWindow> key_offset_, value_offset_;  ///< of the strip's keys in a row
  int64_t rows_ = 0;
  int64_t seen2_ = 0;  ///< rows of keys before this have been used
  geometry::Range x2_, keys2_;
};

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_TASK_INL_H_
