// fused: online softmax over tiles, weights never in memory: Faster NA (2403.04690) section 3.3 and Generalized NA
// (2504.16922), for CPUs.
//
// A task is a super tile of queries of one dilation group of one kv head. It walks over the keys that its queries
// attend to in blocks: each block is packed once and visited by all micro tiles of the super tile. The mask is
// separable, so a micro tile sees a box of keys; window, stride, dilation and causality decide which box and which
// lanes, and nothing else here knows of them. Extra tokens are more keys that every lane attends to.
#include "core/kernels/fused/fused.h"

#include "core/kernels/fused/tiles.h"
#include "core/kernels/variants.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/fused/fused.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <cmath>
#include <limits>
#include "core/kernels/fused/bf16_tile-inl.h"
#include "core/kernels/fused/lanes.h"
#include "core/kernels/fused/tile-inl.h"
#include "core/kernels/fused/transpose-inl.h"

#include "core/kernels/token_rows.h"

#ifndef NALAB_CORE_KERNELS_FUSED_ONCE
#define NALAB_CORE_KERNELS_FUSED_ONCE

namespace nalab::fused {

/// Rows and columns of register tiles are at most this many: what lists and panels may be padded by.
inline constexpr int64_t kMaxRows = 8;

/// State of one micro tile of one head while its super tile walks over the keys.
struct Micro {
  float* queries;  ///< [head_dim][lanes]
  float* out;      ///< [head_dim_v padded][lanes], not yet divided by the sums
  float* maxima;   ///< [lanes]
  float* sums;     ///< [lanes]
};

/// One worker's memory.
struct Private {
  float* keys;      ///< [block_keys][head_dim]
  float* values;    ///< [panels][block_keys][kRows], kPanelGap apart
  float* scores;    ///< [block_keys padded][lanes]
  int32_t* index;   ///< [block_keys padded]
  uint32_t* lanes;  ///< [block_keys padded]
  float* rows;      ///< [lanes][max(head_dim, head_dim_v)], in float, between lanes and tensors
  float* micros;    ///< [micros] of micro_floats each
};

inline constexpr double kLn2 = 0.69314718055994531;

inline int64_t padded(int64_t n) { return n + kMaxRows; }

/// A cache line between panels of packed values: at a multiple of 4 KiB from each other they would share a set of the
/// first-level cache.
inline constexpr int64_t kPanelGap = 16;

inline int64_t micro_floats(const Problem& problem, const Tiles& tiles) {
  return tiles.lanes * (problem.head_dim + padded(problem.head_dim_v) + 2);
}

inline Private cut_private(const Problem& problem, const Tiles& tiles, WorkspaceCutter& cutter) {
  Private p;
  p.keys = cutter.take<float>(tiles.block_keys * problem.head_dim);
  p.values = cutter.take<float>((tiles.block_keys + kPanelGap) * padded(problem.head_dim_v));
  p.scores = cutter.take<float>(padded(tiles.block_keys) * tiles.lanes);
  p.index = cutter.take<int32_t>(padded(tiles.block_keys));
  p.lanes = cutter.take<uint32_t>(padded(tiles.block_keys));
  p.rows = cutter.take<float>(tiles.lanes * std::max(problem.head_dim, problem.head_dim_v));
  p.micros = cutter.take<float>(tiles.micros() * micro_floats(problem, tiles));
  return p;
}

inline int64_t private_bytes(const Problem& problem, const Tiles& tiles) {
  WorkspaceCutter cutter(nullptr);
  cut_private(problem, tiles, cutter);
  return cutter.size();
}

}  // namespace nalab::fused

#endif  // NALAB_CORE_KERNELS_FUSED_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

/// One super tile of one kv head, from packing its queries to storing its results.
template <class Arithmetic>
class SuperTile {
  static constexpr int Lanes = Arithmetic::kLanes;
  static constexpr int kRows = Arithmetic::kRows;
  static constexpr int kStep = Arithmetic::kStep;
  static constexpr uint32_t kAll = kAllLanes<Lanes>;

 public:
  SuperTile(const Problem& problem, const Tiles& tiles, const LaneShape& shape, const Inputs& in, const Outputs& out,
            const Private& mine)
      : problem_(problem),
        tiles_(tiles),
        shape_(shape),
        in_(in),
        out_(out),
        mine_(mine),
        axes_(problem.axes3()),
        panels_(geometry::ceil_div(problem.head_dim_v, kRows)),
        exponent_scale_(factor_as_float(std::abs(problem.effective_scale()) / kLn2)),
        block_{mine.keys, mine.values, tiles.block_keys * kRows + kPanelGap} {}

