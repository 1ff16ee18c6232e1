// The backward pass of fused: one pass over tiles, five products, from the saved lse; weights never in memory.
//
// A task is a super tile of queries, as in the forward pass: scores are computed again, dq is the task's own, and dk
// and dv of a block of keys are summed over the super tile in private memory before they are added to those of the
// whole tensor. A key's sum is taken in the order of the tasks: a task that comes to add to keys waits until all
// earlier ones that could touch them are past them (core/ordered_tasks.h). Tasks that share keys walk over them in the
// same order, one behind the other, so they seldom wait long. This needs no atomics on floats and no copy of dk and dv
// for each thread, and gives the same bits for every number of threads. The alternative, a second pass by keys over the
// inverse window, computes scores and dout v^T twice: seven products for five.
#include <algorithm>
#include <vector>

#include "core/kernels/fused/backward_sums.h"
#include "core/kernels/fused/fused.h"
#include "core/kernels/fused/tiles.h"
#include "core/ordered_tasks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/fused/backward.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "core/kernels/fused/backward_tile-inl.h"
#include "core/kernels/fused/transpose-inl.h"
#include "core/kernels/fused/walk-inl.h"

#ifndef NALAB_CORE_KERNELS_FUSED_BACKWARD_ONCE
#define NALAB_CORE_KERNELS_FUSED_BACKWARD_ONCE

namespace nalab::fused {

inline constexpr double kLog2E = 1.4426950408889634;

/// Floats from one packed row to the next: whole vectors of every instruction set, and a cache line more, since rows at
/// a power of 2 from each other would share sets of the first-level cache.
inline int64_t row_step(int64_t dim) { return geometry::ceil_div(dim, 16) * 16 + 16; }

/// State of one micro tile of one head while its super tile walks over the keys.
struct BackwardMicro {
  float* queries;     ///< [head_dim][lanes]
  float* dout;        ///< [head_dim_v][lanes]
  float* query_rows;  ///< [lanes][row_step]
  float* dout_rows;   ///< [lanes][row_step]
  float* dq;          ///< [head_dim padded][lanes], not yet scaled
  float* lse2;        ///< [lanes]: log-sum-exp in base 2
  float* delta;       ///< [lanes]: sum of out * dout
};

/// One worker's memory.
struct BackwardPrivate {
  float* keys;        ///< [block_keys + 1][head_dim], the last row unused
  float* key_panels;  ///< [panels][block_keys][kRows], kPanelGap apart
  float* values;      ///< [block_keys + 1][head_dim_v]
  float* dk;          ///< [block_keys + 1][row_step], not yet scaled; the last row takes what belongs to no key
  float* dv;          ///< [block_keys + 1][row_step]
  float* weights;     ///< [block_keys padded][lanes]
  ListMemory list;
  float* rows;    ///< [lanes][max(head_dim, head_dim_v)], in float, between lanes and tensors
  float* out;     ///< [head_dim_v][lanes]
  float* micros;  ///< [micros] of micro_floats each
};

inline int64_t backward_micro_floats(const Problem& problem, const Tiles& tiles) {
  const int64_t dim = problem.head_dim, dim_v = problem.head_dim_v;
  return tiles.lanes * (dim + dim_v + row_step(dim) + row_step(dim_v) + padded(dim) + 2);
}

inline BackwardPrivate cut_backward_private(const Problem& problem, const Tiles& tiles, WorkspaceCutter& cutter) {
  const int64_t dim = problem.head_dim, dim_v = problem.head_dim_v;
  BackwardPrivate p;
  p.keys = cutter.take<float>((tiles.block_keys + 1) * dim);
  p.key_panels = cutter.take<float>((tiles.block_keys + kPanelGap) * padded(dim));
  p.values = cutter.take<float>((tiles.block_keys + 1) * dim_v);
  p.dk = cutter.take<float>((tiles.block_keys + 1) * row_step(dim));
  p.dv = cutter.take<float>((tiles.block_keys + 1) * row_step(dim_v));
  p.weights = cutter.take<float>(padded(tiles.block_keys) * tiles.lanes);
  p.list.index = cutter.take<int32_t>(padded(tiles.block_keys));
  p.list.lanes = cutter.take<uint32_t>(padded(tiles.block_keys));
  p.rows = cutter.take<float>(tiles.lanes * std::max(dim, dim_v));
  p.out = cutter.take<float>(tiles.lanes * dim_v);
  p.micros = cutter.take<float>(tiles.micros() * backward_micro_floats(problem, tiles));
  return p;
}

/// What a call needs of the workspace. With no memory behind it, it only adds up the size.
struct BackwardWorkspace {
  BackwardWorkspace(const Problem& problem, const Tiles& tiles, int threads, std::byte* memory) {
    WorkspaceCutter cutter(memory);
    for (int worker = 0; worker < threads; ++worker) {
      workers.push_back(cut_backward_private(problem, tiles, cutter));
    }
    if (problem.type != ElementType::f32) {
      const auto take = [&](const TokenShape& shape) -> TokenView<float> {
        return {cutter.take<float>(shape.elements()), shape, TokenStrides::contiguous(shape)};
      };
      sums = {take(k_shape(problem)), take(v_shape(problem)), take(extra_k_shape(problem)),
              take(extra_v_shape(problem))};
    }
    bytes = cutter.size();
  }

