// The stages of banded one by one: windows of 7 x 7, a strip of queries, a block of 7 rows of queries with its 13 rows
// of keys, f32. One thread, every instruction set of this CPU, operands in first- and second-level cache.
//
// Forward: queries and keys to lanes, scores, softmax, values. Backward: scores, dp, dq, dv and dk. dp is computed as
// scores are, and dq as values are, by the same functions: they share a row here. The step between backward's products,
// from scores and dp to weights and gradients of scores, is private to its task and is left out.
//
// Counters, for one row of queries of the block, which is one vector of them (keys to lanes: for one row of keys):
// `row`, its time; `bound`, its time at the peak of multiply-adds, the best that one thread of this process measured.
// FLOP: useful ones a second. On a shared machine the peak at most times is below its best, and so are the stages.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/bands.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>

#include "core/kernels/banded/gradients-inl.h"
#include "core/kernels/banded/task-inl.h"
#include "core/kernels/banded/values-inl.h"
#include "core/simd/peak.h"
#include "core/tensor/buffer.h"

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

constexpr int64_t kWindow = 7, kColumns = kWindow * kWindow, kHeads = 2;
/// Rows of queries of a block, and the rows of keys that they attend to.
constexpr int64_t kRows = 7, kKeyRows = kRows + kWindow - 1;

/// A strip of a layout of kKeyRows x extent tokens.
struct Layout {
  const char* name;
  int64_t extent;
  int64_t lane;  ///< one of the strip's: lanes are numbered as in LaneOrder
};

Problem ProblemOf(const Layout& layout, int64_t dim) {
  return {.axes = {{.extent = kKeyRows, .window = kWindow}, {.extent = layout.extent, .window = kWindow}},
          .heads = kHeads,
          .heads_kv = kHeads,
          .head_dim = dim,
          .head_dim_v = dim};
}

/// A block of a strip: what its stages read and write.
struct Block {
  // Inlined, g++ 12 warns of lanes before the first.
  HWY_NOINLINE Block(const Layout& layout, int64_t head_dim)
      : dim(head_dim),
        extent(layout.extent),
        strip(LaneOrder(ProblemOf(layout, dim), kLanes), layout.lane / kLanes),
        pitch(lane_pitch(strip.keys())),
        queries(kKeyRows * extent * step()),
        keys(kKeyRows * extent * step()),
        sums(kKeyRows * extent * step()),
        query_lanes(dim * kRows * kLanes),
        key_lanes(kKeyRows * (dim * pitch + 2 * kLanes)),
        scores(kRows * kColumns * kLanes),
        weights(kRows * kWindow * kLanes) {
    for (auto* buffer : {&queries, &keys, &sums, &query_lanes, &key_lanes, &scores, &weights}) {
      std::fill(buffer->begin(), buffer->end(), 0.125f);
    }
  }

  /// From one token to the next.
  int64_t step() const { return kHeads * dim; }
  /// Where a query or a key of the strip is in a row of tokens.
  int64_t offset(const Place& token) const { return token.x3 * step() + token.head_kv * dim; }
  /// A row of a tensor of tokens; the block's row 0 of queries is in the middle of its window.
  template <class Buffer>
  auto* key_row(Buffer& tokens, int64_t row) const {
    return tokens.data() + row * extent * step();
  }
  template <class Buffer>
  auto* query_row(Buffer& tokens, int64_t row) const {
    return key_row(tokens, row + kWindow / 2);
  }
  float* key_lanes_of(int64_t row) { return key_lanes.data() + row * (dim * pitch + 2 * kLanes); }
  float* scores_of(int64_t row) { return scores.data() + row * kColumns * kLanes; }