  /// `queries`: positions in the dilation group; `head`: the first of tiles.heads query heads.
  void HWY_ATTR Run(int64_t batch, int64_t head, const Token& group, const geometry::Box& queries) {
    batch_ = batch;
    head_ = head;
    head_kv_ = head / (problem_.heads / problem_.heads_kv);
    group_ = group;
    geometry::GroupMask mask;
    for (int axis = 0; axis < 3; ++axis) mask[axis] = axes_[axis].group_mask(group[axis]);
    PlaceMicros(mask, queries);
    const geometry::Box keys = geometry::keys_of_any(mask, queries);
    used_ = 0;
    segments_ = 0;
    values_finite_ = true;
    for (int64_t x1 = keys[0].begin; x1 < keys[0].end; ++x1) {
      for (int64_t x2 = keys[1].begin; x2 < keys[1].end; ++x2) AddRow(x1, x2, keys[2]);
    }
    for (int64_t e = 0; e < problem_.extra_tokens;) {
      const int64_t end = AddSegment({.x1 = -1, .x2 = -1, .x3 = {e, problem_.extra_tokens}});
      e = end;
    }
    Flush();
    for (int64_t i = 0; i < placed_; ++i) {
      for (int64_t h = 0; h < tiles_.heads; ++h) StoreResults(lanes_[i], micro(i, h), head_ + h);
    }
  }

 private:
  /// A run of keys along the last axis that lies in the block from row `first` on. x1 is negative for extra tokens.
  struct Segment {
    int64_t x1, x2;
    geometry::Range x3;
    int64_t first = 0;
  };

  Micro micro(int64_t spatial, int64_t head) const {
    float* p = mine_.micros + (spatial * tiles_.heads + head) * micro_floats(problem_, tiles_);
    Micro m;
    m.queries = p;
    m.out = m.queries + Lanes * problem_.head_dim;
    m.maxima = m.out + Lanes * padded(problem_.head_dim_v);
    m.sums = m.maxima + Lanes;
    return m;
  }

  Token coordinates(const Token& position) const {
    Token token;
    for (int axis = 0; axis < 3; ++axis) token[axis] = axes_[axis].coordinate(group_[axis], position[axis]);
    return token;
  }

  /// Cuts the queries into micro tiles, packs them, and starts their state.
  void HWY_ATTR PlaceMicros(const geometry::GroupMask& mask, const geometry::Box& queries) {
    placed_ = 0;
    std::array<geometry::TileAxis, 3> cut;
    for (int axis = 0; axis < 3; ++axis) cut[axis] = {queries[axis].size(), tiles_.micro[axis]};
    for (int64_t i = 0; i < cut[0].count(); ++i) {
      for (int64_t j = 0; j < cut[1].count(); ++j) {
        for (int64_t k = 0; k < cut[2].count(); ++k) {
          geometry::Box box{cut[0].range(i), cut[1].range(j), cut[2].range(k)};
          for (int axis = 0; axis < 3; ++axis) {
            box[axis].begin += queries[axis].begin;
            box[axis].end += queries[axis].begin;
          }
          lanes_[placed_].place(mask, box, shape_);
          for (int64_t h = 0; h < tiles_.heads; ++h) PackQueries(lanes_[placed_], micro(placed_, h), head_ + h);
          ++placed_;
        }
      }
    }
  }

  void HWY_ATTR PackQueries(const LaneTile& lanes, const Micro& m, int64_t head) {
    // A negative scale changes the sign of the queries, exactly, so that the greatest score has the greatest weight.
    const float sign = problem_.effective_scale() < 0 ? -1.0f : 1.0f;
    const int64_t dim = problem_.head_dim;
    const float* row[Lanes];
    with_element_type(in_.q.type, [&](auto element) HWY_ATTR {
      const auto q = in_.q.as<decltype(element)>();
      for (int lane = 0; lane < Lanes; ++lane) {
        const Token token = coordinates(lanes.query(lane));
        row[lane] = AsFloats(q.row(batch_, token[0], token[1], token[2], head), dim, mine_.rows + lane * dim);
      }
    });
    Arithmetic::PackQueries(row, dim, sign, m.queries);
    std::fill(m.out, m.out + Lanes * padded(problem_.head_dim_v), 0.0f);
    std::fill(m.maxima, m.maxima + Lanes, kNoScore);
    std::fill(m.sums, m.sums + Lanes, 0.0f);
  }