  std::vector<BackwardPrivate> workers;
  KeyGradients sums;  ///< where gradients may be of another type than float
  int64_t bytes = 0;
};

}  // namespace nalab::fused

#endif  // NALAB_CORE_KERNELS_FUSED_BACKWARD_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

/// target[c] += factor * x[c] for c in [0, dim).
HWY_INLINE void AddScaled(const float* HWY_RESTRICT x, float factor, int64_t dim, float* HWY_RESTRICT target) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const VF factors = hn::Set(d, factor);
  int64_t c = 0;
  for (; c + lanes <= dim; c += lanes) {
    hn::StoreU(hn::MulAdd(hn::Load(d, x + c), factors, hn::LoadU(d, target + c)), d, target + c);
  }
  for (; c < dim; ++c) target[c] += factor * x[c];
}

/// What a call's tasks share.
struct BackwardCall {
  const Problem& problem;
  const Tiles& tiles;
  const LaneShape shape;
  const Supers supers;
  const BackwardOrder order;
  const Inputs& in;
  const SavedForBackward& saved;
  const TensorView& dq;
  const KeyGradients sums;
};

/// One super tile of one kv head, from packing its queries to storing their gradients.
template <int Lanes>
class BackwardSuperTile : public Walk<FloatArithmetic<Lanes>, BackwardSuperTile<Lanes>> {
  using Arithmetic = FloatArithmetic<Lanes>;
  using Base = Walk<Arithmetic, BackwardSuperTile>;
  using Base::axes_, Base::in_, Base::lanes_, Base::placed_, Base::problem_, Base::super_, Base::tiles_;
  static constexpr int kRows = Arithmetic::kRows;
  static constexpr int kVectors = Arithmetic::kVectors;

 public:
  BackwardSuperTile(const BackwardCall& call, const OrderedTasks::Task& task, const BackwardPrivate& mine)
      : Base(call.problem, call.tiles, call.shape, call.in, mine.list),
        call_(call),
        task_(task),
        mine_(mine),
        scale_(factor_as_float(problem_.effective_scale())),
        exponent_scale_(factor_as_float(problem_.effective_scale() * kLog2E)),
        keys_{mine.keys, problem_.head_dim},
        values_{mine.values, problem_.head_dim_v},
        dk_{mine.dk, row_step(problem_.head_dim)},
        dv_{mine.dv, row_step(problem_.head_dim_v)},
        panels_{mine.values, mine.key_panels, tiles_.block_keys * kRows + kPanelGap} {}

