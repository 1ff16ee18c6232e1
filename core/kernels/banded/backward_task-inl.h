// One task of the backward pass of banded: strips of queries over blocks of rows, its memory, and the five products.
// See backward.cpp.
#include <algorithm>
#include <numbers>

#include "core/kernels/banded/backward_tasks.h"
#include "core/kernels/banded/block-inl.h"
#include "core/kernels/banded/gradients-inl.h"
#include "core/kernels/banded/part_sums.h"
#include "core/kernels/tile/gradient_sums.h"
#include "core/simd/exp-inl.h"
#include "core/tensor/row.h"

#if defined(NALAB_CORE_KERNELS_BANDED_BACKWARD_TASK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_BACKWARD_TASK_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_BACKWARD_TASK_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_BACKWARD_TASK_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// Extra tokens that are taken together, as the columns of a window.
inline constexpr int64_t kExtraColumns = 4;

/// Rows of queries as vectors of channels: where they lie, or copied.
struct QueryFloats {
  float* memory;       ///< [rows][kLanes][padded channels]; none if they are used where they lie
  const float** rows;  ///< [runs][rows]: the first query of each run
};

/// One worker's memory.
struct GradientPrivate {
  float* queries;          ///< [head_dim][rows][kLanes]
  float* dout;             ///< [head_dim_v][rows][kLanes]
  float* lse2;             ///< [rows][kLanes]: log-sum-exp in base 2
  float* delta;            ///< [rows][kLanes]: sum of out * dout
  KeptRows keys;           ///< on lanes
  KeptRows values;         ///< on lanes
  float* weights;          ///< [rows][columns at a time][kLanes]: of one row of keys, or some extra tokens
  float* gradients;        ///< [rows][columns][kLanes]: of scores
  KeptRows key_floats;     ///< [keys][padded channels]; none if keys are used where they lie, like `extra`
  float* extra;            ///< [kv heads of a strip][extra tokens][padded channels]
  QueryFloats query_rows;  ///< of q
  QueryFloats dout_rows;   ///< of dout
  float* floats;           ///< [kLanes][padded channels]: sums on their way to dq
  float* lanes;            ///< [greatest dim][kLanes]: a row of out, or an extra token of each lane's head
  float* bias;             ///< [query heads of a kv head][offsets][offsets][window][kLanes]: sums of drpb
  const float** key_rows;  ///< [key rows]: the keys of all rows of keys of a block
  const float** own_rows;  ///< [key rows]: those of one row of queries
  float** weights_of;      ///< [rows]: where scores with a row of keys go, and then are weights
  float** gradients_of;    ///< [rows]: where their gradients go

  GradientPrivate(const Problem& p, const BlockShape& block, int64_t bias_floats, WorkspaceCutter& cutter) {
    const int64_t rows = block.rows();
    const int64_t channels = PaddedChannels(p.head_dim), channels_v = PaddedChannels(p.head_dim_v);
    const bool in_place = p.type == ElementType::f32;
    const int64_t copied = in_place ? 0 : channels, dout_copied = in_place ? 0 : channels_v;
    const auto take = [&](int64_t count) { return cutter.take<float>(count); };
    const auto take_rows = [&](int64_t channels_copied) -> QueryFloats {
      return {take(rows * kLanes * channels_copied), cutter.take<const float*>(kLanes * rows)};
    };
    queries = take(p.head_dim * rows * kLanes);
    dout = take(p.head_dim_v * rows * kLanes);
    lse2 = take(rows * kLanes);
    delta = take(rows * kLanes);
    keys = KeptOnLanes(block, p.head_dim, cutter);
    values = KeptOnLanes(block, p.head_dim_v, cutter);
    weights = take(rows * columns_at_a_time(p) * kLanes);
    gradients = take(rows * p.keys_per_query() * kLanes);
    key_floats = {block.key_rows1, block.key_rows2, block.key_columns * copied, cutter};
    extra = take(std::min<int64_t>(p.heads_kv, kLanes) * p.extra_tokens * copied);
    query_rows = take_rows(copied);
    dout_rows = take_rows(dout_copied);
    floats = take(kLanes * copied);
    lanes = take(kLanes * std::max(p.head_dim, p.head_dim_v));
    bias = take(bias_floats);
    key_rows = cutter.take<const float*>(block.key_rows());
    own_rows = cutter.take<const float*>(block.key_rows());
    weights_of = cutter.take<float*>(rows);
    gradients_of = cutter.take<float*>(rows);
  }

