// Whole kernels: both passes of every variant of the registry on typical problems, in every type, with all threads;
// token permutation.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/kernels/permute.h"
#include "core/kernels/registry.h"
#include "core/tensor/buffer.h"

namespace nalab {
namespace {

struct Case {
  std::string name;
  Problem problem;
};

Problem problem(std::vector<Axis> axes, int64_t batch, int64_t heads, int64_t dim) {
  Problem p;
  p.axes = std::move(axes);
  p.batch = batch;
  p.heads = p.heads_kv = heads;
  p.head_dim = p.head_dim_v = dim;
  return p;
}

/// An axis of a layout scaled down from a published one, so that an iteration takes milliseconds.
Axis axis(int64_t extent, int64_t window, int64_t stride = 1, int64_t dilation = 1) {
  return {.extent = extent, .window = window, .stride = stride, .dilation = dilation};
}

std::vector<Case> cases() {
  return {
      {"self_attention_2048_d128", problem({axis(2048, 2048)}, 1, 1, 128)},
      {"self_attention_2048_d64", problem({axis(2048, 2048)}, 1, 1, 64)},
      {"1d_8192_w512", problem({axis(8192, 512)}, 1, 1, 128)},
      {"flux_96_w30", problem({axis(96, 30), axis(96, 30)}, 1, 1, 128)},
      {"hunyuan_10x24x40", problem({axis(10, 6), axis(24, 12), axis(40, 12)}, 1, 1, 128)},
      {"hunyuan_10x24x40_s6x4x4", problem({axis(10, 6, 6), axis(24, 12, 4), axis(40, 12, 4)}, 1, 1, 128)},
      {"nat_56x56", problem({axis(56, 7), axis(56, 7)}, 8, 2, 32)},
      {"dinat_56x56_d8", problem({axis(56, 7, 1, 8), axis(56, 7, 1, 8)}, 8, 2, 32)},
  };
}

void fill(Tensor& tensor) {
  std::minstd_rand random(1);
  std::normal_distribution<float> normal;
  with_element_type(tensor.type(), [&](auto element) {
    using T = decltype(element);
    for (int64_t i = 0; i < tensor.elements(); ++i) tensor.data<T>()[i] = from_float<T>(normal(random));
  });
}

void pass(benchmark::State& state, const Variant& variant, const Problem& p, Pass pass) {
  Tensor q(p.type, q_shape(p)), k(p.type, k_shape(p)), v(p.type, v_shape(p)), dout(p.type, out_shape(p));
  Tensor out(p.type, out_shape(p)), lse(ElementType::f32, lse_shape(p));
  Tensor dq(p.type, q_shape(p)), dk(p.type, k_shape(p)), dv(p.type, v_shape(p));
  for (Tensor* tensor : {&q, &k, &v, &dout}) fill(*tensor);
  Workers workers(choose_threads(0));
  const Isa isa = choose_isa();
  const auto in = [&](Pass which, auto&& call) {
    AlignedBuffer<std::byte> workspace(variant.workspace_bytes(p, which, workers.threads()));
    call(Execution{isa, workers, {workspace.data(), static_cast<std::size_t>(workspace.size())}});
  };
  const Inputs inputs{q.view(), k.view(), v.view(), {}, {}};
  const auto forward = [&](const Execution& execution) {
    variant.forward(p, inputs, {out.view(), lse.view()}, execution);
  };
  if (pass == Pass::forward) {
    in(pass, [&](const Execution& execution) {
      for (auto _ : state) forward(execution);
    });
  } else {
    in(Pass::forward, forward);
    in(pass, [&](const Execution& execution) {
      for (auto _ : state) {
        variant.backward(p, inputs, {out.view(), lse.view(), dout.view()}, {dq.view(), dk.view(), dv.view(), {}, {}},
                         execution);
      }
    });
  }
  const auto rate = [&](int64_t flops) {
    return benchmark::Counter(static_cast<double>(flops), benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["useful_FLOP"] = rate(p.useful_flops(pass));
  state.counters["executed_FLOP"] = rate(variant.executed_flops(p, pass));
  state.SetLabel(std::string(name(isa)) + ", " + std::to_string(workers.threads()) + " threads");
}

void permutation(benchmark::State& state) {
  const Problem p = problem({axis(30, 18), axis(48, 24), axis(80, 24)}, 1, 1, 128);
  const geometry::TokenPermutation tiles(p.axes3(), {4, 8, 8});
  Tensor tokens(p.type, q_shape(p)), permuted(p.type, {p.batch, {1, 1, p.tokens()}, p.heads, p.head_dim});
  fill(tokens);
  Workers workers(choose_threads(0));
  for (auto _ : state) permute_tokens(tiles, tokens.view(), permuted.view(), workers);
  state.SetBytesProcessed(state.iterations() * 2 * tokens.elements() * size_of(p.type));
}

const bool registered = [] {
  for (const Case& c : cases()) {
    for (const Variant& variant : variants()) {
      for (ElementType type : {ElementType::f32, ElementType::bf16, ElementType::f16}) {
        Problem p = c.problem;
        p.type = type;
        for (Pass which : {Pass::forward, Pass::backward}) {
          // The oracle would take minutes.
          if (variant.name == "reference" || variant.supports(p, which)) continue;
          const std::string title =
              std::string(name(which)) + "/" + c.name + "/" + std::string(variant.name) + "/" + std::string(name(type));
          benchmark::RegisterBenchmark(title.c_str(),
                                       [&variant, p, which](benchmark::State& s) { pass(s, variant, p, which); })
              ->Unit(benchmark::kMillisecond)
              ->UseRealTime();
        }
      }
    }
  }
  benchmark::RegisterBenchmark("token_permutation/hunyuan", permutation)->Unit(benchmark::kMillisecond)->UseRealTime();
  return true;
}();

}  // namespace
}  // namespace nalab