  void HWY_ATTR Run(const Super& super) {
    Base::Place(super);
    own_keys_ = Base::keys_of(super);
    task_.pass(Base::place({own_keys_[0].begin, own_keys_[1].begin, own_keys_[2]}));
    packed_ = 0;
    keys_finite_ = true;
    PrefetchQueries(0);
    Base::VisitKeys();
    for (int64_t i = 0; i < placed_; ++i) {
      for (int64_t h = 0; h < tiles_.heads; ++h) StoreResults(i, h);
    }
  }

 private:
  friend Base;

  BackwardMicro micro(int64_t spatial, int64_t head) const {
    const int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v;
    BackwardMicro m;
    m.queries = mine_.micros + (spatial * tiles_.heads + head) * backward_micro_floats(problem_, tiles_);
    m.dout = m.queries + Lanes * dim;
    m.query_rows = m.dout + Lanes * dim_v;
    m.dout_rows = m.query_rows + Lanes * row_step(dim);
    m.dq = m.dout_rows + Lanes * row_step(dim_v);
    m.lse2 = m.dq + Lanes * padded(dim);
    m.delta = m.lse2 + Lanes;
    return m;
  }

  /// Prefetches what PackQueries reads: hardware sees no pattern in it.
  void PrefetchQueries(int64_t i) const {
    for (const ConstTensorView* tensor : {&in_.q, &call_.saved.dout, &call_.saved.out}) {
      const TokenStrides& strides = tensor->strides;
      const int64_t element = size_of(tensor->type);
      const auto* const data = static_cast<const std::byte*>(tensor->data);
      for (int lane = 0; lane < Lanes; ++lane) {
        const Token token = Base::query(i, lane);
        const int64_t row = super_.batch * strides.batch + token[0] * strides.layout[0] + token[1] * strides.layout[1] +
                            token[2] * strides.layout[2] + super_.head * strides.heads;
        for (int64_t c = 0; c < tensor->shape.dim * tiles_.heads * element; c += kAlignment) {
          __builtin_prefetch(data + row * element + c, 0, 2);
        }
      }
    }
  }

  /// Rows of one head of a micro tile's tokens, in float: `memory` holds them, `step` floats apart, and they are padded
  /// with zeros.
  void HWY_ATTR PackRows(const ConstTensorView& tensor, const Token (&tokens)[Lanes], int64_t head, float* memory,
                         int64_t step) {
    const int64_t dim = tensor.shape.dim;
    with_element_type(tensor.type, [&](auto element) HWY_ATTR {
      const auto view = tensor.as<decltype(element)>();
      for (int lane = 0; lane < Lanes; ++lane, memory += step) {
        const auto& [x1, x2, x3] = tokens[lane];
        simd::HWY_NAMESPACE::CopyToFloats(view.row(super_.batch, x1, x2, x3, head), dim, memory);
        std::fill(memory + dim, memory + step, 0.0f);
      }
    });
  }