  static int64_t columns_at_a_time(const Problem& p) { return std::max(p.axes.back().window, kExtraColumns); }
};

/// A backward call.
struct GradientShared {
  Geometry geometry;
  const Inputs& in;
  const SavedForBackward& saved;
  const Gradients& gradients;
  const tile::KeyGradients& sums;
  const PartSums& part_sums;
};

/// A strip of one batch entry, over blocks of rows.
template <class T>
class GradientTask : private StripBlocks<T, FloatCells> {
  using Base = StripBlocks<T, FloatCells>;

 public:
  HWY_ATTR GradientTask(const GradientShared& shared, int64_t strip_number, const Strip& strip, const BlockPlace& place,
                        Turn& turn, const GradientPrivate& mine)
      : Base(shared.geometry, strip_number, strip, place),
        shared_(shared),
        mine_(mine),
        turn_(turn),
        scale_(factor_as_float(problem_.effective_scale())),
        scale2_(factor_as_float(problem_.effective_scale() * std::numbers::log2e)),
        q_(shared.in.q.template as<T>()),
        k_(shared.in.k.template as<T>()),
        v_(shared.in.v.template as<T>()),
        dout_(shared.saved.dout.template as<T>()),
        key_offsets_(Base::OffsetsOfKeys(k_.strides)),
        value_offsets_(Base::OffsetsOfKeys(v_.strides)),
        query_offsets_(Base::OffsetsOfQueries(q_.strides)),
        dout_offsets_(Base::OffsetsOfQueries(dout_.strides)),
        out_offsets_(Base::OffsetsOfQueries(shared.saved.out.strides)),
        lse_offsets_(Base::OffsetsOfQueries(shared.saved.lse.strides)),
        dq_offsets_(Base::OffsetsOfQueries(shared.gradients.dq.strides)),
        dk_offsets_(Base::OffsetsOfKeys(shared.sums.dk.strides)),
        dv_offsets_(Base::OffsetsOfKeys(shared.sums.dv.strides)),
        extra_(Base::ExtraAsRows(shared.in.extra_k.template as<T>(), mine.extra)) {
    mine.keys.forget();
    mine.values.forget();
    mine.key_floats.forget();
  }

  /// The queries at position `x1` of the first axis and at `x2` of the middle axis.
  void HWY_ATTR Run(int64_t x1, geometry::Range x2) {
    Base::Begin(x1, x2);
    Base::QueriesToLanes(q_, query_offsets_, mine_.queries);
    Base::QueriesToLanes(dout_, dout_offsets_, mine_.dout);
    FindRows(q_, query_offsets_, mine_.query_rows);
    FindRows(dout_, dout_offsets_, mine_.dout_rows);
    for (int64_t row = 0; row < rows_; ++row) PackSaved(row);
    int64_t key_row = 0;
    for (int64_t k1 = keys1_.begin; k1 < keys1_.end; ++k1) {
      for (int64_t k2 = keys2_.begin; k2 < keys2_.end; ++k2, ++key_row) {
        if (k2 + 1 < keys2_.end && !Base::Has(mine_.keys, k1, k2 + 1)) {
          Base::template FetchKeys<tile::CacheLevel::first>(k_, key_offsets_, k1, k2 + 1);
          Base::template FetchKeys<tile::CacheLevel::first>(v_, value_offsets_, k1, k2 + 1);
        }
        Base::template FetchKeys<tile::CacheLevel::first>(shared_.sums.dk, dk_offsets_, k1, k2);
        Base::template FetchKeys<tile::CacheLevel::first>(shared_.sums.dv, dv_offsets_, k1, k2);
        mine_.key_rows[key_row] = Base::KeysAsRows(k_, key_offsets_, k1, k2, mine_.key_floats);
        VisitKeys(k1, k2);
        turn_.pass(key_row);
      }
    }
    turn_.end_block();
    VisitExtraTokens();
    for (int64_t row = 0; row < rows_; ++row) StoreQueries(row);
  }

