// The arithmetic of a query tile on the matrix unit (AMX) apart from the walk over keys: visits, and packing. One
// thread, blocks of 256 keys, random numbers, since a unit that multiplies zeros runs faster. A visit's rate is to be
// held against the first line: the unit's own with operands from the first-level cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/matrix.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <benchmark/benchmark.h>

#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/kernels/tile/float_tile-inl.h"
#include "core/kernels/tile/matrix_tile-inl.h"
#include "core/simd/peak.h"
#include "core/tensor/buffer.h"

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3

constexpr int64_t kKeys = 256;

void CountFlops(benchmark::State& state, int64_t flops) {
  state.counters["FLOP"] =
      benchmark::Counter(static_cast<double>(flops), benchmark::Counter::kIsIterationInvariantRate);
}

/// A query tile and packed keys.
template <class Arithmetic>
struct Operands {
  using Element = typename Arithmetic::Element;

  explicit Operands(int64_t d)
      : dim(d),
        rows(static_cast<std::size_t>(2 * kKeys * d)),
        query_rows(static_cast<std::size_t>(32 * d)),
        q(Arithmetic::query_floats(d)),
        keys(Arithmetic::block_rows(kKeys) * Arithmetic::key_floats(d)),
        values(Arithmetic::panel_floats(kKeys, d)),
        scores(Arithmetic::score_floats(kKeys)),
        packing(Arithmetic::packing_floats(d, d)),
        out((d + 32) * 32),
        maxima(32),
        sums(32),
        index(kKeys / Arithmetic::kGroup),
        lanes(kKeys) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (Element& x : rows) x = from_float<Element>(normal(random));
    for (float& x : query_rows) x = normal(random) * 0.1f;
    std::fill(out.begin(), out.end(), 0.0f);
    std::fill(maxima.begin(), maxima.end(), 0.0f);
    std::fill(sums.begin(), sums.end(), 0.0f);
    std::iota(index.begin(), index.end(), 0);
    for (int64_t n = 0; n < kKeys; ++n) lanes[n] = n % 2 == 0 ? ~0u : 0x7FFFFFFFu;
    Pack();
    PackQueries();
  }

  Block block() { return {keys.data(), values.data(), Arithmetic::panel_stride(kKeys)}; }
  bool Pack() {
    return Arithmetic::PackKeys(rows.data(), dim, dim, rows.data() + kKeys * dim, dim, dim, kKeys, 0, block(),
                                packing.data());
  }
  uint32_t PackQueries() {
    const float* row[32];
    for (int i = 0; i < 32; ++i) row[i] = query_rows.data() + i * dim;
    return Arithmetic::PackQueries(row, dim, 1.0f, q.data(), packing.data());
  }

  int64_t dim;
  std::vector<Element> rows;
  std::vector<float> query_rows;
  AlignedBuffer<float> q, keys, values, scores, packing, out, maxima, sums;
  AlignedBuffer<int32_t> index;
  AlignedBuffer<uint32_t> lanes;
};

template <class Arithmetic, bool kMasked>
void HWY_ATTR Visit(benchmark::State& state) {
  Operands<Arithmetic> o(state.range(0));
  const Block block = o.block();
  const KeyList list{o.index.data(), o.lanes.data(), o.index.size(), !kMasked};
  typename Arithmetic::Scope scope;
  for (auto _ : state) {
    Arithmetic::Visit(scope, {block, o.dim, o.dim, list, {}, 0.1f, true},
                      {o.q.data(), o.out.data(), o.maxima.data(), o.sums.data()}, o.scores.data());
    benchmark::ClobberMemory();
  }
  CountFlops(state, 4 * kKeys * 32 * o.dim);
}

template <class Arithmetic>
void HWY_ATTR PackKeys(benchmark::State& state) {
  Operands<Arithmetic> o(state.range(0));
  for (auto _ : state) {
    benchmark::DoNotOptimize(o.Pack());
    benchmark::ClobberMemory();
  }
  state.counters["keys"] =
      benchmark::Counter(static_cast<double>(kKeys), benchmark::Counter::kIsIterationInvariantRate);
}

template <class Arithmetic>
void HWY_ATTR PackQueries(benchmark::State& state) {
  Operands<Arithmetic> o(state.range(0));
  for (auto _ : state) {
    benchmark::DoNotOptimize(o.PackQueries());
    benchmark::ClobberMemory();
  }
  state.counters["queries"] = benchmark::Counter(32.0, benchmark::Counter::kIsIterationInvariantRate);
}

void Peak(benchmark::State& state) {
  Workers workers(1);
  double best = 0;
  for (auto _ : state) best = std::max(best, measure_amx_bf16(workers).one_thread);
  state.counters["FLOP"] = best;
}

void RegisterBenchmarks() {
  benchmark::RegisterBenchmark("peak", Peak)->Iterations(1);
  const auto with_dims = [](const std::string& what, void (*f)(benchmark::State&)) {
    benchmark::RegisterBenchmark(what.c_str(), f)->ArgName("head_dim")->Arg(32)->Arg(64)->Arg(128);
  };
  with_dims("visit/bf16_amx", Visit<MatrixArithmetic<AmxUnit, 1>, false>);
  with_dims("visit/bf16_amx/masked", Visit<MatrixArithmetic<AmxUnit, 1>, true>);
  with_dims("visit/f32_amx3", Visit<MatrixArithmetic<AmxUnit, 3>, false>);
  with_dims("pack_keys/bf16_amx", PackKeys<MatrixArithmetic<AmxUnit, 1>>);
  with_dims("pack_keys/f32_amx3", PackKeys<MatrixArithmetic<AmxUnit, 3>>);
  with_dims("pack_queries/bf16_amx", PackQueries<MatrixArithmetic<AmxUnit, 1>>);
}

#else

void RegisterBenchmarks() {}

#endif

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::tile {

const bool registered = [] {
  if (cpu_supports(Isa::amx)) NALAB_SELECT(Isa::amx, RegisterBenchmarks)();
  return true;
}();

}  // namespace nalab::tile
#endif  // HWY_ONCE