  static void HWY_ATTR Transpose(const float* memory, int64_t step, int64_t dim, float* lanes) {
    const float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) row[lane] = memory + lane * step;
    RowsToLanes<Lanes>(row, dim, 1.0f, lanes);
  }

  /// Packs the queries of one head of a micro tile with what belongs to them, and starts their state.
  void HWY_ATTR PackQueries(int64_t i, int64_t h) {
    const BackwardMicro m = micro(i, h);
    const int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v, head = super_.head + h;
    Token tokens[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) tokens[lane] = Base::query(i, lane);
    PackRows(in_.q, tokens, head, m.query_rows, row_step(dim));
    Transpose(m.query_rows, row_step(dim), dim, m.queries);
    PackRows(call_.saved.dout, tokens, head, m.dout_rows, row_step(dim_v));
    Transpose(m.dout_rows, row_step(dim_v), dim_v, m.dout);
    PackRows(call_.saved.out, tokens, head, mine_.rows, dim_v);
    Transpose(mine_.rows, dim_v, dim_v, mine_.out);
    // A query with a single key has out equal to the value: so delta is dout * value to the last bit, and dq is 0.
    LaneProducts<Lanes>(mine_.out, m.dout, dim_v, m.delta);
    const auto lse = call_.saved.lse.template as<float>();
    for (int lane = 0; lane < Lanes; ++lane) {
      const auto& [x1, x2, x3] = tokens[lane];
      m.lse2[lane] = static_cast<float>(kLog2E * *lse.row(super_.batch, x1, x2, x3, head));
    }
    std::fill(m.dq, m.dq + Lanes * padded(dim), 0.0f);
    queries_finite_[i * tiles_.heads + h] = AllFinite(m.queries, Lanes * dim);
    dout_finite_[i * tiles_.heads + h] = AllFinite(m.dout, Lanes * dim_v);
  }

  template <class T>
  void HWY_ATTR PackRows(const KeyRows<T>& rows) {
    const int64_t used = Base::used();
    for (int64_t n = 0; n < rows.count; ++n) {
      simd::HWY_NAMESPACE::CopyToFloats(rows.key + n * rows.key_step, problem_.head_dim, keys_[used + n]);
      std::fill_n(dk_[used + n], dk_.step, 0.0f);
      std::fill_n(dv_[used + n], dv_.step, 0.0f);
    }
    // Values take the place of the forward pass's keys, and keys that of its values: in dout v^T and dq.
    const bool finite = Arithmetic::PackKeys(rows.value, rows.value_step, problem_.head_dim_v, rows.key, rows.key_step,
                                             problem_.head_dim, rows.count, used, panels_, mine_.rows);
    keys_finite_ = keys_finite_ && finite;
  }

  /// Prefetches rows [begin, end) of the block in dk and dv, which are to be added to soon.
  void PrefetchSums(int64_t begin, int64_t end) const {
    for (const Segment& segment : Base::segments()) {
      const geometry::Range rows =
          geometry::intersect({begin, end}, {segment.first, segment.first + segment.x3.size()});
      if (!rows.empty()) {
        WithSums(segment, [&](const TokenView<float>& view, const Token& first, int64_t step, const Rows&, float) {
          const float* row = view.row(super_.batch, first[0], first[1], first[2], super_.head_kv);
          row += (rows.begin - segment.first) * step;
          for (int64_t n = 0; n < rows.size(); ++n, row += step) {
            for (int64_t c = 0; c < view.shape.dim; c += 16) __builtin_prefetch(row + c, 1, 2);
          }
        });
      }
    }
  }

  void HWY_ATTR Visit(int64_t i, KeyList list) {
    // Micro tiles are visited in order: each is packed when it is first needed, its rows fetched during the visit
    // before.
    for (; packed_ <= i; ++packed_) {
      for (int64_t h = 0; h < tiles_.heads; ++h) PackQueries(packed_, h);
      if (packed_ + 1 < placed_) PrefetchQueries(packed_ + 1);
    }
    const int64_t share = geometry::ceil_div(Base::used(), placed_);
    PrefetchSums(i * share, (i + 1) * share);
    const uint32_t inside = lanes_[i].inside();
    if ((inside & kAllLanes<Lanes>) != kAllLanes<Lanes>) {
      for (int64_t n = 0; n < list.count; ++n) mine_.list.lanes[n] &= inside;
      list.all_attend = false;
    }
    // Register tiles of keys are filled up with a row that belongs to no key, and that no lane attends to.
    for (int64_t n = list.count; n < list.count + kMaxRows; ++n) {
      mine_.list.index[n] = static_cast<int32_t>(tiles_.block_keys);
      mine_.list.lanes[n] = 0;
    }
    for (int64_t h = 0; h < tiles_.heads; ++h) VisitHead(i, h, list);
  }

  void HWY_ATTR VisitHead(int64_t i, int64_t h, const KeyList& list) {
    const BackwardMicro m = micro(i, h);
    const int64_t dim = problem_.head_dim, dim_v = problem_.head_dim_v;
    float* const weights = mine_.weights;
    const auto careful = [&](bool finite) { return !finite && !list.all_attend; };
    WeightsFromLse<Lanes>(m.queries, keys_, dim, list, exponent_scale_, m.lse2, weights);
    Choose(careful(dout_finite_[i * tiles_.heads + h]), [&](auto is_careful) HWY_ATTR {
      AddOuter<Lanes, is_careful>(weights, {m.dout_rows, row_step(dim_v)}, dim_v, list, dv_);
    });
    ScoreGradients<Lanes>(m.dout, values_, dim_v, list, m.delta, weights);
    Choose(careful(keys_finite_), [&](auto is_careful) HWY_ATTR { AddKeys<is_careful>(weights, list, m.dq); });
    Choose(careful(queries_finite_[i * tiles_.heads + h]), [&](auto is_careful) HWY_ATTR {
      AddOuter<Lanes, is_careful>(weights, {m.query_rows, row_step(dim)}, dim, list, dk_);
    });
  }

  /// dq[c][lane] += sum over the listed keys of key[c] * gradients[n][lane].
  template <bool Careful>
  HWY_NOINLINE void AddKeys(const float* gradients, const KeyList& list, float* dq) {
    VF one[kVectors];
    for (VF& x : one) x = hn::Set(Floats(), 1.0f);
    Arithmetic::template AddValues<Careful>(gradients, panels_, geometry::ceil_div(problem_.head_dim, kRows), list, one,
                                            dq);
  }

  template <class F>
  static void HWY_ATTR Choose(bool condition, const F& f) {
    condition ? f(std::true_type()) : f(std::false_type());
  }

  /// Adds dk and dv of the block, after all earlier tasks that add to them.
  void HWY_ATTR BlockVisited(int64_t next) {
    task_.wait_for_earlier([&](int64_t earlier) { return Required(call_.supers.at(call_.order(earlier))); });
    for (const Segment& segment : Base::segments()) {
      WithSums(segment, [&](const TokenView<float>& view, const Token& first, int64_t step, const Rows& block,
                            float factor) HWY_ATTR {
        float* row = view.row(super_.batch, first[0], first[1], first[2], super_.head_kv);
        for (int64_t n = 0; n < segment.x3.size(); ++n, row += step) {
          AddScaled(block[segment.first + n], factor, view.shape.dim, row);
        }
      });
    }
    task_.pass(next);
    keys_finite_ = true;
  }

  /// The place in the order of keys that an earlier super tile must have come to before this one may add the block.
  int64_t Required(const Super& other) const {
    if (other.batch != super_.batch || other.head_kv != super_.head_kv || geometry::size(other.queries) == 0) {
      return OrderedTasks::kStart;
    }
    const Segment& first = Base::segments().front();
    const Segment& last = Base::segments().back();
    const int64_t end = Base::place(last) + last.x3.size();
    if (last.x1 < 0) return end;
    if (other.group != super_.group) return OrderedTasks::kStart;
    const geometry::Box keys = Base::keys_of(other);
    const bool apart = geometry::intersect(keys[0], {first.x1, last.x1 + 1}).empty() ||
                       geometry::intersect(keys[1], own_keys_[1]).empty() ||
                       geometry::intersect(keys[2], own_keys_[2]).empty();
    return apart ? OrderedTasks::kStart : end;
  }

  /// Calls f(where sums are, coordinates of a segment's first key, distance of its keys, the block's part, factor) for
  /// dk and dv.
  template <class F>
  void HWY_ATTR WithSums(const Segment& segment, const F& f) const {
    const bool extra = segment.x1 < 0;
    const Token first =
        extra ? Token{0, 0, segment.x3.begin} : Base::coordinates({segment.x1, segment.x2, segment.x3.begin});
    const int64_t dilation = extra ? 1 : axes_[2].dilation;
    const TokenView<float>&dk = extra ? call_.sums.dextra_k : call_.sums.dk,
          &dv = extra ? call_.sums.dextra_v : call_.sums.dv;
    f(dk, first, dk.strides.layout[2] * dilation, dk_, scale_);
    f(dv, first, dv.strides.layout[2] * dilation, dv_, 1.0f);
  }

  void HWY_ATTR StoreResults(int64_t i, int64_t h) {
    const BackwardMicro m = micro(i, h);
    // Floats go straight to their place.
    const bool in_place = call_.dq.type == ElementType::f32;
    const uint32_t inside = lanes_[i].inside();
    HWY_ALIGN float factors[Lanes];
    Token tokens[Lanes];
    float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      factors[lane] = scale_;
      tokens[lane] = Base::query(i, lane);
      const auto& [x1, x2, x3] = tokens[lane];
      row[lane] = in_place && (inside >> lane & 1) != 0
                      ? call_.dq.template as<float>().row(super_.batch, x1, x2, x3, super_.head + h)
                      : mine_.rows + lane * problem_.head_dim;
    }
    LanesToRows<Lanes>(m.dq, problem_.head_dim, factors, row);
    for (int lane = 0; lane < Lanes && !in_place; ++lane) {
      if ((inside >> lane & 1) != 0) store_row(call_.dq, super_.batch, tokens[lane], super_.head + h, row[lane]);
    }
  }

  const BackwardCall& call_;
  const OrderedTasks::Task& task_;
  const BackwardPrivate& mine_;
  const float scale_;
  const float exponent_scale_;  ///< weights are powers of 2
  const Rows keys_, values_, dk_, dv_;
  const Block panels_;  ///< rows of values, panels of keys
  geometry::Box own_keys_;
  int64_t packed_ = 0;       ///< micro tiles whose queries are packed
  bool keys_finite_ = true;  ///< of the block
  bool queries_finite_[Base::kMaxPlaced];
  bool dout_finite_[Base::kMaxPlaced];
};

