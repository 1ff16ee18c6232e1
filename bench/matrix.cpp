// The arithmetic of a query tile on the matrix unit (AMX) apart from the walk over keys: visits and packing, forward
// and backward, and backward on the unit of dot products. One thread, blocks of 256 keys, random numbers, since a unit
// that multiplies zeros runs faster. A visit's rate is to be held against the unit's peak, with operands from the
// first-level cache, or from registers.
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
#include "core/kernels/tile/matrix_gradients-inl.h"
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
    PackQueries(0);
  }

  Block block() { return {keys.data(), values.data(), Arithmetic::panel_stride(kKeys)}; }
  bool Pack() {
    return Arithmetic::PackKeys(rows.data(), dim, dim, rows.data() + kKeys * dim, dim, dim, kKeys, 0, block(),
                                packing.data());
  }
  void PackQueries(int64_t) {
    const float* row[32];
    for (int i = 0; i < 32; ++i) row[i] = query_rows.data() + i * dim;
    Arithmetic::PackQueries(row, dim, 1.0f, q.data(), packing.data());
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

constexpr int64_t kTiles = 16;

/// Query tiles and packed keys of the backward pass.
template <class Arithmetic>
struct GradientOperands {
  using Element = typename Arithmetic::Element;

  explicit GradientOperands(int64_t d)
      : dim(d),
        of_forward(d),
        step((d + 31) / 32 * 32),
        query_rows(static_cast<std::size_t>(32 * step)),
        keys(kKeys * Arithmetic::key_floats(d)),
        values(kKeys * Arithmetic::key_floats(d)),
        panels(Arithmetic::panel_floats(kKeys, d)),
        q(Arithmetic::query_floats(d)),
        dout(Arithmetic::query_floats(d)),
        pairs(kTiles * Arithmetic::pair_floats(d)),
        packing(Arithmetic::packing_floats(d, d)),
        visit(Arithmetic::visit_floats(kKeys)),
        lse2(32),
        delta(32),
        dq((d + 32) * 32),
        rows(2 * kTiles * kTileRows),
        sums(kKeys * (step + 16)),
        visitors(kKeys / Arithmetic::kGroup, (1u << kTiles) - 1),
        misfits(kKeys) {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (float& x : query_rows) x = to_float(from_float<Element>(normal(random) * 0.1f));
    std::fill(lse2.begin(), lse2.end(), 8.0f);
    std::fill(delta.begin(), delta.end(), 0.1f);
    std::fill(dq.begin(), dq.end(), 0.0f);
    std::fill(sums.begin(), sums.end(), 0.0f);
    Pack();
    for (int64_t tile = 0; tile < kTiles; ++tile) PackQueries(tile);
    std::copy(q.begin(), q.end(), dout.begin());
    typename Arithmetic::Scope scope;
    for (int64_t tile = 0; tile < kTiles; ++tile) Visit(scope, tile, true);
  }

  MatrixBlock block() { return {keys.data(), values.data(), panels.data(), Arithmetic::panel_stride(kKeys)}; }
  bool Pack() {
    const Element* const k = of_forward.rows.data();
    return Arithmetic::PackRows(k, dim, dim, k + kKeys * dim, dim, dim, kKeys, 0, block(), misfits.data());
  }
  void PackQueries(int64_t tile) {
    const float* row[32];
    for (int i = 0; i < 32; ++i) row[i] = query_rows.data() + i * step;
    Arithmetic::PackQueries(row, dim, 1.0f, q.data(), packing.data());
    Arithmetic::PackQueryPairs(packing.data(), dim, pairs.data() + tile * Arithmetic::pair_floats(dim));
  }
  void Visit(typename Arithmetic::Scope& scope, int64_t tile, bool all_attend) {
    const MatrixBlock of = block();
    const KeyList list{of_forward.index.data(), of_forward.lanes.data(), of_forward.index.size(), all_attend};
    float* const of_tile = rows.data() + tile * kTileRows;
    Arithmetic::GradientsOfVisit(scope,
                                 {of, dim, dim, list, 0.1f, nullptr, nullptr, q.data(), dout.data(), lse2.data(),
                                  delta.data(), dq.data(), of_tile, of_tile + kTiles * kTileRows},
                                 visit.data());
  }
  void AddToKeys(typename Arithmetic::Scope& scope) {
    Arithmetic::AddToKeys(scope, kKeys / Arithmetic::kGroup, visitors.data(), rows.data(), kTileRows, pairs.data(), dim,
                          {sums.data(), step + 16});
  }

  static constexpr int64_t kTileRows = kKeys / Arithmetic::kGroup * Arithmetic::kGroupRows;
  int64_t dim;
  Operands<Arithmetic> of_forward;
  int64_t step;
  std::vector<float> query_rows;
  AlignedBuffer<float> keys, values, panels, q, dout, pairs, packing, visit, lse2, delta, dq, rows, sums;
  std::vector<uint32_t> visitors;
  AlignedBuffer<uint8_t> misfits;
};

/// All tiles, one after the other: three of the five products.
template <class Arithmetic, bool kMasked>
void HWY_ATTR GradientVisits(benchmark::State& state) {
  GradientOperands<Arithmetic> o(state.range(0));
  typename Arithmetic::Scope scope;
  for (auto _ : state) {
    for (int64_t tile = 0; tile < kTiles; ++tile) o.Visit(scope, tile, !kMasked);
    benchmark::ClobberMemory();
  }
  CountFlops(state, kTiles * 6 * kKeys * 32 * o.dim);
}

/// Of all tiles: one of the five products.
template <class Arithmetic>
void HWY_ATTR AddToKeys(benchmark::State& state) {
  GradientOperands<Arithmetic> o(state.range(0));
  typename Arithmetic::Scope scope;
  for (auto _ : state) {
    o.AddToKeys(scope);
    benchmark::ClobberMemory();
  }
  CountFlops(state, kTiles * 2 * kKeys * 32 * o.dim);
}

template <class SomeOperands>
void HWY_ATTR PackKeys(benchmark::State& state) {
  SomeOperands o(state.range(0));
  for (auto _ : state) {
    benchmark::DoNotOptimize(o.Pack());
    benchmark::ClobberMemory();
  }
  state.counters["keys"] =
      benchmark::Counter(static_cast<double>(kKeys), benchmark::Counter::kIsIterationInvariantRate);
}

template <class SomeOperands>
void HWY_ATTR PackQueries(benchmark::State& state) {
  SomeOperands o(state.range(0));
  for (auto _ : state) {
    o.PackQueries(0);
    benchmark::ClobberMemory();
  }
  state.counters["queries"] = benchmark::Counter(32.0, benchmark::Counter::kIsIterationInvariantRate);
}

template <PeakRate (*measure)(Workers&)>
void Peak(benchmark::State& state) {
  Workers workers(1);
  double best = 0;
  for (auto _ : state) best = std::max(best, measure(workers).one_thread);
  state.counters["FLOP"] = best;
}

void with_dims(const std::string& what, void (*f)(benchmark::State&)) {
  benchmark::RegisterBenchmark(what.c_str(), f)->ArgName("head_dim")->Arg(32)->Arg(64)->Arg(128);
}

template <class Unit, int Parts>
void RegisterBackward(const std::string& arithmetic) {
  using Gradients = MatrixGradients<Unit, Parts>;
  with_dims("gradient_visits/" + arithmetic, GradientVisits<Gradients, false>);
  with_dims("gradient_visits/" + arithmetic + "/masked", GradientVisits<Gradients, true>);
  with_dims("add_to_keys/" + arithmetic, AddToKeys<Gradients>);
  with_dims("pack_gradient_rows/" + arithmetic, PackKeys<GradientOperands<Gradients>>);
  with_dims("pack_query_pairs/" + arithmetic, PackQueries<GradientOperands<Gradients>>);
}

void RegisterDotProducts() {
  benchmark::RegisterBenchmark("peak/bf16_dot", Peak<measure_dot_bf16>)->Iterations(1);
  RegisterBackward<DotUnit, 1>("bf16_dot");
}

void RegisterAmx() {
  benchmark::RegisterBenchmark("peak/bf16_amx", Peak<measure_amx_bf16>)->Iterations(1);
  with_dims("visit/bf16_amx", Visit<MatrixArithmetic<AmxUnit, 1>, false>);
  with_dims("visit/bf16_amx/masked", Visit<MatrixArithmetic<AmxUnit, 1>, true>);
  with_dims("visit/f32_amx3", Visit<MatrixArithmetic<AmxUnit, 3>, false>);
  with_dims("pack_keys/bf16_amx", PackKeys<Operands<MatrixArithmetic<AmxUnit, 1>>>);
  with_dims("pack_keys/f32_amx3", PackKeys<Operands<MatrixArithmetic<AmxUnit, 3>>>);
  with_dims("pack_queries/bf16_amx", PackQueries<Operands<MatrixArithmetic<AmxUnit, 1>>>);
  RegisterBackward<AmxUnit, 1>("bf16_amx");
  RegisterBackward<AmxUnit, 3>("f32_amx3");
}

#else

void RegisterDotProducts() {}
void RegisterAmx() {}

#endif

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::tile {

const bool registered = [] {
  if (cpu_supports(Isa::avx512bf16)) NALAB_SELECT(Isa::avx512bf16, RegisterDotProducts)();
  if (cpu_supports(Isa::amx)) NALAB_SELECT(Isa::amx, RegisterAmx)();
  return true;
}();

}  // namespace nalab::tile
#endif  // HWY_ONCE