 private:
  using Base::batch_, Base::columns_, Base::geometry_, Base::keys1_, Base::keys2_, Base::problem_;
  using Base::rows_, Base::strip_, Base::strip_number_, Base::window_, Base::x1_;

  float* gradients_of(int64_t row) const { return mine_.gradients + row * columns_ * kLanes; }
  float* weights_of(int64_t row) const {
    return mine_.weights + row * GradientPrivate::columns_at_a_time(problem_) * kLanes;
  }

  /// Finds the block's rows of queries as vectors of channels.
  void HWY_ATTR FindRows(const TokenView<const T>& view, const typename Base::QueryOffsets& offsets,
                         const QueryFloats& target) {
    for (int64_t row = 0; row < rows_; ++row) {
      const T* const query = Base::FirstQuery(view, row);
      for (int i = 0; i < strip_.runs(); ++i) {
        const int lane = strip_.run(i).lane;
        const float*& first = target.rows[i * geometry_.block.rows() + row];
        if constexpr (Base::kInPlace) {
          first = query + offsets[lane];
        } else {
          first = target.memory + (row * kLanes + lane) * PaddedChannels(view.shape.dim);
        }
      }
      for (int lane = 0; lane < strip_.lanes() && !Base::kInPlace; ++lane) {
        simd::HWY_NAMESPACE::CopyToFloats(query + offsets[lane], view.shape.dim,
                                          target.memory + (row * kLanes + lane) * PaddedChannels(view.shape.dim));
      }
    }
  }

  /// What the forward pass left of a row of queries.
  void HWY_ATTR PackSaved(int64_t row) {
    const Floats d;
    const int64_t pitch = geometry_.block.rows() * kLanes;
    with_element_type(shared_.saved.out.type, [&](auto element) HWY_ATTR {
      Base::QueryToLanes(shared_.saved.out.template as<decltype(element)>(), out_offsets_, row, kLanes, mine_.lanes);
    });
    // In the order of ScoreTile: a query with one key has a delta that is its dout times the value to the last bit.
    VF delta = hn::Zero(d);
    for (int64_t c = 0; c < problem_.head_dim_v; ++c) {
      delta =
          hn::MulAdd(hn::Load(d, mine_.dout + c * pitch + row * kLanes), hn::Load(d, mine_.lanes + c * kLanes), delta);
    }
    hn::Store(delta, d, mine_.delta + row * kLanes);
    const float* const lse = Base::FirstQuery(shared_.saved.lse.template as<float>(), row);
    for (int lane = 0; lane < kLanes; ++lane) {
      mine_.lse2[row * kLanes + lane] = static_cast<float>(std::numbers::log2e * lse[lse_offsets_[lane]]);
    }
  }