template <int Lanes>
void BackwardOf(const BackwardCall& call, const std::vector<BackwardPrivate>& mine, Workers& workers) {
  OrderedTasks tasks(workers);
  tasks.for_each(call.supers.count(), [&](const OrderedTasks::Task& task) HWY_ATTR {
    const Super super = call.supers.at(call.order(task.number()));
    if (geometry::size(super.queries) == 0) return;
    BackwardSuperTile<Lanes>(call, task, mine[static_cast<std::size_t>(task.worker())]).Run(super);
  });
}

void Backward(const Problem& problem, const Tiles& tiles, const Inputs& in, const SavedForBackward& saved,
              const Gradients& gradients, const Execution& execution) {
  const BackwardWorkspace memory(problem, tiles, execution.workers.threads(), execution.workspace.data());
  const bool direct = problem.type == ElementType::f32;
  const KeyGradients sums = !direct ? memory.sums
                                    : KeyGradients{gradients.dk.as<float>(), gradients.dv.as<float>(),
                                                   gradients.dextra_k.as<float>(), gradients.dextra_v.as<float>()};
  for (const auto& view : {sums.dk, sums.dv, sums.dextra_k, sums.dextra_v}) set_to_zero(view, execution.workers);
  const Supers supers(problem, tiles);
  const BackwardCall call{problem, tiles, LaneShape(tiles.micro), supers, {supers, tiles},
                          in,      saved, gradients.dq,           sums};
  const auto run = tiles.lanes == 32 ? BackwardOf<32> : BackwardOf<16>;
  run(call, memory.workers, execution.workers);
  if (direct) return;
  store(sums.dk, gradients.dk, execution.workers);
  store(sums.dv, gradients.dv, execution.workers);
  store(sums.dextra_k, gradients.dextra_k, execution.workers);
  store(sums.dextra_v, gradients.dextra_v, execution.workers);
}

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::fused {

void backward(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution, KvTiling tiling) {
  NALAB_SELECT(execution.isa, Backward)
  (problem, choose_tiles(problem, Pass::backward, tiling), inputs, saved, gradients, execution);
}

int64_t backward_workspace_bytes(const Problem& problem, const Tiles& tiles, int threads) {
  return BackwardWorkspace(problem, tiles, threads, nullptr).bytes;
}

}  // namespace nalab::fused
#endif  // HWY_ONCE
