#include "experiments/selftest/draw.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "core/kernels/registry.h"
#include "core/simd/arithmetic.h"
#include "experiments/selftest/check.h"
#include "experiments/selftest/random.h"

namespace nalab::selftest {

namespace {

/// Small numbers are as likely as large ones.
int64_t log_uniform(Random& random, int64_t low, int64_t high) {
  const double x =
      static_cast<double>(low) * std::pow(static_cast<double>(high) / static_cast<double>(low), random.uniform());
  return std::clamp(static_cast<int64_t>(std::lround(x)), low, high);
}

Axis draw_axis(Random& random, int rank) {
  constexpr std::array<int64_t, 3> kLongest{300, 32, 14};
  Axis axis{.extent = log_uniform(random, 1, kLongest[static_cast<std::size_t>(rank - 1)])};
  axis.dilation = random.chance(0.6) ? 1 : log_uniform(random, 1, axis.extent);
  const int64_t widest = axis.extent / axis.dilation;
  axis.window = random.chance(0.2) ? widest : random.pick(1, widest);
  axis.stride = random.chance(0.4) ? 1 : random.chance(0.2) ? axis.window : random.pick(1, axis.window);
  axis.causal = random.chance(0.3);
  return axis;
}

/// Self attention, for the variant that computes nothing else.
void see_all(Problem& problem) {
  for (Axis& axis : problem.axes) axis = {.extent = axis.extent, .window = axis.extent};
}

int64_t draw_head_dim(Random& random) {
  constexpr std::array<int64_t, 8> kUsual{8, 16, 32, 64, 80, 96, 128, 256};
  return random.chance(0.3) ? random.one_of(kUsual) : log_uniform(random, 1, 256);
}

double draw_scale(Random& random) {
  constexpr std::array kSpecial{0.0, 1.0, -1.0, 50.0, 1e4, -1e4, 1e30, -1e30, 1e-30};
  return random.chance(0.4) ? random.one_of(kSpecial) : 2 * random.uniform() - 1;
}

/// Roughly the oracle's work.
int64_t cost(const Problem& problem, Pass pass) {
  const int64_t per_pair = 150 + problem.head_dim + problem.head_dim_v;
  return problem.attended_pairs() * problem.heads * problem.batch * per_pair * (is_backward(pass) ? 3 : 1);
}

/// Makes a problem smaller until its cost is at most `most`.
void shrink_to(Problem& problem, Pass pass, int64_t most, Random& random) {
  while (cost(problem, pass) > most) {
    switch (random.pick(0, 4)) {
      case 0:
        problem.batch = (problem.batch + 1) / 2;
        break;
      case 1:
        problem.heads_kv = (problem.heads_kv + 1) / 2;
        problem.heads = problem.heads_kv * std::max<int64_t>(1, problem.heads / problem.heads_kv / 2);
        break;
      case 2:
        problem.head_dim = (problem.head_dim + 1) / 2;
        problem.head_dim_v = (problem.head_dim_v + 1) / 2;
        break;
      case 3:
        problem.extra_tokens /= 2;
        break;
      default:
        for (Axis& axis : problem.axes) {
          axis.extent = std::max<int64_t>(1, axis.extent * 3 / 4);
          axis.dilation = std::min(axis.dilation, axis.extent);
          axis.window = std::min(axis.window, axis.extent / axis.dilation);
          axis.stride = std::min(axis.stride, axis.window);
        }
    }
  }
}

Problem draw_problem(Random& random, Pass pass) {
  Problem problem;
  const auto rank = static_cast<int>(random.pick(1, 3));
  for (int i = 0; i < rank; ++i) problem.axes.push_back(draw_axis(random, rank));
  problem.batch = random.pick(1, 3);
  problem.heads_kv = random.pick(1, 3);
  problem.heads = problem.heads_kv * random.pick(1, 4);
  problem.head_dim = draw_head_dim(random);
  problem.head_dim_v = random.chance(0.5) ? problem.head_dim : draw_head_dim(random);
  if (random.chance(0.3)) problem.extra_tokens = log_uniform(random, 1, 80);
  if (random.chance(0.5)) problem.scale = draw_scale(random);
  problem.relative_bias = random.chance(0.35);
  problem.type = random.one_of(std::array{ElementType::f32, ElementType::bf16, ElementType::f16});
  shrink_to(problem, pass, log_uniform(random, 10'000, 200'000'000), random);
  if (random.chance(0.1)) {
    problem.relative_bias = false;
    see_all(problem);
    shrink_to(problem, pass, 4'000'000, random);
    see_all(problem);
  }
  return problem;
}

/// The way that tensors lie in memory: mostly all of them contiguous, or some of them not.
std::map<std::string, Placement> draw_placements(const Trial& trial, Random& random) {
  std::map<std::string, Placement> placements;
  if (random.chance(0.5)) return placements;
  const bool reorder = random.chance(0.3);
  for (const TensorInfo& info : tensors_of(trial.problem, trial.pass)) {
    if (random.chance(0.3)) continue;
    const auto gaps = static_cast<unsigned>(random.chance(0.3) ? kAllGaps : random.pick(0, kAllGaps));
    placements[std::string(info.name)] = {gaps, reorder ? static_cast<int>(random.pick(0, kOrders - 1)) : 0};
  }
  return placements;
}

/// Whether there are plans for tensors that lie in any way.
bool has_plans(const Trial& trial) {
  try {
    plans_of(trial, trial.placements.empty());
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string draw_tiling(const Variant& variant, const Trial& trial, Random& random) {
  if (variant.candidates == nullptr || random.chance(0.4)) return "";
  if (random.chance(0.15)) return std::string(kStaticTiling);
  const auto tilings = variant.candidates(trial.problem, trial.pass, find_arithmetic(trial.arithmetic), host_machine(),
                                          random.chance(0.5) ? 16 : kAllCandidates);
  Tiling tiling = random.one_of(tilings);
  if (random.chance(0.5)) {
    tiling.block_keys = 8 * random.pick(1, kMaxBlockKeys / 8);
    for (int64_t& tiles : tiling.super) tiles = log_uniform(random, 1, 4);
    const int64_t heads_per_kv = trial.problem.heads / trial.problem.heads_kv;
    if (heads_per_kv % 2 == 0) tiling.heads = random.chance(0.5) ? 2 : 1;
  }
  return tiling.to_string();
}

Isa draw_isa(Random& random) {
  std::vector<Isa> isas;
  for (const Isa isa : all_isas()) {
    if (cpu_supports(isa) && isa <= choose_isa()) isas.push_back(isa);
  }
  return random.one_of(isas);
}

std::vector<std::string_view> arithmetics_of(const Variant& variant, const Trial& trial) {
  std::vector<std::string_view> names;
  for (const Arithmetic& arithmetic : arithmetics()) {
    if (variant.takes(arithmetic, trial.pass) && arithmetic.computes(trial.problem.type, trial.pass) &&
        available(arithmetic, trial.isa)) {
      names.push_back(arithmetic.name);
    }
  }
  return names;
}

std::vector<int> draw_threads(Random& random) {
  constexpr std::array kCounts{1, 2, 3, 4, 7};
  std::vector<int> threads{random.chance(0.5) ? 1 : random.one_of(kCounts)};
  if (random.chance(0.25)) threads.push_back(random.one_of(kCounts));
  return threads;
}

}  // namespace

std::vector<Trial> draw(uint64_t seed, uint64_t number) {
  Random random{seed, number};
  Trial subject;
  // Attention in one call is what nearly everybody uses.
  constexpr std::array kWhole{Pass::forward, Pass::backward};
  subject.pass = random.chance(0.75) ? random.one_of(kWhole) : random.one_of(kPasses);
  subject.problem = draw_problem(random, subject.pass);
  subject.seed = random.pick(0, 999'999);
  subject.weights_are_f32 = random.chance(0.5);
  if (random.chance(0.15)) {
    subject.values = random.one_of(std::array{Values::equal, Values::tiny, Values::non_finite});
    if (subject.values == Values::non_finite) {
      // What is not finite goes astray in gradients in ways that the contract leaves open, and so does an infinite
      // value whose weight is too small for a float.
      if (is_backward(subject.pass)) subject.values = Values::normal;
      subject.problem.scale.reset();
    }
  }
  std::vector<Trial> trials;
  for (const Variant& variant : variants()) {
    if (variant.is_oracle || variant.supports(subject.problem, subject.pass)) continue;
    Trial trial = subject;
    trial.variant = variant.name;
    trial.isa = draw_isa(random);
    trial.arithmetic = random.one_of(arithmetics_of(variant, trial));
    trial.threads = draw_threads(random);
    trial.results_are_f32 = random.chance(0.5);
    trial.placements = draw_placements(trial, random);
    trial.tiling = draw_tiling(variant, trial, random);
    if (!has_plans(trial)) trial.tiling.clear();
    trials.push_back(std::move(trial));
  }
  return trials;
}

}  // namespace nalab::selftest