  void HWY_ATTR AddRow(int64_t x1, int64_t x2, geometry::Range x3) {
    while (!x3.empty()) x3.begin = AddSegment({.x1 = x1, .x2 = x2, .x3 = x3});
  }

  /// Packs as much of a segment as the block holds, after visiting a full block. Returns where the rest begins.
  int64_t HWY_ATTR AddSegment(Segment segment) {
    if (used_ == tiles_.block_keys || segments_ == kMaxSegments) Flush();
    const int64_t end = std::min(segment.x3.end, segment.x3.begin + tiles_.block_keys - used_);
    const bool more = end < segment.x3.end;
    segment.x3.end = end;
    segment.first = used_;
    segment_[segments_++] = segment;
    if (segment.x1 < 0) {
      PackKeys(in_.extra_k, in_.extra_v, {0, 0, segment.x3.begin}, 1, segment.x3.size(), more);
    } else {
      PackKeys(in_.k, in_.v, coordinates({segment.x1, segment.x2, segment.x3.begin}), axes_[2].dilation,
               segment.x3.size(), more);
    }
    return segment.x3.end;
  }

  void HWY_ATTR PackKeys(const ConstTensorView& keys, const ConstTensorView& values, const Token& first,
                         int64_t dilation, int64_t count, bool more) {
    with_element_type(keys.type, [&](auto element) HWY_ATTR {
      using T = decltype(element);
      if constexpr (Arithmetic::template kAccepts<T>) {
        PackKeysOf<T>(keys.as<T>(), values.as<T>(), first, dilation, count, more);
      }
    });
    used_ = geometry::ceil_div(used_ + count, Arithmetic::kKeyAlignment) * Arithmetic::kKeyAlignment;
  }

  template <class T>
  void HWY_ATTR PackKeysOf(const TokenView<const T>& keys, const TokenView<const T>& values, const Token& first,
                           int64_t dilation, int64_t count, bool more) {
    const T* const key = keys.row(batch_, first[0], first[1], first[2], head_kv_);
    const T* const value = values.row(batch_, first[0], first[1], first[2], head_kv_);
    const int64_t key_step = keys.strides.layout[2] * dilation, value_step = values.strides.layout[2] * dilation;
    // The rows that are packed after these: hardware sees no pattern from one line of tokens to the next.
    if (more || keys.shape.layout[1] > 1) {
      const int64_t dilation2 = axes_[1].dilation;
      Prefetch(key + (more ? count * key_step : dilation2 * keys.strides.layout[1]), key_step, problem_.head_dim,
               count);
      Prefetch(value + (more ? count * value_step : dilation2 * values.strides.layout[1]), value_step,
               problem_.head_dim_v, count);
    }
    const bool finite = Arithmetic::PackKeys(key, key_step, problem_.head_dim, value, value_step, problem_.head_dim_v,
                                             count, used_, block_, mine_.rows);
    values_finite_ = values_finite_ && finite;
  }

  template <class T>
  static void Prefetch(const T* row, int64_t step, int64_t dim, int64_t count) {
    constexpr int64_t kLine = static_cast<int64_t>(kAlignment / sizeof(T));
    for (int64_t n = 0; n < count; ++n, row += step) {
      for (int64_t c = 0; c < dim; c += kLine) __builtin_prefetch(row + c, 0, 2);
    }
  }

  /// All micro tiles visit the block; it is empty afterwards.
  void HWY_ATTR Flush() {
    for (int64_t i = 0; i < placed_; ++i) {
      const KeyList list = ListKeys(lanes_[i]);
      if (list.count == 0) continue;
      for (int64_t h = 0; h < tiles_.heads; ++h) Visit(list, micro(i, h));
    }
    used_ = 0;
    segments_ = 0;
    values_finite_ = true;
  }

