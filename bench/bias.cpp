// What a relative positional bias costs: calls with and without one in turn, so that changes on the machine affect both
// alike. Prints medians, and the median and the quartiles of the ratios of neighbouring calls.
//
//   bias_bench [--samples N] [--threads N]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "bench/quantile.h"
#include "core/kernels/registry.h"
#include "core/nalab.h"

namespace nalab {
namespace {

using bench::quantile;

struct Case {
  const char* name;
  Problem problem;
};

std::vector<Case> cases() {
  return {
      {"NAT-T level 1, batch 8",
       {.axes = {{.extent = 56, .window = 7}, {.extent = 56, .window = 7}},
        .batch = 8,
        .heads = 2,
        .heads_kv = 2,
        .head_dim = 32,
        .head_dim_v = 32}},
      {"DiNAT-T level 1, dilation 8, batch 8",
       {.axes = {{.extent = 56, .window = 7, .dilation = 8}, {.extent = 56, .window = 7, .dilation = 8}},
        .batch = 8,
        .heads = 2,
        .heads_kv = 2,
        .head_dim = 32,
        .head_dim_v = 32}},
      {"NAT-T level 4, batch 8",
       {.axes = {{.extent = 7, .window = 7}, {.extent = 7, .window = 7}},
        .batch = 8,
        .heads = 16,
        .heads_kv = 16,
        .head_dim = 32,
        .head_dim_v = 32}},
      {"16x64x64, window 5x7x7, head_dim 64",
       {.axes = {{.extent = 16, .window = 5}, {.extent = 64, .window = 7}, {.extent = 64, .window = 7}}}},
  };
}

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// The calls of one problem.
class Calls {
 public:
  Calls(const Problem& problem, std::string_view variant, Context& context)
      : tensors_(problem, Pass::backward),
        forward_(make_plan(problem, Pass::forward, {.variant = variant})),
        backward_(make_plan(problem, Pass::backward, {.variant = variant})),
        context_(context) {
    std::minstd_rand random(1);
    std::normal_distribution<float> normal;
    for (auto& [info, tensor] : tensors_.entries()) {
      for (int64_t i = 0; i < tensor.elements(); ++i) tensor.data<float>()[i] = normal(random);
    }
  }

  void sample() {
    const double start = seconds();
    attention_forward(forward_, tensors_.inputs(), tensors_.outputs(), context_);
    const double middle = seconds();
    attention_backward(backward_, tensors_.inputs(), tensors_.saved(), tensors_.gradients(), context_);
    forward.push_back(middle - start);
    both.push_back(seconds() - start);
  }

  std::vector<double> forward, both;  ///< seconds: forward alone, and with backward

 private:
  TensorSet tensors_;
  Plan forward_, backward_;
  Context& context_;
};

void print(const char* pass, const std::vector<double>& without, const std::vector<double>& with) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < with.size(); ++i) ratios.push_back(with[i] / without[i]);
  std::printf("  %-18s %8.3f ms %8.3f ms  ratio %.3f (%.3f to %.3f)\n", pass, 1e3 * quantile(without, 0.5),
              1e3 * quantile(with, 0.5), quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75));
}

void run(int samples, int threads) {
  Context context(threads);
  std::printf("%d threads; without and with a bias, medians of %d samples; quartiles of the ratios\n",
              context.threads(), samples);
  for (const Case& c : cases()) {
    Problem biased = c.problem;
    biased.relative_bias = true;
    for (const Variant& variant : variants()) {
      if (variant.is_oracle || variant.supports(biased, Pass::backward)) continue;
      Calls without(c.problem, variant.name, context), with(biased, variant.name, context);
      for (int i = -2; i < samples; ++i) {
        // Each comes first in turn; the first two of each warm up.
        for (Calls* calls : i % 2 == 0 ? std::array{&without, &with} : std::array{&with, &without}) calls->sample();
        if (i >= 0) continue;
        for (Calls* calls : {&without, &with}) {
          calls->forward.clear();
          calls->both.clear();
        }
      }
      std::printf("%s: %s\n", c.name, std::string(variant.name).c_str());
      print("forward", without.forward, with.forward);
      print("forward + backward", without.both, with.both);
    }
  }
}

}  // namespace
}  // namespace nalab

int main(int argc, char** argv) {
  int samples = 30, threads = 2;
  CLI::App app("What a relative positional bias costs: calls with and without one in turn");
  app.add_option("--samples", samples, "Turns of each problem")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--threads", threads)->check(CLI::Range(1, 1000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  nalab::run(samples, threads);
}
