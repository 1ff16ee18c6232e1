// The warpgroups that compute: scores, online softmax, weights times values, for 64 queries each.
//
// Order of a step: the product with the values of the tile before, then the scores of this tile, are handed to the
// tensor cores together; when both are done, the softmax of this tile runs while the other warpgroup's products do.
// Softmax beside the own product with the values was tried and is slower (docs/gpu.md).
#pragma once

#include "core/gpu/hopper/bias.cuh"
#include "core/gpu/hopper/softmax.cuh"
#include "core/gpu/hopper/walk.cuh"
#include "core/gpu/hopper/wgmma.cuh"

namespace nalab::gpu::hopper {

/// Results of a warpgroup's queries in registers.
template <class Element, int kDim>
struct Results {
  Softmax<Element> softmax;
  float out[kDim / 2];
};

/// Of a warpgroup: thread 0 to 127.
__device__ inline int warpgroup_thread() { return threadIdx.x % 128; }
/// The first of the thread's two rows; the second is 8 on.
__device__ inline int first_row() { return warpgroup_thread() / 32 * 16 + threadIdx.x % 32 / 4; }

/// The one-hot rows of the thread's queries: operand A of the product that masks.
__device__ inline void one_hot(const TileShape& shape, uint32_t (&a)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int query = first_row() + i % 2 * 8;
    const int x2 = query % shape.warpgroup[2], x1 = query / shape.warpgroup[2] % shape.warpgroup[1];
    const int x0 = query / (shape.warpgroup[2] * shape.warpgroup[1]);
    const auto named = [&](int row) {
      const int8_t(&c)[kAxisCount] = shape.rows[row].coordinate;
      const bool is = (c[0] < 0 || c[0] == x0) && (c[1] < 0 || c[1] == x1) && (c[2] < 0 || c[2] == x2);
      return is ? 0x3F80u : 0u;  // 1 in bf16
    };
    const int row = i / 2 * 8 + threadIdx.x % 4 * 2;
    a[i] = named(row) | named(row + 1) << 16;
  }
}

/// Multiplies a warpgroup's queries by -1 or 0, for a scale that is not above 0; times 0, an infinity is NaN.
template <class Element, class Layout>
__device__ void multiply_queries(uint32_t queries, float sign, int warpgroup) {
  const uint32_t factor = pack<Element>(sign, sign);
  for (uint32_t i = warpgroup_thread() * 4; i < Layout::kQueryBytes; i += 128 * 4) {
    uint32_t two;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(two) : "r"(queries + i));
    if constexpr (std::is_same_v<Element, __half>) {
      asm("mul.rn.f16x2 %0, %0, %1;" : "+r"(two) : "r"(factor));
    } else {
      asm("mul.rn.bf16x2 %0, %0, %1;" : "+r"(two) : "r"(factor));
    }
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(queries + i), "r"(two) : "memory");
  }
  fence_shared_writes();
  named_barrier_sync(kWarpgroupBarrier + warpgroup, 128);
}

/// What a warpgroup keeps from item to item.
struct Progress {
  TileWalk walk{};
  uint32_t hot[4];  ///< one_hot()
};