  /// The keys of the block that lie in a micro tile's box, with the lanes that attend to them.
  KeyList ListKeys(const LaneTile& lanes) {
    int64_t n = 0;
    uint32_t common = kAll;
    // Runs that are not aligned are filled up with rows that no lane attends to.
    const auto list_rows = [&](geometry::Range rows, auto&& set_lanes) {
      constexpr int64_t kAlignment = Arithmetic::kKeyAlignment;
      const int64_t before = rows.begin % kAlignment;
      const int64_t after = geometry::ceil_div(rows.end, kAlignment) * kAlignment - rows.end;
      if (before + after > 0) common = 0;
      std::fill_n(mine_.lanes + n, before, 0u);
      set_lanes(mine_.lanes + n + before);
      std::fill_n(mine_.lanes + n + before + rows.size(), after, 0u);
      for (int64_t row = rows.begin - before; row < rows.end + after; ++row) {
        mine_.index[n++] = static_cast<int32_t>(row);
      }
    };
    for (int64_t s = 0; s < segments_; ++s) {
      const Segment& segment = segment_[s];
      if (segment.x1 < 0) {
        const int64_t count = segment.x3.size();
        list_rows({segment.first, segment.first + count}, [=](uint32_t* target) { std::fill_n(target, count, kAll); });
        continue;
      }
      const uint32_t row = lanes.attending(0, segment.x1) & lanes.attending(1, segment.x2);
      const geometry::Range x3 = geometry::intersect(segment.x3, lanes.keys(2));
      if (row == 0 || x3.empty()) continue;
      const int64_t offset = segment.first - segment.x3.begin;
      list_rows({x3.begin + offset, x3.end + offset},
                [&](uint32_t* target) { common &= lanes.attending_run(2, x3, row, target); });
    }
    const int64_t count = n;
    for (; n % kRows != 0; ++n) {
      mine_.index[n] = mine_.index[count - 1];
      mine_.lanes[n] = 0;
    }
    return {mine_.index, mine_.lanes, count, common == kAll};
  }

  /// One step of the online softmax.
  void HWY_ATTR Visit(const KeyList& list, const Micro& m) {
    constexpr int kVectors = Arithmetic::kVectors;
    const Floats d;
    const VF scale = hn::Set(d, exponent_scale_);
    VF before[kVectors], maxima[kVectors], sums[kVectors], correction[kVectors];
    for (int v = 0; v < kVectors; ++v) before[v] = hn::Load(d, m.maxima + v * kStep);
    Arithmetic::Scores(m.queries, block_, problem_.head_dim, list, mine_.scores, m.maxima);
    for (int v = 0; v < kVectors; ++v) maxima[v] = hn::Load(d, m.maxima + v * kStep);
    Arithmetic::Weigh(list, exponent_scale_, maxima, mine_.scores, sums);
    for (int v = 0; v < kVectors; ++v) {
      const VF fall = hn::Mul(hn::Sub(before[v], maxima[v]), scale);
      correction[v] = simd::HWY_NAMESPACE::Exp2NonPositive(d, fall);
      const VF sum = hn::MulAdd(hn::Load(d, m.sums + v * kStep), correction[v], sums[v]);
      hn::Store(sum, d, m.sums + v * kStep);
    }
    if (values_finite_ || list.all_attend) {
      Arithmetic::template AddValues<false>(mine_.scores, block_, panels_, list, correction, m.out);
    } else {
      Arithmetic::template AddValues<true>(mine_.scores, block_, panels_, list, correction, m.out);
    }
  }

  void HWY_ATTR StoreResults(const LaneTile& lanes, const Micro& m, int64_t head) {
    const int64_t dim_v = problem_.head_dim_v;
    HWY_ALIGN float inverse[Lanes];
    float* row[Lanes];
    for (int lane = 0; lane < Lanes; ++lane) {
      inverse[lane] = 1.0f / m.sums[lane];
      row[lane] = mine_.rows + lane * dim_v;
    }
    LanesToRows<Lanes>(m.out, dim_v, inverse, row);
    for (int lane = 0; lane < Lanes; ++lane) {
      if (!lanes.inside(lane)) continue;
      const Token token = coordinates(lanes.query(lane));
      store_row(out_.out, batch_, token, head, row[lane]);
      // No weight at all: every score was -infinity, and the definition gives NaN.
      const float lse = m.sums[lane] == 0.0f ? std::numeric_limits<float>::quiet_NaN()
                                             : static_cast<float>(kLn2 * (exponent_scale_ * m.maxima[lane]) +
                                                                  std::log(static_cast<double>(m.sums[lane])));
      store_row(out_.lse, batch_, token, head, &lse);
    }
  }

  static constexpr int64_t kMaxSegments = 256;
  static constexpr int64_t kMaxPlaced = 16;

