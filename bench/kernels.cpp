// Whole kernels: both passes of every variant of the registry on typical problems, in every type, with all threads;
// token permutation.
#include <benchmark/benchmark.h>

#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/attention.h"
#include "core/kernels/registry.h"
#include "core/operators/permute_tokens.h"

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

Problem with_bias(Problem p) {
  p.relative_bias = true;
  return p;
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
      {"nat_56x56_bias", with_bias(problem({axis(56, 7), axis(56, 7)}, 8, 2, 32))},
      {"space_16x64x64", problem({axis(16, 5), axis(64, 7), axis(64, 7)}, 1, 1, 64)},
      {"space_16x64x64_bias", with_bias(problem({axis(16, 5), axis(64, 7), axis(64, 7)}, 1, 1, 64))},
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
  std::map<std::string_view, Tensor> tensors;
  for (const TensorInfo& info : tensors_of(p, Pass::backward)) fill(tensors[info.name] = Tensor(info.type, info.shape));
  const auto take_views = [&](auto& bundle) {
    visit_tensors(p, bundle, [&](const TensorInfo& info, auto& view) { view = tensors[info.name].view(); });
  };
  Inputs inputs;
  Outputs outputs;
  SavedForBackward saved;
  Gradients gradients;
  take_views(inputs);
  take_views(outputs);
  take_views(saved);
  take_views(gradients);
  Context context;
  const Plan forward = make_plan(p, Pass::forward, {.variant = variant.name});
  const Plan plan = pass == Pass::forward ? forward : make_plan(p, pass, {.variant = variant.name});
  attention_forward(forward, inputs, outputs, context);
  const Context::Workspace workspace(context, plan.workspace_bytes(context.threads()));
  const Execution execution{context.workers(), workspace.bytes()};
  for (auto _ : state) {
    if (pass == Pass::forward) {
      variant.forward(plan, inputs, outputs, execution);
    } else {
      variant.backward(plan, inputs, saved, gradients, execution);
    }
  }
  const auto rate = [&](int64_t flops) {
    return benchmark::Counter(static_cast<double>(flops), benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["useful_FLOP"] = rate(p.useful_flops(pass));
  state.counters["executed_FLOP"] = rate(plan.executed_flops());
  state.SetLabel(std::string(plan.arithmetic().name) + " " + std::string(name(plan.isa())) + " " + plan.tiling_text() +
                 ", " + std::to_string(context.threads()) + " threads");
}

void permutation(benchmark::State& state) {
  const Problem p = problem({axis(30, 18), axis(48, 24), axis(80, 24)}, 1, 1, 128);
  const geometry::TokenPermutation tiles(p.axes3(), {4, 8, 8});
  Tensor tokens(p.type, q_shape(p)), permuted(p.type, {p.batch, {1, 1, p.tokens()}, p.heads, p.head_dim});
  fill(tokens);
  Context context;
  for (auto _ : state) permute_tokens(tiles, tokens.view(), permuted.view(), context);
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
          if (variant.is_oracle || variant.supports(p, which)) continue;
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