/// Scores, softmax and weights times values of a thread block's item. `number`: of it, from 0. Returns whether the
/// warpgroup has queries.
template <class Element, int kDim, int kKeys, MaskMode kMask>
__device__ bool compute(const Work& work, uint32_t number, const SharedLayout<kDim, kKeys>& at,
                        const Barriers& barriers, int warpgroup, Progress& progress, Results<Element, kDim>& results) {
  using Layout = SharedLayout<kDim, kKeys>;
  const TileShape& shape = work.shape();
  const int inner = shape.loop[2];
  const bool first_lane = threadIdx.x % 32 == 0;
  const bool take_turns = shape.ping_pong != 0;
  const uint32_t queries = at.queries(warpgroup);

  float(&out)[kDim / 2] = results.out;
  float s[kKeys / 2];
  uint32_t weights[kKeys / 4];
  KeyRange row_ranges[2];
  const Span full = work.axis(inner).full[warpgroup];
  results.softmax.scale = work.p.scale_log2;
#pragma unroll
  for (int i = 0; i < kDim / 2; ++i) out[i] = 0;
  if constexpr (kMask == MaskMode::one_hot) prepare_inner_biases(work, at, warpgroup);
  if constexpr (kMask == MaskMode::row_ranges) {
    const AxisTile& axis = work.axis(inner);
    for (int r = 0; r < 2; ++r) {
      const KeyRange range = work.p.key_ranges[axis.key_ranges + warpgroup * kWarpgroupQueries + first_row() + 8 * r];
      row_ranges[r] = {range.begin - axis.kv_begin, range.end - axis.kv_begin};
    }
  }

  barrier_wait(barriers.queries_full(warpgroup), number % 2);
  if (work.p.sign != 1) multiply_queries<Element, Layout>(queries, work.p.sign, warpgroup);

  TileWalk& walk = progress.walk;
  walk.start(work, warpgroup);
  const auto release = [&](uint32_t empty) {
    if (first_lane) barrier_arrive(empty);
  };
  const auto enter_row = [&] {
    if (kMask == MaskMode::one_hot && walk.in_layout()) {
      barrier_wait(barriers.row_full(walk.row_slot()), walk.row_parity());
    }
  };
  /// Moves on; the row of tiles that has ended, if any, is for leave_row().
  const auto next = [&] {
    const bool in_layout = walk.in_layout();
    const bool row_ended = walk.next() && kMask == MaskMode::one_hot && in_layout;
    const int row = walk.row_slot();
    if (row_ended) ++walk.row_number;
    return row_ended ? row : -1;
  };
  const auto leave_row = [&](int row) {
    if (row < 0) return;
    release(barriers.row_empty(row));
    enter_row();
  };
  const auto begin_turn = [&] {
    if (take_turns) named_barrier_sync(kTurnBarrier + warpgroup, 256);
  };
  /// `zero`: added, so that whatever it depends on is worked out before.
  const auto end_turn = [&](int zero = 0) {
    if (take_turns) named_barrier_arrive(kTurnBarrier + 1 - warpgroup + zero, 256);
  };
  /// A skipped tile is a turn as well, so that both warpgroups have equally many. in_turn: that of the first has begun.
  const auto skip_unvisited = [&](bool in_turn) {
    while (!walk.done() && !walk.visited()) {
      if (!in_turn) begin_turn();
      in_turn = false;
      end_turn();
      barrier_wait(barriers.keys_full(walk.place.stage), walk.place.parity);
      release(barriers.keys_empty(walk.place.stage));
      barrier_wait(barriers.values_full(walk.place.stage), walk.place.parity);
      release(barriers.values_empty(walk.place.stage));
      leave_row(next());
    }
  };
  /// The operands of a tile's scores in shared memory.
  struct ScoreOperands {
    Operand keys, bias;
  };
  const auto score_operands = [&]() -> ScoreOperands {
    const Operand keys = rows_operand(at.keys(walk.place.stage));
    if constexpr (kMask != MaskMode::one_hot) return {keys, {}};
    // Extra tokens: zeros for both halves.
    const uint32_t first = at.inner_bias(warpgroup, walk.in_layout() ? inner_slot(walk.any, full, walk.t) : 0);
    return {keys, bias_operand(first, walk.in_layout() ? at.row_bias(walk.row_slot()) - first : 0)};
  };
  const auto wait_for_keys = [&] { barrier_wait(barriers.keys_full(walk.place.stage), walk.place.parity); };
  /// Hands the scores of a tile to the tensor cores.
  const auto multiply_scores = [&](const ScoreOperands& operands) {
    const Operand a = rows_operand(queries);
    if constexpr (kMask == MaskMode::one_hot) multiply_bias<kKeys>(s, progress.hot, operands.bias);
#pragma unroll
    for (uint32_t step = 0; step < kDim / 16; ++step) {
      const Operand a_step = a.after(step / 4 * Layout::kQueryBlockBytes + step % 4 * 32);
      const Operand b_step = operands.keys.after(step / 4 * Layout::kKeyBlockBytes + step % 4 * 32);
      if (kMask != MaskMode::one_hot && step == 0) {
        multiply_rows<Element, kKeys, false>(s, a_step, b_step);
      } else {
        multiply_rows<Element, kKeys, true>(s, a_step, b_step);
      }
    }
  };
  const auto multiply_values = [&](int stage) {
    const Operand b = columns_operand(at.values(stage), Layout::kKeyBlockBytes);
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      multiply_columns<Element, kDim>(out, weights + 4 * step, b.after(step * 2048));
    }
  };
  /// Scores of inner tile t, or of the t-th tile of extra tokens, to weights.
  const auto soften = [&](bool in_layout, int t) {
    if (in_layout) {
      if constexpr (kMask == MaskMode::row_ranges) {
        if (t < full.begin || t >= full.end) {
          const int begin = t * shape.kv[inner];
          const KeyRange columns[2] = {{row_ranges[0].begin - begin, row_ranges[0].end - begin},
                                       {row_ranges[1].begin - begin, row_ranges[1].end - begin}};
          mask_columns<kKeys>(s, columns);
        }
      }
    } else if (const int tokens = work.p.plan.extra_tokens - t * kKeys; tokens < kKeys) {
      const KeyRange columns[2] = {{0, tokens}, {0, tokens}};
      mask_columns<kKeys>(s, columns);
    }
    results.softmax.template step<kKeys, kDim>(s, weights, out);
  };

  enter_row();
  skip_unvisited(false);
  const bool has_queries = !walk.done();
  if (has_queries) {
    ScoreOperands operands = score_operands();
    RingPlace place;        // of the tile whose values are still to be multiplied
    bool together = false;  // with the scores of the next tile, which is visited
    /// While the tensor cores work: what comes next, and the end of the turn. Then from scores to weights. `values`:
    /// the stage of values that are multiplied beside the scores, or -1.
    const auto finish_scores = [&](int values) {
      place = walk.place;
      const bool in_layout = walk.in_layout(), last = walk.is_last_visit();
      const int t = walk.t;
      const int row = next();
      together = !walk.done() && walk.visited();
      if (together) operands = score_operands();
      // ptxas would put most of this off until after the wait, when nothing else remains to wait for.
      end_turn(zero_after(walk.t | (walk.rows_left + 1) | walk.place.stage | together | last | row + 1));
      wgmma_wait<0>();
      if (values >= 0) release(barriers.values_empty(values));
      release(barriers.keys_empty(place.stage));
      if (last) release(barriers.queries_empty(warpgroup));
      leave_row(row);
      soften(in_layout, t);
    };
    wait_for_keys();
    begin_turn();
    wgmma_fence();
    multiply_scores(operands);
    wgmma_commit();
    finish_scores(-1);
    while (true) {
      // Both products follow each other without a gap, since all they need is there before they begin.
      if (together) wait_for_keys();
      barrier_wait(barriers.values_full(place.stage), place.parity);
      begin_turn();
      wgmma_fence();
      multiply_values(place.stage);
      wgmma_commit();
      if (!together) {  // holding no stage while skipping: the other warpgroup may need them all
        wgmma_wait<0>();
        release(barriers.values_empty(place.stage));
        if (walk.done()) break;
        skip_unvisited(true);
        if (!walk.done()) {
          operands = score_operands();
          wait_for_keys();
        }
        begin_turn();
        if (walk.done()) break;
      }
      wgmma_fence();
      multiply_scores(operands);
      wgmma_commit();
      finish_scores(together ? place.stage : -1);
    }
  } else {
    release(barriers.queries_empty(warpgroup));
    begin_turn();
  }
  end_turn();
  return has_queries;
}

}  // namespace nalab::gpu::hopper