  const Problem& problem_;
  const Tiles& tiles_;
  const LaneShape& shape_;
  const Inputs& in_;
  const Outputs& out_;
  const Private& mine_;
  const std::array<Axis, 3> axes_;
  const int64_t panels_;
  const float exponent_scale_;  ///< weights are powers of 2
  const Block block_;

  int64_t batch_ = 0, head_ = 0, head_kv_ = 0;
  Token group_{};
  LaneTile lanes_[kMaxPlaced];
  int64_t placed_ = 0;
  Segment segment_[kMaxSegments];
  int64_t segments_ = 0;
  int64_t used_ = 0;
  bool values_finite_ = true;
};

template <class Arithmetic>
void ForwardOf(const Problem& problem, const Tiles& tiles, const Inputs& in, const Outputs& out,
               const Execution& execution) {
  const auto axes = problem.axes3();
  const int64_t bytes = private_bytes(problem, tiles);
  const LaneShape shape(tiles.micro);
  std::array<geometry::TileAxis, 3> cut;
  for (int axis = 0; axis < 3; ++axis) cut[axis] = {axes[axis].group_length(0), tiles.super_queries(axis)};
  const int64_t supers = cut[0].count() * cut[1].count() * cut[2].count();
  const int64_t groups = axes[0].dilation * axes[1].dilation * axes[2].dilation;
  const int64_t head_steps = problem.heads / tiles.heads;

  execution.workers.for_each(problem.batch * head_steps * groups * supers, [&](int64_t task, int worker) HWY_ATTR {
    const Token super = token_at({cut[0].count(), cut[1].count(), cut[2].count()}, task % supers);
    const Token group = token_at({axes[0].dilation, axes[1].dilation, axes[2].dilation}, task / supers % groups);
    geometry::Box queries;
    for (int axis = 0; axis < 3; ++axis) {
      // Later dilation groups may be a position shorter, and so lack the last tile.
      const geometry::TileAxis tiles_of_group{axes[axis].group_length(group[axis]), cut[axis].tile};
      queries[axis] = tiles_of_group.range(super[axis]);
      if (queries[axis].empty()) return;
    }
    const int64_t head = task / supers / groups % head_steps * tiles.heads;
    WorkspaceCutter cutter(execution.workspace.data() + worker * bytes);
    const Private mine = cut_private(problem, tiles, cutter);
    SuperTile<Arithmetic>(problem, tiles, shape, in, out, mine)
        .Run(task / supers / groups / head_steps, head, group, queries);
  });
}

template <template <int> class Arithmetic>
void ForwardIn(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
  const Tiles tiles = choose_tiles(problem);
  const auto run = tiles.lanes == 32 ? ForwardOf<Arithmetic<32>> : ForwardOf<Arithmetic<16>>;
  run(problem, tiles, in, out, execution);
}

void Forward(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
#if HWY_TARGET == HWY_AVX3
  if (problem.type == ElementType::bf16 && execution.isa == Isa::avx512bf16) {
    return ForwardIn<Bf16Arithmetic>(problem, in, out, execution);
  }
#endif
  ForwardIn<FloatArithmetic>(problem, in, out, execution);
}

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::fused {

void forward(const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
  NALAB_SELECT(execution.isa, Forward)(problem, inputs, outputs, execution);
}

int64_t workspace_bytes(const Problem& problem, int threads) {
  return threads * private_bytes(problem, choose_tiles(problem));
}

int64_t executed_flops(const Problem& problem) {
  return 2 * problem.batch * problem.heads * visited_pairs(problem, choose_tiles(problem)) *
         (problem.head_dim + problem.head_dim_v);
}

Variant variant() {
  return {
      .name = "fused",
      .paper_term = "fused NA (Faster NA, section 3.3; Generalized NA)",
      .summary = "Online softmax over multi-dimensional tiles; whole tiles outside the window are never visited.",
      .supports = [](const Problem&, Pass pass) -> std::optional<std::string> {
        if (pass == Pass::backward) return "fused has no backward pass yet";
        return std::nullopt;
      },
      .workspace_bytes = [](const Problem& problem, Pass, int threads) { return workspace_bytes(problem, threads); },
      .executed_flops = [](const Problem& problem, Pass) { return executed_flops(problem); },
      .forward = forward,
  };
}

}  // namespace nalab::fused
#endif  // HWY_ONCE