  /// The rows of queries that attend to a row of keys, and where their scores with it are: among all scores of the
  /// block, or alone.
  geometry::Range RowsOf(int64_t key_row, bool alone, float** targets) {
    const geometry::Range rows{std::max<int64_t>(0, key_row - kWindow + 1), std::min(kRows, key_row + 1)};
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      *targets++ =
          alone ? weights.data() + row * kWindow * kLanes : scores_of(row) + (key_row - row) * kWindow * kLanes;
    }
    return rows;
  }

  int64_t dim, extent;
  Strip strip;
  int64_t pitch;                             ///< from one channel of keys on lanes to the next
  AlignedBuffer<float> queries, keys, sums;  ///< [kKeyRows][extent][kHeads][dim]
  AlignedBuffer<float> query_lanes;          ///< [dim][kRows][kLanes]
  AlignedBuffer<float> key_lanes;            ///< [kKeyRows][dim][pitch], with what is loaded beyond the last channel
  AlignedBuffer<float> scores;               ///< [kRows][kColumns][kLanes]
  AlignedBuffer<float> weights;              ///< [kRows][kWindow][kLanes]: of one row of keys
};

/// One thread's peak, FLOP/s. Of this target: each has its own.
double PeakOf(Isa isa) {
  static const double peak = [&] {
    Workers one(1);
    return measure_fma_f32(isa, one).one_thread;
  }();
  return peak;
}

void CountRows(benchmark::State& state, int64_t rows) {
  using benchmark::Counter;
  state.counters["row"] =
      Counter(static_cast<double>(rows), Counter::Flags(Counter::kIsIterationInvariantRate | Counter::kInvert));
}

/// One product of all kRows rows.
void CountProduct(benchmark::State& state, const Block& block, Isa isa) {
  using benchmark::Counter;
  const auto flops_of_row = static_cast<double>(2 * kColumns * block.strip.lanes() * block.dim);
  CountRows(state, kRows);
  state.counters["bound"] = Counter(flops_of_row / PeakOf(isa));
  state.counters["FLOP"] = Counter(kRows * flops_of_row, Counter::kIsIterationInvariantRate);
}

void HWY_ATTR QueriesToLanes(benchmark::State& state, Block& block, Isa) {
  for (auto _ : state) {
    for (int64_t row = 0; row < kRows; ++row) {
      const float* const tokens = block.query_row(block.queries, row);
      const auto query = [&](int64_t lane)
                             HWY_ATTR { return tokens + block.offset(block.strip.query(static_cast<int>(lane))); };
      ToLanes<FloatCells, float>(kLanes, block.dim, query, kRows * kLanes, block.query_lanes.data() + row * kLanes);
    }
    benchmark::ClobberMemory();
  }
  CountRows(state, kRows);
  state.SetBytesProcessed(state.iterations() * kRows * kLanes * block.dim * 4);
}

void HWY_ATTR KeysToLanes(benchmark::State& state, Block& block, Isa) {
  for (auto _ : state) {
    for (int64_t row = 0; row < kKeyRows; ++row) {
      const float* const tokens = block.key_row(block.keys, row);
      const auto key = [&](int64_t n) HWY_ATTR { return tokens + block.offset(block.strip.key(n)); };
      ToLanes<FloatCells, float>(block.strip.keys(), block.dim, key, block.pitch, block.key_lanes_of(row));
    }
    benchmark::ClobberMemory();
  }
  CountRows(state, kKeyRows);
  state.SetBytesProcessed(state.iterations() * kKeyRows * block.strip.keys() * block.dim * 4);
}

/// Products of queries and keys on lanes; `alone`: those with one row of keys are overwritten by those with the next.
template <bool alone>
void HWY_ATTR ScoresOfBlock(benchmark::State& state, Block& block, Isa isa) {
  for (auto _ : state) {
    for (int64_t row = 0; row < kKeyRows; ++row) {
      float* targets[kRows];
      const geometry::Range rows = block.RowsOf(row, alone, targets);
      Scores<FloatCells>(rows.size(), block.query_lanes.data() + rows.begin * kLanes, kRows,
                         {block.key_lanes_of(row), block.pitch, block.strip.index()}, OrderOf(block.strip), block.dim,
                         kWindow, targets);
    }
    benchmark::ClobberMemory();
  }
  CountProduct(state, block, isa);
}

