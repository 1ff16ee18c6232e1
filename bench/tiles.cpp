// The arithmetic of a query tile apart from the walk over keys: exp2, tile products by register tile, the softmax
// of a tile, packing and transposition. One thread, every instruction set of this CPU, operands in first-level cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/tiles.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <benchmark/benchmark.h>

#include <numeric>
#include <string>
#include <vector>

#include "core/kernels/tile/float_tile-inl.h"
#include "core/tensor/buffer.h"

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

constexpr int64_t kKeys = 96;
constexpr int64_t kPanelStride = kKeys * 8 + 16;

/// Operands of one query tile and a block of kKeys keys.
template <int Lanes>
struct Operands {
  explicit Operands(int64_t d)
      : dim(d),
        q(d * Lanes),
        keys(kKeys * d),
        values(kPanelStride * (d + 8)),
        scores(kKeys * Lanes),
        out((d + 8) * Lanes),
        maxima(Lanes),
        index(kKeys),
        lanes(kKeys) {
    for (auto* buffer : {&q, &keys, &values, &scores, &out}) std::fill(buffer->begin(), buffer->end(), 0.125f);
    std::fill(maxima.begin(), maxima.end(), 0.0f);
    std::iota(index.begin(), index.end(), 0);
    std::fill(lanes.begin(), lanes.end(), kAllLanes<Lanes>);
  }
  Block block() { return {keys.data(), values.data(), kPanelStride}; }
  KeyList list() { return {index.data(), lanes.data(), kKeys, true}; }

  int64_t dim;
  AlignedBuffer<float> q, keys, values, scores, out, maxima;
  AlignedBuffer<int32_t> index;
  AlignedBuffer<uint32_t> lanes;
};

void CountFlops(benchmark::State& state, int64_t flops) {
  state.counters["FLOP"] =
      benchmark::Counter(static_cast<double>(flops), benchmark::Counter::kIsIterationInvariantRate);
}

template <int Lanes>
void HWY_ATTR Scores(benchmark::State& state) {
  Operands<Lanes> o(state.range(0));
  for (auto _ : state) {
    FloatArithmetic<Lanes>::Scores(o.q.data(), o.block(), o.dim, o.list(), {}, o.scores.data(), o.maxima.data());
    benchmark::ClobberMemory();
  }
  CountFlops(state, 2 * kKeys * Lanes * o.dim);
}

template <int Lanes>
void HWY_ATTR Values(benchmark::State& state) {
  using Arithmetic = FloatArithmetic<Lanes>;
  Operands<Lanes> o(state.range(0));
  VF correction[Arithmetic::kVectors];
  for (auto& c : correction) c = hn::Set(Floats(), 0.5f);
  const int64_t panels = (o.dim + Arithmetic::kRows - 1) / Arithmetic::kRows;
  for (auto _ : state) {
    Arithmetic::template AddValues<false>(o.scores.data(), o.block(), panels, o.list(), correction, o.out.data());
    benchmark::ClobberMemory();
  }
  CountFlops(state, 2 * kKeys * Lanes * o.dim);
}

template <int Lanes>
void HWY_ATTR Softmax(benchmark::State& state) {
  using Arithmetic = FloatArithmetic<Lanes>;
  Operands<Lanes> o(state.range(0));
  VF maxima[Arithmetic::kVectors], sums[Arithmetic::kVectors];
  for (auto& m : maxima) m = hn::Set(Floats(), 1.0f);
  for (auto _ : state) {
    Arithmetic::Weigh(o.list(), 0.5f, maxima, o.scores.data(), sums);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kKeys * Lanes);
}

template <int Lanes>
void HWY_ATTR Packing(benchmark::State& state) {
  Operands<Lanes> o(state.range(0));
  const std::vector<float> tokens(static_cast<std::size_t>(2 * kKeys * o.dim), 0.25f);
  for (auto _ : state) {
    benchmark::DoNotOptimize(FloatArithmetic<Lanes>::PackKeys(
        tokens.data(), o.dim, o.dim, tokens.data() + kKeys * o.dim, o.dim, o.dim, kKeys, 0, o.block(), o.q.data()));
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 2 * kKeys * o.dim * 4);
}

template <int Lanes>
void HWY_ATTR Transposition(benchmark::State& state) {
  Operands<Lanes> o(state.range(0));
  const float* row[Lanes];
  for (int i = 0; i < Lanes; ++i) row[i] = o.keys.data() + i * o.dim;
  for (auto _ : state) {
    RowsToLanes<Lanes>(row, o.dim, o.q.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * Lanes * o.dim * 4);
}

void HWY_ATTR Exp2(benchmark::State& state) {
  const Floats d;
  AlignedBuffer<float> x(1024);
  std::fill(x.begin(), x.end(), -0.7f);
  for (auto _ : state) {
    for (int64_t i = 0; i < x.size(); i += static_cast<int64_t>(hn::Lanes(d))) {
      const VF y = simd::HWY_NAMESPACE::Exp2NonPositive(d, hn::Load(d, x.data() + i));
      hn::Store(hn::Sub(y, hn::Set(d, 1.0f)), d, x.data() + i);
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * x.size());
}

template <int Lanes>
void RegisterTileBenchmarks(const std::string& isa) {
  const auto with_dims = [&](const std::string& what, void (*f)(benchmark::State&)) {
    const std::string title = what + "/" + isa + "/lanes:" + std::to_string(Lanes);
    benchmark::RegisterBenchmark(title.c_str(), f)->ArgName("head_dim")->Arg(32)->Arg(64)->Arg(128);
  };
  with_dims("scores", Scores<Lanes>);
  with_dims("values", Values<Lanes>);
  with_dims("packing", Packing<Lanes>);
  with_dims("transposition", Transposition<Lanes>);
  benchmark::RegisterBenchmark(("softmax/" + isa + "/lanes:" + std::to_string(Lanes)).c_str(), Softmax<Lanes>)->Arg(32);
}

void RegisterBenchmarks(const std::string& isa) {
  RegisterTileBenchmarks<32>(isa);
  RegisterTileBenchmarks<16>(isa);
  benchmark::RegisterBenchmark(("exp2/" + isa).c_str(), Exp2);
}

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::tile {

const bool registered = [] {
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (cpu_supports(isa)) NALAB_SELECT(isa, RegisterBenchmarks)(std::string(name(isa)));
  }
  return true;
}();

}  // namespace nalab::tile
#endif  // HWY_ONCE