  /// All that a row of keys takes part in, but for dq.
  void HWY_ATTR VisitKeys(int64_t k1, int64_t k2) {
    const geometry::Range rows = Base::RowsOf(k2);
    if (rows.empty()) return;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      mine_.weights_of[row - rows.begin] = weights_of(row);
      mine_.gradients_of[row - rows.begin] = gradients_of(row) + Base::KeyRow(row, k1, k2) * window_ * kLanes;
    }
    const int64_t pitch = geometry_.block.rows();
    const auto score = [&](const float* queries, const float* keys, int64_t dim, float* const* scores) HWY_ATTR {
      Scores<FloatCells>(rows.size(), queries + rows.begin * kLanes, pitch, {keys, Base::pitch_, strip_.index()},
                         OrderOf(strip_), dim, window_, scores);
    };
    score(mine_.queries, Base::KeysToLanes(k_, key_offsets_, k1, k2, mine_.keys), problem_.head_dim, mine_.weights_of);
    score(mine_.dout, Base::KeysToLanes(v_, value_offsets_, k1, k2, mine_.values), problem_.head_dim_v,
          mine_.gradients_of);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t o1 = k1 - x1_, o2 = k2 - Base::position2(row);
      const float* const bias =
          problem_.relative_bias ? geometry_.biases.of(strip_number_, row % Base::heads(), o1, o2) : nullptr;
      float* const gradients = mine_.gradients_of[row - rows.begin];
      Weigh(row, bias, window_, mine_.weights_of[row - rows.begin], gradients);
      if (bias != nullptr) AddToBias(gradients, geometry_.biases.in_strip(row % Base::heads(), o1, o2));
    }
    turn_.wait(k1, k2);
    const int64_t c1 = Base::c1(k1), c2 = Base::c2(k2);
    AddRow(rows, mine_.dout_rows, dout_, mine_.weights_of, shared_.sums.dv, dv_offsets_, 1.0f, c1, c2);
    AddRow(rows, mine_.query_rows, q_, mine_.gradients_of, shared_.sums.dk, dk_offsets_, scale_, c1, c2);
  }

  /// Scores become weights, and products of dout and values gradients of scores.
  void HWY_ATTR Weigh(int64_t row, const float* bias, int64_t columns, float* weights, float* gradients) const {
    const Floats d;
    const VF scale = hn::Set(d, scale2_), log2_e = hn::Set(d, static_cast<float>(std::numbers::log2e));
    const VF lse2 = hn::Load(d, mine_.lse2 + row * kLanes), delta = hn::Load(d, mine_.delta + row * kLanes);
    for (int64_t j = 0; j < columns; ++j) {
      float *const p = weights + j * kLanes, *const ds = gradients + j * kLanes;
      VF x = hn::MulSub(hn::Load(d, p), scale, lse2);
      if (bias != nullptr) x = hn::MulAdd(hn::Load(d, bias + j * kLanes), log2_e, x);
      // No weight exceeds 1, but the scores here and in the forward pass differ in their last bits. NaN stays.
      x = hn::IfThenZeroElse(hn::Gt(x, hn::Zero(d)), x);
      const VF weight = simd::HWY_NAMESPACE::Exp2NonPositive(d, x);
      hn::Store(weight, d, p);
      hn::Store(hn::Mul(weight, hn::Sub(hn::Load(d, ds), delta)), d, ds);
    }
  }

  /// The keys of all runs in a row of keys += weights times rows of queries.
  void HWY_ATTR AddRow(geometry::Range rows, const QueryFloats& queries, const TokenView<const T>& view,
                       float* const* weights, const TokenView<float>& sums, const typename Base::KeyOffsets& offsets,
                       float factor, int64_t c1, int64_t c2) const {
    float* const first = sums.row(batch_, c1, c2, 0, 0);
    const int64_t dilation = geometry_.axes[2].dilation;
    for (int i = 0; i < strip_.runs(); ++i) {
      const banded::Run& run = strip_.run(i);
      AddQueries({queries.rows + i * geometry_.block.rows() + rows.begin, weights, rows.size(), Base::StepOf(view)},
                 run, {first + offsets[run.key], sums.strides.layout[2] * dilation, sums.shape.dim, factor});
    }
  }

  /// Adds the gradients of the scores with a row of keys to the sums of drpb by lane and column.
  void HWY_ATTR AddToBias(const float* gradients, int64_t place) const {
    const Floats d;
    float* const sums = mine_.bias + place;
    for (int64_t j = 0; j < window_; ++j) {
      VF gradient = hn::Load(d, gradients + j * kLanes);
      if (!strip_.full()) gradient = hn::IfThenElseZero(Base::Attends(j), gradient);
      hn::Store(hn::Add(hn::Load(d, sums + j * kLanes), gradient), d, sums + j * kLanes);
    }
  }

  /// Extra tokens are rows of keys with a window that all queries share.
  void HWY_ATTR VisitExtraTokens() {
    const int64_t pitch = geometry_.block.rows();
    const auto score = [&](const ConstTensorView& tokens, int64_t token, const float* queries, float* const* scores)
                           HWY_ATTR {
                             const auto view = tokens.template as<T>();
                             Base::ExtraToLanes(view, token, mine_.lanes);
                             Scores<FloatCells>(rows_, queries, pitch, {mine_.lanes, kLanes, strip_.index()},
                                                Order::in_order, view.shape.dim, 1, scores);
                           };
    for (int64_t n = 0; n < problem_.extra_tokens; n += kExtraColumns) {
      const int64_t columns = std::min(kExtraColumns, problem_.extra_tokens - n);
      const auto point = [&](int64_t column) {
        for (int64_t row = 0; row < rows_; ++row) {
          mine_.weights_of[row] = weights_of(row) + column * kLanes;
          mine_.gradients_of[row] = gradients_of(row) + (Base::ColumnsOf(row) + n + column) * kLanes;
        }
      };
      for (int64_t column = 0; column < columns; ++column) {
        point(column);
        score(shared_.in.extra_k, n + column, mine_.queries, mine_.weights_of);
        score(shared_.in.extra_v, n + column, mine_.dout, mine_.gradients_of);
      }
      point(0);
      for (int64_t row = 0; row < rows_; ++row) {
        Weigh(row, nullptr, columns, mine_.weights_of[row], mine_.gradients_of[row]);
      }
      AddExtra(n, columns, mine_.dout_rows, dout_, mine_.weights_of, &PartSums::dextra_v, 1.0f);
      AddExtra(n, columns, mine_.query_rows, q_, mine_.gradients_of, &PartSums::dextra_k, scale_);
    }
  }

  void HWY_ATTR AddExtra(int64_t token, int64_t columns, const QueryFloats& queries, const TokenView<const T>& view,
                         float* const* weights, float* (PartSums::*sums)(int64_t, int64_t) const, float factor) const {
    const int64_t dim = view.shape.dim;
    for (int i = 0; i < strip_.runs(); ++i) {
      const banded::Run& run = strip_.run(i);
      float* const first = (shared_.part_sums.*sums)(turn_.part(), strip_.query(run.lane).head_kv);
      AddQueries({queries.rows + i * geometry_.block.rows(), weights, rows_, Base::StepOf(view)},
                 {run.lane, run.count, false, 0, columns}, {first + token * dim, dim, dim, factor});
    }
  }

  /// Sums and stores dq of a row of queries.
  void HWY_ATTR StoreQueries(int64_t row) {
    const int64_t key_rows = Base::OwnRows(row, mine_.key_rows, mine_.own_rows);
    HWY_ALIGN float factors[kLanes];
    std::fill_n(factors, kLanes, scale_);
    const auto list = [&](int run) HWY_ATTR -> ValueList {
      return {mine_.own_rows,        key_rows,          Base::FirstOf(k_, key_offsets_, strip_.run(run).key),
              Base::StepOf(k_),      problem_.head_dim, extra_[run],
              problem_.extra_tokens, gradients_of(row), nullptr};
    };
    Base::StoreSums(shared_.gradients.dq, dq_offsets_, row, factors, mine_.floats, list);
  }

  const GradientShared& shared_;
  const GradientPrivate& mine_;
  Turn& turn_;
  const float scale_;
  const float scale2_;  ///< weights are powers of 2
  const TokenView<const T> q_, k_, v_, dout_;
  const typename Base::KeyOffsets key_offsets_, value_offsets_;
  const typename Base::QueryOffsets query_offsets_, dout_offsets_, out_offsets_, lse_offsets_, dq_offsets_;
  const typename Base::KeyOffsets dk_offsets_, dv_offsets_;
  const typename Base::RunRows extra_;
};

/// The tasks of a strip: all blocks of some rows. Adds its sums of drpb to those of a part.
template <class T>
void HWY_ATTR RunStrip(const GradientShared& shared, int64_t number, Turn& turn, const GradientPrivate& mine) {
  const Geometry& geometry = shared.geometry;
  const BackwardTask& task = turn.task();
  const Problem& problem = geometry.problem;
  const Strip strip(geometry.order, number);
  if (problem.relative_bias) std::fill_n(mine.bias, geometry.biases.of_strip(), 0.0f);
  GradientTask<T> blocks(shared, number, strip, {task.batch, task.g1, task.g2}, turn, mine);
  turn.begin_strip(number);
  // Along the first axis a block shares most rows of keys with the one before.
  geometry.block.for_each_block(task.x2, [&](geometry::Range x2) {
    for (int64_t x1 = task.x1.begin; x1 < task.x1.end; ++x1) blocks.Run(x1, x2);
  });
  if (problem.relative_bias) {
    geometry.biases.add_to_tables(strip, mine.bias,
                                  [&](int64_t head) { return shared.part_sums.bias(turn.part(), head); });
  }
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_BACKWARD_TASK_INL_H_