void HWY_ATTR Softmax(benchmark::State& state, Block& block, Isa) {
  for (auto _ : state) {
    for (int64_t row = 0; row < kRows; ++row) {
      float* const scores = block.scores_of(row);
      HWY_ALIGN float sum[kLanes];
      hn::Store(Weigh<FloatCells>(scores, kColumns, MaxOf(scores, kColumns, -1e36f), 0.5f), Floats(), sum);
      benchmark::DoNotOptimize(sum);
    }
    benchmark::ClobberMemory();
  }
  CountRows(state, kRows);
  state.SetItemsProcessed(state.iterations() * kRows * kColumns * kLanes);
}

/// Sums of keys, or values, for the queries.
void HWY_ATTR SumsOfBlock(benchmark::State& state, Block& block, Isa isa) {
  const Strip& strip = block.strip;
  HWY_ALIGN float factors[kLanes];
  std::fill_n(factors, kLanes, 0.5f);
  const float* key_rows[kKeyRows];
  for (int64_t row = 0; row < kKeyRows; ++row) key_rows[row] = block.key_row(block.keys, row);
  for (auto _ : state) {
    for (int64_t row = 0; row < kRows; ++row) {
      float* targets[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) {
        targets[lane] = block.query_row(block.sums, row) + block.offset(strip.query(lane));
      }
      for (int i = 0; i < strip.runs(); ++i) {
        const Run& run = strip.run(i);
        const ValueList list{
            key_rows + row,       kWindow, block.offset(strip.key(run.key)), block.step(), block.dim, {}, 0,
            block.scores_of(row), nullptr};
        Sums<FloatCells>(list, run, kWindow, {targets, factors});
      }
    }
    benchmark::ClobberMemory();
  }
  CountProduct(state, block, isa);
}

/// Sums of queries for the keys. `alone`: as for scores.
template <bool alone>
void HWY_ATTR KeyGradients(benchmark::State& state, Block& block, Isa isa) {
  const Strip& strip = block.strip;
  const float* query_rows[kMaxLanes][kRows];
  for (int i = 0; i < strip.runs(); ++i) {
    for (int64_t row = 0; row < kRows; ++row) {
      query_rows[i][row] = block.query_row(block.queries, row) + block.offset(strip.query(strip.run(i).lane));
    }
  }
  for (auto _ : state) {
    for (int64_t row = 0; row < kKeyRows; ++row) {
      float* weights[kRows];
      const geometry::Range rows = block.RowsOf(row, alone, weights);
      for (int i = 0; i < strip.runs(); ++i) {
        const Run& run = strip.run(i);
        AddQueries({query_rows[i] + rows.begin, weights, rows.size(), block.step()}, run,
                   {block.key_row(block.sums, row) + block.offset(strip.key(run.key)), block.step(), block.dim, 0.5f});
      }
    }
    benchmark::ClobberMemory();
  }
  CountProduct(state, block, isa);
}

void RegisterBenchmarks(Isa isa) {
  struct Stage {
    const char* name;
    void (*run)(benchmark::State&, Block&, Isa);
  };
  static constexpr Stage kStages[] = {
      {"queries_to_lanes", QueriesToLanes}, {"keys_to_lanes", KeysToLanes},
      {"scores_dp", ScoresOfBlock<false>},  {"softmax", Softmax},
      {"values_dq", SumsOfBlock},           {"backward_scores", ScoresOfBlock<true>},
      {"dv", KeyGradients<true>},           {"dk", KeyGradients<false>},
  };
  // Windows one key after the other; and the end of one head's row and the beginning of the next one's (baseline, with
  // its one lane, is in order there too).
  static constexpr Layout kLayouts[] = {{"in_order", 56, 16}, {"heads_end_to_end", 28, 16}};
  for (const Layout& layout : kLayouts) {
    for (int64_t dim : {32, 64}) {
      for (const Stage& stage : kStages) {
        const std::string title = std::string(stage.name) + "/" + std::string(name(isa)) + "/" + layout.name +
                                  "/head_dim:" + std::to_string(dim);
        benchmark::RegisterBenchmark(title.c_str(), [=](benchmark::State& state) {
          Block block(layout, dim);
          stage.run(state, block, isa);
        });
      }
    }
  }
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::banded {

const bool registered = [] {
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (cpu_supports(isa)) NALAB_SELECT(isa, RegisterBenchmarks)(isa);
  }
  return true;
}();

}  // namespace nalab::banded
#endif  // HWY_ONCE
